# SPDX-License-Identifier: MIT
"""map without merging: workers that take items from a shared counter.

    counter --- ranges of indices --> workers --- blocks, failures --> parent

Workers inherit the items and take as many at a time as last some milliseconds,
so that an expensive item holds up nobody and a cheap one costs little. Each take
ends in a message, for which the parent wakes, and as a rule it wakes on a core
that a worker was using. The counter hands out indices in order: when an item fails, all items
before it are done or in somebody's hands, and the parent waits for those and
for nothing else. So the failure with the lowest index wins, whoever is first.
"""

from __future__ import annotations

import contextlib
import functools
import struct
from typing import Any

from snakefish import _child
from snakefish._clock import FOREVER, NOW, has_passed, monotonic_ns
from snakefish._codec import Received, decode, encode
from snakefish._counter import Counter
from snakefish._errors import ChannelEndError, ChildDiedError, WaitTimeoutError
from snakefish._lost_writes import LostWrite, Watch, abandoned, warn_of
from snakefish._outcome import RAISED, SHARED, Outcome, exception_of, raised
from snakefish._process import ChildProcess, abandon_unjoined
from snakefish._queue import MessageQueue
from snakefish._task import Task, presentable

_CAPACITY = 64 << 30
_TAKE_NS = 4_000_000
_GROWTH = 8
_FAILURE = struct.Struct("<qq")
_FIRST = struct.Struct("<q")


def run(task: Task, watch: Watch | None) -> list[Any]:
    """Return the results of a *task*, in the order of its items.

    Raises:
        Whatever the function raised for the first item for which it raised.
        ChildDiedError: A worker ended before its work.
        WaitTimeoutError: The deadline came first.
        StartError: A worker could not be forked.
    """
    crew = _Crew(task, watch)
    try:
        crew.start()
        return crew.results()
    finally:
        crew.dismiss()


