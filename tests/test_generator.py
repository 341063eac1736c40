# SPDX-License-Identifier: MIT
"""Generator: a Python generator that runs in a child process."""

from __future__ import annotations

import functools
import gc
import itertools
import os
import pickle
import random
import signal
import threading
import traceback
from typing import TYPE_CHECKING, Any, Callable, NoReturn

import pytest
from deadline import SOON, wait_until
from process_table import children, is_gone, open_descriptors, shared_mappings, state
from scenario import signal_when_asleep
from troubles import (
    UNTRAVELLED,
    UNTRAVELLED_NAMES,
    BeyondException,
    Complaint,
    FailsToPickle,
    FailsToRebuild,
)

from snakefish import Channel, Generator, SnakefishError, Thread

if TYPE_CHECKING:
    from collections.abc import Iterator

total = 0
merges = 0


@pytest.fixture(autouse=True)
def fresh_globals() -> None:
    global total, merges
    total = merges = 0


def keep_total(namespace: dict[str, Any]) -> dict[str, Any]:
    return {"total": namespace["total"]}


def add_total(namespace: dict[str, Any], extracted: dict[str, Any]) -> None:
    namespace["total"] += extracted["total"]
    namespace["merges"] += 1


def started(f: Callable[..., Any], *arguments: Any, **keywords: Any) -> Generator:
    generator = Generator(f, *arguments, **keywords)
    generator.start()
    return generator


def held_up(begun: Any, gate: Any) -> Generator:
    """A generator that was asked for its first value and waits for *gate* to compute it."""

    def slow() -> Iterator[int]:
        begun.open()
        gate.wait()
        yield 1

    generator = started(slow)
    with pytest.raises(IndexError):
        generator.next(False)
    begun.wait()
    return generator


def up_to(count: int) -> Iterator[int]:
    yield from range(count)
    return "that was all"


def counting() -> Iterator[int]:
    """Counts for ever, and in the global how far it has come."""
    global total
    while True:
        total += 1
        yield total


class TestConstructor:
    """Generator(f), Generator(f, extract, merge)."""

    @pytest.mark.parametrize(
        "f",
        [lambda: 1, lambda a: a, len, int, iter],
        ids=["lambda", "one argument", "len", "int", "iter"],
    )
    def test_refuses_what_is_no_generator_function(self, f: Any, no_fork: None) -> None:
        """f that is not a generator function is a RuntimeError from the constructor."""
        with pytest.raises(RuntimeError) as caught:
            Generator(f)
        assert isinstance(caught.value, SnakefishError)

    @pytest.mark.parametrize(
        "what", [None, 42, "f", iter([1])], ids=["None", "42", "f", "iterator"]
    )
    def test_refuses_what_cannot_be_called(self, what: Any, no_fork: None) -> None:
        """What is not callable is a TypeError of the constructor."""
        with pytest.raises(TypeError):
            Generator(what)

    def test_partials_methods_and_callables_count(self) -> None:
        """Whatever ends in a generator function when called is one."""

        class Counter:
            def method(self) -> Iterator[int]:
                yield from range(3)

            def __call__(self) -> Iterator[int]:
                yield from range(3)

            @staticmethod
            def static() -> Iterator[int]:
                yield from range(3)

        for f in (
            functools.partial(up_to, 3),
            functools.partial(functools.partial(up_to), 3),
            Counter().method,
            Counter.static,
            Counter(),
        ):
            with started(f) as generator:
                assert list(generator) == [0, 1, 2]

    def test_takes_args_kwargs_and_name(self) -> None:
        """The keywords are those of Thread."""

        def f(a: int, *, b: int) -> Iterator[int]:
            yield a + b

        with started(f, args=(1,), kwargs={"b": 2}, name="stage one") as generator:
            assert generator.next(True) == 3
            assert "stage one" in repr(generator)

    def test_arguments_that_do_not_fit_are_refused(self) -> None:
        """Arguments that f cannot take are a TypeError of the constructor."""
        with pytest.raises(TypeError):
            Generator(up_to)

    @pytest.mark.parametrize("prefetch", [-1, "1", 1.5, None], ids=repr)
    def test_bad_prefetch_is_refused(self, prefetch: Any) -> None:
        """prefetch is a number of values: else TypeError or ValueError."""
        with pytest.raises((TypeError, ValueError)):
            Generator(counting, prefetch=prefetch)

    def test_takes_no_process_and_no_descriptor(self, no_fork: None) -> None:
        """A generator that is not started holds nothing."""
        before = open_descriptors()
        generators = [Generator(counting) for _ in range(50)]
        assert open_descriptors() == before
        for generator in generators:
            generator.dispose()


