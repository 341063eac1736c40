# SPDX-License-Identifier: MIT
"""A parallel map leaves the program in the state that the plain loop would have left.

For every merge that replays: by any number of children, in chunks of any size, however long
each item takes, wherever an exception or a SIGKILL comes, and in a map within a map.

The usual run tries each way of running with some merges. SNAKEFISH_EQUALITY=1 in the environment
tries all with all, 34,000 times; 3, every third of them, which still are all pairs of a merge, a
way of running and a place or seed. 10 would try each merge in two ways of twenty only.
"""

from __future__ import annotations

import copy
import functools
import itertools
import math
import operator
import os
import random
import select
import signal
from array import array
from collections import Counter, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Callable, ClassVar, NamedTuple

import pytest

import snakefish
from snakefish import merges
from snakefish.merges import Merge

if TYPE_CHECKING:
    from collections.abc import Iterator

STRIDE = int(os.environ.get("SNAKEFISH_EQUALITY", "0"))
"""Every so many combinations are tried; 0 for a few of them."""

ITEMS = 7
MOST_DELAY = 0.0015 if STRIDE else 0.004
"""Seconds; several times what a fork takes, so that jobs end in any order."""

value: Any = None


class Case(NamedTuple):
    """A merge, what the variable begins with, and what an item does to it."""

    merge: Merge
    base: Any
    do: Callable[[int], Any]
    """Returns what to assign to the variable; None if it was changed in place."""


def cubes(item: int) -> int:
    """Numbers in no order, some of which come twice."""
    return item**3 % 5


def tally(item: int) -> None:
    value[cubes(item)] += item - 3


def index(item: int) -> None:
    value[cubes(item)].append(item)


def sets(item: int) -> None:
    value.setdefault(cubes(item), set()).add(item)


def counters(item: int) -> None:
    value[cubes(item)][item % 2] += 1


def element(item: int) -> None:
    value[item] = item + 1


def concatenated(mine: list[int], theirs: list[int]) -> list[int]:
    return mine + theirs


def longer(base: str, mine: str, theirs: str) -> str:
    return max(mine, theirs, key=len)


CASES = {
    "add int": Case(merges.add, 5, lambda n: value + n * n),
    "add negative": Case(merges.add, 5, lambda n: value - n),
    "add Fraction": Case(merges.add, Fraction(1, 3), lambda n: value + Fraction(n, 7)),
    "add Decimal": Case(merges.add, Decimal("0.1"), lambda n: value + Decimal(n) / 4),
    "add array": Case(merges.add, array("i", [5] * 5), tally),
    "total array": Case(merges.total, array("d", [5.0] * 5), tally),
    "total": Case(merges.total, 1.0, lambda n: value + n / 8),
    "minimum": Case(merges.minimum, 4, lambda n: min(value, cubes(n))),
    "maximum": Case(merges.maximum, None, lambda n: max(value or (0, 0), (cubes(n), n))),
    "append list": Case(merges.append, [9], lambda n: value.append(n)),
    "append deque": Case(merges.append, deque([9]), lambda n: value.extend([n] * (n % 3))),
    "append bytearray": Case(merges.append, bytearray(b"x"), lambda n: value.append(n)),
    "append array": Case(merges.append, array("d"), lambda n: value.append(n)),
    "append str": Case(merges.append, "x", lambda n: value + str(n)),
    "append tuple": Case(merges.append, (), lambda n: (*value, n)),
    "union": Case(merges.union, {0, 9}, lambda n: value.add(cubes(n))),
    "union frozen": Case(merges.union, frozenset({9}), lambda n: value | {cubes(n)}),
    "count Counter": Case(merges.count, Counter({1: 4}), tally),
    "count defaultdict": Case(merges.count, defaultdict(int, {8: 1}), tally),
    "insert": Case(merges.insert, {9: 1}, lambda n: value.setdefault(cubes(n), cubes(n) ** 2)),
    "insert first": Case(merges.insert(clash="first"), {}, lambda n: value.setdefault(cubes(n), n)),
    "index": Case(merges.mapping(merges.append), defaultdict(list, {3: [-1]}), index),
    "sets by key": Case(merges.mapping(merges.union), {1: {-1}}, sets),
    "counts by key": Case(
        merges.mapping(merges.count), defaultdict(Counter, {2: Counter({0: 5})}), counters
    ),
    "fresh in place": Case(merges.fresh(list, operator.iadd), ["base"], lambda n: value.append(n)),
    "fresh new": Case(merges.fresh(list, concatenated), ["base"], lambda n: value.append(n)),
    "fresh commuting": Case(
        merges.fresh(Counter, operator.iadd, commutes=True),
        Counter({1: 4}),
        lambda n: value.update([cubes(n)]),
    ),
    "fresh of add": Case(merges.fresh(merges.add), 5, lambda n: value + n),
    "fresh of append": Case(merges.fresh(merges.append), [9], lambda n: value.append(n)),
    "fresh of union": Case(merges.fresh(merges.union), {0, 9}, lambda n: value.add(cubes(n))),
    "fresh of count": Case(merges.fresh(merges.count), Counter({1: 4}), tally),
    "fresh of insert": Case(
        merges.fresh(merges.insert), {4: 16}, lambda n: value.setdefault(cubes(n), cubes(n) ** 2)
    ),
    "fresh index": Case(
        merges.fresh(merges.mapping(merges.append)), defaultdict(list, {3: [-1]}), index
    ),
    "disjoint array": Case(merges.disjoint, array("l", [9] * ITEMS), element),
    "disjoint bytearray": Case(merges.disjoint, bytearray(ITEMS), element),
    "once equal": Case(merges.once, "?", lambda n: "found"),
    "once in place": Case(merges.once, {"state": "?"}, lambda n: value.update(state="found")),
    "merge3": Case(merges.merge3(longer), "", lambda n: max(value, "x" * cubes(n), key=len)),
    "last": Case(merges.last, "?", lambda n: f"by {n}"),
    "ensure untouched": Case(merges.ensure, [1, 2], lambda n: None),
    "frozen untouched": Case(merges.frozen, {"low": 0}, lambda n: None),
}
"""last is here since its items never assign what is there already."""

