# SPDX-License-Identifier: MIT
"""Section B: results and exceptions that do not travel, or not easily."""

from __future__ import annotations

import ctypes
import faulthandler
import functools
import itertools
import os
import re
import resource
import select
import signal
import sys
import tempfile
import threading
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable, NoReturn

import troubles
from libraries import Library, told_by
from row import Row
from stage import BrokenPromise, Stage

import snakefish
from snakefish import Generator, Thread

if TYPE_CHECKING:
    from collections.abc import Iterator


def answer() -> int:
    return 42


def judge(stage: Stage, library: Library, function: Callable[[], Any], *words: str) -> None:
    """A call ends in time with an error that tells one of *words*, and the next one works.

    No words mean that it may have a result too: who can carry it over, may.
    """
    stage.inject()
    first, then = stage.quickly(lambda: library.endings_in_turn([function, answer]), 3)
    told = not words or any(word in told_by(first) for word in words)
    stage.expect(told, f"{type(first).__name__}, without {words[:1]}")
    stage.expect(then == 42, f"the next call: {type(then).__name__}")


Way = Callable[[Callable[[], Any]], Any]


def by_thread(function: Callable[[], Any]) -> Any:
    """What a Thread makes of a call; the same every time it is asked."""
    with Thread(function) as thread:
        thread.start()
        thread.join()
        if thread.get_exit_status() != 0:
            raise BrokenPromise(f"status {thread.get_exit_status()}")
        first = _error_of(thread.get_result)
        again = _error_of(thread.get_result)
        if repr(first) != repr(again):
            raise BrokenPromise(f"another ending the second time: {again!r:.60}")
        return thread.get_result()


def by_merging_thread(function: Callable[[], Any]) -> Any:
    """The same with globals that are merged, which must arrive all the same."""
    arrived: list[int] = []
    with Thread(function, lambda _: {"key": 7}, lambda _, got: arrived.append(got["key"])) as one:
        one.start()
        one.join()
        if arrived != [7]:
            raise BrokenPromise(f"merged {arrived}")
        return one.get_result()


def by_generator(function: Callable[[], Any]) -> Any:
    """What a Generator makes of it as its second value."""
    return _last_of_generator(_yielding(function))


def by_return_of_generator(function: Callable[[], Any]) -> Any:
    """What it makes of it as the value that the generator returns."""
    return _last_of_generator(_returning(function))


def by_map(function: Callable[[], Any]) -> Any:
    """What map makes of it."""
    return snakefish.map(lambda _: function(), range(3), concurrency=2)[1]


def by_merging_map(function: Callable[[], Any]) -> Any:
    """What map with merging makes of it; one item is one merge."""
    arrived: list[int] = []
    try:
        return snakefish.map(
            lambda item: function() if item else 0,
            range(3),
            lambda _: {"key": 7},
            lambda _, got: arrived.append(got["key"]),
            concurrency=2,
            chunksize=1,
        )[1]
    finally:
        if len(arrived) < 2:  # the first job, and the one that fails
            raise BrokenPromise(f"merged {arrived}")


def _yielding(function: Callable[[], Any]) -> Callable[[], Iterator[Any]]:
    def generate() -> Iterator[Any]:
        yield 1
        yield function()

    return generate


def _returning(function: Callable[[], Any]) -> Callable[[], Iterator[Any]]:
    def generate() -> Iterator[Any]:
        yield 1
        return function()

    return generate


def _last_of_generator(function: Callable[[], Iterator[Any]]) -> Any:
    with Generator(function) as generator:
        generator.start()
        if generator.next() != 1:
            raise BrokenPromise("a wrong first value")
        try:
            return generator.next()
        except StopIteration as end:
            return end.value
        finally:
            generator.join()
            if generator.get_exit_status() != 0:
                raise BrokenPromise(f"status {generator.get_exit_status()}")


WAYS: list[Way] = [
    by_thread,
    by_merging_thread,
    by_generator,
    by_return_of_generator,
    by_map,
    by_merging_map,
]


def _error_of(action: Callable[[], Any]) -> BaseException | None:
    try:
        action()
    except BaseException as error:  # any class may be the right one
        return error
    return None


# ---------------------------------------------------------------------------------- B1, B2, B15

