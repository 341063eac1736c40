# SPDX-License-Identifier: MIT
"""Scale: 1 to 500 children alive at once, in seconds and bytes a child.

All are started, then wait, then are let go and joined. The limit is os.fork, os._exit and
os.waitpid for as many children.
"""

from __future__ import annotations

import os
import time
from contextlib import AbstractContextManager, ExitStack
from typing import Callable

from benchmarks.figure import BYTES, LIMIT, OURS, SECONDS, Aim, Figure, Runner, Scale
from benchmarks.resident import family_size, growth
from benchmarks.waiting import PROCESS_AND_PIPE, bare_fork, process_and_pipe, thread

Child = Callable[[], AbstractContextManager[None]]
MANY = 100
"""So many children need no first turn that does not count."""

CHILDREN: dict[str, Child] = {
    OURS: thread,
    PROCESS_AND_PIPE: process_and_pipe,
    LIMIT: bare_fork,
}


def figures(scale: Scale) -> list[Figure]:
    counts = scale.choose(tiny=(1, 3), quick=(1, 10, 100, 500))
    return [
        *(at_once("time", count, time_of_each) for count in counts),
        *(at_once("memory", count, memory_of_each) for count in counts),
    ]


def at_once(what: str, count: int, measure: Callable[[Child, int], Runner]) -> Figure:
    return Figure(
        id="scale",
        case=f"{what} of {count}",
        what=f"{what} a child, {count} at once",
        unit=SECONDS if what == "time" else BYTES,
        runners={name: measure(child, count) for name, child in CHILDREN.items()},
        aims=[Aim(PROCESS_AND_PIPE, at_most=1)],
        size=count,
        warms_up=what == "time" and count < MANY,
    )


def time_of_each(child: Child, count: int) -> Runner:
    def turn() -> float:
        began = time.perf_counter()
        with ExitStack() as stack:
            for _ in range(count):
                stack.enter_context(child())
        return (time.perf_counter() - began) / count

    return turn


def memory_of_each(child: Child, count: int) -> Runner:
    def turn() -> float:
        before = family_size(os.getpid())
        with ExitStack() as stack:
            for _ in range(count):
                stack.enter_context(child())
            return growth(before) / count

    return turn
