# SPDX-License-Identifier: MIT
"""Merges of numbers: sums and extremes."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from itertools import repeat
from numbers import Rational, Real
from typing import Any, Callable

from snakefish.merges import _arrays, _elsewhere
from snakefish.merges._merge import NOTHING, Merge, Undo


class Add(Merge):
    """`+=` and `-=` on int, Fraction, Decimal, timedelta, and on arrays of integers.

    Commits in any order give the same, and replay holds; for Decimals as far as the
    precision of the context goes, which is that of the parent where they are added.
    Everything is O(1). An array, of array.array or numpy, is added to element by element,
    with whatever a task does to its own; each task copies it, and brings back a whole
    one if it changed anything.

    >>> from snakefish import merges
    >>> merges.add.diff(merges.add.capture(10), 13)
    3
    >>> merges.add.apply(20, 3, [])
    23
    """

    in_order = False
    from_zero = True

    def refusal(self, value: object) -> str:
        """Return why *value* cannot be added to."""
        if _arrays.is_array(value):
            return _arrays.refusal(value, "add")
        if isinstance(value, float):
            return "a float loses what it rounds away: use total"
        if isinstance(value, bool):
            return "a bool is assigned, not added to: use once"
        if isinstance(value, (Rational, *_elsewhere.numbers())):
            return ""
        known = "int, Fraction, Decimal, timedelta and arrays of integers"
        return f"it is for {known}, not {type(value).__name__}"

    def capture(self, base: Any) -> Any:
        """Return the value itself, which cannot change, or a copy of an array."""
        return _arrays.copy(base) if _arrays.is_array(base) else base

    def diff(self, token: Any, mine: Any) -> Any:
        """Return the difference.

        Raises:
            TypeError: The task left something that cannot be added.
            ValueError: It left an array of another shape.
        """
        if mine is token:
            return None
        refusal = self.refusal(mine)
        if refusal:
            raise TypeError(f"the task left a {type(mine).__name__}: {refusal}")
        if not _arrays.is_array(token):
            return (mine - token) or None
        _arrays.require_alike(token, mine)
        delta = _arrays.difference(mine, token)
        return delta if _arrays.has_other_than_zeros(delta) else None

    def apply(self, current: Any, delta: Any, undo: Undo) -> Any:
        """Return the sum; an array is added to in place."""
        if _arrays.is_array(current):
            return _arrays.add_in_place(current, delta, undo)
        return current + delta

    def zero(self, like: Any) -> Any:
        """Return 0 of the same type, or an array of zeros."""
        return _arrays.zeros(like) if _arrays.is_array(like) else type(like)()

    def mutated(self, tokens: Sequence[Any], values: Iterable[Any]) -> Iterable[bool]:
        """Say that a number is changed by being replaced and by nothing else, unlike an array."""
        has_arrays = any(map(_arrays.is_array, dict(zip(map(type, tokens), tokens)).values()))
        return map(_arrays.is_array, tokens) if has_arrays else repeat(False)


class Total(Merge):
    """`+=` and `-=` on a float: the task starts from 0.0, and the parent adds exactly.

    A task sees what it added itself, not what was there before. That is what keeps the
    digits: the difference of two large floats has lost them. All deltas of a call are
    added by `math.fsum`, so the order of commits does not matter and the result is the
    exact sum, rounded once; replay holds to rounding, this sum being the better one.
    Everything is O(1). In an array, of array.array or numpy, a task starts from zeros, and
    whatever it puts there is added element by element, rounded each time.

    >>> from snakefish import merges
    >>> merges.total.settle(1e16, [0.5, 0.5, 0.5, 0.5])
    1.0000000000000002e+16
    """

    in_order = False
    in_mapping = False

    def refusal(self, value: object) -> str:
        """Return why *value* is no float, nor an array of numbers."""
        if _arrays.is_array(value):
            return _arrays.refusal(value, "total")
        if isinstance(value, Real) and not isinstance(value, bool):
            return ""
        return f"it is for float and arrays of numbers, not {type(value).__name__}"

    def view(self, base: Any) -> Any:
        """Return 0.0, or an array of zeros."""
        return _arrays.zeros(base) if _arrays.is_array(base) else 0.0

    def capture(self, base: Any) -> Any:
        """Return None: the task knows nothing of the base."""
        return None

    def diff(self, token: Any, mine: Any) -> Any:
        """Return what the task has added up.

        Raises:
            TypeError: The task left something else than numbers.
        """
        refusal = self.refusal(mine)
        if refusal:
            raise TypeError(f"the task left a {type(mine).__name__}: {refusal}")
        if _arrays.is_array(mine):
            return mine if _arrays.has_other_than_zeros(mine) else None
        return mine or None

    def apply(self, current: Any, delta: Any, undo: Undo) -> Any:
        """Return the sum, rounded; an array is added to in place."""
        if _arrays.is_array(current):
            return _arrays.add_in_place(current, delta, undo)
        return current + delta

    def settle(self, before: Any, deltas: list[Any]) -> Any:
        """Return the exact sum, rounded once; that of arrays is not."""
        if _arrays.is_array(before):
            return NotImplemented
        try:
            return math.fsum([before, *deltas])
        except (OverflowError, ValueError):  # beyond the largest float, or inf - inf
            return sum(deltas, before)


class _Extreme(Merge):
    """What minimum and maximum have in common: the better of two stays."""

    in_order = False
    _beats: Callable[[Any, Any], bool]

    def capture(self, base: Any) -> Any:
        """Return the value itself."""
        return base

    def diff(self, token: Any, mine: Any) -> Any:
        """Return the task's value, if it is better.

        Raises:
            ValueError: It is worse than what was there.
        """
        if mine is token:
            return None
        if mine is not None:
            if token is None or token is NOTHING or self._beats(mine, token):
                return mine
            if mine == token:
                return None
        raise ValueError(f"the task left {mine!r} after {token!r}, which is no {self.name()}")

    def apply(self, current: Any, delta: Any, undo: Undo) -> Any:
        """Return the better of the two; of equals the one that was first."""
        if current is None or current is NOTHING or self._beats(delta, current):
            return delta
        return current

    def zero(self, like: Any) -> Any:
        """Return what everything is better than."""
        return None if like is None else NOTHING

    def mutated(self, tokens: Sequence[Any], values: Iterable[Any]) -> Iterable[bool]:
        """Say that extremes are replaced, not changed."""
        return repeat(False)


class Minimum(_Extreme):
    """`x = min(x, v)` on whatever can be ordered by `<`; None stands for no value yet.

    The variable is to be assigned: a mutable value changed in place is not seen.
    Commits in any order give the same, and replay holds. Everything is O(1).

    >>> from snakefish import merges
    >>> merges.minimum.apply(3, merges.minimum.diff(5, 1), [])
    1
    """

    _beats = staticmethod(operator.lt)


class Maximum(_Extreme):
    """`x = max(x, v)`, as `minimum`; tuples make it an argmax.

    >>> from snakefish import merges
    >>> merges.maximum.apply((3, "c"), merges.maximum.diff(None, (7, "a")), [])
    (7, 'a')
    """

    _beats = staticmethod(operator.gt)
