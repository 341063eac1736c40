# SPDX-License-Identifier: MIT
"""Deaths: how soon a death, or a Ctrl-C, is known.

Every time is taken between two processes, on the monotonic clock that all of them share. Who is
about to kill or to die writes the moment into shared memory; who had waited looks at the clock
when it may go on.

For the death of a lock holder, a sender that does nothing but send is stopped (SIGSTOP) at a
random moment and another process tries to send. If it cannot, the stopped one holds the lock. Only
then it is killed, and what is measured is from the SIGKILL to the end of the other's send. So every
sample is of a lock that was really held.

There are neither peers, who do not notice most of this, nor a limit. The aims are for the 99th
percentile on an idle machine.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import mmap
import os
import random
import select
import signal
import time
from typing import TYPE_CHECKING, Any, Callable, NoReturn

import snakefish
from benchmarks.figure import OURS, SECONDS, Aim, Figure, Scale
from snakefish import Channel, Generator, Thread

if TYPE_CHECKING:
    from collections.abc import Iterator

MS, S = 1e6, 1e9  # nanoseconds in one

now = time.monotonic_ns

shared = mmap.mmap(-1, 4096)
moments = (ctypes.c_int64 * 4).from_buffer(shared)
"""What processes tell each other: times in nanoseconds."""
STRUCK, DONE, ASKED = range(3)


def figures(scale: Scale) -> list[Figure]:
    count = scale.choose(tiny=2, quick=40)
    waits = interruptible()
    return [
        figure("of a child", "from its SIGKILL to the end of join()", death_of_a_child, 5, count),
        figure(
            "of a lock holder",
            "from the SIGKILL of who holds a channel's lock to the end of another's send",
            lock_holder,
            20,
            count,
        ),
        figure(
            "of the parent",
            "from its SIGKILL to the death of 4 children and a grandchild",
            death_of_a_parent,
            50,
            count,
        ),
        *(
            figure(f"Ctrl-C in {call}", "from SIGINT to KeyboardInterrupt", wait, 5, count)
            for call, wait in waits.items()
        ),
    ]


def figure(
    case: str, what: str, measure: Callable[[], Iterator[int]], aim_ms: int, count: int
) -> Figure:
    return Figure(
        id="deaths",
        case=case,
        what=what,
        unit=SECONDS,
        runners={OURS: lambda: samples(measure, count)},
        aims=[Aim(at_most=aim_ms / 1000, quantile=0.99)],
        warms_up=False,
    )


def samples(measure: Callable[[], Iterator[int]], count: int) -> list[float]:
    """Take so many samples; return them in seconds."""
    with contextlib.closing(measure()) as taken:  # type: ignore[type-var]
        return [sample / S for sample in itertools.islice(taken, count)]


def for_ever() -> NoReturn:
    while True:
        select.select([], [], [], 1.0)


def compute_for_ever() -> NoReturn:
    while True:
        pass


def spawned(function: Callable[[], Any]) -> int:
    """Fork a process that is none of the library's; return its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            function()
        finally:
            os._exit(0)
    return pid


# ---------------------------------------------------------------- the three deaths


def death_of_a_child() -> Iterator[int]:
    """The parent waits in join; the child notes the time and kills itself."""

    def die() -> None:
        time.sleep(dice.random() * 0.003)
        moments[STRUCK] = now()
        os.kill(os.getpid(), signal.SIGKILL)

    dice = random.Random(1)
    while True:
        with Thread(die) as thread:
            dice.random()
            thread.start()
            thread.join()
            yield now() - moments[STRUCK]


def lock_holder() -> Iterator[int]:
    """A sender in a tight loop, stopped; another that sends when it is asked to."""
    large = bytes(100_000)

    def send_for_ever() -> None:
        while True:
            channel.send_bytes(large, block=True)

    def receive_for_ever() -> None:
        while True:
            channel.receive_bytes()

    def send_when_asked() -> None:
        for number in itertools.count(1):
            while moments[ASKED] < number:
                time.sleep(0.0001)
            channel.send_bytes(b"", block=True)
            moments[DONE] = now()

    moments[ASKED] = 0
    dice = random.Random(1)
    channel, survivor = Channel(1 << 20), Thread(send_when_asked)
    with channel, survivor, Thread(receive_for_ever) as receiver:
        receiver.start()
        survivor.start()
        while True:
            with Thread(send_for_ever) as victim:
                victim.start()
                yield death_inside_the_lock(victim, dice)


