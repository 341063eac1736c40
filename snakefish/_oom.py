# SPDX-License-Identifier: MIT
"""How often the kernel has killed a process because memory was short.

A process that was killed by SIGKILL cannot say why. But the kernel counts its
out-of-memory kills, and counts each *before* it sends the signal, so a count
that is the same before the start of a child and after its end clears the killer.

The count of the child's own memory cgroup is the one to read; it includes kills
for a shortage of the whole system, but none of strangers:

    version 2   memory.events        oom_kill, of the group and those inside it
    version 1   memory.oom_control   oom_kill, of the group
    neither     /proc/vmstat         oom_kill, of the system

https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files

Read at most once a second, and whenever a death is looked at: right after a fork
every page that Python writes to has to be copied, and to read it at each start
took 40 microseconds (CPython) or 80 (PyPy), 3 % of a child. A count from before
the start clears the killer as well; that it may be a second older is said.
"""

from __future__ import annotations

import math
import os
import time
from typing import NamedTuple

from snakefish._cgroup import MEMBERSHIP, TREES, places

_VMSTAT = "/proc/vmstat"
_FILES = {1: "memory.oom_control", 2: "memory.events"}
_FIELD = b"\noom_kill "

_FRESH_S = 1.0

_latest: Tally | None = None


class Tally(NamedTuple):
    """A number of kills, None for not known; the file that says so; and when it was read."""

    file: str
    kills: int | None
    time_s: float


def tally() -> Tally:
    """Return a count that is at most a second old."""
    global _latest
    if _latest is None or time.monotonic() - _latest.time_s > _FRESH_S:
        _latest = read(file_to_read() if _latest is None else _latest.file)
    return _latest


def verdict(before: Tally) -> str:
    """Return what the count says about a SIGKILL that came after *before*.

    The group is looked for again: if the process has been moved, the numbers
    cannot be compared.
    """
    global _latest
    now = _latest = read(file_to_read())
    if before.kills is None or now.kills is None or before.file != now.file:
        return "the usual suspect is the out-of-memory killer"
    who = "the system" if now.file == _VMSTAT else "its cgroup"
    kills = now.kills - before.kills
    if kills <= 0:
        return f"{who} counted no out-of-memory kill meanwhile, so somebody sent that signal"
    times = "1 out-of-memory kill" if kills == 1 else f"{kills} out-of-memory kills"
    period = f"the last {math.ceil(now.time_s - before.time_s)} s"
    return f"{who} counted {times} in {period}, so most likely memory ran out"


def file_to_read(trees: str = TREES, membership: str = MEMBERSHIP, vmstat: str = _VMSTAT) -> str:
    """Return the file that counts for this process.

    The innermost group that is to be seen is the right one: where the paths are
    those of an outer world, as in a container, the root of the tree is its own group.
    """
    for version, groups in places("memory", trees, membership):
        for group in reversed(groups):
            file = f"{group}/{_FILES[version]}"
            if read(file).kills is not None:
                return file
    return vmstat


def read(file: str) -> Tally:
    """Read the count in *file*."""
    now = time.monotonic()
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return Tally(file, None, now)
    try:
        return Tally(file, _kills(descriptor), now)
    except OSError:
        return Tally(file, None, now)
    finally:
        os.close(descriptor)


def _kills(descriptor: int) -> int | None:
    text = b"\n"
    while _FIELD not in text:  # a long file comes in several pieces, of whole lines
        piece = os.read(descriptor, 8192)
        if not piece:
            return None
        text += piece
    return int(text.partition(_FIELD)[2].split(maxsplit=1)[0])
