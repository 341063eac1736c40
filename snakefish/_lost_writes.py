# SPDX-License-Identifier: MIT
"""Notices what a child changed and nobody will see.

A child compares the variables that its function can reach by name, globals and closure,
with what they were at its start: which objects they are, and how long the containers
are. That finds every assignment, by whatever means, and every growth; it does
not find an element that was replaced, an attribute that was set, or a variable of another
module. What it finds is for a warning only: nothing is merged that was not declared.

What is shared is not lost, whatever other names it has. Modules that were installed, those
of Python among them, are left alone: what they keep for themselves is no loss.
"""

from __future__ import annotations

import operator
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from snakefish import merges
from snakefish._errors import LostWriteWarning
from snakefish._place import Namespace, Place, closure_of, namespace_of
from snakefish._warning import warn_user

_LIBRARY = os.path.dirname(os.__file__) + os.sep
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")

_CONTAINERS = (list, dict, set, bytearray, deque)
_UNSET = object()
_MOST_NAMES = 8

# What programs define rather than compute: imports and functions made at first use.
_DEFINITIONS = (ModuleType, FunctionType, type)


class LostWrite(NamedTuple):
    """What a child did for nothing: to a variable, or in a child of its own."""

    name: str
    how: str
    """What became of the variable; an empty string for a child that was not joined."""

    merge: str
    """What would share the variable, as an expression; an empty string if nothing can."""


def abandoned(children: Iterable[str]) -> list[LostWrite]:
    """Return what is lost with *children* that were not joined."""
    return [LostWrite(name, "", "") for name in children]


class Watch:
    """The variables of a function, as they are when it begins."""

    def __init__(self, function: object, caller: Namespace, shared: Sequence[Place]) -> None:
        namespace = namespace_of(function, caller)
        self._namespace = {} if _is_installed(namespace) else namespace
        self._cells = closure_of(function)
        self._shared = shared
        declared = {place.key for place in shared}
        self._declared = {name for owner, name in declared if owner == id(namespace)}
        self._declared |= {n for n, cell in self._cells.items() if (id(cell), n) in declared}

    def prepare(self) -> None:
        """Note in the parent the names alone: to keep values would keep them alive."""
        self._names = tuple(self._namespace)

    def begin(self) -> None:
        """Note in the child what there is."""
        self._values = list(self._namespace.values())
        if len(self._names) != len(self._values):  # another thread came between
            self._names = tuple(self._namespace)
        self._closure = [_content(cell) for cell in self._cells.values()]
        noted = self._values + self._closure if self._closure else self._values
        self._containers = [v for v in noted if issubclass(type(v), _CONTAINERS)]
        self._sizes = _sizes(self._containers)

    def lost(self) -> list[LostWrite]:
        """Return what has changed since, less what is shared."""
        sizes = _sizes(self._containers)
        if sizes == self._sizes and self._is_same():
            return []
        found = {name: LostWrite(name, how, merge) for name, how, merge in self._rebound()}
        grown = {
            id(value): now - before
            for value, now, before in zip(self._containers, sizes, self._sizes)
            if now != before
        }
        for shared in self._shared_objects() if grown else ():
            grown.pop(shared, None)
        for name, value in self._before():
            if id(value) in grown and name not in found and not name.startswith("__"):
                found[name] = LostWrite(name, *_grown(value, grown[id(value)]))
        return [write for name, write in found.items() if name not in self._declared]

    def _is_same(self) -> bool:
        """Return whether nothing was assigned to; it touches as little as it can.

        To look at an object copies its page, since its reference count changes.
        """
        now = self._namespace
        return (
            len(now) == len(self._values)
            and all(map(operator.is_, self._values, now.values()))
            and all(map(operator.is_, self._closure, map(_content, self._cells.values())))
        )

    def _before(self) -> Iterator[tuple[str, Any]]:
        yield from zip(self._names, self._values)
        yield from zip(self._cells, self._closure)

    def _rebound(self) -> Iterator[tuple[str, str, str]]:
        variables = dict(zip(self._names, self._values))
        for name, value in self._namespace.items():
            before = variables.get(name, _UNSET)
            if before is not value and not _is_defined(name, value):
                yield name, *_assigned(before, value)
        for name, cell, before in zip(self._cells, self._cells.values(), self._closure):
            now = _content(cell)
            if now is not before and now is not _UNSET:
                yield name, *_assigned(before, now)

    def _shared_objects(self) -> set[int]:
        """Return the identities of what comes back, whatever the task calls it."""
        found = set()
        for place in self._shared:
            try:
                found.add(id(place.get()))
            except (NameError, KeyError, AttributeError):  # the task deleted it
                pass
        return found


def _is_installed(namespace: Namespace) -> bool:
    file = str(namespace.get("__file__"))
    return file.startswith(_LIBRARY) or any(place in file for place in _INSTALLED)


def _is_defined(name: str, value: object) -> bool:
    return name.startswith("__") or issubclass(type(value), _DEFINITIONS)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it has no value yet
        return _UNSET


def _sizes(containers: list[Any]) -> list[int]:
    try:
        return list(map(len, containers))
    except Exception:  # of a subclass, in its own way
        return list(map(_size, containers))


def _size(value: Any) -> int:
    try:
        return len(value)
    except Exception:
        return 0


# ------------------------------------------------------------- what to suggest


def _grown(value: object, by: int) -> tuple[str, str]:
    if by < 0:
        return f"shrank by {-by}", repr(merges.once)  # the others are for what grows
    return f"grew by {by}", _suggestion(value, value)


def _assigned(before: object, now: object) -> tuple[str, str]:
    if before is _UNSET:
        return "is new", ""  # what is not there before the call cannot be shared
    return "was assigned to", _suggestion(before, now)


def _suggestion(before: object, now: object) -> str:
    """Return the merge that suits the value that there was and the one that there is."""
    try:
        merge = merges.proposal_for(now)
        return repr(merges.once if merge.refusal(before) else merge)
    except Exception:  # user code: the factory of a defaultdict
        return repr(merges.once)


# ----------------------------------------------------------------- the warning


def warn_of(call: str, lost: Sequence[LostWrite]) -> None:
    """Warn once about all that the children of a *call* did for nothing."""
    first = {write.name: write for write in reversed(lost)}
    variables = [write for _, write in sorted(first.items()) if write.how]
    children = [write.name for _, write in sorted(first.items()) if not write.how]
    sentences = []
    if variables:
        sentences.append(_about_variables(call, variables))
    if children:
        sentences.append(_about_children(call, children))
    if sentences:
        warn_user(". ".join(sentences), LostWriteWarning)


def _about_variables(call: str, writes: Sequence[LostWrite]) -> str:
    changed = ", ".join(f"{write.name} ({write.how})" for write in writes)
    share = ", ".join(f"{write.name!r}: {write.merge}" for write in writes if write.merge)
    what = f"{call} changed variables in a child process, and the changes are lost: {changed}"
    if not share:
        return f"{what}. To have them back, give them a value before the call, and share them"
    return f"{what}. To have them back, share={{{share}}}; to do without, give them merges.private"


def _about_children(call: str, names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    who = ", ".join(names[:_MOST_NAMES]) + more
    return f"{call} ended without joining children of its own, and what they did is lost: {who}"
