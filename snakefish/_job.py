# SPDX-License-Identifier: MIT
"""A function that runs in a child process, from its start to its merge.

A Thread and a Generator each have one, and so has a chunk of `map` with
merging. The child sends at most two messages, what extract returned and then its
outcome, through a queue of its own: of large virtual size, so that it can end
before anybody looks, and drained by everybody who waits for it, so that any
size arrives. The outcome commits both: a child killed between the two has had
no result, and nothing of it is merged.

Several threads of the parent may join at the same time: one of them takes the
messages in and merges, under a lock, and the rest wait for that. A signal
handler that interrupts a join cannot wait for it, nor take in what it may have
in its hands.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from types import FrameType
from typing import Any, Callable

from snakefish import _child
from snakefish._clock import FOREVER, NOW, seconds_until
from snakefish._codec import Received
from snakefish._errors import ChannelEndError, MisuseError, StartError
from snakefish._merging import Merging, changes_of
from snakefish._outcome import EXTRACTED, RAISED, Outcome, value_of
from snakefish._process import STARTED, ChildProcess, State
from snakefish._queue import MessageQueue

# Reserved for what a child sends; what does not fit waits for its parent.
_CAPACITY = 64 << 30


class Job:
    """A child process, its outcome and its merge."""

    def __init__(self, name: str, merging: Merging | None) -> None:
        self.process = ChildProcess(name)
        self._merging = merging
        self._queue: MessageQueue | None = None
        self._outcome: tuple[int, Received] | None = None
        self._extracted: tuple[int, Received] | None = None
        self._value: Any = None
        self._has_value = False
        self._lock = threading.RLock()
        self._starting = threading.RLock()
        self._advancing: FrameType | None = None
        self._is_merging = False

    # ------------------------------------------------------------------ start

    def start(self, body: Callable[[], Outcome], senders: tuple[MessageQueue, ...] = ()) -> None:
        """Fork a child that runs *body*, and of which *senders* shall know.

        Raises:
            MisuseError: It was started before.
            StartError: There is no child; it can be started again.
        """
        with self._lock, self._starting:
            self.process.require(State.NEW)
            try:
                self._fork(body, senders)
            except BaseException as error:
                self.process.abandon()
                self._release_queue()
                if isinstance(error, MemoryError):
                    raise StartError(f"cannot start {self.process}: {error}") from error
                raise

    def _fork(self, body: Callable[[], Outcome], senders: tuple[MessageQueue, ...]) -> None:
        handle = self.process.create()
        self._queue = MessageQueue(_CAPACITY, shrink=True, bound=True)
        for queue in (self._queue, *senders):
            queue.bind(handle)
        _child.spawn(self.process, lambda: self._work(body), self._send)

    def _work(self, body: Callable[[], Outcome]) -> int:
        """Do everything that the child is there for; return its exit status."""
        outcome = body()
        if self._merging is not None:
            self._send(self._merging.extracted())
        self._send(outcome)
        return outcome.status

    def _send(self, outcome: Outcome) -> None:
        assert self._queue is not None
        self._queue.send(outcome.tag, outcome.data, FOREVER)

    # ------------------------------------------------------------------- join

    def collect(self, deadline: int) -> bool:
        """Take in all that the child sends, and its end; False if *deadline* came first."""
        if not self._acquire(deadline):
            return False
        try:
            return not self._is_interrupted() and self._advance(deadline, merge=False)
        finally:
            self._lock.release()

    def join(self, deadline: int) -> bool:
        """Collect, then merge if nobody has; False if *deadline* came first.

        Raises:
            MisuseError: A signal handler wants to wait for what it interrupts.
            Whatever extract raised, or merge raises. It counts as joined then.
        """
        self.process.require(*STARTED)
        if self.process.state is State.JOINED and not self._is_merging:
            return True
        if not self._acquire(deadline):
            return False
        try:
            if self.process.state is State.JOINED:
                return True
            if self._is_interrupted():
                if deadline == NOW:
                    return False
                raise MisuseError(f"{self.process.name} is being joined by this very thread")
            return self._advance(deadline, merge=True)
        finally:
            self._lock.release()

    def _acquire(self, deadline: int) -> bool:
        return self._lock.acquire(timeout=min(seconds_until(deadline), threading.TIMEOUT_MAX))

    def _is_interrupted(self) -> bool:
        """Whether the caller is a signal handler that interrupts `_advance`, below it on the stack.

        A flag would not do: an exception of a handler could leave it behind.
        """
        frame = None if self._advancing is None else sys._getframe()
        while frame is not None and frame is not self._advancing:
            frame = frame.f_back
        return frame is not None

    def _advance(self, deadline: int, merge: bool) -> bool:
        """Collect, and *merge* if nobody has; False if *deadline* came first."""
        try:
            self._advancing = sys._getframe()
            if not self._collect(deadline):
                return False
            if merge and self.process.state is State.ENDED:
                self._merge()
            return True
        finally:
            self._advancing = None

    def _collect(self, deadline: int) -> bool:
        if self.process.state is State.RUNNING:
            if not (self._drain(deadline) and self.process.wait(deadline)):
                return False
            self.process.move(State.ENDED)
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
        if received[0] & EXTRACTED:
            self._extracted = received
        elif self._outcome is None:
            self._outcome = received

    def _merge(self) -> None:
        """Merge once, whatever comes of it; a Ctrl-C before the merge undoes nothing."""
        merging, extracted = self._merging, self._extracted
        if merging is None or extracted is None or self._outcome is None:
            self.process.move(State.JOINED)
            return
        try:
            changes = changes_of(*extracted)
        except KeyboardInterrupt:
            raise
        except BaseException:
            self.process.move(State.JOINED)
            raise
        self._is_merging = True  # so that others wait; merge itself may ask for the result
        try:
            self.process.move(State.JOINED)
            self._extracted = None
            merging.merge(merging.merge_globals, changes)
        finally:
            self._is_merging = False

    # ---------------------------------------------------------------- looking

    def is_alive(self) -> bool:
        """Whether the child was started and has not ended; takes in what is there."""
        self.process.require(State.NEW, *STARTED)
        if self.process.state is State.RUNNING:
            self.collect(NOW)
        return self.process.is_alive()

    def exit_status(self) -> int:
        """Return the exit code, or -N after signal N."""
        self.process.require(State.JOINED)
        return self.process.status

    def failed(self) -> bool:
        """Whether a job that has ended has no value."""
        return self._outcome is None or bool(self._outcome[0] & RAISED)

    def result(self) -> Any:
        """Return what the body returned, or raise afresh what it raised."""
        self.process.require(State.JOINED)
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
        self._merging = self._outcome = self._extracted = self._value = None
        self._release_queue()

    def _release_queue(self) -> None:
        if self._queue is not None:
            self._queue.release()
