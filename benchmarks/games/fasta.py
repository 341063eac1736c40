# SPDX-License-Identifier: MIT
"""fasta: DNA sequences, one repeated and two random, as the blocks of a FASTA file.

The random numbers are those of a linear congruential generator, one after another. A step of it
is an affine map and so are many steps; so any stretch can be generated alone, from the seed that
the generator would have there. The second sequence goes on where the first one stopped.
"""

from __future__ import annotations

import itertools
import multiprocessing
import platform
from bisect import bisect

import snakefish

PYPY = platform.python_implementation() == "PyPy"
SIZES = {
    "test": 20_000,
    "quick": 2_500_000 if PYPY else 1_000_000,
    "full": 6_000_000 if PYPY else 2_500_000,
}
SEED, FACTOR, TERM, MODULUS = 42, 3877, 29573, 139968
WIDTH = 60
STRETCH = 500 * WIDTH

ALU = (
    b"GGCCGGGCGCGGTGGCTCACGCCTGTAATCCCAGCACTTTGGGAGGCCGAGGCGGGCGGATCACCTGAGGTCAGGAGTTCGAGACCAGCCTGGCC"
    b"AACATGGTGAAACCCCGTCTCTACTAAAAATACAAAAATTAGCCGGGCGTGGTGGCGCGCGCCTGTAATCCCAGCTACTCGGGAGGCTGAGGCAG"
    b"GAGAATCGCTTGAACCCGGGAGGCGGAGGTTGCAGTGAGCCGAGATCGCGCCACTGCACTCCAGCCTGGGCGACAGAGCGAGACTCCGTCTCAAA"
    b"AA"
)
AMBIGUOUS = dict(zip("acgtBDHKMNRSVWY", [0.27, 0.12, 0.12, 0.27] + [0.02] * 11))
HUMAN = dict(zip("acgt", [0.3029549426680, 0.1979883004921, 0.1975473066391, 0.3015094502008]))

fork = multiprocessing.get_context("fork")


def make(size: int, seed: int) -> int:
    """Return the size, a fifth of the longest sequence; the statement fixes the seed."""
    return size


def sequential(size: int) -> list[bytes]:
    return blocks(size, [random_lines(*part) for part in stretches(size)])


def ours(size: int) -> list[bytes]:
    return blocks(size, snakefish.starmap(random_lines, stretches(size)))


def with_pool(size: int) -> list[bytes]:
    with fork.Pool() as pool:
        return blocks(size, pool.starmap(random_lines, stretches(size), chunksize=1))


def stretches(size: int) -> list[tuple[dict[str, float], int, int]]:
    """Return, for each stretch of both random sequences, its odds, first number and length."""
    return [
        (odds, begin + first, min(STRETCH, length - first))
        for odds, begin, length in ((AMBIGUOUS, 0, 3 * size), (HUMAN, 3 * size, 5 * size))
        for first in range(0, length, STRETCH)
    ]


def blocks(size: int, drawn: list[bytes]) -> list[bytes]:
    cut = -(-3 * size // STRETCH)
    repeated = (ALU * (2 * size // len(ALU) + 1))[: 2 * size]
    return [
        b">ONE Homo sapiens alu\n",
        lines(repeated),
        b">TWO IUB ambiguity codes\n",
        *drawn[:cut],
        b">THREE Homo sapiens frequency\n",
        *drawn[cut:],
    ]


def random_lines(odds: dict[str, float], first: int, length: int) -> bytes:
    """Return *length* letters drawn by their *odds* with the random numbers from *first* on."""
    letters = "".join(odds).encode()
    bounds = list(itertools.accumulate(odds.values()))
    bounds[-1] = 1.0  # whatever the rounding
    seed = seed_after(first)
    drawn = bytearray(length)
    for number in range(length):
        seed = (seed * FACTOR + TERM) % MODULUS
        drawn[number] = letters[bisect(bounds, seed / MODULUS)]
    return lines(drawn)


def seed_after(steps: int) -> int:
    """Return the generator's seed after so many *steps*, of which powers of two are one map."""
    seed, factor, term = SEED, FACTOR, TERM
    while steps:
        if steps % 2:
            seed = (seed * factor + term) % MODULUS
        factor, term = factor * factor % MODULUS, (factor + 1) * term % MODULUS
        steps //= 2
    return seed


def lines(text: bytes | bytearray) -> bytes:
    cut = [text[first : first + WIDTH] for first in range(0, len(text), WIDTH)]
    return b"\n".join([*cut, b""])
