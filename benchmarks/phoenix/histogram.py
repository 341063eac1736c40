# SPDX-License-Identifier: MIT
"""Histogram: how often each brightness occurs in each channel of a bitmap, by `count`.

The bitmap is a file of 24 bits a pixel as Windows writes it: a header that says where the pixels
begin, rows padded to multiples of four bytes, and blue before green before red.
"""

from __future__ import annotations

import multiprocessing
import platform
import random
import struct
from collections import Counter

import snakefish

from .pieces import pieces

PYPY = platform.python_implementation() == "PyPy"
SIZES = {
    "test": 50,
    "quick": 5900 if PYPY else 3600,
    "full": 10_000 if PYPY else 6000,
}
HEADER = struct.Struct("<2sIHHIIiiHHIIiiII")
BRIGHTNESS = bytes(round(255 * (value / 255) ** 1.8) for value in range(256))

bitmap = b""
first = width = height = stride = 0
blue: Counter[int] = Counter()
green: Counter[int] = Counter()
red: Counter[int] = Counter()

fork = multiprocessing.get_context("fork")


def make(size: int, seed: int) -> bytes:
    """Return a bitmap of *size* + 1 by *size* pixels."""
    columns, data = size + 1, -(-3 * (size + 1) // 4) * 4 * size
    begins = HEADER.size
    info = (40, columns, size, 1, 24, 0, data, 2835, 2835, 0, 0)
    header = HEADER.pack(b"BM", begins + data, 0, 0, begins, *info)
    return header + random.Random(seed).randbytes(data).translate(BRIGHTNESS)


def begin(image: bytes) -> None:
    global bitmap, first, width, height, stride, blue, green, red
    bitmap = image
    first, _, width, height = HEADER.unpack_from(bitmap)[4:8]
    stride = -(-3 * width // 4) * 4
    blue, green, red = Counter(), Counter(), Counter()


def tally(row: int) -> None:
    start = first + row * stride
    pixels = bitmap[start : start + 3 * width]
    blue.update(pixels[0::3])
    green.update(pixels[1::3])
    red.update(pixels[2::3])


def sequential(image: bytes) -> list[Counter[int]]:
    begin(image)
    for row in range(height):
        tally(row)
    return [blue, green, red]


def ours(image: bytes, concurrency: int = 0, chunksize: int = 0) -> list[Counter[int]]:
    begin(image)
    snakefish.map(tally, range(height), concurrency, chunksize, share="blue green red")
    return [blue, green, red]


def with_pool(image: bytes, processes: int | None = None) -> list[Counter[int]]:
    begin(image)
    channels = [blue, green, red]
    with fork.Pool(processes) as pool:
        for part in pool.imap_unordered(tallied, pieces(height, processes)):
            for channel, counts in zip(channels, part):
                channel.update(counts)
    return channels


def tallied(rows: range) -> list[Counter[int]]:
    begin(bitmap)
    for row in rows:
        tally(row)
    return [blue, green, red]
