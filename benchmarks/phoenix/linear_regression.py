# SPDX-License-Identifier: MIT
"""Linear regression: the straight line nearest to many points, from four sums, by `total`.

The points are text, a pair of numbers a line, in blocks as they would be read from a file. `ours`
adds what the children found exactly and rounds once, so it differs from the loop by what
the loop rounded away.
"""

from __future__ import annotations

import math
import multiprocessing
import platform
import random

import snakefish

from .pieces import pieces

PYPY = platform.python_implementation() == "PyPy"
SIZES = {
    "test": 5,
    "quick": 4500 if PYPY else 1300,
    "full": 13_000 if PYPY else 4000,
}
POINTS_A_BLOCK, DIFFERENT_BLOCKS = 2000, 100
SLOPE, INTERCEPT = 0.75, -20.0

blocks: list[str] = []
points = 0
sum_x = sum_y = sum_xx = sum_xy = 0.0

fork = multiprocessing.get_context("fork")

Fit = tuple[float, float]


def make(size: int, seed: int) -> list[str]:
    """Return *size* blocks of points about a line; after a while they come again."""
    dice = random.Random(seed)
    made = []
    for _ in range(min(size, DIFFERENT_BLOCKS)):
        xs = [dice.uniform(0, 100) for _ in range(POINTS_A_BLOCK)]
        lines = [f"{x:.4f} {SLOPE * x + INTERCEPT + dice.gauss(0, 5):.4f}" for x in xs]
        made.append("\n".join(lines))
    return [made[number % len(made)] for number in range(size)]


def begin(text: list[str]) -> None:
    global blocks, points, sum_x, sum_y, sum_xx, sum_xy
    blocks, points = text, 0
    sum_x = sum_y = sum_xx = sum_xy = 0.0


def add(block: str) -> None:
    global points, sum_x, sum_y, sum_xx, sum_xy
    for line in block.split("\n"):
        x, y = map(float, line.split())
        points += 1
        sum_x += x
        sum_y += y
        sum_xx += x * x
        sum_xy += x * y


def fit() -> Fit:
    """Return slope and intercept."""
    slope = (points * sum_xy - sum_x * sum_y) / (points * sum_xx - sum_x * sum_x)
    return slope, (sum_y - slope * sum_x) / points


def sequential(text: list[str]) -> Fit:
    begin(text)
    for block in blocks:
        add(block)
    return fit()


def ours(text: list[str], concurrency: int = 0, chunksize: int = 0) -> Fit:
    begin(text)
    share = "points sum_x sum_y sum_xx sum_xy"
    snakefish.map(add, blocks, concurrency, chunksize, share=share)
    return fit()


def with_pool(text: list[str], processes: int | None = None) -> Fit:
    global points, sum_x, sum_y, sum_xx, sum_xy
    begin(text)
    with fork.Pool(processes) as pool:
        parts = pool.map(added, pieces(len(blocks), processes), chunksize=1)
    points = sum(part[0] for part in parts)
    sum_x, sum_y, sum_xx, sum_xy = map(math.fsum, list(zip(*parts))[1:])
    return fit()


def added(piece: range) -> tuple[float, ...]:
    begin(blocks)
    for number in piece:
        add(blocks[number])
    return points, sum_x, sum_y, sum_xx, sum_xy


def equal(one: Fit, other: Fit) -> bool:
    """Whether two results are the same to rounding; differences of large sums lose some digits."""
    return all(math.isclose(a, b, rel_tol=1e-9) for a, b in zip(one, other))
