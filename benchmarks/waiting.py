# SPDX-License-Identifier: MIT
"""Children that wait until they are let go: ours, multiprocessing's, and bare forks.

Each is a context: inside of it a child lives and waits; at its end it is let go and its answer
taken.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager

from snakefish import Thread

fork = multiprocessing.get_context("fork")

PROCESS_AND_PIPE = "Process + Pipe"


@contextmanager
def gate() -> Iterator[tuple[int, int]]:
    """A pipe of which one byte lets one child go."""
    reader, writer = os.pipe()
    try:
        yield reader, writer
    finally:
        os.close(reader)
        os.close(writer)


@contextmanager
def thread() -> Iterator[None]:
    with gate() as (reader, writer), Thread(lambda: os.read(reader, 1)) as child:
        child.start()
        yield
        os.write(writer, b"!")
        child.join()
        assert child.get_result() == b"!"


@contextmanager
def process_and_pipe() -> Iterator[None]:
    with gate() as (reader, writer):
        receiver, sender = fork.Pipe(False)
        child = fork.Process(target=lambda: sender.send(os.read(reader, 1)))
        child.start()
        sender.close()
        yield
        os.write(writer, b"!")
        assert receiver.recv() == b"!"
        child.join()
        child.close()
        receiver.close()


@contextmanager
def bare_fork() -> Iterator[None]:
    with gate() as (reader, writer):
        pid = os.fork()
        if pid == 0:
            os._exit(os.read(reader, 1)[0])
        yield
        os.write(writer, b"!")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == ord("!")
