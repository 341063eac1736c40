# SPDX-License-Identifier: MIT
"""Section A: the child dies, at any moment and in any way."""

from __future__ import annotations

import ctypes
import faulthandler
import hashlib
import itertools
import os
import re
import resource
import select
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from deadline import wait_until
from gate import Gate
from libraries import Library, Snakefish, told_by
from process_table import is_gone, state
from row import Row
from stage import BrokenPromise, Stage, busy, for_ever

import snakefish
from snakefish import Channel, Generator, Thread

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Callable

FATAL = (
    signal.SIGKILL,
    signal.SIGTERM,
    signal.SIGSEGV,
    signal.SIGABRT,
    signal.SIGUSR1,
    signal.SIGHUP,
    signal.SIGRTMIN + 1,
)


def names(error: object, *words: object) -> bool:
    """Whether the words of an error have every one of *words*, a number as one of its own."""
    return all(re.search(rf"(?<!\w){re.escape(str(word))}(?!\w)", str(error)) for word in words)


def tells_signal(error: object, number: int) -> bool:
    """Whether anything in an error or its causes says which signal it was."""
    pattern = rf"{signal.Signals(number).name}|(signal |-){number}\b"
    return re.search(pattern, told_by(error)) is not None


def name_of(number: int) -> str:
    """The name of a signal, or its number where it has none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def whole(turn: int, size: int) -> bytes:
    """Bytes that show whether they are whole: the rest follows from the first ones."""
    seed = hashlib.sha256(str(turn).encode()).digest()
    return (seed * (size // len(seed) + 1))[:size]


@contextmanager
def alarmed_children(stage: Stage, seconds: float) -> Iterator[None]:
    """Let every child of this process, made in whatever way, die of SIGALRM soon after its fork.

    The kernel sends it, *seconds* times a random number after the fork, so it can come
    at any instruction from the very first on.
    """
    dice = stage.dice
    state = {"delay": 0.0, "armed": True, "pid": os.getpid()}

    def draw() -> None:
        state["delay"] = max(1e-6, dice.random() * seconds)

    def arm() -> None:
        if state["armed"] and os.getppid() == state["pid"]:
            signal.setitimer(signal.ITIMER_REAL, state["delay"])

    def count() -> None:
        if state["armed"]:
            stage.inject()

    os.register_at_fork(before=draw, after_in_child=arm, after_in_parent=count)
    try:
        yield
    finally:
        state["armed"] = False


# ------------------------------------------------------------------------------------------- A1

A1 = Row(
    "A1",
    "SIGKILL before, at or just after the start of f",
    "join returns; status -9, or 0 and the right result; no third thing",
)


@A1.scenario()
def killed_around_the_start_of_f(stage: Stage) -> None:
    """At a random moment of the first milliseconds, it is dead or done and nothing else."""
    for turn in stage.times(90):
        with Thread(lambda turn=turn: turn) as thread:
            thread.start()
            if turn % 3:
                stage.kill_within(thread.pid, 0.003)
            else:
                stage.kill(thread.pid)
            thread.join(timeout=5)
            judge_ended(stage, thread, turn)


def judge_ended(stage: Stage, thread: Thread, result: object, number: int = 9) -> None:
    """A joined thread was killed, or has its result; both is possible at its very end."""
    status = thread.get_exit_status()
    stage.expect(status in (0, -number), f"status {status}")
    try:
        stage.expect(thread.get_result() == result, "a wrong result")
    except RuntimeError as error:
        stage.expect(status == -number, f"status 0, but {error}")
        stage.expect(names(error, number, thread.pid), f"says {error}")


@A1.scenario()
def generator_killed_around_its_start(stage: Stage) -> None:
    """next gives the first value, or says that the generator was killed."""

    def numbers() -> Iterator[int]:
        yield from itertools.count()

    for turn in stage.times(60):
        with Generator(numbers, prefetch=turn % 2) as generator:
            generator.start()
            stage.kill_within(generator.pid, 0.003)
            try:
                stage.expect(generator.next(timeout=5) == 0, "a wrong first value")
            except RuntimeError as error:
                stage.expect(names(error, 9, generator.pid), f"says {error}")
            generator.join(timeout=5)
            status = generator.get_exit_status()
            stage.expect(status in (0, -9), f"status {status}")


@A1.scenario()
def map_whose_workers_die_around_their_start(stage: Stage) -> None:
    """All results or an error that names the signal; with merging all merges before it."""
    with alarmed_children(stage, 0.006):
        for _ in stage.times(40):
            judge_map(stage, lambda: snakefish.map(abs, range(-20, 0), concurrency=2))
            judge_map(stage, mapped_with_merging)


merged: list[int] = []


def mapped_with_merging() -> list[int]:
    """Map four jobs, each of which merges its items."""
    merged.clear()

    def work(item: int) -> int:
        merged.append(item)
        return abs(item)

    try:
        return snakefish.map(
            work,
            range(-20, 0),
            lambda _: {"merged": list(merged)},
            lambda _, extracted: merged.extend(extracted["merged"]),
            concurrency=2,
            chunksize=5,
        )
    finally:
        expected = list(range(-20, -20 + len(merged)))
        if merged != expected or len(merged) % 5:
            raise BrokenPromise(f"half merged: {merged}")


def judge_map(stage: Stage, action: Any) -> None:
    """It returns everything or raises what names the signal."""
    try:
        stage.expect(action() == list(range(20, 0, -1)), "a short or wrong list")
    except RuntimeError as error:
        stage.expect(names(error, "SIGALRM"), f"says {error}")


# ------------------------------------------------------------------------------------------- A2

A2 = Row(
    "A2",
    "a signal while f computes",
    "the call ends at once, with an error that names signal and pid; status -N",
)


def be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    for_ever()


def be_killed_for_odd(item: int) -> int:
    if item % 2:
        be_killed()
    return item


@A2.comparison(timeout=10)
def the_error_names_the_signal(stage: Stage, library: Library) -> None:
    """A function that SIGKILL ends is an error which says so."""
    stage.inject()
    error = stage.quickly(lambda: stage.error_of(lambda: library.call(be_killed)))
    told = tells_signal(error, signal.SIGKILL)
    stage.expect(told, f"{type(error).__name__}, without the signal")


@A2.comparison(timeout=10)
def map_names_the_signal(stage: Stage, library: Library) -> None:
    """So is a map in which one item is the end of its worker."""
    stage.inject()
    error = stage.quickly(lambda: stage.error_of(lambda: library.map(be_killed_for_odd, range(8))))
    told = tells_signal(error, signal.SIGKILL)
    stage.expect(told, f"{type(error).__name__}, without the signal")


@A2.scenario()
def every_signal_is_the_status(stage: Stage) -> None:
    """Whatever ends it, the status is -N, is_alive is False before join, the error names both."""
    for turn in stage.times(5 * len(FATAL)):
        number = FATAL[turn % len(FATAL)]
        with Thread(lambda: busy(60)) as thread:
            thread.start()
            stage.kill_within(thread.pid, 0.01, number)
            if turn % 2:
                stage.wait_until(lambda thread=thread: not thread.is_alive(), "stays alive")
            stage.quickly(thread.join)
            stage.expect(thread.get_exit_status() == -number, f"status {thread.get_exit_status()}")
            error = stage.error_of(thread.get_result)
            stage.expect(isinstance(error, RuntimeError), f"a {type(error).__name__}")
            stage.expect(names(error, name_of(number), thread.pid), f"says {error}")
            again = stage.error_of(thread.get_result)
            stage.expect(str(again) == str(error), "another error the second time")


@A2.scenario()
def try_join_and_fileno_tell_the_death(stage: Stage) -> None:
    """A killed thread becomes readable, and try_join is True from then on."""
    for _ in stage.times(30):
        with Thread(for_ever) as thread:
            thread.start()
            stage.expect(not thread.try_join(), "joined while it runs")
            stage.kill_within(thread.pid, 0.005)
            readable = select.select([thread], [], [], 5)[0]
            stage.expect(readable, "fileno does not become readable")
            stage.expect(thread.try_join() and thread.try_join(), "try_join is False")
            stage.expect(thread.get_exit_status() == -9, f"status {thread.get_exit_status()}")


@A2.scenario()
def generator_and_channel_end_at_once(stage: Stage) -> None:
    """Who waits for a value, or a message, of a dead child is told that it has died."""

    def silent() -> Iterator[None]:
        for_ever()
        yield

    for turn in stage.times(20):
        number = FATAL[turn % len(FATAL)]
        with Generator(silent) as generator:
            generator.start()
            stage.kill_within(generator.pid, 0.01, number)
            error = stage.quickly(lambda g=generator: stage.error_of(g.next))
            stage.expect(isinstance(error, RuntimeError), f"a {type(error).__name__}")
            stage.expect(names(error, name_of(number), generator.pid), f"says {error}")
            stage.quickly(generator.join)
            stage.expect(generator.get_exit_status() == -number, "another status")


@A2.scenario()
def map_names_signal_and_items(stage: Stage) -> None:
    """The error of map says which items were lost, whatever the signal; the rest is reaped."""
    for number in FATAL:
        stage.inject()

        def end(item: int, number: int = number) -> int:
            if item == 3:
                os.kill(os.getpid(), number)
                for_ever()
            return item

        error = stage.error_of(lambda end=end: snakefish.map(end, range(8), 2, 1))
        stage.expect(names(error, name_of(number), "item 3"), f"says {error}")


# --------------------------------------------------------------------------------------- A3, A5

A3 = Row(
    "A3, A5",
    "SIGKILL while the result is sent, or after that and before the exit",
    "the whole result, then kept although the status is -9; or an error; never a part",
)


@A3.scenario()
def killed_while_a_result_is_sent(stage: Stage) -> None:
    """A result of megabytes is whole, or there is none."""
    size = 3 << 20
    for turn in stage.times(60):
        expected = whole(turn, size)
        with Thread(lambda expected=expected: expected) as thread:
            thread.start()
            stage.kill_within(thread.pid, 0.006)
            if turn % 2:
                select.select([thread], [], [], 5)  # all of it waits before anybody takes it
            thread.join(timeout=5)
            judge_ended(stage, thread, expected)


@A3.scenario()
def killed_after_its_result(stage: Stage) -> None:
    """What has been sent counts: a result and its merge, although nobody had taken them."""

    def answer_and_stay(value: bytes) -> bytes:
        os._exit = stay  # what a child calls last of all
        return value

    def stay(_status: int) -> NoReturn:
        gate.open()
        for_ever()

    for turn in stage.times(30):
        number = FATAL[turn % len(FATAL)]
        expected = whole(turn, (10, 3 << 20)[turn % 2])
        merged.clear()
        gate = Gate()
        with Thread(
            answer_and_stay,
            lambda _: {"merged": [1]},
            lambda _, extracted: merged.extend(extracted["merged"]),
            args=(expected,),
        ) as thread:
            thread.start()
            gate.wait()
            stage.expect(not thread.try_join(), "joined while it lives")
            stage.kill(thread.pid, number)
            stage.quickly(thread.join)
            stage.expect(thread.get_exit_status() == -number, f"status {thread.get_exit_status()}")
            stage.expect(thread.get_result() == expected, "the result is lost")
            stage.expect(merged == [1], "the merge is lost")
        gate.close()


@A3.scenario()
def generator_killed_while_it_sends(stage: Stage) -> None:
    """The values before its death are whole and in order, then comes an error."""
    size = 300_000

    def pieces() -> Iterator[bytes]:
        for number in itertools.count():
            yield whole(number, size)

    for turn in stage.times(25):
        with Generator(pieces, prefetch=(0, 1, 8)[turn % 3]) as generator:
            generator.start()
            stage.kill_within(generator.pid, 0.02)
            try:
                for number in range(10_000):
                    value = generator.next(timeout=5)
                    stage.expect(value == whole(number, size), f"value {number} is wrong")
                stage.expect(False, "survives")
            except RuntimeError as error:
                stage.expect(names(error, 9, generator.pid), f"says {error}")
            stage.quickly(generator.join)
            stage.expect(generator.get_exit_status() == -9, "another status")


@A3.scenario()
def map_whose_workers_die_while_they_send(stage: Stage) -> None:
    """The list is complete and right, or there is none."""

    def work(item: int) -> bytes:
        return whole(item, 200_000)

    with alarmed_children(stage, 0.05):
        for _ in stage.times(25):
            try:
                values = snakefish.map(work, range(16), concurrency=2)
            except RuntimeError as error:
                stage.expect(names(error, "SIGALRM"), f"says {error}")
            else:
                stage.expect(values == [work(item) for item in range(16)], "a wrong list")


# ------------------------------------------------------------------------------------------- A4

A4 = Row(
    "A4",
    "SIGKILL of a sender or receiver, with the channel's lock held or not",
    "the others go on within 1 s; no message is torn or doubled",
)


def numbered(who: int, number: int, size: int) -> tuple[int, int, bytes]:
    """A message that shows whether it is whole."""
    return who, number, whole(who * 1_000_003 + number, size)


@A4.scenario()
def killed_sender_stops_nobody(stage: Stage) -> None:
    """Senders are killed in full career; the one that is left is heard within a second."""
    sizes = [10, 3_000, 200_000]

    def send_for_ever(who: int) -> NoReturn:
        for number in itertools.count():
            channel.send_pyobj(numbered(who, number, sizes[number % 3]), block=True)

    def check(message: tuple[int, int, bytes]) -> int:
        who, number, _ = message
        stage.expect(message == numbered(who, number, sizes[number % 3]), "a torn message")
        stage.expect(number == heard.get(who, -1) + 1, f"{number} after {heard.get(who, -1)}")
        heard[who] = number
        return who

    heard: dict[int, int] = {}
    with Channel(1 << 20) as channel, Thread(send_for_ever, args=(0,)) as survivor:
        survivor.start()
        for turn in stage.times(40):
            with Thread(send_for_ever, args=(turn + 1,)) as victim:
                victim.start()
                stage.kill_within(victim.pid, 0.02)
                while not victim.try_join():
                    check(channel.receive_pyobj(timeout=5))
            stage.quickly(lambda: hear_from(0, check, channel))


def hear_from(who: int, check: Any, channel: Channel) -> None:
    """Receive until a message of *who* is there, from after what waited in the channel."""
    while check(channel.receive_pyobj(timeout=5)) != who:
        pass


@A4.scenario()
def killed_receiver_stops_nobody(stage: Stage) -> None:
    """Receivers are killed in full career; each takes at most one message along."""
    sizes = [10, 3_000, 200_000]

    def receive_for_ever() -> NoReturn:
        while True:
            who, number, data = channel.receive_pyobj(True)
            if (who, number, data) != numbered(who, number, sizes[number % 3]):
                reports.send_pyobj("a torn message")
            reports.send_pyobj(number)

    sent = itertools.count()

    def send_some() -> None:
        for number in itertools.islice(sent, 6):
            channel.send_pyobj(numbered(0, number, sizes[number % 3]), block=True, timeout=5)

    with Channel(1 << 20) as channel, Channel() as reports, Thread(receive_for_ever) as survivor:
        survivor.start()
        turns = 0
        for _ in stage.times(40):
            turns += 1
            with Thread(receive_for_ever) as victim:
                victim.start()
                stage.kill_within(victim.pid, 0.01)
                while not victim.try_join():
                    send_some()
            stage.quickly(send_some)
        stage.quickly(lambda: wait_until(lambda: channel_is_empty(survivor, channel), "", 5))
        survivor.kill()
        survivor.join()
        received = taken(reports)
        total = next(sent)
        stage.expect("a torn message" not in received, "a torn message")
        stage.expect(len(received) == len(set(received)), "a message twice")
        lost = total - len(received)
        stage.expect(0 <= lost <= turns + 1, f"{lost} messages lost to {turns} receivers")


def channel_is_empty(survivor: Thread, channel: Channel) -> bool:
    """Whether the survivor has taken everything and sleeps."""
    assert survivor.pid is not None
    return state(survivor.pid) == "S" and len_of(channel) == 0


def len_of(channel: Channel) -> int:
    """The messages that wait, taken out and counted: none, when a receiver keeps up."""
    return len(taken(channel))


def taken(channel: Channel) -> list[Any]:
    """All that waits in a channel."""
    found = []
    try:
        while True:
            found.append(channel.receive_pyobj(False))
    except IndexError:
        return found


# ------------------------------------------------------------------------------------------- A6

A6 = Row(
    "A6",
    "a segmentation fault or abort() in f",
    "status -11 or -6; an error that names the signal; no core file needed",
)


def crash() -> NoReturn:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.disable()
    ctypes.memset(8, 1, 1)
    for_ever()


def abort() -> NoReturn:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.disable()
    os.abort()


@A6.comparison(timeout=10)
def a_crash_is_an_error(stage: Stage, library: Library) -> None:
    """A native crash in f is told as what it was."""
    stage.inject()
    error = stage.quickly(lambda: stage.error_of(lambda: library.call(crash)))
    told = tells_signal(error, signal.SIGSEGV)
    stage.expect(told, f"{type(error).__name__}, without the signal")


@A6.scenario()
def crashes_are_the_status(stage: Stage) -> None:
    """In a thread and in a generator, and map says whose items are lost."""

    def values(end: Any) -> Iterator[int]:
        yield 1
        end()

    for end, number in ((crash, signal.SIGSEGV), (abort, signal.SIGABRT)) * 3:
        stage.inject()
        with Thread(end) as thread, Generator(values, args=(end,)) as generator:
            thread.start()
            generator.start()
            stage.quickly(thread.join)
            stage.expect(thread.get_exit_status() == -number, f"status {thread.get_exit_status()}")
            error = stage.error_of(thread.get_result)
            stage.expect(names(error, number.name, thread.pid), f"says {error}")
            stage.expect(generator.next() == 1, "no first value")
            error = stage.quickly(lambda g=generator: stage.error_of(g.next))
            stage.expect(names(error, number.name, generator.pid), f"says {error}")
            generator.join()
            stage.expect(generator.get_exit_status() == -number, "another status")
        error = stage.error_of(lambda end=end: snakefish.map(lambda _: end(), range(4), 2, 1))
        stage.expect(names(error, number.name, "item"), f"says {error}")


# ------------------------------------------------------------------------------------------- A7

A7 = Row(
    "A7",
    "os._exit(n) in f",
    "status n; get_result is a RuntimeError, for n = 0 too, as nothing was returned",
)


def leave_with(code: int) -> NoReturn:
    os._exit(code)


def leave_with_0() -> NoReturn:
    leave_with(0)


def leave_with_3() -> NoReturn:
    leave_with(3)


@A7.comparison(timeout=10)
def os_exit_is_an_error(stage: Stage, library: Library) -> None:
    """Whoever leaves without a result has none, and its caller is told."""
    for leave in (leave_with_3, leave_with_0):
        stage.inject()
        stage.quickly(lambda leave=leave: stage.error_of(lambda: library.call(leave)))


@A7.scenario()
def os_exit_is_the_status(stage: Stage) -> None:
    """The code is the status and stands in the error; from a generator and a map too."""

    def values(code: int) -> Iterator[int]:
        yield 1
        os._exit(code)

    for code in (0, 1, 3, 127, 255):
        stage.inject()
        with Thread(leave_with, args=(code,)) as thread:
            thread.start()
            stage.quickly(thread.join)
            stage.expect(thread.get_exit_status() == code, f"status {thread.get_exit_status()}")
            error = stage.error_of(thread.get_result)
            stage.expect(isinstance(error, RuntimeError), f"a {type(error).__name__}")
            stage.expect(names(error, code, thread.pid), f"says {error}")
        with Generator(values, args=(code,)) as generator:
            generator.start()
            stage.expect(generator.next() == 1, "no first value")
            error = stage.quickly(lambda g=generator: stage.error_of(g.next))
            stage.expect(names(error, code, generator.pid), f"says {error}")
            generator.join()
            stage.expect(generator.get_exit_status() == code, "another status")
        for merging in ((), (lambda _: {}, lambda *_: None)):
            error = stage.error_of(
                lambda code=code, merging=merging: snakefish.map(
                    lambda _: os._exit(code), range(4), *merging
                )
            )
            stage.expect(names(error, f"exit code {code}"), f"says {error}")


# ------------------------------------------------------------------------------------------- A8

A8 = Row(
    "A8",
    "sys.exit(x) in f",
    "it ends f; status as sys.exit defines it; get_result raises and never returns a value",
)

EXITS = ((None, 0), (0, 0), (3, 3), (-1, 255), (256, 0), (True, 1), ("a text", 1), ((1, 2), 1))


def sys_exit() -> NoReturn:
    sys.exit(3)


@A8.comparison(timeout=10)
def sys_exit_is_an_error(stage: Stage, library: Library) -> None:
    """The caller learns that f has left, by whatever exception."""
    stage.inject()
    stage.quickly(lambda: stage.error_of(lambda: library.call(sys_exit)))


@A8.scenario()
def sys_exit_is_the_status(stage: Stage) -> None:
    """SystemExit comes out of get_result and next with its code, and is the status."""

    def values(code: object) -> Iterator[int]:
        yield 1
        sys.exit(code)  # type: ignore[arg-type]

    for code, status in EXITS:
        stage.inject()
        with Thread(sys.exit, args=(code,)) as thread:
            thread.start()
            stage.quickly(thread.join)
            stage.expect(thread.get_exit_status() == status, f"status {thread.get_exit_status()}")
            error = stage.error_of(thread.get_result)
            stage.expect(getattr(error, "code", NotImplemented) == code, f"raises {error!r}")
        with Generator(values, args=(code,)) as generator:
            generator.start()
            stage.expect(generator.next() == 1, "no first value")
            error = stage.quickly(lambda g=generator: stage.error_of(g.next))
            stage.expect(getattr(error, "code", NotImplemented) == code, f"raises {error!r}")
            generator.join()
            stage.expect(generator.get_exit_status() == status, "another status")


# ------------------------------------------------------------------------------------------ A10

A10 = Row(
    "A10",
    "SIGINT or SIGTERM to the child from outside",
    "KeyboardInterrupt comes out of get_result; SIGTERM is status -15",
)


def be_interrupted() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.kill(os.getpid(), signal.SIGINT)
    busy(60)


@A10.comparison(timeout=10)
def an_interrupt_of_f_is_told(stage: Stage, library: Library) -> None:
    """A Ctrl-C that meets f alone ends that call, and is named."""
    stage.inject()
    error = stage.quickly(lambda: stage.error_of(lambda: library.call(be_interrupted)))
    told = "KeyboardInterrupt" in told_by(error) or tells_signal(error, signal.SIGINT)
    stage.expect(told, f"{type(error).__name__}, without the interrupt")


@A10.scenario()
def interrupted_at_any_moment(stage: Stage) -> None:
    """SIGINT at a random moment: a result or KeyboardInterrupt, and never a third thing."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for turn in stage.times(120):
        with Thread(lambda turn=turn: (busy(0.001), turn)[1]) as thread:
            thread.start()
            stage.kill_within(thread.pid, 0.008, signal.SIGINT)
            thread.join(timeout=5)
            try:
                stage.expect(thread.get_result() == turn, "a wrong result")
            except KeyboardInterrupt as error:
                stage.expect(error.__cause__ is not None, "no traceback of the child")
            status = thread.get_exit_status()
            stage.expect(status in (0, 1), f"status {status}")


