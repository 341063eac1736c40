# SPDX-License-Identifier: MIT
"""What a merge is: three small operations on one shared value.

    token   = capture(base)                  before the task runs
    delta   = diff(token, mine)              in the task's process, at its end
    current = apply(current, delta, undo)    in the parent, when it commits

Only deltas travel. The law that makes a parallel program equal to the plain loop is
*replay*: `apply(c, diff(capture(b), run(b, ops)), undo)` equals `run(c, ops)` for
every state c that the merge's own operations reach from b. The classes say whether
it holds for them.

Captures are O(1) where they can be. On CPython a copy of a container in a child
dirties 50 to 100 MB per million elements, because it touches their reference
counts; a length costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any, Callable, NamedTuple

Undo = list[Callable[[], object]]
"""What takes back the steps of an `apply`, in their order; it is run from its end."""

EXACT = 100_000
"""Containers of up to so many elements are compared even where it is their size, or what
came last, that tells almost surely."""


class Nothing:
    """Stands for the value of a key that is not there; there is one, `NOTHING`."""

    def __repr__(self) -> str:
        return "nothing"

    def __reduce__(self) -> str:
        return "NOTHING"  # the same object wherever it is unpickled or copied


NOTHING = Nothing()


class Clash(NamedTuple):
    """What two tasks, or a task and the parent, did to the same place."""

    key: Any
    """Which part of the value; None for the whole."""

    current: Any
    theirs: Any


class Merge:
    """A way to bring together what tasks did to one value.

    Derive from it, with the three operations, for a merge of your own; then
    `snakefish.testing.check` tries the laws on it. A merge holds no state of
    a call, so one object serves any number of variables. Two are equal if they are
    of one class and have equal attributes.

    >>> class Latch(Merge):
    ...     '''A bool that tasks switch on, never off.'''
    ...     in_order = False
    ...     def capture(self, base):
    ...         return base
    ...     def diff(self, token, mine):
    ...         return True if mine and not token else None
    ...     def apply(self, current, delta, undo):
    ...         return True
    >>> Latch().apply(False, Latch().diff(False, True), [])
    True
    """

    early = False
    """Whether to capture in the parent, once for all tasks of a call.

    For captures that copy. What no copy is made of is captured in the child, where
    no other thread can change the value between the capture and the fork.
    """

    in_order = True
    """Whether the order of commits matters to the result."""

    in_mapping = True
    """Whether it can be the merge of single keys: not one with a view."""

    from_zero = False
    """Whether a task can do its work to `zero` as well as to the value: what `fresh` asks."""

    def refusal(self, value: object) -> str:
        """Return why *value* cannot be shared in this way; an empty string if it can."""
        return ""

    def view(self, base: Any) -> Any:
        """Return what the variable shall hold in the task."""
        return base

    def capture(self, base: Any) -> Any:
        """Return what `diff` needs to know of the value as it was before the task.

        It is called before `view`.

        Raises:
            TypeError: The value cannot be shared in this way, which only a look at all
                of it could tell.
        """
        raise NotImplementedError

    def diff(self, token: Any, mine: Any) -> Any:
        """Return what the task changed, None for nothing.

        Raises:
            TypeError, ValueError: It did something that this merge is not for.
        """
        raise NotImplementedError

    def clashes(self, token: Any, current: Any, delta: Any) -> Iterable[Clash]:
        """Return where *delta* contradicts what others did since the capture; change nothing.

        *token* is that of an early capture, None for others.
        """
        return ()

    def touches(self, delta: Any, key: Any) -> bool:
        """Return whether *delta* writes to the part *key*, as `clashes` calls it.

        That is asked to name who wrote there before.
        """
        return key is None or not isinstance(delta, dict) or key in delta

    def apply(self, current: Any, delta: Any, undo: Undo) -> Any:
        """Return the value with *delta* in it.

        What can be changed is changed in place, after a step for *undo* has been noted.
        """
        raise NotImplementedError

    def release(self, token: Any) -> None:
        """Let go of *token*, in the parent, when the call it was captured for is over."""

    def settle(self, before: Any, deltas: list[Any]) -> Any:
        """Return the value that *before* has after all *deltas* of a call, in their order.

        For merges of immutable values that come out more exactly in one go than
        one by one; NotImplemented, as here, is for all others.
        """
        return NotImplemented

    def zero(self, like: Any) -> Any:
        """Return what a missing key of `mapping` starts from, where a task left *like* in it.

        It is also what `fresh` has a task begin with, where *like* is the value. That is
        an empty *like*, unless the merge says otherwise.
        """
        return type(like)()

    def capture_each(self, values: Sequence[Any]) -> Sequence[Any]:
        """Return the tokens of all *values* of a `mapping`, in their order."""
        return [self.capture(value) for value in values]

    def mutated(self, tokens: Sequence[Any], values: Iterable[Any]) -> Iterable[bool]:
        """Return for each pair whether `diff` has to look at it, the object being the same.

        *tokens* are what `capture_each` returned. It spares `mapping` a call for each key.
        False promises that nothing changed but the object itself; a merge of immutable
        values need never look.
        """
        return repeat(True)

    def name(self) -> str:
        """Return what the user calls it, as an expression."""
        return type(self).__name__.lower()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Merge):
            return NotImplemented
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"merges.{self.name()}"
