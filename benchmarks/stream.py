# SPDX-License-Identifier: MIT
"""Messages a second from a forked child to its parent, over any link."""

from __future__ import annotations

import os
import time
from multiprocessing import util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.links import Link, Opener

LAST = b"the last one"
TURN = 0.2
"""Seconds that a turn should take, whoever's it is."""


class Stream:
    """A runner: the same object sent again and again, as often as fits into a turn."""

    def __init__(self, opener: Opener, obj: Any, count: int) -> None:
        self._opener = opener
        self._obj = obj
        self._fewest = self._count = count

    def __call__(self) -> float:
        """Return messages a second, from the first one's arrival to that of the last."""
        rate = self._rate()
        self._count = max(self._fewest, int(rate * TURN))
        return rate

    def _rate(self) -> float:
        with self._opener() as link:
            pid = os.fork()
            if pid == 0:
                self._send(link)
            assert link.receive() == self._obj
            began = time.perf_counter()
            for _ in range(self._count - 1):
                link.receive()
            assert link.receive() == LAST
            elapsed = time.perf_counter() - began
            assert os.waitpid(pid, 0)[1] == 0
            return self._count / elapsed

    def _send(self, link: Link) -> None:
        """Send them all and end; where a queue sends in a thread of its own, that ends first."""
        try:
            for _ in range(self._count):
                link.send(self._obj)
            link.send(LAST)
            util._exit_function()  # type: ignore[attr-defined]  # noqa: SLF001
        finally:
            os._exit(0)