@A10.scenario()
def interrupted_and_terminated_while_it_computes(stage: Stage) -> None:
    """Each in a thread, a generator and a map."""
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def compute() -> Iterator[int]:
        yield 1
        busy(60)

    for _ in stage.times(10):
        with Thread(busy, args=(60,)) as thread, Generator(compute, prefetch=2) as generator:
            thread.start()
            generator.start()
            stage.expect(generator.next() == 1, "no first value")
            stage.kill_within(thread.pid, 0.01, signal.SIGTERM)
            stage.kill_within(generator.pid, 0.01, signal.SIGINT)
            stage.quickly(thread.join)
            stage.expect(thread.get_exit_status() == -15, f"status {thread.get_exit_status()}")
            stage.expect(names(stage.error_of(thread.get_result), "SIGTERM"), "not named")
            error = stage.quickly(lambda g=generator: stage.error_of(g.next))
            stage.expect(isinstance(error, KeyboardInterrupt), f"raises {error!r}")
            generator.join()
            stage.expect(generator.get_exit_status() == 0, "another status")
    error = stage.error_of(lambda: snakefish.map(lambda _: be_interrupted(), range(2), 2, 1))
    stage.expect(isinstance(error, KeyboardInterrupt), f"map raises {error!r}")


# ------------------------------------------------------------------------------------------ A11

