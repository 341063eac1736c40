# SPDX-License-Identifier: MIT
"""Arrays whose written pages are known: `struct sf_pages` for Python.

    memory     the C object, found by its address, whatever view of it is shared
    image      the C object that `merges.disjoint` remembers the array by

The merge knows nothing of this: it asks `makers` for an image of the bytes in its hands, and
what lies in one of these memories gets one of these images. All else is copied.
"""

from __future__ import annotations

import math
import mmap
import operator
import struct
import sys
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from snakefish._errors import OutOfMemoryError
from snakefish._native import ffi, lib
from snakefish.merges._images import Image, Run, makers

_LETTERS = frozenset("cbB?hHiIlLqQnNfd")
"""The formats that a memoryview can read and write."""

_RUNS = 1024
"""So many are asked for at a time."""


def array(shape: int | Iterable[int], dtype: Any = "d") -> Any:
    """Return an array of zeros, to be shared by `merges.disjoint` however large it is.

    *shape* is the number of elements, or several for several dimensions. *dtype* is a
    letter that `array.array` has (or "?" or "c"), and the array is a memoryview; or
    anything else that `numpy.dtype` takes, such as "float64", and it is one of numpy.

    It is an ordinary array: each child has a copy of its own. But the kernel knows which
    pages a child wrote to, so that sharing it, which is what its name alone in `share=`
    means, costs what was written, and not what there is.

    >>> import snakefish
    >>> squares = snakefish.array(6, "q")
    >>> def fill(i):
    ...     squares[i] = i * i
    >>> done = snakefish.map(fill, range(6), share="squares")
    >>> squares.tolist()
    [0, 1, 4, 9, 16, 25]

    Its memory lasts as long as any view of it, costs one descriptor, and is never moved.
    What was written before a call is moved aside when the call begins, once; while other
    Python threads run, or processes from before that still have the array, it is copied
    for each call instead. A thread of a C library must not write to the array, of its
    own accord, while a call begins. PyPy 7.3 never frees a memoryview that numpy has looked
    into, nor the memory then.

    Where the kernel does not tell (see proc_pid_pagemap(5) and pagemap.rst in its
    documentation), or no descriptor is left, the array is memory like any other: copied
    and compared, slower, with the same results. So is, on PyPy, a slice of a memoryview.

    Raises:
        TypeError: *shape* or *dtype* is none, or *dtype* has references to objects.
        ValueError: A dimension is negative, or that of a memoryview of several is 0.
        ImportError: *dtype* is for numpy, which is not installed.
        OutOfMemoryError: There is no address space for it.
    """
    lengths = _lengths(shape)
    if isinstance(dtype, str) and dtype in _LETTERS:
        return _memoryview(lengths, dtype)
    return _array_of_numpy(lengths, dtype)


def _lengths(shape: int | Iterable[int]) -> tuple[int, ...]:
    lengths = tuple(map(operator.index, shape if isinstance(shape, Iterable) else (shape,)))
    if any(length < 0 for length in lengths):
        raise ValueError(f"an array has no negative dimension: {lengths}")
    return lengths


def _memoryview(lengths: tuple[int, ...], letter: str) -> Any:
    if len(lengths) != 1 and 0 in lengths:
        raise ValueError(f"a memoryview of several dimensions has none of 0: {lengths}")
    view: Any = memoryview(_memory(math.prod(lengths) * struct.calcsize(letter))).cast("B")
    return view.cast(letter, lengths) if len(lengths) != 1 else view.cast(letter)


def _array_of_numpy(lengths: tuple[int, ...], dtype: Any) -> Any:
    import numpy

    kind = numpy.dtype(dtype)
    if kind.hasobject:
        raise TypeError(f"an array of {kind} has references to objects, which cannot be shared")
    return numpy.ndarray(lengths, kind, _memory(math.prod(lengths) * kind.itemsize))


# ----------------------------------------------------------------- the memory


