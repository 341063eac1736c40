# SPDX-License-Identifier: MIT
"""Memory: what one of each costs, what a burst leaves behind, and the peak of a large result.

All is what the whole family of processes holds more than before, in bytes. The limit of a child is
a bare os.fork that waits. The limit of a result is the object and one copy of it. On PyPy, where
peers take long for as much, a run that is not --full has a result of 100 MB.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any, Callable

from benchmarks import links
from benchmarks.figure import BYTES, LIMIT, OURS, Aim, Figure, Runner, Scale
from benchmarks.resident import family_size, growth, watched
from benchmarks.waiting import PROCESS_AND_PIPE, bare_fork, process_and_pipe, thread
from snakefish import Channel, Generator, Thread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.links import Opener

fork = multiprocessing.get_context("fork")

MB = 10**6
CPYTHON = sys.implementation.name == "cpython"


def figures(scale: Scale) -> list[Figure]:
    several = scale.choose(tiny=2, quick=20)
    burst = scale.choose(tiny=2, quick=200)
    size = scale.choose(tiny=MB, quick=200 * MB if CPYTHON else 100 * MB, full=200 * MB)
    return [
        a_channel(several),
        a_thread(several),
        a_generator(several),
        after_a_burst(burst),
        after_dispose(burst),
        peak_of_a_result(size),
    ]


def figure(case: str, what: str, runners: dict[str, Runner], *aims: Aim) -> Figure:
    return Figure(
        id="memory", case=case, what=what, unit=BYTES, runners=runners, aims=aims, warms_up=False
    )


# -------------------------------------------------------------------- one of each


def each(make: Callable[[], AbstractContextManager[Any]], count: int) -> Runner:
    """Return a runner that makes *count* of something and says what each of them costs."""

    def turn() -> float:
        with make():
            pass
        with ExitStack() as stack:
            before = family_size(os.getpid())
            for _ in range(count):
                stack.enter_context(make())
            return growth(before) / count

    return turn


def a_channel(count: int) -> Figure:
    def used(opener: Opener) -> Callable[[], AbstractContextManager[Any]]:
        def make() -> ExitStack:
            with ExitStack() as stack:
                link = stack.enter_context(opener())
                link.send(b"x" * 100)
                assert link.receive() == b"x" * 100
                return stack.pop_all()

        return make

    peers = (OURS, "Pipe", "SimpleQueue", "Queue", "faster-fifo")
    runners = {name: each(used(links.OF_BYTES[name]), count) for name in peers}
    return figure("a Channel", "after one message", runners)


def a_thread(count: int) -> Figure:
    runners = {
        OURS: each(thread, count),
        PROCESS_AND_PIPE: each(process_and_pipe, count),
        LIMIT: each(bare_fork, count),
    }
    return figure("a Thread", "and its child, which waits", runners)


def a_generator(count: int) -> Figure:
    def numbers() -> Iterator[int]:
        yield from range(10)

    def idle() -> Generator:
        generator = Generator(numbers)
        generator.start()
        assert generator.next() == 0
        return generator

    runners = {OURS: each(idle, count), LIMIT: each(bare_fork, count)}
    return figure("an idle Generator", "and its child, after one value", runners)


# ------------------------------------------------------------------------- a burst


def after_a_burst(count: int) -> Figure:
    def ours() -> float:
        before = family_size(os.getpid())
        with Channel() as channel:
            fill_and_drain(channel.send_bytes, channel.receive_bytes, count)
            return growth(before)

    def queue() -> float:
        before = family_size(os.getpid())
        with links.queue() as link:
            fill_and_drain(link.send, link.receive, count)
            return growth(before)

    what = f"{count} messages of 1 MB, drained"
    return figure(
        "after a burst", what, {OURS: ours, "Queue": queue}, Aim(at_most=count * MB // 20)
    )


def after_dispose(count: int) -> Figure:
    def ours() -> float:
        before = family_size(os.getpid())
        with Channel() as channel:
            for _ in range(count):
                channel.send_bytes(bytes(MB))
        return growth(before)

    what = f"{count} messages of 1 MB, never received"
    return figure("after dispose", what, {OURS: ours}, Aim(at_most=MB))


def fill_and_drain(
    send: Callable[[bytes], object], receive: Callable[[], bytes], count: int
) -> None:
    for _ in range(count):
        send(bytes(MB))
    for _ in range(count):
        assert len(receive()) == MB


# ------------------------------------------------------------------------ a result


def large(size: int) -> bytes:
    return b"\x5a" * size


def peak_of_a_result(size: int) -> Figure:
    def ours() -> float:
        with watched() as peak, Thread(large, args=(size,)) as child:
            child.start()
            child.join()
            assert len(child.get_result()) == size
        return peak.size

    def pool() -> float:
        with fork.Pool(1) as workers, watched() as peak:
            assert len(workers.apply(large, (size,))) == size
        return peak.size

    def executor() -> float:
        from concurrent.futures import ProcessPoolExecutor

        with ProcessPoolExecutor(1, mp_context=fork) as workers, watched() as peak:
            assert len(workers.submit(large, size).result()) == size
        return peak.size

    runners: dict[str, Runner] = {
        OURS: ours,
        "Pool": pool,
        "ProcessPoolExecutor": executor,
        LIMIT: lambda: 2 * size,
    }
    return figure("peak", f"during a result of {size // MB} MB", runners, Aim(LIMIT, at_most=1.1))
