# SPDX-License-Identifier: MIT
"""Matrix multiply: the product of two square matrices, tile by tile, by `disjoint`.

The matrices are arrays of doubles, row by row; each tile of the product is written by one task, and
each element is added up in the same order as in the loop, so the results are equal bit by bit.
"""

from __future__ import annotations

import multiprocessing
import operator
import platform
import random
from array import array
from itertools import product

import snakefish

PYPY = platform.python_implementation() == "PyPy"
SIZES = {
    "test": 40,
    "quick": 960 if PYPY else 330,
    "full": 1400 if PYPY else 450,
}
TILE = 30

Matrix = list[array]  # type: ignore[type-arg]
Tile = tuple[int, int]

rows: Matrix = []
columns: Matrix = []
result = array("d")

fork = multiprocessing.get_context("fork")


def make(size: int, seed: int) -> tuple[Matrix, Matrix]:
    """Return the rows of one matrix and the columns of another, *size* by *size*."""
    dice = random.Random(seed)

    def lines() -> Matrix:
        return [array("d", [dice.uniform(-1, 1) for _ in range(size)]) for _ in range(size)]

    return lines(), lines()


def begin(factors: tuple[Matrix, Matrix]) -> None:
    global rows, columns, result
    rows, columns = factors
    result = array("d", bytes(8 * len(rows) ** 2))


def tiles() -> list[Tile]:
    """Return the upper left corners of all tiles."""
    return list(product(range(0, len(rows), TILE), repeat=2))


def multiply(tile: Tile) -> None:
    top, left = tile
    for y, row in enumerate(rows[top : top + TILE], top):
        for x, column in enumerate(columns[left : left + TILE], left):
            result[y * len(rows) + x] = sum(map(operator.mul, row, column))


def sequential(factors: tuple[Matrix, Matrix]) -> array[float]:
    begin(factors)
    for tile in tiles():
        multiply(tile)
    return result


def ours(factors: tuple[Matrix, Matrix], concurrency: int = 0, chunksize: int = 0) -> array[float]:
    begin(factors)
    snakefish.map(multiply, tiles(), concurrency, chunksize, share="result")
    return result


def with_pool(factors: tuple[Matrix, Matrix], processes: int | None = None) -> array[float]:
    begin(factors)
    with fork.Pool(processes) as pool:
        for (top, left), lines in pool.imap_unordered(multiplied, tiles()):
            for y, line in enumerate(lines, top):
                start = y * len(rows) + left
                result[start : start + len(line)] = line
    return result


def multiplied(tile: Tile) -> tuple[Tile, Matrix]:
    top, left = tile
    return tile, [
        array("d", [sum(map(operator.mul, row, column)) for column in columns[left : left + TILE]])
        for row in rows[top : top + TILE]
    ]