A11 = Row(
    "A11",
    "SIGSTOP, later SIGCONT",
    "alive, try_join is False at once, a timeout holds; afterwards it goes on and nothing is lost",
)


@A11.scenario()
def stopped_and_continued(stage: Stage) -> None:
    """A stopped thread is a live one, and ends well when it may go on."""
    for turn in stage.times(15):
        gate = Gate()
        with Thread(lambda turn=turn, gate=gate: (gate.wait(), turn)[1]) as thread:
            thread.start()
            stage.kill(thread.pid, signal.SIGSTOP)
            stage.wait_until(lambda pid=thread.pid: state(pid) == "T", "is not stopped")
            stage.expect(thread.is_alive(), "not alive")
            stage.expect(not stage.quickly(thread.try_join, 0.2), "joined")
            error = stage.quickly(lambda t=thread: stage.error_of(lambda: t.join(0.01)))
            stage.expect(isinstance(error, TimeoutError), f"raises {error!r}")
            gate.open()
            stage.kill(thread.pid, signal.SIGCONT)
            stage.quickly(thread.join)
            stage.expect(thread.get_exit_status() == 0, f"status {thread.get_exit_status()}")
            stage.expect(thread.get_result() == turn, "a wrong result")
        gate.close()


@A11.scenario()
def stopped_again_and_again(stage: Stage) -> None:
    """A generator whose child is stopped at random moments loses no value."""

    def numbers() -> Iterator[int]:
        yield from range(20_000)

    with Generator(numbers, prefetch=16) as generator:
        generator.start()
        expected = itertools.count()
        for _ in stage.times(40):
            stage.kill_within(generator.pid, 0.004, signal.SIGSTOP)
            stage.wait_until(
                lambda: state(generator.pid) == "T" or take_some(stage, generator, expected),
                "is not stopped",
            )
            error = stage.error_of(lambda: drain(stage, generator, expected))
            stage.expect(isinstance(error, IndexError), f"raises {error!r}")
            stage.kill(generator.pid, signal.SIGCONT)
            next_value = stage.quickly(lambda: generator.next(timeout=5))
            stage.expect(next_value == next(expected), "a value is lost")
        generator.join()
        stage.expect(generator.get_exit_status() == 0, "another status")


