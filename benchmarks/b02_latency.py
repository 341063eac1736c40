# SPDX-License-Identifier: MIT
"""B2: how long a small object is under way to a process that waits for it.

Two processes play ping-pong over two links; each sample is half of a round trip, so the median is
that of a hop. The limit is pickle.dumps and pickle.loads of the object, without any way at all.
"""

from __future__ import annotations

import os
import pickle
import time
from typing import TYPE_CHECKING, Any

from benchmarks import links
from benchmarks.figure import LIMIT, SECONDS, Aim, Figure, Runner, Scale

if TYPE_CHECKING:
    from benchmarks.links import Link, Opener

BALL = (7, "ping")
BATCHED = "faster-fifo, get_many"


def figures(scale: Scale) -> list[Figure]:
    hops = scale.choose(tiny=3, quick=1000, full=5000)
    runners: dict[str, Runner] = {
        name: lambda opener=opener: ping_pong(opener, hops)  # type: ignore[misc]
        for name, opener in links.OF_OBJECTS.items()
        if name != BATCHED
    }
    return [
        Figure(
            id="B2",
            what="one-way latency of a small object",
            unit=SECONDS,
            runners={**runners, LIMIT: lambda: pickling(hops)},
            aims=[Aim("Pipe", at_most=0.25, on="CPython")],
        )
    ]


def ping_pong(opener: Opener, hops: int) -> list[float]:
    with opener() as there, opener() as back:
        pid = os.fork()
        if pid == 0:
            return_balls(there, back)
        times = [hop(there, back) for _ in range(hops)]
        there.send(None)
        assert os.waitpid(pid, 0)[1] == 0
        return times


def hop(there: Link, back: Link) -> float:
    began = time.perf_counter()
    there.send(BALL)
    ball = back.receive()
    elapsed = time.perf_counter() - began
    assert ball == BALL
    return elapsed / 2


def return_balls(there: Link, back: Link) -> None:
    status = 1
    try:
        while True:
            ball: Any = there.receive()
            if ball is None:
                status = 0
                break
            back.send(ball)
    finally:
        os._exit(status)


def pickling(hops: int) -> float:
    began = time.perf_counter()
    for _ in range(hops):
        ball = pickle.loads(pickle.dumps(BALL, pickle.HIGHEST_PROTOCOL))
    elapsed = time.perf_counter() - began
    assert ball == BALL
    return elapsed / hops