IN_PLACE = (list, dict, set, deque, bytearray, array)


class Trouble(Exception):
    """What an item raises."""


def run(case: Case, item: int, failing: int, killed: bool = False) -> int:
    """Do an item, and raise after its work if it is the failing one, or be killed."""
    global value
    result = case.do(item)
    if result is not None and not isinstance(value, IN_PLACE):
        value = result
    if item == failing and killed:
        os.kill(os.getpid(), signal.SIGKILL)
    if item == failing:
        raise Trouble(item)
    return item * 10


def looped(case: Case, items: range, failing: int = -1) -> Any:
    """What the plain loop leaves."""
    global value
    value = copy.deepcopy(case.base)
    for item in items:
        try:
            run(case, item, failing)
        except Trouble:
            break
    return value


def mapped(
    case: Case,
    seed: int,
    how: tuple[int, int],
    failing: int = -1,
    on_error: str = "sequential",
    killed: bool = False,
) -> Any:
    """What map leaves, each item of which takes a time that the seed decides."""
    global value
    value = same = copy.deepcopy(case.base)
    delays = [random.Random(seed * 100 + item).uniform(0, MOST_DELAY) for item in range(ITEMS)]

    def slowly(item: int) -> int:
        select.select([], [], [], delays[item])
        return run(case, item, failing, killed)

    share = {"value": case.merge}
    if failing < 0:
        results = snakefish.map(slowly, range(ITEMS), *how, share=share, on_error=on_error)
        assert results == [item * 10 for item in range(ITEMS)]
    else:
        error = (RuntimeError, "SIGKILL") if killed else (Trouble, f"^{failing}$")
        with pytest.raises(error[0], match=error[1]):
            snakefish.map(slowly, range(ITEMS), *how, share=share, on_error=on_error)
    assert value is same or not isinstance(same, IN_PLACE)
    return value


def in_order(left: Any) -> Any:
    """A value such that equality includes the order of keys."""
    if isinstance(left, dict):
        return type(left), [(key, in_order(inner)) for key, inner in left.items()]
    return type(left), left


def agree(left: Any, right: Any) -> None:
    if isinstance(left, float):
        assert math.isclose(left, right, rel_tol=1e-15)
    else:
        assert in_order(left) == in_order(right)


HOWS = [(1, 0), (1, 2), (2, 1), (2, 3), (4, 1), (4, 2), (4, 100), (8, 1), (8, 3)]
"""concurrency and chunksize"""

ALL_HOWS = list(itertools.product((1, 2, 4, 8), (0, 1, 2, 3, 100)))


def ways(case: Case, few: list[tuple[int, tuple[int, int]]], what: int) -> Iterator[Any]:
    """Yield pairs of a number, below *what*, and a way to run: *few*, or of all as many as asked.

    Which of all these are depends on the case, so that together the cases try each of them.
    """
    first = list(CASES.values()).index(case)
    all_of_them = itertools.product(range(what), ALL_HOWS)
    yield from itertools.islice(all_of_them, first % STRIDE, None, STRIDE) if STRIDE else few


