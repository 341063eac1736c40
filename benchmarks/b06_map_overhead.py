# SPDX-License-Identifier: MIT
"""B6: map of a million items that cost next to nothing: what each of them costs besides.

The items are a range, which nobody has to write out, and a list, whose elements everybody touches.

The limit is the built-in map on one core, divided by the cores, and one pickle round trip of all
results in one process. Who overlaps the two can be faster.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Sequence

from benchmarks.figure import LIMIT, OURS, SECONDS, Aim, Figure, Runner, Scale
from benchmarks.mappers import AUTOMATIC, CORES, PEERS, Turn, ours


def figures(scale: Scale) -> list[Figure]:
    count = scale.choose(tiny=2000, quick=1_000_000)
    return [figure("range", range(count)), figure("list", list(range(count)))]


def figure(case: str, items: Sequence[int]) -> Figure:
    sizes = [1 / (CORES * parts) for parts in (1, 4, 20, 100)]
    chunks: dict[str, list[float]] = dict.fromkeys(PEERS, sizes)
    chunks["mpire"] = [AUTOMATIC]  # which takes its time each way
    runners: dict[str, Runner] = {OURS: Turn(ours, successor, items, [AUTOMATIC])}
    runners.update({who: Turn(peer, successor, items, chunks[who]) for who, peer in PEERS.items()})
    runners[LIMIT] = lambda: limit(items)
    return Figure(
        id="B6",
        case=case,
        what=f"map of {len(items):,} trivial items",
        unit=SECONDS,
        runners=runners,
        aims=[Aim(LIMIT, at_most=1.3), *(Aim(who, at_most=1) for who in PEERS)],
    )


def successor(n: int) -> int:
    return n + 1


def limit(items: Sequence[int]) -> float:
    began = time.perf_counter()
    results = list(map(successor, items))
    mapped = time.perf_counter()
    assert len(pickle.loads(pickle.dumps(results, 5))) == len(items)
    return (mapped - began) / CORES + time.perf_counter() - mapped
