# SPDX-License-Identifier: MIT
"""Sums of arrays, element by element: what add and total do with array.array and numpy's arrays.

Integers wrap around as the arrays do, so differences are exact whatever their size.
"""

from __future__ import annotations

import operator
import sys
from array import array
from collections.abc import Callable
from typing import Any

from snakefish.merges._merge import Undo

_KINDS = {"add": "ium", "total": "iufcm"}
_FLOATS = "fd"
_TEXT = "uw"


def is_array(value: object) -> bool:
    """Return whether *value* has elements that could be added."""
    return isinstance(value, array) or is_numpy(value)


def is_numpy(value: object) -> bool:
    """Return whether it is an array of numpy, which in that case somebody has imported."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def refusal(value: Any, merge: str) -> str:
    """Return why *merge*, "add" or "total", cannot sum such arrays; an empty string if it can."""
    if is_numpy(value):
        kind, known = value.dtype.kind, _KINDS[merge]
    else:
        kind = "f" if value.typecode in _FLOATS else "U" if value.typecode in _TEXT else "i"
        known = _KINDS[merge]
    if kind in known:
        return ""
    if kind in _KINDS["total"]:
        return "floats lose what they round away: use total"
    return f"the elements of such an array cannot be added: {_layout(value)[1]}"


def copy(value: Any) -> Any:
    """Return another array with the same elements."""
    return value.copy() if is_numpy(value) else value[:]


def zeros(like: Any) -> Any:
    """Return an array of the same layout, of zeros."""
    if is_numpy(like):
        return sys.modules["numpy"].zeros_like(like)
    return array(like.typecode, bytes(len(like) * like.itemsize))


def has_other_than_zeros(value: Any) -> bool:
    """Return whether an element is not zero; a NaN is not."""
    return bool(value.astype(bool).any()) if is_numpy(value) else any(value)


def require_alike(one: Any, other: Any) -> None:
    """Check that the arrays can be added without changing what they are.

    Raises:
        TypeError: One is no array, or one of another kind.
        ValueError: One is longer, or of another shape.
    """
    if _layout(one)[:2] != _layout(other)[:2]:
        raise TypeError(f"{_shown(other)} where {_shown(one)} was")
    if _layout(one) != _layout(other):
        raise ValueError(f"{_shown(other)} where {_shown(one)} was")


def _layout(value: Any) -> tuple[str, str, Any]:
    if not is_array(value):
        return type(value).__name__, "", None
    if is_numpy(value):
        return "ndarray", str(value.dtype), value.shape
    return "array", value.typecode, len(value)


def _shown(value: Any) -> str:
    name, kind, shape = _layout(value)
    return f"a {name} of {shape} {kind}" if kind else f"a {name}"


def difference(one: Any, other: Any) -> Any:
    """Return one - other."""
    return one - other if is_numpy(one) else _each(operator.sub, one, other)


def add_in_place(current: Any, delta: Any, undo: Undo) -> Any:
    """Return *current* with *delta* added to its elements."""
    require_alike(current, delta)
    before = copy(current)
    undo.append(lambda: _assign(current, before))
    if is_numpy(current):
        current += delta
    else:
        _assign(current, _each(operator.add, current, delta))
    return current


def _assign(target: Any, elements: Any) -> None:
    target[... if is_numpy(target) else slice(None)] = elements


def _each(operation: Callable[[Any, Any], Any], one: Any, other: Any) -> Any:
    """Return the array of *operation* on pairs of elements, which wrap around."""
    results = map(operation, one, other)
    if one.typecode in _FLOATS:
        return array(one.typecode, results)
    bits = 8 * one.itemsize
    least = -1 << (bits - 1) if one.typecode.islower() else 0
    return array(one.typecode, [(result - least) % (1 << bits) + least for result in results])
