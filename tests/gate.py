# SPDX-License-Identifier: MIT
"""A gate that one process opens and any number of others pass: it puts events in an order."""

from __future__ import annotations

import os
import select

from deadline import SOON


class Gate:
    """Closed when made; once open, it stays open. Children made later share it."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def open(self) -> None:
        """Let everybody pass, now and later."""
        os.write(self._write, b"!")

    def is_open(self) -> bool:
        """Whether somebody opened it."""
        return bool(select.select([self._read], [], [], 0)[0])

    def wait(self, timeout: float = SOON) -> None:
        """Wait until it is open."""
        if not select.select([self._read], [], [], timeout)[0]:
            raise AssertionError("the gate stays closed")

    def close(self) -> None:
        """Close the descriptors."""
        os.close(self._read)
        os.close(self._write)
