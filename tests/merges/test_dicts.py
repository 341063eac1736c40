# SPDX-License-Identifier: MIT
"""Dicts: new keys, counts, and a merge for each key."""

from __future__ import annotations

import copy
import math
from array import array
from collections import Counter, OrderedDict, defaultdict, deque

import pytest
from hypothesis import strategies as st
from laws import INTS, KEYS, Laws, steps

from snakefish import merges
from snakefish.merges import _dicts
from snakefish.merges._merge import EXACT

COUNTS = st.dictionaries(KEYS, INTS, max_size=4)


def pure(key):
    """What a memo would hold for a key."""
    return ord(key) % 3


def memoise(memo, key):
    """Insert as a memo does: if it is not there, what the key determines."""
    memo.setdefault(key, pure(key))


def bump(counts, key, amount):
    """Add to one count."""
    counts[key] = counts.get(key, 0) + amount


def touch(lists, key):
    """Read what a defaultdict makes for a key."""
    lists[key]


def undone(steps_):
    """Run the steps of an undo from its end."""
    for step in reversed(steps_):
        step()


class TestInsert(Laws):
    merge = merges.insert
    agrees = True
    bases = st.lists(KEYS, unique=True, max_size=3).map(lambda keys: {k: pure(k) for k in keys})
    operations = steps("memo[{}]", memoise, KEYS)

    def test_equal_values_are_no_clash(self):
        """Two tasks that found the same are as one; NaN is the same as NaN."""
        delta = {"a": 1, "b": math.nan}
        assert list(merges.insert.clashes(None, {"a": 1, "b": math.nan}, delta)) == []

    def test_all_clashes_are_found(self):
        """Each key with another value is told."""
        clashes = list(merges.insert.clashes(None, {"a": 1, "b": 2}, {"a": 3, "b": 4, "c": 5}))
        assert clashes == [("a", 1, 3), ("b", 2, 4)]

    def test_error_takes_equal_values_as_a_clash(self):
        """With error, nobody else may insert the same key."""
        once_each = merges.insert(clash="error")
        assert list(once_each.clashes(None, {"a": 1}, {"a": 1})) == [("a", 1, 1)]

    @pytest.mark.parametrize(("clash", "value"), [("first", 1), ("last", 2)])
    def test_first_or_last_wins(self, clash, value):
        """Without conflicts, one of the values stays; undo restores value and order."""
        chosen, current, undo = merges.insert(clash=clash), {"a": 1, "z": 0}, []
        assert list(chosen.clashes(None, current, {"a": 2, "b": 3})) == []
        assert chosen.apply(current, {"a": 2, "b": 3}, undo) == {"a": value, "z": 0, "b": 3}
        undone(undo)
        assert list(current.items()) == [("a", 1), ("z", 0)]

    @pytest.mark.parametrize("change", [lambda d: d.pop("b"), lambda d: d.update(c=d.pop("b"))])
    def test_removed_key_is_an_error(self, change):
        """A missing key is seen by the size or by the last key."""
        value = {"a": 1, "b": 2}
        token = merges.insert.capture(value)
        change(value)
        with pytest.raises(ValueError, match="removed keys"):
            merges.insert.diff(token, value)

    def test_replaced_value_is_an_error(self):
        """Counting in a dict is no insertion, and the error names the key."""
        value = {"a": 1, "b": 1000}
        token = merges.insert.capture(value)
        value["b"] += 1
        with pytest.raises(ValueError, match="replaced 1000 by 1001 at key 'b'"):
            merges.insert.diff(token, value)

    def test_equal_value_is_no_replacement(self):
        """To store what is there already is no write; a NaN is the same NaN."""
        value = {"a": 1000, "b": math.nan}
        token = merges.insert.capture(value)
        value["a"] = int("1000")
        assert merges.insert.diff(token, value) is None

    def test_replaced_value_in_a_large_dict_is_not_seen(self):
        """That is the price of a capture that costs nothing."""
        value = dict.fromkeys(range(EXACT + 1))
        token = merges.insert.capture(value)
        value[0] = 2
        assert token.values is None
        assert merges.insert.diff(token, value) is None

    def test_unknown_clash_is_an_error(self):
        """There are four ways."""
        with pytest.raises(ValueError, match="equal, error, first, last"):
            merges.insert(clash="random")

    def test_names_and_equality(self):
        """Merges with the same parameters are equal, and their names tell them apart."""
        assert merges.insert() == merges.insert
        assert merges.insert(clash="first") != merges.insert
        assert hash(merges.insert(clash="first")) == hash(merges.insert(clash="first"))
        assert merges.insert(clash="last").name() == "insert(clash='last')"

    def test_list_is_refused(self):
        """What is no dict has no keys."""
        assert "list" in merges.insert.refusal([])
        with pytest.raises(TypeError, match="list"):
            merges.insert.diff(merges.insert.capture({}), [])


