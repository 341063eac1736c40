# SPDX-License-Identifier: MIT
"""Trying the laws of a merge: what makes a parallel program equal to the loop.

Each law is tried on every value that was given, with every short sequence of the given
operations, the shortest first. A task is played, not forked: its value and what it
inherits are copied together, so they are to each other what they are after a fork.

    idle task    a task that did nothing changes nothing
    round trip   what a task made of a base, brought to that base, is what it made
    idle parent  where nobody else did anything, nothing clashes
    replay       a task's work, brought to what the parent has by then, is that work done there
    undo         what an apply did can be taken back, to the same object in the same order
    transport    a delta means the same after pickling
    commuting    deltas in another order give the same, or clash in both
                 (for merges that say so: `in_order` is False)
"""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Callable, NamedTuple

from snakefish.merges import Clash, Merge, Undo

__all__ = ["LAWS", "Case", "check"]

Operation = Callable[[Any], Any]


def check(
    merge: Merge, bases: Iterable[Any], operations: Iterable[Operation], *, longest: int = 2
) -> None:
    """Try the laws of merges on *merge*, and fail with the smallest case that breaks one.

    *bases* are values to begin with, *operations* what a task may do to one: functions of
    the value that return the new one, or None if they changed it in place. Every
    sequence of up to *longest* operations is tried in the task and in the parent. Few
    small values find more than many large ones.

    >>> from snakefish import merges
    >>> check(merges.add, [0, 1], [lambda n: n + 1, lambda n: n - 2])

    >>> def set_0(n): return 0
    >>> def set_1(n): return 1
    >>> check(merges.last, [0], [set_0, set_1])
    Traceback (most recent call last):
        ...
    AssertionError: merges.last breaks the law of replay
        base: 0
        the parent did: set_1
        the task did: set_0
        merged: 1
        one after the other: 0

    Where tasks contradict each other the merge is right to say so: what clashes counts as
    no case of replay. So a merge that calls everything a clash passes for that law, and
    breaks the one of the idle parent.

    Raises:
        AssertionError: A law does not hold.
        ValueError: There is no base or no operation.
    """
    starts, steps = list(bases), list(operations)
    if not (starts and steps):
        raise ValueError("check needs a base and an operation at least")
    names = [_name(operation, number) for number, operation in enumerate(steps)]
    for (parent, task), base in itertools.product(_pairs(len(steps), longest), starts):
        case = Case(merge, base, [steps[i] for i in parent], [steps[i] for i in task])
        for law, holds in LAWS.items():
            broken = holds(case)
            if broken is not None:
                lines = [
                    f"{merge!r} breaks the law of {law}",
                    f"base: {base!r}",
                    f"{broken.first} did: {', '.join(names[i] for i in parent) or 'nothing'}",
                    f"the task did: {', '.join(names[i] for i in task) or 'nothing'}",
                    f"{broken.got_from}: {broken.got}",
                    f"{broken.expected_from}: {broken.expected}",
                ]
                raise AssertionError("\n    ".join(lines))


class Case(NamedTuple):
    """A value, and what is done to it on two sides: here, and in a task (or in two tasks)."""

    merge: Merge
    base: Any
    here: Sequence[Operation]
    there: Sequence[Operation]


class _Broken(NamedTuple):
    """Two things that ought to be the same, and where they came from."""

    got_from: str
    got: str
    expected_from: str
    expected: str
    first: str = "the parent"


class _Call(NamedTuple):
    """A parent that has forked: its value, and what it remembers for clashes."""

    merge: Merge
    value: Any
    token: Any

    def delta(self, operations: Sequence[Operation]) -> Any:
        """Return what a task comes back with."""
        # Copied together, as by a fork: the token may refer to the value.
        token, value = copy.deepcopy((self.token, self.value))
        if not self.merge.early:
            token = self.merge.capture(value)
        return self.merge.diff(token, _run(operations, self.merge.view(value)))

    def clashes(self, value: Any, delta: Any) -> list[Clash]:
        """Return all clashes."""
        return [] if delta is None else list(self.merge.clashes(self.token, value, delta))


def _call(case: Case) -> _Call:
    value = copy.deepcopy(case.base)
    return _Call(case.merge, value, case.merge.capture(value) if case.merge.early else None)


def _merged(merge: Merge, value: Any, *deltas: Any) -> Any:
    """Return *value* with all deltas, in one go if the merge can do that."""
    work = [delta for delta in deltas if delta is not None]
    settled = merge.settle(value, work) if work else value
    if settled is not NotImplemented:
        return settled
    for delta in work:
        value = merge.apply(value, delta, [])
    return value


