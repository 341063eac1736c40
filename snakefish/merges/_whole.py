# SPDX-License-Identifier: MIT
"""Merges of values as a whole: who may write, and what two writers mean.

A task that changed the value in place sends what it looks like then, and the parent
puts that into its own object, so whoever else holds it sees it. A task that assigned
another one has it assigned in the parent too.

All remember the value by its pickle, made once for a call, and compare it with another
at the end of each task: as much work as its size. What cannot be pickled is refused,
except functions, classes and modules, which count as unchanging.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Callable

from snakefish.merges._merge import NOTHING, Clash, Merge, Undo
from snakefish.merges._snapshot import Snapshot, note, renewed, same, snapshot


class _Whole(Merge):
    """What they have in common. A delta says whether the change was in place, and is the value."""

    early = True

    def capture(self, base: Any) -> Snapshot:
        """Return the value and its pickle.

        Raises:
            TypeError: It has none.
        """
        return snapshot(base)

    def diff(self, token: Snapshot, mine: Any) -> Any:
        """Return the value, if it differs.

        Raises:
            TypeError: The task left something that cannot be pickled.
        """
        return (mine is token.value, mine) if token.differs(mine) else None

    def apply(self, current: Any, delta: Any, undo: Undo) -> Any:
        """Return the task's value, or the current one with its contents."""
        in_place, theirs = delta
        if not in_place:
            return theirs
        note(current, undo)
        return renewed(current, theirs)

    def zero(self, like: Any) -> Any:
        """Return what every value differs from."""
        return NOTHING


class Once(_Whole):
    """One writer at most; others may only write what is equal to it.

    The default for values of which nothing better is known. A second writer with another
    value is a conflict, whether it is a task or the parent. Commits in any order
    give the same, or a conflict; a task that reads the value to write a new one, as
    in `x += 1`, thus becomes a conflict as soon as two do.

    A value that a task changed to what it was already is not seen as written.

    >>> from snakefish import merges
    >>> token = merges.once.capture("unknown")
    >>> delta = merges.once.diff(token, "found")
    >>> list(merges.once.clashes(token, "unknown", delta))
    []
    >>> list(merges.once.clashes(token, "lost", delta))
    [Clash(key=None, current='lost', theirs='found')]
    """

    in_order = False

    def clashes(self, token: Snapshot, current: Any, delta: Any) -> Iterator[Clash]:
        """Yield the whole value, if somebody else gave it another one."""
        if token.differs(current) and not same(current, delta[1]):
            yield Clash(None, current, delta[1])


class Last(_Whole):
    """Assignment: the later task wins.

    Never a default, for two reasons. Replay does not hold: a task that assigns the value
    which is there already is not seen, so of tasks that set 1 and then 0 over 0, 1
    remains, where the loop leaves 0. And a task that reads the value to write it,
    as in `x += 1`, silently loses what the others added.

    >>> from snakefish import merges
    >>> token = merges.last.capture(0)
    >>> merges.last.apply(7, merges.last.diff(token, 9), [])
    9
    >>> merges.last.diff(token, 0)
    """


class Frozen(_Whole):
    """What no task may change: if one does, that is a conflict. The parent may.

    >>> from snakefish import merges
    >>> limits = [0, 10]
    >>> token = merges.frozen.capture(limits)
    >>> limits[1] = 99
    >>> delta = merges.frozen.diff(token, limits)
    >>> list(merges.frozen.clashes(token, [0, 10], delta))
    [Clash(key=None, current=[0, 10], theirs=[0, 99])]
    """

    in_order = False

    def clashes(self, token: Snapshot, current: Any, delta: Any) -> Iterator[Clash]:
        """Yield the whole value."""
        yield Clash(None, current, delta[1])

    def apply(self, current: Any, delta: Any, undo: Undo) -> Any:
        """Return the value as it is."""
        return current


class Ensure(_Whole):
    """What the result of a task depends on: a conflict if anybody else changed it meanwhile.

    Every task is then sure to have worked with the value that the parent has when it
    commits, which turns a stale read into a conflict. A task may change it as well; what
    comes after it conflicts.

    >>> from snakefish import merges
    >>> token = merges.ensure.capture(3)
    >>> delta = merges.ensure.diff(token, 3)
    >>> list(merges.ensure.clashes(token, 3, delta))
    []
    >>> list(merges.ensure.clashes(token, 4, delta))
    [Clash(key=None, current=4, theirs=3)]
    """

    def diff(self, token: Snapshot, mine: Any) -> Any:
        """Return the value if it differs, else what still asks for the check.

        Raises:
            TypeError: The task left something that cannot be pickled.
        """
        return super().diff(token, mine) or ()

    def clashes(self, token: Snapshot, current: Any, delta: Any) -> Iterator[Clash]:
        """Yield the whole value, if it is not what it was."""
        if token.differs(current):
            yield Clash(None, current, delta[1] if delta else token.restored())

    def touches(self, delta: Any, key: Any) -> bool:
        """Return whether the task changed the value."""
        return bool(delta)

    def apply(self, current: Any, delta: Any, undo: Undo) -> Any:
        """Return the task's value, if it changed it."""
        return super().apply(current, delta, undo) if delta else current


class Private(Merge):
    """Scratch: what a task leaves is dropped, and nobody is warned.

    >>> from snakefish import merges
    >>> merges.private.diff(merges.private.capture([]), ["scribbles"])
    """

    in_order = False
    in_mapping = False

    def capture(self, base: Any) -> None:
        """Return None."""

    def diff(self, token: Any, mine: Any) -> None:
        """Return None: nothing that matters has changed."""

    def apply(self, current: Any, delta: Any, undo: Undo) -> Any:
        """Return the value as it is."""
        return current


class Merge3(_Whole):
    """The function *f* makes one of three: `f(base, mine, theirs)`.

    *mine* is what the parent has, *theirs* what the task left, *base* what both began
    with; *f* is called for tasks that changed the value. What it returns becomes the
    value: if *mine* is mutable it may be *mine* itself, changed; or a new one of the same
    type, whose contents *mine* is then given. It must not change what is inside the values.

    Whether the order matters and replay holds is up to *f*: `snakefish.testing.check`
    tells. *commutes* declares that the order does not matter.

    >>> from snakefish import merges
    >>> longest = merges.merge3(lambda base, mine, theirs: max(mine, theirs, key=len))
    >>> token = longest.capture("")
    >>> longest.apply("abc", longest.diff(token, "ab"), [])
    'abc'

    Raises:
        TypeError: *f* cannot be called.
    """

    def __init__(self, f: Callable[[Any, Any, Any], Any], *, commutes: bool = False) -> None:
        if not callable(f):
            raise TypeError(f"merge3 needs a function of base, mine and theirs, not {f!r}")
        self.f = f
        self.in_order = not commutes

    def diff(self, token: Snapshot, mine: Any) -> Any:
        """Return the value as it was and as it is, if they differ.

        Raises:
            TypeError: The task left something that cannot be pickled.
        """
        return (token.restored(), mine) if token.differs(mine) else None

    def apply(self, current: Any, delta: Any, undo: Undo) -> Any:
        """Return what *f* makes of it."""
        base, theirs = delta
        note(current, undo)
        return renewed(current, self.f(base, current, theirs))

    def zero(self, like: Any) -> Any:
        """Return an empty value of the same type."""
        return type(like)()

    def name(self) -> str:
        """Return `merge3(...)`."""
        return f"merge3({getattr(self.f, '__qualname__', repr(self.f))})"
