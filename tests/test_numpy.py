# SPDX-License-Identifier: MIT
"""Arrays of NumPy: sent from where they lie, used where they arrive."""

from __future__ import annotations

import gc
import os
import sys
from typing import Any

import pytest
from scenario import output_of

import snakefish
from snakefish import Channel, Generator, Thread

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # its threads would not be in the children
if sys.implementation.name == "pypy":
    numpy: Any = pytest.importorskip("numpy", reason="there is no wheel of it for every PyPy")
else:
    import numpy

SMALL, INLINE, LARGE = 10, 16 << 10, 1 << 20
"""How many doubles: a few, as many as go at one stroke, a stream."""


def memory(field: str) -> int:
    """A field of /proc/self/status, in bytes."""
    with open("/proc/self/status", encoding="ascii") as lines:
        [line] = [line for line in lines if line.startswith(field + ":")]
    return int(line.split()[1]) << 10


def collect() -> None:
    """Collect what is held by what is collected, too."""
    for _ in range(4):
        gc.collect()


def through(value: Any) -> Any:
    """What arrives when a child sends *value*."""
    with Channel() as channel, Thread(lambda: channel.send_pyobj(value, block=True)) as sender:
        sender.start()
        received = channel.receive_pyobj()
        sender.join()
        return received


def result_of(f: Any) -> Any:
    with Thread(f) as thread:
        thread.start()
        thread.join()
        return thread.get_result()


class TestArrays:
    """What arrives is the array that was sent."""

    @pytest.mark.parametrize("size", [0, 1, SMALL, INLINE - 64, INLINE, LARGE])
    def test_of_any_size_arrive(self, size: int) -> None:
        """Through a channel, and as a result."""
        array = numpy.arange(size, dtype=float)
        for received in (through(array), result_of(lambda: array)):
            assert received.dtype == array.dtype
            assert numpy.array_equal(received, array)

    @pytest.mark.parametrize("size", [SMALL, LARGE])
    def test_may_be_written_to(self, size: int) -> None:
        """The memory is the receiver's own."""
        received = through(numpy.zeros(size))
        received += 1
        assert received.sum() == size

    @pytest.mark.parametrize("size", [SMALL, LARGE])
    def test_read_only_stay_so(self, size: int) -> None:
        """A flag that was not set is not set afterwards."""
        array = numpy.zeros(size)
        array.flags.writeable = False
        assert not through(array).flags.writeable

    @pytest.mark.parametrize("dtype", ["u1", "<i4", ">f8", "c16", "U5", "M8[s]", "?"])
    def test_of_any_type_arrive(self, dtype: str) -> None:
        """Byte order and unit included."""
        array = numpy.zeros(1000, dtype=dtype)
        received = through(array)
        assert received.dtype == array.dtype
        assert (received == array).all()

    def test_of_objects_are_pickled(self) -> None:
        """There is no buffer of those."""
        assert list(through(numpy.array([{}, None, "x"], dtype=object))) == [{}, None, "x"]

    def test_of_any_layout_arrive(self) -> None:
        """Fortran order, transposed, a slice with gaps, no dimension at all."""
        base = numpy.arange(600 * 700, dtype=float).reshape(600, 700)
        for array in (base, base.T, numpy.asfortranarray(base), base[::7, ::-3], base[3, 4]):
            assert numpy.array_equal(through(array), array)

    def test_inside_of_other_objects_arrive(self) -> None:
        """Several in one message, one of them twice."""
        first, second = numpy.arange(LARGE), numpy.ones(3)
        received = through({"a": first, "b": [second, first]})
        assert received["a"] is received["b"][1]
        assert numpy.array_equal(received["a"], first)
        assert numpy.array_equal(received["b"][0], second)

    @pytest.mark.skipif(sys.implementation.name == "pypy", reason="PyPy has to copy all but one")
    def test_are_aligned_to_64_bytes(self) -> None:
        """Vector instructions and other libraries like that."""
        for received in through([numpy.zeros(LARGE), numpy.zeros(3), numpy.zeros(LARGE + 1)]):
            assert received.ctypes.data % 64 == 0

    def test_come_from_generators_and_map(self) -> None:
        """Wherever values travel."""

        def produce() -> Any:
            for n in range(3):
                yield numpy.full(LARGE, n)

        with Generator(produce) as generator:
            generator.start()
            assert [int(array[7]) for array in generator] == [0, 1, 2]
        arrays = snakefish.map(lambda n: numpy.full(LARGE, n), range(3))
        assert [int(array[7]) for array in arrays] == [0, 1, 2]


class TestMemory:
    """Received arrays lie over the memory that they arrived in, where that can be freed."""

    def test_outlives_channel_and_message(self) -> None:
        """A view of a slice keeps all of it."""
        part = through([numpy.full(LARGE, 7.0)])[0][10:20]
        gc.collect()
        for n in range(5):
            through(numpy.full(LARGE, n))
        assert (part == 7).all()

    def test_of_one_is_not_that_of_the_next(self) -> None:
        """An array that was received stays what it was."""
        first = through(numpy.full(LARGE, 1.0))
        second = through(numpy.full(LARGE, 2.0))
        assert (first == 1).all()
        assert (second == 2).all()

    def test_goes_with_the_last_array(self) -> None:
        """Nothing is left of what was dropped."""
        for _ in range(3):
            through(numpy.zeros(LARGE))
        collect()
        before = memory("VmRSS")
        for _ in range(20):
            through(numpy.zeros(LARGE))
        collect()
        assert memory("VmRSS") < before + (40 << 20)

    def test_dropped_arrays_do_not_pile_up(self) -> None:
        """Nobody has to collect: PyPy's collector hears of the memory."""
        small_nursery = {"PYPY_GC_NURSERY": "4M"}  # or the collector begins when 2 GB are there
        source = f"""
            import numpy
            array = numpy.zeros({LARGE})
            with Channel() as channel:
                for _ in range(160):
                    channel.send_pyobj(array)
                    channel.receive_pyobj()
            with open("/proc/self/status") as lines:
                kilobytes = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
            say(kilobytes[0] << 10 < 80 * array.nbytes)
            """
        assert output_of(source, environment=small_nursery) == ["True"]

    def test_peak_of_a_result_is_the_result(self) -> None:
        """No second copy of it is made in the parent, not even for a moment."""
        array = numpy.ones(8 * LARGE)
        result_of(lambda: array[:LARGE])
        with open("/proc/self/clear_refs", "w", encoding="ascii") as reset:
            reset.write("5")  # VmHWM begins anew
        before = memory("VmRSS")
        received = result_of(lambda: array)
        assert memory("VmHWM") - before < 1.3 * array.nbytes
        assert received.nbytes == array.nbytes
