# SPDX-License-Identifier: MIT
"""Every way of ours to run a function in a child, and a family in which all of them are at work."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, Any, Callable

from family import KINDS, bare_fork
from stage import for_ever

from snakefish import Channel, Generator, Thread

if TYPE_CHECKING:
    from collections.abc import Iterator

by_thread = KINDS["a Thread"]
by_generator = KINDS["a Generator"]
by_map = KINDS["map"]
by_map_with_merging = KINDS["map with merging"]

WAYS = (by_thread, by_generator, by_map, by_map_with_merging)
"""What each returns, a function has returned in a child of its own."""


def nothing_of(_globals: dict[str, Any]) -> dict[str, Any]:
    """Extract nothing."""
    return {}


def not_merged(_globals: dict[str, Any], _changes: dict[str, Any]) -> None:
    """Merge nothing."""


def counting() -> Iterator[int]:
    """An endless generator."""
    number = 0
    while True:
        yield number
        number += 1


def _filled() -> Channel:
    """A small channel without room for another byte worth sending."""
    channel = Channel(4096)
    try:
        while True:
            channel.send_bytes(bytes(64), block=False)
    except OverflowError:
        return channel


def _have_children() -> None:
    """Start children, one of which has children too, and wait for them."""
    inner = [Thread(for_ever), Thread(lambda: by_thread(for_ever)), Generator(counting)]
    for one in inner:
        one.start()
    inner[0].join()


def start_everything(tell: Callable[[], None] = lambda: None) -> list[Any]:
    """Start children that sleep, idle, block on channels, map and have children of their own.

    *tell* is called once the children stand. Keep what is returned, or they end.
    """
    empty, full = Channel(), _filled()
    threads = [
        Thread(for_ever),
        Thread(empty.receive_pyobj),
        Thread(lambda: full.send_bytes(bytes(64), block=True)),
        Thread(_have_children),
        Thread(lambda: by_map(for_ever)),
        Thread(lambda: by_map_with_merging(for_ever)),
    ]
    idle, asked = Generator(counting), Generator(counting, prefetch=3)
    for one in [*threads, idle, asked]:
        one.start()
    asked.next()
    tell()
    return [empty, full, idle, asked, *threads]


def forked(body: Callable[[], Any]) -> int:
    """Fork a process in a session of its own that runs *body*; return its pid.

    It is none of ours: a bare fork. A Ctrl-C ends it with status 0, any other error with 1.
    """

    def alone() -> None:
        os.setsid()
        with contextlib.suppress(KeyboardInterrupt):
            body()

    return bare_fork(alone)


class Busy:
    """Threads of this process that do something over and over."""

    def __init__(self, *actions: Callable[[], Any]) -> None:
        self._stop = threading.Event()
        self.rounds = [0] * len(actions)
        self._threads = [
            threading.Thread(target=self._repeat, args=one, daemon=True)
            for one in enumerate(actions)
        ]

    def _repeat(self, number: int, action: Callable[[], Any]) -> None:
        while not self._stop.is_set():
            action()
            self.rounds[number] += 1

    def __enter__(self) -> Busy:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
