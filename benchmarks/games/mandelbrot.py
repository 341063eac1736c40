# SPDX-License-Identifier: MIT
"""mandelbrot: a portable bitmap of the Mandelbrot set.

A row that crosses the set takes many times as long as one that passes it by.
"""

from __future__ import annotations

import functools
import multiprocessing
import platform

import snakefish

PYPY = platform.python_implementation() == "PyPy"
SIZES = {
    "test": 100,
    "quick": 3400 if PYPY else 720,
    "full": 6000 if PYPY else 1250,
}
STEPS = 50

fork = multiprocessing.get_context("fork")


def make(size: int, seed: int) -> int:
    """Return the width of the picture; nothing here is random."""
    return size


def sequential(size: int) -> bytes:
    return bitmap(size, [row(size, y) for y in range(size)])


def ours(size: int) -> bytes:
    return bitmap(size, snakefish.map(lambda y: row(size, y), range(size)))


def with_pool(size: int) -> bytes:
    with fork.Pool() as pool:
        return bitmap(size, pool.map(functools.partial(row, size), range(size), chunksize=8))


def bitmap(size: int, rows: list[bytes]) -> bytes:
    return b"P4\n%d %d\n" % (size, size) + b"".join(rows)


def row(size: int, y: int) -> bytes:
    """Return the pixels of a row, eight to a byte, the first one highest."""
    imaginary = 2.0 * y / size - 1.0
    packed = bytearray()
    for first in range(0, size, 8):
        bits = 0
        for x in range(first, first + 8):
            bits = 2 * bits + (x < size and is_inside(2.0 * x / size - 1.5, imaginary))
        packed.append(bits)
    return bytes(packed)


def is_inside(real: float, imaginary: float) -> bool:
    """Whether z*z + c, repeated, is still near after STEPS."""
    x = y = 0.0
    for _ in range(STEPS):
        x, y = x * x - y * y + real, 2.0 * x * y + imaginary
        if x * x + y * y > 4.0:
            return False
    return True