class TestCount(Laws):
    merge = merges.count
    agrees = False
    bases = COUNTS.map(Counter)
    operations = steps("[{}] += {}", bump, KEYS, INTS)

    def test_negative_and_zero_counts_stay(self):
        """A count below zero comes back, and so does a key set to zero."""
        base = Counter(a=1)
        delta = merges.count.diff(merges.count.capture(base), Counter(a=-2, b=0))
        assert merges.count.apply(base, delta, []) == {"a": -2, "b": 0}
        assert list(base) == ["a", "b"]

    def test_moved_keys_are_found(self):
        """A dict rebuilt in another order is compared key by key."""
        token = merges.count.capture({"a": 1, "b": 2, "c": 3})
        assert merges.count.diff(token, {"c": 3, "d": 4, "a": 2, "b": 2}) == {"a": 1, "d": 4}

    def test_removed_key_is_an_error(self):
        """The first of them is named."""
        with pytest.raises(ValueError, match="'a' and 1 more"):
            merges.count.diff(merges.count.capture({"a": 1, "b": 2}), {"c": 1})

    def test_values_must_be_numbers(self):
        """Before the task by the type, after it with the key."""
        assert "str" in merges.count.refusal({"a": "b"})
        with pytest.raises(TypeError, match="'a'"):
            merges.count.diff(merges.count.capture({"a": 1}), {"a": "b"})
        with pytest.raises(TypeError, match="'b'"):
            merges.count.diff(merges.count.capture({"a": 1}), {"a": 1, "b": None})

    def test_infinite_count_stays_infinite(self):
        """inf - inf is never reckoned."""
        token = merges.count.capture({"a": math.inf})
        assert merges.count.diff(token, {"a": float("inf")}) is None

    def test_kind_of_dict_stays(self):
        """The parent's dict is changed in place."""
        current = defaultdict(int, a=1)
        assert merges.count.apply(current, {"a": 1, "b": 1}, []) is current
        assert current == {"a": 2, "b": 1}


class TestLargeDicts:
    """Above a limit the keys are compared where they came last, and nowhere else."""

    @pytest.fixture(autouse=True)
    def _everything_is_large(self, monkeypatch):
        monkeypatch.setattr(_dicts, "EXACT", 1)
        monkeypatch.setattr(_dicts, "LAST_KEYS", 2)

    @pytest.fixture(params=[merges.count, merges.mapping(merges.add)], ids=repr)
    def merge(self, request):
        return request.param

    def after(self, merge, change, kind=dict):
        """What is different in the parent after a task that made a change."""
        value, current = kind(dict.fromkeys("abcdef", 1)), kind(dict.fromkeys("abcdef", 1))
        token = merge.capture(value)
        value = change(value) or value
        delta = merge.diff(token, value)
        merge.apply(current, delta, [])
        return current == value and list(current.items())[:1] + list(current.items())[6:]

    def test_changed_and_new_values_come_back(self, merge):
        """Under keys that were there, and under others."""
        change = lambda value: value.update(a=5, c=7, z=9, y=8)  # noqa: E731
        assert self.after(merge, change) == [("a", 5), ("z", 9), ("y", 8)]

    @pytest.mark.parametrize("key", "abcdef")
    @pytest.mark.parametrize("others", ["", "x", "xyz"])
    def test_a_removed_key_is_an_error(self, merge, key, others):
        """Wherever it was, and whatever came behind."""

        def change(value):
            del value[key]
            value.update(dict.fromkeys(others, 1))

        with pytest.raises(ValueError, match=f"removed the key '{key}'"):
            self.after(merge, change)

    @pytest.mark.parametrize("key", "abcdef")
    def test_a_key_that_was_removed_and_came_again_is_none(self, merge, key):
        """It has moved, and is compared with what it had."""

        def change(value):
            value[key] = value.pop(key) + 4
            value["z"] = 3

        assert self.after(merge, change)

    def test_another_dict_is_compared_as_a_whole(self, merge):
        """One that the task assigned may have keys in any order."""
        with pytest.raises(ValueError, match="removed the key 'b'"):
            self.after(merge, lambda value: dict.fromkeys("axcdef", 1))

    def test_an_ordered_dict_is_compared_as_a_whole(self, merge):
        """Its keys can be moved to its beginning."""

        def change(value):
            value["b"] += 1
            value["c"] += 1
            value.move_to_end("c", last=False)

        value = OrderedDict.fromkeys("abcdef", 1)
        token = merge.capture(value)
        change(value)
        merged = merge.apply(OrderedDict.fromkeys("abcdef", 1), merge.diff(token, value), [])
        assert dict(merged) == {**dict.fromkeys("abcdef", 1), "b": 2, "c": 2}


