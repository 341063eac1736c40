# SPDX-License-Identifier: MIT
"""How long the tests wait: for a condition, never for a span of time."""

from __future__ import annotations

import select
import time
from typing import Callable, TypeVar

Value = TypeVar("Value")

SOON = 10.0
"""Seconds that anything promised "at once" or "within a second" gets on a busy machine."""


def wait_until(condition: Callable[[], Value], message: str, timeout: float = SOON) -> Value:
    """Return the first true value of *condition*; fail with *message* after *timeout* seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s: {message}")
        select.select([], [], [], 0.002)
