# SPDX-License-Identifier: MIT
"""Sections L, M and S: time, escape, and load, with kills at random moments.

The kill fuzz draws moments and sizes from the stage's dice, so that a run that failed can be
repeated; what the kernel's scheduler makes of them differs from run to run.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import select
import signal
import sys
import tempfile
import threading
import time
from typing import TYPE_CHECKING, Any, Callable, NoReturn

import crowd
from libraries import Library
from row import Row
from stage import Stage, for_ever

import snakefish
from snakefish import Channel, ChildDiedError, Generator, Thread

if TYPE_CHECKING:
    from collections.abc import Iterator

_SLOW = 0.09
"""Seconds after which a wake-up must have been lost: nobody sleeps longer without looking."""

# ------------------------------------------------------------------------- time

L1 = Row("L1", "time-stamps along messages, 3,000 hops", "never backwards, on any processor")


def _move_to(cpu: int) -> None:
    """Run on one processor only, if this process may; PyPy has no os.sched_setaffinity."""
    mask = ctypes.c_ulong(1 << cpu)
    ctypes.CDLL(None).sched_setaffinity(0, ctypes.sizeof(mask), ctypes.byref(mask))


@L1.scenario(timeout=60)
def time_goes_forwards_along_messages(stage: Stage) -> None:
    """Three processes hand a time-stamp round, and move from processor to processor."""
    hops = sum(1 for _ in stage.times(3000))

    def pass_on(place: int, read: Callable[[], int]) -> int:
        backwards, dice = 0, random.Random(place)
        for hop in range(hops):
            if hop % 50 == 0:
                _move_to(dice.randrange(os.cpu_count() or 1))
            before = channels[place].receive_pyobj()
            now = read()
            backwards += now < before
            channels[(place + 1) % len(channels)].send_pyobj(read(), block=True)
        return backwards

    for read in (snakefish.get_timestamp, snakefish.get_timestamp_serialized):
        with contextlib.ExitStack() as stack:
            channels = [stack.enter_context(Channel(4096)) for _ in range(3)]
            threads = [
                stack.enter_context(Thread(pass_on, args=(place, read))) for place in range(3)
            ]
            for thread in threads:
                thread.start()
            channels[0].send_pyobj(read())
            for thread in threads:
                thread.join(timeout=60)
                backwards = thread.get_result()
                stage.expect(backwards == 0, f"{backwards} of {hops} hops backwards")


# ------------------------------------------------------------------------ escape

M1 = Row(
    "M1",
    "f ends in every way there is, among hooks, handlers and streams that raise",
    "no child ever returns from start(); looked for in every scenario",
)


class Leaving:
    """Calls sys.exit wherever it is touched."""

    def __reduce__(self) -> NoReturn:
        sys.exit("while pickled")

    def __str__(self) -> NoReturn:  # noqa: PLE0307
        sys.exit("while shown")

    __repr__ = __str__


class LeavingError(Exception):
    """An exception that does the same."""

    __reduce__ = Leaving.__reduce__
    __str__ = Leaving.__str__


class Unheard(BaseException):
    """No Exception."""


def _throw(error: BaseException) -> NoReturn:
    raise error


def _storm() -> None:
    """Have a signal handler raise every 300 us from now on, here in the child."""

    def strike(number: int, frame: object) -> NoReturn:
        raise Unheard

    signal.signal(signal.SIGALRM, strike)
    signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)


def _profile() -> None:
    def profiler(frame: object, event: str, argument: object) -> None:
        raise Unheard

    sys.setprofile(profiler)


def _break_exit() -> None:
    os._exit = lambda status: _throw(Unheard())  # type: ignore[assignment]


def _break_streams() -> None:
    sys.stdout = sys.stderr = Leaving()  # type: ignore[assignment]


def _leave_a_thread() -> None:
    threading.Thread(target=lambda: _throw(SystemExit(3))).start()
    threading.excepthook = lambda *_: _throw(Unheard())


def _recurse() -> None:
    _recurse()


ENDINGS: dict[str, Callable[[], Any]] = {
    "KeyboardInterrupt": lambda: _throw(KeyboardInterrupt()),
    "GeneratorExit": lambda: _throw(GeneratorExit()),
    "SystemExit": lambda: sys.exit(5),
    "a BaseException": lambda: _throw(Unheard()),
    "os._exit": lambda: os._exit(3),
    "a result that leaves": Leaving,
    "an exception that leaves": lambda: _throw(LeavingError()),
    "recursion": _recurse,
    "a profiler that raises": _profile,
    "os._exit replaced": _break_exit,
    "streams that leave": _break_streams,
    "a thread that raises": _leave_a_thread,
    "a handler that raises": _storm,
}


def _end_in_a_generator(f: Callable[[], Any]) -> Iterator[Any]:
    yield 1
    yield f()


def _take_all(generator: Generator) -> None:
    with contextlib.suppress(BaseException):
        for _ in generator:
            pass


@M1.scenario(timeout=60)
def nobody_comes_back(stage: Stage) -> None:
    """Every way to end, in a thread, a generator, a map, and a job that merges."""
    home = os.getpid()
    for _ in stage.times(3):
        for name, f in ENDINGS.items():
            stage.inject()
            with Thread(f) as thread, Generator(_end_in_a_generator, args=(f,)) as generator:
                thread.start()
                generator.start()
                _take_all(generator)
                thread.join(timeout=10)
                generator.join(timeout=10)
            for merging in ((), (lambda names: {}, lambda names, other: None)):
                with contextlib.suppress(BaseException):
                    snakefish.map(lambda _, f=f: f(), range(2), *merging, concurrency=2)
            stage.expect(os.getpid() == home, f"a child comes back: {name}")


@M1.scenario(timeout=60)
def nobody_comes_back_from_a_bad_start(stage: Stage) -> None:
    """What raises comes before f: a profiler, a hook of the fork, a stack without room."""
    home = os.getpid()

    def hook() -> None:
        if hooked:
            raise Unheard

    def profiler(frame: object, event: str, argument: object) -> None:
        if os.getpid() != home:
            raise Unheard

    def start_at_the_edge(room: int) -> None:
        if room:
            start_at_the_edge(room - 1)
        else:
            with contextlib.suppress(RecursionError), Thread(int) as thread:
                thread.start()
                thread.join(timeout=10)

    hooked = True
    os.register_at_fork(after_in_child=hook)
    for _ in stage.times(10):
        with Thread(int) as thread:
            thread.start()
            thread.join(timeout=10)
    hooked = False
    for _ in stage.times(10):
        with Thread(int) as thread:
            sys.setprofile(profiler)
            try:
                thread.start()
            finally:
                sys.setprofile(None)
            thread.join(timeout=10)
    for left in stage.times(100):
        stage.inject()
        with contextlib.suppress(RecursionError):
            start_at_the_edge(sys.getrecursionlimit() - 110 + left)
        stage.expect(os.getpid() == home, "a child comes back")


# ------------------------------------------------------------ against the built-in

S1 = Row("S1", "map() of random functions, items and numbers", "what the built-in map gives")


def square(n: int) -> int:
    return n * n


def shout(n: int) -> str:
    return str(n) * (n % 50)


def skewed(n: int) -> int:
    return sum(range(20_000)) + n if n % 97 == 0 else n


def picky(n: int) -> int:
    if n % 101 == 100:
        raise ValueError(n)
    return n


def _outcome_of(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except ValueError as error:
        return error.args


@S1.scenario(timeout=60)
def same_as_the_built_in(stage: Stage) -> None:
    for _ in stage.times(40):
        f = stage.dice.choice((square, shout, skewed, picky))
        count = stage.dice.choice((0, 1, 2, 7, 100, 1000, stage.dice.randrange(5000)))
        items = [stage.dice.randrange(10_000) for _ in range(count)]
        numbers = {
            "concurrency": stage.dice.choice((0, 1, 2, 3, 8)),
            "chunksize": stage.dice.choice((0, 1, 3, 1000)) if count < 100 else 0,
        }
        stage.inject()
        expected = _outcome_of(lambda f=f, items=items: list(map(f, items)))
        found = _outcome_of(lambda f=f, i=items, n=numbers: snakefish.map(f, i, **n))
        stage.expect(found == expected, f"another answer for {count} items, {numbers}")
        pairs = list(zip(items, reversed(items)))
        found = snakefish.starmap(max, pairs, **numbers)
        stage.expect(found == [max(pair) for pair in pairs], "another answer of starmap")


@S1.comparison()
def map_gives_what_the_built_in_gives(stage: Stage, library: Library) -> None:
    for f in (square, shout, skewed, picky):
        items = [stage.dice.randrange(10_000) for _ in range(stage.dice.randrange(1, 2000))]
        stage.inject()
        expected = _outcome_of(lambda f=f, items=items: list(map(f, items)))
        found = _outcome_of(lambda f=f, items=items: library.map(f, items))
        stage.expect(found == expected, f"another answer of {f.__name__}")


# ---------------------------------------------------------------- long and narrow

S2 = Row(
    "S2, S3",
    "a pipeline of 20,000 messages; 10,000 ping-pongs through 1 KiB",
    "nothing lost, in order, no wake-up lost",
)


@S2.scenario(timeout=60)
def pipeline_of_threads(stage: Stage) -> None:
    count = sum(1 for _ in stage.times(20_000))

    def begin() -> None:
        for n in range(count):
            first.send_pyobj((n, "x" * (n % 200)), block=True)

    def go_on() -> None:
        for _ in range(count):
            n, text = first.receive_pyobj()
            second.send_pyobj((n, text, len(text)), block=True)

    first, second = Channel(16384), Channel(16384)
    with first, second, Thread(begin) as one, Thread(go_on) as two:
        one.start()
        two.start()
        for n in range(count):
            expected = (n, "x" * (n % 200), n % 200)
            stage.expect(second.receive_pyobj() == expected, "lost or out of order")
        for thread in (one, two):
            thread.join(timeout=10)
            thread.get_result()


@S2.scenario(timeout=60)
def pipeline_of_generators(stage: Stage) -> None:
    count = sum(1 for _ in stage.times(5000))

    def numbers() -> Iterator[int]:
        yield from range(count)

    def doubled() -> Iterator[int]:
        for n in first:
            yield 2 * n

    with Generator(numbers, prefetch=16) as first, Generator(doubled, prefetch=16) as second:
        first.start()
        second.start()
        stage.expect(list(second) == list(range(0, 2 * count, 2)), "lost or out of order")
        second.join(timeout=10)
        first.join(timeout=10)


@S2.scenario(timeout=60)
def ping_pong(stage: Stage) -> None:
    """A wake-up that is lost costs a slice of 100 ms; a busy machine may cost one now and then."""
    count = sum(1 for _ in stage.times(10_000))

    def answer() -> None:
        for _ in range(count):
            pong.send_pyobj(ping.receive_pyobj(), block=True)

    with Channel(1024) as ping, Channel(1024) as pong, Thread(answer) as thread:
        thread.start()
        slow = 0
        for n in range(count):
            began = time.monotonic()
            ping.send_pyobj((n, b"x" * (n % 500)), block=True)
            stage.expect(pong.receive_pyobj() == (n, b"x" * (n % 500)), "another answer")
            slow += time.monotonic() - began > _SLOW
        thread.join(timeout=10)
    stage.facts["slow"] = slow
    stage.expect(slow <= 5 + count // 2000, f"{slow} of {count} answers took a slice")


S4 = Row("S4", "4 + 4 processes on 8 KiB, full and empty all the time", "nothing lost, in order")


@S4.scenario(timeout=60)
def four_and_four(stage: Stage) -> None:
    group = crowd.Crowd(4, 4, 8192, stage.dice.randrange(1 << 30))
    try:
        group.start()
        for _ in stage.times(10):
            group.watch(0.1)
        group.finish(stage)
        group.judge(stage)
        stage.expect(group.received > 100, "nearly nothing arrives")
    finally:
        group.dispose()


# --------------------------------------------------------------------- kill fuzz

S5 = Row(
    "S5, S6, S7",
    "threads, generators, channel peers, map workers SIGKILLed at random moments",
    "nobody hangs; nothing torn, doubled, or lost of what survivors sent",
)

_NOISE = random.Random(2).getrandbits(8 << 19).to_bytes(1 << 19, "little")
_SIZES = (0, 100, 5000, 100_000, 400_000)


def _busy(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def _status_is_known(stage: Stage, status: int) -> bool:
    """Whether it was killed; anything but that and a normal end is a broken promise."""
    stage.expect(status in (0, -signal.SIGKILL), f"status {status}")
    if status:
        _note_a_death(stage)
    return status != 0


def _note_a_death(stage: Stage) -> None:
    stage.facts["died"] = stage.facts.get("died", 0) + 1  # type: ignore[operator]


@S5.scenario(timeout=60)
def threads_killed_at_random(stage: Stage) -> None:
    """Each is dead or done, with its whole result or none; merged if and only if it has one."""
    for turn in stage.times(60):
        merged: list[tuple[int, bytes]] = []
        with contextlib.ExitStack() as stack:
            threads = [
                stack.enter_context(_thread_of(stage, 5 * turn + place, merged))
                for place in range(5)
            ]
            for thread in threads:
                thread.start()
                stage.kill_within(thread.pid, 0.006)
            for place, thread in enumerate(threads):
                _judge_thread(stage, thread, 5 * turn + place, merged)


def _thread_of(stage: Stage, number: int, merged: list[tuple[int, bytes]]) -> Thread:
    """A thread that returns something, and, every other one, merges something."""
    seconds = stage.dice.random() * 0.003
    size, more = stage.dice.choice(_SIZES), stage.dice.choice(_SIZES)

    def work() -> tuple[int, bytes]:
        _busy(seconds)
        return number, _NOISE[:size]

    def extract(names: dict[str, Any]) -> dict[str, Any]:
        return {"number": number, "noise": _NOISE[-more:]}

    def merge(names: dict[str, Any], extracted: dict[str, Any]) -> None:
        merged.append((extracted["number"], extracted["noise"]))

    return Thread(work, extract, merge) if number % 2 else Thread(work)


def _judge_thread(
    stage: Stage, thread: Thread, number: int, merged: list[tuple[int, bytes]]
) -> None:
    stage.quickly(thread.join)
    was_killed = _status_is_known(stage, thread.get_exit_status())
    try:
        found, noise = thread.get_result()
    except ChildDiedError:
        stage.expect(was_killed, "lost: ended well, and no result")
        count = 0
    else:
        stage.expect(found == number and _NOISE.startswith(noise), "torn: another result")
        count = number % 2
    changes = [noise for mine, noise in merged if mine == number]
    stage.expect(len(changes) <= count, "doubled: merged too often")
    stage.expect(len(changes) >= count, "lost: a result, and its merge is missing")
    stage.expect(all(_NOISE.endswith(noise) for noise in changes), "torn: another merge")


@S5.scenario(timeout=60)
def generators_killed_at_random(stage: Stage) -> None:
    """Their values are the first ones, each once, in order; then there is the end or the error."""
    for _ in stage.times(34):
        with contextlib.ExitStack() as stack:
            generators = [stack.enter_context(_generator_of(stage)) for _ in range(3)]
            for generator in generators:
                generator.start()
                stage.kill_within(generator.pid, 0.010)
            _consume_in_turns(stage, generators)
            for generator in generators:
                stage.quickly(generator.join)
                _status_is_known(stage, generator.get_exit_status())


_VALUES = 30


def _generator_of(stage: Stage) -> Generator:
    sizes = [stage.dice.choice(_SIZES[:4]) for _ in range(_VALUES)]

    def produce() -> Iterator[tuple[int, bytes]]:
        for number, size in enumerate(sizes):
            yield number, _NOISE[:size]

    return Generator(produce, prefetch=stage.dice.choice((0, 0, 1, 8, 100)))


def _consume_in_turns(stage: Stage, generators: list[Generator]) -> None:
    taken = dict.fromkeys(generators, 0)
    while taken:
        for generator in list(taken):
            try:
                number, noise = stage.quickly(generator.next)
            except StopIteration:
                count = taken.pop(generator)
                stage.expect(count == _VALUES, f"lost: the end after {count} values")
            except ChildDiedError:
                del taken[generator]
            else:
                expected = taken[generator]
                stage.expect(number >= expected, "doubled: a value comes again")
                stage.expect(number == expected, f"lost: {number} instead of {expected}")
                stage.expect(_NOISE.startswith(noise), "torn: another value")
                taken[generator] += 1


@S5.scenario(timeout=60)
def peers_killed_at_random(stage: Stage) -> None:
    """Four senders, four receivers, a kill every few milliseconds, replaced at once."""
    crowd.run(stage, sum(1 for _ in stage.times(150)), 0.002)


@S5.scenario(timeout=60)
def senders_killed_at_random(stage: Stage) -> None:
    """When nobody who receives is killed, not a single message may be missing."""
    crowd.run(stage, sum(1 for _ in stage.times(60)), 0.002, victims="senders")


@S5.scenario(timeout=60)
def peers_killed_every_10_ms(stage: Stage) -> None:
    """The same, with more traffic between the kills: what the soak runs for half an hour."""
    crowd.run(stage, sum(1 for _ in stage.times(50)), 0.010)


@S5.scenario(timeout=60)
def map_workers_killed_at_random(stage: Stage) -> None:
    """The whole list or an error, at once; never a short list, never a wait."""
    stage.arm()
    for _ in stage.times(60):
        count, delays = _plan(stage, 60)

        def f(n: int, delays: dict[int, float] = delays) -> tuple[int, bytes]:
            if n in delays:
                stage.die_after(delays[n])
            _busy(0.0002)
            return n, _NOISE[: n * 100]

        concurrency = stage.dice.randrange(1, 5)
        chunksize = stage.dice.choice((0, 0, 1, 7))
        try:
            found = stage.quickly(
                lambda f=f, c=count, o=concurrency, s=chunksize: snakefish.map(
                    f, range(c), concurrency=o, chunksize=s
                )
            )
        except ChildDiedError as error:
            stage.expect("SIGKILL" in str(error), f"says {error}")
            _note_a_death(stage)
        else:
            expected = [(n, _NOISE[: n * 100]) for n in range(count)]
            stage.expect(len(found) == count, "lost: a short list")
            stage.expect(found == expected, "torn: another answer")


@S5.scenario(timeout=60)
def merging_jobs_killed_at_random(stage: Stage) -> None:
    """What is merged is what the plain loop would have left before the one that died."""
    stage.arm()
    for _ in stage.times(40):
        count, delays = _plan(stage, 24)
        merged: list[int] = []

        def f(n: int, delays: dict[int, float] = delays, merged: list[int] = merged) -> int:
            if n in delays:
                stage.die_after(delays[n])
            _busy(0.0002)
            merged.append(n)
            return n

        def extract(names: object, merged: list[int] = merged) -> dict[str, Any]:
            return {"merged": list(merged), "noise": _NOISE}

        def merge(names: object, extracted: Any, merged: list[int] = merged) -> None:
            merged.extend(extracted["merged"])

        size = stage.dice.choice((1, 3, 10))
        try:
            found = stage.quickly(
                lambda f=f, e=extract, m=merge, c=count, s=size: snakefish.map(
                    f, range(c), e, m, concurrency=3, chunksize=s
                )
            )
        except ChildDiedError:
            _note_a_death(stage)
            stage.expect(merged == list(range(len(merged))), "lost or doubled: other merges")
            stage.expect(len(merged) % size == 0 and len(merged) < count, "half a merge")
            chunk = range(len(merged), len(merged) + size)
            stage.expect(any(n in delays for n in chunk), "the error is for another job")
        else:
            stage.expect(found == list(range(count)), "lost: a short list")
            stage.expect(merged == found, "lost or doubled: other merges")


def _plan(stage: Stage, most: int) -> tuple[int, dict[int, float]]:
    """How many items there are, and after how long those that kill their worker do so."""
    count = stage.dice.randrange(1, most)
    victims = {stage.dice.randrange(count) for _ in range(stage.dice.randrange(1, 4))}
    for _ in victims:
        stage.inject()
    return count, {victim: stage.dice.random() * 0.004 for victim in victims}


_LIST_OF_WORKERS = "SNAKEFISH_WORKERS"


def say_who_works(n: int) -> int:
    """Write down which process this is; work for a millisecond."""
    with open(os.environ[_LIST_OF_WORKERS], "a", encoding="ascii") as file:
        file.write(f"{os.getpid()}\n")
    _busy(0.001)
    return n


def _assassinate(place: str, seconds: float) -> None:
    """Wait until somebody works, then for *seconds*, then kill one of them."""
    while not os.path.getsize(place):
        select.select([], [], [], 0.0005)
    select.select([], [], [], seconds)
    with open(place, encoding="ascii") as file:
        pids = sorted({int(line) for line in file if line.endswith("\n")})
    with contextlib.suppress(ProcessLookupError):
        os.kill(pids[0], signal.SIGKILL)


@S5.comparison(timeout=40)
def a_worker_is_killed_during_a_map(stage: Stage, library: Library) -> None:
    """From outside, in the midst of the work: the whole list or an error, within seconds."""
    with tempfile.TemporaryDirectory() as directory:
        for turn in stage.times(5):
            place = os.path.join(directory, f"workers{turn}")
            open(place, "w", encoding="ascii").close()
            os.environ[_LIST_OF_WORKERS] = place
            pid = os.fork()
            if pid == 0:
                try:
                    _assassinate(place, stage.dice.random() * 0.05)
                finally:
                    os._exit(0)
            stage.inject()
            try:
                found = library.map(say_who_works, range(200))
            except Exception:
                pass
            else:
                stage.expect(found == list(range(200)), "a short list")
            finally:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


# ----------------------------------------------------------------------- the rest

S8 = Row("S8", "everything at once, a signal every 500 us", "no error, nothing left")


@S8.scenario(timeout=60)
def everything_in_a_storm(stage: Stage) -> None:
    ticks: list[int] = []

    def storm(period: float) -> None:
        signal.setitimer(signal.ITIMER_REAL, period, period)

    def count() -> Iterator[int]:
        storm(0.002)
        yield from range(100)
        storm(0)

    def send() -> int:
        storm(0.002)
        for n in range(500):
            channel.send_pyobj((n, b"x" * (n * 7 % 900)), block=True)
        storm(0)
        return n

    def nested(n: int) -> int:
        with Thread(lambda: n * n) as thread:
            thread.start()
            thread.join()
            return int(thread.get_result())

    old = signal.signal(signal.SIGALRM, lambda number, frame: ticks.append(number))
    signal.signal(signal.SIGCHLD, lambda number, frame: ticks.append(number))
    storm(0.0005)
    try:
        for turn in stage.times(5):
            seen: list[int] = []
            channel, counter = Channel(4096), Generator(count, prefetch=turn % 4)
            with channel, counter, Thread(send) as sender, Thread(for_ever) as endless:
                for one in (sender, endless, counter):
                    one.start()
                for n in range(500):
                    expected = (n, b"x" * (n * 7 % 900))
                    stage.expect(channel.receive_pyobj() == expected, "another message")
                found = snakefish.map(nested, range(20))
                stage.expect(found == [n * n for n in range(20)], "another answer")
                snakefish.map(
                    seen.append,
                    range(6),
                    lambda names, seen=seen: {"seen": list(seen)},
                    lambda names, other, seen=seen: seen.extend(other["seen"]),
                    concurrency=2,
                    chunksize=1,
                )
                stage.expect(seen == list(range(6)), "another merge")
                stage.expect(list(counter) == list(range(100)), "other values")
                counter.join()
                stage.kill(endless.pid)
                endless.join()
                sender.join()
                stage.expect(sender.get_result() == 499, "another result")
    finally:
        storm(0)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGALRM, old)
    stage.facts["signals"] = len(ticks)
    stage.expect(len(ticks) > 20, "there was no storm")


S9 = Row("S9", "a tree of 85 processes, merged upwards", "all 85")


def _label(path: tuple[int, ...]) -> str:
    return ".".join(map(str, path))


def _all_labels(path: tuple[int, ...], depth: int) -> list[str]:
    below = [_all_labels((*path, n), depth - 1) for n in range(4)] if depth else []
    return [_label(path), *[label for labels in below for label in labels]]


@S9.scenario(timeout=60)
def tree_of_maps(stage: Stage) -> None:
    found: list[str] = []

    def grow(path: tuple[int, ...], depth: int) -> None:
        found[:] = [_label(path)]
        if depth:
            snakefish.map(
                lambda n: grow((*path, n), depth - 1),
                range(4),
                lambda names: {"found": list(found)},
                lambda names, other: found.extend(other["found"]),
                concurrency=4,
                chunksize=1,
            )

    for _ in stage.times(2):
        grow((), 3)
        stage.expect(found == _all_labels((), 3), f"{len(found)} of 85")


@S9.scenario(timeout=60)
def tree_of_threads(stage: Stage) -> None:
    """All 85 are alive at once: the leaves wait for the last of them."""
    found: list[str] = []
    ready, gate = os.pipe(), os.pipe()

    def grow(path: tuple[int, ...], depth: int) -> None:
        found[:] = [_label(path)]
        os.write(ready[1], b"!")
        if not depth:
            os.read(gate[0], 1)
            return
        with contextlib.ExitStack() as stack:
            threads = [
                stack.enter_context(
                    Thread(
                        grow,
                        lambda names: {"found": list(found)},
                        lambda names, other: found.extend(other["found"]),
                        args=((*path, n), depth - 1),
                    )
                )
                for n in range(4)
            ]
            for thread in threads:
                thread.start()
            if not path:
                for _ in range(85):
                    os.read(ready[0], 1)
                os.write(gate[1], b"!" * 64)
            for thread in threads:
                thread.join()

    for _ in stage.times(2):
        grow((), 3)
        stage.expect(found == _all_labels((), 3), f"{len(found)} of 85")
    for end in (*ready, *gate):
        os.close(end)


S10 = Row("S10", "a million messages (20,000 here, all of them in the soak)", "each once, in order")


@S10.scenario(timeout=60)
def many_messages(stage: Stage) -> None:
    count = sum(1 for _ in stage.times(20_000))

    def send() -> None:
        for n in range(count):
            channel.send_pyobj((n, "text"), block=True)

    with Channel(1 << 20) as channel, Thread(send) as sender:
        sender.start()
        began = time.monotonic()
        for n in range(count):
            if channel.receive_pyobj() != (n, "text"):
                stage.expect(False, f"lost or doubled: not {n}")
        seconds = time.monotonic() - began
        sender.join(timeout=10)
        sender.get_result()
        stage.expect(channel.used == 0, "doubled: something is left")
    stage.facts.update({"messages": count, "messages/s": round(count / seconds)})
