# SPDX-License-Identifier: MIT
"""Everything at once: signals every millisecond, kills at random moments, uses again and again."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from typing import Any, Callable

import pytest
from deadline import SOON
from process_table import children, open_descriptors, shared_sizes
from scenario import output_of

import snakefish
from snakefish import Channel, Generator, SnakefishError, Thread


def test_everything_works_in_a_storm_of_signals() -> None:
    """Threads, generators, maps and channels at once, under signals here and in the children."""
    assert output_of("""
        ticks = []
        signal.signal(signal.SIGALRM, lambda number, frame: ticks.append(number))
        def storm(period):
            signal.setitimer(signal.ITIMER_REAL, period, period)
        def count():
            storm(0.003)
            for n in range(60):
                yield n
            storm(0)
        def send():
            storm(0.002)
            for n in range(300):
                channel.send_pyobj((n, b"x" * (n * 7 % 900)), block=True)
            storm(0)
            return n
        storm(0.001)
        seen = []
        def keep(namespace): return {"seen": namespace["seen"]}
        def add(namespace, extracted): namespace["seen"] += extracted["seen"]
        for turn in range(4):
            seen.clear()
            with Channel(4096) as channel, Thread(send) as sender, \\
                    Generator(count, prefetch=turn) as counter:
                sender.start()
                counter.start()
                for n in range(300):
                    assert channel.receive_pyobj() == (n, b"x" * (n * 7 % 900))
                assert snakefish.map(lambda n: n * n, range(200)) == [n * n for n in range(200)]
                snakefish.map(seen.append, range(6), keep, add, concurrency=2, chunksize=1)
                assert seen == list(range(6)), seen
                assert list(counter) == list(range(60))
                counter.join()
                sender.join()
                assert sender.get_result() == 299
        storm(0)
        say(len(ticks) > 20)
        """) == ["True"]


@pytest.mark.parametrize("seed", range(3))
def test_threads_killed_at_any_moment_are_whole_or_dead(seed: int) -> None:
    """After a kill at a random moment there is status 0 or -9, with a whole result or none."""
    dice = random.Random(seed)
    blob = dice.randbytes(200_000)
    for _ in range(20):
        work = dice.randrange(3000)
        with Thread(lambda work=work: (sum(range(work)), blob)[1]) as thread:
            thread.start()
            sum(range(dice.randrange(40_000)))
            with contextlib.suppress(ProcessLookupError):
                thread.kill(signal.SIGKILL)
            thread.join(timeout=SOON)
            status = thread.get_exit_status()
            assert status in (0, -signal.SIGKILL)
            try:
                assert thread.get_result() == blob
            except SnakefishError:
                assert status == -signal.SIGKILL


def use_thread(f: Callable[..., Any]) -> None:
    with Thread(f) as thread:
        thread.start()
        thread.join()


def use_unstarted() -> None:
    Thread(int).dispose()
    Channel().dispose()


def use_killed() -> None:
    with Thread(signal.pause) as thread:
        thread.start()


def use_generator_half() -> None:
    def f() -> Any:
        yield 1
        yield 2

    with Generator(f, prefetch=1) as generator:
        generator.start()
        generator.next()
        generator.join()


def use_failing_map() -> None:
    with contextlib.suppress(ZeroDivisionError):
        snakefish.map(lambda n: 1 // n, range(-2, 3), concurrency=2)


def use_map() -> None:
    snakefish.map(abs, range(5), concurrency=2)


def use_merging_map() -> None:
    snakefish.map(abs, range(3), lambda mine: {}, lambda mine, theirs: None)


def use_channel() -> None:
    with Channel() as channel:
        channel.send_pyobj(bytes(300_000))
        channel.receive_pyobj()


USES: dict[str, Callable[[], None]] = {
    "value": lambda: use_thread(int),
    "exception": lambda: use_thread(lambda: 1 // 0),
    "exit": lambda: use_thread(lambda: os._exit(3)),
    "unstarted": use_unstarted,
    "killed": use_killed,
    "generator": use_generator_half,
    "map": use_map,
    "merging map": use_merging_map,
    "failing map": use_failing_map,
    "channel": use_channel,
}


@pytest.mark.parametrize("name", USES)
def test_use_after_use_leaves_nothing(name: str) -> None:
    """After twenty-five turns of any use there are as many descriptors, mappings, children."""
    USES[name]()
    before = set(open_descriptors()), shared_sizes()["Size"], children()
    for _ in range(25):
        USES[name]()
    after = set(open_descriptors()), shared_sizes()["Size"], children()
    assert after[0] == before[0]
    assert after[2] == before[2]
    assert after[1] <= before[1] + (64 << 20)