class TestStart:
    """Generator.start()."""

    def test_runs_f_in_a_child(self) -> None:
        """The generator's frames run in another process."""

        def where() -> Iterator[int]:
            yield os.getpid()
            yield os.getppid()

        with started(where) as generator:
            child, parent = generator
            assert child != os.getpid()
            assert parent == os.getpid()

    def test_second_start_is_refused(self) -> None:
        """A generator starts once: RuntimeError."""
        with started(counting) as generator:
            with pytest.raises(RuntimeError):
                generator.start()
            generator.join()
            with pytest.raises(RuntimeError):
                generator.start()


class TestNext:
    """Generator.next(block, timeout)."""

    def test_gives_the_values_in_order(self) -> None:
        """Each call gives the next value that f yielded."""
        with started(up_to, args=(5,)) as generator:
            assert [generator.next(True) for _ in range(5)] == [0, 1, 2, 3, 4]

    @pytest.mark.parametrize("value", [None, False, 0, ValueError("v"), StopIteration()], ids=repr)
    def test_any_value_is_a_value(self, value: Any) -> None:
        """None, False and exception objects that were yielded are values."""

        def one() -> Iterator[Any]:
            yield value

        with started(one) as generator:
            assert repr(generator.next(True)) == repr(value)

    def test_blocks_by_default(self, gate: Any) -> None:
        """next() waits for the value."""

        def late() -> Iterator[str]:
            gate.wait()
            yield "late"

        with started(late) as generator:
            opener = threading.Timer(0.05, gate.open)
            opener.start()
            assert generator.next() == "late"
            opener.join()

    def test_not_ready_and_not_blocking_is_an_index_error(self, gate: Any) -> None:
        """next(False) does not wait; once the value is there, it gives it."""

        def late() -> Iterator[str]:
            gate.wait()
            yield "late"

        with started(late) as generator:
            for _ in range(3):
                with pytest.raises(IndexError) as caught:
                    generator.next(False)
                assert isinstance(caught.value, SnakefishError)
            gate.open()
            assert self.poll(generator) == "late"

    @staticmethod
    def poll(generator: Generator) -> Any:
        def ready() -> list[Any]:
            try:
                return [generator.next(False)]
            except IndexError:
                return []

        return wait_until(ready, "no value comes")[0]

    def test_polling_alone_gets_every_value(self) -> None:
        """A consumer that only ever asks without blocking gets all values in order."""
        with started(up_to, args=(20,)) as generator:
            assert [self.poll(generator) for _ in range(20)] == list(range(20))
            with pytest.raises(StopIteration):
                self.poll(generator)

    def test_timeout_is_a_timeout_error_and_loses_nothing(self, gate: Any) -> None:
        """No value in time is a TimeoutError; the value comes with a later call."""

        def late() -> Iterator[int]:
            gate.wait()
            yield from range(2)

        with started(late) as generator:
            with pytest.raises(TimeoutError) as caught:
                generator.next(timeout=0.02)
            assert isinstance(caught.value, SnakefishError)
            gate.open()
            assert generator.next(block=True, timeout=SOON) == 0
            assert generator.next() == 1

    def test_exhaustion_is_stop_iteration_with_the_return_value(self) -> None:
        """At the end comes StopIteration, whose value is what f returned."""
        with started(up_to, args=(1,)) as generator:
            generator.next()
            with pytest.raises(StopIteration) as caught:
                generator.next()
            assert caught.value.value == "that was all"

    def test_exhaustion_is_stop_iteration_again(self) -> None:
        """Asked again, the end is the end, also without blocking and after join."""
        with started(up_to, args=(0,)) as generator:
            for _ in range(3):
                with pytest.raises(StopIteration):
                    generator.next()
            with pytest.raises(StopIteration):
                generator.next(False)
            generator.join()
            with pytest.raises(StopIteration):
                generator.next()

    @pytest.mark.parametrize(
        "error", [ValueError("v", 1), Complaint("c", 2), BeyondException("b"), KeyboardInterrupt()],
        ids=repr,
    )  # fmt: skip
    def test_rethrows_what_the_generator_raised(self, error: BaseException) -> None:
        """After the values before it comes the exception, with type and arguments."""

        def fails() -> Iterator[int]:
            yield 1
            raise error

        with started(fails) as generator:
            assert generator.next() == 1
            with pytest.raises(type(error)) as caught:
                generator.next()
            assert caught.value.args == error.args
            generator.join()
            assert generator.get_exit_status() == 0

    def test_rethrows_from_before_the_first_yield(self) -> None:
        """What is raised before any value comes from the first next."""

        def fails() -> Iterator[int]:
            raise LookupError("at once")
            yield 1

        with started(fails) as generator, pytest.raises(LookupError, match="at once"):
            generator.next()

    def test_the_childs_traceback_is_reachable(self) -> None:
        """The exception comes with the text of the child's frames."""

        def deep_inside() -> Iterator[int]:
            yield 1 // 0

        with started(deep_inside) as generator, pytest.raises(ZeroDivisionError) as caught:
            generator.next()
        error = caught.value
        assert "deep_inside" in "".join(traceback.format_exception(type(error), error, None))

    def test_a_stop_iteration_raised_inside_is_a_runtime_error(self) -> None:
        """As in any generator, StopIteration out of the body is a RuntimeError."""

        def fails() -> Iterator[int]:
            yield 1
            raise StopIteration

        with started(fails) as generator:
            generator.next()
            with pytest.raises(RuntimeError):
                generator.next()

    @pytest.mark.parametrize("make", UNTRAVELLED, ids=UNTRAVELLED_NAMES)
    def test_an_exception_that_cannot_travel_is_told(self, make: Any, request: Any) -> None:
        """It becomes a RuntimeError with the class name."""

        def fails() -> Iterator[int]:
            yield 1
            raise make()

        with started(fails) as generator:
            generator.next()
            with pytest.raises(RuntimeError, match=request.node.callspec.id):
                generator.next()

    def test_a_value_that_cannot_be_pickled_raises(self) -> None:
        """What pickle raised comes from next."""

        def fails() -> Iterator[Any]:
            yield FailsToPickle()

        with started(fails) as generator, pytest.raises(ZeroDivisionError):
            generator.next()

    def test_a_value_that_cannot_be_rebuilt_raises_and_is_consumed(self) -> None:
        """What unpickling raised comes from next; the value after it is fine."""

        def troubled() -> Iterator[Any]:
            yield FailsToRebuild()
            yield "fine"

        with started(troubled) as generator:
            with pytest.raises(LookupError):
                generator.next()
            assert generator.next() == "fine"

    @pytest.mark.parametrize("size", [0, 65536, 200_000, 20 << 20])
    def test_values_of_any_size_arrive(self, size: int) -> None:
        """Large values come whole."""

        def blobs() -> Iterator[bytes]:
            for n in range(3):
                yield bytes([n]) * size

        with started(blobs) as generator:
            assert [len(blob) for blob in generator] == [size] * 3

    def test_before_start_is_refused(self) -> None:
        """What was not started has no values: RuntimeError."""
        with Generator(counting) as generator, pytest.raises(RuntimeError) as caught:
            generator.next(True)
        assert isinstance(caught.value, SnakefishError)

    def test_after_an_early_join_gives_no_value(self) -> None:
        """A generator that was stopped has no more values."""
        with started(counting) as generator:
            generator.next()
            generator.join()
            with pytest.raises((RuntimeError, StopIteration)):
                generator.next()

    def test_death_of_the_child_is_a_runtime_error_soon(self) -> None:
        """A child killed between or during two values ends next; join and status follow."""

        def dies() -> Iterator[int]:
            yield os.getpid()
            os.kill(os.getpid(), signal.SIGKILL)
            yield 0

        with started(dies) as generator:
            pid = generator.next()
            with pytest.raises(RuntimeError) as caught:
                generator.next(timeout=SOON)
            assert isinstance(caught.value, SnakefishError)
            assert str(pid) in str(caught.value)
            assert "SIGKILL" in str(caught.value)
            generator.join()
            assert generator.get_exit_status() == -signal.SIGKILL

    @pytest.mark.parametrize("prefetch", [0, 4])
    def test_death_at_any_moment_tears_nothing(self, prefetch: int) -> None:
        """Children killed at random moments have given whole values in order, then an error."""
        dice = random.Random(prefetch)

        def blobs() -> Iterator[Any]:
            yield os.getpid()
            for n in itertools.count():
                yield n, bytes([n % 256]) * dice.choice([10, 5000, 300_000])

        for _ in range(10):
            with started(blobs, prefetch=prefetch) as generator:
                pid = generator.next()
                taken = [generator.next() for _ in range(dice.randrange(30))]
                os.kill(pid, signal.SIGKILL)
                with pytest.raises(RuntimeError):
                    taken.extend(generator)
                generator.join()
                assert generator.get_exit_status() == -signal.SIGKILL
            for n, (number, blob) in enumerate(taken):
                assert (number, blob) == (n, bytes([n % 256]) * len(blob))

    def test_death_of_an_idle_child_is_a_runtime_error(self) -> None:
        """A child killed while nobody asks is noticed by the next call."""

        def pids() -> Iterator[int]:
            while True:
                yield os.getpid()

        with started(pids) as generator:
            pid = generator.next()
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: is_gone(pid), "the child lives on")
            with pytest.raises(RuntimeError):
                generator.next(timeout=SOON)

    def test_ctrl_c_interrupts_it_and_nothing_is_lost(self, gate: Any) -> None:
        """KeyboardInterrupt leaves next at once; the value comes with a later call."""

        def late() -> Iterator[str]:
            gate.wait()
            yield "kept"

        with started(late) as generator:
            with pytest.raises(KeyboardInterrupt), signal_when_asleep():
                generator.next()
            gate.open()
            assert generator.next() == "kept"


