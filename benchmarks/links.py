# SPDX-License-Identifier: MIT
"""Ways from one process to another: ours and the peers', each with its best settings.

A link is made before the fork, used one way, and closed by who made it.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Callable, NamedTuple

from benchmarks.figure import OURS
from snakefish import Channel

fork = multiprocessing.get_context("fork")

ROOM = 16 << 20
"""Bytes in the ring of faster-fifo, which must hold the largest message."""


class Link(NamedTuple):
    """One way from a sender to a receiver."""

    send: Callable[[Any], object]
    receive: Callable[[], Any]


@contextmanager
def channel() -> Iterator[Link]:
    with Channel() as made:
        yield Link(lambda obj: made.send_pyobj(obj, True), made.receive_pyobj)


@contextmanager
def channel_of_bytes() -> Iterator[Link]:
    with Channel() as made:
        yield Link(lambda data: made.send_bytes(data, True), made.receive_bytes)


@contextmanager
def pipe() -> Iterator[Link]:
    receiver, sender = fork.Pipe(False)
    with receiver, sender:
        yield Link(sender.send, receiver.recv)


@contextmanager
def pipe_of_bytes() -> Iterator[Link]:
    receiver, sender = fork.Pipe(False)
    with receiver, sender:
        yield Link(sender.send_bytes, receiver.recv_bytes)


@contextmanager
def simple_queue() -> Iterator[Link]:
    queue = fork.SimpleQueue()
    yield Link(queue.put, queue.get)
    queue.close()


@contextmanager
def queue() -> Iterator[Link]:
    made = fork.Queue()
    yield Link(made.put, made.get)
    made.close()


@contextmanager
def faster_fifo() -> Iterator[Link]:
    from faster_fifo import Queue

    made = Queue(ROOM)
    yield Link(made.put, made.get)
    made.close()


@contextmanager
def faster_fifo_in_batches() -> Iterator[Link]:
    """The receiver takes as many messages at once as there are, as its documentation advises."""
    from faster_fifo import Queue

    made = Queue(ROOM)
    waiting: list[Any] = []

    def receive() -> Any:
        if not waiting:
            waiting.extend(reversed(made.get_many(max_messages_to_get=1000)))
        return waiting.pop()

    yield Link(made.put, receive)
    made.close()


Opener = Callable[[], AbstractContextManager[Link]]

OF_OBJECTS: dict[str, Opener] = {
    OURS: channel,
    "Pipe": pipe,
    "SimpleQueue": simple_queue,
    "Queue": queue,
    "faster-fifo": faster_fifo,
    "faster-fifo, get_many": faster_fifo_in_batches,
}

OF_BYTES: dict[str, Opener] = {
    **OF_OBJECTS,
    OURS: channel_of_bytes,
    "Pipe": pipe_of_bytes,
    "Pipe, pickled": pipe,
}
"""For bytes; those that have nothing of their own for bytes pickle them."""
