# SPDX-License-Identifier: MIT
"""B5: one result of 200 MB brought back, in bytes a second, as bytes and as a numpy array.

The object is there before anybody is asked for it, in ours and in forked pools because it is
inherited, in others because their workers keep it: what is measured is the way back alone. Pools
are warm; ours starts its child each time. On PyPy, where peers take minutes for as much, a run that
is not --full has 50 MB. The limit is one copy into fresh memory.

Before each turn, whoever's it is, as much memory as a turn may need is touched and freed. The host
of a virtual machine may take back what has been free for seconds, and to get it again costs six
times the copy: that would be a lottery between the turns.
"""

from __future__ import annotations

import functools
import mmap
import multiprocessing
import sys
import time
from typing import Any, Callable

from benchmarks.figure import BYTES, BYTES_PER_SECOND, LIMIT, OURS, Aim, Figure, Runner, Scale
from benchmarks.words import amount
from snakefish import Thread

fork = multiprocessing.get_context("fork")

MB = 10**6
TOUCHED = 4  # sizes of the object: about what a peer has of it at once
CPYTHON = sys.implementation.name == "cpython"

Make = Callable[[], Any]
Ask = Callable[[Make], Any]
"""Have a function called in another process and return its result."""


def figures(scale: Scale) -> list[Figure]:
    size = scale.choose(tiny=10_000, quick=200 * MB if CPYTHON else 50 * MB, full=200 * MB)
    return [
        result("bytes", size, large_bytes, lambda data: data[1:]),
        result("numpy float64", size, large_array, lambda array: array.copy()),
    ]


def result(
    case: str, size: int, make_of: Callable[[int], Any], copy: Callable[[Any], Any]
) -> Figure:
    make = functools.partial(make_of, size)
    starters: dict[str, Callable[[], Ask]] = {
        OURS: lambda: thread,
        "Pool": pool,
        "ProcessPoolExecutor": executor,
        "joblib": joblib,
        "ray": ray,
        LIMIT: lambda: lambda make: copy(make()),
    }
    return Figure(
        id="B5",
        case=case,
        what=f"result of {amount(size, BYTES)}",
        unit=BYTES_PER_SECOND,
        runners={name: speed(start, make) for name, start in starters.items()},
        aims=[Aim("Pool", at_least=6), Aim(LIMIT, at_least=1 / 1.3)],
    )


@functools.lru_cache(1)
def large_bytes(size: int) -> bytes:
    return bytes(range(250)) * (size // 250)


@functools.lru_cache(1)
def large_array(size: int) -> Any:
    import numpy

    return numpy.arange(size // 8, dtype=numpy.float64)


def speed(start: Callable[[], Ask], make: Make) -> Runner:
    """Return a runner that makes the object, then starts a pool, in its first turn."""
    started: list[Ask] = []

    def turn() -> float:
        size = memoryview(make()).nbytes
        if not started:
            started.append(start())
        touch_free_memory(TOUCHED * size)
        began = time.perf_counter()
        got = started[0](make)
        elapsed = time.perf_counter() - began
        assert memoryview(got).nbytes >= size - 1
        assert is_end_of(make(), got)
        return size / elapsed

    return turn


def touch_free_memory(size: int) -> None:
    """Leave *size* bytes of the free memory of this machine as if they had just been freed."""
    with mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_HUGEPAGE)
        memory[:: mmap.PAGESIZE] = bytes(-(-size // mmap.PAGESIZE))


def is_end_of(made: Any, got: Any) -> bool:
    """Whether they are equal, less the byte that makes a slice of bytes a copy."""
    return made.endswith(got) if isinstance(made, bytes) else bool((made == got).all())


def thread(make: Make) -> Any:
    with Thread(make) as child:
        child.start()
        child.join()
        return child.get_result()


def pool() -> Ask:
    return fork.Pool(1).apply


def executor() -> Ask:
    from concurrent.futures import ProcessPoolExecutor

    made = ProcessPoolExecutor(1, mp_context=fork)
    return lambda make: made.submit(make).result()


def joblib() -> Ask:
    """Two workers of loky, as one would be no worker; each has the object once it was asked."""
    from joblib import Parallel, delayed

    made = Parallel(n_jobs=2)
    made([delayed(len)("") for _ in range(2)])
    return lambda make: made([delayed(make)()])[0]


def ray() -> Ask:
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    remote = ray.remote(lambda make: make())
    return lambda make: ray.get(remote.remote(make))
