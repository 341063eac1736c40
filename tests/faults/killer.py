# SPDX-License-Identifier: MIT
"""Sends signals at their time: a line on the standard input is `pid moment signal`."""

from __future__ import annotations

import ctypes
import os
import select
import time

_PIDFD_SEND_SIGNAL = 424
_PIDFD_OPEN = 434
_syscall = ctypes.CDLL(None, use_errno=True).syscall


def _take(orders: list[tuple[float, int, int]]) -> bool:
    """Read what was ordered; False at the end of the input. A line arrives whole: it is short."""
    data = os.read(0, 65536)
    for line in data.splitlines():
        pid, moment, number = line.split()
        victim = _syscall(_PIDFD_OPEN, int(pid), 0)
        if victim >= 0:
            orders.append((float(moment), victim, int(number)))
    orders.sort(reverse=True)
    return bool(data)


def main() -> None:
    """Send everything at its time, until the standard input ends."""
    orders: list[tuple[float, int, int]] = []
    while True:
        wait = max(0.0, orders[-1][0] - time.monotonic()) if orders else None
        if select.select([0], [], [], wait)[0] and not _take(orders):
            return
        while orders and orders[-1][0] <= time.monotonic():
            _, victim, number = orders.pop()
            _syscall(_PIDFD_SEND_SIGNAL, victim, number, None, 0)
            os.close(victim)


if __name__ == "__main__":
    main()
