# SPDX-License-Identifier: MIT
"""Work that takes about so long, the same steps for everybody."""

from __future__ import annotations

import sys

# About as many as fit into a microsecond. They are not measured: all have to do the same.
_STEPS_A_US = 700 if sys.implementation.name == "pypy" else 20


def work(microseconds: int) -> int:
    """Keep a processor busy for about that time."""
    x = 1
    for _ in range(microseconds * _STEPS_A_US):
        x = (x * 5 + 1) & 0xFFFF
    return x
