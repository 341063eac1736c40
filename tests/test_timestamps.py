# SPDX-License-Identifier: MIT
"""Timestamps: the machine's fastest clock, comparable between processes."""

from __future__ import annotations

import platform
import time
from typing import Any, Callable

import pytest
from deadline import SOON

import snakefish
from snakefish import Channel, Thread, get_timestamp, get_timestamp_serialized
from snakefish._native import ffi, lib


@pytest.mark.parametrize("read", [get_timestamp, get_timestamp_serialized])
class TestReading:
    """get_timestamp() and get_timestamp_serialized()."""

    def test_is_a_positive_int(self, read: Callable[[], int]) -> None:
        """A timestamp is a number of ticks."""
        assert type(read()) is int
        assert read() > 0

    def test_never_goes_backwards(self, read: Callable[[], int]) -> None:
        """One after the other, readings do not fall."""
        readings = [read() for _ in range(10000)]
        assert readings == sorted(readings)

    def test_goes_forward(self, read: Callable[[], int]) -> None:
        """A thousand readings are not all the same."""
        assert len({read() for _ in range(1000)}) > 1

    def test_never_backwards_along_a_message(self, read: Callable[[], int]) -> None:
        """Over thousands of hops, what is received was sent earlier."""
        with Channel(4096) as there, Channel(4096) as back:

            def echo() -> int:
                backwards = 0
                for _ in range(1500):
                    sent = there.receive_pyobj()
                    backwards += read() < sent
                    back.send_pyobj(read())
                return backwards

            with Thread(echo) as thread:
                thread.start()
                backwards = 0
                for _ in range(1500):
                    there.send_pyobj(read())
                    sent = back.receive_pyobj(timeout=SOON)
                    backwards += read() < sent
                thread.join()
                assert backwards + thread.get_result() == 0


def test_the_clock_is_the_fastest_of_the_machine() -> None:
    """On x86-64 it is the time-stamp counter, on aarch64 the virtual one, else the monotonic."""
    best = {"x86_64": b"tsc", "aarch64": b"cntvct"}.get(platform.machine(), b"monotonic")
    assert ffi.string(lib.sf_clock_source()) == best


def test_both_read_the_same_clock() -> None:
    """Readings of either kind can be compared with the other's."""
    readings = [read() for _ in range(100) for read in (get_timestamp, get_timestamp_serialized)]
    assert readings == sorted(readings)


class TestTimestampToNs:
    """timestamp_to_ns(ticks)."""

    def test_agrees_with_the_monotonic_clock(self) -> None:
        """Ticks between two moments are the nanoseconds between them, to one in a thousand."""
        earliest = time.monotonic_ns()
        start = get_timestamp_serialized()
        latest = time.monotonic_ns()
        while time.monotonic_ns() < latest + 100_000_000:
            pass
        before = time.monotonic_ns()
        stop = get_timestamp_serialized()
        after = time.monotonic_ns()
        nanoseconds = snakefish.timestamp_to_ns(stop - start)
        assert (before - latest) * 0.999 <= nanoseconds <= (after - earliest) * 1.001

    def test_is_an_int(self) -> None:
        """Nanoseconds are whole."""
        assert type(snakefish.timestamp_to_ns(12345)) is int

    def test_nothing_is_nothing(self) -> None:
        """No ticks are no nanoseconds."""
        assert snakefish.timestamp_to_ns(0) == 0

    def test_is_proportional(self) -> None:
        """Twice the ticks are twice the time, also backwards."""
        once = snakefish.timestamp_to_ns(10**9)
        assert abs(snakefish.timestamp_to_ns(2 * 10**9) - 2 * once) <= 2
        assert snakefish.timestamp_to_ns(-(10**9)) == -once

    @pytest.mark.parametrize("ticks", ["1", None, [1]], ids=repr)
    def test_refuses_what_is_no_number(self, ticks: Any) -> None:
        """Ticks are a number: else TypeError."""
        with pytest.raises(TypeError):
            snakefish.timestamp_to_ns(ticks)
