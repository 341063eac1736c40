# SPDX-License-Identifier: MIT
"""Section C: extract and merge.

A *kind* is a way to run one job that changes globals: a thread joined, a thread joined
without blocking, a generator, a map. The peers have nothing like it.
"""

from __future__ import annotations

import ctypes
import faulthandler
import functools
import itertools
import os
import pickle
import select
import signal
import sys
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Callable, NoReturn

import troubles
from libraries import told_by
from process_table import children
from row import Row
from stage import Stage, busy, for_ever

import snakefish
from snakefish import Generator, Thread

if TYPE_CHECKING:
    from collections.abc import Iterator

    Extract = Callable[[dict[str, Any]], Any]
    Merge = Callable[[dict[str, Any], dict[str, Any]], object]
    Body = Callable[[], Any]

merged: list[Any] = []
"""What was merged, in that order."""


def note(_globals: dict[str, Any], extracted: dict[str, Any]) -> None:
    merged.append(extracted)


def keep(_globals: dict[str, Any]) -> dict[str, int]:
    return {"key": 7}


def answer() -> int:
    return 42


def joined_thread(extract: Extract, merge: Merge, body: Body = answer) -> Thread:
    """Join a thread; afterwards it counts as joined, whatever that raised."""
    thread = Thread(body, extract, merge)
    thread.start()
    _join_and_again(thread, thread.join)
    return thread


def thread_joined_by_trying(extract: Extract, merge: Merge, body: Body = answer) -> Thread:
    """Join one that has ended without blocking."""
    thread = Thread(body, extract, merge)
    thread.start()
    assert select.select([thread], [], [], 10)[0]
    _join_and_again(thread, thread.try_join)
    return thread


def joined_generator(extract: Extract, merge: Merge, body: Body = answer) -> Generator:
    """Take all values of a generator, then join it."""

    def generate() -> Iterator[Any]:
        yield 1
        yield body()

    generator = Generator(generate, extract, merge)
    generator.start()
    assert generator.next() == 1
    try:
        generator.next()
    except BaseException:  # what body raised is judged elsewhere
        pass
    _join_and_again(generator, generator.join)
    return generator


def stopped_generator(extract: Extract, merge: Merge, body: Body = answer) -> Generator:
    """Join a generator that would go on, which runs *body* in its `finally`."""

    def generate() -> Iterator[int]:
        try:
            yield from itertools.count()
        finally:
            body()

    generator = Generator(generate, extract, merge, prefetch=3)
    generator.start()
    assert generator.next() == 0
    _join_and_again(generator, generator.join)
    return generator


def mapped(extract: Extract, merge: Merge, body: Body = answer) -> list[Any]:
    """Map one item in one job."""
    return snakefish.map(lambda _: body(), [0], extract, merge)


def _join_and_again(one: Any, join: Callable[[], Any]) -> None:
    try:
        join()
    except BaseException:
        for again in (one.join, one.try_join, join):
            again()  # is a no-op now, and so raises nothing
        one.dispose()
        raise
    one.join()


THREADS = [joined_thread, thread_joined_by_trying]
GENERATORS = [joined_generator, stopped_generator]
KINDS: list[Callable[..., Any]] = [*THREADS, *GENERATORS, mapped]


def raised_by(stage: Stage, kind: Callable[..., Any], *how: Any) -> BaseException:
    """What the join of a kind raises; nothing else of it is left."""
    stage.inject()
    merged.clear()
    return stage.error_of(functools.partial(kind, *how))


# ------------------------------------------------------------------------------------------- C1

C1 = Row(
    "C1",
    "extract raises, exits or is interrupted",
    "join raises it, or RuntimeError that names it; nothing is merged; the result is still there",
)


def raise_complaint(_globals: object) -> NoReturn:
    raise troubles.Complaint("of extract", 3)


def raise_beyond(_globals: object) -> NoReturn:
    raise troubles.BeyondException("of extract")


def raise_two(_globals: object) -> NoReturn:
    raise troubles.WantsTwo("of ", "extract")


def interrupt(_globals: object) -> NoReturn:
    raise KeyboardInterrupt("of extract")