class _Memory:
    """Memory that knows which of its pages were written."""

    __slots__ = ("__weakref__", "address", "handle", "size")

    def __init__(self, handle: Any, address: int, size: int) -> None:
        self.handle = ffi.gc(handle, lib.sf_pages_destroy, size)
        self.address = address
        self.size = size


_memories: WeakValueDictionary[int, _Memory] = WeakValueDictionary()
"""By address."""

_owners: WeakKeyDictionary[Any, _Memory] = WeakKeyDictionary()
"""By the pointer to the data, which all views of it keep alive."""


def _memory(size: int) -> Any:
    """Return an object whose buffer has so many bytes, all zeros."""
    made = ffi.new("struct sf_pages **")
    if size == 0:
        return bytearray()
    if size > sys.maxsize or lib.sf_pages_create(size, made):
        return _ordinary_memory(size)
    pointer = lib.sf_pages_data(made[0])
    address = int(ffi.cast("uintptr_t", pointer))
    _owners[pointer] = _memories[address] = _Memory(made[0], address, size)
    if _image_of not in makers:
        makers.append(_image_of)
    return ffi.buffer(pointer, size)


def _ordinary_memory(size: int) -> Any:
    try:
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError, MemoryError) as error:
        raise OutOfMemoryError(f"no memory for an array of {size} bytes") from error


# ------------------------------------------------------------------ the images


class _PagesImage(Image):
    """What a part of such memory was."""

    def __init__(self, memory: _Memory, handle: Any, start: int, size: int) -> None:
        self.size = size
        self._memory = memory
        self._start = start
        self._handle = ffi.gc(handle, lib.sf_image_destroy, size)
        self._was: Any = ffi.buffer(ffi.cast("char *", lib.sf_image_data(handle)) + start, size)

    def __deepcopy__(self, _memo: object) -> _PagesImage:
        return self

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes from *start* to *end*."""
        data: bytes = self._was[start:end]
        return data

    def runs(self, now: memoryview, size: int) -> list[Run]:
        """Return what *now* has where it differs; fast if it is the memory of the image."""
        begin = self._memory.address + self._start
        if now.nbytes != self.size or _address(now) != begin:
            return super().runs(now, size)
        data = ffi.buffer(ffi.cast("char *", begin), self.size)
        runs: list[Run] = []
        for start, end in self._changes(size):
            runs.append((start // size, data[start:end]))
        return runs

    def _changes(self, size: int) -> Iterable[tuple[int, int]]:
        """Yield the bounds of runs of elements that changed."""
        bounds = ffi.new("size_t[]", 2 * _RUNS)
        at, end = self._start, self._start + self.size
        found = _RUNS
        while found == _RUNS:
            found = lib.sf_image_changes(self._handle, at, end, size, bounds, _RUNS)
            for number in range(0, 2 * found, 2):
                at = bounds[number + 1]
                yield bounds[number] - self._start, at - self._start

    def release(self) -> None:
        """Destroy it, so that its memory can be settled."""
        self._was = None
        ffi.release(self._handle)


def _image_of(now: memoryview) -> Image | None:
    """Return an image of what lies in one of the memories; None for all else."""
    found = _memory_of(now)
    if found is None:
        return None
    memory, start = found
    if len(sys._current_frames()) == 1:  # another thread could be writing to it
        lib.sf_pages_settle(memory.handle)  # where that is not possible, images cost more
    made = ffi.new("struct sf_image **")
    if lib.sf_image_create(memory.handle, made):
        return None
    return _PagesImage(memory, made[0], start, now.nbytes)


def _memory_of(now: memoryview) -> tuple[_Memory, int] | None:
    """Return in which of the memories *now* lies, and where."""
    address = _address(now)
    for memory in list(_memories.values()):
        start = address - memory.address
        if start >= 0 and start + now.nbytes <= memory.size:
            return memory, start
    return None


def _address(view: memoryview) -> int:
    with ffi.from_buffer(view) as pointer:
        return int(ffi.cast("uintptr_t", pointer))
