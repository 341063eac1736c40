# SPDX-License-Identifier: MIT
"""Section J. Generators."""

from __future__ import annotations

import contextlib
import functools
import itertools
import mmap
import os
import signal
import struct
import sys
from typing import TYPE_CHECKING, Any, Callable, NoReturn

from deadline import SOON
from family import KINDS, finish, running
from gate import Gate
from process_table import children, shared_sizes, state
from row import Row
from stage import Stage, for_ever
from troubles import UNTRAVELLED, UNTRAVELLED_NAMES, BeyondException, Complaint

from snakefish import Generator, Thread

if TYPE_CHECKING:
    from collections.abc import Iterator

Namespace = dict[str, Any]

PREFETCHES = (0, 1, 3, 40)
"""On demand, one ahead, a few, and more than most of these generators have values."""

computed = 0
log: list[str] = []


def keep_state(namespace: Namespace) -> Namespace:
    return {"computed": namespace["computed"], "log": namespace["log"]}


def take_state(namespace: Namespace, extracted: Namespace) -> None:
    namespace.update(extracted)


def forget_state() -> None:
    global computed
    computed = 0
    log.clear()


def started(
    f: Callable[..., Any], *arguments: Any, prefetch: int = 0, merging: bool = False
) -> Any:
    pair = (keep_state, take_state) if merging else ()
    generator = Generator(f, *pair, args=arguments, prefetch=prefetch)
    generator.start()
    return generator


def count_up(size: int = 0) -> Iterator[Any]:
    """For ever; notes in a global how far it has come."""
    global computed
    for number in itertools.count():
        computed += 1
        yield (number, bytes(size)) if size else number


def give(values: Any) -> Iterator[Any]:
    yield from values


def outcome_of(action: Callable[[], Any]) -> Any:
    """What an action returns, or the exception it raises."""
    try:
        return action()
    except BaseException as error:
        return error


def polled(generator: Generator) -> Any:
    """The next value by polling alone; sleeps until the child has had its turn."""
    while True:
        try:
            return generator.next(False)
        except IndexError:
            os.sched_yield()


WAYS_TO_ASK: dict[str, Callable[[Generator], Any]] = {
    "next": lambda generator: generator.next(),
    "next with a timeout": lambda generator: generator.next(timeout=SOON),
    "polling": polled,
    "iteration": lambda generator: next(iter(generator)),
}

# ----------------------------------------------------------------------- raises

J1 = Row("J1", "raises before the first yield", "from the first next; then it is exhausted")


def fail_at_once(error: BaseException) -> Iterator[int]:
    if error:
        raise error
    yield 1


@J1.scenario()
def the_first_next_raises_it(stage: Stage) -> None:
    """Any exception, however it is asked for; afterwards StopIteration, and join is in order."""
    errors = [
        ValueError("at once"), Complaint("own", 3), BeyondException("own"), KeyboardInterrupt(),
        SystemExit(4), GeneratorExit("own"), MemoryError(), EOFError("own"), IndexError("own"),
    ]  # fmt: skip
    for prefetch in PREFETCHES[:3]:
        for error in errors:
            for how, ask in WAYS_TO_ASK.items():
                if isinstance(error, IndexError) and how == "polling":
                    continue
                stage.inject()
                with started(fail_at_once, error, prefetch=prefetch) as generator:
                    raised = stage.quickly(lambda ask=ask, g=generator: outcome_of(lambda: ask(g)))
                    stage.expect(type(raised) is type(error), f"{how}: {raised!r}")
                    stage.expect(raised.args == error.args, f"{how}: {raised!r}")
                    after = outcome_of(generator.next)
                    stage.expect(isinstance(after, StopIteration), f"then {after!r}")
                    generator.join()
                    status = 4 if isinstance(error, SystemExit) else 0
                    stage.expect(generator.get_exit_status() == status, "another status")


@J1.scenario()
def what_cannot_travel_is_named(stage: Stage) -> None:
    """An exception that cannot be pickled or rebuilt is a RuntimeError with its class name."""
    for make, name in zip(UNTRAVELLED, UNTRAVELLED_NAMES):
        for prefetch in (0, 3):
            stage.inject()
            with started(fail_at_once_by, make, prefetch=prefetch) as generator:
                error = stage.error_of(generator.next)
                stage.expect(isinstance(error, RuntimeError) and name in str(error), f"{error!r}")
                generator.join()