def whole_chunks(how: tuple[int, int], failing: int) -> range:
    """The items in the chunks before that of the failing one."""
    concurrency, chunksize = how
    size = min(chunksize, ITEMS) or -(-ITEMS // concurrency)
    return range(failing // size * size)


EVERYWHERE = [(failing, HOWS[(failing * 3 + 1) % len(HOWS)]) for failing in range(ITEMS)]


@pytest.mark.timeout(60 if not STRIDE else 3600)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
class TestEqualsTheLoop:
    """State after map(..., share=...) and state after the loop."""

    def test_for_any_cores_and_chunks(self, case: Case) -> None:
        """Same value, same order of keys, same object where it is mutable."""
        expected = looped(case, range(ITEMS))
        for seed, how in ways(case, list(enumerate(HOWS)), 5):
            agree(mapped(case, seed, how), expected)

    def test_sequential_after_an_exception_anywhere(self, case: Case) -> None:
        """All before the failing item, and its own effects."""
        for failing, how in ways(case, EVERYWHERE, ITEMS):
            expected = looped(case, range(ITEMS), failing)
            agree(mapped(case, failing, how, failing), expected)

    def test_drop_after_an_exception(self, case: Case) -> None:
        """All chunks before the failing item's own."""
        for failing, how in ways(case, EVERYWHERE[::2], ITEMS):
            expected = looped(case, whole_chunks(how, failing))
            agree(mapped(case, failing, how, failing, "drop"), expected)

    def test_rollback_after_an_exception(self, case: Case) -> None:
        """What there was before."""
        for failing, how in ways(case, EVERYWHERE[::3], ITEMS):
            agree(mapped(case, failing, how, failing, "rollback"), case.base)

    def test_after_a_kill(self, case: Case) -> None:
        """All chunks before that of the killed child, or nothing."""
        for failing, how in ways(case, EVERYWHERE[1::3], ITEMS):
            expected = looped(case, whole_chunks(how, failing))
            agree(mapped(case, failing, how, failing, killed=True), expected)
            rolled_back = mapped(case, failing, how, failing, "rollback", killed=True)
            agree(rolled_back, case.base)

    def test_of_a_map_within_a_map(self, case: Case) -> None:
        """A child's own children are in what it brings back."""
        expected = looped(case, range(ITEMS))
        for number, inner in ways(case, [(2, (2, 1)), (5, (1, 2))], len(HOWS)):
            agree(mapped_twice(case, HOWS[number], inner), expected)


def mapped_twice(case: Case, outer: tuple[int, int], inner: tuple[int, int]) -> Any:
    """What a map leaves whose items are maps over some of the items."""
    global value
    value = copy.deepcopy(case.base)
    share = {"value": case.merge}
    parts = [range(2), range(2, 5), range(5, ITEMS)]

    def part(items: range) -> None:
        snakefish.map(lambda item: run(case, item, -1), items, *inner, share=share)

    snakefish.map(part, parts, *outer, share=share)
    return value


class Program:
    """Five variables, and what an item does to some of them; where it fails, to fewer."""

    number = 3
    log: ClassVar[list[str]] = []
    seen: ClassVar[set[int]] = set()
    words: ClassVar[Counter[str]] = Counter()
    by_key: ClassVar[defaultdict[int, list[int]]] = defaultdict(list)

    def __init__(self, seed: int) -> None:
        dice = random.Random(seed)
        self.failing = dice.choice([-1, *range(12)])
        self.plans = [dice.choices(range(5), k=dice.randrange(4)) for _ in range(12)]
        self.chunksizes = [dice.randrange(1, 6) for _ in range(3)]

    def work(self, item: int) -> int:
        """Do an item."""
        for action in self.plans[item]:
            self._act(action, item)
            if item == self.failing:
                break
        if item == self.failing:
            raise Trouble(item)
        return item

    def _act(self, action: int, item: int) -> None:
        if action == 0:
            Program.number += item
        elif action == 1:
            self.log.append(str(item))
        elif action == 2:
            self.seen.add(cubes(item))
        elif action == 3:
            self.words.update("xyz"[item % 3])
        else:
            self.by_key[cubes(item)].append(item)

    def attempt(self, call: Callable[[], object]) -> Any:
        """How a call ends, and what it leaves of variables that were as at the beginning."""
        Program.number = 3
        self.log[:] = ["begin"]
        for container in (self.seen, self.words, self.by_key):
            container.clear()
        self.seen.add(1)
        self.words.update("ab")
        try:
            ended: object = call()
        except Trouble as error:
            ended = error.args
        left = self.number, self.log, self.seen, in_order(self.words), in_order(self.by_key)
        return ended, copy.deepcopy(left)


class TestSeveralVariables:
    """A program with many shared variables, at random."""

    @pytest.mark.parametrize("seed", range(10))
    def test_equals_the_loop(self, seed: int) -> None:
        """Whatever mixture of them the items change, and wherever they fail."""
        program = Program(seed)
        names = ("number", "log", "seen", "words", "by_key")
        share = [f"Program.{name}" for name in names]
        expected = program.attempt(lambda: [program.work(item) for item in range(12)])
        for how in zip((1, 2, 4), program.chunksizes):
            parallel = functools.partial(snakefish.map, program.work, range(12), *how, share=share)
            assert program.attempt(parallel) == expected
