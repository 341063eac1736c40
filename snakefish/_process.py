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
import signal
import sys
import weakref
from os import getpid
from typing import Any

from snakefish import _oom, _stacks
from snakefish._errors import (
    ChildDiedError,
    MisuseError,
    RemoteTraceback,
    SnakefishError,
    StartError,
    StatusUnknownError,
    failure,
)
from snakefish._native import ffi, lib, take_fork_errors

# Looked up once: after a fork each object that is looked at anew costs a page, see _child.
_create = lib.sf_process_create
_destroy = lib.sf_process_destroy
_release = lib.sf_process_release
_spawn = lib.sf_process_spawn
_wait = lib.sf_process_wait
_wait_briefly = lib.sf_process_wait_briefly
_fork_hook = lib.sf_fork_hook
_EINTR = -errno.EINTR
_EAGAIN = -errno.EAGAIN
_ECANCELED = -errno.ECANCELED
_KILLED = -int(signal.SIGKILL)


class State(str, enum.Enum):
    """How far a process has come. A str, which is hashed and compared in C."""

    NEW = "new"
    RUNNING = "running"
    ENDED = "ended"
    JOINED = "joined"
    DISPOSED = "disposed"


NEW, RUNNING, ENDED, JOINED, DISPOSED = State

_NEXT = {
    NEW: {RUNNING, DISPOSED},
    RUNNING: {ENDED, DISPOSED},
    ENDED: {JOINED, DISPOSED},
    JOINED: {DISPOSED},
    DISPOSED: {DISPOSED},
}

_SENTENCES = {
    NEW: "has not been started",
    RUNNING: "has not been joined",
    ENDED: "has not been joined",
    JOINED: "has already been joined",
    DISPOSED: "has been disposed",
}

STARTED = (RUNNING, ENDED, JOINED)

unjoined: dict[int, tuple[str, weakref.ref[ChildProcess]]] = {}
"""In a child: those that it has started, and neither joined nor disposed of, by pid.

Its parent does not care for its own: that would keep a note of each that was dropped.
"""

_accountable: int | None = None
"""The process that keeps these notes: a child."""


def abandon_unjoined() -> list[str]:
    """Kill those that were started and not joined, and return their names.

    Some may have been dropped, and killed for that.
    """
    names = []
    for name, reference in list(unjoined.values()):
        names.append(name)
        process = reference()
        if process is not None:
            process.kill_if_running()
    unjoined.clear()
    return names


class ChildProcess:
    """One child: at most one fork, one end, one exit status."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.owner = getpid()
        self.pid: int | None = None
        self.state = NEW
        self._handle: Any = None
        self._ending: Any = None  # where C tells the status
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
        if self.state is RUNNING:
            unjoined[self.pid] = (self.name, weakref.ref(self))
        elif self.state in (JOINED, DISPOSED):
            unjoined.pop(self.pid, None)

    def require(self, *states: State) -> None:
        """Check that this is the owner, and that the state is one of *states*.

        Raises:
            MisuseError: It is not.
        """
        if getpid() != self.owner:
            raise MisuseError(f"{self.name} belongs to process {self.owner}, which made it")
        if self.state not in states:
            started = NEW in states and self.state is not DISPOSED
            sentence = "has already been started" if started else _SENTENCES[self.state]
            raise MisuseError(f"{self.name} {sentence}")

    def is_owned(self) -> bool:
        """Whether this process made the object."""
        return getpid() == self.owner

    # ------------------------------------------------------------------ spawn

    def create(self) -> Any:
        """Make the C handle; a channel can name it as a sender before the spawn."""
        made = ffi.new("struct sf_process **")
        code = _create(made)
        if code:
            raise failure("create", code)
        self._handle = ffi.gc(made[0], _destroy)
        self._ending = ffi.new("int *")
        return self._handle

    def spawn(self) -> int:
        """Fork; return the pid in the parent, 0 in the child, which begins an account of its own.

        Raises:
            StartError: There is no child, and may be one at the next try.
        """
        global _accountable
        self._tally = _oom.tally()
        self.place = _stacks.reserve()
        code = _ECANCELED
        try:
            code = _spawn(self._handle, _fork_hook)
        finally:
            if code and self.place is not None:
                self.place.close()
        if code == 0:
            _accountable = getpid()
            if unjoined:  # they are its parent's
                unjoined.clear()
        elif code > 0:
            self.pid = code
            self.state = RUNNING  # `move` would check what was checked before the fork
            if _accountable is not None:
                self._account()
        else:
            raise _no_child(code)
        return code

    def abandon(self) -> None:
        """Undo a start that failed half way."""
        self.release()
        self._read_stack()
        if self.pid is not None:
            unjoined.pop(self.pid, None)
        self._handle = self.pid = None
        if self.state is RUNNING:
            self.state = NEW

    # ------------------------------------------------------------------- wait

    def wait(self, deadline: int) -> bool:
        """Wait for the end and note the status; False if *deadline* came first."""
        status = self._ending
        code = _EINTR
        while code == _EINTR:
            code = _wait(self._handle, deadline, status)
        return self._has_ended(code)

    def wait_briefly(self, channel: Any, deadline: int) -> bool:
        """Wait for an end that may be near, whatever comes through *channel*; True if it came.

        Raises:
            MisuseError: It belongs to another process.
        """
        code = _wait_briefly(self._handle, channel, deadline, self._ending)
        return code != _EINTR and self._has_ended(code)

    def _has_ended(self, code: int) -> bool:
        if code == 0:
            self._examine(self._ending[0])
        elif code == _EAGAIN:
            return False
        elif code != -errno.ENODATA:
            self.require(*STARTED)  # if it is another's, or disposed, that is what to say
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
        if status == _KILLED and self._tally is not None:
            self._verdict = _oom.verdict(self._tally)
        if self.place is not None:
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
        if not self._stack_told:
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
            _release(self._handle)

    def dispose(self) -> None:
        """Release, for good."""
        self.move(DISPOSED)
        self.release()
        if self.place is not None and self.is_owned():
            self._read_stack()
        if self._stack and self.is_owned():
            self._tell_stack()


def _no_child(code: int) -> SnakefishError:
    if code != _ECANCELED:
        return failure("spawn", code)
    reason = (take_fork_errors() or [OSError(errno.ECANCELED, "os.fork failed")])[-1]
    error = StartError(f"cannot fork: {reason}")
    error.__cause__ = reason
    return error


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal between the two that have names
        return "real-time"
