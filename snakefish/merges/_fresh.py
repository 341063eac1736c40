# SPDX-License-Identifier: MIT
"""The merge of values that each task begins anew."""

from __future__ import annotations

from typing import Any, Callable

from snakefish.merges._merge import Merge, Undo
from snakefish.merges._snapshot import cannot_change, note, renewed, same


class Fresh(Merge):
    """A task begins with the *identity*; the parent makes `combine(current, theirs)` the value.

    *identity* is a callable that makes it (`list`, `Counter`, a lambda), or a constant.
    Combining anything with it must change nothing. The task sees only what it did
    itself, never the base; so what comes back is as large as that, and nothing is
    ever copied or compared in the task.

    *combine* may change its first argument in place and return it, or return a new value, whose
    contents a mutable one is then given. Replay holds if it is associative;
    *commutes* declares that the order of commits does not matter either. Before each commit the
    parent copies a mutable value, shallowly, to be able to undo it.

    >>> import operator
    >>> from collections import Counter
    >>> from snakefish import merges
    >>> tally = merges.fresh(Counter, operator.iadd, commutes=True)
    >>> mine = tally.view(Counter(a=10**6))
    >>> mine["a"] += 1
    >>> tally.apply(Counter(a=10**6), tally.diff(None, mine), [])
    Counter({'a': 1000001})

    Raises:
        TypeError: *combine* cannot be called, or *identity* is a value that could change.
    """

    in_mapping = False

    def __init__(
        self, identity: Any, combine: Callable[[Any, Any], Any], *, commutes: bool = False
    ) -> None:
        if not callable(combine):
            raise TypeError(f"fresh needs a function of two values, not {combine!r}")
        if not callable(identity) and identity != () and not cannot_change(identity):
            kind = type(identity).__name__
            raise TypeError(f"fresh needs what makes the identity: {kind}, not a {kind}")
        self.identity = identity
        self.combine = combine
        self.in_order = not commutes

    def view(self, base: Any) -> Any:
        """Return the identity."""
        return self.identity() if callable(self.identity) else self.identity

    def capture(self, base: Any) -> None:
        """Return None: the task knows nothing of the base."""

    def diff(self, token: Any, mine: Any) -> Any:
        """Return what the task made of the identity."""
        return None if same(mine, self.view(None)) else (mine,)

    def apply(self, current: Any, delta: Any, undo: Undo) -> Any:
        """Return what *combine* makes of both."""
        note(current, undo)
        return renewed(current, self.combine(current, *delta))

    def name(self) -> str:
        """Return `fresh(...)`."""
        shown = [getattr(one, "__qualname__", repr(one)) for one in (self.identity, self.combine)]
        return f"fresh({', '.join(shown)})"
