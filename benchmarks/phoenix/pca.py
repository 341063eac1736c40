# SPDX-License-Identifier: MIT
"""Principal components: the mean of each row of a matrix and the covariance of each two rows.

Both are buffers whose elements are written by one task each, by `disjoint`. Of each two rows the
covariance is reckoned with the first of them, so the first rows take longest. An item is a row
and its counterpart from the end: those take equally long, and `map` shares them out evenly.
"""

from __future__ import annotations

import multiprocessing
import platform
import random
from array import array

import snakefish

PYPY = platform.python_implementation() == "PyPy"
SIZES = {
    "test": 30,
    "quick": 620 if PYPY else 340,
    "full": 900 if PYPY else 500,
}

Matrix = list[array]  # type: ignore[type-arg]
Buffers = tuple[array, array]  # type: ignore[type-arg]

rows: Matrix = []
means = array("d")
covariances = array("d")

fork = multiprocessing.get_context("fork")


def make(size: int, seed: int) -> Matrix:
    """Return a matrix of *size* rows, each of which has something of the row before."""
    dice = random.Random(seed)
    made = [array("d", [dice.random() for _ in range(size)])]
    while len(made) < size:
        made.append(array("d", [old / 2 + dice.gauss(0, 1) for old in made[-1]]))
    return made


def begin(matrix: Matrix) -> None:
    global rows, means, covariances
    rows = matrix
    means = array("d", bytes(8 * len(rows)))
    covariances = array("d", bytes(8 * len(rows) ** 2))


def average(i: int) -> None:
    means[i] = sum(rows[i]) / len(rows[i])


def covariance(i: int, j: int) -> float:
    a, b = means[i], means[j]
    return sum([(x - a) * (y - b) for x, y in zip(rows[i], rows[j])]) / (len(rows[i]) - 1)


def pairs() -> range:
    """Return the numbers of the rows of the first half, whose counterparts are the other half."""
    return range((len(rows) + 1) // 2)


def compare(pair: int) -> None:
    count = len(rows)
    for i in {pair, count - 1 - pair}:
        for j in range(i, count):
            covariances[i * count + j] = covariance(i, j)


def sequential(matrix: Matrix) -> Buffers:
    begin(matrix)
    for i in range(len(rows)):
        average(i)
    for pair in pairs():
        compare(pair)
    return means, covariances


def ours(matrix: Matrix, concurrency: int = 0, chunksize: int = 0) -> Buffers:
    begin(matrix)
    snakefish.map(average, range(len(rows)), concurrency, chunksize, share="means")
    snakefish.map(compare, pairs(), concurrency, chunksize, share="covariances")
    return means, covariances


def with_pool(matrix: Matrix, processes: int | None = None) -> Buffers:
    begin(matrix)
    everywhere, count = range(len(rows)), len(rows)
    for i in everywhere:
        average(i)
    with fork.Pool(processes) as pool:
        for i, line in enumerate(pool.imap(compared, everywhere, chunksize=4)):
            covariances[i * count + i : (i + 1) * count] = line
    return means, covariances


def compared(i: int) -> array[float]:
    return array("d", [covariance(i, j) for j in range(i, len(rows))])
