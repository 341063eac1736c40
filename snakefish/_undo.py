# SPDX-License-Identifier: MIT
"""Steps that take back what was done, noted while it is being done."""

from __future__ import annotations

from typing import Callable


def take_back(undo: list[Callable[[], object]]) -> None:
    """Run the steps of *undo*, the last first; a Ctrl-C meanwhile is raised when all is done."""
    try:
        while undo:
            undo[-1]()  # every step may be run twice
            undo.pop()
    except KeyboardInterrupt:
        take_back(undo)
        raise
