# SPDX-License-Identifier: MIT
"""Who wrote what: the commits to a variable while calls that share it are under way.

An epoch of a variable begins with the first call that shares it and is over when the
last of these is. Threads that run at the same time are in the same epoch, so a
conflict between two of them can say who the two were.
"""

from __future__ import annotations

import functools
import itertools
import os
from typing import Any, NamedTuple

from snakefish._place import Place
from snakefish.merges import Merge, Undo

PARENT = "the parent"


class Written(NamedTuple):
    """A commit."""

    task: str
    merge: Merge
    delta: Any


class Epoch:
    """The commits to one variable."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._calls = 0
        self._versions = itertools.count(1)
        self.version = 0
        """Another one at the beginning and at the end of each commit."""
        self._written: list[Written] = []
        self._settled: list[Any] = []
        self._before: Any = None
        self._after: Any = None

    def join(self) -> Epoch:
        """Begin a call."""
        self._calls += 1
        return self

    def leave(self) -> None:
        """End a call."""
        self._calls -= 1
        if self._calls <= 0 and _epochs.get(self._place.key) is self:
            del _epochs[self._place.key]

    def turn(self) -> None:
        """Give the value another version: it begins or has ceased to change."""
        self.version = next(self._versions)

    def writer_of(self, key: Any) -> str:
        """Return who wrote last to the part *key* of the value."""
        touching = (
            one.task for one in reversed(self._written) if one.merge.touches(one.delta, key)
        )
        return next(touching, PARENT)

    def note(self, task: str, merge: Merge, delta: Any) -> None:
        """Remember a commit, if it is one that others can contradict."""
        if type(merge).clashes is not Merge.clashes:
            self._written.append(Written(task, merge, delta))

    def value_with(self, current: Any, merge: Merge, delta: Any, undo: Undo) -> Any:
        """Return the value with *delta* in it, reckoned in one go where that is more exact."""
        if self._settled and current is not self._after:
            self._settled = []
        before = self._before if self._settled else current
        deltas = [*self._settled, delta]
        value = merge.settle(before, deltas)
        if value is NotImplemented:
            return merge.apply(current, delta, undo)
        undo.append(functools.partial(self._restore, self._before, self._settled, self._after))
        self._restore(before, deltas, value)
        return value

    def _restore(self, before: Any, settled: list[Any], after: Any) -> None:
        self._before, self._settled, self._after = before, settled, after


_epochs: dict[tuple[int, str], Epoch] = {}


_owner = os.getpid()


def epoch_of(place: Place) -> Epoch:
    """Return the epoch of the variable at *place*, with one call more.

    Those that a child has inherited are its parent's, and forgotten.
    """
    global _owner
    if _owner != os.getpid():
        _owner = os.getpid()
        _epochs.clear()
    return _epochs.setdefault(place.key, Epoch(place)).join()
