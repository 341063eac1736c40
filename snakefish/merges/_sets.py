# SPDX-License-Identifier: MIT
"""The merge of sets that grow."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any

from snakefish.merges._merge import EXACT, Merge, Undo


class Union(Merge):
    """add, update and `|=` on a set; `|=` on a frozenset.

    Commits in any order give the same, and replay holds. It does not for sets from
    which elements are removed too, since the addition of an element that is already there cannot
    be seen; removing one is a ValueError.

    A set is copied, once for all tasks of a call: 20 ms for a million elements. A task whose
    set has the size it had costs nothing; otherwise its new elements are looked for
    among all, which takes 0.1 s, and on CPython 60 MB that it no longer shares with the parent.
    In sets of more than 100000 elements, as many removed as added are lost unseen.

    >>> from snakefish import merges
    >>> seen = {1, 2}
    >>> token = merges.union.capture(seen)
    >>> seen.add(3)
    >>> merges.union.diff(token, seen)
    {3}
    """

    early = True
    in_order = False
    from_zero = True

    def refusal(self, value: object) -> str:
        """Return why *value* is no set."""
        if isinstance(value, (set, frozenset)):
            return ""
        return f"it is for set and frozenset, not {type(value).__name__}"

    def capture(self, base: Any) -> Any:
        """Return a copy."""
        return frozenset(base)

    def diff(self, token: Any, mine: Any) -> Any:
        """Return the new elements.

        Raises:
            TypeError: The task left something that is no set.
            ValueError: It removed elements.
        """
        refusal = self.refusal(mine)
        if refusal:
            raise TypeError(f"the task left a {type(mine).__name__}: {refusal}")
        if len(mine) == len(token) and (len(token) > EXACT or mine == token):
            return None
        added = set(mine).difference(token) if type(mine) is not set else mine - token
        removed = len(token) + len(added) - len(mine)
        if removed:
            raise ValueError(f"the task removed {removed} elements of a set that may only grow")
        return added

    def apply(self, current: Any, delta: Any, undo: Undo) -> Any:
        """Return the union, a set being changed in place."""
        if isinstance(current, frozenset):
            return current | delta
        added = delta.difference(current)
        undo.append(lambda: current.difference_update(added))
        current.update(added)
        return current

    def mutated(self, tokens: Sequence[Any], values: Iterable[Any]) -> Iterable[bool]:
        """Compare them."""
        return map(operator.ne, values, tokens)
