# SPDX-License-Identifier: MIT
"""Sums of arrays, element by element."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import strategies as st
from laws import INTS, Laws, steps

from snakefish import merges

WIDTH = 3
HERE = st.integers(0, WIDTH - 1)


def filled(kind):
    """Bases of a kind of array."""
    return st.lists(INTS, min_size=WIDTH, max_size=WIDTH).map(lambda values: array(kind, values))


def raise_by(numbers, index, amount):
    """Add to one element."""
    numbers[index] += amount


ADDING = steps("[{}] += {}", raise_by, HERE, INTS)


class TestAddOfArray(Laws):
    merge = merges.add
    agrees = False
    bases = filled("i")
    operations = ADDING


class TestFreshAddOfArray(Laws):
    merge = merges.fresh(merges.add)
    agrees = False
    bases = filled("q")
    operations = ADDING


class TestTotalOfArray(Laws):
    merge = merges.total
    agrees = False
    bases = filled("d")
    operations = ADDING


class TestMappingOfAddOfArray(Laws):
    merge = merges.mapping(merges.add)
    agrees = False
    bases = st.dictionaries(st.sampled_from("ab"), filled("i"))
    operations = steps(
        "[{}][{}] += {}",
        lambda rows, key, index, amount: raise_by(
            rows.setdefault(key, array("i", [0] * WIDTH)), index, amount
        ),
        st.sampled_from("ab"),
        HERE,
        INTS,
    )


class TestArrays:
    @pytest.mark.parametrize(
        ("kind", "base", "mine", "current", "merged"),
        [("b", 127, -128, 127, -128), ("B", 1, 255, 0, 254), ("q", 2**63 - 1, -(2**63), 0, 1)],
    )
    def test_integers_wrap_around(self, kind, base, mine, current, merged):
        """A difference is exact, whatever its size."""
        delta = merges.add.diff(array(kind, [base]), array(kind, [mine]))
        value = array(kind, [current])
        assert merges.add.apply(value, delta, []) is value
        assert value == array(kind, [merged])

    @pytest.mark.filterwarnings("ignore:The 'u' type code:DeprecationWarning")
    @pytest.mark.parametrize("merge", [merges.add, merges.total], ids=repr)
    def test_text_is_refused(self, merge):
        """Letters cannot be added."""
        assert "cannot be added" in merge.refusal(array("u", "abc"))

    def test_add_refuses_floats(self):
        """As it does single ones."""
        assert "total" in merges.add.refusal(array("d"))

    @pytest.mark.parametrize(
        ("mine", "error"),
        [(array("i", [1]), ValueError), (array("h", [1, 2]), TypeError), (7, TypeError)],
    )
    def test_an_array_stays_what_it_is(self, mine, error):
        """Of its length and its kind, in the task and in the parent."""
        token = merges.add.capture(array("i", [1, 2]))
        with pytest.raises(error, match="where a array of 2 i was"):
            merges.add.diff(token, mine)

    def test_an_array_of_the_parent_must_have_stayed_what_it_was(self):
        """Nothing is added to another one."""
        current = array("i", [1, 2, 3])
        with pytest.raises(ValueError, match="of 2 i where"):
            merges.add.apply(current, array("i", [1, 2]), [])
        assert current == array("i", [1, 2, 3])

    def test_default_of_arrays_is_disjoint(self):
        """Which takes them for elements that have one writer each."""
        assert merges.default_for(array("i")) == merges.disjoint


class TestArraysOfNumpy:
    @pytest.fixture
    def numpy(self):
        """numpy, if it is there."""
        return pytest.importorskip("numpy")

    @pytest.mark.parametrize("kind", ["i1", ">i4", "u8", "m8[s]"])
    def test_add(self, numpy, kind):
        """In place, in any shape, integers wrapping around."""
        base = numpy.arange(12).reshape(3, 4).astype(kind)[:, ::2]
        token = merges.add.capture(base)
        mine = base.copy()
        mine[1, 1] -= numpy.ones((), kind)
        delta = merges.add.diff(token, mine)
        current, undo = base + base, []
        assert merges.add.apply(current, delta, undo) is current
        assert (current == base + mine).all()
        undo.pop()()
        assert (current == base + base).all()
        assert merges.add.diff(token, base) is None

    @pytest.mark.parametrize("kind", ["f4", "c16", "i8"])
    def test_total(self, numpy, kind):
        """A task begins with zeros."""
        current = numpy.full((2, 2), 5, kind, "F")
        mine = merges.total.view(current)
        assert not mine.any()
        assert merges.total.diff(None, mine) is None
        mine[0, 1] += 2
        merges.total.apply(current, merges.total.diff(None, mine), [])
        assert current.tolist() == [[5, 7], [5, 5]]

    def test_what_is_not_a_number_comes_back(self, numpy):
        """A NaN is other than zero."""
        mine = numpy.array([0.0, numpy.nan])
        assert merges.total.diff(None, mine) is mine

    @pytest.mark.parametrize("kind", ["?", "M8[s]", "S3", "O", "i4,f8"])
    def test_what_cannot_be_added_is_refused(self, numpy, kind):
        """Before the task."""
        for merge in (merges.add, merges.total):
            assert "cannot be added" in merge.refusal(numpy.zeros(2, kind))

    def test_numbers_of_numpy_are_numbers(self, numpy):
        """What a sum over an array leaves in an int or a float."""
        assert merges.add.diff(3, numpy.int64(5)) == 2
        assert merges.add.refusal(numpy.uint8(5)) == ""
        assert merges.total.diff(None, numpy.float32(0.5)) == 0.5

    def test_other_shape_is_an_error(self, numpy):
        """Broadcasting would hide it."""
        token = merges.add.capture(numpy.zeros((2, 2), "i4"))
        with pytest.raises(ValueError, match=r"of \(2,\) int32 where a ndarray of \(2, 2\)"):
            merges.add.diff(token, numpy.zeros(2, "i4"))
