# SPDX-License-Identifier: MIT
"""Values as a whole."""

from __future__ import annotations

import threading

import pytest
from laws import INTS, Laws, steps

from snakefish import merges

SETS = steps("= {}", lambda _, value: value, INTS)


class Settings:
    """What a program might hold its state in."""

    def __init__(self, level):
        self.level = level

    def __eq__(self, other):
        return vars(self) == vars(other)

    __hash__ = None


def both(merge, base, mine, current):
    """The clashes, and the delta, of a task that made *mine* of *base*."""
    token = merge.capture(base)
    delta = merge.diff(token, mine)
    return list(merge.clashes(token, current, delta)), delta


def one(clashes):
    """What is told of the whole value: the current one and theirs."""
    [(key, current, theirs)] = clashes
    assert key is None
    return current, theirs


class TestOnce(Laws):
    merge = merges.once
    agrees = True
    bases = INTS
    operations = SETS
    fails = frozenset({"replay"})  # silent stores

    def test_second_writer_is_a_clash_unless_equal(self):
        """Another value is a conflict, the same one is not."""
        assert one(both(merges.once, 0, 1, 2)[0]) == (2, 1)
        assert both(merges.once, 0, 1, 1)[0] == []

    def test_change_in_place_is_seen_at_any_depth(self):
        """The pickle tells what the object alone does not."""
        value = {"a": [[1]]}
        token = merges.once.capture(value)
        value["a"][0].append(2)
        assert merges.once.diff(token, value) == (True, {"a": [[1, 2]]})

    def test_change_in_place_is_made_in_place(self):
        """Aliases see it, and undo puts the contents back."""
        value = Settings(1)
        token = merges.once.capture(value)
        value.level = 2
        current, undo = Settings(1), []
        assert merges.once.apply(current, merges.once.diff(token, value), undo) is current
        assert current.level == 2
        undo.pop()()
        assert current.level == 1

    def test_assignment_is_made_as_one(self):
        """A new object is assigned, and the old one stays what it was."""
        old = [1]
        merged = merges.once.apply(old, merges.once.diff(merges.once.capture(old), [2]), [])
        assert (old, merged) == ([1], [2])

    def test_equal_value_is_no_write(self):
        """A set pickled in another order is equal still."""
        ordered = {8, 0}
        other = {0, 8}
        assert merges.once.diff(merges.once.capture(ordered), other) is None

    def test_what_cannot_be_pickled_is_refused(self):
        """A lock has no pickle, and the reason is told."""
        with pytest.raises(TypeError, match="cannot be pickled"):
            merges.once.capture(threading.Lock())

    def test_functions_are_values(self):
        """A lambda cannot change and need not be pickled to be compared."""
        merge, function = merges.once, (lambda: 1)
        assert merge.diff(merge.capture(function), function) is None

    def test_none_is_a_value(self):
        """A task may set None."""
        assert merges.once.diff(merges.once.capture(1), None) == (False, None)


class TestLast(Laws):
    merge = merges.last
    agrees = True
    bases = INTS
    operations = SETS
    fails = frozenset({"replay"})

    def test_later_wins(self):
        """There are no conflicts."""
        clashes, delta = both(merges.last, [0], [1], [2])
        assert (clashes, merges.last.apply([2], delta, [])) == ([], [1])


class TestFrozen:
    def test_any_change_is_a_clash(self):
        """The task's value is told."""
        assert one(both(merges.frozen, [1], [1, 2], [1])[0]) == ([1], [1, 2])

    def test_idle_task_is_none(self):
        """What was only read is no conflict, whatever the parent did."""
        assert merges.frozen.diff(merges.frozen.capture([1]), [1]) is None


class TestEnsure(Laws):
    merge = merges.ensure
    agrees = False
    bases = INTS
    operations = SETS
    idle_is_none = False  # reading is what asks for the check

    def test_change_by_others_is_a_clash(self):
        """Even if the task itself changed nothing."""
        assert one(both(merges.ensure, [1], [1], [2])[0]) == ([2], [1])
        assert one(both(merges.ensure, 1, 3, 2)[0]) == (2, 3)

    def test_change_by_the_task_comes_back(self):
        """Nobody else having written, the task may."""
        clashes, delta = both(merges.ensure, 1, 3, 1)
        assert (clashes, merges.ensure.apply(1, delta, [])) == ([], 3)
        assert merges.ensure.touches(delta, None)

    def test_reader_is_no_writer(self):
        """A task that only relied on the value is not named as its writer."""
        assert not merges.ensure.touches(both(merges.ensure, 1, 1, 1)[1], None)

    def test_commuting_needs_no_reader(self):
        """A reader before a writer is fine, after it is stale: order does matter."""
        assert merges.ensure.in_order


class TestPrivate:
    def test_nothing_comes_back(self):
        """Whatever the task left."""
        assert merges.private.diff(merges.private.capture([]), [1]) is None


class TestMerge3(Laws):
    """Three-way addition is a change structure like any other."""

    merge = merges.merge3(lambda base, mine, theirs: mine + theirs - base, commutes=True)
    agrees = False
    bases = INTS
    operations = steps("+= {}", lambda value, more: value + more, INTS)

    def test_function_may_change_mine(self):
        """In place, with undo."""
        extend = merges.merge3(lambda base, mine, theirs: mine.extend(theirs) or mine)
        current, undo = [1], []
        delta = extend.diff(extend.capture([]), [2])
        assert extend.apply(current, delta, undo) is current
        assert current == [1, 2]
        undo.pop()()
        assert current == [1]

    def test_new_value_fills_the_old_object(self):
        """Whoever holds the dict sees what was merged."""
        chosen = merges.merge3(lambda base, mine, theirs: {**mine, **theirs})
        current = {"a": 1}
        merged = chosen.apply(current, chosen.diff(chosen.capture({}), {"b": 2}), [])
        assert merged is current
        assert current == {"a": 1, "b": 2}

    def test_base_is_what_it_was(self):
        """Although the task changed it in place."""
        seen = []
        spy = merges.merge3(lambda *three: seen.append(three) or three[1])
        value = [1]
        token = spy.capture(value)
        value.append(2)
        spy.apply([1], spy.diff(token, value), [])
        assert seen == [([1], [1], [1, 2])]

    def test_function_is_needed(self):
        """A forgotten function is told at once."""
        with pytest.raises(TypeError, match="function"):
            merges.merge3(None)