def take_some(stage: Stage, generator: Generator, expected: Iterator[int]) -> bool:
    """Take a few values; False, as that stops nobody."""
    try:
        for _ in range(5):
            stage.expect(generator.next(timeout=0.001) == next(expected), "a value is lost")
    except TimeoutError:
        pass
    return False


def drain(stage: Stage, generator: Generator, expected: Iterator[int]) -> None:
    """Take all that a stopped child has sent; IndexError says that it was all."""
    for _ in range(1000):
        value = stage.quickly(lambda: generator.next(False), 0.2)
        stage.expect(value == next(expected), "a value is lost")


# ------------------------------------------------------------------------------------------ A12

A12 = Row(
    "A12",
    "out of memory in f; the OOM killer",
    "MemoryError comes out of get_result; after SIGKILL the error speaks of memory",
)


hoard: list[bytearray] = []


def exhaust_memory() -> NoReturn:
    """Fill 40 MB of address space to the last kilobyte, and hold on to it."""
    with open("/proc/self/statm", encoding="ascii") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (40 << 20), resource.RLIM_INFINITY))
    size = 16 << 20
    while size > 512:
        try:
            while True:
                hoard.append(bytearray(size))
        except MemoryError:
            size //= 2
    while True:
        hoard.append(bytearray(512))


