# SPDX-License-Identifier: MIT
"""fannkuch-redux: the most flips any permutation needs, and a checksum of all of them.

A permutation is flipped by turning round as many of its first elements as the first one says,
until that is 0. The permutations have an order, so any stretch of it can be computed alone: the
number of a permutation, in the factorial number system, says how far each prefix was turned.
"""

from __future__ import annotations

import math
import multiprocessing
import platform
from typing import TYPE_CHECKING

import snakefish

if TYPE_CHECKING:
    from collections.abc import Iterator

PYPY = platform.python_implementation() == "PyPy"
SIZES = {
    "test": 7,
    "quick": 10 if PYPY else 9,
    "full": 10,
}
STRETCHES = 64

fork = multiprocessing.get_context("fork")


def make(size: int, seed: int) -> int:
    """Return how many elements to permute; nothing here is random."""
    return size


def sequential(size: int) -> tuple[int, int]:
    return stretch(size, 0, math.factorial(size))


def ours(size: int) -> tuple[int, int]:
    return together(snakefish.starmap(stretch, stretches(size)))


def with_pool(size: int) -> tuple[int, int]:
    with fork.Pool() as pool:
        return together(pool.starmap(stretch, stretches(size), chunksize=1))


def stretches(size: int) -> list[tuple[int, int, int]]:
    """Cut the order of all permutations into pieces of equal length."""
    bounds = [math.factorial(size) * cut // STRETCHES for cut in range(STRETCHES + 1)]
    return [(size, first, last) for first, last in zip(bounds, bounds[1:])]


def together(found: list[tuple[int, int]]) -> tuple[int, int]:
    return sum(checksum for checksum, _ in found), max(most for _, most in found)


def stretch(size: int, first: int, last: int) -> tuple[int, int]:
    """Return the checksum and the most flips of the permutations *first* to *last* - 1."""
    checksum = most = 0
    for number, permutation in zip(range(first, last), permutations(size, first)):
        flipped = flips(permutation[:])
        most = max(most, flipped)
        checksum += -flipped if number % 2 else flipped
    return checksum, most


def flips(permutation: list[int]) -> int:
    count = 0
    first = permutation[0]
    while first:
        permutation[: first + 1] = permutation[first::-1]
        first = permutation[0]
        count += 1
    return count


def permutations(size: int, number: int) -> Iterator[list[int]]:
    """Yield the permutations from *number* on, each in the same list."""
    permutation = list(range(size))
    turned = [0] * size
    for last in range(size - 1, 0, -1):
        turned[last], number = divmod(number, math.factorial(last))
        for _ in range(turned[last]):
            turn(permutation, last)
    last = 0
    while last < size:
        yield permutation
        last = 1
        while last < size:
            turn(permutation, last)
            turned[last] += 1
            if turned[last] <= last:
                break
            turned[last] = 0  # all the way round: where it was before
            last += 1


def turn(permutation: list[int], last: int) -> None:
    """Move the first element behind the one at *last*."""
    permutation.insert(last, permutation.pop(0))
