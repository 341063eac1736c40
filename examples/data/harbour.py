# SPDX-License-Identifier: MIT
"""A harbour: boats come in with the tide, one boat a berth."""

from tide import HOUR, can_pass


def next_passage(boat, time):
    """Return the first full hour at which the *boat* can pass."""
    while not can_pass(boat, time):
        time += HOUR  # wait for the water
    return time


def moor(boats, berths):
    return dict(zip(berths, boats))
