# SPDX-License-Identifier: MIT
r"""A child process, from a handle to its end: `struct sf_process` for Python.

Every change of a process's state happens here:

    NEW ---> RUNNING ---> ENDED ---> JOINED
      \__________\___________\__________\___> DISPOSED

RUNNING says that it was started and that its end was not seen yet; ENDED that
the end was seen and all it sent was taken in; JOINED that this was merged.

A process belongs to the process that made the object. A child that inherited
the object can dispose its copy and nothing else.
"""

from __future__ import annotations

import enum
import errno
import os
import signal
import sys
import weakref
from typing import Any

from snakefish import _oom, _stacks
from snakefish._errors import (
    ChildDiedError,
    MisuseError,
    RemoteTraceback,
    StartError,
    StatusUnknownError,
    failure,
)
from snakefish._native import ffi, lib, take_fork_errors


class State(str, enum.Enum):
    """How far a process has come. A str, which is hashed and compared in C."""

    NEW = "new"
    RUNNING = "running"
    ENDED = "ended"
    JOINED = "joined"
    DISPOSED = "disposed"


_NEXT = {
    State.NEW: {State.RUNNING, State.DISPOSED},
    State.RUNNING: {State.ENDED, State.DISPOSED},
    State.ENDED: {State.JOINED, State.DISPOSED},
    State.JOINED: {State.DISPOSED},
    State.DISPOSED: {State.DISPOSED},
}

_SENTENCES = {
    State.NEW: "has not been started",
    State.RUNNING: "has not been joined",
    State.ENDED: "has not been joined",
    State.JOINED: "has already been joined",
    State.DISPOSED: "has been disposed",
}

STARTED = (State.RUNNING, State.ENDED, State.JOINED)

_unjoined: dict[int, tuple[str, weakref.ref[ChildProcess]]] = {}
"""In a child: those that it has started, and neither joined nor disposed of, by pid.

Its parent does not care for its own: that would keep a note of each that was dropped.
"""

_accountable: int | None = None
"""The process that keeps these notes: a child that has begun its work."""


def begin_account() -> None:
    """Begin to note, in a child, which processes it starts and does not join."""
    global _accountable
    _accountable = os.getpid()
    _unjoined.clear()


def abandon_unjoined() -> list[str]:
    """Kill those that were started and not joined, and return their names.

    Some may have been dropped, and killed for that.
    """
    names = []
    for name, reference in list(_unjoined.values()):
        names.append(name)
        process = reference()
        if process is not None:
            process.kill_if_running()
    _unjoined.clear()
    return names


