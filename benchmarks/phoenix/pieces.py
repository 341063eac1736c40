# SPDX-License-Identifier: MIT
"""How the Pool versions cut their work: a few pieces for each process, so that none waits long."""

from __future__ import annotations

import os

PIECES_A_PROCESS = 4


def pieces(count: int, processes: int | None) -> list[range]:
    """Return the numbers below *count* as ranges of nearly equal length."""
    wanted = PIECES_A_PROCESS * (processes or os.cpu_count() or 1)
    size = max(1, -(-count // wanted))
    return [range(first, min(first + size, count)) for first in range(0, count, size)]
