# SPDX-License-Identifier: MIT
"""One runner in a process of its own: asked for a turn, it answers with what it measured.

Nobody's heap, imports, threads or compiled traces are then another's burden, and who hangs or
crashes costs a cell of the table only. The process leads a group; when it has ended, who is left
of the group is ended too. Who has left the group comes to us at last, because orphans of our
children become our children.

Both sides talk in lines: one that is empty asks for a turn, one of JSON answers.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.discovery import Place
from benchmarks.figure import SCALES
from benchmarks.measured import NOT_INSTALLED

ROOT = Path(__file__).resolve().parent.parent
SHARED_MEMORY = Path("/dev/shm")
LEAVING = 3.0
"""Seconds for a process to end by itself, and to remove what it made."""
PR_SET_CHILD_SUBREAPER = 36
SCRATCH = "BENCHMARK_SCRATCH"
"""The environment variable that names a directory which the runners of a figure have in common."""


class RunnerError(Exception):
    """The runner cannot take turns; the message is for its cell of the table."""


def environment() -> dict[str, str]:
    """Return the environment of a runner: what it imports is compiled at most once.

    Peers were compiled when they were installed, and our own sources lie in the working copy. Where
    Python is told to keep nothing that it compiled, ours alone would be compiled in each process.
    """
    return {name: told for name, told in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def adopt_orphans() -> None:
    """Become the parent of whatever the runners leave behind."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class RunnerProcess:
    """A runner of a figure, started, and asked for one turn after the other."""

    def __init__(self, place: Place, name: str, scratch: str) -> None:
        self._patience = place.scale.patience
        self._names_before = _shared_names()
        self._complaint = tempfile.TemporaryFile()  # noqa: SIM115 - closed in end
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, place.file, str(place.number), place.scale.name, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaint,
            start_new_session=True,
            cwd=ROOT,
            env={**environment(), SCRATCH: scratch},
        )
        self._questions: Any = self._process.stdin
        self._answers: Any = self._process.stdout

    def turn(self) -> list[float]:
        """Return the samples of one turn."""
        with contextlib.suppress(BrokenPipeError):
            self._questions.write(b"\n")
            self._questions.flush()
        self._wait_for_answer()
        answer: Any = json.loads(self._answers.readline() or b"null")
        if answer is None:
            raise RunnerError(self._how_it_died())
        if "failed" in answer:
            raise RunnerError(answer["failed"])
        return [float(sample) for sample in answer["samples"]]

    def _wait_for_answer(self) -> None:
        """A dead runner closes its pipe, unless children of it hold the same pipe open."""
        end = time.monotonic() + self._patience
        while not select.select([self._answers], [], [], 0.1)[0]:
            if self._process.poll() is not None:
                raise RunnerError(self._how_it_died())
            if time.monotonic() > end:
                raise RunnerError(f"no answer in {self._patience:.0f} s")

    def _how_it_died(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(LEAVING)
        status = self._process.returncode
        if status is None:
            return "will not answer"
        self._complaint.seek(0)
        lines = self._complaint.read().decode("utf-8", "replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return f"died of {how}" + (f": {last}" if last else "")

    def end(self) -> None:
        """End the process, who is left of its group, and its names of shared memory."""
        with contextlib.suppress(BrokenPipeError):
            self._questions.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(LEAVING)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._end_group()
        self._remove_shared_names()
        self._answers.close()
        self._complaint.close()

    def _end_group(self) -> None:
        """Its members may be about to tidy up, so they are killed only after a while."""
        end = time.monotonic() + LEAVING
        while _reap_and_look_for(self._process.pid) and time.monotonic() < end:
            time.sleep(0.01)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        while _reap_and_look_for(self._process.pid):
            time.sleep(0.01)

    def _remove_shared_names(self) -> None:
        """What libraries name in shared memory has the process id in its name."""
        for name in _shared_names() - self._names_before:
            if str(self._process.pid) in re.findall(r"\d+", name):
                path = SHARED_MEMORY / name
                subprocess.run(["rm", "-rf", str(path)], check=False)


def _shared_names() -> set[str]:
    return set(os.listdir(SHARED_MEMORY)) if SHARED_MEMORY.is_dir() else set()


def _reap_and_look_for(group: int) -> bool:
    """Whether anybody is left of a process group, once those that have ended are reaped."""
    try:
        while os.waitpid(-group, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def end_orphans() -> None:
    """Kill who has left its runner's group; call it when no runner is left."""
    me = os.getpid()
    for _ in range(100):
        pids = [int(pid) for pid in Path(f"/proc/{me}/task/{me}/children").read_text().split()]
        if not pids:
            return
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


# ------------------------------------------------------------------- the other side


def main(file: str, number: str, scale: str, name: str) -> None:
    """Answer each line of standard input; nobody else gets at what it is answered through."""
    questions = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    run = None
    while questions.readline():
        try:
            run = run or Place(file, int(number), SCALES[scale]).figure().runners[name]
            answer: dict[str, Any] = {"samples": _samples(run())}
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs into the table
            answer = {"failed": _in_a_line(error)}
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def _samples(measured: Any) -> list[float]:
    return [float(one) for one in (measured if isinstance(measured, Sequence) else [measured])]


def _in_a_line(error: BaseException) -> str:
    """Return what goes into the cell instead of a number."""
    if isinstance(error, ModuleNotFoundError):
        return NOT_INSTALLED
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__


if __name__ == "__main__":
    main(*sys.argv[1:])