signal_at_arrival = 0


class Arriving:
    """A number, on whose arrival a process can let itself be sent a signal."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Callable[[int], int], tuple[int]]:
        return arrived, (self.number,)


def arrived(number: int) -> int:
    if signal_at_arrival:
        os.kill(os.getpid(), signal_at_arrival)
    return number


class TestOnDemand:
    """prefetch: how far the child runs ahead."""

    @staticmethod
    def telling(seen: Channel) -> Callable[[], Iterator[Any]]:
        def f() -> Iterator[Any]:
            for n in itertools.count():
                seen.send_pyobj(n)
                yield Arriving(n)

        return f

    @staticmethod
    def drain(seen: Channel) -> list[int]:
        numbers = []
        try:
            while True:
                numbers.append(seen.receive_pyobj(False))
        except (IndexError, EOFError):
            return numbers

    def settle(self, seen: Channel, generator: Generator) -> list[int]:
        """Everything the child computes until it sleeps."""
        [pid] = children()
        numbers: list[int] = []

        def idle() -> bool:
            numbers.extend(self.drain(seen))
            return all(state(pid) == "S" for _ in range(50))

        wait_until(idle, "the child never sleeps")
        return numbers + self.drain(seen)

    def test_without_prefetch_nothing_is_computed_unasked(self) -> None:
        """With prefetch=0 the child computes exactly the values asked for."""
        with Channel() as seen, started(self.telling(seen)) as generator:
            assert self.settle(seen, generator) == []
            assert generator.next() == 0
            assert self.settle(seen, generator) == [0]
            assert [generator.next(), generator.next()] == [1, 2]
            assert self.settle(seen, generator) == [1, 2]

    @pytest.mark.parametrize("prefetch", [1, 3, 10])
    def test_with_prefetch_it_runs_n_ahead_and_never_more(self, prefetch: int) -> None:
        """With prefetch=n the child makes n values unasked, and is never further ahead."""
        with Channel() as seen, started(self.telling(seen), prefetch=prefetch) as generator:
            computed = self.settle(seen, generator)
            assert computed == list(range(prefetch))
            for n in range(5):
                assert generator.next() == n
                computed += self.settle(seen, generator)
                assert computed == list(range(len(computed)))
                assert prefetch <= len(computed) <= n + 1 + prefetch
            for n in range(5, 5 + 3 * prefetch):
                assert generator.next() == n
            assert len(computed + self.settle(seen, generator)) > 5 + 3 * prefetch

    @pytest.mark.parametrize("prefetch", [1, 4])
    def test_consumers_in_other_processes_take_no_credit_along(self, prefetch: int) -> None:
        """What they took is counted at once, also if they never come back."""
        with Channel() as seen, started(self.telling(seen), prefetch=prefetch) as generator:
            for n in range(3 * prefetch):
                with Thread(generator.next) as consumer:
                    consumer.start()
                    consumer.join()
                    assert consumer.get_result() == n
            computed = self.drain(seen) + self.settle(seen, generator)
            assert 3 * prefetch + (prefetch + 1) // 2 <= len(computed) <= 4 * prefetch

    @staticmethod
    def consumer_that(generator: Generator, number: int) -> Thread:
        """A started child that takes a value, and gets a signal before it has it."""

        def take() -> None:
            global signal_at_arrival
            signal_at_arrival = number
            generator.next()

        thread = Thread(take)
        thread.start()
        return thread

    @pytest.mark.parametrize("prefetch", [1, 2, 7])
    def test_consumers_killed_with_what_they_took_stop_nobody(self, prefetch: int) -> None:
        """They take no credit along: the child runs on at once, and as far ahead as before."""
        with Channel() as seen, started(self.telling(seen), prefetch=prefetch) as generator:
            for _ in range(prefetch):
                with self.consumer_that(generator, signal.SIGKILL) as consumer:
                    consumer.join()
            first = generator.next(timeout=SOON)
            rest = [generator.next(timeout=SOON) for _ in range(3 * prefetch)]
            assert [first, *rest] == list(range(first, first + 3 * prefetch + 1))
            assert first <= prefetch
            while generator.next(timeout=SOON) < 10 * prefetch:
                pass
            last = (self.drain(seen) + self.settle(seen, generator))[-1]
            assert 10 * prefetch + prefetch // 2 <= last <= 10 * prefetch + prefetch

    def test_a_consumer_that_goes_on_late_changes_nothing(self) -> None:
        """One that was only stopped does not make the child run further ahead."""
        with Channel() as seen, started(self.telling(seen), prefetch=1) as generator:
            with self.consumer_that(generator, signal.SIGSTOP) as consumer:
                wait_until(lambda: state(consumer.pid or 0) == "T", "the consumer is not stopped")
                assert generator.next(timeout=SOON) == 1
                consumer.kill(signal.SIGCONT)
                consumer.join()
            for n in range(2, 6):
                assert generator.next(timeout=SOON) == n
                assert (self.drain(seen) + self.settle(seen, generator))[-1] == n + 1

    def test_without_prefetch_a_killed_consumer_leaves_at_most_its_value(self) -> None:
        """What it had asked for is computed, and is the next consumer's; nobody waits for it."""
        with Channel() as seen, started(self.telling(seen)) as generator:
            for _ in range(3):
                with self.consumer_that(generator, signal.SIGKILL) as consumer:
                    consumer.join()
            values = [generator.next(timeout=SOON) for _ in range(5)]
            assert values == list(range(3, 8))
            computed = self.drain(seen) + self.settle(seen, generator)
            assert computed == list(range(8))

    def test_without_prefetch_one_killed_while_it_waits_leaves_a_value(self, gate: Any) -> None:
        """The known limit: the child stays one value ahead, and never more."""
        with Channel() as seen:

            def gated() -> Iterator[int]:
                for n in itertools.count():
                    seen.send_pyobj(n)
                    gate.wait()
                    yield n

            with started(gated) as generator:
                with Thread(generator.next) as consumer:
                    consumer.start()
                    assert seen.receive_pyobj(timeout=SOON) == 0
                    consumer.kill()
                    consumer.join()
                gate.open()
                for n in range(4):
                    assert generator.next(timeout=SOON) == n
                last = (self.drain(seen) + self.settle(seen, generator))[-1]
                assert last == 4

    def test_values_are_the_same_with_any_prefetch(self) -> None:
        """prefetch changes when values are made, not which."""
        for prefetch in (0, 1, 5, 1000):
            with started(up_to, args=(50,), prefetch=prefetch) as generator:
                assert list(generator) == list(range(50))

    def test_a_fast_endless_generator_that_nobody_reads_stays_bounded(self) -> None:
        """However fast the child, unread values do not pile up."""

        def blobs() -> Iterator[bytes]:
            while True:
                yield bytes(1 << 20)

        with started(blobs, prefetch=2) as generator:
            assert len(generator.next()) == 1 << 20
            [pid] = children()
            wait_until(lambda: all(state(pid) == "S" for _ in range(50)), "the child never sleeps")
            generator.join()


