# SPDX-License-Identifier: MIT
"""What a family of processes holds in memory, as the kernel counts it.

A page that several processes share is divided among them, so that a sum over a family counts it
once. What the kernel itself needs, such as page tables and the buffers of pipes, is not in it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def family_size(pid: int, but: int = 0) -> int:
    """Return the bytes that a process and its descendants hold, without the process *but*."""
    return sum(size(member) for member in [pid, *descendants(pid)] if member != but)


def size(pid: int) -> int:
    """Return the bytes that a process holds, its share of those that others hold as well."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup", "rb") as file:
        for line in file:
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def descendants(pid: int) -> list[int]:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
        children = [int(child) for child in file.read().split()]
        return children + [one for child in children for one in descendants(child)]
    return []


def growth(before: int) -> int:
    """Return by how many bytes this process's family has grown, garbage not counted."""
    gc.collect()
    return family_size(os.getpid()) - before


class Peak:
    """The most that a family held beyond what it held at first, once `watched` has ended."""

    size = 0


@contextmanager
def watched() -> Iterator[Peak]:
    """Have another process look again and again at how much this one and its children hold."""
    peak = Peak()
    command = [sys.executable, "-m", __name__, str(os.getpid())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as watcher:
        assert watcher.stdout
        watcher.stdout.readline()
        yield peak
        # A line, as the end of the pipe would not be seen while a child holds it as well.
        peak.size = int(watcher.communicate(b"enough\n")[0])


def main(pid: int) -> None:
    first = family_size(pid, but=os.getpid())
    print("looking", flush=True)
    most = first
    while not select.select([sys.stdin], [], [], 0)[0]:
        most = max(most, family_size(pid, but=os.getpid()))
    print(most - first)


if __name__ == "__main__":
    main(int(sys.argv[1]))
