# SPDX-License-Identifier: MIT
"""Which merge a value gets of which only the name was given."""

from __future__ import annotations

from array import array
from collections import Counter, OrderedDict, defaultdict, deque

import pytest

from snakefish import merges


class TestDefaultFor:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (1, merges.add),
            (1.0, merges.total),
            (True, merges.once),
            ([], merges.append),
            (set(), merges.union),
            (Counter(), merges.count),
            ({}, merges.insert),
            ({"a": 1}, merges.insert),
            (OrderedDict(), merges.insert),
            (defaultdict(None), merges.insert),
            (defaultdict(int), merges.count),
            (defaultdict(float), merges.count),
            (defaultdict(list), merges.mapping(merges.append)),
            (defaultdict(set), merges.mapping(merges.union)),
            (defaultdict(Counter), merges.mapping(merges.count)),
            (defaultdict(lambda: defaultdict(int)), merges.mapping(merges.count)),
            (bytearray(1), merges.disjoint),
            (array("d"), merges.disjoint),
            (memoryview(bytearray(1)), merges.disjoint),
            ("text", merges.once),
            (b"bytes", merges.once),
            ((), merges.once),
            (None, merges.once),
            (deque(), merges.once),
            (object(), merges.once),
        ],
        ids=repr,
    )
    def test_value_has_a_default(self, value, expected):
        """By its type; a defaultdict by what its factory makes."""
        assert merges.default_for(value) == expected

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ({}, merges.insert),
            ({"a": "b", "c": None}, merges.insert),
            ({"a": 1}, merges.insert(clash="error")),
            ({"a": None, "b": 0.5}, merges.insert(clash="error")),
            (Counter(a=1), merges.count),
            (3, merges.add),
        ],
    )
    def test_what_is_proposed_takes_no_counts_for_a_memo(self, value, expected):
        """Unless its user has said so, numbers in a dict may be either."""
        assert merges.proposal_for(value) == expected

    def test_last_is_never_a_default(self):
        """All that can be chosen without being asked for keeps every write, or says so."""
        assert merges.default_for(object()) != merges.last


class TestNames:
    def test_every_public_name_is_there(self):
        """The package gives what it says."""
        assert all(hasattr(merges, name) for name in merges.__all__)

    @pytest.mark.parametrize(
        "name", [n for n in merges.__all__ if isinstance(getattr(merges, n), merges.Merge)]
    )
    def test_name_is_what_the_user_writes(self, name):
        """A ready merge is called in messages as in the source."""
        assert getattr(merges, name).name() == name
