# SPDX-License-Identifier: MIT
"""A Python generator that runs in a child process.

    consumers ---- requests ----> child        the tag says how many values are asked
                                               for, or 0: stop, or 255: a reminder
    consumers <---- values ------ child        values, then one END message

The child holds a credit: how many values it may still compute. It starts with
`prefetch`, every request adds to it, and without any it waits. With prefetch 0
a consumer asks for each value as it wants it; else it gives back, in batches,
the credit of the values it has taken. Either way the child is never further
ahead than `prefetch` values.

A consumer that is killed between taking a value and giving back its credit
takes the credit along. So one that has waited for a while reminds the child; if
the child has no credit, nothing waits, and nothing was sent since that consumer
began to wait, then all credit is lost or in the hands of consumers that do not
want anything now. The child begins a new round, with all credit: values carry
the round in which they were sent, and credit of an earlier one is void.

With prefetch 0 a consumer that is killed while it waits leaves its wish behind,
and the value stays for the next one, whose own wish then is one too many. To
take it back would need to know whether the dead one had taken its value, or
somebody else's: only the channel knows how many values were taken, and it does
not tell.

Consumers may be in any process that inherited the object, and in many threads;
joining is for the process that made it.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import operator
import os
import signal
import struct
import sys
import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Callable

from snakefish._call import bound_call, is_generator_function
from snakefish._child import capture
from snakefish._clock import FOREVER, NOW, deadline_after, has_passed, monotonic_ns
from snakefish._codec import Received, encode
from snakefish._errors import (
    ChannelAbandonedError,
    ChannelBrokenError,
    ChannelEmptyError,
    ChannelEndError,
    ChannelFullError,
    ChildDiedError,
    MisuseError,
    WaitTimeoutError,
)
from snakefish._job import Job
from snakefish._merging import Extract, Merge
from snakefish._outcome import END, EXTRACTED, RAISED, Outcome, value_of
from snakefish._process import STARTED, State
from snakefish._queue import MessageQueue
from snakefish._resource import Resource
from snakefish._returns import returns

if TYPE_CHECKING:
    from snakefish._sharing import OnError, Share

_STOP = 0
_REMINDER = 255
_MOST = 254  # a tag is a byte
_ROUND = EXTRACTED  # a bit of the tag that has no other use among values
_PATIENCE_NS = 100_000_000
_REQUESTS_CAPACITY = 1 << 20
_VALUES_CAPACITY = 2 << 30

_TIME = struct.Struct("<q")

_numbers = itertools.count(1)


class Generator(Resource):
    """A generator function *f* that runs in parallel, in a child forked for it.

    >>> from snakefish import Generator
    >>> def squares():
    ...     for n in range(3):
    ...         yield n * n
    >>> with Generator(squares) as generator:
    ...     generator.start()
    ...     list(generator)
    [0, 1, 4]

    With *prefetch* 0 the child computes only what is asked for; with n it runs
    up to n values ahead of its consumer, which is what makes the stages of a
    pipeline run in parallel. A Generator can be consumed in other children too,
    if it was started before they were:

    >>> def successors():
    ...     for n in first:
    ...         yield n + 1
    >>> with Generator(squares, prefetch=8) as first, Generator(successors) as second:
    ...     first.start()
    ...     second.start()
    ...     list(second)
    [1, 2, 5]

    *extract*, *merge*, *args*, *kwargs*, *name*, *share* and *on_error* are those of
    Thread; what is shared comes back at the join.

    >>> total = 0
    >>> def summed():
    ...     global total
    ...     for n in range(4):
    ...         total += n
    ...         yield n
    >>> with Generator(summed, share="total") as generator:
    ...     generator.start()
    ...     print(list(generator))
    ...     generator.join()
    [0, 1, 2, 3]
    >>> total
    6

    Raises:
        RuntimeError: *f* is not a generator function.
        TypeError: *f* is not callable or does not take these arguments, one of
            *extract* and *merge* is missing, *prefetch* is not an integer, or *share*
            is no declaration, or a value is not for its merge.
        NameError: A variable to share does not exist.
        ValueError: *prefetch* is negative, or *on_error* is none of the three.
    """

    def __init__(
        self,
        f: Callable[..., Any],
        extract: Extract | None = None,
        merge: Merge | None = None,
        *,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        prefetch: int = 0,
        share: Share = None,
        on_error: OnError = "sequential",
    ) -> None:
        if callable(f) and not is_generator_function(f):
            raise MisuseError(f"a generator function is needed, not {f!r}")
        self._call: Any = bound_call(f, args, kwargs)
        self._prefetch = operator.index(prefetch)
        if self._prefetch < 0:
            raise ValueError(f"prefetch must not be negative, like {prefetch}")
        caller = sys._getframe(1).f_globals
        plan = returns(f, extract, merge, share, on_error, caller)
        self._job = Job(name or f"Generator-{next(_numbers)}", plan)
        self._stream: _Stream | None = None

    def start(self) -> None:
        """Fork the child that runs the generator.

        Raises:
            RuntimeError: It was started before, or the fork failed; after a
                failed fork it can be started again.
            TypeError: A shared variable holds what its merge cannot copy.
            ForkSafetyWarning: Other threads run, and warnings are errors; it can
                be started again.
        """
        self._job.process.require(State.NEW)
        stream = _Stream(self._prefetch)
        try:
            self._job.start(functools.partial(stream.produce, self._call), (stream.values,))
        except BaseException:
            stream.release()
            raise
        self._stream = stream  # only now: of threads that start it at once, one succeeds

    # -------------------------------------------------------------- consuming

    def next(self, block: bool = True, timeout: float | None = None) -> Any:
        """Return the next value.

        Without *block* it must be there; what is missing has then been asked for
        and is what a later call gets. In any process that inherited the object.

        >>> def one():
        ...     yield 1
        ...     return "done"
        >>> with Generator(one) as generator:
        ...     generator.start()
        ...     generator.next()
        ...     generator.next()
        Traceback (most recent call last):
            ...
        StopIteration: done

        Raises:
            StopIteration: The generator is exhausted; with the value that it
                returned, the first time.
            IndexError: The value is not ready, and *block* is false.
            TimeoutError: It was not ready within *timeout* seconds.
            RuntimeError: It was not started, or is disposed, or the child was
                killed.
            Whatever the generator raised.
        """
        stream = self._started_stream()
        try:
            received = stream.next(deadline_after(timeout) if block else NOW)
        except ChannelAbandonedError:
            death = self._death()
            raise death from death.__cause__
        except ChannelEndError:
            raise StopIteration from None
        if received is None:
            if block:
                raise WaitTimeoutError(f"no value within {timeout} seconds")
            raise ChannelEmptyError("the next value is not ready")
        try:
            return _item(*received)
        except KeyboardInterrupt:
            stream.values.put_back(*received)
            raise

    def __iter__(self) -> Generator:
        return self

    def __next__(self) -> Any:
        return self.next()

    def _started_stream(self) -> _Stream:
        process = self._job.process
        if self._stream is None or process.state is State.DISPOSED:
            sentence = "disposed" if process.state is State.DISPOSED else "not been started"
            raise MisuseError(f"{process.name} has {sentence}")
        return self._stream

    def _death(self) -> ChildDiedError:
        """Return how the child ended, as far as this process can know it."""
        process = self._job.process
        if not process.is_owned():
            return ChildDiedError(f"{process} died before it had a next value")
        process.wait(FOREVER)  # it has died: its end is a matter of microseconds
        return process.death("before it had a next value")

    # ---------------------------------------------------------------- joining

    def join(self, timeout: float | None = None) -> None:
        """Stop the generator, wait until the child has ended, then merge.

        The child closes the generator when it comes to its next `yield`, so its
        `finally` blocks run. Values not taken are dropped.

        >>> import itertools
        >>> def endless():
        ...     yield from itertools.count()
        >>> with Generator(endless) as generator:
        ...     generator.start()
        ...     generator.next(), generator.next()
        ...     generator.join()
        ...     generator.get_exit_status()
        (0, 1)
        0

        Raises:
            RuntimeError: It was not started, or waiting failed, or a signal
                handler wants to wait for the join that it interrupts.
            TimeoutError: It has not ended within *timeout* seconds; it can be
                joined again.
            MergeConflict: The child and others changed the same of a shared variable.
            TypeError: What the child did to a shared variable is not what its merge is
                for, or cannot be pickled.
            Whatever *extract* raised or *merge* raises. It counts as joined then, and
            after the two above: nothing of the child is shared.
        """
        deadline = deadline_after(timeout)
        self._job.process.require(*STARTED)
        if not self._started_stream().stop(deadline) or not self._job.join(deadline):
            raise WaitTimeoutError(f"{self._job.process} has not ended within {timeout} seconds")
        self._job.warn_of_lost()

    def try_join(self) -> bool:
        """Join if the generator has ended by itself; return whether it is joined.

        The values that it has produced can still be taken.

        Raises:
            The same as `join`, but no TimeoutError.
        """
        joined = self._job.join(NOW)
        self._job.warn_of_lost()
        return joined

    def is_alive(self) -> bool:
        """Return whether the child was started and has not ended, joined or not.

        Raises:
            RuntimeError: It is disposed, or belongs to another process.
        """
        return self._job.is_alive()

    def get_exit_status(self) -> int:
        """Return the exit status of the child, -N if signal N has killed it.

        Raises:
            RuntimeError: It is not joined, or somebody else took the status.
        """
        return self._job.exit_status()

    def kill(self, signal_number: int = signal.SIGKILL) -> None:
        """Send a signal to the child; nothing happens if it has ended.

        Raises:
            RuntimeError: It was not started, or is disposed.
            ValueError: There is no such signal.
        """
        self._job.process.require(*STARTED)
        self._job.process.kill(signal_number)

    def fileno(self) -> int:
        """Return a descriptor that is readable once the child has ended.

        Raises:
            RuntimeError: It was not started, or is disposed.
        """
        self._job.process.require(*STARTED)
        return self._job.process.fileno()

    @property
    def pid(self) -> int | None:
        """The process id of the child, None before the start."""
        return self._job.process.pid

    @property
    def name(self) -> str:
        """The name given, or one made up."""
        return self._job.process.name

    def dispose(self) -> None:
        """Release everything; at any time, any number of times.

        A child that still runs is killed and reaped. In a child that inherited
        the object only its own copy is released.

        Raises:
            Nothing.
        """
        self._job.dispose()
        self._call = None
        if self._stream is not None:
            self._stream.release()

    def __repr__(self) -> str:
        return f"<snakefish.Generator {self._job.process}>"


def _item(tag: int, data: Received) -> Any:
    """Return the value that a message carries, or raise the end that it means."""
    value = value_of(tag, data)
    if tag & END:
        raise StopIteration(value)
    return value


class _Stream:
    """The two queues between a generator's child and its consumers."""

    def __init__(self, prefetch: int) -> None:
        self.values = MessageQueue(_VALUES_CAPACITY, shrink=True, bound=True)
        self._requests = MessageQueue(_REQUESTS_CAPACITY)
        self._prefetch = prefetch
        self._demand = _Demand(self._requests, prefetch)
        self._round = 0
        self._over = False

    # ------------------------------------------------------------- in the child

    def produce(self, call: Callable[[], Any]) -> Outcome:
        """Run the generator, as asked; send its values, and its end as the last one."""
        end = capture(self._serve, call)
        self.values.send(end.tag | END, end.data, FOREVER)
        self.values.close()
        return Outcome(end.tag & RAISED, b"", end.status)

    def _serve(self, call: Callable[[], Any]) -> Any:
        credit = self._prefetch
        with contextlib.closing(call()) as generator:
            while True:
                granted = self._granted(credit == 0)
                if granted is None:
                    return None
                credit += granted
                try:
                    value = next(generator)
                except StopIteration as end:
                    return end.value
                tag, data = encode(value)
                self.values.send(tag | self._round, data, FOREVER)
                credit -= 1

    def _granted(self, wait: bool) -> int | None:
        """Return the credit that was granted meanwhile; None means stop.

        Without prefetch a request is a wish, met before a stop that came after
        it. With prefetch it is mere credit, which a stop cancels.
        """
        granted = 0
        waiting_since = monotonic_ns() if wait else FOREVER
        try:
            while True:
                received = self._requests.receive(FOREVER if wait and not granted else NOW)
                if received is None:
                    return granted
                tag, data = received
                if tag == _STOP:
                    return None
                if tag == _REMINDER:
                    if not granted and _TIME.unpack(data)[0] > waiting_since:
                        granted = self._new_round()
                elif data[0] == self._round:
                    granted += tag
                if granted and not self._prefetch:
                    return granted
        except ChannelEndError:  # nobody is left to consume anything
            return None

    def _new_round(self) -> int:
        """Return all the credit there is, if there is none anywhere but with the dead and idle."""
        if self.values.used:
            return 0
        self._round ^= _ROUND
        return self._prefetch

    # ------------------------------------------------------------ in a consumer

    def next(self, deadline: int) -> tuple[int, Received] | None:
        """Return the next message, None if there is none in time.

        Raises:
            ChannelEndError: There was an END message before.
            ChannelAbandonedError: The child died before it sent one.
        """
        if self._over:
            raise ChannelEndError
        if self._demand.pid != os.getpid():
            self._demand = _Demand(self._requests, self._prefetch, batch=1)
        with self._demand as demand:
            received = self.values.receive(NOW if demand.runs_ahead else deadline)
            if received is None and demand.runs_ahead:
                demand.flush()
                received = self._receive_patiently(deadline)
            if received is not None:
                self._over = bool(received[0] & END)
                self._acknowledge(demand, received)
        return received

    def _acknowledge(self, demand: _Demand, received: tuple[int, Received]) -> None:
        """Tell *demand* of a message; one that a Ctrl-C keeps from its taker is put back."""
        try:
            demand.satisfied(received[0] & _ROUND)
        except BaseException:
            self._over = False
            self.values.put_back(*received)
            raise

    def _receive_patiently(self, deadline: int) -> tuple[int, Received] | None:
        """Return the next message, None if there is none in time; remind the child meanwhile."""
        while True:
            begin = monotonic_ns()
            received = self.values.receive(min(deadline, begin + _PATIENCE_NS))
            if received is not None or has_passed(deadline):
                return received
            self._demand.remind(begin)

    def stop(self, deadline: int) -> bool:
        """Ask the child to end and drop its values; False if *deadline* came first."""
        with contextlib.suppress(ChannelBrokenError, ChannelFullError):
            self._requests.send(_STOP, b"", NOW)
        with contextlib.suppress(ChannelEndError):
            while self.values.receive(deadline) is not None:
                pass
            return False
        self._over = True
        return True

    def release(self) -> None:
        """Leave both queues."""
        self.values.release()
        self._requests.release()


