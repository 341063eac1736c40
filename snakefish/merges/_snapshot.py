# SPDX-License-Identifier: MIT
"""Whether a value is still what it was, and how its contents are put back.

What cannot change is compared with itself. Of all else the pickle is kept, made
once by the parent: whatever of a value could reach another process is in it, so that
a change in place shows, at any depth. Equal pickles mean an equal value; of different ones
`==` has the last word, since the same set can be pickled in two ways.
"""

from __future__ import annotations

import copyreg
import enum
import pickle
from array import array
from collections import deque
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, NamedTuple

from snakefish.merges import _elsewhere
from snakefish.merges._merge import Nothing, Undo

_UNCHANGING = frozenset(
    {
        type(None), type(Ellipsis), type(NotImplemented), type, Nothing,
        bool, int, float, complex, str, bytes, range,
        FunctionType, BuiltinFunctionType, ModuleType,
    }
)  # fmt: skip

_IMMUTABLE = (*_UNCHANGING, enum.Enum, tuple, frozenset)

_UNPICKLABLE = (pickle.PicklingError, TypeError, AttributeError, ValueError, RecursionError)


class Snapshot(NamedTuple):
    """A value, and its pickle if it could change."""

    value: Any
    pickled: bytes | None

    def differs(self, now: Any) -> bool:
        """Return whether *now* is something else than what the value was.

        Raises:
            TypeError: It cannot be pickled.
        """
        if self.pickled is None:
            return not same(self.value, now)
        if not cannot_change(now) and pickled(now) == self.pickled:
            return False
        return not equal(self.restored(), now)

    def restored(self) -> Any:
        """Return what the value was."""
        return self.value if self.pickled is None else pickle.loads(self.pickled)


def snapshot(value: Any) -> Snapshot:
    """Return what tells later whether *value* has changed.

    Raises:
        TypeError: It cannot be pickled.
    """
    return Snapshot(value, None if cannot_change(value) else pickled(value))


def cannot_change(value: object) -> bool:
    """Return whether *value* is known to stay what it is."""
    kind = type(value)
    return kind in _UNCHANGING or isinstance(value, enum.Enum) or kind in _elsewhere.unchanging()


def is_immutable(value: object) -> bool:
    """Return whether the object is known to stay what it is, whatever becomes of what is inside."""
    return isinstance(value, (*_IMMUTABLE, *_elsewhere.unchanging()))


def pickled(value: object) -> bytes:
    """Return the pickle of *value*.

    Raises:
        TypeError: It has none.
    """
    try:
        return pickle.dumps(value, 5)
    except _UNPICKLABLE as error:
        reason = "it cannot be pickled, so a change of it could not be seen"
        raise TypeError(f"a {type(value).__name__} cannot be shared like this: {reason}") from error


def same(one: Any, other: Any) -> bool:
    """Return whether two values are one, or of one type and equal, or pickled alike."""
    if one is other or equal(one, other):
        return True
    if type(one) is not type(other):
        return False
    try:
        return pickle.dumps(one, 5) == pickle.dumps(other, 5)  # a NaN is not equal to itself
    except _UNPICKLABLE:
        return False


def equal(one: Any, other: Any) -> bool:
    """Return whether two values are of one type and equal."""
    if type(one) is not type(other):
        return False
    try:
        return bool(one == other)
    except ValueError:  # arrays in it have no single answer
        return False


# ------------------------------------------------------------------- contents


class Contents(NamedTuple):
    """What is in a mutable value, shallowly."""

    inside: Any
    attributes: dict[str, Any] | None


def contents(value: Any) -> Contents | None:
    """Return what is in *value*; None if it has nothing in it that could be exchanged."""
    attributes = dict(vars(value)) if hasattr(value, "__dict__") else None
    if isinstance(value, dict):
        return Contents(list(value.items()), attributes)
    if isinstance(value, (list, bytearray, array)):
        return Contents(value[:], attributes)
    if isinstance(value, (set, deque)):
        return Contents(list(value), attributes)
    return Contents(None, attributes) if _is_all_attributes(value) else None


def put_back(value: Any, saved: Contents) -> None:
    """Make *saved* the contents of *value*."""
    if isinstance(value, (list, bytearray, array)):
        value[:] = saved.inside
    elif isinstance(value, dict):
        value.clear()
        for key, item in saved.inside:
            value[key] = item
    elif isinstance(value, set):
        value.clear()
        value.update(saved.inside)
    elif isinstance(value, deque):
        value.clear()
        value.extend(saved.inside)
    if saved.attributes is not None:
        vars(value).clear()
        vars(value).update(saved.attributes)


def note(current: Any, undo: Undo) -> None:
    """Note for *undo* what is in *current*, if it is something that could change in place."""
    saved = contents(current)
    if saved is not None:
        undo.append(lambda: put_back(current, saved))


def renewed(current: Any, new: Any) -> Any:
    """Return *current* with the contents of *new*, or *new* where that cannot be had.

    Whoever calls it has noted the contents of *current*.
    """
    if new is current or type(new) is not type(current) or contents(current) is None:
        return new
    saved = contents(new)
    if saved is not None:
        put_back(current, saved)
    return current


def _is_all_attributes(value: object) -> bool:
    """Return whether pickle, too, sees in *value* attributes and nothing else."""
    if cannot_change(value) or not hasattr(value, "__dict__"):
        return False
    try:
        reduced = value.__reduce_ex__(2)
    except TypeError:
        return False
    if isinstance(reduced, str) or reduced[0] is not copyreg.__newobj__:  # type: ignore[attr-defined]
        return False
    arguments, state, *others = reduced[1:]
    return len(arguments) == 1 and state in (None, vars(value)) and not any(others)