class TestMappingOfAppend(Laws):
    merge = merges.mapping(merges.append)
    agrees = False
    bases = st.dictionaries(KEYS, st.lists(INTS, max_size=2), max_size=3).map(
        lambda value: defaultdict(list, value)
    )
    operations = steps("[{}].append({})", lambda d, k, v: d[k].append(v), KEYS, INTS) | steps(
        "[{}]", touch, KEYS
    )

    def test_touched_key_is_created(self):
        """A key whose value stayed empty is created all the same, in the order of the task."""
        base = defaultdict(list)
        token = self.merge.capture(base)
        mine = defaultdict(list, b=[], a=[1])
        merged = self.merge.apply(base, self.merge.diff(token, mine), [])
        assert list(merged.items()) == [("b", []), ("a", [1])]

    def test_undo_keeps_the_inner_objects(self):
        """The lists are the same objects afterwards, with the same elements."""
        inner = [1]
        current, undo = {"a": inner}, []
        delta = self.merge.diff(self.merge.capture({"a": [1]}), {"a": [1, 2], "b": [3]})
        assert self.merge.apply(current, delta, undo)["a"] is inner
        undone(undo)
        assert current == {"a": [1]}
        assert current["a"] is inner

    def test_assigned_list_of_the_same_size_is_looked_at(self):
        """Another object under a key is compared whatever its size."""
        token = self.merge.capture({"a": [1]})
        with pytest.raises(ValueError, match="at key 'a'"):
            self.merge.diff(token, {"a": [2]})

    @pytest.mark.parametrize("kind", [list, deque, bytearray, lambda v: array("i", v), tuple])
    def test_any_sequence_is_appended_to(self, kind):
        """Those that are captured together, and those that are not, changed or not."""
        base = {key: kind(value) for key, value in {"a": [1], "b": [], "c": [5, 6]}.items()}
        token = self.merge.capture(base)
        mine = {key: value + kind([7, 8]) for key, value in base.items() if key != "c"}
        delta = self.merge.diff(token, {**mine, "c": base["c"]})
        assert {key: list(tail) for key, tail in delta[0].items()} == {"a": [7, 8], "b": [7, 8]}

    @pytest.mark.parametrize("change", [list.clear, list.sort, lambda v: v.insert(0, 9)])
    def test_what_is_no_append_is_an_error(self, change):
        """By its length and its ends."""
        base = {"a": [1], "b": [3, 2]}
        token = self.merge.capture(base)
        change(base["b"])
        base["b"] += [0, 0, 0]
        with pytest.raises(ValueError, match="at key 'b'"):
            self.merge.diff(token, base)

    def test_one_list_under_two_keys_grows_once(self):
        """It is one value, in the task and in the parent."""
        one = [1]
        base = {"a": one, "b": one, "c": [1]}
        token, (mine, current) = self.merge.capture(base), (base, copy.deepcopy(base))
        one.append(2)
        base["c"].append(3)
        self.merge.apply(current, self.merge.diff(token, mine), [])
        assert current == {"a": [1, 2], "b": [1, 2], "c": [1, 3]}

    def test_bounded_deque_is_refused_under_a_new_key(self):
        """What the inner merge refuses is refused when it appears, too."""
        with pytest.raises(TypeError, match="maxlen"):
            self.merge.diff(self.merge.capture({}), {"a": deque([1], 3)})

    def test_array_grows_from_nothing(self):
        """The zero of a new key has the type of what the task put there."""
        delta = self.merge.diff(self.merge.capture({}), {"a": array("i", [1])})
        current = self.merge.apply({}, delta, [])
        assert self.merge.apply(current, delta, []) == {"a": array("i", [1, 1])}

    def test_key_removed_by_the_parent_is_a_clash(self):
        """There is nothing left to append to."""
        token = self.merge.capture({"a": []})
        delta = self.merge.diff(token, {"a": [1]})
        [clash] = self.merge.clashes(token, {}, delta)
        assert (clash.key, repr(clash.current)) == ("a", "nothing")


