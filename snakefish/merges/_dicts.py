# SPDX-License-Identifier: MIT
"""Merges of dicts: new keys, counts, and any merge for each key.

Dicts keep the order in which their keys came, so what is new is their tail: finding it
takes as long as the tail is. Only a change to a key that was there before needs the
values of all to compare with. They are listed in the parent, and compared in step, without
hashing anything and without a look at the keys: on CPython every object that is
looked at has its page copied, since its reference count changes.
"""

from __future__ import annotations

import itertools
import operator
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress, islice
from numbers import Number
from typing import Any, NamedTuple

from snakefish.merges import _elsewhere
from snakefish.merges._merge import EXACT, NOTHING, Clash, Merge, Undo
from snakefish.merges._snapshot import same

CLASHES = ("equal", "error", "first", "last")

LAST_KEYS = 1000
"""So many keys of a dict of more than EXACT are compared, those that came last."""

SAMPLE = 1000
"""So many values are looked at before a task; after it, those that it changed."""


class _OfDict(Merge):
    """What the merges of dicts have in common."""

    def refusal(self, value: object) -> str:
        """Return why *value* is no dict."""
        if isinstance(value, dict):
            return ""
        return f"it is for dict, not {type(value).__name__}"

    def _require(self, mine: object) -> None:
        refusal = _OfDict.refusal(self, mine)
        if refusal:
            raise TypeError(f"the task left a {type(mine).__name__}: {refusal}")

    def zero(self, like: Any) -> Any:
        """Return an empty dict of the same type, with the same factory."""
        return type(like)(like.default_factory) if _makes_values(like) else type(like)()


class _Last(NamedTuple):
    """The size of a dict, the key that came last, and the values unless they are too many."""

    size: int
    key: Any
    values: list[Any] | None = None


class Insert(_OfDict):
    """New keys in a dict: a memo, a cache, a registry.

    *clash* says what becomes of a key that others inserted too: `"equal"` values are
    fine and others a conflict, `"error"` makes any a conflict, the `"first"` stays,
    the `"last"` replaces it. With `"equal"` and `"error"`, commits in any order give
    the same keys and values; replay holds where a key determines its value, as in a memo.

    A key that was removed, or one that was there and has another value now, is a ValueError. In
    dicts of more than 100000 keys only the size and the last key are remembered, so that
    tasks cost what they insert, whatever the size: in those, a value that was replaced is lost
    unseen. So is what happens within a value.

    >>> from snakefish import merges
    >>> squares = {1: 1}
    >>> token = merges.insert.capture(squares)
    >>> squares[2] = 4
    >>> merges.insert.diff(token, squares)
    {2: 4}
    >>> merges.insert(clash="error")
    merges.insert(clash='error')

    Raises:
        ValueError: *clash* is none of the four.
    """

    from_zero = True

    def __init__(self, clash: str = "equal") -> None:
        if clash not in CLASHES:
            raise ValueError(f"clash is one of {', '.join(CLASHES)}, not {clash!r}")
        self.clash = clash
        self.in_order = clash in {"first", "last"}

    def __call__(self, *, clash: str = "equal") -> Insert:
        """Return an insert with another way to handle clashes.

        Raises:
            ValueError: *clash* is none of the four.
        """
        return Insert(clash)

    def capture(self, base: Any) -> _Last:
        """Return the size and the last key, and up to EXACT values."""
        values = list(base.values()) if len(base) <= EXACT else None
        return _Last(len(base), next(reversed(base), NOTHING), values)

    def diff(self, token: _Last, mine: Any) -> Any:
        """Return the new keys with their values.

        Raises:
            TypeError: The task left something that is no dict.
            ValueError: It removed keys, or replaced their values.
        """
        self._require(mine)
        backwards = reversed(mine.items())
        added = list(islice(backwards, max(0, len(mine) - token.size)))
        last, _ = next(backwards, (NOTHING, None))
        if len(mine) < token.size or not (last is token.key or last == token.key):
            raise ValueError(f"the task removed keys of a dict of {token.size} that may only grow")
        if token.values is not None and list(islice(mine.values(), token.size)) != token.values:
            raise ValueError(_replacement(mine, token.values))
        return dict(reversed(added)) or None

    def clashes(self, token: Any, current: Any, delta: Any) -> Iterator[Clash]:
        """Yield the keys that others have inserted too."""
        if self.in_order:
            return
        for key, value in delta.items():
            if key in current and (self.clash == "error" or not same(current[key], value)):
                yield Clash(key, current[key], value)

    def apply(self, current: Any, delta: Any, undo: Undo) -> Any:
        """Return the dict with the new keys."""
        changes = _Changes(current, undo)
        for key, value in delta.items():
            if key not in current:
                changes.add(key, value)
            elif self.clash == "last":
                changes.replace(key, value)
        return current

    def capture_each(self, values: Sequence[Any]) -> Sequence[_Last]:
        """Return the sizes and the last keys."""
        return [_Last(len(value), next(reversed(value), NOTHING)) for value in values]

    def mutated(self, tokens: Sequence[_Last], values: Iterable[Any]) -> Iterable[bool]:
        """Compare sizes."""
        return map(operator.ne, map(len, values), map(operator.itemgetter(0), tokens))

    def name(self) -> str:
        """Return `insert`, with what was asked of it."""
        return "insert" if self.clash == "equal" else f"insert(clash={self.clash!r})"


