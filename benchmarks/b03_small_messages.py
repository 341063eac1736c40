# SPDX-License-Identifier: MIT
"""B3: a stream of small objects from one process to another, in messages a second.

The limit is pickle.dumps and pickle.loads of each object in one process; two processes share that
work, so a way that costs nothing could be twice as fast. The last case is what the channel itself
costs: one process sends a byte to itself and receives it, nobody waits and nothing is pickled.
"""

from __future__ import annotations

import pickle
import time
from typing import Any

from benchmarks import links
from benchmarks.figure import LIMIT, OURS, PER_SECOND, SECONDS, Aim, Figure, Runner, Scale
from benchmarks.stream import Stream
from snakefish import Channel

OBJECTS = {
    "int": 7,
    "tuple": (7, 2.5, "text"),
    "6-key dict": {"a": 1, "b": 2.5, "c": "text", "d": None, "e": True, "f": (1, 2)},
}


def figures(scale: Scale) -> list[Figure]:
    count = scale.choose(tiny=20, quick=100_000)
    return [*(stream(name, obj, scale) for name, obj in OBJECTS.items()), own_cost(count)]


def stream(name: str, obj: Any, scale: Scale) -> Figure:
    count = scale.choose(tiny=20, quick=1000)
    runners: dict[str, Runner] = {
        who: Stream(opener, obj, count) for who, opener in links.OF_OBJECTS.items()
    }
    return Figure(
        id="B3",
        case=name,
        what="stream of small objects, messages",
        unit=PER_SECOND,
        runners={**runners, LIMIT: lambda: pickling(obj, 10 * count)},
        aims=[Aim("Pipe", at_least=6, on="CPython"), Aim("Pipe", at_least=5, on="PyPy")],
    )


def pickling(obj: Any, count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        copy = pickle.loads(pickle.dumps(obj, pickle.HIGHEST_PROTOCOL))
    elapsed = time.perf_counter() - began
    assert copy == obj
    return count / elapsed


def own_cost(count: int) -> Figure:
    return Figure(
        id="B3",
        case="own cost",
        what="a message of one byte sent and received by one process",
        unit=SECONDS,
        runners={OURS: lambda: to_itself(count)},
        aims=[Aim(at_most=0.7e-6, on="CPython"), Aim(at_most=0.1e-6, on="PyPy")],
    )


def to_itself(count: int) -> float:
    with Channel() as channel:
        send, receive = channel.send_bytes, channel.receive_bytes
        began = time.perf_counter()
        for _ in range(count):
            send(b"x")
            data = receive()
        elapsed = time.perf_counter() - began
        assert data == b"x"
        return elapsed / count