B1 = Row(
    "B1, B2, B15",
    "a result that cannot be pickled",
    "the call raises what pickle raised; join returns; globals are merged; the next call works",
)


def a_lambda() -> Any:
    return lambda: None


def a_lock() -> Any:
    return threading.Lock()


def a_file() -> Any:
    return open(os.devnull)


def a_generator() -> Any:
    return (n for n in range(3))


def too_deep() -> Any:
    value: list[Any] = []
    for _ in range(50_000):
        value = [value]
    return value


def refuses() -> Any:
    return troubles.FailsToPickle()


def refuses_inside() -> Any:
    return {"key": [1, 2, (3, troubles.FailsToPickle())]}


UNPICKLED = {
    a_lock: "pickle",
    a_file: "pickle",
    a_generator: "pickle",
    refuses: "cannot be pickled",
    refuses_inside: "cannot be pickled",
    too_deep: "recursion",
}
"""What returns such results, and a word that must be told."""


@B1.comparison(timeout=10)
def an_unpicklable_result_is_an_error(stage: Stage, library: Library) -> None:
    """A lock is told; a lambda, a file or a generator may travel with other pickles."""
    judge(stage, library, a_lock, "pickle")
    for function in (a_lambda, a_file, a_generator):
        judge(stage, library, function)


@B1.comparison(timeout=10)
def a_result_that_refuses_is_an_error(stage: Stage, library: Library) -> None:
    """What its __reduce__ raises is what is told."""
    for function in (refuses, refuses_inside):
        judge(stage, library, function, "cannot be pickled")


@B1.comparison(timeout=10)
def a_result_too_deep_is_an_error(stage: Stage, library: Library) -> None:
    """Nested beyond what pickle can descend to."""
    judge(stage, library, too_deep, "recursion", "Recursion", "stack")


@B1.scenario()
def what_pickle_raises_comes_in_every_way(stage: Stage) -> None:
    """From a thread, a generator and a map, with and without merging."""
    for way in WAYS:
        for function, word in {**UNPICKLED, a_lambda: "pickle"}.items():
            stage.inject()
            error = stage.error_of(lambda way=way, function=function: way(function))
            stage.expect(word in told_by(error), f"{way.__name__}: raises {error!r:.60}")


# ------------------------------------------------------------------------------------------- B3

B3 = Row(
    "B3",
    "a result whose unpickling raises",
    "the call raises that; thread joined, status 0; the next call works",
)


def fails_to_rebuild() -> Any:
    return troubles.FailsToRebuild()


def fails_inside() -> Any:
    return [1, {"key": troubles.FailsToRebuild()}]


@B3.comparison(timeout=10)
def a_result_that_cannot_be_rebuilt_is_an_error(stage: Stage, library: Library) -> None:
    """What its constructor raises in the parent is what is told."""
    for function in (fails_to_rebuild, fails_inside):
        judge(stage, library, function, "cannot be rebuilt")


@B3.scenario()
def what_unpickling_raises_comes_in_every_way(stage: Stage) -> None:
    """As it is, with its class."""
    for way in WAYS:
        for function in (fails_to_rebuild, fails_inside):
            stage.inject()
            error = stage.error_of(lambda way=way, function=function: way(function))
            stage.expect(isinstance(error, LookupError), f"{way.__name__} raises {error!r:.60}")


@B3.scenario()
def a_generator_goes_on_behind_it(stage: Stage) -> None:
    """A value that cannot be rebuilt is one value; those after it come."""

    def values() -> Iterator[Any]:
        for number in range(30):
            yield troubles.FailsToRebuild() if number % 3 == 1 else number

    for prefetch in (0, 1, 8):
        with Generator(values, prefetch=prefetch) as generator:
            generator.start()
            for number in range(30):
                if number % 3 == 1:
                    stage.inject()
                    error = stage.error_of(generator.next)
                    stage.expect(isinstance(error, LookupError), f"raises {error!r:.60}")
                else:
                    stage.expect(generator.next() == number, "a value is lost")
            stage.expect(isinstance(stage.error_of(generator.next), StopIteration), "no end")
            generator.join()
            stage.expect(generator.get_exit_status() == 0, "another status")


# ------------------------------------------------------------------------------------------- B4