def leave(_globals: object) -> NoReturn:
    sys.exit("of extract")


RAISING = {
    raise_complaint: troubles.Complaint,
    raise_beyond: RuntimeError,
    raise_two: RuntimeError,
    interrupt: RuntimeError,
    leave: RuntimeError,
}


@C1.scenario()
def what_extract_raises_join_raises(stage: Stage) -> None:
    """Once; and it tells the words and the frames of the child."""
    for kind, (extract, wanted) in itertools.product(KINDS, RAISING.items()):
        error = raised_by(stage, kind, extract, note)
        stage.expect(isinstance(error, wanted), f"{kind.__name__} raises {error!r:.60}")
        story = told_by(error)
        stage.expect("of extract" in story, f"{kind.__name__} tells nothing of extract")
        stage.expect(f"in {extract.__name__}" in story, "no traceback of the child")
        stage.expect(not merged, f"merged {merged}")


@C1.scenario()
def the_result_is_still_there(stage: Stage) -> None:
    """What f returned or raised does not depend on extract; the status is 0."""
    for extract, body in itertools.product(RAISING, (answer, fail)):
        stage.inject()
        with Thread(body, extract, note) as thread:
            thread.start()
            stage.error_of(thread.join)
            stage.expect(thread.get_exit_status() == 0, f"status {thread.get_exit_status()}")
            if body is answer:
                stage.expect(thread.get_result() == 42, "the result is lost")
            else:
                stage.expect(isinstance(stage.error_of(thread.get_result), LookupError), "lost")


def fail() -> NoReturn:
    raise LookupError("of f")


# ------------------------------------------------------------------------------------------- C2

C2 = Row(
    "C2",
    "merge raises",
    "join and try_join raise it once and count as joined; merge is not repeated",
)


def note_and_raise(_globals: object, extracted: object) -> NoReturn:
    merged.append(extracted)
    raise troubles.Complaint("of merge")


def note_and_interrupt(_globals: object, extracted: object) -> NoReturn:
    merged.append(extracted)
    raise KeyboardInterrupt("of merge")


def note_and_leave(_globals: object, extracted: object) -> NoReturn:
    merged.append(extracted)
    sys.exit("of merge")


@C2.scenario()
def what_merge_raises_join_raises_once(stage: Stage) -> None:
    """As it is, as merge runs here."""
    wanted = {
        note_and_raise: troubles.Complaint,
        note_and_interrupt: KeyboardInterrupt,
        note_and_leave: SystemExit,
    }
    for kind, (merge, error_class) in itertools.product(KINDS, wanted.items()):
        error = raised_by(stage, kind, keep, merge)
        stage.expect(type(error) is error_class, f"{kind.__name__} raises {error!r:.60}")
        stage.expect(merged == [{"key": 7}], f"{kind.__name__} merges {merged}")
    stage.inject()
    with Thread(answer, keep, note_and_raise) as thread:
        thread.start()
        stage.error_of(thread.join)
        stage.expect(thread.get_result() == 42, "the result is lost")
        stage.expect(thread.get_exit_status() == 0, "the status is lost")


@C2.scenario()
def map_ends_with_the_merge_that_raises(stage: Stage) -> None:
    """Those before it are merged, those after it are not, and no process is left."""

    def merge(_globals: object, extracted: dict[str, int]) -> None:
        merged.append(extracted["item"])
        if extracted["item"] == doomed:
            raise troubles.Complaint("of merge")

    def work(item: int) -> None:
        current.append(item)

    current: list[int] = []
    before = children()
    for doomed in stage.dice.sample(range(12), 6):
        stage.inject()
        merged.clear()
        error = stage.error_of(
            lambda: snakefish.map(
                work, range(12), lambda _: {"item": current[-1]}, merge, concurrency=3, chunksize=1
            )
        )
        stage.expect(isinstance(error, troubles.Complaint), f"raises {error!r:.60}")
        stage.expect(merged == list(range(doomed + 1)), f"merges {merged}")
        stage.expect(children() <= before, "a process is left")


# ------------------------------------------------------------------------------------------- C3

C3 = Row("C3", "extract returns no dict", "TypeError from join; merge is not called")