def _replacement(mine: dict[Any, Any], before: list[Any]) -> str:
    """Return what a task did to the first value that is not as it was *before*."""
    changes = ((key, old, new) for (key, new), old in zip(mine.items(), before) if new is not old)
    key, old, new = next(change for change in changes if [change[1]] != [change[2]])
    return f"the task replaced {old!r} by {new!r} at key {key!r}, which is no insertion"


class _Before:
    """What was in a dict: keys and values in their order, and what a merge remembers of these."""

    def __init__(self, base: dict[Any, Any]) -> None:
        self.keys = list(base)
        self.values = list(base.values())
        self.tokens: Sequence[Any] = ()
        self._base = base
        self._positions: dict[Any, int] = {}

    def in_step(self, mine: dict[Any, Any]) -> dict[Any, Any]:
        """Return *mine* with the keys that were there first and in their order: mostly itself.

        Raises:
            ValueError: Some are not there.
        """
        if len(mine) >= len(self.keys) and self._begins(mine):
            return mine
        missing = [key for key in self.keys if key not in mine]
        if missing:
            more = f" and {len(missing) - 1} more" if missing[1:] else ""
            raise ValueError(f"the task removed the key {missing[0]!r}{more}")
        ordered = {key: mine[key] for key in self.keys}
        ordered.update(mine)
        return ordered

    def _begins(self, mine: dict[Any, Any]) -> bool:
        """Return whether *mine* begins with the keys that were there.

        A key that was removed lets those behind it move up, so that in the dict which the
        task was given it is enough to look where the last of them were.
        """
        if mine is not self._base or len(self.keys) <= EXACT or isinstance(mine, OrderedDict):
            return all(map(operator.is_, self.keys, mine))
        added = len(mine) - len(self.keys)
        last = islice(reversed(mine), added, added + LAST_KEYS)
        return all(map(operator.is_, reversed(self.keys), last))

    def replaced(self, mine: dict[Any, Any]) -> Iterator[bool]:
        """Return for each value that was there whether *mine*, in step, has another object."""
        return map(operator.is_not, self.values, mine.values())

    def added(self, mine: dict[Any, Any]) -> list[tuple[Any, Any]]:
        """Return what came behind, without walking over what was there."""
        tail = list(islice(reversed(mine.items()), len(mine) - len(self.keys)))
        tail.reverse()
        return tail

    def token_of(self, key: Any) -> Any:
        """Return what a merge remembers of the value of *key*."""
        if not self._positions:
            self._positions = dict(zip(self.keys, itertools.count()))
        return self.tokens[self._positions[key]]


