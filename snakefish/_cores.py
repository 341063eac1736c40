# SPDX-License-Identifier: MIT
"""How many cores this process may use: its affinity, and its cgroup's quota."""

from __future__ import annotations

import os

from snakefish._cgroup import places, text


def usable_cores() -> int:
    """Return the number of cores that this process may keep busy, at least 1.

    A quota of 1.5 cores counts as 2: what is rounded away would be wasted.
    https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files

    >>> 1 <= usable_cores() <= os.cpu_count()
    True
    """
    quotas = [-(-quota // period) for quota, period in _quotas()]
    return max(1, min([_allowed_cores(), *quotas]))


def _allowed_cores() -> int:
    """Return how many cores the affinity mask has; PyPy 3.9 has no sched_getaffinity."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    for line in text("/proc/self/status").splitlines():
        name, _, mask = line.partition(":")
        if name == "Cpus_allowed":
            return bin(int(mask.replace(",", ""), 16)).count("1")
    return os.cpu_count() or 1


def _quotas() -> list[tuple[int, int]]:
    """Return (quota, period) of each cgroup around this process that has one."""
    found = []
    for version, groups in places("cpu"):
        read = _quota_v2 if version == 2 else _quota_v1
        found += [read(group) for group in groups]
    return [(quota, period) for quota, period in found if quota > 0 and period > 0]


def _quota_v2(group: str) -> tuple[int, int]:
    quota, _, period = text(group + "/cpu.max").partition(" ")
    return _number(quota), _number(period)


def _quota_v1(group: str) -> tuple[int, int]:
    quota, period = (text(f"{group}/cpu.cfs_{name}_us") for name in ("quota", "period"))
    return _number(quota), _number(period)


def _number(digits: str) -> int:
    """Return the number in *digits*; 0 for none, which is what "max" means here."""
    try:
        return int(digits)
    except ValueError:
        return 0