B4 = Row(
    "B4",
    "a crash, exit or SIGKILL while the result is pickled",
    "as if f itself had died: the call ends at once, and the error names signal or code",
)


class DiesOfItsPickling:
    """Ends the process that pickles it, in the way that its number says."""

    def __init__(self, status: int) -> None:
        self.status = status

    def __reduce__(self) -> Any:
        faulthandler.disable()
        if self.status >= 0:
            os._exit(self.status)
        if self.status == -signal.SIGSEGV:
            ctypes.memset(8, 1, 1)
        os.kill(os.getpid(), -self.status)
        raise AssertionError("survives")


def exits_in_pickling() -> Any:
    return DiesOfItsPickling(7)


def crashes_in_pickling() -> Any:
    return DiesOfItsPickling(-signal.SIGSEGV)


def killed_in_pickling() -> Any:
    return DiesOfItsPickling(-signal.SIGKILL)


@B4.comparison(timeout=15)
def a_death_in_pickling_is_an_error(stage: Stage, library: Library) -> None:
    """The call ends, and is told apart from one that returns."""
    for function in (exits_in_pickling, crashes_in_pickling, killed_in_pickling):
        stage.inject()
        error = stage.quickly(lambda f=function: stage.error_of(lambda: library.call(f)), 3)
        told = re.search(r"SIG|(signal|code|status) |terminated|died", told_by(error))
        stage.expect(told, f"{type(error).__name__}, no more")


@B4.scenario()
def deaths_in_pickling_are_the_status(stage: Stage) -> None:
    """In a thread, a generator and a map, which names the items too."""

    def values(status: int) -> Iterator[Any]:
        yield 1
        yield DiesOfItsPickling(status)

    for status in (0, 7, -signal.SIGSEGV, -signal.SIGKILL, -signal.SIGTERM):
        word = f"exit code {status}" if status >= 0 else signal.Signals(-status).name
        stage.inject()
        with Thread(DiesOfItsPickling, args=(status,)) as thread:
            thread.start()
            stage.quickly(thread.join)
            stage.expect(thread.get_exit_status() == status, f"status {thread.get_exit_status()}")
            expect_death(stage, stage.error_of(thread.get_result), word, str(thread.pid))
        with Generator(values, args=(status,)) as generator:
            generator.start()
            stage.expect(generator.next() == 1, "no first value")
            error = stage.quickly(lambda g=generator: stage.error_of(g.next))
            expect_death(stage, error, word, str(generator.pid))
            generator.join()
            stage.expect(generator.get_exit_status() == status, "another status")
        dying = functools.partial(DiesOfItsPickling, status)
        error = stage.quickly(lambda d=dying: stage.error_of(lambda: by_map(d)))
        expect_death(stage, error, word, "item")


def expect_death(stage: Stage, error: BaseException, *words: str) -> None:
    """It is a RuntimeError that says all *words*."""
    stage.expect(isinstance(error, RuntimeError), f"raises {error!r:.60}")
    stage.expect(all(word in str(error) for word in words), f"says {error}")


# ------------------------------------------------------------------------------------------- B5

B5 = Row(
    "B5",
    "sys.exit or KeyboardInterrupt while a result is unpickled",
    "the call raises it, each time; joined and disposable; the next call works",
)


def leaves_on_rebuild() -> Any:
    return troubles.LeavesOnRebuild()


def interrupts_on_rebuild() -> Any:
    return troubles.InterruptsOnRebuild()


@B5.comparison(timeout=10)
def an_exit_in_unpickling_is_an_error(stage: Stage, library: Library) -> None:
    """Whoever asks for the result gets what leaving means there."""
    judge(stage, library, leaves_on_rebuild, "left while rebuilding")


@B5.comparison(timeout=10)
def an_interrupt_in_unpickling_is_an_error(stage: Stage, library: Library) -> None:
    """The same with KeyboardInterrupt."""
    judge(stage, library, interrupts_on_rebuild, "KeyboardInterrupt")