@C3.scenario()
def only_a_dict_is_merged(stage: Stage) -> None:
    """Nor what is nearly one; a subclass is one."""
    nearly = (None, 0, "key", [("key", 7)], (), {"key"}, {}.items(), vars(Row))
    for kind, what in itertools.product(KINDS, nearly):
        error = raised_by(stage, kind, lambda _, what=what: what, note)
        stage.expect(isinstance(error, TypeError), f"{kind.__name__} raises {error!r:.60}")
        stage.expect(type(what).__name__ in str(error), f"says {error}")
        stage.expect(not merged, f"merged {merged}")
    for kind in KINDS:
        merged.clear()
        kind(lambda _: OrderedDict(key=7), note)
        stage.expect(merged == [{"key": 7}], f"{kind.__name__} merges {merged}")


# ------------------------------------------------------------------------------------------- C4

C4 = Row(
    "C4",
    "extract's dict cannot be pickled or unpickled",
    "join raises what that raised; nothing is merged; the result is still there",
)

UNTRAVELLED: list[tuple[Callable[[], Any], Any]] = [
    (troubles.FailsToPickle, ZeroDivisionError),
    (threading.Lock, (TypeError, pickle.PicklingError)),
    (troubles.FailsToRebuild, LookupError),
]


@C4.scenario()
def a_dict_that_does_not_travel_is_an_error(stage: Stage) -> None:
    """Out of every kind."""
    for kind, (make, wanted) in itertools.product(KINDS, UNTRAVELLED):
        error = raised_by(stage, kind, lambda _, make=make: {"key": [make()]}, note)
        stage.expect(isinstance(error, wanted), f"{kind.__name__} raises {error!r:.60}")
        stage.expect(not merged, f"merged {merged}")


@C4.scenario()
def an_exit_in_its_unpickling_is_an_error(stage: Stage) -> None:
    """sys.exit leaves join as itself or as an error, once, and nothing hangs."""
    for kind in KINDS:
        error = raised_by(stage, kind, lambda _: {"key": troubles.LeavesOnRebuild()}, note)
        stage.expect("left while rebuilding" in told_by(error), f"raises {error!r:.60}")
        stage.expect(not merged, f"merged {merged}")
    stage.inject()
    with Thread(answer, lambda _: {"key": troubles.FailsToRebuild()}, note) as thread:
        thread.start()
        stage.error_of(thread.join)
        stage.expect(thread.get_result() == 42, "the result is lost")


# ------------------------------------------------------------------------------------------- C5

C5 = Row(
    "C5",
    "extract is killed, crashes or leaves",
    "as if f had been: join returns, the error names signal or code; nothing is merged",
)


def die(number: int, _globals: object) -> NoReturn:
    """Do what ends this process with -*number*, or with *number* if that is negative."""
    faulthandler.disable()
    if number <= 0:
        os._exit(-number)
    if number == signal.SIGSEGV:
        ctypes.memset(8, 1, 1)
    os.kill(os.getpid(), number)
    for_ever()


@C5.scenario()
def a_death_in_extract_is_the_status(stage: Stage) -> None:
    """And what was not told before it is lost: there is no half merge."""
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, 0, -3):
        extract = functools.partial(die, int(number))
        word = signal.Signals(number).name if number > 0 else f"exit code {-number}"
        for kind in (joined_thread, thread_joined_by_trying):
            merged.clear()
            stage.inject()
            with kind(extract, note) as thread:
                status = thread.get_exit_status()
                stage.expect(status == -number, f"status {status}")
                error = stage.error_of(thread.get_result)
                stage.expect(isinstance(error, RuntimeError), f"raises {error!r:.60}")
                stage.expect(word in str(error), f"says {error}")
        for kind in GENERATORS:
            stage.inject()
            with kind(extract, note) as generator:
                status = generator.get_exit_status()
                stage.expect(status == -number, f"{kind.__name__}: status {status}")
        error = raised_by(stage, mapped, extract, note)
        stage.expect(isinstance(error, RuntimeError) and word in str(error), f"raises {error!r}")
        stage.expect(not merged, f"merged {merged}")


