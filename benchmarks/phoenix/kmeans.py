# SPDX-License-Identifier: MIT
"""k-means: points of a plane, each with the nearest of some centres, until these stay in place.

Of each cluster the number of points and their sum is kept. A task adds to a list of zeros, and
`fresh` adds up the lists. The sums are reordered: results are equal to rounding.

Each pass is a map, of new children, and what PyPy compiles in one ends with it. So all three
programs begin with a few blocks that do not count: children go on with what PyPy compiled there.
"""

from __future__ import annotations

import cmath
import multiprocessing
import operator
import platform
import random
from typing import Any

import snakefish
from snakefish import merges

from .pieces import pieces

PYPY = platform.python_implementation() == "PyPy"
SIZES = {
    "test": 3,
    "quick": 250 if PYPY else 60,
    "full": 750 if PYPY else 180,
}
CLUSTERS, POINTS_A_BLOCK, SMALL = 8, 500, 1e-3
WARM_UP = 8  # blocks

Block = list[complex]

blocks: list[Block] = []
centres: list[complex] = []
sizes: list[int] = []
sums: list[complex] = []

fork = multiprocessing.get_context("fork")


def make(size: int, seed: int) -> list[Block]:
    """Return *size* blocks of points about as many middles as there are clusters."""
    dice = random.Random(seed)
    middles = [complex(dice.uniform(-5, 5), dice.uniform(-5, 5)) for _ in range(CLUSTERS)]

    def point() -> complex:
        return dice.choice(middles) + complex(dice.gauss(0, 1), dice.gauss(0, 1))

    return [[point() for _ in range(POINTS_A_BLOCK)] for _ in range(size)]


def begin(plane: list[Block]) -> None:
    global blocks, centres, sizes, sums
    blocks, centres, sizes, sums = plane, plane[0][:CLUSTERS], zeros(), zeros()
    for block in blocks[:WARM_UP]:
        assign(block)


def zeros() -> list[Any]:
    return [0] * CLUSTERS


def assign(block: Block) -> None:
    for point in block:
        distances = [abs(point - centre) for centre in centres]
        nearest = distances.index(min(distances))
        sizes[nearest] += 1
        sums[nearest] += point


def moved() -> bool:
    """Move each centre to the middle of its cluster; return whether that was elsewhere."""
    global centres
    before = centres
    centres = [total / size if size else old for size, total, old in zip(sizes, sums, before)]
    return any(abs(new - old) > SMALL for new, old in zip(centres, before))


def sequential(plane: list[Block]) -> list[complex]:
    global sizes, sums
    begin(plane)
    while True:
        sizes, sums = zeros(), zeros()
        for block in blocks:
            assign(block)
        if not moved():
            return centres


def together(one: list[Any], other: list[Any]) -> list[Any]:
    return list(map(operator.add, one, other))


def ours(plane: list[Block], concurrency: int = 0, chunksize: int = 0) -> list[complex]:
    global sizes, sums
    begin(plane)
    adding = merges.fresh(zeros, together)
    while True:
        sizes, sums = zeros(), zeros()
        share = {"sizes": adding, "sums": adding}
        snakefish.map(assign, blocks, concurrency, chunksize, share=share)
        if not moved():
            return centres


def with_pool(plane: list[Block], processes: int | None = None) -> list[complex]:
    global sizes, sums
    begin(plane)
    with fork.Pool(processes) as pool:
        while True:
            sizes, sums = zeros(), zeros()
            work = [(piece, centres) for piece in pieces(len(blocks), processes)]
            for its_sizes, its_sums in pool.imap_unordered(assigned, work):
                sizes, sums = together(sizes, its_sizes), together(sums, its_sums)
            if not moved():
                return centres


def assigned(work: tuple[range, list[complex]]) -> tuple[list[int], list[complex]]:
    global centres, sizes, sums
    piece, centres = work
    sizes, sums = zeros(), zeros()
    for number in piece:
        assign(blocks[number])
    return sizes, sums


def equal(one: list[complex], other: list[complex]) -> bool:
    """Whether all centres are the same to rounding."""
    return all(cmath.isclose(a, b, rel_tol=1e-9) for a, b in zip(one, other))