class Count(_OfDict):
    """Numbers in a Counter, a defaultdict(int) or any dict: what tasks added to each key.

    Values may be int, float, Fraction, Decimal, complex or timedelta. Negative counts stay, and so
    does a key whose count became zero; `Counter + Counter`, which drops both, removes
    keys, and that is a ValueError. Commits in any order give the same, and replay
    holds; to rounding, where values are floats.

    The values are listed once for all tasks of a call, 15 ms for a million keys, and each task
    compares its own with the list: 30 ms, and on CPython 32 bytes that it no longer
    shares with the parent for each number beyond 256. Where no task reads what was there,
    `fresh(count)` costs only what a task counts.

    In dicts of more than 100000 keys, the removal of one is mostly, not always seen.

    >>> from collections import Counter
    >>> from snakefish import merges
    >>> words = Counter(a=5, b=1)
    >>> token = merges.count.capture(words)
    >>> words.update("abbc")
    >>> merges.count.diff(token, words)
    {'a': 1, 'b': 2, 'c': 1}
    """

    early = True
    in_order = False
    from_zero = True

    def refusal(self, value: object) -> str:
        """Return why *value* is no dict of numbers."""
        if not isinstance(value, dict):
            return super().refusal(value)
        kinds = set(map(type, islice(value.values(), SAMPLE)))
        others = [kind for kind in kinds if not _is_number(kind)]
        return f"it is for numbers, not {others[0].__name__}" if others else ""

    def capture(self, base: Any) -> _Before:
        """Return what was in the dict."""
        return _Before(base)

    def diff(self, token: _Before, mine: Any) -> Any:
        """Return what was added to each key, and all of what new keys have.

        Raises:
            TypeError: The task left something that is no dict, or no number in it.
            ValueError: It removed keys.
        """
        self._require(mine)
        mine = token.in_step(mine)
        delta = {}
        for position in compress(itertools.count(), token.replaced(mine)):
            key, old = token.keys[position], token.values[position]
            new = mine[key]
            if new != old:
                delta[key] = _number(key, new) - old
        for key, value in token.added(mine):
            delta[key] = _number(key, value)
        return delta or None

    def apply(self, current: Any, delta: Any, undo: Undo) -> Any:
        """Return the dict with everything added."""
        changes = _Changes(current, undo)
        for key, amount in delta.items():
            if key in current:
                changes.replace(key, current[key] + amount)
            else:
                changes.add(key, amount)
        return current


