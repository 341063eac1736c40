# SPDX-License-Identifier: MIT
"""The merge of buffers whose elements have one writer each."""

from __future__ import annotations

import contextlib
import copy
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from snakefish.merges._arrays import is_numpy
from snakefish.merges._images import Copy, Image, image_of, read
from snakefish.merges._merge import Clash, Merge, Undo


class _Layout(NamedTuple):
    """What the bytes of a buffer mean."""

    format: Any
    """That of its elements: the dtype of a numpy array, else a letter of struct."""

    shape: tuple[int, ...]
    size: int
    """Bytes an element."""

    column_first: bool

    def position(self, number: int) -> Any:
        """Return what the user calls the element with a number in the order of the memory."""
        if len(self.shape) == 1:
            return number
        index = []
        for length in self.shape if self.column_first else self.shape[::-1]:
            number, rest = divmod(number, length)
            index.append(rest)
        return tuple(index if self.column_first else index[::-1])

    def number(self, position: Any) -> int:
        """Return the number of the element at a *position*."""
        if len(self.shape) == 1:
            return int(position)
        number = 0
        pairs = list(zip(self.shape, position))
        for length, index in reversed(pairs) if self.column_first else pairs:
            number = number * length + index
        return number

    def element(self, data: bytes) -> Any:
        """Return the element that has these bytes."""
        if not isinstance(self.format, str):
            return sys.modules["numpy"].frombuffer(data, self.format)[0]
        return memoryview(data).cast(self.format)[0]  # type: ignore[call-overload]

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.shape))} elements of {self.format}"


class _Token(NamedTuple):
    """What a buffer was."""

    layout: _Layout
    image: Image