def death_inside_the_lock(victim: Thread, dice: random.Random) -> int:
    """Kill a sender that holds the lock; how long until another has sent what it could not."""
    time.sleep(0.002)
    while not stopped_inside(victim, dice):
        victim.kill(signal.SIGCONT)
    struck = now()
    victim.kill()
    while not moments[DONE]:
        time.sleep(0.0001)
    return moments[DONE] - struck


def stopped_inside(victim: Thread, dice: random.Random) -> bool:
    """Stop a sender; whether another cannot send then."""
    time.sleep(dice.random() * 0.001)
    victim.kill(signal.SIGSTOP)
    time.sleep(0.001)
    moments[DONE] = 0
    moments[ASKED] += 1
    end = now() + 5 * MS
    while now() < end:
        if moments[DONE]:
            return False
        time.sleep(0.0002)
    return True


def death_of_a_parent() -> Iterator[int]:
    """All of a family hold the end of a pipe that is closed when the last has gone."""
    while True:
        ready, tell = os.pipe()
        pid = spawned(lambda write=tell: be_a_family(write))
        os.close(tell)
        for _ in range(5):
            os.read(ready, 1)
        struck = now()
        os.kill(pid, signal.SIGKILL)
        os.read(ready, 1)
        yield now() - struck
        os.close(ready)
        os.waitpid(pid, 0)


def be_a_family(tell: int) -> None:
    """One that computes, one that receives, one that waits to be asked, one with a child."""

    def say(then: Callable[[], Any]) -> None:
        os.write(tell, b"!")
        then()

    def have_a_child() -> None:
        child = Thread(say, args=(for_ever,))
        child.start()
        say(child.join)

    def idle() -> Iterator[int]:
        yield 1

    channel, generator = Channel(), Generator(idle)
    bodies = [
        lambda: say(compute_for_ever),
        lambda: say(channel.receive_pyobj),
        have_a_child,
    ]
    threads = [Thread(body) for body in bodies]
    for one in (generator, *threads):
        one.start()
    generator.next()
    say(for_ever)


# ------------------------------------------------------------------- interruptions


def interruptible() -> dict[str, Callable[[], Iterator[int]]]:
    """What blocks until the interruption comes; each returns how long that took to be noticed."""

    def join() -> int:
        with Thread(for_ever) as thread:
            thread.start()
            return notice(thread.join)

    def receive() -> int:
        with Channel() as channel:
            return notice(channel.receive_pyobj)

    def next_value() -> int:
        def nothing() -> Iterator[int]:
            yield for_ever()

        with Generator(nothing) as generator:
            generator.start()
            return notice(generator.next)

    def mapping() -> int:
        return notice(lambda: snakefish.map(lambda n: for_ever(), range(2), concurrency=2))

    waits = {
        "Thread.join()": join,
        "Channel.receive_pyobj()": receive,
        "Generator.next()": next_value,
        "map()": mapping,
    }
    return {call: lambda wait=wait: interruption(wait) for call, wait in waits.items()}


def notice(block: Callable[[], Any]) -> int:
    """Tell the striker that this process is about to block; the time from the signal to here."""
    moments[ASKED] += 1
    try:
        block()
    except KeyboardInterrupt:
        return now() - moments[STRUCK]
    raise AssertionError("it came back by itself")


def interruption(wait: Callable[[], int]) -> Iterator[int]:
    """A process outside strikes some milliseconds after it was told to expect it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell runs with & ignores it
    moments[ASKED] = 0
    parent = os.getpid()

    def strike() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        dice = random.Random(1)
        for number in itertools.count(1):
            while moments[ASKED] < number:
                time.sleep(0.0002)
                if os.getppid() != parent:
                    return
            time.sleep(0.010 + dice.random() * 0.005)
            moments[STRUCK] = now()
            os.kill(parent, signal.SIGINT)

    striker = spawned(strike)
    try:
        while True:
            yield wait()
    finally:
        os.kill(striker, signal.SIGKILL)
        os.waitpid(striker, 0)
