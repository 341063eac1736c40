# SPDX-License-Identifier: MIT
"""Programs of their own, for what would end, starve or confuse the process that runs the tests.

Each runs in a session of its own, under a deadline, and whatever it leaves behind is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, NamedTuple

from deadline import SOON, wait_until
from process_table import session_members, state

import snakefish

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PROGRAM_TIME = 40.0
"""Seconds after which a program counts as hung."""

PREAMBLE = """\
import os, select, signal, sys, warnings
import snakefish
warnings.filterwarnings("ignore", category=snakefish.ForkSafetyWarning)
warnings.filterwarnings("ignore", category=snakefish.LostWriteWarning)
from snakefish import Channel, Generator, Thread
def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())
def for_ever():
    while True:
        select.select([], [], [], 0.1)
"""


def hear_all_signals() -> None:
    """Undo what nohup, or a shell that starts jobs in the background, has programs ignore."""
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Ended(NamedTuple):
    """How a program ended and what it wrote."""

    status: int
    output: str
    complaint: str


def _text(file: IO[bytes]) -> str:
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), size, 0).decode("utf-8", "replace")


def plain_environment() -> dict[str, str]:
    """This process's environment, less what would change how Python works."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


class Program:
    """A running Python program that has imported snakefish, and can `say` and wait `for_ever`."""

    def __init__(
        self,
        source: str,
        options: Sequence[str] = (),
        prefix: Sequence[str] = (),
        environment: dict[str, str] | None = None,
        preamble: str = PREAMBLE,
        cwd: str | None = None,
    ) -> None:
        places = [os.path.dirname(os.path.dirname(os.path.abspath(snakefish.__file__)))]
        places.append(os.path.dirname(os.path.abspath(__file__)))
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._complaint = tempfile.TemporaryFile()  # noqa: SIM115
        self._lines_taken = 0
        command = [*prefix, sys.executable, *options, "-c", preamble + textwrap.dedent(source)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._complaint,
            start_new_session=True,
            cwd=cwd,
            env={
                **plain_environment(),
                "PYTHONPATH": os.pathsep.join(places),
                **(environment or {}),
            },
        )
        self.pid = self._process.pid

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *exception: object) -> None:
        for _ in range(1000):
            members = session_members(self.pid)
            if not members:
                break
            for member in members:
                os.kill(member.pid, signal.SIGKILL)
            self._process.poll()
        self._process.wait(SOON)
        self._output.close()
        self._complaint.close()

    def line(self) -> str:
        """The next line the program says."""

        def ready() -> list[str] | None:
            lines = _text(self._output).split("\n")[:-1]
            return lines if len(lines) > self._lines_taken else None

        def finished() -> list[str] | None:
            ended = self._process.poll() is not None
            return ready() or ([] if ended else None)

        lines = wait_until(
            lambda: [finished()] if finished() is not None else None,
            "the program says nothing",
            PROGRAM_TIME,
        )[0]
        assert lines, f"the program ended without a word: {_text(self._complaint)}"
        self._lines_taken += 1
        return lines[self._lines_taken - 1]

    def numbers(self) -> list[int]:
        """The next line the program says, as numbers."""
        return [int(word) for word in self.line().split()]

    def send_signal(self, number: int) -> None:
        """Send a signal to the program, not to its children."""
        self._process.send_signal(number)

    def send_signal_to_all(self, number: int) -> None:
        """Send a signal to the program and its children, as a terminal does."""
        os.killpg(self.pid, number)

    def wait(self) -> Ended:
        """Wait until the program has ended; that is not yet the end of its children."""
        wait_until(
            lambda: self._process.poll() is not None,
            f"the program hangs: {self._said()}",
            PROGRAM_TIME,
        )
        return Ended(self._process.returncode, _text(self._output), _text(self._complaint))

    def wait_for_the_last(self) -> None:
        """Wait until no process of the program's session runs any more."""
        wait_until(
            lambda: not session_members(self.pid),
            f"processes outlive their program: {session_members(self.pid)}",
        )

    def _said(self) -> str:
        return f"{_text(self._output)!r}, {_text(self._complaint)!r}"


def run_program(source: str, **how: object) -> Ended:
    """Run a program to its end, and see that nothing of it is left."""
    with Program(source, **how) as program:  # type: ignore[arg-type]
        ended = program.wait()
        program.wait_for_the_last()
        return ended


def output_of(source: str, **how: object) -> list[str]:
    """The lines said by a program that ends well and does not complain."""
    ended = run_program(source, **how)
    assert ended.status == 0, ended
    assert ended.complaint == "", ended
    return ended.output.splitlines()


def _signal_the_sleeper(number: int, go: int) -> None:
    os.read(go, 1)
    target = os.getppid()
    wait_until(lambda: all(state(target) == "S" for _ in range(3)), "nobody falls asleep")
    os.kill(target, number)


@contextmanager
def signal_when_asleep(number: int = signal.SIGINT) -> Iterator[None]:
    """Send this process a signal as soon as the code inside blocks."""
    go, tell = os.pipe()
    handler = None
    if number == signal.SIGINT:
        handler = signal.signal(number, signal.default_int_handler)
    pid = os.fork()
    if pid == 0:
        try:
            _signal_the_sleeper(number, go)
        finally:
            os._exit(0)
    try:
        os.write(tell, b"!")
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(go)
        os.close(tell)
        if handler is not None:
            signal.signal(number, handler)
