# SPDX-License-Identifier: MIT
"""What a value was, and how its contents are put back."""

from __future__ import annotations

from array import array
from collections import Counter, OrderedDict, defaultdict, deque

import pytest

from snakefish.merges import _snapshot


class Slotted:
    """Has no attributes that could be exchanged as one."""

    __slots__ = ("x",)


class Custom:
    """Says itself how it is pickled."""

    def __reduce__(self):
        return Custom, ()


class Plain:
    """Is its attributes."""

    def __init__(self, x):
        self.x = x


class Tagged(list):
    """A list with attributes."""


class TestSame:
    def test_type_counts(self):
        """True is not 1."""
        assert not _snapshot.same(True, 1)

    def test_nan_is_the_same_at_any_depth(self):
        """Pickles tell what == does not."""
        assert _snapshot.same([float("nan")], [float("nan")])

    def test_objects_without_equality_are_compared_by_pickle(self):
        """Two with equal attributes are the same."""
        assert _snapshot.same(Plain(1), Plain(1))
        assert not _snapshot.same(Plain(1), Plain(2))

    def test_comparison_that_raises_is_heard(self):
        """A raising __eq__ is the user's business."""

        class Angry:
            def __eq__(self, other):
                raise KeyError("no")

            __hash__ = None

        with pytest.raises(KeyError):
            _snapshot.same(Angry(), Angry())


class TestRenewed:
    @pytest.mark.parametrize(
        ("current", "new"),
        [
            ([1, 2], [3]),
            (bytearray(b"a"), bytearray(b"bc")),
            (array("i", [1]), array("i", [])),
            (deque([1], 2), deque([3, 4], 2)),
            ({1, 2}, {3}),
            ({"b": 1, "a": 2}, {"c": 3}),
            (OrderedDict(b=1, a=2), OrderedDict(c=3)),
            (Counter(a=-1), Counter(b=0)),
            (defaultdict(list, a=[1]), defaultdict(list, b=[2])),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_container_takes_over_and_gives_back(self, current, new):
        """The object stays, what is in it changes, and undo restores it in its order."""
        before, undo = list(current), []
        _snapshot.note(current, undo)
        assert _snapshot.renewed(current, new) is current
        assert current == new
        undo.pop()()
        assert list(current) == before

    def test_attributes_are_part_of_the_contents(self):
        """Of an object, and of a container that has some."""
        plain, tagged = Plain(1), Tagged([1])
        other = Tagged([2])
        other.note = "x"
        assert _snapshot.renewed(plain, Plain(2)) is plain
        assert _snapshot.renewed(tagged, other) is tagged
        assert (plain.x, tagged, tagged.note) == (2, [2], "x")

    @pytest.mark.parametrize("kind", [Slotted, Custom], ids=lambda kind: kind.__name__)
    def test_what_is_more_than_attributes_is_replaced(self, kind):
        """Nothing is copied that might be half of the state."""
        old, new = kind(), kind()
        assert _snapshot.renewed(old, new) is new

    def test_other_type_replaces(self):
        """A list does not become a tuple."""
        assert _snapshot.renewed([1], (1,)) == (1,)