def fail_at_once_by(make: Callable[[], BaseException]) -> Iterator[int]:
    yield from fail_at_once(make())


@J1.scenario()
def others_see_it_too(stage: Stage) -> None:
    """A consumer in another child gets it; several Python threads share one error and the end."""
    for prefetch in (0, 3):
        for kind, do in KINDS.items():
            stage.inject()
            with started(fail_at_once, ValueError("at once"), prefetch=prefetch) as generator:
                seen = do(lambda g=generator: isinstance(outcome_of(g.next), ValueError))
                stage.expect(seen, f"a child of {kind} sees something else")
                generator.join()


J2 = Row("J2", "yields None, False, exceptions", "they are values")

ODD_VALUES: list[Any] = [
    None, False, True, 0, 0.0, "", b"", bytearray(), (), [], {}, set(), ..., NotImplemented, -1,
    2**100, float("-inf"), "\ud800", ValueError, StopIteration, Exception, KeyboardInterrupt,
    range(3), {"a": [None]}, b"x" * 70_000, bytes(200_000), [None] * 1000, print, type(None),
]  # fmt: skip
EXCEPTIONS = [
    ValueError("a value"), StopIteration(5), GeneratorExit(), SystemExit(3), KeyboardInterrupt(),
    IndexError(), EOFError(), TimeoutError(), RuntimeError("StopIteration"), Complaint("own", 2),
    BeyondException("own"),
]  # fmt: skip


@J2.scenario()
def any_value_is_a_value(stage: Stage) -> None:
    """In any order, however they are asked for: nothing is taken for an end or an error."""
    for _ in stage.times(2):
        for prefetch in PREFETCHES:
            for how, ask in WAYS_TO_ASK.items():
                values = stage.dice.sample(ODD_VALUES, len(ODD_VALUES))
                with started(give, values, prefetch=prefetch) as generator:
                    for value in values:
                        stage.inject()
                        got = ask(generator)
                        same = type(got) is type(value) and got == value
                        stage.expect(same, f"{how}: {value!r:.20} became {got!r:.20}")
                    stage.expect(isinstance(outcome_of(generator.next), StopIteration), "no end")


@J2.scenario()
def exceptions_are_values(stage: Stage) -> None:
    """What is yielded is returned by next, what is returned is the end's value; none is raised."""
    for prefetch in PREFETCHES:
        for how, ask in WAYS_TO_ASK.items():
            with started(give_and_return, EXCEPTIONS, prefetch=prefetch) as generator:
                for error in EXCEPTIONS:
                    stage.inject()
                    got = ask(generator)
                    same = type(got) is type(error) and got.args == error.args
                    stage.expect(same, f"{how}: {error!r} became {got!r}")
                end = outcome_of(generator.next)
                stage.expect(isinstance(end, StopIteration), f"the end is {end!r}")
                stage.expect(isinstance(end.value, IndexError), f"its value is {end.value!r}")


def give_and_return(values: Any) -> Iterator[Any]:
    yield from values
    return IndexError("the end's value")


# ----------------------------------------------------------------- joined early

J3 = Row("J3", "never ends, and is joined early", "join returns at once after any value; status 0")


@J3.scenario()
def joined_after_any_value(stage: Stage) -> None:
    """After 0, 1, 5 and more values, small ones and large ones, however far it has run ahead."""
    for prefetch in PREFETCHES:
        for size in (0, 1000, 300_000):
            for taken in (0, 1, 5, stage.dice.randrange(60 if size < 2000 else 6)):
                stage.inject()
                with started(count_up, size, prefetch=prefetch) as generator:
                    for _ in range(taken):
                        generator.next()
                    stage.quickly(generator.join)
                    stage.expect(generator.get_exit_status() == 0, "another status")
                    stage.expect(generator.try_join(), "not joined")
                    after = outcome_of(generator.next)
                    stage.expect(isinstance(after, StopIteration), f"then next: {after!r:.40}")


