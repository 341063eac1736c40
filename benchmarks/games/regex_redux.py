# SPDX-License-Identifier: MIT
"""regex-redux: count nine patterns in DNA, and apply five substitutions one after another.

The substitutions are one piece of work, the longest, so it is the first to be handed out.
"""

from __future__ import annotations

import multiprocessing
import platform
import re

import snakefish

from . import fasta

PYPY = platform.python_implementation() == "PyPy"
SIZES = {
    "test": 50_000,
    "quick": 1_200_000 if PYPY else 560_000,
    "full": 3_600_000 if PYPY else 1_700_000,
}
VARIANTS = (
    b"agggtaaa|tttaccct",
    b"[cgt]gggtaaa|tttaccc[acg]",
    b"a[act]ggtaaa|tttacc[agt]t",
    b"ag[act]gtaaa|tttac[agt]ct",
    b"agg[act]taaa|ttta[agt]cct",
    b"aggg[acg]aaa|ttt[cgt]ccct",
    b"agggt[cgt]aa|tt[acg]accct",
    b"agggta[cgt]a|t[acg]taccct",
    b"agggtaa[cgt]|[acg]ttaccct",
)
SUBSTITUTIONS = (
    (rb"tHa[Nt]", b"<4>"),
    (rb"aND|caN|Ha[DS]|WaS", b"<3>"),
    (rb"a[NSt]|BY", b"<2>"),
    (rb"<[^>]*>", b"|"),
    (rb"\|[^|][^|]*\|", b"-"),
)
SUBSTITUTE = b""
TASKS = (SUBSTITUTE, *VARIANTS)

fork = multiprocessing.get_context("fork")
dna = b""  # what the workers of a Pool inherit


def make(size: int, seed: int) -> bytes:
    """Return what fasta writes."""
    return b"".join(fasta.sequential(size))


def sequential(document: bytes) -> str:
    sequence = without_lines(document)
    return report(document, sequence, [measure(sequence, task) for task in TASKS])


def ours(document: bytes) -> str:
    sequence = without_lines(document)
    found = snakefish.map(lambda task: measure(sequence, task), TASKS)
    return report(document, sequence, found)


def with_pool(document: bytes) -> str:
    global dna
    dna = without_lines(document)
    with fork.Pool() as pool:
        return report(document, dna, pool.map(measure_inherited, TASKS, chunksize=1))


def measure_inherited(task: bytes) -> int:
    return measure(dna, task)


def without_lines(document: bytes) -> bytes:
    return re.sub(rb">.*\n|\n", b"", document)


def measure(sequence: bytes, task: bytes) -> int:
    """Return how often a variant occurs; for SUBSTITUTE, how much the substitutions leave."""
    if task != SUBSTITUTE:
        return len(re.findall(task, sequence))
    for pattern, replacement in SUBSTITUTIONS:
        sequence = re.sub(pattern, replacement, sequence)
    return len(sequence)


def report(document: bytes, sequence: bytes, found: list[int]) -> str:
    left, *counts = found
    lines = [f"{variant.decode()} {count}" for variant, count in zip(VARIANTS, counts)]
    return "\n".join([*lines, "", str(len(document)), str(len(sequence)), str(left), ""])
