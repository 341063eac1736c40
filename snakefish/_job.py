# SPDX-License-Identifier: MIT
"""A function that runs in a child process, from its start to its merge.

A Thread and a Generator each have one, and so has a chunk of `map` with
merging. The child sends at most three messages: what extract returned, what became of
its variables, and its outcome. They go through a queue of its own: of
large virtual size, so that it can end before anybody looks, and drained by
everybody who waits for it, so that any size arrives. The outcome commits all: a
child killed before it has had no result, and nothing of it is merged.

Several threads of the parent may join at the same time: one of them takes the
messages in and merges, under a lock, and the rest wait for that. A signal
handler that interrupts a join cannot wait for it, nor take in what it may have
in its hands.
"""

from __future__ import annotations

import contextlib
import gc
from _thread import RLock
from sys import _getframe
from threading import TIMEOUT_MAX
from types import FrameType
from typing import TYPE_CHECKING, Any, Callable

from snakefish._child import spawn as _spawn
from snakefish._clock import FOREVER, NOW, seconds_until
from snakefish._codec import Received, encode
from snakefish._errors import ChannelEndError, MisuseError, StartError
from snakefish._lost_writes import LostWrite, abandoned, warn_of
from snakefish._merging import changes_of
from snakefish._outcome import (
    EXTRACTED,
    RAISED,
    SHARED,
    Outcome,
    apart,
    raised,
    together,
    value_of,
)
from snakefish._process import (
    ENDED,
    JOINED,
    NEW,
    RUNNING,
    STARTED,
    ChildProcess,
    abandon_unjoined,
    unjoined,
)
from snakefish._queue import MessageQueue
from snakefish._returns import NOTHING, Returns
from snakefish._undo import take_back

if TYPE_CHECKING:
    from snakefish._sharing import Call

# Reserved for what a child sends; what does not fit waits for its parent.
_CAPACITY = 64 << 30

# What a child does, which returns its exit status, and what it reports if that fails.
_Errand = tuple[Callable[[], int], Callable[[Outcome], None]]


