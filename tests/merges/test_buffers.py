# SPDX-License-Identifier: MIT
"""Buffers whose elements have one writer each."""

from __future__ import annotations

import itertools
import math
import pickle
from array import array

import pytest
from hypothesis import strategies as st
from laws import INTS, Laws, steps

from snakefish import merges
from snakefish.merges import _images

WIDTH = 6
HERE = st.integers(0, WIDTH - 1)


def write(buffer, index, value):
    """Write one element."""
    buffer[index] = value


def numpy_every_other(whole):
    return whole[::2]


def numpy_rows_backwards(whole):
    return whole[::-1]


def numpy_read_only(whole):
    whole.flags.writeable = False
    return whole


class TestDisjoint(Laws):
    merge = merges.disjoint
    agrees = False
    bases = st.lists(INTS, min_size=WIDTH, max_size=WIDTH).map(lambda values: array("h", values))
    operations = steps("[{}] = {}", write, HERE, INTS)
    fails = frozenset({"replay"})  # a store of what is there already; see the next class

    @pytest.mark.parametrize("block", [1, 8, 24, 1 << 16])
    @pytest.mark.parametrize("changed", [[], [0], [9], [0, 1, 2], [2, 3, 7, 9], list(range(10))])
    @pytest.mark.parametrize("letter", "bhid")
    def test_runs_are_exactly_what_changed(self, monkeypatch, letter, block, changed):
        """Whatever the blocks and elements are, each that changed and no other is in a run."""
        monkeypatch.setattr(_images, "BLOCK", block)
        value = array(letter, range(1, 11))
        token = merges.disjoint.capture(value)
        for index in changed:
            value[index] = -value[index]
        delta = merges.disjoint.diff(token, value) or []
        size = value.itemsize
        found = [first + at for first, data in delta for at in range(len(data) // size)]
        assert found == changed
        assert merges.disjoint.apply(array(letter, range(1, 11)), delta, []) == value

    def test_equality_is_that_of_bytes(self):
        """NaN is no change of NaN, and -0.0 is one of 0.0."""
        value = array("d", [math.nan, 0.0])
        token = merges.disjoint.capture(value)
        value[0] = math.nan
        assert merges.disjoint.diff(token, value) is None
        value[1] = -0.0
        [(first, data)] = merges.disjoint.diff(token, value)
        assert (first, array("d", data)[0].hex()) == (1, "-0x0.0p+0")

    def test_two_writers_of_an_element_clash_even_if_equal(self):
        """What would depend on luck is told."""
        token = merges.disjoint.capture(bytearray(4))
        delta = merges.disjoint.diff(token, bytearray([0, 7, 7, 0]))
        clashes = list(merges.disjoint.clashes(token, bytearray([1, 7, 9, 1]), delta))
        assert clashes == [(1, 7, 7), (2, 9, 7)]

    def test_neighbours_do_not_clash(self):
        """An element is the unit, not a page nor a block."""
        token = merges.disjoint.capture(bytearray(4))
        delta = merges.disjoint.diff(token, bytearray([0, 7, 0, 0]))
        assert list(merges.disjoint.clashes(token, bytearray([1, 0, 1, 1]), delta)) == []

    def test_alias_sees_the_change(self):
        """The buffer is written to in place, and stays resizable."""
        value, undo = bytearray(4), []
        assert merges.disjoint.apply(value, [(1, b"ab")], undo) is value
        assert value == b"\0ab\0"
        undo.pop()()
        assert value == bytes(4)
        value.append(1)

    def test_memoryview_of_many_dimensions(self):
        """An index is named as the user would write it."""
        memory = bytearray(24)
        grid = memoryview(memory).cast("i", (2, 3))
        token = merges.disjoint.capture(grid)
        grid[1, 2] = 5
        delta = merges.disjoint.diff(token, grid)
        assert list(merges.disjoint.clashes(token, grid, delta)) == [((1, 2), 5, 5)]

    def test_writer_of_an_element_is_who_wrote_it(self):
        """Exactly the elements of the runs, after a journey too."""
        token = merges.disjoint.capture(array("d", [0] * 9))
        delta = merges.disjoint.diff(token, array("d", [0, 1, 1, 0, 0, 0, 0, 1, 0]))
        for travelled in (delta, pickle.loads(pickle.dumps(delta, 5))):
            found = [key for key in range(9) if merges.disjoint.touches(travelled, key)]
            assert found == [1, 2, 7]

    def test_writer_of_an_element_of_many_dimensions_is_who_wrote_it(self):
        """Named by its index."""
        grid = memoryview(bytearray(24)).cast("i", (2, 3))
        token = merges.disjoint.capture(grid)
        grid[0, 2], grid[1, 1] = 5, 6
        delta = merges.disjoint.diff(token, grid)
        every = [(row, column) for row in range(2) for column in range(3)]
        assert [key for key in every if merges.disjoint.touches(delta, key)] == [(0, 2), (1, 1)]

    @pytest.mark.parametrize("letter", "bhid")
    @pytest.mark.parametrize("of", "bhid")
    def test_view_of_another_format(self, letter, of):
        """Its own elements count, whatever those of the memory are, and its own part of it."""
        memory = array(of, bytes(48))
        view = memoryview(memory).cast("B").cast(letter)[1:]
        whole = memoryview(memory).cast("B").cast(letter)
        for value, at in ((view, 2), (whole, 3)):
            token = merges.disjoint.capture(value)
            value[at] = value[at] + 1
            delta = merges.disjoint.diff(token, value)
            assert [(first, len(data)) for first, data in delta] == [(at, value.itemsize)]
            assert [clash.key for clash in merges.disjoint.clashes(token, value, delta)] == [at]

    def test_resized_buffer_is_an_error(self):
        """Elements that moved cannot be told from ones that were written."""
        token = merges.disjoint.capture(bytearray(4))
        with pytest.raises(ValueError, match="5 elements of B; it had 4"):
            merges.disjoint.diff(token, bytearray(5))
        with pytest.raises(ValueError, match="parent"):
            list(merges.disjoint.clashes(token, bytearray(5), [(0, b"a")]))

    @pytest.mark.parametrize(
        "value", [b"abc", [1], memoryview(b"abc"), memoryview(bytearray(9))[::2]]
    )
    def test_what_cannot_be_written_is_refused(self, value):
        """Read-only, scattered, or no buffer at all."""
        assert merges.disjoint.refusal(value)

    def test_empty_buffer_is_fine(self):
        """There is nothing to write to."""
        token = merges.disjoint.capture(array("d"))
        assert merges.disjoint.diff(token, array("d")) is None

    def test_new_key_of_a_mapping_begins_with_zeros(self):
        """Two tasks can fill one new row together."""
        rows = merges.mapping(merges.disjoint)
        token = rows.capture({})
        left, right = ({"a": array("i", row)} for row in ([1, 0], [0, 2]))
        merged = rows.apply({}, rows.diff(token, left), [])
        delta = rows.diff(token, right)
        assert list(rows.clashes(token, merged, delta)) == []
        assert rows.apply(merged, delta, []) == {"a": array("i", [1, 2])}


class TestDisjointWritersOfOtherValues(Laws):
    """Without stores of what is there already, replay holds too."""

    merge = merges.disjoint
    bases = st.just(None).map(lambda _: array("h", [0] * WIDTH))
    operations = steps("[{}] |= {}", lambda b, i, v: write(b, i, b[i] | v), HERE, st.integers(1, 3))


class TestDisjointArraysOfNumpy:
    @pytest.fixture
    def numpy(self):
        """numpy, if it is there."""
        return pytest.importorskip("numpy")

    @pytest.mark.parametrize("order", ["C", "F"])
    def test_writer_of_an_element_is_who_wrote_it(self, numpy, order):
        """Rows or columns first."""
        base = numpy.zeros((2, 3, 4), "i2", order)
        token = merges.disjoint.capture(base)
        written = [(0, 1, 2), (1, 0, 3), (1, 2, 0), (1, 2, 1)]
        for index in written:
            base[index] = 7
        delta = merges.disjoint.diff(token, base)
        every = itertools.product(range(2), range(3), range(4))
        assert [key for key in every if merges.disjoint.touches(delta, key)] == written

    @pytest.mark.parametrize("kind", [">i4", ">f8", "<c8", "f2", "S3", "U2", "m8[ms]", "V5"])
    def test_any_bytes_come_back(self, numpy, kind):
        """Of either byte order, of any meaning; exactly those that were written."""
        base = numpy.zeros(4, kind)
        token = merges.disjoint.capture(base)
        mine = base.copy()
        mine.view("u1").reshape(4, -1)[2, ::4] = 1  # a character too, if those are of 4 bytes
        delta = merges.disjoint.diff(token, mine)
        assert [first for first, _ in delta] == [2]
        [clash] = merges.disjoint.clashes(token, mine, delta)
        assert (clash.key, clash.current) == (2, mine[2])
        assert merges.disjoint.apply(base, delta, []).tobytes() == mine.tobytes()

    def test_fields_with_room_between_them(self, numpy):
        """A struct as C lays it out."""
        kind = numpy.dtype([("flag", "?"), ("value", ">f8"), ("at", "M8[D]", (2,))], align=True)
        base = numpy.zeros((2, 2), kind)
        token = merges.disjoint.capture(base)
        mine = base.copy()
        mine["value"][1, 0] = 2.5
        merges.disjoint.apply(base, merges.disjoint.diff(token, mine), [])
        assert base["value"].tolist() == [[0, 0], [2.5, 0]]

    def test_no_dimensions_and_no_elements(self, numpy):
        """One element, and none."""
        one = numpy.zeros((), "i4")
        token = merges.disjoint.capture(one)
        one[()] = 3
        delta = merges.disjoint.diff(token, one)
        assert list(merges.disjoint.clashes(token, one, delta)) == [((), 3, 3)]
        assert merges.disjoint.touches(delta, ())
        none = numpy.zeros((3, 0))
        assert merges.disjoint.diff(merges.disjoint.capture(none), none) is None

    @pytest.mark.parametrize("part", [numpy_every_other, numpy_rows_backwards, numpy_read_only])
    def test_what_has_no_bytes_in_a_row_is_refused(self, numpy, part):
        """Or none to write to."""
        assert merges.disjoint.refusal(part(numpy.zeros((4, 4))))

    def test_a_part_in_a_row_is_fine(self, numpy):
        """It is written to in the array that it is a part of."""
        whole = numpy.zeros((4, 4), "i8")
        part = whole[1:3]
        token = merges.disjoint.capture(part)
        mine = part.copy()
        mine[1, 3] = 5
        merges.disjoint.apply(part, merges.disjoint.diff(token, mine), [])
        assert whole[2, 3] == 5

    @pytest.mark.parametrize("order", ["C", "F"])
    @pytest.mark.parametrize("kind", ["f8", "c16", "?", "<M8[s]", "i4,f8"])
    def test_any_shape_and_type_comes_back(self, numpy, order, kind):
        """Rows or columns first, any element of plain bytes."""
        base = numpy.zeros((2, 3, 2), kind, order)
        token = merges.disjoint.capture(base)
        mine = base.copy(order)
        mine[1, 2, 0] = numpy.ones((), kind)[()] if kind != "<M8[s]" else numpy.datetime64(1, "s")
        delta = merges.disjoint.diff(token, mine)
        [clash] = merges.disjoint.clashes(token, mine, delta)
        assert clash.key == (1, 2, 0)
        merged = merges.disjoint.apply(base, delta, [])
        assert merged is base
        assert (merged == mine).all()

    def test_objects_and_slices_are_refused(self, numpy):
        """Pointers cannot travel, and what is scattered has no bytes in a row."""
        assert "objects" in merges.disjoint.refusal(numpy.zeros(2, object))
        assert "contiguous" in merges.disjoint.refusal(numpy.zeros((4, 4))[:, 1])

    def test_other_dtype_is_an_error(self, numpy):
        """The bytes would mean something else."""
        token = merges.disjoint.capture(numpy.zeros(2, "f8"))
        with pytest.raises(ValueError, match="float64"):
            merges.disjoint.diff(token, numpy.zeros(2, "i8"))
