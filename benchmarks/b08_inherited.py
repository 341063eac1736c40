# SPDX-License-Identifier: MIT
"""B8: map of a function that reads something large, which its workers inherit.

As many elements are read of 1 GB, in a quick run an eighth of it, as of 1 MB, in windows spread all
over it. Nothing is sent, but a fork copies the page tables, and where CPython reads an element of a
list it counts a reference, which copies its page.

The limit is the same map of ours with 1 MB. Bare forks read as much of the large data. The peers'
workers were forked after the data were made, and inherit it too; they are kept, so that their forks
and the pages that they copied were paid for in the first turn. joblib's are not forked, and it is
an argument, pickled for each core.
"""

from __future__ import annotations

import array
import functools
import sys
import time
from collections.abc import Sequence
from typing import Any, Callable

from benchmarks import mappers
from benchmarks.figure import LIMIT, OURS, SECONDS, Aim, Figure, Scale

WINDOWS = 400
WINDOW = 20_000
SMALL = 1 << 20
LARGE = 1 << 30
PERIOD = 1 << 16
"""After so many elements an array begins anew: that is made faster, and pages are pages."""

# An integer in a list of CPython is a pointer, and an object beside it.
_ELEMENT_SIZE = {"array": 8, "list": 8 if sys.implementation.name == "pypy" else 40}


def figures(scale: Scale) -> list[Figure]:
    large = scale.choose(tiny=SMALL, quick=LARGE // 8, full=LARGE)
    return [figure(kind, large) for kind in ("list", "array")]


def figure(kind: str, large: int) -> Figure:
    forked = {name: mappers.PEERS[name] for name in ("Pool", "ProcessPoolExecutor", "mpire")}
    return Figure(
        id="B8",
        case=kind,
        what=f"map that reads {WINDOWS * WINDOW:,} of the elements of {large >> 20} MB",
        unit=SECONDS,
        runners={
            OURS: lambda: inherited(mappers.ours, kind, large),
            **{
                who: functools.partial(inherited, peer, kind, large) for who, peer in forked.items()
            },
            "joblib": lambda: argument(kind, large),
            mappers.BARE_FORKS: lambda: forked_barely(kind, large),
            LIMIT: lambda: inherited(mappers.ours, kind, SMALL),
        },
        aims=[Aim(LIMIT, at_most=1.05)],
    )


@functools.lru_cache(maxsize=1)
def data_of(kind: str, size: int) -> Sequence[int]:
    count = size // _ELEMENT_SIZE[kind]
    if kind == "list":
        return list(range(1000, 1000 + count))
    return array.array("q", range(1000, 1000 + PERIOD)) * (count // PERIOD)


def starts(data: Sequence[int]) -> range:
    step = (len(data) - WINDOW) // WINDOWS
    return range(0, step * WINDOWS, step)


def reading(data: Sequence[int], first: int) -> int:
    """Return a number made of the elements of a window, with some work for each."""
    digest = 0
    for n in data[first : first + WINDOW]:
        digest = (digest * 31 + n) % 1_000_003
    return digest


def inherited(mapper: mappers.Mapper, kind: str, size: int) -> float:
    data = data_of(kind, size)
    return timed(lambda: mapper(functools.partial(_read, kind, size), starts(data), 0), data)


def _read(kind: str, size: int, first: int) -> int:
    return reading(data_of(kind, size), first)


def forked_barely(kind: str, size: int) -> float:
    data = data_of(kind, size)
    parts = [starts(data)[core :: mappers.CORES] for core in range(mappers.CORES)]
    return mappers.bare_forks(functools.partial(reading, data), parts)


def argument(kind: str, size: int) -> float:
    from joblib import Parallel, delayed

    data = data_of(kind, size)
    parts = [starts(data)[core :: mappers.CORES] for core in range(mappers.CORES)]

    def call() -> list[Any]:
        done = Parallel(mappers.CORES)(delayed(read_all)(data, part) for part in parts)
        results = [0] * WINDOWS
        for core, part in enumerate(done):
            results[core :: mappers.CORES] = part
        return results

    return timed(call, data)


def read_all(data: Sequence[int], firsts: Sequence[int]) -> list[int]:
    return [reading(data, first) for first in firsts]


def timed(call: Callable[[], list[Any]], data: Sequence[int]) -> float:
    began = time.perf_counter()
    results = call()
    elapsed = time.perf_counter() - began
    assert results == read_all(data, starts(data))
    return elapsed
