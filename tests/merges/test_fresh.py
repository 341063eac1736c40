# SPDX-License-Identifier: MIT
"""Values that each task begins anew."""

from __future__ import annotations

import operator
from collections import Counter

import pytest
from hypothesis import strategies as st
from laws import INTS, KEYS, Laws, steps

from snakefish import merges


def join(one, other):
    """Add two Counters, keeping negatives."""
    for key in other:
        one[key] += other[key]
    return one


class TestFreshList(Laws):
    merge = merges.fresh(list, operator.iadd)
    agrees = False
    bases = st.lists(INTS, max_size=3)
    operations = steps("append({})", list.append, INTS)


class TestFreshCounter(Laws):
    merge = merges.fresh(Counter, join, commutes=True)
    agrees = False
    bases = st.dictionaries(KEYS, INTS).map(Counter)
    operations = steps("[{}] += {}", lambda c, k, v: c.update({k: v}), KEYS, INTS)


class TestFresh:
    def test_new_value_is_put_into_the_old_object(self):
        """Whoever else holds the list sees what came."""
        current, undo = [1], []
        merged = merges.fresh(list, operator.add).apply(current, ([2],), undo)
        assert merged is current
        assert current == [1, 2]
        undo.pop()()
        assert current == [1]

    def test_constant_identity(self):
        """An immutable identity can be given as it is."""
        words = merges.fresh("", operator.add)
        assert words.view("base") == ""
        assert words.apply("a", words.diff(None, "b"), []) == "ab"

    def test_mutable_identity_is_refused(self):
        """A list that tasks would share is no identity; what makes one is."""
        with pytest.raises(TypeError, match="list"):
            merges.fresh([], operator.iadd)

    def test_combine_must_be_callable(self):
        """A forgotten function is told at once."""
        with pytest.raises(TypeError, match="function"):
            merges.fresh(list, None)

    def test_names_and_equality(self):
        """The parameters are the merge."""
        assert merges.fresh(list, operator.iadd) == merges.fresh(list, operator.iadd)
        assert merges.fresh(list, operator.iadd) != merges.fresh(list, operator.add)
        assert merges.fresh(list, operator.iadd).name() == "fresh(list, iadd)"