def ask_too_much() -> bytearray:
    return bytearray(1 << 60)


@A12.comparison(timeout=10)
def memory_error_travels(stage: Stage, library: Library) -> None:
    """What is too large to be had is a MemoryError where it was asked for."""
    stage.inject()
    error = stage.quickly(lambda: stage.error_of(lambda: library.call(ask_too_much)))
    stage.expect(isinstance(error, (MemoryError, OverflowError)), f"raises {error!r:.60}")


@A12.comparison(timeout=15)
def exhausted_memory_is_an_error(stage: Stage, library: Library) -> None:
    """With the last byte taken, the caller still gets an error."""
    stage.inject()
    stage.error_of(lambda: library.call(exhaust_memory))


@A12.scenario()
def exhausted_memory_is_a_memory_error(stage: Stage) -> None:
    """From wherever it comes; where the interpreter itself gives up, the error names its death."""

    def values() -> Iterator[int]:
        yield 1
        exhaust_memory()

    def judge(action: Callable[[], object]) -> None:
        stage.inject()
        error = stage.error_of(action)
        fatal = sys.implementation.name == "pypy" and names(error, "SIGABRT")
        stage.expect(isinstance(error, MemoryError) or fatal, f"raises {error!r:.60}")

    judge(lambda: Snakefish().call(exhaust_memory))
    judge(lambda: snakefish.map(lambda _: exhaust_memory(), range(2)))
    judge(lambda: snakefish.map(lambda _: exhaust_memory(), range(2), lambda _: {}, print))
    with Generator(values) as generator:
        generator.start()
        stage.expect(generator.next() == 1, "no first value")
        judge(generator.next)


