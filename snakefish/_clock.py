# SPDX-License-Identifier: MIT
"""Timestamps for users, deadlines for the rest of the package.

A deadline is an absolute number of nanoseconds of CLOCK_MONOTONIC, as C wants
it. It is made once, at the top of a call, so that waiting in slices does not
stretch it.
"""

from __future__ import annotations

from snakefish._native import ffi, lib

FOREVER: int = lib.SF_FOREVER
NOW: int = lib.SF_NOW

_CALIBRATION_NS = 20_000_000


def deadline_after(timeout: float | None) -> int:
    """Return the deadline *timeout* seconds from now; None is for ever.

    Raises:
        TypeError: *timeout* is not a number.
        ValueError: *timeout* is not a number of seconds (NaN).
    """
    if timeout is None or timeout == float("inf"):
        return FOREVER
    nanoseconds = int(max(timeout, 0) * 1e9)
    return min(monotonic_ns() + nanoseconds, FOREVER)


def seconds_until(deadline: int) -> float:
    """Return the seconds left until *deadline*, at least 0; -1 stands for FOREVER."""
    if deadline == FOREVER:
        return -1
    return max(0, deadline - monotonic_ns()) / 1e9


def monotonic_ns() -> int:
    """Return CLOCK_MONOTONIC, the scale of deadlines, in nanoseconds."""
    return lib.sf_clock_now_ns()


def has_passed(deadline: int) -> bool:
    """Whether *deadline* has passed."""
    return monotonic_ns() >= deadline


def get_timestamp() -> int:
    """Read the fastest clock of the machine, in ticks.

    It never goes backwards along a message from one process to another, so it
    can put events of different processes in order:

    >>> before = get_timestamp()
    >>> after = get_timestamp()
    >>> before <= after
    True

    A tick is about a third of a nanosecond on a machine of 3 GHz;
    `timestamp_to_ns` says how long it is. The source is the time-stamp counter
    (https://www.felixcloutier.com/x86/rdtsc) on x86-64, cntvct_el0 on aarch64,
    CLOCK_MONOTONIC elsewhere.

    Raises:
        Nothing.
    """
    return lib.sf_clock_ticks()


def get_timestamp_serialized() -> int:
    """Read the same clock as `get_timestamp`, with a fence around the reading.

    Everything before the call has happened when the clock is read, nothing
    after it has begun (lfence and a compiler fence on x86-64, isb on aarch64):

    >>> before = get_timestamp_serialized()
    >>> total = sum(range(1000))
    >>> get_timestamp_serialized() > before
    True

    For most purposes `get_timestamp` is enough.

    Raises:
        Nothing.
    """
    return lib.sf_clock_ticks_serialized()


def timestamp_to_ns(ticks: int) -> int:
    """Convert an interval of *ticks*, a difference of timestamps, to nanoseconds.

    >>> start = get_timestamp()
    >>> timestamp_to_ns(get_timestamp() - start) < 1_000_000_000
    True

    The first call in a program watches both clocks for 20 ms; the answer is
    then good to about 5 parts in a million.

    Raises:
        TypeError: *ticks* is not a number.
    """
    return round(ticks * _ns_per_tick())


_measured_ns_per_tick: float | None = None


def _ns_per_tick() -> float:
    """Return the length of a tick, which is measured once."""
    global _measured_ns_per_tick
    if _measured_ns_per_tick is None:
        _measured_ns_per_tick = _measure_tick()
    return _measured_ns_per_tick


def _measure_tick() -> float:
    measured = ffi.new("double *")
    while lib.sf_clock_calibrate(_CALIBRATION_NS, measured):
        pass  # a signal came in between; its handler has run by now
    return float(measured[0])