class TestIteration:
    """for value in generator."""

    def test_gives_all_values_and_ends(self) -> None:
        """The loop sees every value and ends with the generator."""
        with started(up_to, args=(100,)) as generator:
            assert list(generator) == list(range(100))

    def test_can_stop_and_go_on(self) -> None:
        """A second loop goes on where the first one stopped."""
        with started(up_to, args=(6,)) as generator:
            for value in generator:
                if value == 2:
                    break
            assert list(generator) == [3, 4, 5]

    def test_raises_what_the_generator_raised(self) -> None:
        """An exception ends the loop."""

        def fails() -> Iterator[int]:
            yield 1
            raise Complaint("in the loop")

        seen: list[int] = []
        with started(fails) as generator, pytest.raises(Complaint):
            seen.extend(generator)
        assert seen == [1]


class TestChaining:
    """Stages: one child consumes what another makes."""

    def test_a_generator_made_before_a_fork_can_be_consumed_in_another_child(self) -> None:
        """Three stages, each in its own process, make a pipeline."""

        def squares(source: Generator) -> Iterator[int]:
            for n in source:
                yield n * n

        def named(source: Generator) -> Iterator[str]:
            for n in source:
                yield f"<{n}>"

        numbers = started(up_to, args=(10,), prefetch=4)
        squared = started(squares, args=(numbers,), prefetch=4)
        last = started(named, args=(squared,), prefetch=4)
        with numbers, squared, last:
            assert list(last) == [f"<{n * n}>" for n in range(10)]

    def test_a_generator_can_be_consumed_by_a_thread(self) -> None:
        """A Thread's child takes values that the parent's generator makes."""
        with started(up_to, args=(20,)) as numbers, Thread(lambda: sum(numbers)) as thread:
            thread.start()
            thread.join()
            assert thread.get_result() == sum(range(20))

    def test_a_channel_made_before_a_fork_feeds_another_child(self) -> None:
        """A channel connects two children of one parent."""
        with Channel() as channel:
            sender = Thread(lambda: [channel.send_pyobj(n) for n in range(10)])
            receiver = Thread(lambda: [channel.receive_pyobj() for _ in range(10)])
            with sender, receiver:
                sender.start()
                receiver.start()
                receiver.join()
                assert receiver.get_result() == list(range(10))
                sender.join()

    def test_the_parent_can_join_what_another_child_consumed(self) -> None:
        """The parent, who owns the generator, joins it after others took its values."""
        with started(up_to, args=(3,)) as numbers:
            with Thread(lambda: list(numbers)) as thread:
                thread.start()
                thread.join()
                assert thread.get_result() == [0, 1, 2]
            numbers.join()
            assert numbers.get_exit_status() == 0


