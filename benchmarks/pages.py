# SPDX-License-Identifier: MIT
"""What sharing a large array costs: one whose written pages are known, and one that is copied.

    python benchmarks/pages.py [MiB] [rounds]

Both take turns. A round is a call with one task, step by step: capture in the parent, which
takes in what the last round brought; a fork; the task writes whole pages here and there and finds
them; the parent looks for conflicts and applies. Medians in milliseconds, the copy's time as a
multiple of the other's, and what the task's own memory grew by, in MiB.
"""

from __future__ import annotations

import os
import pickle
import re
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import snakefish
from snakefish import merges

PAGE = os.sysconf("SC_PAGESIZE")
SHARES = (0, 0.001, 0.01, 0.1, 1)
STEPS = ("capture", "fork", "write", "diff", "apply")


@contextmanager
def without_large_files() -> Iterator[None]:
    """Arrays made inside are ordinary memory."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def own_mib() -> float:
    """Memory that this process shares with nobody because it wrote to it.

    Of a file's private mapping that is what is anonymous: the file's own pages are dirty too,
    and look private to whoever is the only one to have looked at them.
    """
    kib, is_file = 0, False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            is_file = "/memfd:" in line
        elif line.startswith("Anonymous:" if is_file else "Private_Dirty:"):
            kib += int(line.split()[1])
    return kib / 1024


class Timer:
    """Milliseconds since the last look at it."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def __call__(self) -> float:
        last, self._last = self._last, time.perf_counter()
        return (self._last - last) * 1000


def in_child(function: Any) -> Any:
    """How long a fork takes, and what a function returns in it."""
    read, write = os.pipe()
    timer = Timer()
    pid = os.fork()
    if pid == 0:
        with open(write, "wb") as pipe:
            pickle.dump(function(), pipe, pickle.HIGHEST_PROTOCOL)
        os._exit(0)
    fork = timer()
    os.close(write)
    with open(read, "rb") as pipe:
        result = pickle.load(pipe)
    os.waitpid(pid, 0)
    return fork, *result


def play(array: Any, share: float, page: bytes) -> dict[str, float]:
    """Play one round; return what each step took, and the task's own memory."""
    merge, count = merges.disjoint, len(array) * array.itemsize // PAGE
    places = range(0, count, round(1 / share)) if share else range(0)
    step = PAGE // array.itemsize
    content = memoryview(page).cast(array.format)
    timer = Timer()
    token = merge.capture(array)
    capture = timer()

    def task() -> tuple[float, float, float, Any]:
        before, timer = own_mib(), Timer()
        for place in places:
            array[place * step : (place + 1) * step] = content
        write = timer()
        delta = merge.diff(token, array)
        diff = timer()
        return write, diff, own_mib() - before, delta

    fork, write, diff, own, delta = in_child(task)
    timer()
    if delta is not None:
        assert not list(merge.clashes(token, array, delta))
        merge.apply(array, delta, [])
    apply = timer()
    merge.release(token)
    took = (capture, fork, write, diff, apply, own)
    return dict(zip((*STEPS, "own"), took))


def main() -> None:
    size = (int(sys.argv[1]) if len(sys.argv) > 1 else 256) << 20
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    with without_large_files():
        copied = snakefish.array(size // 8)
    known = snakefish.array(size // 8)
    for array in (known, copied):
        array.cast("B")[:] = bytes(size)
    print(f"{size >> 20} MiB, {rounds} rounds: known pages / copy (ratio)")
    print(f"{'pages':>7} " + "".join(f"{name:>25}" for name in STEPS) + f"{'own MiB':>18}")
    for share in SHARES:
        taken: list[tuple[dict[str, float], dict[str, float]]] = []
        for turn in range(rounds + 1):
            page = os.urandom(PAGE)
            taken.append((play(known, share, page), play(copied, share, page)))
            if turn == 0:
                taken.clear()  # it settled what came before
        print(line(share, taken))


def line(share: float, taken: Any) -> str:
    """One line of the table."""
    cells = [f"{share:7.1%}"]
    for name in (*STEPS, "own"):
        ours, theirs = (statistics.median(pair[kind][name] for pair in taken) for kind in (0, 1))
        if name == "own":
            cells.append(f"{ours:9.1f} /{theirs:7.1f}")
        else:
            ratio = statistics.median(pair[1][name] / max(pair[0][name], 1e-3) for pair in taken)
            cells.append(f"{ours:8.2f} /{theirs:8.1f} ({ratio:4.1f})")
    return " ".join(cells)


if __name__ == "__main__":
    main()
