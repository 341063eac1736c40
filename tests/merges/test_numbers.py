# SPDX-License-Identifier: MIT
"""Sums and extremes."""

from __future__ import annotations

import math
import operator
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import strategies as st
from laws import INTS, Laws, steps

from snakefish import merges

HALVES = INTS.map(lambda number: number / 2)  # exact in binary


class TestAdd(Laws):
    merge = merges.add
    agrees = False
    bases = INTS
    operations = steps("+= {}", operator.add, INTS) | steps("-= {}", operator.sub, INTS)

    @pytest.mark.parametrize(
        ("base", "more"),
        [
            (Fraction(1, 3), Fraction(1, 6)),
            (Decimal("1.10"), Decimal("0.01")),
            (timedelta(hours=1), timedelta(seconds=1)),
            (10**30, 1),
        ],
    )
    def test_number_comes_back_exactly(self, base, more):
        """Every kind of number that add is for is added without loss."""
        delta = merges.add.diff(merges.add.capture(base), base + more)
        assert merges.add.apply(base + more, delta, []) == base + more + more

    def test_float_is_refused(self):
        """A float is sent to total, before and after the task."""
        assert "total" in merges.add.refusal(1.5)
        with pytest.raises(TypeError, match="total"):
            merges.add.diff(1, 1.5)

    def test_bool_is_refused(self):
        """Two tasks that switch it off would make it -1."""
        assert "once" in merges.add.refusal(True)
        with pytest.raises(TypeError, match="once"):
            merges.add.diff(0, True)

    def test_str_is_refused(self):
        """What is no number is refused by its type."""
        assert "str" in merges.add.refusal("a")


class TestTotal(Laws):
    merge = merges.total
    agrees = False
    bases = HALVES
    operations = steps("+= {}", operator.add, HALVES)

    def test_nothing_cancels(self):
        """Many small numbers and a large base give the exact sum, rounded once."""
        parts = [1e-3] * 40_000
        assert merges.total.settle(1e12, parts) == math.fsum([1e12, *parts])

    def test_order_does_not_matter(self):
        """The sum is the same to the last bit in any order."""
        parts = [1e16, 1.0, -1e16, 1e-9]
        assert merges.total.settle(0.1, parts) == merges.total.settle(0.1, parts[::-1])

    def test_infinities_give_what_plus_gives(self):
        """Infinite and overflowing sums do not raise."""
        assert math.isnan(merges.total.settle(math.inf, [-math.inf]))
        assert merges.total.settle(1e308, [1e308]) == math.inf

    def test_task_sees_its_own_part(self):
        """The variable is 0.0 in a task."""
        assert merges.total.view(12.5) == 0.0

    def test_other_types_are_refused(self):
        """A list is refused before the task, a str after it."""
        assert merges.total.refusal([])
        with pytest.raises(TypeError):
            merges.total.diff(None, "much")


class TestMinimum(Laws):
    merge = merges.minimum
    agrees = True
    bases = INTS | st.none()
    operations = steps("min {}", lambda x, v: v if x is None else min(x, v), INTS)

    def test_raised_value_is_an_error(self):
        """A task that made it larger did no min."""
        with pytest.raises(ValueError, match="no minimum"):
            merges.minimum.diff(1, 2)
        with pytest.raises(ValueError, match="no minimum"):
            merges.minimum.diff(1, None)


class TestMaximum(Laws):
    merge = merges.maximum
    agrees = True
    bases = INTS | st.none()
    operations = steps("max {}", lambda x, v: v if x is None else max(x, v), INTS)

    def test_nan_is_an_error(self):
        """What does not compare has no maximum."""
        with pytest.raises(ValueError, match="no maximum"):
            merges.maximum.diff(1.0, math.nan)

    def test_first_of_equals_stays(self):
        """Of equal values the one that was there stays, as max does it."""
        first = Fraction(2)
        assert merges.maximum.apply(first, 2, []) is first