class _Demand:
    """What this process has asked the child for; for all threads together.

    With a prefetch, `owed` counts the values taken whose credit was not given
    back yet. In a process other than the maker's it is given back at once: one
    that stops consuming must not take credit from the rest.

    Without, `asked` counts the values on their way, and each thread in `next`
    is waiting for one of them.
    """

    def __init__(self, requests: MessageQueue, prefetch: int, batch: int = _MOST) -> None:
        self.pid = os.getpid()
        self.runs_ahead = prefetch > 0
        self._requests = requests
        self._batch = max(1, min(prefetch // 2, batch))
        self._lock = threading.Lock()
        self._owed = self._asked = self._waiting = self._round = 0

    def __enter__(self) -> _Demand:
        if not self.runs_ahead:
            with self._lock:
                self._waiting += 1
                missing = self._waiting - self._asked
                if missing > 0:
                    self._requests.send(missing, bytes(1), NOW)
                    self._asked += missing
        return self

    def __exit__(self, *_: object) -> None:
        if not self.runs_ahead:
            with self._lock:
                self._waiting -= 1

    def satisfied(self, current_round: int) -> None:
        """Note that a value was taken, which was sent in this round."""
        with self._lock:
            if not self.runs_ahead:
                self._asked -= 1
                return
            if self._round != current_round:
                self._round, self._owed = current_round, 0
            self._owed += 1
            if self._owed < self._batch:
                return
        self.flush()

    def flush(self) -> None:
        """Give back all the credit that is owed."""
        with self._lock:
            if self._owed:
                self._requests.send(self._owed, bytes((self._round,)), NOW)
                self._owed = 0

    def remind(self, waiting_since: int) -> None:
        """Tell the child that a value is waited for, unless it has not read everything yet."""
        self.flush()  # another thread may have left some
        if not self._requests.used:
            with contextlib.suppress(ChannelBrokenError):
                self._requests.send(_REMINDER, _TIME.pack(waiting_since), NOW)