@B5.scenario()
def it_surfaces_where_the_value_is_asked_for(stage: Stage) -> None:
    """Not from join; and whoever raises it can be asked again, joined and disposed."""
    for function, kind in (
        (leaves_on_rebuild, SystemExit),
        (interrupts_on_rebuild, KeyboardInterrupt),
    ):
        for way in (by_thread, by_merging_thread, by_generator, by_map):
            stage.inject()
            error = stage.error_of(lambda way=way, function=function: way(function))
            stage.expect(isinstance(error, kind), f"{way.__name__} raises {error!r:.60}")
        with Thread(function) as thread:
            thread.start()
            thread.join()
            for _ in range(3):
                error = stage.error_of(thread.get_result)
                stage.expect(isinstance(error, kind), f"raises {error!r:.60}")
                stage.expect(thread.try_join(), "no longer joined")
            stage.expect(thread.get_exit_status() == 0, "another status")


# ------------------------------------------------------------------------------- B6, B7, B8, B9

B6 = Row(
    "B6, B7, B8, B9",
    "an exception that cannot be pickled or rebuilt, or not be shown",
    "RuntimeError with its class's name and the child's traceback; the next call works",
)


class ChangesItsClass(Exception):
    """Is rebuilt as another exception."""

    def __reduce__(self) -> Any:
        return ValueError, ("of another class",)


ODD = [*troubles.UNTRAVELLED, troubles.CannotBeShown, ChangesItsClass]
ODD_NAMES = [*troubles.UNTRAVELLED_NAMES, "CannotBeShown", "ChangesItsClass"]


def raise_odd(index: int, home: int) -> NoReturn:
    """Raise one of them; *home* is the process where some of them refuse to be rebuilt."""
    troubles.HOME = home
    error = ODD[index]()
    raise error


def judge_odd(stage: Stage, library: Library, *wanted: str) -> None:
    for name in wanted:
        function = functools.partial(raise_odd, ODD_NAMES.index(name), os.getpid())
        judge(stage, library, function, name)


@B6.comparison(timeout=10)
def exceptions_with_their_own_constructor_arrive(stage: Stage, library: Library) -> None:
    """Two arguments, or a keyword: pickled, but not rebuilt."""
    judge_odd(stage, library, "WantsTwo")
    judge_odd(stage, library, "WantsKeyword")


@B6.comparison(timeout=10)
def unpicklable_exceptions_arrive(stage: Stage, library: Library) -> None:
    """A lambda inside, a bad __reduce__, a class inside of a function, a bad __str__."""
    judge_odd(stage, library, "CarriesALambda", "BadReduce", "Local")
    judge_odd(stage, library, "CannotBeShown", "ChangesItsClass")


@B6.comparison(timeout=10)
def exceptions_that_refuse_the_parent_arrive(stage: Stage, library: Library) -> None:
    """Rebuilt well where they come from, but raising or exiting in the parent."""
    judge_odd(stage, library, "RefusesItsParent", "LeavesItsParent")


@B6.scenario()
def odd_exceptions_are_told_in_every_way(stage: Stage) -> None:
    """A RuntimeError, or the class itself; the frames of the child stand in the story."""
    for way in WAYS:
        for index, name in enumerate(ODD_NAMES):
            stage.inject()
            function = functools.partial(raise_odd, index, os.getpid())
            error = stage.error_of(lambda way=way, function=function: way(function))
            itself = type(error).__name__ == name
            stage.expect(itself or isinstance(error, RuntimeError), f"raises {error!r:.60}")
            story = told_by(error)
            stage.expect(name in story, f"{way.__name__} does not name {name}")
            stage.expect("in raise_odd" in story, f"{way.__name__} has no traceback of the child")


# ------------------------------------------------------------------------------------------ B10

B10 = Row(
    "B10",
    "__cause__, __context__, attributes, notes, groups and traceback of an exception",
    "type, args, attributes, notes, groups equal; chain and frames told; nothing is printed",
)


def fail_deep_down() -> NoReturn:
    try:
        try:
            raise KeyError("the context")
        except KeyError:
            raise LookupError("the cause")
    except LookupError as cause:
        error = troubles.Complaint("the complaint", 5)
        error.extra = {"more": [1, 2]}  # type: ignore[attr-defined]
        if hasattr(error, "add_note"):
            error.add_note("the note")
        raise error from cause


def fail_as_a_group() -> NoReturn:
    group: Any = __builtins__["ExceptionGroup"]  # type: ignore[index] - from Python 3.11 on
    raise group("several", [ValueError("one"), group("more", [troubles.Complaint("two", 2)])])