def _run(operations: Sequence[Operation], value: Any) -> Any:
    for operation in operations:
        result = operation(value)
        value = value if result is None else result
    return value


# ---------------------------------------------------------------------- the laws


def _round_trip(case: Case) -> _Broken | None:
    call = _call(case)
    delta = call.delta(case.there)
    if call.clashes(call.value, delta):
        return None
    expected = _run(case.there, copy.deepcopy(case.base))
    return _compare("base and delta", _merged(case.merge, call.value, delta), "the task", expected)


def _idle_task(case: Case) -> _Broken | None:
    call = _call(case)
    delta = call.delta([])
    if call.clashes(call.value, delta):
        return _Broken("an idle task", "clashes", "expected", "no clash")
    merged = _merged(case.merge, call.value, delta)
    return _compare("an idle task left", merged, "the base", case.base)


def _idle_parent(case: Case) -> _Broken | None:
    call = _call(case)
    clashes = call.clashes(call.value, call.delta(case.there))
    if clashes:
        return _Broken("with an idle parent", f"{clashes!r}", "expected", "no clash")
    return None


def _replay(case: Case) -> _Broken | None:
    call = _call(case)
    delta = call.delta(case.there)
    current = _run(case.here, call.value)
    if call.clashes(current, delta):
        return None
    merged = _merged(case.merge, current, delta)
    expected = _run(case.there, _run(case.here, copy.deepcopy(case.base)))
    return _compare("merged", merged, "one after the other", expected)


def _undo(case: Case) -> _Broken | None:
    call = _call(case)
    delta = call.delta(case.there)
    current = _run(case.here, call.value)
    if delta is None or call.clashes(current, delta):
        return None
    before = copy.deepcopy(current)
    steps: Undo = []
    case.merge.apply(current, delta, steps)
    while steps:
        steps.pop()()
    return _compare("after undo", _in_order(current), "before", _in_order(before))


def _transport(case: Case) -> _Broken | None:
    call = _call(case)
    delta = call.delta(case.there)
    current = _run(case.here, call.value)
    if delta is None or call.clashes(current, delta):
        return None
    arrived = pickle.loads(pickle.dumps(delta, 5))
    other = copy.deepcopy(current)
    direct = _merged(case.merge, current, delta)
    return _compare("pickled", _merged(case.merge, other, arrived), "direct", direct)


def _commuting(case: Case) -> _Broken | None:
    if case.merge.in_order:
        return None
    call = _call(case)
    deltas = call.delta(case.here), call.delta(case.there)
    forwards, backwards = _in_turn(call, deltas), _in_turn(call, deltas[::-1])
    return _compare("in this order", forwards, "the other way round", backwards, "another task")


def _in_turn(call: _Call, deltas: Sequence[Any]) -> Any:
    """Return the value with all deltas; "a clash" if there is one."""
    value = copy.deepcopy(call.value)
    for number, delta in enumerate(deltas):
        if call.clashes(value, delta):
            return "a clash"
        value = _merged(call.merge, copy.deepcopy(call.value), *deltas[: number + 1])
    return value


LAWS: dict[str, Callable[[Case], _Broken | None]] = {
    "the idle task": _idle_task,
    "the round trip": _round_trip,
    "the idle parent": _idle_parent,
    "replay": _replay,
    "undo": _undo,
    "transport": _transport,
    "commuting": _commuting,
}
"""The laws by their names; each returns None if it holds for a case."""


def _compare(
    got_from: str, got: Any, expected_from: str, expected: Any, first: str = "the parent"
) -> _Broken | None:
    if type(got) is type(expected) and bool(got == expected):
        return None
    return _Broken(got_from, repr(got), expected_from, repr(expected), first)


def _in_order(value: Any) -> Any:
    """Return the items of a dict, for whose equality the order counts; else the value."""
    return list(value.items()) if isinstance(value, dict) else value


def _name(operation: Operation, number: int) -> str:
    name = getattr(operation, "__name__", "<lambda>")
    return f"operations[{number}]" if name == "<lambda>" else name


def _pairs(count: int, longest: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Yield pairs of sequences of operations, those with fewer first."""
    for length in range(2 * longest + 1):
        for here in range(max(0, length - longest), min(length, longest) + 1):
            for one in itertools.product(range(count), repeat=here):
                for other in itertools.product(range(count), repeat=length - here):
                    yield one, other
