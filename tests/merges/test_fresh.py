# SPDX-License-Identifier: MIT
"""Values that each task begins anew."""

from __future__ import annotations

import operator
from collections import Counter, defaultdict, deque
from decimal import Decimal

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


class TestFreshOfCount(Laws):
    merge = merges.fresh(merges.count)
    agrees = False
    bases = st.dictionaries(KEYS, INTS).map(Counter)
    operations = steps("[{}] += {}", lambda c, k, v: c.update({k: v}), KEYS, INTS)


class TestFreshOfUnion(Laws):
    merge = merges.fresh(merges.union)
    agrees = True
    bases = st.sets(INTS, max_size=4)
    operations = steps("add({})", set.add, INTS) | steps("update({})", set.update, st.sets(INTS))


class TestFreshOfIndex(Laws):
    merge = merges.fresh(merges.mapping(merges.append))
    agrees = False
    bases = st.dictionaries(KEYS, st.lists(INTS, max_size=2), max_size=3).map(
        lambda value: defaultdict(list, value)
    )
    operations = steps("[{}].append({})", lambda d, k, v: d[k].append(v), KEYS, INTS) | steps(
        "[{}]", lambda d, k: [d[k], None][1], KEYS
    )


class TestFreshOfInsert(Laws):
    merge = merges.fresh(merges.insert)
    agrees = True
    bases = st.sets(KEYS).map(lambda keys: {key: ord(key) for key in keys})
    operations = steps("memoise {}", lambda d, k: d.update({k: ord(k)}), KEYS)


class TestFreshOf:
    @pytest.mark.parametrize(
        ("merge", "base", "zero"),
        [
            (merges.add, Decimal(3), Decimal(0)),
            (merges.append, deque([1]), deque()),
            (merges.append, "text", ""),
            (merges.union, frozenset({1}), frozenset()),
            (merges.count, defaultdict(int, a=1), defaultdict(int)),
            (merges.mapping(merges.count), {"a": Counter("a")}, {}),
        ],
        ids=repr,
    )
    def test_task_begins_with_the_zero_of_the_merge(self, merge, base, zero):
        """It has the type of the value, and the factory."""
        view = merges.fresh(merge).view(base)
        assert (type(view), view) == (type(base), zero)
        assert getattr(view, "default_factory", None) == getattr(base, "default_factory", None)

    @pytest.mark.parametrize(
        "inner",
        [merges.total, merges.maximum, merges.once, merges.disjoint, merges.mapping(merges.last)],
        ids=repr,
    )
    def test_merge_without_a_zero_is_refused(self, inner):
        """A maximum of nothing, or a dict that keys are assigned in, cannot be begun anew."""
        with pytest.raises(TypeError, match="no zero"):
            merges.fresh(inner)

    def test_a_merge_needs_no_function(self):
        """It combines itself."""
        with pytest.raises(TypeError, match="combines"):
            merges.fresh(merges.count, operator.iadd)
        with pytest.raises(TypeError, match="commutes"):
            merges.fresh(merges.count, commutes=True)

    def test_what_the_merge_refuses_is_refused(self):
        """In its words."""
        assert "numbers" in merges.fresh(merges.count).refusal({"a": "b"})

    def test_equal_inserts_are_no_clash_and_others_are(self):
        """A key that a task did not see may be there."""
        merge = merges.fresh(merges.insert)
        token = merge.capture({"a": 1})
        assert list(merge.clashes(token, {"a": 1}, merge.diff(token, {"a": 1}))) == []
        assert list(merge.clashes(token, {"a": 1}, {"a": 2})) == [("a", 1, 2)]
        assert merge.touches({"a": 2}, "a")
        assert not merge.touches({"a": 2}, "b")

    def test_names_and_equality(self):
        """The merge inside is the parameter."""
        assert merges.fresh(merges.count) == merges.fresh(merges.count)
        assert merges.fresh(merges.count) != merges.fresh(merges.union)
        assert repr(merges.fresh(merges.mapping(merges.append))) == (
            "merges.fresh(merges.mapping(merges.append))"
        )


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

    def test_what_a_task_made_is_not_pickled_to_be_compared(self):
        """It is equal to the identity, or it is sent."""

        class Element:
            def __reduce__(self):
                raise AssertionError("it was pickled")

        joined, made = merges.fresh(list, operator.iadd), [Element()]
        assert joined.diff(None, []) is None
        assert joined.diff(None, made) == (made,)

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
