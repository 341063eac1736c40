# SPDX-License-Identifier: MIT
"""The peers of `map`, by what their documentation says is fastest.

Their workers are started in the first turn and kept, so that their start is not counted, while
ours are forked in every turn. Where a chunk has a size to choose, the first turn tries all sizes
that are offered on a part of the items, and takes the one that was fastest from then on.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import time
from collections.abc import Sequence
from typing import Any, Callable, NoReturn

from snakefish._cores import usable_cores

Function = Callable[[Any], Any]
Mapper = Callable[[Function, Sequence[Any], int], "list[Any]"]

CORES = usable_cores()
AUTOMATIC = 0
BARE_FORKS = "bare forks"
PART = 4
"""One in so many items is enough to tell which size of a chunk is the fastest."""


class Turn:
    """A runner: *mapper* over the items, with the best of these sizes of a chunk.

    A size is so many items or, if it is a float, such a share of all.
    """

    def __init__(
        self, mapper: Mapper, function: Function, items: Sequence[Any], chunks: Sequence[float]
    ) -> None:
        self._mapper = mapper
        self._function = function
        self._items = items
        self._chunks = list(chunks)

    def __call__(self) -> float:
        if len(self._chunks) > 1:
            self._mapper(self._function, self._items[:CORES], 1)  # the start of a pool is no size's
            self._chunks = [min(self._chunks, key=lambda chunk: self._time(chunk, PART))]
        return self._time(self._chunks[0])

    def _time(self, chunk: float, step: int = 1) -> float:
        items = self._items[::step] if step > 1 else self._items
        size = int(chunk * len(items)) if isinstance(chunk, float) else chunk
        began = time.perf_counter()
        results = self._mapper(self._function, items, size)
        elapsed = time.perf_counter() - began
        assert results == self._expected[::step]
        return elapsed

    @functools.cached_property
    def _expected(self) -> list[Any]:
        """The results; where few items differ, each of these is computed once."""
        distinct = set(self._items)
        if len(distinct) > len(self._items) // 10:
            return [self._function(item) for item in self._items]
        known = {item: self._function(item) for item in distinct}
        return [known[item] for item in self._items]


def bare_forks(function: Function, parts: Sequence[Sequence[Any]]) -> float:
    """Return how long os.fork, each of *parts* in a child, os._exit and os.waitpid take.

    No results come back. Nothing that forks in each turn can be faster, so this tells what the
    machine and the interpreter take from what takes more.
    """
    began = time.perf_counter()
    pids = [os.fork() or _do_and_exit(function, part) for part in parts]
    statuses = [os.waitpid(pid, 0)[1] for pid in pids]
    elapsed = time.perf_counter() - began
    assert not any(statuses)
    return elapsed


def _do_and_exit(function: Function, items: Sequence[Any]) -> NoReturn:
    status = 1
    try:
        for item in items:
            function(item)
        status = 0
    finally:
        os._exit(status)


# ----------------------------------------------------------------------- the mappers


def ours(function: Function, items: Sequence[Any], chunk: int) -> list[Any]:
    import snakefish

    return snakefish.map(function, items, chunksize=chunk)


def pool(function: Function, items: Sequence[Any], chunk: int) -> list[Any]:
    return _pool().map(function, items, chunk or None)


@functools.cache
def _pool() -> Any:
    return multiprocessing.get_context("fork").Pool(CORES)


def executor(function: Function, items: Sequence[Any], chunk: int) -> list[Any]:
    return list(_executor().map(function, items, chunksize=chunk or 1))


@functools.cache
def _executor() -> Any:
    from concurrent.futures import ProcessPoolExecutor

    return ProcessPoolExecutor(CORES, mp_context=multiprocessing.get_context("fork"))


def joblib(function: Function, items: Sequence[Any], chunk: int) -> list[Any]:
    """Its own batches for chunk 0, else lists made by hand: that is 20 times as fast."""
    from joblib import Parallel, delayed

    if not chunk:
        return list(Parallel(CORES)(delayed(function)(item) for item in items))
    parts = [items[first : first + chunk] for first in range(0, len(items), chunk)]
    done = Parallel(CORES, batch_size=1)(delayed(all_of)(function, part) for part in parts)
    return [result for results in done for result in results]


def all_of(function: Function, items: Sequence[Any]) -> list[Any]:
    return [function(item) for item in items]


def mpire(function: Function, items: Sequence[Any], chunk: int) -> list[Any]:
    return list(_mpire().map(function, items, iterable_len=len(items), chunk_size=chunk or None))


@functools.cache
def _mpire() -> Any:
    from mpire import WorkerPool

    return WorkerPool(CORES, start_method="fork", keep_alive=True)


PEERS: dict[str, Mapper] = {
    "Pool": pool,
    "ProcessPoolExecutor": executor,
    "joblib": joblib,
    "mpire": mpire,
}
