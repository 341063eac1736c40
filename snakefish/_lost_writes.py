# SPDX-License-Identifier: MIT
"""Notices what a child changed and nobody will see.

A child compares the variables that its function can reach by name, those of its module and
of its closure, with what they were at its start: which objects they are, and how long
those are that are a list, dict, set, bytearray or deque. That finds every assignment, by whatever
means, every new name and every growth. It does not find

    what leaves the length as it was: an element that was replaced, or exchanged
    what is within an element, an attribute, or another container, such as an array
    variables of other modules
    a name that stood for a module, a function or a class, or stands for one now: an import,
    or a function made at first use, is no result
    a name that begins with two underscores, or that was deleted

and where extract and merge bring back what they like, it does not look. What it finds is for a
warning only: nothing is merged that was not declared.

What is shared is not lost, whatever other names it has. Modules that were installed, those
of Python among them, are left alone: what they keep for themselves is no loss.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from operator import is_, itemgetter
from types import FunctionType, ModuleType
from typing import Any, Callable, NamedTuple

from snakefish._errors import LostWriteWarning
from snakefish._place import Namespace, Place, closure_of, namespace_of
from snakefish._warning import warn_user

_LIBRARY = os.path.dirname(os.__file__) + os.sep
_SITE = f"{os.sep}site-packages{os.sep}"
_DIST = f"{os.sep}dist-packages{os.sep}"

_CONTAINERS = (list, dict, set, bytearray, deque)
_UNSET = object()
_MOST_NAMES = 8
_MOST_NAMESPACES = 64
_ONCE = "merges.once"

_PYPY = sys.implementation.name == "pypy"

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


class _Known:
    """The names of a namespace, and those of them that are watched.

    One that stood for a definition when they were looked at is not. They are looked at again
    when their number has changed.
    """

    def __init__(self, namespace: Namespace, shared: frozenset[str]) -> None:
        variables = namespace.copy()
        self.names = tuple(variables)
        self.count = len(self.names)
        self.watched = tuple(
            name
            for name, value in variables.items()
            if name not in shared and not _is_defined(name, value)
        )
        self.read = _reader(self.watched)


_known: dict[tuple[int, int, frozenset[str]], _Known] = {}
"""What is known of each namespace, by its identity, its length and which names are shared.