@J3.scenario()
def joined_at_any_moment(stage: Stage) -> None:
    """While it computes, while it sends, while it waits: the globals are those of a whole value."""
    for _ in stage.times(80):
        forget_state()
        prefetch, size = stage.dice.choice(PREFETCHES), stage.dice.choice([0, 9000])
        stage.inject()
        with started(count_up, size, prefetch=prefetch, merging=True) as generator:
            taken = stage.dice.randrange(4)
            for _ in range(taken):
                generator.next()
            sum(range(stage.dice.randrange(30_000)))
            stage.quickly(generator.join)
            stage.expect(generator.get_exit_status() == 0, "another status")
        allowed = taken <= computed <= taken + prefetch
        stage.expect(allowed, f"computed {computed} with {taken} taken and {prefetch} ahead")
    forget_state()


@J3.scenario()
def joined_where_it_never_yields(stage: Stage) -> None:
    """One that is deaf between two values: join can be given up, repeated, and kill ends it."""
    for prefetch in (0, 3):
        for _ in stage.times(3):
            stage.inject()
            deaf = Gate()
            with started(one_then_deaf, deaf, prefetch=prefetch) as generator:
                stage.expect(generator.next() == 1, "no value")
                with contextlib.suppress(IndexError):
                    generator.next(False)
                deaf.wait()
                for _ in range(3):
                    join = functools.partial(generator.join, timeout=0.02)
                    error = stage.quickly(lambda join=join: stage.error_of(join))
                    stage.expect(isinstance(error, TimeoutError), f"{error!r}")
                    stage.expect(generator.is_alive() and not generator.try_join(), "joined")
                generator.kill()
                stage.quickly(generator.join)
                stage.expect(generator.get_exit_status() == -9, "another status")
            deaf.close()


def one_then_deaf(deaf: Gate) -> Iterator[int]:
    yield 1
    deaf.open()
    for_ever()


@J3.scenario()
def a_chain_joined_early(stage: Stage) -> None:
    """Three stages that feed one another, joined in any order, all end with status 0."""
    for _ in stage.times(20):
        prefetch = stage.dice.choice(PREFETCHES)
        first = started(count_up, prefetch=prefetch)
        second = started(lambda source: (yield from source), first, prefetch=prefetch)
        third = started(lambda source: (yield from source), second, prefetch=prefetch)
        got = [third.next() for _ in range(stage.dice.randrange(5))]
        stage.expect(got == list(range(len(got))), "wrong values")
        stage.inject()
        for one in stage.dice.sample([first, second, third], 3):
            stage.quickly(one.join)
            stage.expect(one.get_exit_status() == 0, "another status")
        for one in (first, second, third):
            one.dispose()


J4 = Row(
    "J4",
    "join with an unanswered next(False)",
    "the answer is discarded; the globals are those of what was asked for",
)


@J4.scenario()
def an_unanswered_request(stage: Stage) -> None:
    """Values asked for in a random way, then join: each was computed once, and none unasked."""
    for _ in stage.times(100):
        forget_state()
        with started(count_up, merging=True) as generator:
            asked = taken = 0
            for _ in range(stage.dice.randrange(6)):
                stage.inject()
                asked = max(asked, taken + 1)
                how = stage.dice.choice([{}, {"block": False}, {"timeout": 0}])
                try:
                    value = generator.next(**how)
                except (IndexError, TimeoutError):
                    continue
                stage.expect(value == taken, f"value {value} instead of {taken}")
                taken += 1
            stage.quickly(generator.join)
            stage.expect(computed == asked, f"{computed} computed, {asked} asked for")
            after = outcome_of(lambda g=generator: g.next(False))
            stage.expect(isinstance(after, StopIteration), f"then next: {after!r}")
            stage.expect(generator.get_exit_status() == 0, "another status")
    forget_state()


@J4.scenario()
def unanswered_requests_of_many(stage: Stage) -> None:
    """Children that have asked and gone leave requests behind: join discards the answers too."""
    for _ in stage.times(8):
        forget_state()
        with started(slow_count, merging=True) as generator:
            askers = [
                running(
                    lambda g=generator: isinstance(outcome_of(lambda: g.next(False)), IndexError)
                )
                for _ in range(4)
            ]
            finish(*askers)
            stage.inject()
            stage.quickly(generator.join)
            stage.expect(generator.get_exit_status() == 0, "another status")
            stage.expect(computed <= 4, f"{computed} computed for 4 requests")
    forget_state()