class TestMappingOfAdd(Laws):
    merge = merges.mapping(merges.add)
    agrees = False
    bases = COUNTS
    operations = steps("[{}] += {}", bump, KEYS, INTS)

    def test_undo_puts_numbers_back(self):
        """Replaced values and new keys are taken back."""
        current, undo = {"a": 1}, []
        self.merge.apply(current, ({"a": 2}, {"b": (0, 5)}, False), undo)
        assert current == {"a": 3, "b": 5}
        undone(undo)
        assert current == {"a": 1}


class TestMappingOfMinimum(Laws):
    merge = merges.mapping(merges.minimum)
    agrees = True
    bases = COUNTS
    operations = steps(
        "min at {}: {}", lambda d, k, v: d.update({k: min(d.get(k, v), v)}), KEYS, INTS
    )


class TestMappingOfUnion(Laws):
    merge = merges.mapping(merges.union)
    agrees = True
    bases = st.dictionaries(KEYS, st.sets(INTS, max_size=2), max_size=3)
    operations = steps("[{}].add({})", lambda d, k, v: d.setdefault(k, set()).add(v), KEYS, INTS)


class TestMappingOfMapping(Laws):
    merge = merges.mapping(merges.mapping(merges.append))
    agrees = False
    bases = st.dictionaries(
        KEYS, st.dictionaries(KEYS, st.lists(INTS, max_size=1), max_size=2), max_size=2
    )
    operations = steps(
        "[{}][{}].append({})",
        lambda d, k, j, v: d.setdefault(k, {}).setdefault(j, []).append(v),
        KEYS,
        KEYS,
        INTS,
    )

    def test_factory_of_factories_need_not_be_pickled(self):
        """The parent makes the zeros with its own factory."""
        import pickle

        def make():
            return defaultdict(lambda: defaultdict(list))

        base, mine = make(), make()
        mine["a"]["b"].append(1)
        delta = pickle.loads(pickle.dumps(self.merge.diff(self.merge.capture(base), mine)))
        merged = self.merge.apply(base, delta, [])
        assert merged["a"]["b"] == [1]
        assert merged["a"]["z"] == []


class TestMappingOfOnce(Laws):
    merge = merges.mapping(merges.once)
    agrees = True
    bases = COUNTS
    operations = steps("[{}] = {}", lambda d, k, v: d.update({k: v}), KEYS, INTS)
    fails = frozenset({"replay"})  # silent stores

    def test_clash_names_the_key(self):
        """Two values under one new key are told with it."""
        token = self.merge.capture({})
        delta = self.merge.diff(token, {"a": 1, "b": 2})
        assert list(self.merge.clashes(token, {"a": 1, "b": 3}, delta)) == [("b", 3, 2)]

    def test_nested_clash_has_a_pair(self):
        """A clash inside of a value is told with both keys, and writers are found by it."""
        both = merges.mapping(merges.insert)
        token = both.capture({"a": {}})
        delta = both.diff(token, {"a": {"x": 1}})
        [clash] = both.clashes(token, {"a": {"x": 2}}, delta)
        assert clash == (("a", "x"), 2, 1)
        assert both.touches(delta, ("a", "x"))
        assert not both.touches(delta, ("a", "y"))
        assert not both.touches(delta, "b")


class TestMapping:
    @pytest.mark.parametrize(
        "inner", [merges.total, merges.private, merges.fresh(int, max)], ids=lambda one: one.name()
    )
    def test_merge_that_hides_the_base_is_refused(self, inner):
        """A dict cannot be seen in parts."""
        with pytest.raises(TypeError, match="single keys"):
            merges.mapping(inner)

    def test_inner_must_be_a_merge(self):
        """A forgotten merge is told at once."""
        with pytest.raises(TypeError, match="needs a merge"):
            merges.mapping(list)

    def test_refusal_of_a_value_is_handed_on(self):
        """The inner merge's reason is told, with its name."""
        assert "append" in merges.mapping(merges.append).refusal({"a": [], "b": 1})

    def test_equality_goes_by_the_inner_merge(self):
        """Two objects that mean the same are the same."""
        assert merges.mapping(merges.add) == merges.mapping(merges.add)
        assert merges.mapping(merges.add) != merges.mapping(merges.append)
        assert merges.mapping(merges.insert(clash="last")).name() == "mapping(insert(clash='last'))"

    def test_ordered_dict_keeps_its_order(self):
        """A kind of dict with an order of its own is put back in it."""
        current, undo = OrderedDict(b=1, a=2), []
        merges.mapping(merges.add).apply(current, ({"b": 5}, {"c": (0, 1)}, False), undo)
        undone(undo)
        assert list(current.items()) == [("b", 1), ("a", 2)]
