# SPDX-License-Identifier: MIT
"""Merges that are wrong in one way each: every law must be able to fail."""

from __future__ import annotations

from snakefish.merges import Clash
from snakefish.merges._numbers import Add
from snakefish.merges._sequences import Append
from snakefish.merges._whole import Last


class ForgetsHalf(Add):
    """Brings back a part of what the task did."""

    def diff(self, token, mine):
        return (mine - token) // 2 or None


class CountsItself(Add):
    """Adds one for every task, idle or not."""

    def diff(self, token, mine):
        return mine - token + 1


class Quarrels(Add):
    """Clashes with nobody."""

    def clashes(self, token, current, delta):
        return [Clash(None, current, delta)]


class Overwrites(Last):
    """Is last, which loses silent stores."""


class CannotGoBack(Append):
    """Notes nothing for undo."""

    def apply(self, current, delta, undo):
        current.extend(delta)
        return current


class StaysHome(Append):
    """Sends what means something only in this process."""

    def diff(self, token, mine):
        tail = super().diff(token, mine)
        return tail and _Local(tail)


class _Local(list):
    """Loses its elements when pickled."""

    def __reduce__(self):
        return _Local, ()


class Claims(Append):
    """Says that order does not matter, though it does."""

    in_order = False


WRONG = {
    "the round trip": ForgetsHalf(),
    "the idle task": CountsItself(),
    "the idle parent": Quarrels(),
    "replay": Overwrites(),
    "undo": CannotGoBack(),
    "transport": StaysHome(),
    "commuting": Claims(),
}