class _Runs(list[tuple[int, bytes]]):
    """What was written: numbers of first elements, and the bytes from there on."""

    layout: _Layout

    def holds(self, position: Any) -> bool:
        """Return whether the element at a *position* is among them."""
        number, size = self.layout.number(position), self.layout.size
        return any(first <= number < first + len(data) // size for first, data in self)


class Disjoint(Merge):
    """Writes to different elements of a buffer: bytearray, array.array, memoryview, numpy arrays.

    Two writers of one element are a conflict, even if they write the same; so is an
    element that the parent wrote meanwhile. An element counts as written if its bytes
    are others than before: NaN is equal to itself, -0.0 is not 0.0, and storing what
    is there already is no write. Commits in any order give the same, and replay holds.

    The buffer is copied once for all tasks of a call, each task compares its own with
    the copy (4 ms for 8 MB that did not change, 50 if all did; PyPy: 5 and 10), and
    only the changed elements travel. One that `snakefish.array` made is neither copied nor
    compared but where it was written to. Its size, shape and type must stay. Memory that
    is shared between processes anyway needs no merge, and would conflict with itself.

    >>> from array import array
    >>> from snakefish import merges
    >>> row = array("d", [0.0] * 6)
    >>> token = merges.disjoint.capture(row)
    >>> row[2] = row[3] = 1.5
    >>> delta = merges.disjoint.diff(token, row)
    >>> [first for first, elements in delta]
    [2]
    >>> list(merges.disjoint.clashes(token, array("d", [0, 0, 9, 0, 0, 0]), delta))
    [Clash(key=2, current=9.0, theirs=1.5)]
    """

    early = True
    in_order = False

    def refusal(self, value: object) -> str:
        """Return why the elements of *value* cannot be written one by one."""
        try:
            _bytes_of(value).release()
        except TypeError as error:
            return str(error)
        return ""

    def capture(self, base: Any) -> _Token:
        """Return an image, which is a copy except for what `snakefish.array` made."""
        with _bytes_of(base) as view:
            return _Token(_layout(base), image_of(view))

    def diff(self, token: _Token, mine: Any) -> Any:
        """Return what was written, as runs: the number of the first element, and their bytes.

        Raises:
            TypeError: The task left something that is no buffer.
            ValueError: The task left a buffer of another size, shape or type.
        """
        self._require(token, mine, "the task left")
        with _readable(mine) as view:
            runs = _Runs(token.image.runs(view, token.layout.size))
        runs.layout = token.layout
        return runs or None

    def clashes(self, token: _Token, current: Any, delta: Any) -> Iterator[Clash]:
        """Yield the elements that others have written too.

        Raises:
            ValueError: The buffer has another size, shape or type now.
        """
        self._require(token, current, "the parent made it")
        layout, image = token
        size = layout.size
        for first, theirs in delta:
            start = first * size
            with _readable(current) as view:
                now = read(view, start, start + len(theirs))
            was = image.read(start, start + len(theirs))
            for written, elements in Copy(was).runs(memoryview(now), size) if was != now else ():
                begin, end = written * size, written * size + len(elements)
                for at in range(begin, end, size):
                    values = (layout.element(data[at : at + size]) for data in (now, theirs))
                    yield Clash(layout.position(first + at // size), *values)

    def touches(self, delta: Any, key: Any) -> bool:
        """Return whether *delta* writes to an element."""
        return key is None or delta.holds(key)

    def apply(self, current: Any, delta: Any, undo: Undo) -> Any:
        """Return the buffer, written to in place."""
        size = _layout(current).size
        old: list[tuple[int, bytes]] = []
        undo.append(lambda: _write(current, old, size))
        with _readable(current) as view:
            for first, elements in delta:
                start = first * size
                old.append((first, read(view, start, start + len(elements))))
        _write(current, delta, size)
        return current

    def zero(self, like: Any) -> Any:
        """Return a buffer of zeros with the same layout."""
        empty = copy.copy(like)
        with _bytes_of(empty) as view:
            view[:] = bytes(len(view))
        return empty

    def release(self, token: _Token) -> None:
        """Let go of the image."""
        token.image.release()

    def _require(self, token: _Token, value: Any, who: str) -> None:
        refusal = self.refusal(value)
        if refusal:
            raise TypeError(f"{who} a {type(value).__name__}: {refusal}")
        now = _layout(value)
        if now != token.layout:
            raise ValueError(f"{who} a buffer of {now}; it had {token.layout}")


def _layout(value: Any) -> _Layout:
    if is_numpy(value):
        return _Layout(value.dtype, value.shape, value.itemsize, value.flags.fnc)
    with memoryview(value) as view:
        return _Layout(view.format, view.shape or (), view.itemsize, False)


def _bytes_of(value: Any) -> memoryview:
    """Return the memory of *value* as writable bytes.

    Raises:
        TypeError: It has none of a kind that could be compared.
    """
    if is_numpy(value):
        value = _bytes_of_numpy(value)
    try:
        view = memoryview(value)
    except TypeError:
        raise TypeError(f"it is for buffers, not {type(value).__name__}") from None
    if view.readonly:
        raise TypeError(f"a {type(value).__name__} that is read-only has no writers")
    if not view.c_contiguous:
        raise TypeError("it is for contiguous buffers: share the one that this is a part of")
    if 0 in (view.shape or ()):
        return memoryview(bytearray())
    try:
        return view.cast("B")
    except ValueError:
        raise TypeError(f"it is not for elements of format {view.format!r}") from None


def _readable(value: Any) -> memoryview:
    """Return a view of one dimension, in units that are an element or a part of one.

    Not cast where that can be avoided, even by taking what was cast: PyPy reads slices
    of a cast view byte by byte.
    """
    view = memoryview(_bytes_of_numpy(value) if is_numpy(value) else value)
    with contextlib.suppress(TypeError):  # it is gone
        whole = memoryview(view.obj)
        is_plain = whole.ndim == 1 and whole.c_contiguous and view.itemsize % whole.itemsize == 0
        if is_plain and whole.nbytes == view.nbytes:
            return whole
    return view if view.ndim == 1 or not view.nbytes else view.cast("B")


def _bytes_of_numpy(value: Any) -> Any:
    """Return a view of any array, whatever its shape, as an array of bytes."""
    if value.dtype.hasobject:
        raise TypeError("it is not for arrays of objects")
    if not value.flags.forc:
        raise TypeError("it is for contiguous arrays: share the one that this is a part of")
    plain = sys.modules["numpy"].asarray(value)
    return plain.reshape(-1, order="A").view("u1")


def _write(target: Any, runs: list[tuple[int, bytes]], size: int) -> None:
    with _bytes_of(target) as view:
        for first, elements in runs:
            start = first * size
            view[start : start + len(elements)] = elements