@C5.scenario()
def killed_at_any_moment_it_is_merged_whole_or_not(stage: Stage) -> None:
    """f, extract and the sending of a megabyte are under way when it comes."""
    wanted = {"many": list(range(1000)), "large": b"x" * 1_000_000}
    whole = dead = 0
    for _ in stage.times(80):
        merged.clear()
        with Thread(lambda: busy(0.0005), lambda _: (busy(0.0005), wanted)[1], note) as thread:
            thread.start()
            stage.kill_within(thread.pid, 0.007)
            thread.join(timeout=5)
            status = thread.get_exit_status()
            stage.expect(status in (0, -9), f"status {status}")
            stage.expect(merged in ([], [wanted]), "half merged")
            stage.expect(merged or status == -9, "not merged, although it has ended well")
            whole += bool(merged)
            dead += not merged
            if merged:
                thread.get_result()  # the two go together
            else:
                stage.error_of(thread.get_result)
    stage.facts["merged"] = f"{whole} of {whole + dead}"


# ------------------------------------------------------------------------------------------- C6

C6 = Row(
    "C6",
    "f raises, exits, or its result cannot be pickled or rebuilt",
    "its globals are merged all the same; get_result raises afterwards",
)


def fail_to_pickle() -> Any:
    return troubles.FailsToPickle()


def fail_to_rebuild() -> Any:
    return troubles.FailsToRebuild()


def raise_what_cannot_travel() -> NoReturn:
    raise troubles.CarriesALambda


def raise_base_exception() -> NoReturn:
    raise troubles.BeyondException


def interrupt_f() -> NoReturn:
    raise KeyboardInterrupt


def recurse() -> int:
    return recurse() + 1


FAILING: dict[Body, type[BaseException]] = {
    fail: LookupError,
    fail_to_pickle: ZeroDivisionError,
    fail_to_rebuild: LookupError,
    raise_what_cannot_travel: RuntimeError,
    raise_base_exception: troubles.BeyondException,
    interrupt_f: KeyboardInterrupt,
    recurse: RecursionError,
    sys.exit: SystemExit,
}


@C6.scenario()
def a_failing_f_is_merged(stage: Stage) -> None:
    """What it changed before it failed arrives, whatever the failure."""
    for body, wanted in FAILING.items():
        for kind in THREADS:
            stage.inject()
            merged.clear()
            with kind(keep, note, body) as thread:
                stage.expect(merged == [{"key": 7}], f"merges {merged}")
                for _ in range(2):
                    error = stage.error_of(thread.get_result)
                    stage.expect(isinstance(error, wanted), f"raises {error!r:.60}")
                stage.expect(merged == [{"key": 7}], "merged again")
        for kind in GENERATORS:
            stage.inject()
            merged.clear()
            with kind(keep, note, body):
                stage.expect(merged == [{"key": 7}], f"{kind.__name__} merges {merged}")
        error = raised_by(stage, mapped, keep, note, body)
        wanted = RuntimeError if body is sys.exit else wanted
        stage.expect(isinstance(error, wanted), f"map raises {error!r:.60}")
        stage.expect(merged == [{"key": 7}], f"map merges {merged}")


@C6.scenario()
def map_leaves_what_the_loop_would_have_left(stage: Stage) -> None:
    """With the item that fails and the chunks at random, against the plain loop."""

    def work(item: int) -> int:
        visited.append(item)
        if item == doomed:
            raise troubles.Complaint("of f", item)
        return item

    def merge(_globals: object, extracted: dict[str, list[int]]) -> None:
        visited.extend(extracted["visited"])

    visited: list[int] = []
    for _ in stage.times(30):
        count = stage.dice.randint(1, 30)
        doomed = stage.dice.randrange(count)
        stage.inject()
        visited.clear()
        error: Any = stage.error_of(
            lambda count=count: snakefish.map(
                work,
                range(count),
                lambda _: {"visited": list(visited)},
                merge,
                concurrency=stage.dice.randint(1, 4),
                chunksize=stage.dice.randint(0, 5),
            )
        )
        stage.expect(isinstance(error, troubles.Complaint) and error.code == doomed, f"{error!r}")
        stage.expect(visited == list(range(doomed + 1)), f"{doomed} fails; left {visited}")


