# SPDX-License-Identifier: MIT
"""How many cores this process may use: its affinity, and its cgroup's quota."""

from __future__ import annotations

import os

_CGROUPS = "/sys/fs/cgroup"


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
    for line in _text("/proc/self/status").splitlines():
        name, _, mask = line.partition(":")
        if name == "Cpus_allowed":
            return bin(int(mask.replace(",", ""), 16)).count("1")
    return os.cpu_count() or 1


def _quotas() -> list[tuple[int, int]]:
    """Return (quota, period) of each cgroup around this process that has one."""
    found = []
    for line in _text("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            found += [_quota_v2(group) for group in _groups(_CGROUPS, path)]
        elif "cpu" in controllers.split(","):
            found += [_quota_v1(group) for group in _groups(_CGROUPS + "/cpu", path)]
    return [(quota, period) for quota, period in found if quota > 0 and period > 0]


def _groups(root: str, path: str) -> list[str]:
    """Return the directories of the group at *path* and of all around it."""
    groups = [root]
    for name in path.strip("/").split("/"):
        groups.append(f"{groups[-1]}/{name}")
    return groups


def _quota_v2(group: str) -> tuple[int, int]:
    quota, _, period = _text(group + "/cpu.max").partition(" ")
    return _number(quota), _number(period)


def _quota_v1(group: str) -> tuple[int, int]:
    quota, period = (_text(f"{group}/cpu.cfs_{name}_us") for name in ("quota", "period"))
    return _number(quota), _number(period)


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return ""


def _number(text: str) -> int:
    """Return the number in *text*; 0 for none, which is what "max" means here."""
    try:
        return int(text)
    except ValueError:
        return 0
