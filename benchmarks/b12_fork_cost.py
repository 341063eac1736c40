# SPDX-License-Identifier: MIT
"""B12: start, join and result while the parent holds much memory, by how much and of what kind.

A fork copies page tables, not memory, so its cost grows with what is mapped: objects of the
interpreter's own heap, or one large buffer. The limit is os.fork, os._exit and os.waitpid in a
parent that holds the same. Memory that is shared has tables that need not be copied: beside its
cases there is ours with none of it, which must cost the same.
"""

from __future__ import annotations

import functools
import mmap
import platform
import statistics
from typing import Any, Callable

from benchmarks.b01_start import bare_fork, thread, time_of
from benchmarks.figure import BYTES, LIMIT, OURS, SECONDS, Aim, Figure, Runner, Scale
from benchmarks.words import amount
from snakefish import Channel

MB, GB = 10**6, 10**9
WITHOUT = "ours, without it"
NUMBER = complex if platform.python_implementation() == "PyPy" else float
"""PyPy keeps a list of floats without objects."""


def figures(scale: Scale) -> list[Figure]:
    times = scale.choose(tiny=1, quick=7, full=15)
    small, large = scale.choose(tiny=(10**4, 10**5), quick=(100 * MB, GB))
    cases = [("nothing", 0, nothing)]
    for kind, hold in (
        ("private objects", objects),
        ("a buffer", buffer),
        ("shared memory", waiting_messages),
    ):
        cases += [(kind, small, hold), (kind, large, hold)]
    return [fork_cost(kind, size, hold, times) for kind, size, hold in cases]


def fork_cost(kind: str, size: int, hold: Callable[[int], Any], times: int) -> Figure:
    runners = {
        OURS: holding(hold, size, thread, times),
        LIMIT: holding(hold, size, bare_fork, times),
    }
    aims = [Aim(LIMIT, at_most=1.15 if size < GB else 1.05)]
    if hold is waiting_messages:
        runners[WITHOUT] = holding(nothing, 0, thread, times)
        aims = [Aim(WITHOUT, at_most=1.05)]
    return Figure(
        id="B12",
        case=f"{amount(size, BYTES)} of {kind}" if size else kind,
        what="start + join + result in a parent that holds",
        unit=SECONDS,
        runners=runners,
        aims=aims,
        size=size,
    )


def holding(
    hold: Callable[[int], Any], size: int, call: Callable[[], object], times: int
) -> Runner:
    """Return a runner that holds *size* bytes from its first turn on."""
    kept = functools.lru_cache(1)(hold)

    def turn() -> float:
        kept(size)
        return statistics.median(time_of(call) for _ in range(times))

    return turn


def nothing(_size: int) -> None:
    pass


def objects(size: int) -> list[list[float]]:
    """Lists of small objects, of about 32 bytes each with the reference to it."""
    return [list(map(NUMBER, range(10_000))) for _ in range(size // 320_000)]


def buffer(size: int) -> mmap.mmap:
    """Private memory of which every page is written to."""
    memory = mmap.mmap(-1, max(size, 4096), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for start in range(0, len(memory), MB):
        memory[start : start + MB] = bytes(min(MB, len(memory) - start))
    return memory


def waiting_messages(size: int) -> Channel:
    """A channel in which so many bytes wait to be received."""
    channel = Channel(2 * size + MB)
    piece = bytes(min(size, MB))
    for _ in range(size // len(piece)):
        channel.send_bytes(piece)
    assert channel.used >= size
    return channel
