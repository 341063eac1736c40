# SPDX-License-Identifier: MIT
"""The codec: what comes out is what went in, whichever way it was packed."""

from __future__ import annotations

import array
import collections
import datetime
import enum
import math
import pickle
import platform
import random
import sys
from typing import Any, NamedTuple, NoReturn

import pytest

from snakefish import _codec


def there_and_back(value: Any) -> Any:
    """Encode and decode, as a message that was sent and received."""
    tag, data = _codec.encode(value)
    assert 0 <= tag <= 255
    whole = data if isinstance(data, bytes) else b"".join(bytes(part) for part in data)
    if tag & _codec.IN_PLACE:
        return _codec.decode(tag, memoryview(bytearray(whole)))
    return _codec.decode(tag, whole)


class Point(NamedTuple):
    """A tuple with names."""

    x: int
    y: int


class Colour(enum.Enum):
    """An enumeration."""

    RED = 1


class SubInt(int):
    """Derives from int."""


class SubStr(str):
    """Derives from str."""

    __slots__ = ()


class SubBytes(bytes):
    """Derives from bytes."""


class SubList(list):
    """Derives from list."""


class SubDict(dict):
    """Derives from dict."""


SCALARS = [
    None, True, False, 0, 1, -1, 127, -128, 1 << 31, -(1 << 63), (1 << 63) - 1, 1 << 63, 1 << 500,
    0.0, -0.0, 1e308, 1j, "", "a", "ä€😀", "\0", "\ud800", b"", b"\0\xff", bytearray(b"x"),
]  # fmt: skip
OBJECTS = [
    (), [], {}, set(), frozenset({1}), (1, (2, [3])), {"k": {"l": [1, None]}}, range(3), slice(1),
    Point(1, 2), Colour.RED, SubInt(3), SubStr("s"), SubBytes(b"s"), SubList([1]),
    SubDict({1: 2}), [SubInt(1), True, 1], datetime.date(2020, 4, 30),
    collections.OrderedDict(a=1), collections.deque([1]), int, len, ValueError("v"),
]  # fmt: skip


class TestRoundTrip:
    """encode, then decode."""

    @pytest.mark.parametrize("value", SCALARS + OBJECTS, ids=lambda value: ascii(value)[:30])
    def test_gives_an_equal_object_of_the_same_type(self, value: Any) -> None:
        """Value and type survive, for every way of packing."""
        result = there_and_back(value)
        assert type(result) is type(value)
        assert repr(result) == repr(value)

    def test_types_inside_containers_survive(self) -> None:
        """True stays True next to 1, and subclasses stay what they are."""
        value = [True, 1, 1.0, SubInt(1), SubStr("s"), Point(1, 2), SubList([SubDict()])]
        assert [type(item) for item in there_and_back(value)] == [type(item) for item in value]

    @pytest.mark.parametrize(
        "numbers",
        [
            [1, -1, 1 << 62, -(1 << 63), (1 << 63) - 1],
            [1, 1 << 63],
            [0.5, -0.0, 1e308, float("inf")],
            [1, 0.5],
            [True, False],
            [1, True],
            [1.0, None],
            list(range(100_000)),
            [n / 7 for n in range(100_000)],
        ],
        ids=lambda numbers: ascii(numbers)[:20],
    )
    def test_lists_of_numbers_survive(self, numbers: list[Any]) -> None:
        """A list of numbers comes back with the same numbers, of the same types."""
        assert repr(there_and_back(numbers)) == repr(numbers)

    def test_a_list_of_numbers_can_be_changed_afterwards(self) -> None:
        """What comes back is a list like any other, which other kinds of item may enter."""
        result = there_and_back([1, 2])
        result += [3, None]
        assert result == [1, 2, 3, None]

    @pytest.mark.skipif(platform.python_implementation() != "PyPy", reason="CPython has no such")
    @pytest.mark.parametrize("number", [1, 0.5])
    def test_a_list_of_numbers_is_copied_as_it_is(self, number: Any) -> None:
        """On PyPy a number in a list takes the eight bytes that it takes in memory."""
        assert len(_codec.encode([number] * 1000)[1]) == 8000

    def test_nan_survives(self) -> None:
        """Not a number stays not a number."""
        assert math.isnan(there_and_back(float("nan")))
        assert math.isnan(there_and_back([float("nan")])[0])

    @pytest.mark.parametrize("seed", range(20))
    def test_random_nested_values_survive(self, seed: int) -> None:
        """Any nesting of builtins comes back equal, with the same types."""
        value = random_value(random.Random(seed), 4)
        result = there_and_back(value)
        assert repr(result) == repr(value)
        assert result == value

    def test_order_of_a_dict_survives(self) -> None:
        """Keys come back in the order of their insertion."""
        keys = list(range(100))
        random.Random(3).shuffle(keys)
        assert list(there_and_back(dict.fromkeys(keys))) == keys