These prove nothing. But if the names are not those, one is missing, or new; and to look at
the names again at each start costs as much as all the rest.
"""


def _known_of(namespace: Namespace, shared: frozenset[str]) -> _Known:
    """Return what is known of the names of *namespace*, which may be out of date."""
    key = id(namespace), len(namespace), shared
    known = _known.get(key)
    if known is None:
        if len(_known) >= _MOST_NAMESPACES:
            _known.clear()
        known = _known[key] = _Known(namespace, shared)
    return known


def _read(namespace: Namespace, known: _Known) -> tuple[Any, ...] | None:
    """Return the values of what is watched; None if the names are not those that are known."""
    try:
        return known.read(namespace) if len(namespace) == known.count else None
    except KeyError:
        return None


def _reader(names: tuple[str, ...]) -> Callable[[Namespace], tuple[Any, ...]]:
    """Return what gets the values of *names* out of a namespace."""
    if len(names) > 1 and not _PYPY:
        return itemgetter(*names)  # which does not even touch the names
    return lambda namespace: tuple([namespace[name] for name in names])


_NONE: frozenset[str] = frozenset()
_NO_NAMES = _Known({}, _NONE)

# The values of globals and of closure variables; which are containers, and how long.
_Noted = tuple[tuple[Any, ...], tuple[Any, ...], list[Any], list[int]]


class Watch:
    """The variables of a function, as they are when it begins.

    To look at an object changes its reference count, and the first such change after a
    fork copies a page. So as little as possible is looked at: in the parent nothing, in
    the child only what can hold a result. A name that stands for a module, a function or a
    class is taken to be no variable.
    """

    def __init__(self, function: object, caller: Namespace, shared: Sequence[Place]) -> None:
        namespace = namespace_of(function, caller)
        self._namespace = {} if _is_installed(namespace) else namespace
        self._cells = closure_of(function)
        self._shared = shared
        self._shared_names = _NONE
        if shared:
            keys = {place.key for place in shared}
            self._shared_names = frozenset(n for owner, n in keys if owner == id(namespace))
            self._cells = {n: cell for n, cell in self._cells.items() if (id(cell), n) not in keys}
        self._known = _NO_NAMES
        self._noted: _Noted = ((), (), [], [])

    def prepare(self) -> None:
        """Note in the parent the names alone: to keep values would keep them alive."""
        self._known = _known_of(self._namespace, self._shared_names)

    def begin(self) -> None:
        """Note in the child what there is."""
        values = _read(self._namespace, self._known)
        if values is None:
            self._known = _Known(self._namespace, self._shared_names)
            values = self._known.read(self._namespace)
        noted, closure = values, ()
        if self._cells:
            closure = _contents(self._cells)
            noted += closure
        containers = []
        for value in noted:  # a comprehension is a function more, and so a few pages
            if issubclass(type(value), _CONTAINERS):
                containers.append(value)  # noqa: PERF401
        self._noted = values, closure, containers, _sizes(containers)

    def lost(self) -> list[LostWrite]:
        """Return what has changed since, less what is shared."""
        values, closure, containers, sizes = self._noted
        now = _read(self._namespace, self._known)
        if (
            now is not None
            and all(map(is_, values, now))
            and _sizes(containers) == sizes
            and (not self._cells or all(map(is_, closure, _contents(self._cells))))
        ):
            return []
        return self._changed()

    def _changed(self) -> list[LostWrite]:
        found = {}
        growth = self._growth()
        for name, before, now in self._variables():
            if now is not before:
                if not _is_defined(name, now):
                    found[name] = LostWrite(name, *_assigned(before, now))
            elif id(now) in growth and name not in found:
                found[name] = LostWrite(name, *_grown(now, growth[id(now)]))
        return list(found.values())

    def _variables(self) -> Iterator[tuple[str, Any, Any]]:
        """Yield the name of each variable that has a value, what that was, and what it is."""
        values, closure, *_ = self._noted
        before = dict(zip(self._known.watched, values))
        for name in self._namespace.keys() - (set(self._known.names) - before.keys()):
            yield name, before.get(name, _UNSET), self._namespace[name]
        for name, former, now in zip(self._cells, closure, _contents(self._cells)):
            if now is not _UNSET:
                yield name, former, now

    def _growth(self) -> dict[int, int]:
        """Return by how much containers have grown that do not come back, by their identity."""
        _, _, containers, sizes = self._noted
        growth = {
            id(value): now - before
            for value, now, before in zip(containers, _sizes(containers), sizes)
            if now != before
        }
        for place in self._shared if growth else ():
            try:
                growth.pop(id(place.get()), None)
            except (NameError, KeyError, AttributeError):  # the task deleted it
                pass
        return growth


def _is_installed(namespace: Namespace) -> bool:
    file = str(namespace.get("__file__"))
    return file.startswith(_LIBRARY) or _SITE in file or _DIST in file


def _is_defined(name: str, value: object) -> bool:
    return name.startswith("__") or issubclass(type(value), _DEFINITIONS)


def _contents(cells: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(map(_content, cells.values()))


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
        return f"shrank by {-by}", _ONCE  # the others are for what grows
    return f"grew by {by}", _suggestion(value, value)


def _assigned(before: object, now: object) -> tuple[str, str]:
    if before is _UNSET:
        return "is new", ""  # what is not there before the call cannot be shared
    return "was assigned to", _suggestion(before, now)


def _suggestion(before: object, now: object) -> str:
    """Return the merge that suits the value that there was and the one that there is."""
    try:
        from snakefish import merges

        merge = merges.proposal_for(now)
        return _ONCE if merge.refusal(before) else repr(merge)
    except Exception:  # user code: the factory of a defaultdict
        return _ONCE


# ----------------------------------------------------------------- the warning


def warn_of(call: str, lost: Sequence[LostWrite]) -> None:
    """Warn once about all that the children of a *call* did for nothing."""
    if lost:
        _load_merges()
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


def _load_merges() -> None:
    """Load what the next children will need if they lose something as well."""
    with contextlib.suppress(ImportError):  # a program may have shut itself out since its start
        import snakefish.merges  # noqa: F401


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