def expect_all_of_it(stage: Stage, error: Any) -> None:
    """It is equal to what `fail_deep_down` raised, and tells all that it told."""
    stage.expect(type(error) is troubles.Complaint, f"a {type(error).__name__}")
    stage.expect(error.args == ("the complaint", 5) and error.code == 5, "other args")
    stage.expect(getattr(error, "extra", None) == {"more": [1, 2]}, "the attribute is lost")
    wanted = ["the note"] if hasattr(error, "add_note") else None
    stage.expect(getattr(error, "__notes__", None) == wanted, "the note is lost")
    story = told_by(error)
    for word in ("in fail_deep_down", "the cause", "the context"):
        stage.expect(word in story, f"{word!r} is not told")


@B10.comparison()
def an_exception_arrives_with_all_it_has(stage: Stage, library: Library) -> None:
    """Out of a call and out of a map."""
    stage.inject()
    expect_all_of_it(stage, stage.error_of(lambda: library.call(fail_deep_down)))
    expect_all_of_it(stage, stage.error_of(lambda: library.map(fail_for_odd, range(4))))


def fail_for_odd(item: int) -> int:
    if item % 2:
        fail_deep_down()
    return item


@B10.comparison()
def failing_prints_nothing(stage: Stage, library: Library) -> None:
    """The exception is the caller's; the terminal is the program's."""
    stage.inject()
    with printed() as read:
        error = stage.error_of(lambda: library.call(fail_deep_down))
        stage.expect(isinstance(error, troubles.Complaint), f"raises {error!r:.60}")
        stage.expect(not read(), f"prints {read()[:60]!r}")


@contextmanager
def printed() -> Iterator[Callable[[], str]]:
    """Give what tells what this process and its children write meanwhile."""
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as file:
        kept = [os.dup(number) for number in (1, 2)]
        for number in (1, 2):
            os.dup2(file.fileno(), number)

        def read() -> str:
            sys.stdout.flush()
            sys.stderr.flush()
            return os.pread(file.fileno(), 1 << 20, 0).decode("utf-8", "replace")

        try:
            yield read
        finally:
            for number, copy in zip((1, 2), kept):
                os.dup2(copy, number)
                os.close(copy)


@B10.scenario()
def all_of_it_comes_in_every_way(stage: Stage) -> None:
    """Through threads, generators and maps, and afresh every time."""
    for way in WAYS:
        stage.inject()
        expect_all_of_it(stage, stage.error_of(lambda way=way: way(fail_deep_down)))
    with Thread(fail_deep_down) as thread:
        thread.start()
        thread.join()
        first = stage.error_of(thread.get_result)
        frames = len(traceback.extract_tb(first.__traceback__))
        for _ in range(20):
            again = stage.error_of(thread.get_result)
            expect_all_of_it(stage, again)
            stage.expect(again is not first, "the same object again")
            length = len(traceback.extract_tb(again.__traceback__))
            stage.expect(length == frames, "the traceback grows")


@B10.scenario()
def groups_come_in_every_way(stage: Stage) -> None:
    """With their members, nested ones too; before Python 3.11 there are none."""
    if sys.version_info < (3, 11):
        stage.facts["groups"] = "none before Python 3.11"
        return
    for way in WAYS:
        stage.inject()
        error: Any = stage.error_of(lambda way=way: way(fail_as_a_group))
        stage.expect(type(error).__name__ == "ExceptionGroup", f"raises {error!r:.60}")
        first, second = error.exceptions
        stage.expect(type(first) is ValueError and first.args == ("one",), "another member")
        inner = second.exceptions[0]
        stage.expect(type(inner) is troubles.Complaint and inner.code == 2, "another member")
        stage.expect("in fail_as_a_group" in told_by(error), "no traceback of the child")


@B10.scenario()
def nothing_is_printed_in_any_way(stage: Stage) -> None:
    """Whatever is raised, and whatever cannot be pickled."""
    odd = [functools.partial(raise_odd, index, os.getpid()) for index in range(len(ODD))]
    with printed() as read:
        for function in (fail_deep_down, *odd, *UNPICKLED, fails_to_rebuild, raise_beyond):
            for way in WAYS:
                stage.inject()
                stage.error_of(lambda way=way, function=function: way(function))
        stage.expect(not read(), f"prints {read()[:60]!r}")


