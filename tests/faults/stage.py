# SPDX-License-Identifier: MIT
"""What a scenario has at hand in the program that runs it: dice, a killer, and places to wait.

Random moments come from a seed, so a run can be repeated; what the kernel makes of
them cannot. Every injection is counted.
"""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Callable, NoReturn, TypeVar

from deadline import SOON, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

Value = TypeVar("Value")


NO_WAY = "the kernel offers no way to inject this here"
"""What a scenario says, alone or in its complaint, where it is not allowed to do its harm."""


class BrokenPromise(AssertionError):
    """What happened instead, in words that fit into a cell of the table."""


class Stage:
    """The tools of one scenario."""

    def __init__(self, seed: int, size: float) -> None:
        self.dice = random.Random(seed)
        self.size = size
        self.injected = 0
        self.facts: dict[str, object] = {}
        self._killer = _Killer()

    # -------------------------------------------------------------- injecting

    def times(self, count: int) -> Iterator[int]:
        """Count to *count*, or as much further as the size of this run says."""
        yield from range(max(1, round(count * self.size)))

    def inject(self) -> None:
        """Count one more injected fault."""
        self.injected += 1

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        """Send a signal now; nothing happens if the process has gone."""
        self.inject()
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass

    def kill_within(self, pid: int, seconds: float, number: int = signal.SIGKILL) -> None:
        """Send a signal at a random moment of the next *seconds*, while this process goes on."""
        self.inject()
        self._killer.kill(pid, self.dice.random() * seconds, number)

    def arm(self) -> None:
        """Start the killer now, so that children can tell it to kill them."""
        self._killer.start()

    def die_after(self, seconds: float) -> None:
        """In a child forked since `arm`: be killed in so many seconds, and go on meanwhile."""
        self._killer.kill(os.getpid(), seconds, signal.SIGKILL)

    # --------------------------------------------------------------- judging

    def expect(self, condition: object, otherwise: str) -> None:
        """Break the promise, saying what happened *otherwise*, unless *condition* is true."""
        if not condition:
            raise BrokenPromise(otherwise)

    def error_of(self, action: Callable[[], Any]) -> BaseException:
        """The exception that *action* raises; the promise is broken if it returns."""
        try:
            value = action()
        except BaseException as error:
            return error
        raise BrokenPromise(f"no error, but {value!r:.60}")

    def quickly(self, action: Callable[[], Value], seconds: float = 1.0) -> Value:
        """What *action* returns or raises, if it does so within *seconds* of processor-less wait.

        On a busy machine a second is not a second, so three are given before it is broken.
        """
        begin = time.monotonic()
        try:
            return action()
        finally:
            took = time.monotonic() - begin
            if took > 3 * seconds:
                raise BrokenPromise(f"took {took:.1f} s")

    def wait_until(self, condition: Callable[[], Value], otherwise: str) -> Value:
        """Wait for something that somebody else makes true."""
        try:
            return wait_until(condition, otherwise, SOON)
        except AssertionError as error:
            raise BrokenPromise(otherwise) from error

    # ---------------------------------------------------------------- the end

    def close(self) -> None:
        """End what the stage itself has started."""
        self._killer.close()


class _Killer:
    """A process outside the family under test that sends signals at their time.

    A thread would make the program multi-threaded, which is a fault of its own. It
    holds each victim by a pidfd from the moment it is told, so that no stranger is hit.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self._process is None:
            place = os.path.join(os.path.dirname(os.path.abspath(__file__)), "killer.py")
            command = [sys.executable, "-S", "-E", place]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0)

    def kill(self, pid: int, seconds: float, number: int) -> None:
        self.start()
        assert self._process is not None
        assert self._process.stdin is not None
        order = f"{pid} {time.monotonic() + seconds} {int(number)}\n"
        self._process.stdin.write(order.encode())

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process = None


def for_ever() -> NoReturn:
    """Block until a signal ends this process."""
    while True:
        select.select([], [], [], 1.0)


def busy(seconds: float) -> int:
    """Compute for *seconds*; return how often it went round."""
    rounds = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        rounds += 1
    return rounds
