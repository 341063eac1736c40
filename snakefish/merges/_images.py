# SPDX-License-Identifier: MIT
"""What a buffer was, and what is different now.

An image is a copy, unless whoever made the memory can do better: `makers` are asked first.
With a copy, what is different is found block by block, which is a slice and a memcmp each.
Only in blocks that differ is looked for the elements: where the exclusive or of both, as
two long integers, is not zero. PyPy compares machine numbers faster than it does that.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterator
from typing import Any, Callable

from snakefish._native import ffi

BLOCK = 1 << 16
"""So many bytes are compared at a time: few calls, and they stay in the cache."""

# Machine numbers of so many bytes.
_CELLS = {1: "int8_t[]", 2: "int16_t[]", 4: "int32_t[]", 8: "int64_t[]"}
_PYPY = sys.implementation.name == "pypy"

Run = tuple[int, bytes]
"""The number of an element, and the bytes of all elements from there on that changed."""


class Image:
    """The bytes of a buffer, in the order of its memory, as they were."""

    size: int

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes from *start* to *end*."""
        raise NotImplementedError

    def runs(self, now: memoryview, size: int) -> list[Run]:
        """Return what *now*, of one dimension, has where elements of *size* bytes differ."""
        runs: list[Run] = []
        step = max(1, BLOCK // size) * size
        for start in range(0, self.size, step):
            before, after = self.read(start, start + step), read(now, start, start + step)
            if before != after:
                runs += _runs_in_block(before, after, start // size, size)
        return runs

    def release(self) -> None:
        """Let go of it: it is not needed any more."""


class Copy(Image):
    """An image that is a copy."""

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self._data = data

    def read(self, start: int, end: int) -> bytes:
        """Return a slice of the copy."""
        return self._data[start:end]


makers: list[Callable[[memoryview], Image | None]] = []
"""Functions that return an image of a buffer, given as bytes, if they have a better one."""


def image_of(now: memoryview) -> Image:
    """Return the image of a buffer, given as bytes."""
    for make in makers:
        image = make(now)
        if image is not None:
            return image
    return Copy(now.tobytes())


def read(view: memoryview, start: int, end: int) -> bytes:
    """Return bytes of a view of one dimension, whatever its format."""
    unit = view.itemsize
    return view[start // unit : end // unit].tobytes()


def _runs_in_block(was: bytes, now: bytes, first: int, size: int) -> Iterator[Run]:
    changes = _changes_of_cells if _PYPY and size in _CELLS else _changes_of_bytes
    for start, end in changes(was, now, size):
        yield first + start, now[start * size : end * size]


def _changes_of_cells(was: bytes, now: bytes, size: int) -> list[tuple[int, int]]:
    """Return the numbers of the elements where changes begin and end.

    PyPy would keep what it made to give C the address of bytes: that is copied, and let go of.
    """
    kind, count = _CELLS[size], len(now) // size
    with ffi.new(kind, count) as before, ffi.new(kind, count) as after:
        ffi.memmove(before, was, len(was))
        ffi.memmove(after, now, len(now))
        return _bounds(before, after, count)


def _bounds(was: Any, now: Any, count: int) -> list[tuple[int, int]]:
    found, at = [], 0
    while at < count:
        while at < count and was[at] == now[at]:
            at += 1
        start = at
        while at < count and was[at] != now[at]:
            at += 1
        if start < at:
            found.append((start, at))
    return found


def _changes_of_bytes(was: bytes, now: bytes, size: int) -> Iterator[tuple[int, int]]:
    """Yield the numbers of the elements where changes begin and end."""
    difference = int.from_bytes(was, "little") ^ int.from_bytes(now, "little")
    for run in _changed(size).finditer(difference.to_bytes(len(was), "little")):
        start, end = run.span(1)
        if start < end:
            yield start // size, end // size


@functools.cache
def _changed(size: int) -> re.Pattern[bytes]:
    """Return what matches elements that are all zeros, and then, as group 1, others."""
    zero = rb"\0{%d}" % size
    return re.compile(rb"(?:%b)*((?:(?!%b).{%d})*)" % (zero, zero, size), re.DOTALL)