# ------------------------------------------------------------------------------------------ B11

B11 = Row(
    "B11",
    "a BaseException out of f: KeyboardInterrupt, GeneratorExit, one's own",
    "the call raises it, with its class; the next call works",
)


def raise_beyond() -> NoReturn:
    raise troubles.BeyondException("the words")


def raise_interrupt() -> NoReturn:
    raise KeyboardInterrupt("the words")


def raise_generator_exit() -> NoReturn:
    raise GeneratorExit("the words")


def raise_stop() -> NoReturn:
    raise StopIteration("the words")


BEYOND = {
    raise_beyond: troubles.BeyondException,
    raise_interrupt: KeyboardInterrupt,
    raise_generator_exit: GeneratorExit,
}


@B11.comparison(timeout=10)
def a_base_exception_arrives(stage: Stage, library: Library) -> None:
    """With its class and its words."""
    for function, kind in BEYOND.items():
        judge(stage, library, function, f"{kind.__name__}: the words")


@B11.scenario()
def base_exceptions_come_in_every_way(stage: Stage) -> None:
    """As themselves; StopIteration too, where Python does not make another of it."""
    for function, kind in BEYOND.items():
        for way in WAYS:
            stage.inject()
            error = stage.error_of(lambda way=way, function=function: way(function))
            stage.expect(type(error) is kind, f"{way.__name__} raises {error!r:.60}")
            stage.expect(error.args == ("the words",), f"{way.__name__} raises {error!r:.60}")
    for way in (by_thread, by_merging_thread):
        error = stage.error_of(lambda way=way: way(raise_stop))
        stage.expect(type(error) is StopIteration, f"{way.__name__} raises {error!r:.60}")


# ------------------------------------------------------------------------------------- B12, B13

B12 = Row(
    "B12, B13",
    "results of 64 MB to more than 4 GiB, larger than any channel",
    "they arrive; or MemoryError, and then nothing is lost",
)

MEGABYTE = 1 << 20


def large_bytes() -> bytes:
    return bytes(range(256)) * (64 * 4096)


def large_object(part: int = 8 * MEGABYTE) -> Any:
    """Of many parts, some of them large."""
    parts = [{"number": number, "data": bytes([number]) * part} for number in range(8)]
    return parts, list(range(10**5))


def object_of_8_megabytes() -> Any:
    return large_object(MEGABYTE)


@B12.comparison(timeout=40)
def results_of_64_megabytes_arrive(stage: Stage, library: Library) -> None:
    """As one piece and as an object of several."""
    stage.inject()
    stage.expect(library.call(large_bytes) == large_bytes(), "other bytes")
    stage.expect(library.call(large_object) == large_object(), "another object")


@B12.scenario()
def large_results_come_in_every_way(stage: Stage) -> None:
    """While nobody takes them, too: the child ends before."""
    expected = object_of_8_megabytes()
    for way in WAYS:
        stage.inject()
        stage.expect(way(object_of_8_megabytes) == expected, f"{way.__name__}: another object")
    with Thread(large_bytes) as thread:
        thread.start()
        readable = select.select([thread], [], [], 10)[0]
        stage.expect(readable, "it waits for its parent")
        thread.join()
        stage.expect(thread.get_result() == large_bytes(), "other bytes")


@B12.scenario(timeout=60)
def the_largest_result(stage: Stage) -> None:
    """The soak takes one beyond 4 GiB, the usual run one beyond 256 MiB."""
    size = (4 << 30) + 5 if stage.size > 1 else (256 << 20) + 5
    stage.inject()
    with Thread(bytes, args=(size,)) as thread:
        thread.start()
        thread.join()
        result = thread.get_result()
        stage.expect(len(result) == size and result.count(0) == size, "other bytes")
    stage.facts["largest result"] = f"{size} bytes"


@B12.scenario()
def a_result_larger_than_its_channel_arrives(stage: Stage) -> None:
    """With little address space the channel is small, and the result goes through in pieces."""
    with address_space(400):
        stage.inject()
        with Thread(large_bytes) as thread:
            thread.start()
            thread.join()
            result = thread.get_result()
    stage.expect(result == large_bytes(), "other bytes")