def slow_count() -> Iterator[int]:
    global computed
    for number in itertools.count():
        sum(range(20_000))
        computed += 1
        yield number


J5 = Row("J5", "next before start, after join", "RuntimeError; StopIteration")


@J5.scenario()
def too_early_and_too_late(stage: Stage) -> None:
    """Every way to ask, in every state: before start and after dispose an error, after join none.

    The states are those that end in StopIteration, however it has come to its end.
    """
    ends: dict[str, Callable[[Generator], Any]] = {
        "joined at once": lambda generator: generator.join(),
        "joined early": lambda generator: (generator.next(), generator.join()),
        "exhausted": lambda generator: list(generator),
        "exhausted and joined": lambda generator: (list(generator), generator.join()),
        "exhausted and found ended": lambda generator: (
            list(generator),
            stage.wait_until(generator.try_join, "not joined"),
        ),
    }
    for prefetch in PREFETCHES:
        for how, ask in WAYS_TO_ASK.items():
            generator = Generator(give, args=[range(5)], prefetch=prefetch)
            for moment in ("before start", "after dispose"):
                stage.inject()
                error = stage.error_of(lambda ask=ask, g=generator: ask(g))
                refused = isinstance(error, RuntimeError)
                stage.expect(refused, f"{how} {moment}: {error!r}")
                generator.dispose()
            for end, come_to in ends.items():
                with started(give, range(5), prefetch=prefetch) as generator:
                    come_to(generator)
                    for _ in range(3):
                        stage.inject()
                        error = stage.error_of(lambda ask=ask, g=generator: ask(g))
                        stage.expect(isinstance(error, StopIteration), f"{end}, {how}: {error!r}")


@J5.scenario()
def in_children_too(stage: Stage) -> None:
    """A child that inherited it unstarted is refused, one that inherited it joined sees the end."""
    with Generator(count_up) as unstarted, started(count_up) as joined:
        joined.next()
        joined.join()
        for kind, do in KINDS.items():
            stage.inject()
            early = do(lambda: isinstance(outcome_of(unstarted.next), RuntimeError))
            late = do(lambda: isinstance(outcome_of(joined.next), StopIteration))
            stage.expect(early, f"a child of {kind} may ask too early")
            stage.expect(late, f"a child of {kind} does not see the end")


# ------------------------------------------------------------------- read-ahead

J6 = Row("J6", "endless and fast, and nobody reads", "it runs ahead as far as prefetch, no further")