class TestSharing:
    """References inside one object."""

    def test_one_object_seen_twice_is_one_object(self) -> None:
        """Two references to a container lead to one container again."""
        inner: list[int] = [1]
        for value in ([inner, inner], (inner, inner), {"a": inner, "b": inner}, [[inner], inner]):
            result = there_and_back(value)
            items = list(result.values()) if isinstance(result, dict) else list(result)
            first = items[0] if items[0] == [1] else items[0][0]
            assert first is items[1]

    def test_a_shared_empty_tuple_or_dict_is_fine(self) -> None:
        """Empty containers seen twice are no trouble."""
        empty: Any = {}
        result = there_and_back([empty, empty, (), ()])
        assert result == [{}, {}, (), ()]
        assert result[0] is result[1]

    @pytest.mark.parametrize("kind", ["list", "dict", "tuple"])
    def test_cycles_survive(self, kind: str) -> None:
        """A container that contains itself does so afterwards."""
        cycle: Any = []
        if kind == "list":
            cycle.append(cycle)
            assert there_and_back(cycle)[0][0][0] is not cycle
            result = there_and_back(cycle)
            assert result[0] is result
        elif kind == "dict":
            cycle = {}
            cycle["self"] = cycle
            result = there_and_back(cycle)
            assert result["self"] is result
        else:
            cycle.append((cycle,))
            result = there_and_back(cycle)
            assert result[0][0] is result

    def test_a_shared_key_tuple_is_one_tuple(self) -> None:
        """Tuples that are keys and values at once come back equal."""
        key = (1, 2)
        result = there_and_back({key: key})
        assert result == {(1, 2): (1, 2)}


class TestDepth:
    """Deep nesting."""

    def test_deep_nesting_survives_or_is_pickles_error(self) -> None:
        """What pickle can do works; beyond it is an exception and no crash."""
        for depth in (10, 100, 100_000):
            value: Any = []
            for _ in range(depth):
                value = [value]
            try:
                result = there_and_back(value)
            except (RecursionError, pickle.PicklingError, ValueError, MemoryError):
                assert depth > 100
                continue
            while result:
                [result] = result


class TestBuffers:
    """Large buffers, which pickle hands over out of band."""

    @pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 1 << 20])
    @pytest.mark.parametrize("count", [1, 2, 5])
    def test_arrive_in_their_places(self, size: int, count: int) -> None:
        """Each buffer comes back with its own bytes."""
        blobs = [bytearray([n + 1]) * size for n in range(count)]
        value = {"blobs": [pickle.PickleBuffer(blob) for blob in blobs], "size": size}
        result = there_and_back(value)
        assert [bytes(blob) for blob in result["blobs"]] == [bytes(blob) for blob in blobs]

    def test_writable_stays_writable_and_read_only_read_only(self) -> None:
        """A buffer of a bytearray may be changed on arrival, one of bytes may not."""
        result = there_and_back(
            [pickle.PickleBuffer(bytearray(b"open")), pickle.PickleBuffer(b"shut")]
        )
        assert [memoryview(buffer).readonly for buffer in result] == [False, True]

    @pytest.mark.parametrize("typecode", ["b", "u", "i", "Q", "d"])
    @pytest.mark.parametrize("count", [0, 1, 100_000])
    def test_an_array_arrives_without_being_pickled(self, typecode: str, count: int) -> None:
        """Its elements are sent from where they lie."""
        value = array.array(typecode, "x" * count if typecode == "u" else range(count % 101))
        result = there_and_back(value)
        assert type(result) is array.array
        assert (result.typecode, result) == (typecode, value)
        assert all(type(part) is not bytes or len(part) < 200 for part in _codec.encode(value)[1])

    @pytest.mark.parametrize(
        "view",
        [
            memoryview(b"read only"),
            memoryview(bytearray(b"writable")),
            memoryview(array.array("d", [1.5, 2.5])),
            memoryview(bytearray(24)).cast("i", (2, 3)),
            memoryview(b""),
        ],
        ids=["bytes", "bytearray", "doubles", "matrix", "empty"],
    )
    def test_a_memoryview_arrives_as_one(self, view: memoryview) -> None:
        """Elements, format, shape and whether it may be written to are the same."""
        result = there_and_back(view)
        assert type(result) is memoryview
        assert result.tolist() == view.tolist()
        assert (result.format, result.shape) == (view.format, view.shape)
        assert result.readonly == view.readonly

    def test_of_a_memoryview_with_gaps_is_pickles_error(self) -> None:
        """What is not contiguous cannot be sent from where it lies."""
        with pytest.raises(TypeError):
            _codec.encode(memoryview(b"abcd")[::2])

    def test_do_not_share_memory_with_the_original(self) -> None:
        """What arrives is a copy."""
        blob = bytearray(1000)
        result = there_and_back([pickle.PickleBuffer(blob)])
        blob[0] = 1
        assert bytes(result[0]) == bytes(1000)