@contextmanager
def address_space(megabytes: int) -> Iterator[None]:
    """Let this process have only so much more of it."""
    with open("/proc/self/statm", encoding="ascii") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + megabytes * MEGABYTE, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


@B12.scenario()
def a_parent_without_memory_loses_nothing(stage: Stage) -> None:
    """MemoryError while there is none; the result, as soon as there is some."""
    with Thread(large_bytes) as thread:
        thread.start()
        stage.expect(select.select([thread], [], [], 10)[0], "it waits for its parent")
        with address_space(30):
            for ask in (thread.try_join, thread.join, thread.join):
                stage.inject()
                error = stage.quickly(lambda ask=ask: stage.error_of(ask))
                stage.expect(isinstance(error, MemoryError), f"raises {error!r:.60}")
        thread.join()
        stage.expect(thread.get_result() == large_bytes(), "other bytes")
        stage.expect(thread.get_exit_status() == 0, "another status")


# ------------------------------------------------------------------------------------------ B14

B14 = Row("B14", "an exception as a return value", "it is a value: returned, not raised")


def an_exception() -> BaseException:
    return ValueError("a value")


def an_exception_of(item: int) -> BaseException:
    return [StopIteration, KeyboardInterrupt, ValueError, SystemExit][item % 4](item)


@B14.comparison()
def an_exception_can_be_a_value(stage: Stage, library: Library) -> None:
    """Out of a call and out of a map."""
    stage.inject()
    value = library.call(an_exception)
    stage.expect(repr(value) == repr(an_exception()), f"{value!r:.60}")
    values = library.map(an_exception_of, range(8))
    stage.expect(repr(values) == repr([an_exception_of(item) for item in range(8)]), f"{values}")


@B14.scenario()
def exceptions_are_values_in_every_way(stage: Stage) -> None:
    """Those with a meaning for loops and programs too."""
    for way, item in itertools.product(WAYS, range(4)):
        stage.inject()
        value = way(lambda item=item: an_exception_of(item))
        stage.expect(repr(value) == repr(an_exception_of(item)), f"{way.__name__}: {value!r:.60}")


# ------------------------------------------------------------------------------------------ B16

B16 = Row(
    "B16",
    "side effects of unpickling a result",
    "it is unpickled where it is asked for: in the parent, not in join, once",
)

rebuilt: list[int] = []


def note_rebuilding() -> int:
    rebuilt.append(os.getpid())
    return 42


class NotesRebuilding:
    """Is rebuilt as a number, with a side effect."""

    def __reduce__(self) -> Any:
        return note_rebuilding, ()


def notes_rebuilding() -> Any:
    return NotesRebuilding()


@B16.comparison()
def it_is_rebuilt_once_and_here(stage: Stage, library: Library) -> None:
    """A value has been unpickled once, in this process, when a call has returned it."""
    stage.inject()
    rebuilt.clear()
    stage.expect(library.call(notes_rebuilding) == 42, "another value")
    stage.expect(rebuilt == [os.getpid()], f"unpickled {len(rebuilt)} times here")


@B16.scenario()
def not_in_join_and_once(stage: Stage) -> None:
    """Neither in the child, nor by any way of joining; and once for all get_result."""
    for way in WAYS:
        stage.inject()
        rebuilt.clear()
        stage.expect(way(notes_rebuilding) == 42, "another value")
        # by_map and by_merging_map have three and two such values
        wanted = {by_map: 3, by_merging_map: 2}.get(way, 1)
        stage.expect(rebuilt == [os.getpid()] * wanted, f"{way.__name__}: {rebuilt}")
    rebuilt.clear()
    with Thread(notes_rebuilding) as thread:
        thread.start()
        stage.wait_until(thread.try_join, "does not end")
        thread.join()
        stage.expect(not thread.is_alive(), "alive")
        stage.expect(rebuilt == [], "unpickled by a join")
        stage.expect([thread.get_result() for _ in range(3)] == [42] * 3, "another value")
        stage.expect(rebuilt == [os.getpid()], "unpickled more than once")
    with Thread(notes_rebuilding) as thread:
        thread.start()
        thread.join()
    stage.expect(rebuilt == [os.getpid()], "unpickled although nobody asked")