class Mapping(_OfDict):
    """The merge *inner* for each key of a dict, as `mapping(append)` for an index.

    Order, replay and clashes are those of *inner*. A key that was not there begins with what the
    defaultdict makes, or else with what is zero to *inner*: an empty list, 0, no value
    yet. It is created even if the task left it at that. Removing keys is a
    ValueError.

    The values are listed once for all tasks of a call and *inner* captures each of them then;
    each task compares its own with the list, and looks closer where a value
    is another object or *inner* says that it could have changed: for append and insert
    if its size is another. A million lists to append to take 0.3 s for the call (PyPy:
    0.4 s) and 0.25 s in each task (0.3 s), on CPython with 120 MB that it no longer shares. Where
    no task reads what was there, `fresh(mapping(...))` costs only what a task does.

    In dicts of more than 100000 keys, the removal of one is mostly, not always seen.

    >>> from collections import defaultdict
    >>> from snakefish import merges
    >>> pages = defaultdict(list, a=[1])
    >>> by_word = merges.mapping(merges.append)
    >>> token = by_word.capture(pages)
    >>> pages["a"].append(2); pages["b"].append(2)
    >>> delta = by_word.diff(token, pages)
    >>> dict(by_word.apply(defaultdict(list, a=[1, 7]), delta, []))
    {'a': [1, 7, 2], 'b': [2]}

    Raises:
        TypeError: *inner* is no merge, or it is total, fresh or private, for which no
            task could see the values of a dict as they are.
    """

    early = True

    def __init__(self, inner: Merge) -> None:
        if not isinstance(inner, Merge):
            raise TypeError(f"mapping needs a merge for its values, not {inner!r}")
        if not inner.in_mapping:
            raise TypeError(f"{inner.name()} cannot be the merge of single keys")
        self.inner = inner
        self.in_order = inner.in_order
        self.from_zero = inner.from_zero

    def refusal(self, value: object) -> str:
        """Return why *value* is no dict, or what *inner* has against its values."""
        if not isinstance(value, dict):
            return super().refusal(value)
        for one in dict(zip(map(type, value.values()), value.values())).values():
            refusal = self.inner.refusal(one)
            if refusal:
                return f"{self.inner.name()} refuses a value: {refusal}"
        return ""

    def capture(self, base: Any) -> _Before:
        """Return what was in the dict, and what *inner* remembers of it."""
        before = _Before(base)
        before.tokens = self.inner.capture_each(before.values)
        return before

    def diff(self, token: _Before, mine: Any) -> Any:
        """Return what *inner* found: for keys that were there, and for new ones with their zeros.

        Raises:
            TypeError: The task left something that is no dict, or a value for which
                *inner* is not.
            ValueError: It removed keys, or did to a value what *inner* is not for.
        """
        self._require(mine)
        by_factory = _makes_values(mine)
        make = mine.default_factory if by_factory else None
        mine = token.in_step(mine)
        changed, in_place = {}, set()
        for position in compress(itertools.count(), self._suspected(token, mine)):
            key = token.keys[position]
            delta = self._inner_diff(key, token.tokens[position], mine[key])
            if delta is None or id(mine[key]) in in_place:
                continue
            changed[key] = delta
            if mine[key] is token.values[position]:
                in_place.add(id(mine[key]))  # other keys may have the same object
        new = {}
        for key, value in token.added(mine):
            refusal = self.inner.refusal(value)
            if refusal:
                raise TypeError(f"at key {key!r}, {refusal}")
            zero = make() if make else self.inner.zero(value)
            delta = self._inner_diff(key, self.inner.capture(zero), value)
            new[key] = (None if by_factory else zero, delta)
        return (changed, new, by_factory) if changed or new else None

    def _suspected(self, token: _Before, mine: dict[Any, Any]) -> Iterator[bool]:
        """Return for each value that was there whether it may have changed."""
        mutated = self.inner.mutated(token.tokens, mine.values())
        return map(operator.or_, token.replaced(mine), mutated)

    def _inner_diff(self, key: Any, token: Any, value: Any) -> Any:
        try:
            return self.inner.diff(token, value)
        except (TypeError, ValueError) as error:
            raise type(error)(f"at key {key!r}, {error}") from error

    def clashes(self, token: _Before, current: Any, delta: Any) -> Iterator[Clash]:
        """Yield the clashes of *inner*; of a clash within a value the key is a pair."""
        changed, new, by_factory = delta
        for key, inner_delta in changed.items():
            if key in current:
                inner_token = token.token_of(key) if self.inner.early else None
                yield from self._at(key, inner_token, current[key], inner_delta)
            else:
                yield Clash(key, NOTHING, inner_delta)
        for key, (zero, inner_delta) in new.items():
            if inner_delta is not None:
                start = current.default_factory() if by_factory else zero
                inner_token = self.inner.capture(start) if self.inner.early else None
                yield from self._at(key, inner_token, current.get(key, start), inner_delta)

    def _at(self, key: Any, token: Any, current: Any, delta: Any) -> Iterator[Clash]:
        for clash in self.inner.clashes(token, current, delta):
            yield clash._replace(key=key if clash.key is None else (key, clash.key))

    def touches(self, delta: Any, key: Any) -> bool:
        """Return whether *delta* writes to a key, or to a part of its value."""
        if key is None:
            return True
        changed, new, _ = delta
        if key in changed or key in new:
            return True
        if not (isinstance(key, tuple) and len(key) == 2):
            return False
        outer, part = key
        inner_delta = changed[outer] if outer in changed else new.get(outer, (None, None))[1]
        return inner_delta is not None and self.inner.touches(inner_delta, part)

    def apply(self, current: Any, delta: Any, undo: Undo) -> Any:
        """Return the dict with all deltas in it."""
        changed, new, by_factory = delta
        changes = _Changes(current, undo)
        for key, inner_delta in changed.items():
            changes.replace(key, self.inner.apply(current[key], inner_delta, undo))
        for key, (zero, inner_delta) in new.items():
            if key not in current:
                changes.add(key, self._grown(current, zero, inner_delta, by_factory))
            elif inner_delta is not None:
                changes.replace(key, self.inner.apply(current[key], inner_delta, undo))
        return current

    def _grown(self, current: Any, zero: Any, delta: Any, by_factory: bool) -> Any:
        # Not the delta's own zero, which would change with the value.
        start = current.default_factory() if by_factory else self.inner.zero(zero)
        return start if delta is None else self.inner.apply(start, delta, [])

    def name(self) -> str:
        """Return `mapping(...)`."""
        return f"mapping({self.inner.name()})"

    def __repr__(self) -> str:
        return f"merges.mapping({self.inner!r})"


class _Changes:
    """What an apply did to the keys of a dict; noted for undo as one step, which grows."""

    def __init__(self, target: Any, undo: Undo) -> None:
        self._target = target
        self._added: list[Any] = []
        self._replaced: list[tuple[Any, Any]] = []
        undo.append(self._take_back)

    def add(self, key: Any, value: Any) -> None:
        """Put a value under a key that is not there."""
        self._added.append(key)
        self._target[key] = value

    def replace(self, key: Any, value: Any) -> None:
        """Put another value under a key, unless it is the same object."""
        old = self._target[key]
        if value is not old:
            self._replaced.append((key, old))
            self._target[key] = value

    def _take_back(self) -> None:
        for key in reversed(self._added):
            self._target.pop(key, None)
        for key, old in reversed(self._replaced):
            self._target[key] = old


def _makes_values(value: object) -> bool:
    return isinstance(value, defaultdict) and value.default_factory is not None


def _is_number(kind: type) -> bool:
    return issubclass(kind, Number) or issubclass(kind, _elsewhere.numbers())


def _number(key: Any, value: Any) -> Any:
    if _is_number(type(value)):
        return value
    raise TypeError(f"the task left a {type(value).__name__} at key {key!r}, which is no number")
