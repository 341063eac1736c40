# SPDX-License-Identifier: MIT
"""A Python generator that runs in a child process.

    consumers ---- requests ----> child        how many values are asked for, or
                                               stop; with prefetch 0
    consumers <---- values ------ child        values, then one END message

With prefetch 0 the child waits for requests, and a consumer asks for each value
as it wants it. Else nothing is asked for: the child sees in the queue of values
how many of them were taken, sleeps when it is as far ahead as it may be, and
stops when somebody closes the queue.

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
import sys
import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Callable, NoReturn

from snakefish._child import capture
from snakefish._clock import FOREVER, NOW, deadline_after
from snakefish._codec import DECODERS, ENCODING, Received, decode, encode
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
from snakefish._outcome import END, RAISED, Outcome, exception_of
from snakefish._process import STARTED, State
from snakefish._queue import MessageQueue
from snakefish._resource import Resource
from snakefish._returns import returns
from snakefish._signature import bound_call, is_generator_function

if TYPE_CHECKING:
    from snakefish._sharing import OnError, Share

_STOP = 0
_REQUESTS_CAPACITY = 1 << 20
_VALUES_CAPACITY = 2 << 30

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
    pipeline run in parallel. Where stages have to share processors, let it be as
    many values as take some milliseconds to make: the system moves processes from
    one to another no faster. A Generator can be consumed in other children too, if
    it was started before they were:

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
        stream = self._stream or self._started_stream()
        try:
            received = stream.receive(deadline_after(timeout) if block else NOW)
        except ChannelEndError as error:
            _raise(self._end(stream, error))
        if received is None:
            if block:
                raise WaitTimeoutError(f"no value within {timeout} seconds")
            raise ChannelEmptyError("the next value is not ready")
        tag, data = received
        if tag & END:
            _raise(stream.end(tag, data))
        try:
            return DECODERS[tag & ENCODING](data)
        except KeyboardInterrupt:
            stream.values.put_back(tag, data)
            raise

    __next__ = next  # noqa: A003 - the method, without a call of its own

    def __iter__(self) -> Generator:
        return self

    def _started_stream(self) -> _Stream:
        if self._stream is None:
            process = self._job.process
            sentence = "been disposed" if process.state is State.DISPOSED else "not been started"
            raise MisuseError(f"{process.name} has {sentence}")
        return self._stream

    def _end(self, stream: _Stream, error: ChannelEndError) -> BaseException:
        if stream.is_over or not isinstance(error, ChannelAbandonedError):
            return StopIteration()
        return self._death()

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
            self._stream = None

    def __repr__(self) -> str:
        return f"<snakefish.Generator {self._job.process}>"


def _raise(end: BaseException) -> NoReturn:
    try:
        raise end from end.__cause__
    finally:
        del end  # it keeps this frame


class _Stream:
    """The values between a generator's child and its consumers, and what paces the child."""

    def __init__(self, prefetch: int) -> None:
        self.values = MessageQueue(_VALUES_CAPACITY, shrink=True, bound=True)
        self._pace: _Ahead | _OnDemand = (
            _Ahead(self.values, prefetch) if prefetch else _OnDemand(self.values)
        )
        self.receive = self._pace.receive
        self.is_over = False

    # ------------------------------------------------------------- in the child

    def produce(self, call: Callable[[], Any]) -> Outcome:
        """Run the generator, as asked; send its values, and its end as the last one."""
        end = capture(self._serve, call)
        with contextlib.suppress(ChannelBrokenError):  # it was stopped
            self.values.send(end.tag | END, end.data, FOREVER)
        self.values.close()
        return Outcome(end.tag & RAISED, b"", end.status)

    def _serve(self, call: Callable[[], Any]) -> Any:
        wanted, send = self._pace.wanted, self.values.send
        with contextlib.closing(call()) as generator:
            for count in iter(wanted, 0):
                for _ in range(count):
                    try:
                        value = next(generator)
                    except StopIteration as end:
                        return end.value
                    tag, data = encode(value)
                    try:
                        send(tag, data, FOREVER)
                    except ChannelBrokenError:  # it was stopped
                        return None
        return None

    # ------------------------------------------------------------ in a consumer

    def end(self, tag: int, data: Received) -> BaseException:
        """Return the exception that the END message means."""
        try:
            self.is_over = True
            return exception_of(data) if tag & RAISED else StopIteration(decode(tag, data))
        except KeyboardInterrupt:
            self.is_over = False
            self.values.put_back(tag, data)
            raise

    def stop(self, deadline: int) -> bool:
        """Ask the child to end and drop its values; False if *deadline* came first."""
        self._pace.stop()
        with contextlib.suppress(ChannelEndError):
            while self.values.receive(deadline) is not None:
                pass
            return False
        self.is_over = True
        return True

    def release(self) -> None:
        """Leave the values, and what paces the child."""
        self.values.release()
        self._pace.release()


class _Ahead:
    """The pace of a child that may run ahead of what was taken."""

    def __init__(self, values: MessageQueue, prefetch: int) -> None:
        self.receive = values.receive
        self._values = values
        self._prefetch = prefetch

    def wanted(self) -> int:
        """Wait until it may go on; return by how many values, 0 to stop."""
        try:
            return self._values.pace(self._prefetch, FOREVER)
        except ChannelBrokenError:
            return 0

    def stop(self) -> None:
        """Let no more values be sent."""
        self._values.close()

    def release(self) -> None:
        """Nothing to do: the queue is not its own."""


class _OnDemand:
    """The pace of a child that computes what is asked for.

    In a consumer all threads of the process ask together: `asked` counts the values
    on their way, and each thread in `receive` is waiting for one of them.
    """

    def __init__(self, values: MessageQueue) -> None:
        self._values = values
        self._requests = MessageQueue(_REQUESTS_CAPACITY)
        self._begin()

    def _begin(self) -> None:
        """Start afresh: what another process asked for is not ours."""
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._asked = self._waiting = 0

    def wanted(self) -> int:
        """Wait for wishes, which are met before a stop that comes after them; return how many."""
        with contextlib.suppress(ChannelEndError):  # nobody is left to consume anything
            request = self._requests.receive(FOREVER)
            return request[0] if request is not None else _STOP
        return _STOP

    def receive(self, deadline: int) -> tuple[int, Received] | None:
        """Ask for a value, if more wait than are on their way, and wait for one."""
        if self._pid != os.getpid():
            self._begin()
        self._ask()
        received = None
        try:
            received = self._values.receive(deadline)
        finally:
            self._note(received)
        return received

    def _ask(self) -> None:
        with self._lock:
            self._waiting += 1
            missing = self._waiting - self._asked
            if missing > 0:
                self._requests.send(missing, b"", NOW)
                self._asked += missing

    def _note(self, received: tuple[int, Received] | None) -> None:
        """Note that a thread waits no more, and whether it has one of the values asked for."""
        try:
            with self._lock:
                self._waiting -= 1
                self._asked -= received is not None
        except BaseException:  # a Ctrl-C, which keeps it from its taker
            if received is not None:
                self._values.put_back(*received)
            raise

    def stop(self) -> None:
        """Let the child end when it has met the wishes of before."""
        with contextlib.suppress(ChannelBrokenError, ChannelFullError):
            self._requests.send(_STOP, b"", NOW)

    def release(self) -> None:
        """Leave the requests."""
        self._requests.release()