class Tally:
    """A number that a child counts up and its parent can read at any time."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8)

    def __enter__(self) -> Tally:
        return self

    def __exit__(self, *_: object) -> None:
        self._memory.close()

    @property
    def value(self) -> int:
        return int(struct.unpack("<q", self._memory[:8])[0])

    def add(self) -> None:
        self._memory[:8] = struct.pack("<q", self.value + 1)


def count_on(tally: Tally, size: int) -> Iterator[bytes]:
    while True:
        tally.add()
        yield bytes(size)


def expect_rest_at(stage: Stage, tally: Tally, generator: Generator, number: int) -> None:
    """It computes *number* values and then sleeps, each time one looks."""
    stage.wait_until(lambda: tally.value >= number, f"computes less than {number}")
    stage.wait_until(lambda: state(generator.pid) == "S", "does not rest")
    for _ in range(100):
        if state(generator.pid) == "S":
            stage.expect(tally.value == number, f"computes {tally.value} instead of {number}")


@J6.scenario()
def it_never_runs_further_ahead(stage: Stage) -> None:
    """After any number of values taken, and with others of its kind at work."""
    for prefetch in (0, 1, 2, 7, 255, 256, 700):
        for size in (0, 50, 4000):
            with Tally() as tally, started(count_on, tally, size, prefetch=prefetch) as generator:
                stage.inject()
                expect_rest_at(stage, tally, generator, prefetch)
                taken = stage.dice.randrange(1, 30)
                for count in range(1, taken + 1):
                    generator.next()
                    ahead = tally.value - count
                    stage.expect(ahead <= prefetch, f"{ahead} ahead instead of {prefetch}")
                stage.wait_until(lambda g=generator: state(g.pid) == "S", "does not rest")
                ahead = tally.value - taken
                stage.expect(ahead <= prefetch, f"{ahead} ahead instead of {prefetch}")
                generator.join()


@J6.scenario()
def what_waits_is_bounded(stage: Stage) -> None:
    """Megabytes a value: no more of them wait than prefetch says, and join gives them back."""
    mebibyte = 1 << 20
    before = shared_sizes()["Rss"]
    for prefetch in (1, 8):
        for _ in stage.times(2):
            with Tally() as tally:
                generator = started(count_on, tally, mebibyte, prefetch=prefetch)
                stage.inject()
                expect_rest_at(stage, tally, generator, prefetch)
                for _ in range(20):
                    generator.next()
                used = shared_sizes()["Rss"] - before
                stage.expect(used < (prefetch + 3) * mebibyte, f"{used >> 20} MiB wait")
                generator.join()
                generator.dispose()
            left = shared_sizes()["Rss"] - before
            stage.expect(left < mebibyte, f"{left >> 20} MiB stay")


@J6.scenario()
def many_consumers_together(stage: Stage) -> None:
    """Four children that consume it do not make it run further ahead, nor does one that stops."""
    for prefetch in (0, 1, 5, 64):
        with Tally() as tally, started(count_on, tally, 10, prefetch=prefetch) as generator:

            def take(count: int, generator: Generator = generator) -> int:
                return sum(1 for _ in range(count) if generator.next() is not None)

            counts = [stage.dice.randrange(1, 60) for _ in range(4)]
            consumers = [running(take, count) for count in counts]
            stage.inject()
            stage.expect(finish(*consumers) == counts, "a value is lost")
            ahead = tally.value - sum(counts)
            stage.expect(0 <= ahead <= prefetch, f"{ahead} ahead instead of {prefetch}")
            stage.expect(generator.next() is not None, "it has stopped")
            generator.join()


# ----------------------------------------------------------------------- closing

J7 = Row("J7", "finally of a generator joined early", "runs in the child, once, before extract")


def with_finally(depth: int) -> Iterator[int]:
    try:
        if depth:
            yield from with_finally(depth - 1)
        else:
            yield from itertools.count()
    finally:
        log.append(f"finally {depth} in {os.getpid()}")


def keep_and_note(namespace: Namespace) -> Namespace:
    log.append(f"extract in {os.getpid()}")
    return keep_state(namespace)


@J7.scenario()
def finally_runs_before_extract(stage: Stage) -> None:
    """Of nested generators the innermost first, each once; not at all before the first value."""
    for prefetch in PREFETCHES:
        for taken in (0, 1, 4):
            forget_state()
            stage.inject()
            f = functools.partial(with_finally, 3)
            with Generator(f, keep_and_note, take_state, prefetch=prefetch) as generator:
                generator.start()
                for _ in range(taken):
                    generator.next()
                stage.quickly(generator.join)
                where = f"in {generator.pid}"
                blocks = [f"finally {depth} {where}" for depth in range(4)]
                expected = [*blocks, f"extract {where}"]
                if prefetch and not taken:  # whether it has begun depends on who was quicker
                    stage.expect(log in (expected, expected[-1:]), f"{log}")
                else:
                    stage.expect(log == (expected if taken else expected[-1:]), f"{log}")
                stage.expect(generator.get_exit_status() == 0, "another status")
    forget_state()


class Stubborn:
    """Ways in which a generator behaves badly when it is closed."""

    def __init__(self, action: Callable[[], Any]) -> None:
        self.action = action

    def numbers(self) -> Iterator[int]:
        try:
            yield from itertools.count()
        finally:
            log.append("finally")
            self.action()

    def ignoring(self) -> Iterator[int]:
        for number in itertools.count():
            try:
                yield number
            except GeneratorExit:
                log.append("finally")


def raise_complaint() -> NoReturn:
    raise Complaint("while closed", 7)


def leave(code: int) -> NoReturn:
    sys.exit(code)


@J7.scenario()
def closing_may_go_wrong(stage: Stage) -> None:
    """A finally that raises, exits or yields on: join returns, extract runs, the status says it."""
    cases: dict[str, tuple[Callable[..., Any], int]] = {
        "raises": (Stubborn(raise_complaint).numbers, 0),
        "exits": (Stubborn(lambda: leave(5)).numbers, 5),
        "is interrupted": (Stubborn(lambda: os.kill(os.getpid(), signal.SIGINT)).numbers, 0),
        "yields on": (Stubborn(int).ignoring, 0),
    }
    for prefetch in (0, 3):
        for how, (f, status) in cases.items():
            forget_state()
            stage.inject()
            with started(f, prefetch=prefetch, merging=True) as generator:
                generator.next()
                stage.quickly(generator.join)
                stage.expect(generator.get_exit_status() == status, f"{how}: another status")
                after = outcome_of(generator.next)
                stage.expect(isinstance(after, StopIteration), f"{how}: then next {after!r}")
            stage.expect(set(log) == {"finally"}, f"{how}: {log}")
    forget_state()


@J7.scenario()
def finally_may_use_what_it_likes(stage: Stage) -> None:
    """Children of its own, and another generator that it consumes, are ended in good order."""

    def relay(source: Generator) -> Iterator[int]:
        with started(count_up, prefetch=2) as inner, Thread(for_ever) as thread:
            thread.start()
            try:
                for value in source:
                    yield value + inner.next()
            finally:
                inner.join()
                log.append(f"inner {inner.get_exit_status()}, thread {thread.is_alive()}")

    for prefetch in (0, 4):
        forget_state()
        stage.inject()
        before = children()
        with started(count_up, prefetch=1) as source:
            with started(relay, source, prefetch=prefetch, merging=True) as generator:
                stage.expect([generator.next() for _ in range(3)] == [0, 2, 4], "wrong values")
                stage.quickly(generator.join)
            stage.expect(log == ["inner 0, thread True"], f"{log}")
            source.join()
        stage.expect(children() <= before, "a child is left")
    forget_state()


# ------------------------------------------------------------------------ deaths

J8 = Row(
    "J8",
    "dies between values or while it is asked for one",
    "the whole values it had sent, then RuntimeError soon; then join, and the status",
)


def stamped(size: int) -> Iterator[tuple[int, bytes]]:
    for number in itertools.count():
        yield number, bytes([number % 251]) * (size * (number % 3))


def take_until_it_ends(stage: Stage, generator: Generator) -> tuple[int, BaseException]:
    """How many whole values come, in order, and what comes then."""
    for expected in itertools.count():
        try:
            number, body = generator.next(timeout=SOON)
        except Exception as error:
            return expected, error
        whole = number == expected and not body.strip(bytes([number % 251]))
        stage.expect(whole, f"{number} instead of {expected}")
    raise AssertionError


@J8.scenario(timeout=30)
def killed_at_any_moment(stage: Stage) -> None:
    """The error names the signal and the pid; join and status come after; so does dispose."""
    for _ in stage.times(100):
        prefetch, size = stage.dice.choice(PREFETCHES), stage.dice.choice([0, 100, 20_000, 150_000])
        with started(stamped, size, prefetch=prefetch) as generator:
            stage.kill_within(generator.pid, 0.006)
            _, error = stage.quickly(lambda g=generator: take_until_it_ends(stage, g))
            stage.expect(isinstance(error, RuntimeError), f"{error!r}")
            text = str(error)
            stage.expect("SIGKILL" in text and str(generator.pid) in text, f"says {text}")
            stage.quickly(generator.join)
            stage.expect(generator.get_exit_status() == -9, "another status")
            after = outcome_of(generator.next)
            stage.expect(isinstance(after, StopIteration), f"then next: {after!r}")


def end_after(values: int, end: Callable[[], Any]) -> Iterator[int]:
    yield from range(values)
    end()


ENDS: dict[str, tuple[Callable[[], Any], int, type[BaseException]]] = {
    "SIGKILL": (lambda: os.kill(os.getpid(), signal.SIGKILL), -9, RuntimeError),
    "SIGTERM": (lambda: os.kill(os.getpid(), signal.SIGTERM), -15, RuntimeError),
    "abort": (os.abort, -6, RuntimeError),
    "os._exit(0)": (lambda: os._exit(0), 0, RuntimeError),
    "os._exit(3)": (lambda: os._exit(3), 3, RuntimeError),
    "sys.exit(3)": (lambda: leave(3), 3, SystemExit),
}


@J8.scenario()
def every_end_after_every_value(stage: Stage) -> None:
    """What was sent before is received; then the end, in its own way, for everybody who asks."""
    for prefetch in PREFETCHES:
        for how, (end, status, kind) in ENDS.items():
            for count in (0, 1, 5):
                stage.inject()
                with started(end_after, count, end, prefetch=prefetch) as generator:
                    got = [stage.quickly(generator.next) for _ in range(count)]
                    stage.expect(got == list(range(count)), f"{how}: {got}")
                    error = stage.quickly(lambda g=generator: stage.error_of(g.next))
                    stage.expect(isinstance(error, kind), f"{how}: {error!r}")
                    stage.quickly(generator.join)
                    found = generator.get_exit_status()
                    stage.expect(found == status, f"{how}: status {found}")


@J8.scenario()
def its_consumers_learn_of_it(stage: Stage) -> None:
    """Consumers in other children and in Python threads get the error, wherever they wait."""
    for _ in stage.times(12):
        prefetch = stage.dice.choice(PREFETCHES)
        gate, deaf = Gate(), Gate()
        with started(one_then_deaf, deaf, prefetch=prefetch) as generator:

            def consume(generator: Generator = generator, gate: Gate = gate) -> str:
                try:
                    while True:
                        generator.next()
                        gate.open()
                except RuntimeError as error:
                    return str(error)

            consumers = [running(consume) for _ in range(4)]
            gate.wait()
            stage.kill(generator.pid)
            answers = stage.quickly(functools.partial(finish, *consumers))
            stage.expect(all("died" in answer for answer in answers), f"{answers}")
            stage.quickly(generator.join)
        gate.close()
        deaf.close()


@J8.scenario()
def a_stage_of_a_pipeline_dies(stage: Stage) -> None:
    """Behind it there is an error, before it everything can be joined."""
    for _ in stage.times(30):
        prefetch = stage.dice.choice(PREFETCHES)
        first = started(count_up, prefetch=prefetch)
        second = started(lambda source: (yield from source), first, prefetch=prefetch)
        third = started(lambda source: (yield from source), second, prefetch=prefetch)
        victim = stage.dice.choice([first, second, third])
        stage.kill_within(victim.pid, 0.005)
        values: list[int] = []

        def take(values: list[int] = values, third: Generator = third) -> NoReturn:
            while True:
                values.append(third.next(timeout=SOON))

        error = stage.quickly(lambda take=take: stage.error_of(take))
        stage.expect(isinstance(error, RuntimeError), f"{error!r}")
        stage.expect(values == list(range(len(values))), "lost or doubled")
        for one in (first, second, third):
            stage.quickly(one.join)
            expected = -9 if one is victim else 0
            stage.expect(one.get_exit_status() == expected, f"status {one.get_exit_status()}")
            one.dispose()


@J8.scenario()
def a_consumer_dies(stage: Stage) -> None:
    """Consumers killed at random moments: at most one value of each is gone, the rest go on."""
    for _ in stage.times(12):
        prefetch = stage.dice.choice(PREFETCHES)
        with started(count_up, prefetch=prefetch) as generator:

            def consume(generator: Generator = generator) -> NoReturn:
                while True:
                    generator.next()

            victims = [running(consume) for _ in range(4)]
            for victim in victims:
                stage.kill_within(victim.pid, 0.01)
            for victim in victims:
                victim.join()
                victim.dispose()
            first = stage.quickly(generator.next)
            rest = [stage.quickly(generator.next) for _ in range(30)]
            stage.expect(rest == list(range(first + 1, first + 31)), "lost or doubled")
            stage.quickly(generator.join)
            stage.expect(generator.get_exit_status() == 0, "another status")
