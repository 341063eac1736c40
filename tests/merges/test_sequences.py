# SPDX-License-Identifier: MIT
"""Sequences that grow at their end."""

from __future__ import annotations

import math
from array import array
from collections import deque

import pytest
from hypothesis import strategies as st
from laws import INTS, Laws, steps

from snakefish import merges
from snakefish.merges._merge import EXACT
from snakefish.merges._sequences import Append

SMALL = st.lists(INTS, max_size=3)


class TestAppend(Laws):
    merge = merges.append
    agrees = False
    bases = SMALL
    operations = steps("append({})", list.append, INTS) | steps("extend({})", list.extend, SMALL)

    @pytest.mark.parametrize(
        ("base", "after", "other", "merged"),
        [
            ("ab", "abc", "abX", "abXc"),
            (b"ab", b"abc", b"abX", b"abXc"),
            ((1, 2), (1, 2, 3), (1, 2, 9), (1, 2, 9, 3)),
            (deque([1]), deque([1, 2, 3]), deque([1, 9]), deque([1, 9, 2, 3])),
            (bytearray(b"a"), bytearray(b"ab"), bytearray(b"aX"), bytearray(b"aXb")),
            (
                array("d", [math.nan]),
                array("d", [math.nan, 2]),
                array("d", [7]),
                array("d", [7, 2]),
            ),
            ([], [1], [9], [9, 1]),
        ],
    )
    def test_tail_is_added_and_taken_back(self, base, after, other, merged):
        """Every kind of sequence is extended, and shortened by undo."""
        delta = merges.append.diff(merges.append.capture(base), after)
        before, undo = other[:1] + other[1:] if not isinstance(other, deque) else other.copy(), []
        assert merges.append.apply(other, delta, undo) == merged
        for step in undo:
            step()
        assert other == before

    @pytest.mark.parametrize(
        "change",
        [
            list.clear,
            list.pop,
            lambda x: x.insert(0, 5),
            lambda x: x.__setitem__(-1, 5),
            lambda x: x.__setitem__(1, 5),
        ],
    )
    def test_other_changes_are_errors(self, change):
        """Removing and inserting are no additions at the end."""
        value = [1, 2, 3]
        token = merges.append.capture(value)
        change(value)
        with pytest.raises(ValueError, match="3 elements"):
            merges.append.diff(token, value)

    @pytest.mark.parametrize(
        "value", [deque([1, 2, 3]), bytearray(3), array("d", [math.nan, math.nan, 1])]
    )
    def test_replaced_element_is_an_error(self, value):
        """That holds for all kinds of sequences, and NaN alone is no replacement."""
        token = merges.append.capture(value)
        assert merges.append.diff(token, value) is None
        value[1] = 5
        with pytest.raises(ValueError, match="3 elements"):
            merges.append.diff(token, value)

    def test_large_list_is_known_by_its_ends(self):
        """Nothing is copied; an element replaced in the middle is not seen, one at an end is."""
        value = [0] * (EXACT + 1)
        token = merges.append.capture(value)
        value[5] = 1
        assert token.all is None
        assert merges.append.diff(token, value) is None
        value[-1] = 1
        with pytest.raises(ValueError, match="at its end"):
            merges.append.diff(token, value)

    @pytest.mark.parametrize(("base", "mine"), [("abc", "abd"), (b"ab", b"b"), ((1, 2), (2, 1))])
    def test_other_prefix_is_an_error(self, base, mine):
        """An immutable sequence must begin with all that it was."""
        with pytest.raises(ValueError, match="at its end"):
            merges.append.diff(merges.append.capture(base), mine)

    def test_other_type_is_an_error(self):
        """A tuple in place of a list is no append."""
        with pytest.raises(TypeError, match="tuple"):
            merges.append.diff(merges.append.capture([1]), (1, 2))

    def test_deque_with_maxlen_is_refused(self):
        """A bounded deque loses elements, and the reason says so."""
        assert "maxlen" in merges.append.refusal(deque(maxlen=3))

    def test_dict_is_refused(self):
        """A dict has no end to append to."""
        assert "dict" in merges.append.refusal({})

    def test_does_not_commute(self):
        """The order of commits is that of the elements."""
        assert merges.append.in_order
        assert broken_if_said_to_commute() is not None


def broken_if_said_to_commute():
    """What the law of commuting says of append."""
    from snakefish.testing import LAWS, Case

    class Wrong(Append):
        in_order = False

    here, there = [lambda x: x.append(1)], [lambda x: x.append(2)]
    return LAWS["commuting"](Case(Wrong(), [], here, there))
