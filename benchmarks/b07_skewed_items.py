# SPDX-License-Identifier: MIT
"""B7: map over items of which one in a hundred costs a hundred times as much as the others.

Scattered, the expensive ones are where chance has put them; at the end, they are what is left when
everything else is done, and who takes many at a time makes the others wait. We are not told a
chunksize. The peers try several, one item at a time among them.

The limit is all work on one core, divided by the cores. Bare forks do all of it at once, each its
share of the cheap and of the expensive ones: what they take beyond the limit is the forks, the
pages that a child copies, the traces that PyPy makes anew in each child, and what the cores take
from each other, or others from them.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

from benchmarks.figure import LIMIT, OURS, SECONDS, Aim, Figure, Runner, Scale
from benchmarks.mappers import AUTOMATIC, BARE_FORKS, CORES, PEERS, Turn, bare_forks, ours
from benchmarks.work import work

CHEAP_US = 20


def figures(scale: Scale) -> list[Figure]:
    count = scale.choose(tiny=200, quick=10_000, full=100_000)
    costs = [CHEAP_US] * (count - count // 100) + [100 * CHEAP_US] * (count // 100)
    scattered = random.Random(7).sample(costs, count)
    return [figure("scattered", scattered), figure("at the end", costs)]


def figure(case: str, costs: Sequence[int]) -> Figure:
    chunks = [AUTOMATIC, 1, 10, 100]
    runners: dict[str, Runner] = {OURS: Turn(ours, work, costs, [AUTOMATIC])}
    runners.update({who: Turn(peer, work, costs, chunks) for who, peer in PEERS.items()})
    shares = [sorted(costs)[core::CORES] for core in range(CORES)]
    runners[BARE_FORKS] = lambda: bare_forks(work, shares)
    runners[LIMIT] = lambda: limit(costs)
    return Figure(
        id="B7",
        case=case,
        what=f"map of {len(costs):,} items, 1 in 100 of which costs 100 times as much",
        unit=SECONDS,
        runners=runners,
        aims=[Aim(LIMIT, at_most=1 / 0.95)],
    )


def limit(costs: Sequence[int]) -> float:
    began = time.perf_counter()
    for cost in costs:
        work(cost)
    return (time.perf_counter() - began) / CORES