class ChildProcess:
    """One child: at most one fork, one end, one exit status."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.owner = os.getpid()
        self.pid: int | None = None
        self.state = State.NEW
        self._handle: Any = None
        self._status: int | None = None
        self._tally: _oom.Tally | None = None
        self.place: _stacks.Place | None = None  # where a child that crashes leaves its stack
        self._verdict = self._stack = ""
        self._stack_told = False

    def __repr__(self) -> str:
        if self.pid is None:
            return f"{self.name} ({self.state.value})"
        return f"{self.name} (pid {self.pid}, {self.state.value})"

    # ------------------------------------------------------------------ state

    def move(self, state: State) -> None:
        """Change to *state*, if that can follow the present one."""
        if state not in _NEXT[self.state]:
            raise MisuseError(f"{self.name} {_SENTENCES[self.state]}")
        self.state = state
        if _accountable is not None:
            self._account()

    def _account(self) -> None:
        if self.pid is None or _accountable != self.owner:
            return
        if self.state is State.RUNNING:
            _unjoined[self.pid] = (self.name, weakref.ref(self))
        elif self.state in (State.JOINED, State.DISPOSED):
            _unjoined.pop(self.pid, None)

    def require(self, *states: State) -> None:
        """Check that this is the owner, and that the state is one of *states*.

        Raises:
            MisuseError: It is not.
        """
        if not self.is_owned():
            raise MisuseError(f"{self.name} belongs to process {self.owner}, which made it")
        if self.state not in states:
            started = State.NEW in states and self.state is not State.DISPOSED
            sentence = "has already been started" if started else _SENTENCES[self.state]
            raise MisuseError(f"{self.name} {sentence}")

    def is_owned(self) -> bool:
        """Whether this process made the object."""
        return os.getpid() == self.owner

    # ------------------------------------------------------------------ spawn

    def create(self) -> Any:
        """Make the C handle; a channel can name it as a sender before the spawn."""
        made = ffi.new("struct sf_process **")
        code = lib.sf_process_create(made)
        if code:
            raise failure("create", code)
        self._handle = ffi.gc(made[0], lib.sf_process_destroy)
        return self._handle

    def spawn(self) -> int:
        """Fork; return the pid in the parent, 0 in the child.

        Raises:
            StartError: There is no child, and may be one at the next try.
        """
        self._tally = _oom.tally()
        self.place = _stacks.reserve()
        code = -errno.ECANCELED
        try:
            code = lib.sf_process_spawn(self._handle, lib.sf_fork_hook)
        finally:
            if code and self.place is not None:
                self.place.close()
        if code > 0:
            self.pid = code
            self.move(State.RUNNING)
        elif code == -errno.ECANCELED:
            reasons = take_fork_errors() or [OSError(errno.ECANCELED, "os.fork failed")]
            raise StartError(f"cannot fork: {reasons[-1]}") from reasons[-1]
        elif code < 0:
            raise failure("spawn", code)
        return code

    def abandon(self) -> None:
        """Undo a start that failed half way."""
        if self._handle is not None:
            lib.sf_process_release(self._handle)
        self._read_stack()
        if self.pid is not None:
            _unjoined.pop(self.pid, None)
        self._handle = self.pid = None
        if self.state is State.RUNNING:
            self.state = State.NEW

    # ------------------------------------------------------------------- wait

    def wait(self, deadline: int) -> bool:
        """Wait for the end and note the status; False if *deadline* came first."""
        status = ffi.new("int *")
        code = -errno.EINTR
        while code == -errno.EINTR:
            code = lib.sf_process_wait(self._handle, deadline, status)
        if code == 0:
            self._examine(status[0])
        elif code == -errno.EAGAIN:
            return False
        elif code != -errno.ENODATA:
            raise failure("wait", code)
        return True

    def is_alive(self) -> bool:
        """Whether the child runs, a stopped one included."""
        return self.pid is not None and lib.sf_process_is_alive(self._handle) == 1

    @property
    def exit_code(self) -> int | None:
        """The status, or None if it is not known, not yet or not any more."""
        return self._status

    @property
    def status(self) -> int:
        """The exit code, or -N after signal N, once `wait` has seen the end."""
        if self._status is None:
            raise StatusUnknownError(f"the status of {self} was taken by somebody else")
        return self._status

    # ------------------------------------------------------------ post-mortem

    def _examine(self, status: int) -> None:
        """Note the status, and what only now can be learnt about a death by a signal."""
        if self._status is not None:
            return
        if status == -signal.SIGKILL and self._tally is not None:
            self._verdict = _oom.verdict(self._tally)
        self._read_stack()
        self._status = status

    def _read_stack(self) -> None:
        place, self.place = self.place, None
        if place is not None:
            self._stack = place.empty()

    def obituary(self) -> str:
        """Return in a few words how the child ended."""
        who = f"{self.name} (pid {self.pid})"
        if self._status is None:
            return f"{who} has ended, how is not known"
        if self._status >= 0:
            return f"{who} left with exit code {self._status}"
        number = -self._status
        return f"{who} was killed by signal {number} ({_signal_name(number)})"

    def death(self, circumstances: str) -> ChildDiedError:
        """Return the error that says how the child ended, and under which *circumstances*.

        The stack that faulthandler left is its cause, and counts as told.
        """
        verdict = f"; {self._verdict}" if self._verdict else ""
        error = ChildDiedError(f"{self.obituary()} {circumstances}{verdict}")
        if self._stack:
            error.__cause__ = RemoteTraceback(self._stack)
            self._stack_told = True
        return error

    def _tell_stack(self) -> None:
        """Write the stack of a crash of which no error has told where it would have gone."""
        if self._stack and not self._stack_told:
            self._stack_told = True
            try:
                sys.stderr.write(f"{self.obituary()}\n{self._stack}\n")
                sys.stderr.flush()
            except (AttributeError, OSError, ValueError):  # there is none, or it is closed
                pass

    # ---------------------------------------------------------------- control

    def kill(self, number: int) -> None:
        """Send a signal to the child; nothing happens when it has ended."""
        code = lib.sf_process_kill(self._handle, number)
        if code == -errno.EINVAL:
            raise ValueError(f"there is no signal {number}")
        if code and code != -errno.ESRCH:
            raise failure("kill", code)

    def kill_if_running(self) -> None:
        """Kill the child, if there is one, without waiting for its end."""
        if self.pid is not None:
            self.kill(signal.SIGKILL)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when the child has ended."""
        code = lib.sf_process_fileno(self._handle)
        if code < 0:
            raise failure("fileno", code)
        return code

    def release(self) -> None:
        """Kill and reap the child if it is ours; close what it costs."""
        if self._handle is not None:
            lib.sf_process_release(self._handle)

    def dispose(self) -> None:
        """Release, for good."""
        self.move(State.DISPOSED)
        self.release()
        if self.is_owned():
            self._read_stack()
            self._tell_stack()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal between the two that have names
        return "real-time"
