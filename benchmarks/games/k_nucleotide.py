# SPDX-License-Identifier: MIT
"""k-nucleotide: how often each short piece of DNA occurs, and five longer ones.

The pieces of a length that begin in a stretch of the sequence are counted in a hash table, each
stretch alone. Long pieces take longest, so they are handed out first. Children inherit the
sequence; what comes back is what the report asks for.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
from collections import Counter

import snakefish

from . import fasta

PYPY = platform.python_implementation() == "PyPy"
SIZES = {
    "test": 25_000,
    "quick": 380_000 if PYPY else 240_000,
    "full": 1_200_000 if PYPY else 700_000,
}
WANTED = ("GGT", "GGTA", "GGTATT", "GGTATTTTAATT", "GGTATTTTAATTTATAGT")
LENGTHS = (18, 12, 6, 4, 3, 2, 1)
STRETCHES = os.cpu_count() or 1

fork = multiprocessing.get_context("fork")
dna = ""  # what the workers of a Pool inherit


def make(size: int, seed: int) -> bytes:
    """Return what fasta writes."""
    return b"".join(fasta.sequential(size))


def sequential(document: bytes) -> str:
    sequence = third_sequence(document)
    return report([counts(sequence, length, 0, len(sequence)) for length in LENGTHS])


def ours(document: bytes) -> str:
    sequence = third_sequence(document)
    found = snakefish.starmap(lambda *where: counts(sequence, *where), stretches(len(sequence)))
    return report(sums(found))


def with_pool(document: bytes) -> str:
    global dna
    dna = third_sequence(document)
    with fork.Pool() as pool:
        return report(sums(pool.starmap(inherited_counts, stretches(len(dna)), chunksize=1)))


def inherited_counts(length: int, first: int, last: int) -> Counter[str]:
    return counts(dna, length, first, last)


def third_sequence(document: bytes) -> str:
    _, _, text = document.partition(b">THREE")[2].partition(b"\n")
    return text.replace(b"\n", b"").upper().decode()


def stretches(size: int) -> list[tuple[int, int, int]]:
    """Return, for each length, where the pieces of each stretch begin, and where the next does."""
    bounds = [size * cut // STRETCHES for cut in range(STRETCHES + 1)]
    return [(length, *bound) for length in LENGTHS for bound in zip(bounds, bounds[1:])]


def counts(sequence: str, length: int, first: int, last: int) -> Counter[str]:
    """Count all pieces that begin from *first* on and before *last*; return those to report."""
    last = min(last, len(sequence) - length + 1)
    counter = Counter(sequence[i : i + length] for i in range(first, last))
    if length < len(WANTED[0]):
        return counter
    return Counter({piece: counter[piece] for piece in WANTED if len(piece) == length})


def sums(found: list[Counter[str]]) -> list[Counter[str]]:
    """Return one counter for each length."""
    return [
        sum(found[first : first + STRETCHES], Counter())
        for first in range(0, len(found), STRETCHES)
    ]


def report(found: list[Counter[str]]) -> str:
    *wanted, two, one = found
    lines = [f"{counter[piece]}\t{piece}" for counter, piece in zip(reversed(wanted), WANTED)]
    return "\n".join([frequencies(one), frequencies(two), *lines, ""])


def frequencies(counter: Counter[str]) -> str:
    """Return a line for each piece, the most frequent first."""
    share = 100 / sum(counter.values())
    pieces = sorted(counter, key=lambda piece: (-counter[piece], piece))
    return "".join(f"{piece} {share * counter[piece]:.3f}\n" for piece in pieces)
