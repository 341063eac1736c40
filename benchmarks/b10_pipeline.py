# SPDX-License-Identifier: MIT
"""B10: values that go through three stages, each of which works on each value.

The last stage is in the parent. Between two stages at most so many values wait; in a pipe as many
as there is room for in its 64 KiB, which is some six thousand.

The limit is one stage alone, without anything between; or where there are fewer cores than stages,
all stages by the cores.
"""

from __future__ import annotations

import multiprocessing
import queue
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, Callable

from benchmarks.figure import LIMIT, OURS, SECONDS, Aim, Figure, Scale
from benchmarks.mappers import CORES
from benchmarks.work import work
from snakefish import Generator

STAGES = 3
WAITING = 4096

fork = multiprocessing.get_context("fork")


def figures(scale: Scale) -> list[Figure]:
    slow = scale.choose(tiny=5, quick=300, full=2000)
    fast = scale.choose(tiny=50, quick=10_000, full=100_000)
    return [
        figure("1 ms a stage", 1000, slow, [Aim(LIMIT, at_most=1 / 0.95)]),
        figure("10 us a stage", 10, fast, [Aim("Pipe", at_most=1 / 5)]),
    ]


def figure(case: str, cost_us: int, count: int, aims: list[Aim]) -> Figure:
    pipelines: dict[str, Callable[[int, int], int]] = {
        OURS: ours,
        "threads + queues": threads,
        "Pipe": pipes,
        "pypeln": pypeln,
    }
    return Figure(
        id="B10",
        case=case,
        what=f"{count:,} values through a pipeline of {STAGES} stages",
        unit=SECONDS,
        runners={
            **{who: turn(pipeline, cost_us, count) for who, pipeline in pipelines.items()},
            LIMIT: lambda: limit(cost_us, count),
        },
        aims=aims,
    )


def turn(pipeline: Callable[[int, int], int], cost_us: int, count: int) -> Callable[[], float]:
    def run() -> float:
        began = time.perf_counter()
        total = pipeline(cost_us, count)
        elapsed = time.perf_counter() - began
        assert total == sum(range(count)) + count
        return elapsed

    return run


def limit(cost_us: int, count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        work(cost_us)
    return (time.perf_counter() - began) * max(1, STAGES / CORES)


# ---------------------------------------------------------------------- the stages


def first(cost_us: int, count: int) -> Iterator[int]:
    for n in range(count):
        work(cost_us)
        yield n


def second(cost_us: int, values: Iterable[int]) -> Iterator[int]:
    for n in values:
        work(cost_us)
        yield n + 1


def last(cost_us: int, values: Iterable[int]) -> int:
    total = 0
    for n in values:
        work(cost_us)
        total += n
    return total


# ------------------------------------------------------------------- the pipelines


def ours(cost_us: int, count: int) -> int:
    source = Generator(first, args=(cost_us, count), prefetch=WAITING)
    middle = Generator(second, args=(cost_us, source), prefetch=WAITING)
    with source, middle:
        source.start()
        middle.start()
        return last(cost_us, middle)


def send_all(values: Iterable[int], send: Callable[[Any], object]) -> None:
    """Send all values, and None as their end."""
    for value in values:
        send(value)
    send(None)


def threads(cost_us: int, count: int) -> int:
    links: list[queue.Queue[Any]] = [queue.Queue(WAITING) for _ in range(2)]
    inputs = [iter(link.get, None) for link in links]
    stages = [
        threading.Thread(target=send_all, args=(first(cost_us, count), links[0].put)),
        threading.Thread(target=send_all, args=(second(cost_us, inputs[0]), links[1].put)),
    ]
    for stage in stages:
        stage.start()
    total = last(cost_us, inputs[1])
    for stage in stages:
        stage.join()
    return total


def pipes(cost_us: int, count: int) -> int:
    links = [fork.Pipe(False) for _ in range(2)]
    inputs = [iter(receiver.recv, None) for receiver, _ in links]
    stages = [
        fork.Process(target=send_all, args=(first(cost_us, count), links[0][1].send)),
        fork.Process(target=send_all, args=(second(cost_us, inputs[0]), links[1][1].send)),
    ]
    for stage in stages:
        stage.start()
    total = last(cost_us, inputs[1])
    for stage in stages:
        stage.join()
    for end in (end for link in links for end in link):
        end.close()
    return total


def pypeln(cost_us: int, count: int) -> int:
    import pypeln as pl

    def middle(n: int) -> int:
        work(cost_us)
        return n + 1

    values = pl.process.from_iterable(first(cost_us, count), use_thread=False, maxsize=WAITING)
    return last(cost_us, pl.process.map(middle, values, workers=1, maxsize=WAITING))
