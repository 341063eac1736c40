# SPDX-License-Identifier: MIT
"""The merge of sequences that grow at their end."""

from __future__ import annotations

import operator
from array import array
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

from snakefish.merges._merge import EXACT, Merge, Undo

_GROWING = (list, deque, bytearray, array)
_CONCATENATED = (str, bytes, tuple)


class _Ends(NamedTuple):
    """What is remembered of a sequence."""

    kind: type
    length: int
    first: Any
    last: Any
    all: Any = None
    """What was in it, unless that was too much to remember."""


class _EndsOfEach(Sequence[_Ends]):
    """The ends of many lists or deques, in columns: to make a tuple for each takes far longer."""

    def __init__(self, values: Sequence[Any]) -> None:
        self.lengths = list(map(len, values))
        self._kinds = list(map(type, values))
        self._first = [value[0] if value else None for value in values]
        self._last = [value[-1] if value else None for value in values]

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: Any) -> Any:
        columns = self._kinds, self.lengths, self._first, self._last
        return _Ends(*(column[index] for column in columns))


class Append(Merge):
    """append, extend and `+=` on list, deque, bytearray and array; `+=` on str, bytes, tuple.

    Commits follow the order of the tasks, and replay holds.

    The delta is the new tail. Any other change is a ValueError: an element that was
    replaced or removed, as in `histogram[value] += 1`, for which `disjoint` on an array or
    `count` on a dict is right. Of mutable sequences of more than 100000 elements only the
    length and the two ends are remembered, which costs nothing whatever the size: in those, an
    element replaced in the middle is lost unseen. So is what happens within an element, as
    in `matrix[0][0] = 1`: the list has the same element as before.

    >>> from snakefish import merges
    >>> log = ["begin"]
    >>> token = merges.append.capture(log)
    >>> log += ["one", "two"]
    >>> merges.append.diff(token, log)
    ['one', 'two']
    """

    from_zero = True

    def refusal(self, value: object) -> str:
        """Return why nothing can be added at the end of *value*."""
        if isinstance(value, deque) and value.maxlen is not None:
            return "a deque with maxlen loses at its other end what it wins at this one"
        if isinstance(value, _GROWING) or type(value) in _CONCATENATED:
            return ""
        known = "list, deque, bytearray, array, str, bytes and tuple"
        return f"it is for {known}, not {type(value).__name__}"

    def capture(self, base: Any) -> _Ends:
        """Return the length and the ends, and up to EXACT elements."""
        length = len(base)
        if length <= EXACT or isinstance(base, _CONCATENATED):
            return _Ends(type(base), length, None, None, _head(base, length))
        return _Ends(type(base), length, _element(base, 0), _element(base, length - 1))

    def diff(self, token: _Ends, mine: Any) -> Any:
        """Return the new tail.

        Raises:
            TypeError: The task left a value of another type.
            ValueError: It did something else than adding at the end.
        """
        if type(mine) is not token.kind:
            kinds = f"a {type(mine).__name__} where a {token.kind.__name__} was"
            raise TypeError(f"the task left {kinds}")
        if not _begins_with(mine, token):
            raise ValueError(
                f"the task did more to a {token.kind.__name__} of {token.length} elements than add"
                " at its end"
            )
        return _tail(mine, token.length) or None

    def apply(self, current: Any, delta: Any, undo: Undo) -> Any:
        """Return the sequence with the tail added, a mutable one changed in place."""
        if isinstance(current, _CONCATENATED):
            return current + delta
        length = len(current)

        def shorten() -> None:
            if isinstance(current, deque):
                for _ in range(len(current) - length):
                    current.pop()
            else:
                del current[length:]

        undo.append(shorten)
        current.extend(delta)
        return current

    def zero(self, like: Any) -> Any:
        """Return an empty sequence of the same type."""
        return like[:0] if isinstance(like, array) else type(like)()

    def capture_each(self, values: Sequence[Any]) -> Sequence[_Ends]:
        """Return the lengths and the ends."""
        if set(map(type, values)) <= {list, deque}:
            return _EndsOfEach(values)
        return super().capture_each(values)

    def mutated(self, tokens: Sequence[_Ends], values: Iterable[Any]) -> Iterable[bool]:
        """Compare lengths."""
        if isinstance(tokens, _EndsOfEach):
            return map(operator.ne, map(len, values), tokens.lengths)
        return map(operator.ne, map(len, values), map(operator.itemgetter(1), tokens))


def _element(sequence: Any, index: int) -> Any:
    """Return an element so that it can be compared: a NaN of an array is never the same object."""
    if isinstance(sequence, array):
        return sequence[index : index + 1].tobytes()
    return sequence[index]


def _head(sequence: Any, length: int) -> Any:
    """Return the first *length* elements so that they can be compared."""
    if isinstance(sequence, array):
        return sequence[:length].tobytes()
    if isinstance(sequence, deque):
        return list(islice(sequence, length))
    return sequence[:length]


def _begins_with(mine: Any, token: _Ends) -> bool:
    if len(mine) < token.length:
        return False
    if token.all is not None:
        return bool(_head(mine, token.length) == token.all)
    if not token.length:  # one of many, of which none is remembered whole
        return True
    ends = ((0, token.first), (token.length - 1, token.last))
    found = ((_element(mine, index), end) for index, end in ends)
    return all(element is end or element == end for element, end in found)


def _tail(sequence: Any, length: int) -> Any:
    """Return what comes after the first *length* elements, for a deque from its near end."""
    if not isinstance(sequence, deque):
        return sequence[length:]
    tail = list(islice(reversed(sequence), len(sequence) - length))
    tail.reverse()
    return tail