class TestJoin:
    """Generator.join()."""

    @pytest.mark.parametrize("taken", [0, 1, 5])
    @pytest.mark.parametrize("prefetch", [0, 3])
    def test_stops_a_generator_wherever_it_is(self, taken: int, prefetch: int) -> None:
        """An endless generator ends with status 0, whatever was taken."""
        with started(counting, prefetch=prefetch) as generator:
            for _ in range(taken):
                generator.next()
            generator.join()
            assert generator.get_exit_status() == 0
            assert not children()

    def test_runs_finally_blocks_in_the_child(self) -> None:
        """The child closes its generator: finally runs, then extract."""

        def tidy() -> Iterator[int]:
            global total
            try:
                while True:
                    yield 1
            finally:
                total = 5

        with started(tidy, keep_total, add_total) as generator:
            generator.next()
            generator.join()
        assert (total, merges) == (5, 1)

    def test_merges_what_was_computed_on_demand(self) -> None:
        """The globals merged are those after the values asked for, no more."""
        with started(counting, keep_total, add_total) as generator:
            assert [generator.next() for _ in range(3)] == [1, 2, 3]
            generator.join()
        assert (total, merges) == (3, 1)

    def test_merges_of_a_generator_that_ran_to_its_end(self) -> None:
        """An exhausted generator merges at join, once."""

        def some() -> Iterator[int]:
            global total
            total = 4
            yield 1

        with started(some, keep_total, add_total) as generator:
            assert list(generator) == [1]
            assert merges == 0
            generator.join()
            generator.join()
            assert generator.try_join()
        assert (total, merges) == (4, 1)

    def test_merges_of_a_generator_that_raised(self) -> None:
        """An exception out of the generator does not stop the merge."""

        def fails() -> Iterator[int]:
            global total
            total = 2
            raise Complaint("x")
            yield 1

        with started(fails, keep_total, add_total) as generator:
            with pytest.raises(Complaint):
                generator.next()
            generator.join()
        assert (total, merges) == (2, 1)

    def test_with_an_unanswered_request_drops_the_answer(self, make_gate: Any) -> None:
        """join after a next(False) that came too early ends, and merges."""
        begun, gate = make_gate(), make_gate()

        def late() -> Iterator[int]:
            global total
            begun.open()
            gate.wait()
            total = 1
            yield 1
            total = 2
            yield 2

        with started(late, keep_total, add_total) as generator:
            with pytest.raises(IndexError):
                generator.next(False)
            begun.wait()
            gate.open()
            generator.join()
            assert generator.get_exit_status() == 0
        assert (total, merges) == (1, 1)

    def test_computes_nothing_more_once_it_was_asked_to_stop(self, gate: Any) -> None:
        """However much credit its consumers have given back, it ends at its next yield."""

        def slow() -> Iterator[int]:
            yield from range(4)
            for n in itertools.count(4):
                computed.send_pyobj(n)
                gate.wait()
                yield n

        def take_four() -> list[int]:
            return [generator.next() for _ in range(4)]

        with Channel() as computed, started(slow, prefetch=4) as generator:
            with Thread(take_four) as thread:
                thread.start()
                thread.join()
                assert thread.get_result() == [0, 1, 2, 3]
            assert computed.receive_pyobj() == 4
            with pytest.raises(TimeoutError):
                generator.join(timeout=0.02)
            gate.open()
            generator.join()
            assert generator.get_exit_status() == 0
            with pytest.raises((IndexError, EOFError)):
                computed.receive_pyobj(False)

    def test_drops_values_not_taken(self) -> None:
        """Values computed ahead and never taken are dropped, large ones too."""

        def blobs() -> Iterator[bytes]:
            while True:
                yield bytes(4 << 20)

        with started(blobs, prefetch=3) as generator:
            generator.next()
            generator.join()
            assert generator.get_exit_status() == 0

    def test_timeout_raises_and_leaves_it_joinable(self, make_gate: Any) -> None:
        """A body that does not come to its next yield in time is a TimeoutError."""
        begun, gate = make_gate(), make_gate()

        with held_up(begun, gate) as generator:
            with pytest.raises(TimeoutError):
                generator.join(timeout=0.02)
            gate.open()
            generator.join(timeout=SOON)
            assert generator.get_exit_status() == 0

    def test_before_start_is_refused(self) -> None:
        """What was not started cannot be joined: RuntimeError."""
        with Generator(counting) as generator, pytest.raises(RuntimeError) as caught:
            generator.join()
        assert isinstance(caught.value, SnakefishError)

    def test_again_is_a_no_op(self) -> None:
        """Every later join returns at once."""
        with started(counting) as generator:
            generator.join()
            generator.join()

    def test_ctrl_c_interrupts_it(self, make_gate: Any) -> None:
        """KeyboardInterrupt leaves join at once; it can be joined again."""
        begun, gate = make_gate(), make_gate()

        with held_up(begun, gate) as generator:
            with pytest.raises(KeyboardInterrupt), signal_when_asleep():
                generator.join()
            gate.open()
            generator.join()
            assert generator.get_exit_status() == 0

    def test_extract_that_cannot_be_pickled(self) -> None:
        """The error of extract's pickle comes from join, and nothing is merged."""
        generator = started(counting, lambda namespace: {"x": FailsToPickle()}, add_total)
        with generator, pytest.raises((ZeroDivisionError, RuntimeError)):
            generator.join()
        assert merges == 0

    def test_merge_that_raises(self) -> None:
        """merge's error comes from join; the generator counts as joined."""
        with started(counting, keep_total, lambda mine, theirs: 1 // 0) as generator:
            with pytest.raises(ZeroDivisionError):
                generator.join()
            generator.join()
            assert generator.try_join()

    def test_from_the_child_is_refused(self) -> None:
        """Who inherited a generator may consume it, not join it: RuntimeError."""
        with started(counting) as generator:

            def try_it() -> str:
                try:
                    generator.join(timeout=SOON)
                except RuntimeError:
                    return "refused"
                return "joined"

            with Thread(try_it) as thread:
                thread.start()
                thread.join()
                assert thread.get_result() == "refused"
            assert generator.next() == 1


class TestTryJoin:
    """Generator.try_join()."""

    def test_does_not_stop_it(self) -> None:
        """A generator with values to give is False and goes on giving them."""
        with started(counting) as generator:
            for n in range(1, 4):
                assert generator.try_join() is False
                assert generator.next() == n

    def test_true_once_it_is_exhausted(self) -> None:
        """After its last value the generator ends, is joined and merged."""
        with started(counting_to_two, keep_total, add_total) as generator:
            assert list(generator) == [1, 2]
            wait_until(generator.try_join, "the child goes on")
            assert generator.get_exit_status() == 0
            assert (total, merges) == (2, 1)
            assert generator.try_join() is True

    def test_before_start_is_refused(self) -> None:
        """What was not started cannot be joined: RuntimeError."""
        with Generator(counting) as generator, pytest.raises(RuntimeError):
            generator.try_join()


def counting_to_two() -> Iterator[int]:
    global total
    for _ in range(2):
        total += 1
        yield total


class TestGetExitStatus:
    """Generator.get_exit_status()."""

    def test_zero_after_exhaustion(self) -> None:
        """A generator that ran to its end has status 0."""
        with started(up_to, args=(2,)) as generator:
            list(generator)
            generator.join()
            assert generator.get_exit_status() == 0

    @pytest.mark.parametrize("code", [0, 3])
    def test_the_code_after_os_exit(self, code: int) -> None:
        """os._exit(n) in the generator is status n, and next is a RuntimeError."""

        def leaves() -> Iterator[int]:
            os._exit(code)
            yield 1

        with started(leaves) as generator:
            with pytest.raises(RuntimeError):
                generator.next()
            generator.join()
            assert generator.get_exit_status() == code

    def test_before_start_and_before_join_is_refused(self) -> None:
        """Until it is joined there is no status: RuntimeError."""
        with Generator(counting) as generator:
            with pytest.raises(RuntimeError):
                generator.get_exit_status()
            generator.start()
            with pytest.raises(RuntimeError):
                generator.get_exit_status()


class TestDispose:
    """Generator.dispose()."""

    def states(self) -> Iterator[Generator]:
        yield Generator(counting)
        yield started(counting)
        halfway = started(counting, prefetch=2)
        halfway.next()
        yield halfway
        exhausted = started(up_to, args=(0,))
        list(exhausted)
        yield exhausted
        joined = started(counting)
        joined.join()
        yield joined

    def test_releases_everything_at_any_time_any_number_of_times(self) -> None:
        """In every state nothing is left of it, and later disposes do nothing."""
        before = open_descriptors(), shared_mappings()
        for generator in self.states():
            for _ in range(3):
                generator.dispose()
            assert not children()
            assert (open_descriptors(), shared_mappings()) == before

    @pytest.mark.parametrize("method", ["start", "next", "join", "try_join", "get_exit_status"])
    def test_afterwards_every_method_is_refused(self, method: str) -> None:
        """On a disposed generator every method but dispose raises RuntimeError."""
        for generator in self.states():
            generator.dispose()
            with pytest.raises(RuntimeError) as caught:
                getattr(generator, method)()
            assert isinstance(caught.value, SnakefishError)

    def test_kills_a_child_in_the_middle_of_its_work(self) -> None:
        """A child that will never yield is killed and reaped."""

        def endless() -> Iterator[NoReturn]:
            while True:
                signal.pause()
            yield

        generator = started(endless)
        with pytest.raises(IndexError):
            generator.next(False)
        generator.dispose()
        assert not children()

    def test_with_disposes_at_the_end(self) -> None:
        """Leaving the with block kills, reaps and releases."""
        with started(counting) as generator:
            generator.next()
        assert not children()

    def test_in_a_child_disturbs_nobody(self) -> None:
        """A child's dispose of its copy leaves the parent's generator running."""
        with started(counting) as generator:
            with Thread(generator.dispose) as thread:
                thread.start()
                thread.join()
                thread.get_result()
            assert generator.next() == 1

    def test_forgotten_generators_leave_nothing(self) -> None:
        """Garbage in every state is cleaned up without dispose."""
        for generator in self.states():
            del generator
        wait_until(lambda: (gc.collect(), not children())[1], "forgotten children live")


class TestPickling:
    """A Generator is inherited, never sent."""

    def test_is_refused(self) -> None:
        """A generator cannot be pickled: TypeError."""
        with Generator(counting) as generator, pytest.raises(TypeError):
            pickle.dumps(generator)


class TestRepr:
    """repr(generator)."""

    def test_shows_the_state(self) -> None:
        """Unstarted, running, joined and disposed look different."""
        generator = Generator(counting)
        shown = [repr(generator)]
        generator.start()
        shown.append(repr(generator))
        generator.join()
        shown.append(repr(generator))
        generator.dispose()
        shown.append(repr(generator))
        assert len(set(shown)) == 4