# ------------------------------------------------------------------------------------------- C7

C7 = Row(
    "C7",
    "joined again and again, in every way, by several threads, in a storm of signals",
    "merged exactly once",
)


@C7.scenario()
def joined_again_and_again(stage: Stage) -> None:
    """In any order of all that joins or takes in."""
    for _ in stage.times(30):
        stage.inject()
        merged.clear()
        with Thread(answer, keep, note) as thread:
            thread.start()
            asks: list[Callable[[], object]] = [thread.join, thread.try_join, thread.is_alive]
            for ask in stage.dice.choices(asks, k=10):
                ask()
            thread.join()
            for ask in (*asks, thread.get_result):
                ask()
            stage.expect(merged == [{"key": 7}], f"merged {len(merged)} times")
        stage.expect(merged == [{"key": 7}], "merged by dispose")


@C7.scenario()
def joined_by_several_threads_at_once(stage: Stage) -> None:
    """All return, and all of them after the merge: those that come in its middle too."""

    def join(thread: Thread, late: bool) -> None:
        if late:
            begun.wait(10)
        thread.join()
        seen.append(len(merged))

    def slowly(_globals: object, extracted: object) -> None:
        begun.set()
        busy(0.02)
        merged.append(extracted)

    for _ in stage.times(8):
        stage.inject()
        merged.clear()
        seen: list[int] = []
        begun = threading.Event()
        with Thread(answer, keep, slowly) as thread:
            thread.start()
            joiners = [
                threading.Thread(target=join, args=(thread, bool(number % 2)))
                for number in range(6)
            ]
            for joiner in joiners:
                joiner.start()
            for joiner in joiners:
                joiner.join(10)
            stage.expect(merged == [{"key": 7}], f"merged {len(merged)} times")
            stage.expect(seen == [1] * 6, f"the joins saw {seen} merges")


@C7.scenario()
def joined_in_a_storm_of_signals(stage: Stage) -> None:
    """Handlers run in the middle of every join, and try to join themselves."""
    one: list[Thread] = []

    def handle(*_: object) -> None:
        stage.inject()
        if one:
            one[0].try_join()
            one[0].is_alive()

    previous = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        for _ in stage.times(60):
            merged.clear()
            with Thread(answer, keep, note) as thread:
                thread.start()
                one.append(thread)
                thread.join(timeout=10)
                one.clear()
                stage.expect(merged == [{"key": 7}], f"merged {len(merged)} times")
                stage.expect(thread.get_result() == 42, "the result is lost")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@C7.scenario()