@A12.scenario()
def sigkill_speaks_of_memory(stage: Stage) -> None:
    """The kernel kills without a word, so the error says what the word might have been."""
    stage.inject()
    with Thread(be_killed) as thread:
        thread.start()
        thread.join()
        text = str(stage.error_of(thread.get_result))
        stage.expect("memory" in text, f"says {text}")


# ------------------------------------------------------------------------------------------ A13

A13 = Row(
    "A13",
    "endless recursion, of Python and of the native stack",
    "RecursionError, or an error that names the signal",
)


def recurse() -> int:
    return recurse() + 1


def overflow_the_stack() -> int:
    """Recurse through C, with Python's own limit out of the way."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.disable()
    sys.setrecursionlimit(1_000_000)
    return max([0], key=lambda _: overflow_the_stack())


@A13.comparison(timeout=10)
def endless_recursion_is_an_error(stage: Stage, library: Library) -> None:
    """The exception arrives with its class."""
    stage.inject()
    error = stage.quickly(lambda: stage.error_of(lambda: library.call(recurse)))
    stage.expect(isinstance(error, RecursionError), f"raises {error!r:.60}")


@A13.comparison(timeout=15)
def stack_overflow_is_an_error(stage: Stage, library: Library) -> None:
    """RecursionError where the interpreter sees it coming, else an error that names the death."""
    stage.inject()
    error = stage.error_of(lambda: library.call(overflow_the_stack))
    told = isinstance(error, (RecursionError, MemoryError)) or tells_signal(error, signal.SIGSEGV)
    stage.expect(told, f"{type(error).__name__}, without the signal")


# ------------------------------------------------------------------------------------------ A14

A14 = Row("A14", "one of many dies", "only that one fails; all others have their results")


def slow_answer() -> int:
    busy(0.05)
    return 42


@A14.comparison(timeout=15)
def the_others_have_their_results(stage: Stage, library: Library) -> None:
    """Of eight calls under way, one is killed."""
    stage.inject()
    calls = [slow_answer] * 8
    calls[2] = be_killed  # type: ignore[list-item]
    endings = library.endings(calls)
    told_by(endings[2])
    lost = sum(ending != 42 for ending in endings) - 1
    stage.expect(not lost, f"{lost} of the 7 others fail too")


@A14.comparison(timeout=15)
def the_next_call_works(stage: Stage, library: Library) -> None:
    """What is asked after a death is answered."""
    stage.inject()
    endings = library.endings_in_turn([slow_answer, be_killed, slow_answer, slow_answer])
    told_by(endings[1])
    stage.expect(endings[2:] == [42, 42], f"then {type(endings[2]).__name__}")


@A14.scenario()
def only_the_killed_fail(stage: Stage) -> None:
    """Threads and generators at the same time, some killed at random moments."""

    def numbers(first: int) -> Iterator[int]:
        yield from range(first, first + 50)

    for _ in stage.times(4):
        threads = [Thread(slow_answer) for _ in range(16)]
        generators = [Generator(numbers, args=(first,), prefetch=4) for first in range(6)]
        doomed = set(stage.dice.sample(range(16), 6))
        condemned = set(stage.dice.sample(range(6), 3))
        for one in (*threads, *generators):
            one.start()
        for index in doomed:
            stage.kill_within(threads[index].pid, 0.05, stage.dice.choice(FATAL[:3]))
        for index in condemned:
            stage.kill_within(generators[index].pid, 0.02)
        for first, generator in enumerate(generators):
            judge_values(stage, generator, first, first in condemned)
        for index, thread in enumerate(threads):
            thread.join(timeout=10)
            if index not in doomed:
                stage.expect(thread.get_result() == 42, "a result is lost")
                stage.expect(thread.get_exit_status() == 0, "another status")
        for one in (*threads, *generators):
            one.dispose()
            stage.expect(one.pid is not None and is_gone(one.pid), "one is left")


def judge_values(stage: Stage, generator: Generator, first: int, may_die: bool) -> None:
    """All values in order, or those up to its death if it may die."""
    taken = []
    try:
        taken.extend(iter(generator))
    except RuntimeError as error:
        stage.expect(may_die, f"one that nobody killed: {error}")
    expected = list(range(first, first + 50))
    stage.expect(taken == expected[: len(taken)], "values are lost")
    stage.expect(may_die or taken == expected, "values are missing")
    generator.join(timeout=5)