class Job:
    """A child process, its outcome and its merge."""

    def __init__(self, name: str, returns: Returns) -> None:
        self.process = ChildProcess(name)
        self.lost: list[LostWrite] = []
        self._returns = returns
        self._merging = returns.merging
        self._watch = returns.watch
        self._call: Call | None = None
        self._shared: tuple[int, Received] | None = None
        self._queue: MessageQueue | None = None
        self._outcome: tuple[int, Received] | None = None
        self._extracted: tuple[int, Received] | None = None
        self._value: Any = None
        self._has_value = False
        self._lock = RLock()
        self._starting = RLock()
        self._advancing: FrameType | None = None
        self._is_merging = False
        self._errand: _Errand | None = None  # kept: while the child runs each page costs two

    # ------------------------------------------------------------------ start

    def start(
        self,
        body: Callable[[], Outcome],
        senders: tuple[MessageQueue, ...] = (),
        call: Call | None = None,
    ) -> None:
        """Fork a child that runs *body*, and of which *senders* shall know.

        It is a task of *call*, or of a call of its own.

        Raises:
            MisuseError: It was started before.
            StartError: There is no child; it can be started again.
        """
        with self._lock, self._starting:
            self.process.require(NEW)
            self._call = call or self._returns.begin()
            try:
                handle = self.process.create()
                self._queue = MessageQueue(_CAPACITY, shrink=True, bound=True)
                for queue in (self._queue, *senders):
                    queue.bind(handle)
                self._errand = self._work(body, self._queue.send)
                _spawn(self.process, *self._errand)
            except BaseException as error:
                self.process.abandon()
                self._leave_call()
                self._release_queue()
                if isinstance(error, MemoryError):
                    raise StartError(f"cannot start {self.process}: {error}") from error
                raise

    def _work(self, body: Callable[[], Outcome], send: Callable[..., None]) -> _Errand:
        """Return everything that the child is there for.

        Bound here is what a child would have to look up.
        """
        watch, call, merging, became = self._watch, self._call, self._merging, self._became
        if watch is not None:
            watch.prepare()
        begin, lost = (None, None) if watch is None else (watch.begin, watch.lost)

        def work() -> int:
            if begin is not None:
                begin()
            if call is not None:
                call.enter()
            tag, data, status = outcome = body()
            changes = became(call, lost, bool(tag & RAISED))
            if merging is not None:
                send(*merging.extracted()[:2], FOREVER)
            if changes is None:
                send(tag, data, FOREVER)
            else:
                for tag, data, _ in together(changes, outcome):
                    send(tag, data, FOREVER)
            return status

        def report(outcome: Outcome) -> None:
            send(outcome.tag, outcome.data, FOREVER)

        return work, report

    @staticmethod
    def _became(
        call: Call | None, lost: Callable[[], list[LostWrite]] | None, failed: bool
    ) -> Outcome | None:
        """Return what became of shared variables and of others; None for nothing."""
        deltas: dict[int, Any] = {}
        try:
            writes = abandoned(abandon_unjoined()) if unjoined else []
            if call is not None:
                gc.disable()  # for good: the child is about to end
                deltas = call.deltas(failed)
            if lost is not None:
                writes += lost()
            return Outcome(*encode((deltas, writes))) if deltas or writes else None
        except BaseException as error:  # shipped, and raised by join
            return raised(error if call is None else call.refused(deltas, error))

    # ------------------------------------------------------------------- join

    def collect(self, deadline: int) -> bool:
        """Take in all that the child sends, and its end; False if *deadline* came first."""
        if not self._acquire(deadline):
            return False
        try:
            return not self._is_interrupted() and self._advance(deadline, False)
        finally:
            self._lock.release()

    def join(self, deadline: int) -> bool:
        """Collect, then merge if nobody has; False if *deadline* came first.

        Raises:
            MisuseError: A signal handler wants to wait for what it interrupts.
            Whatever extract raised, or merge raises. It counts as joined then.
        """
        process = self.process
        if process.state is not RUNNING:  # else it is C that looks whose it is
            process.require(*STARTED)
            if process.state is JOINED and not self._is_merging:
                return True
        if not (self._lock.acquire(False) or self._acquire(deadline)):
            return False
        try:
            if process.state is JOINED:
                return True
            if self._advancing is not None and self._is_interrupted():
                if deadline == NOW:
                    return False
                raise MisuseError(f"{self.process.name} is being joined by this very thread")
            return self._advance(deadline, True)
        finally:
            self._lock.release()

    def warn_of_lost(self) -> None:
        """Warn, once, if the child changed what nobody will see."""
        lost, self.lost = self.lost, []
        if lost:
            warn_of(self.process.name, lost)

    def _acquire(self, deadline: int) -> bool:
        self.process.require(*STARTED)  # in a child the lock may be held for ever
        return self._lock.acquire(timeout=min(seconds_until(deadline), TIMEOUT_MAX))

    def _is_interrupted(self) -> bool:
        """Whether the caller is a signal handler that interrupts `_advance`, below it on the stack.

        A flag would not do: an exception of a handler could leave it behind.
        """
        frame = None if self._advancing is None else _getframe()
        while frame is not None and frame is not self._advancing:
            frame = frame.f_back
        return frame is not None

    def _advance(self, deadline: int, merge: bool) -> bool:
        """Collect, and *merge* if nobody has; False if *deadline* came first."""
        try:
            self._advancing = _getframe()
            if self.process.state is RUNNING and not self._collect(deadline):
                return False
            if merge and self.process.state is ENDED:
                self._merge()
            return True
        finally:
            self._advancing = None

    def _collect(self, deadline: int) -> bool:
        """Take in the end and the messages: in this order, if the end is near.

        Each time that the parent wakes while the child lives costs both of them time. What is
        large is received while it is sent.
        """
        assert self._queue is not None
        process = self.process
        has_ended = process.wait_briefly(self._queue.handle, deadline)
        if not self._drain(deadline) or not (has_ended or process.wait(deadline)):
            return False
        process.move(ENDED)
        return True

    def _drain(self, deadline: int) -> bool:
        """Receive until nothing more will come; False if *deadline* came first."""
        try:
            while self._outcome is None:
                if not self._receive(deadline):
                    return False
        except ChannelEndError:
            pass
        return True

    def _receive(self, deadline: int) -> bool:
        """Take in one message, which is not lost when a signal handler raises."""
        assert self._queue is not None
        received = None
        try:
            received = self._queue.receive(deadline)
            if received is not None:
                self._take(received)
        except BaseException:
            if received is not None:
                self._queue.put_back(*received)  # to take it twice does no harm
            raise
        return received is not None

    def _take(self, received: tuple[int, Received]) -> None:
        if received[0] & SHARED:
            self._take_shared(received)
        elif received[0] & EXTRACTED:
            self._extracted = received
        elif self._outcome is None:
            self._outcome = received

    def _take_shared(self, received: tuple[int, Received]) -> None:
        self._shared, *outcome = apart(*received)
        for one in outcome:
            self._take(one)

    def _merge(self) -> None:
        """Merge once, whatever comes of it; a Ctrl-C before the merge undoes nothing."""
        changes = None
        if self._outcome is not None:
            try:
                self._commit()
                if self._extracted is not None:
                    changes = changes_of(*self._extracted)
            except KeyboardInterrupt:
                raise
            except BaseException:
                self._finish()
                raise
        self._is_merging = True  # so that others wait; merge itself may ask for the result
        try:
            self._finish()
            if changes is not None and self._merging is not None:
                self._merging.merge(self._merging.merge_globals, changes)
        finally:
            self._is_merging = False

    def _commit(self) -> None:
        """Bring in what the child changed of shared variables, all or, if interrupted, nothing."""
        if self._shared is None:
            return
        collects = gc.isenabled()
        try:
            gc.disable()  # what is made here stays: CPython would go through it again and again
            self._commit_all(self._shared)
        finally:
            if collects:
                gc.enable()

    def _commit_all(self, shared: tuple[int, Received]) -> None:
        undo: list[Callable[[], object]] = [lambda: setattr(self, "_shared", shared)]
        deltas, self.lost = value_of(*shared)
        try:
            self._shared = None
            if self._call is not None and deltas:
                self._call.commit(self.process.name, deltas, undo)
        except BaseException:
            take_back(undo)
            raise

    def _finish(self) -> None:
        self.process.move(JOINED)
        self._extracted = self._shared = self._errand = None
        self._leave_call()

    def _leave_call(self) -> None:
        if self._call is not None:
            self._call.leave()
            self._call = None

    # ---------------------------------------------------------------- looking

    def is_alive(self) -> bool:
        """Whether the child was started and has not ended; takes in what is there."""
        self.process.require(NEW, *STARTED)
        if self.process.state is RUNNING:
            self.collect(NOW)
        return self.process.is_alive()

    def exit_status(self) -> int:
        """Return the exit code, or -N after signal N."""
        self.process.require(JOINED)
        return self.process.status

    def failed(self) -> bool:
        """Whether a job that has ended has no value."""
        return self._outcome is None or bool(self._outcome[0] & RAISED)

    def result(self) -> Any:
        """Return what the body returned, or raise afresh what it raised."""
        self.process.require(JOINED)
        if not self._has_value:
            if self._outcome is None:
                raise self.process.death("before it had a result")
            self._value = value_of(*self._outcome)
            self._has_value = True
            self._outcome = None
        return self._value

    # ---------------------------------------------------------------- the end

    def dispose(self) -> None:
        """Release everything; kill and reap the child, if it is ours and runs.

        Between the fork and the note of its pid it could be neither; in a child the
        lock is held for ever.
        """
        with self._starting if self.process.is_owned() else contextlib.nullcontext():
            self.process.dispose()
        self._returns, self._merging, self._watch = NOTHING, None, None
        self._outcome = self._extracted = self._shared = self._value = self._errand = None
        self._leave_call()
        self._release_queue()

    def _release_queue(self) -> None:
        if self._queue is not None:
            self._queue.release()