def interrupted_in_join(stage: Stage) -> None:
    """Ctrl-C at random moments: repeated, join merges once; only merge itself is not repeated."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupted = 0
    for _ in stage.times(80):
        merged.clear()
        with Thread(lambda: busy(0.001), keep, note) as thread:
            thread.start()
            try:
                stage.kill_within(os.getpid(), 0.008, signal.SIGINT)
                thread.join(timeout=10)
                for_ever()
            except KeyboardInterrupt as error:
                interrupted += 1
                in_merge = "in _merge" in told_by(error)
            thread.join(timeout=10)
            stage.expect(in_merge or merged == [{"key": 7}], f"merged {len(merged)} times")
            stage.expect(len(merged) <= 1, f"merged {len(merged)} times")
    stage.facts["interrupted"] = interrupted


# ------------------------------------------------------------------------------------------- C8

C8 = Row(
    "C8",
    "jobs of map() that end in any order",
    "merged in the order of the arguments, each once, each as the globals were at the call",
)


@C8.scenario()
def merges_follow_the_arguments(stage: Stage) -> None:
    """With durations, chunks and concurrency at random."""

    def work(item: int) -> int:
        busy(durations[item])
        current.append((item, len(merged)))
        return -item

    current: list[tuple[int, int]] = []
    for _ in stage.times(20):
        stage.inject()
        merged.clear()
        count = stage.dice.randint(1, 25)
        durations = [stage.dice.choice((0, 0, 0.001, 0.01)) for _ in range(count)]
        values = snakefish.map(
            work,
            range(count),
            lambda _: {"items": list(current)},
            lambda _, extracted: merged.extend(extracted["items"]),
            concurrency=stage.dice.randint(1, 4),
            chunksize=stage.dice.randint(0, 4),
        )
        stage.expect(values == [-item for item in range(count)], "wrong values")
        stage.expect([item for item, _ in merged] == list(range(count)), f"merged {merged}")
        stage.expect(not any(seen for _, seen in merged), "a job saw the merge of another")


@C8.scenario()
def the_last_ends_first(stage: Stage) -> None:
    """Each job waits for the next one to be done: the worst order there is."""
    for _ in stage.times(5):
        stage.inject()
        merged.clear()
        pipes = [os.pipe() for _ in range(6)]

        def work(item: int, pipes: list[tuple[int, int]] = pipes) -> int:
            if item < 5:
                os.read(pipes[item + 1][0], 1)
            os.write(pipes[item][1], b"!")
            return item

        try:
            snakefish.map(
                lambda item: current.append(work(item)),
                range(6),
                lambda _: {"item": current[-1]},
                lambda _, extracted: merged.append(extracted["item"]),
                concurrency=6,
                chunksize=1,
            )
        finally:
            for end in itertools.chain.from_iterable(pipes):
                os.close(end)
        stage.expect(merged == list(range(6)), f"merged {merged}")


current: list[int] = []

# ------------------------------------------------------------------------------------------ C11

C11 = Row(
    "C11",
    "f is killed, crashes or leaves by os._exit",
    "nothing of it is merged; in map() nothing behind it either",
)


@C11.scenario()
def a_killed_f_is_not_merged(stage: Stage) -> None:
    """In every kind; join itself raises nothing."""
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, 0, -3):
        body = functools.partial(die, int(number), None)
        for kind in (*THREADS, *GENERATORS):
            stage.inject()
            merged.clear()
            with kind(keep, note, body) as one:
                stage.expect(one.get_exit_status() == -number, f"status {one.get_exit_status()}")
                stage.expect(not merged, f"{kind.__name__} merges {merged}")
        error = raised_by(stage, mapped, keep, note, body)
        stage.expect(isinstance(error, RuntimeError), f"map raises {error!r:.60}")
        stage.expect(not merged, f"map merges {merged}")


@C11.scenario()
def killed_from_outside_is_not_merged(stage: Stage) -> None:
    """While f computes, at random moments; a generator between its values, too."""
    for turn in stage.times(30):
        merged.clear()
        with Thread(for_ever, keep, note) as thread, Generator(count, keep, note) as generator:
            thread.start()
            generator.start()
            stage.kill_within(thread.pid, 0.005)
            if turn % 2:
                stage.expect(generator.next() == 0, "a wrong value")
                stage.kill(generator.pid)
            else:
                stage.kill_within(generator.pid, 0.005)
            thread.join(timeout=5)
            generator.kill()  # joined while it lives, it would end well
            generator.join(timeout=5)
            for one in (thread, generator):
                stage.expect(one.get_exit_status() == -9, f"status {one.get_exit_status()}")
            stage.expect(not merged, f"merged {merged}")


def count() -> Iterator[int]:
    yield from itertools.count()


@C11.scenario()
def map_merges_what_came_before_the_death(stage: Stage) -> None:
    """And says which items are lost."""

    def work(item: int) -> None:
        if item == doomed:
            os.kill(os.getpid(), signal.SIGKILL)
        current.append(item)

    for doomed in stage.dice.sample(range(12), 6):
        stage.inject()
        merged.clear()
        error = stage.error_of(
            lambda: snakefish.map(
                work,
                range(12),
                lambda _: {"item": current[-1]},
                lambda _, extracted: merged.append(extracted["item"]),
                concurrency=3,
                chunksize=1,
            )
        )
        told = "SIGKILL" in str(error) and f"item {doomed} " in str(error)
        stage.expect(isinstance(error, RuntimeError) and told, f"raises {error!r}")
        stage.expect(merged == list(range(doomed)), f"{doomed} dies; merges {merged}")
