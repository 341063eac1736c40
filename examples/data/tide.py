# SPDX-License-Identifier: MIT
"""The height of the water, and when a boat can pass."""

HOUR = 3600  # seconds


def height(time, high=2.0, low=0.5):
    """Return the height of the water: a triangle between *low* and *high*."""
    phase = time % (12 * HOUR) / (6 * HOUR)
    return low + (high - low) * (phase if phase < 1 else 2 - phase)


def can_pass(boat, time):
    # The water must be deeper than the boat, with a hand's breadth to spare.
    return height(time) > boat.depth + 0.1