class TestFailures:
    """What cannot be packed."""

    def test_raises_what_pickle_raises(self) -> None:
        """The error is pickle's own."""

        class Refuses:
            def __reduce__(self) -> NoReturn:
                raise ZeroDivisionError

        for value in (Refuses(), [Refuses()], {"k": (Refuses(),)}):
            with pytest.raises(ZeroDivisionError):
                _codec.encode(value)

    def test_of_a_lambda_is_an_error(self) -> None:
        """Functions without a name to import by are refused."""
        with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
            _codec.encode(lambda: None)


class TestShortWays:
    """Kinds that skip pickle."""

    @pytest.mark.parametrize("value", [None, True, 7, "text", b"bytes", bytearray(b"b")], ids=repr)
    def test_plain_values_have_tags_of_their_own(self, value: Any) -> None:
        """They are not sent as pickles."""
        assert _codec.encode(value)[0] not in (_codec.PICKLE, _codec.PICKLE_BUFFERS)

    @pytest.mark.parametrize("count", [10, 1000])
    def test_a_long_string_many_times_is_not_sent_many_times(self, count: int) -> None:
        """Of many references to one string, each but a few costs less than the string."""
        value = ["x" * 1000] * count
        data = _codec.encode(value)[1]
        assert len(data) < 32 * 1000 + 10 * count

    def test_bytes_are_sent_as_they_are(self) -> None:
        """Bytes are their own encoding."""
        value = b"x" * 100
        assert _codec.encode(value)[1] is value

    @pytest.mark.parametrize("value", [None, True, 7, -2.5, "text", b"bytes", (1, [2])], ids=repr)
    def test_what_tells_its_end_needs_no_other(self, value: Any) -> None:
        """Kinds below FIRST_SIZED are decoded out of a longer buffer."""
        tag, data = _codec.encode(value)
        rest = bytes(100) if tag & _codec.ENCODING < _codec.FIRST_SIZED else b""
        assert _codec.decode(tag, b"".join([data, rest])) == value

    @pytest.mark.parametrize("value", [(), (7, 2.5, "text"), [None, True]], ids=repr)
    def test_a_few_plain_values_are_not_pickled(self, value: Any) -> None:
        """A short flat tuple or list skips pickle."""
        assert _codec.encode(value)[0] != _codec.PICKLE

    def test_what_another_thread_changes_meanwhile_is_pickled(self) -> None:
        """Between the look into a list and its encoding something else may come into it."""
        value: list[Any] = [1, "text"]

        def intrude(frame: Any, event: str, _argument: Any) -> None:
            if event == "call" and frame.f_code.co_name == "_encode_plain":
                sys.setprofile(None)
                value.append(Point(1, 2))

        sys.setprofile(intrude)
        try:
            tag, data = _codec.encode(value)
        finally:
            sys.setprofile(None)
        assert tag == _codec.PICKLE
        assert _codec.decode(tag, data) == [1, "text", Point(1, 2)]

    @pytest.mark.parametrize("text", ["x" * 10**6, b"x" * 10**6], ids=type)
    def test_what_is_there_many_times_is_sent_once(self, text: Any) -> None:
        """Few values may be long, and one."""
        value = [text] * 32
        assert len(_codec.encode(value)[1]) < 2 * 10**6
        assert there_and_back(value) == value

    @pytest.mark.parametrize("value", [(SubInt(1),), [SubStr("a"), 1], (1, object), Point(1, 2)])
    def test_what_holds_anything_else_is_pickled(self, value: Any) -> None:
        """Marshal would forget or refuse a class."""
        assert _codec.encode(value)[0] == _codec.PICKLE
        assert there_and_back(value) == value

    @pytest.mark.skipif(platform.python_implementation() != "CPython", reason="PyPy has marshal")
    @pytest.mark.parametrize("value", [{"a": 1}, (1, (2,)), [[]], list(range(33))], ids=repr)
    def test_on_cpython_other_containers_are_pickled(self, value: Any) -> None:
        """Where pickle is fast, there is no long look into a value."""
        assert _codec.encode(value)[0] == _codec.PICKLE


def random_value(dice: random.Random, depth: int) -> Any:
    """Some nesting of builtin values without NaN."""
    kinds = ["scalar"] if depth == 0 else ["scalar", "list", "tuple", "dict", "twice"]
    kind = dice.choice(kinds)
    size = dice.randrange(4)
    if kind == "list":
        return [random_value(dice, depth - 1) for _ in range(size)]
    if kind == "tuple":
        return tuple(random_value(dice, depth - 1) for _ in range(size))
    if kind == "dict":
        return {dice.choice(["k", 1, None, (1, 2), 2.5]): random_value(dice, depth - 1)
                for _ in range(size)}  # fmt: skip
    if kind == "twice":
        item = random_value(dice, depth - 1)
        return [item, item]
    return dice.choice([None, True, 1, -(1 << 70), 1.5, "ä", b"b", "", 2j])