class _Crew:
    """The workers of one call, and what they have delivered."""

    def __init__(self, task: Task, watch: Watch | None) -> None:
        count = len(task.items)
        self._task = task
        self._watch = watch
        self._lost: list[LostWrite] = []
        self._counter = Counter(count, task.concurrency)
        self._queue = MessageQueue(_CAPACITY, shrink=True, bound=True)
        self._workers: list[ChildProcess] = []
        self._excused: set[int] = set()  # whose end is no surprise
        self._results: list[Any] = []  # those before the first that is not here yet
        self._early: dict[int, list[Any]] = {}  # blocks after it, by their first item
        self._done = 0
        self._limit = count  # only results before it are needed
        self._failure: Received | None = None

    # ---------------------------------------------------------- in the parent

    def start(self) -> None:
        """Fork the workers."""
        if self._watch is not None:
            self._watch.prepare()
        for number in range(self._task.concurrency):
            worker = ChildProcess(f"map worker {number + 1}")
            self._workers.append(worker)
            self._queue.bind(worker.create())
            work = functools.partial(self._work, number)
            _child.spawn(worker, work, functools.partial(self._send_last_words, number))

    def results(self) -> list[Any]:
        """Wait for all that is needed, and return it or raise what went wrong."""
        while self._is_waiting():
            received = self._receive()
            if received is not None:
                self._take(*received)
            elif has_passed(self._task.deadline):
                raise WaitTimeoutError("map was not done in time")
            else:
                self._check_on_workers()
        if self._failure is not None:
            raise presentable(exception_of(self._failure))
        for worker in self._workers:
            if not worker.wait(self._task.deadline):
                raise WaitTimeoutError(f"{worker} had not ended in time")
        self._take_rest()
        warn_of(self._task.name, self._lost)
        return self._results

    def dismiss(self) -> None:
        """End and reap whoever is left."""
        for worker in self._workers:
            worker.kill_if_running()
        for worker in self._workers:
            worker.dispose()
        self._queue.release()
        self._counter.release()  # an exception that is kept keeps this crew

    def _is_waiting(self) -> bool:
        return len(self._results) < self._limit

    def _receive(self) -> tuple[int, Received] | None:
        try:
            return self._queue.receive(self._task.deadline, wakes=True)
        except ChannelEndError:
            for worker in self._workers:
                worker.wait(FOREVER)  # all are dead, or about to be
            self._check_on_workers()
            raise ChildDiedError("every map worker has ended, and items are left") from None

    def _take(self, tag: int, data: Received) -> None:
        if tag & RAISED:
            index, number = _FAILURE.unpack_from(data)
            self._excused.add(number)
            if index < self._limit:
                self._stop_at(index, data[_FAILURE.size :])
            return
        if tag & SHARED:
            self._lost += decode(tag, data)
            return
        first, values = _block(tag, data)
        self._early[first] = values
        while len(self._results) in self._early:
            self._results += self._early.pop(len(self._results))
        self._done += len(values)
        self._task.report(self._done)

    def _stop_at(self, index: int, failure: Received) -> None:
        """Note a failure: nothing from *index* on is needed, everything before it is."""
        self._counter.stop()
        self._failure, self._limit = failure, index
        for number, worker in enumerate(self._workers):
            if self._counter.held(number).start > index:
                self._excused.add(number)
                worker.kill_if_running()

    def _check_on_workers(self) -> None:
        """Raise if a worker has ended before its work."""
        ended = {n: worker for n, worker in enumerate(self._workers) if worker.wait(NOW)}
        if ended:
            self._take_rest()  # what they have sent counts
        for number in ended.keys() - self._excused:
            held = self._counter.held(number)
            if self._is_waiting() and (held or ended[number].exit_code != 0):
                death = ended[number].death(f"while it held {_items(held)}")
                raise death from death.__cause__

    def _take_rest(self) -> None:
        with contextlib.suppress(ChannelEndError):
            while True:
                received = self._queue.receive(NOW)
                if received is None:
                    return
                self._take(*received)

    # ------------------------------------------------------------- in a worker

    def _work(self, number: int) -> int:
        """Do items until there are no more, then say what of it will be lost."""
        if self._watch is not None:
            self._watch.begin()
        self._do_items(number)
        lost = abandoned(abandon_unjoined())
        if self._watch is not None:
            lost += self._watch.lost()
        if lost:
            tag, data = encode(lost)
            self._queue.send(tag | SHARED, data, FOREVER)
        return 0

    def _do_items(self, number: int) -> None:
        want = self._task.chunksize or 1
        while True:
            began = monotonic_ns()
            taken = self._counter.take(number, want)
            if not taken or not self._do(number, taken):
                return
            if not self._task.chunksize:
                want = self._wanted(len(taken), monotonic_ns() - began)

    def _wanted(self, count: int, elapsed_ns: int) -> int:
        """Return how many items to take next, if *count* lasted *elapsed_ns*."""
        fair = self._counter.left() // (2 * self._task.concurrency)
        return max(1, min(count * _TAKE_NS // max(elapsed_ns, 1), count * _GROWTH, fair))

    def _do(self, number: int, taken: range) -> bool:
        """Do the items *taken* and send what comes of it; False after a failure."""
        values: list[Any] = []
        failure: BaseException | None = None
        try:
            self._task.do(self._task.items[taken.start : taken.stop], values)
        except BaseException as error:  # the contract: it surfaces from map
            failure = error
        sent, refusal = self._send_values(taken.start, values)
        failure = refusal or failure
        if failure is not None:
            self._send_failure(number, taken.start + sent, raised(failure))
        return failure is None

    def _send_values(self, first: int, values: list[Any]) -> tuple[int, BaseException | None]:
        """Send *values*; if one cannot be pickled, those before it, and return why."""
        refusal = None
        try:
            tag, data = encode(values)
        except BaseException as error:  # user code pickles
            values, refusal = _before_refusal(values, error)
            tag, data = encode(values)
        if values:
            parts = [data] if isinstance(data, bytes) else data
            self._queue.send(tag, [*parts, _FIRST.pack(first)], FOREVER)
        return len(values), refusal

    def _send_failure(self, number: int, index: int, outcome: Outcome) -> None:
        data = _FAILURE.pack(index, number) + bytes(outcome.data)
        self._queue.send(RAISED, data, FOREVER)

    def _send_last_words(self, number: int, outcome: Outcome) -> None:
        """Report what went wrong outside of the items, as of the first one held."""
        self._send_failure(number, self._counter.held(number).start, outcome)


def _block(tag: int, data: Received) -> tuple[int, list[Any]]:
    """Return the values of a message, and the item that the first of them belongs to.

    That comes last: what is in front must be where the codec has put it.
    """
    end = len(data) - _FIRST.size
    return _FIRST.unpack_from(data, end)[0], decode(tag, data[:end])


def _before_refusal(values: list[Any], error: BaseException) -> tuple[list[Any], BaseException]:
    """Return the *values* before the first that cannot be pickled, and why it cannot."""
    for count, value in enumerate(values):
        try:
            encode(value)
        except BaseException as refusal:  # user code pickles
            return values[:count], refusal
    return [], error  # only together they cannot


def _items(held: range) -> str:
    if not held:
        return "no items"
    return f"item {held.start}" if len(held) == 1 else f"items {held.start} to {held.stop - 1}"
