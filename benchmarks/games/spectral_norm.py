# SPDX-License-Identifier: MIT
"""spectral-norm: the largest singular value of an infinite matrix, by the power method.

Forty products of the matrix and a vector, each of which needs the one before it. So a child for
each part of the rows lives through all of them: it receives a vector and sends its part of the
product, and the parent puts the parts together.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import platform
from itertools import chain
from typing import Callable

import snakefish

PYPY = platform.python_implementation() == "PyPy"
SIZES = {
    "test": 100,
    "quick": 1600 if PYPY else 440,
    "full": 2700 if PYPY else 760,
}
ROUNDS = 10

Vector = list[float]
Product = Callable[[bool, Vector], Vector]

fork = multiprocessing.get_context("fork")


def make(size: int, seed: int) -> int:
    """Return how much of the matrix to look at; nothing here is random."""
    return size


def sequential(size: int) -> str:
    return norm(size, lambda transposed, vector: part(transposed, vector, 0, size))


def ours(size: int) -> str:
    with contextlib.ExitStack() as stack:
        members = [stack.enter_context(Member(*rows)) for rows in shares(size)]

        def product(transposed: bool, vector: Vector) -> Vector:
            for member in members:
                member.questions.send_pyobj((transposed, vector))
            return [x for member in members for x in member.answers.receive_pyobj()]

        return norm(size, product)


def with_pool(size: int) -> str:
    with fork.Pool() as pool:

        def product(transposed: bool, vector: Vector) -> Vector:
            tasks = [(transposed, vector, *rows) for rows in shares(size)]
            return list(chain.from_iterable(pool.starmap(part, tasks, chunksize=1)))

        return norm(size, product)


class Member:
    """A child that multiplies the rows *first* to *last* - 1 with the vectors it is asked for."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last
        self.questions, self.answers = snakefish.Channel(), snakefish.Channel()
        self.thread = snakefish.Thread(self.answer)

    def answer(self) -> None:
        with contextlib.suppress(EOFError):
            while True:
                transposed, vector = self.questions.receive_pyobj()
                self.answers.send_pyobj(part(transposed, vector, self.first, self.last))

    def __enter__(self) -> Member:
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        for resource in (self.thread, self.questions, self.answers):
            resource.dispose()


def shares(size: int) -> list[tuple[int, int]]:
    """Cut the rows into as many parts as there are cores for."""
    cores = os.cpu_count() or 1
    bounds = [size * cut // cores for cut in range(cores + 1)]
    return list(zip(bounds, bounds[1:]))


def norm(size: int, product: Product) -> str:
    u = [1.0] * size
    for _ in range(ROUNDS):
        v = product(True, product(False, u))
        u = product(True, product(False, v))
    return f"{math.sqrt(dot(u, v) / dot(v, v)):.9f}"


def dot(a: Vector, b: Vector) -> float:
    return sum(x * y for x, y in zip(a, b))


def part(transposed: bool, vector: Vector, first: int, last: int) -> Vector:
    """Return elements *first* to *last* - 1 of the matrix, or its transpose, times *vector*."""
    if transposed:
        return [sum(entry(j, i) * x for j, x in enumerate(vector)) for i in range(first, last)]
    return [sum(entry(i, j) * x for j, x in enumerate(vector)) for i in range(first, last)]


def entry(i: int, j: int) -> float:
    return 1.0 / ((i + j) * (i + j + 1) // 2 + i + 1)
