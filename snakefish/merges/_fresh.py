# SPDX-License-Identifier: MIT
"""The merge of values that each task begins anew."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Callable

from snakefish.merges._merge import Clash, Merge, Undo
from snakefish.merges._snapshot import cannot_change, equal, note, renewed


def fresh(
    identity: Any, combine: Callable[[Any, Any], Any] | None = None, *, commutes: bool = False
) -> Merge:
    """Let each task begin with an empty value of its own; it sees only what it did itself.

    `fresh(merge)` begins with what is zero to another merge and brings back by that one: an
    empty Counter for `fresh(count)`, an empty defaultdict with the same factory for
    `fresh(mapping(append))`. Nothing is captured, copied or compared, so that
    everything costs what the task did, however large the value is: of a million counts
    that are there, `count` itself looks at each, in each task. Order and replay are those of the
    other merge, as long as no task reads what was there before; under another name
    (`known = counts`) it still can. It can be of add, append, union, count, insert, and of
    mapping of these.

    >>> from collections import Counter
    >>> from snakefish import map, merges
    >>> letters = Counter(a=10**6)
    >>> def spell(word):
    ...     letters.update(word)
    ...     return len(letters)
    >>> map(spell, ["abc", "bd"], chunksize=1, share={"letters": merges.fresh(merges.count)})
    [3, 2]
    >>> letters
    Counter({'a': 1000001, 'b': 2, 'c': 1, 'd': 1})

    `fresh(identity, combine)` is for any other type: the parent makes `combine(current, theirs)`
    the value. *identity* is a callable that makes what a task begins with (`list`, a
    lambda), or a constant. Combining anything with it must change nothing.
    *combine* may change its first argument in place and return it, or return a new value, whose
    contents a mutable one is then given. Replay holds if it is associative;
    *commutes* declares that the order of commits does not matter either. Before each commit the
    parent copies a mutable value, shallowly, to be able to undo it.

    >>> longest = merges.fresh("", lambda one, other: max(one, other, key=len), commutes=True)
    >>> longest.apply("abc", longest.diff(None, "ab"), [])
    'abc'

    Raises:
        TypeError: *combine* cannot be called, or *identity* is a value that could change, or a
            merge without a zero.
    """
    if not isinstance(identity, Merge):
        return Fresh(identity, combine, commutes)
    if combine is not None or commutes:
        raise TypeError(f"{identity.name()} combines, and knows whether that commutes")
    return FreshOf(identity)


class Fresh(Merge):
    """A task begins with an identity, and a function combines."""

    in_mapping = False

    def __init__(
        self, identity: Any, combine: Callable[[Any, Any], Any] | None, commutes: bool
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
        """Return what the task made of the identity, if it is not equal to that.

        To combine with what is one, and yet not equal to itself, changes nothing either.
        """
        return None if equal(mine, self.view(None)) else (mine,)

    def apply(self, current: Any, delta: Any, undo: Undo) -> Any:
        """Return what *combine* makes of both."""
        note(current, undo)
        return renewed(current, self.combine(current, *delta))

    def name(self) -> str:
        """Return `fresh(...)`."""
        shown = [getattr(one, "__qualname__", repr(one)) for one in (self.identity, self.combine)]
        return f"fresh({', '.join(shown)})"


class FreshOf(Merge):
    """A task begins with the zero of another merge, whose deltas it brings back."""

    in_mapping = False

    def __init__(self, inner: Merge) -> None:
        if not inner.from_zero:
            raise TypeError(f"{inner.name()} has no zero from which a task could begin")
        self.inner = inner
        self.in_order = inner.in_order

    def refusal(self, value: object) -> str:
        """Return what the other merge has against *value*."""
        return self.inner.refusal(value)

    def view(self, base: Any) -> Any:
        """Return the zero."""
        return self.inner.zero(base)

    def capture(self, base: Any) -> Any:
        """Return what the other merge remembers of the zero."""
        return self.inner.capture(self.inner.zero(base))

    def diff(self, token: Any, mine: Any) -> Any:
        """Return what the task made of the zero."""
        return self.inner.diff(token, mine)

    def clashes(self, token: Any, current: Any, delta: Any) -> Iterable[Clash]:
        """Return those of the other merge."""
        return self.inner.clashes(token, current, delta)

    def touches(self, delta: Any, key: Any) -> bool:
        """Return what the other merge says."""
        return self.inner.touches(delta, key)

    def apply(self, current: Any, delta: Any, undo: Undo) -> Any:
        """Return what the other merge makes of it."""
        return self.inner.apply(current, delta, undo)

    def name(self) -> str:
        """Return `fresh(...)`."""
        return f"fresh({self.inner.name()})"

    def __repr__(self) -> str:
        return f"merges.fresh({self.inner!r})"
