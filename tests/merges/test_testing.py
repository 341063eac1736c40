# SPDX-License-Identifier: MIT
"""`snakefish.testing`: each law holds for the right merges and fails for a wrong one."""

from __future__ import annotations

from collections import defaultdict

import pytest
from wrong import WRONG

from snakefish import merges
from snakefish.testing import LAWS, check


def add_1(value):
    """A step of ints."""
    return value + 1


def add_2(value):
    """Another one."""
    return value + 2


def append_1(value):
    """A step of lists."""
    value.append(1)


def append_2(value):
    """Another one."""
    value.append(2)


def set_0(value):
    """Assigns."""
    return 0


STEPS = {True: ([[], [0]], [append_1, append_2]), False: ([0, 1], [set_0, add_1, add_2])}


class TestLaws:
    @pytest.mark.parametrize("law", LAWS)
    def test_law_fails_for_a_merge_that_breaks_it(self, law):
        """Every law has a wrong merge, which it is the first to find out."""
        merge = WRONG[law]
        of_lists = isinstance(merge, type(merges.append))
        bases, operations = STEPS[of_lists]
        with pytest.raises(AssertionError, match=f"breaks the law of {law}"):
            check(merge, bases, operations if law == "replay" or of_lists else operations[1:])


class TestCheck:
    @pytest.mark.parametrize(
        ("merge", "bases", "operations"),
        [
            (merges.add, [0, 3], [add_1, add_2]),
            (merges.total, [0.0, 0.5], [lambda x: x + 0.5, lambda x: x - 1]),
            (merges.append, [[], [0]], [append_1, append_2]),
            (merges.union, [set(), {1}], [lambda s: s.add(1), lambda s: s.add(2)]),
            (merges.ensure, [0, 1], [add_1, set_0]),
            (merges.merge3(lambda b, m, t: m + t - b, commutes=True), [0], [add_1, add_2]),
            (merges.mapping(merges.append), [defaultdict(list)], [lambda d: d["a"].append(1)]),
        ],
        ids=lambda value: value.name() if isinstance(value, merges.Merge) else "",
    )
    def test_right_merge_passes(self, merge, bases, operations):
        """Nothing is raised."""
        check(merge, bases, operations)

    def test_counterexample_is_the_smallest(self):
        """One step on each side, and the values as the user would write them."""
        with pytest.raises(AssertionError) as caught:
            check(merges.merge3(lambda base, mine, theirs: max(mine, theirs)), [0], [add_1, add_2])
        assert str(caught.value).splitlines()[1:] == [
            "    base: 0",
            "    the parent did: add_1",
            "    the task did: add_1",
            "    merged: 1",
            "    one after the other: 2",
        ]

    def test_bases_stay_as_they_were(self):
        """What is given is copied."""
        base = [0]
        check(merges.append, [base], [append_1])
        assert base == [0]

    def test_nothing_to_try_is_an_error(self):
        """A check of nothing would pass for anything."""
        with pytest.raises(ValueError, match="a base and an operation"):
            check(merges.add, [], [add_1])

    def test_lambdas_are_told_by_their_number(self):
        """A lambda has no name to show."""
        with pytest.raises(AssertionError, match=r"operations\[0\]"):
            check(merges.last, [0], [lambda x: 1, lambda x: 0])

    def test_unfit_operation_is_told_by_the_merge(self):
        """An operation that the merge is not for raises what a task would raise."""
        with pytest.raises(ValueError, match="at its end"):
            check(merges.append, [[1]], [list.clear])
