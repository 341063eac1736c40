# SPDX-License-Identifier: MIT
"""Runs a scenario as a program of its own, and sees that nothing of it survives.

All its processes carry a mark in their environment, whatever session they are in. When its time
is up, each is asked for its stacks and then killed.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import uuid
from typing import NamedTuple

from deadline import wait_until
from process_table import entry
from row import Scenario
from scenario import plain_environment

import snakefish

MARK = "SNAKEFISH_SCENARIO"
LAST_SECOND = 2.0
"""Seconds after its end within which all that a program started must be gone."""

_HERE = os.path.dirname(os.path.abspath(__file__))
_PLACES = [
    os.path.dirname(os.path.dirname(os.path.abspath(snakefish.__file__))),
    os.path.dirname(_HERE),
    _HERE,
]


class Outcome(NamedTuple):
    """How a scenario ended."""

    text: str
    injected: int
    seconds: float
    facts: dict[str, object]
    complaint: str

    @property
    def held(self) -> bool:
        """Whether the promise was kept."""
        return self.text == "held"


def run(
    scenario: Scenario,
    library: str = "snakefish",
    python: str = sys.executable,
    seed: int = 1,
    size: float = 1.0,
) -> Outcome:
    """Run *scenario* with *library* on the interpreter *python*."""
    with tempfile.TemporaryDirectory() as place:
        report = os.path.join(place, "report")
        complaint = os.path.join(place, "complaint")
        temporary = os.path.join(place, "tmp")
        os.mkdir(temporary)
        words = [scenario.section, scenario.name, library, str(seed), str(size), report]
        mark = uuid.uuid4().hex
        names = _names(temporary)
        with open(complaint, "wb") as file:
            process = subprocess.Popen(
                [python, os.path.join(_HERE, "program.py"), *words],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
                env=_environment(mark, temporary),
            )
        trouble = _see_to_the_end(process, mark, scenario.timeout * max(1.0, size), complaint)
        trouble = trouble or _new_names(names, temporary, process.pid)
        return _judge(process.returncode, trouble, _lines(report), _text(complaint))


def _environment(mark: str, temporary: str) -> dict[str, str]:
    return {
        **plain_environment(),
        MARK: mark,
        "TMPDIR": temporary,
        "JOBLIB_TEMP_FOLDER": temporary,  # else it puts what it may leave where all others look
        "PYTHONPATH": os.pathsep.join(_PLACES),
    }


def _see_to_the_end(
    process: subprocess.Popen[bytes], mark: str, timeout: float, complaint: str
) -> str:
    """Wait for the program and for all that it started; what was wrong with that, in words."""
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        _collect_stacks(marked(mark), complaint)
        _kill_all(mark)
        process.wait()
        return "hangs"
    try:
        wait_until(lambda: not marked(mark), "", LAST_SECOND)
    except AssertionError:
        left = marked(mark)
        _collect_stacks(left, complaint)
        _kill_all(mark)
        return f"leaves {len(left)} process(es) behind"
    return ""


def _names(temporary: str) -> set[str]:
    """The names where temporary things of programs stand."""
    places = ("/dev/shm", temporary)
    return {f"{place}/{name}" for place in places for name in os.listdir(place)}


def _new_names(before: set[str], temporary: str, pid: int) -> str:
    """What names there are more, but for those that tell that they are another program's."""

    def left() -> list[str]:
        return [name for name in _names(temporary) - before if not _is_of_another(name, pid)]

    try:
        wait_until(lambda: not left(), "", LAST_SECOND)
    except AssertionError:
        return f"leaves {len(left())} name(s)"
    return ""


def _is_of_another(name: str, pid: int) -> bool:
    """Whether a name in /dev/shm, which alone is for everybody, has a pid in it, and not *pid*."""
    pids = re.findall(r"(?<![0-9a-z])\d{3,7}(?![0-9a-z])", name)
    return name.startswith("/dev/shm/") and bool(pids) and str(pid) not in pids


def marked(mark: str) -> list[int]:
    """The running processes that carry *mark*."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    if wanted in file.read().split(b"\0"):
                        found.append(int(name))
            except OSError:
                pass
    return [pid for pid in found if getattr(entry(pid), "state", "Z") not in "ZX"]


def _collect_stacks(pids: list[int], complaint: str) -> None:
    """Have every process write its stacks to the complaint, and wait until they did."""
    for pid in pids:
        _signal(pid, signal.SIGCONT)
        with open(complaint, "ab") as file:
            file.write(f"\n--- {_describe(pid)}\n".encode())
        size = os.path.getsize(complaint)
        _signal(pid, signal.SIGQUIT)
        for _ in range(50):
            select.select([], [], [], 0.01)
            if os.path.getsize(complaint) > size:
                break


def _describe(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/wchan", encoding="ascii") as file:
            return f"process {pid}: {entry(pid)}, in {file.read() or 'user space'}"
    except OSError:
        return f"process {pid}: gone"


def _kill_all(mark: str) -> None:
    for _ in range(1000):
        pids = marked(mark)
        if not pids:
            return
        for pid in pids:
            _signal(pid, signal.SIGKILL)


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _judge(status: int, trouble: str, lines: list[str], complaint: str) -> Outcome:
    """Put together what the program reports and what was seen from outside."""
    if not lines:
        text = trouble or f"the program ended with status {status}"
        return Outcome(text, 0, 0.0, {}, complaint)
    report = json.loads(lines[0])
    text = report["outcome"]
    if text == "held" and trouble:
        text = trouble
    elif text == "held" and len(lines) > 1:
        text = f"{len(lines) - 1} child(ren) ran on into the program's end"
    return Outcome(text, report["injected"], report["seconds"], report["facts"], complaint)


def _lines(path: str) -> list[str]:
    return _text(path).splitlines() if os.path.exists(path) else []


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
