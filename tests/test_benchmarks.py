# SPDX-License-Identifier: MIT
"""The benchmarks: every figure runs and gives right results, whoever misbehaves among the peers.

How fast anything is, is nothing that a test could know.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from process_table import is_gone
from scenario import plain_environment

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))
from benchmarks.discovery import files  # noqa: E402

UNRULY = """
import os, signal, subprocess, sys, time
from benchmarks.figure import OURS, SECONDS, Aim, Figure

def note(pid):
    with open({pids!r}, "a") as file:
        print(pid, file=file)

def leave_a_child():
    note(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"]).pid)
    return 1.0

def leave_a_daemon():
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.write(tell, b"!")
        time.sleep(1000)
    os.read(ready, 1)
    note(pid)
    return 1.0

def leave_a_name():
    open("/dev/shm/left_by_%d" % os.getpid(), "w").close()
    return 1.0

def figures(scale):
    return [
        Figure(
            id="unruly",
            what="who misbehaves",
            unit=SECONDS,
            runners={
                OURS: lambda: [1.0, 2.0, 6.0],
                "prints": lambda: print("loud") or os.write(1, b"louder") and 4.0,
                "is not there": lambda: __import__("no_module_of_this_name"),
                "raises": lambda: 1 / 0,
                "hangs": lambda: time.sleep(1000),
                "crashes": lambda: os.kill(os.getpid(), signal.SIGSEGV),
                "exits": lambda: os._exit(3),
                "leaves a child": leave_a_child,
                "leaves a daemon": leave_a_daemon,
                "leaves a name": leave_a_name,
            },
            aims=[Aim("prints", at_most=0.5), Aim("raises", at_most=1), Aim(at_least=9)],
        )
    ]
"""

WARMING = """
from benchmarks.figure import OURS, SECONDS, Figure

turns = []

def turn():
    turns.append(1.0)
    return float(len(turns))

def figures(scale):
    return [Figure("warming", "a first turn unlike the others", SECONDS, {OURS: turn})]
"""

KEEPING = """
import sys
from benchmarks.figure import OURS, SECONDS, Figure

def figures(scale):
    return [Figure("keeping", "bytecode", SECONDS, {OURS: lambda: 1.0 - sys.dont_write_bytecode})]
"""

MEASURE_IN_NO_TIME = """
    import dataclasses
    from benchmarks.discovery import Place
    from benchmarks.figure import QUICK
    from benchmarks.turns import measure
    row = measure(Place("{file}", 0, dataclasses.replace(QUICK, seconds=0)))
    print(row.turns)
"""


def measure(where: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the benchmarks that are in *where*."""
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", "--tiny", *arguments],
        cwd=where,
        env={**plain_environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.timeout(180)
@pytest.mark.parametrize("file", files())
def test_every_runner_of_a_figure_runs(file: str, tmp_path: Path) -> None:
    """At a tiny size each runner ends with a number, and finds its own results right."""
    ended = measure(ROOT, file, "--json", str(tmp_path / "result.json"))
    assert ended.returncode == 0, ended.stderr
    for row in rows(tmp_path):
        missing = {name for name, why in row["failures"].items() if why == "not installed"}
        assert row["failures"].keys() == missing, row
        assert "numpy" in row["case"] or not missing & {"ours", "limit"}, row
        for name in set(row["names"]) - missing:
            assert all(map(math.isfinite, row["turns"][name])), row
            assert len(row["turns"][name]) == 1, row


@pytest.fixture(scope="module")
def ran(tmp_path_factory: Any) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A copy of the benchmarks, with one more figure and less patience, and how it ran."""
    where = tmp_path_factory.mktemp("unruly")
    shutil.copytree(ROOT / "benchmarks", where / "benchmarks")
    figure = where / "benchmarks" / "figure.py"
    figure.write_text(figure.read_text().replace("patience=30", "patience=3"))
    unruly = UNRULY.replace("{pids!r}", repr(str(where / "pids")))
    (where / "benchmarks" / "unruly.py").write_text(unruly)
    (where / "benchmarks" / "broken.py").write_text("\ndef figures(scale): return 1 / 0")
    return where, measure(where, "unruly", "--json", "result.json")


SLOW = """
import time
from benchmarks.figure import LIMIT, OURS, SECONDS, Aim, Figure

turns = []

def slow():
    turns.append(float(len(turns)))
    time.sleep(0.7)
    return turns[-1]

def figures(scale):
    runners = {OURS: lambda: 1.0, "slow": slow, "named": slow, LIMIT: lambda: 2.0}
    aims = [Aim("named", at_most=1)]
    return [Figure(id="slow", what="who is slow", unit=SECONDS, runners=runners, aims=aims)]
"""


@pytest.mark.parametrize(
    ("scale", "slow", "named"),
    [
        pytest.param("seconds=1, warms_up=False", [0.0], [0.0, 1.0, 2.0], id="more if named"),
        pytest.param("seconds=0.2, warms_up=True", [0.0], [0.0], id="a long first turn counts"),
        pytest.param("seconds=0.5, warms_up=True", [1.0], [1.0, 2.0, 3.0], id="a short does not"),
    ],
)
def test_a_slow_peer_keeps_nobody_from_their_rounds(
    scale: str, slow: list[float], named: list[float], tmp_path: Path
) -> None:
    """A peer has turns until their time is up, and its ratio is of those rounds."""
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks")
    figure = tmp_path / "benchmarks" / "figure.py"
    tiny = "seconds=0, fewest=1, most=1, warms_up=False"
    assert tiny in figure.read_text()
    figure.write_text(figure.read_text().replace(tiny, f"{scale}, fewest=3, most=3"))
    (tmp_path / "benchmarks" / "slow.py").write_text(SLOW)
    ended = measure(tmp_path, "slow", "--json", "result.json")
    assert ended.returncode == 0, ended.stderr
    assert rows(tmp_path)[0]["turns"] == {
        "ours": [1.0] * 3,
        "slow": slow,
        "named": named,
        "limit": [2.0] * 3,
    }


class TestUnruly:
    """A figure whose peers misbehave."""

    def test_each_costs_its_own_cell(self, ran: Any) -> None:
        """Whoever fails is told by why, and the others are measured."""
        row = rows(ran[0])[-1]
        assert row["turns"]["ours"] == [2.0]
        assert row["turns"]["prints"] == [4.0]
        assert row["failures"] == {
            "is not there": "not installed",
            "raises": "ZeroDivisionError: division by zero",
            "hangs": "no answer in 3 s",
            "crashes": "died of SIGSEGV",
            "exits": "died of exit status 3",
        }

    def test_a_file_that_cannot_list_its_figures_is_a_row(self, ran: Any) -> None:
        """A broken file is told of, fails the run, and the others are measured."""
        assert [row["id"] for row in rows(ran[0])] == ["broken", "unruly"]
        assert rows(ran[0])[0]["failures"] == {"ours": "ZeroDivisionError: division by zero"}
        assert ran[1].returncode == 1

    def test_nothing_is_left_of_them(self, ran: Any) -> None:
        """Children, daemons and names of shared memory end with their runners."""
        pids = [int(pid) for pid in (ran[0] / "pids").read_text().split()]
        assert len(pids) == 2
        assert all(is_gone(pid) for pid in pids)
        assert not [name for name in os.listdir("/dev/shm") if name.startswith("left_by_")]

    def test_the_page_has_no_empty_cell(self, ran: Any) -> None:
        """Every cell of the table says something, and ratios, aims and verdicts are there."""
        page = page_of(ran[0])
        table = [line for line in page.splitlines() if line.startswith("|")]
        assert len(table) > 4
        assert all(cell.strip() for line in table for cell in line.strip("|").split("|"))
        assert "prints: 0.50x (once) of 4.00 s" in page
        assert "at most 0.5x prints<br>at most 1x raises<br>at least 9.00 s" in page
        assert "yes<br>not known<br>no" in page

    def test_the_aims_come_first(self, ran: Any) -> None:
        """Each aim is told with what was measured; what nobody measured is told as well."""
        aims = aims_of(page_of(ran[0]))
        assert ids_of(aims) == [*LISTED, "deaths", "broken", "unruly"]
        assert aims.count("| not measured |") == len(LISTED) + 1
        assert "| broken | broken | none | no aim |" in aims
        assert "| unruly | unruly | at most 0.5x prints | **yes**: 0.50x |" in aims
        assert "| unruly | unruly | at most 1x raises | **not known**: not known |" in aims
        assert "| unruly | unruly | at least 9.00 s | **no**: 2.00 s |" in aims


LISTED = [*(f"B{number}" for number in range(1, 14)), "memory", "scale"]
"""What the page has to tell of, in this order, whatever was measured."""


def aims_of(page: str) -> str:
    """The table of the aims."""
    return page.partition("## The aims")[2].partition("\n## ")[0]


def ids_of(table: str) -> list[str]:
    """The ids of its rows, each once."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return list(dict.fromkeys(line.split("|")[1].strip() for line in lines[2:]))


def test_the_page_tells_of_every_figure_on_both() -> None:
    """The page of this project has each figure, measured, in the order of the list."""
    aims = aims_of((ROOT / "BENCHMARKS.md").read_text("utf-8"))
    assert "CPython" in aims
    assert "PyPy" in aims
    assert ids_of(aims) == [*LISTED, "deaths"]
    assert "not measured" not in aims


def rows(where: Path) -> Any:
    """The rows that were written."""
    return json.loads((where / "result.json").read_text())["rows"]


def page_of(where: Path) -> str:
    """The page made of what was written."""
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.table", "page.md", "result.json"],
        cwd=where,
        env={**plain_environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].endswith("ZeroDivisionError: division by zero")
    return (where / "page.md").read_text()


class TestRounds:
    """The rounds in which everybody takes a turn."""

    def test_the_one_that_warms_up_never_counts(self, tmp_path: Path) -> None:
        """However long the first round lasts, what counts is one after it."""
        assert turns_of("warming", WARMING, tmp_path) == "{'ours': [2.0]}\n"

    def test_what_is_compiled_is_kept(self, tmp_path: Path) -> None:
        """Our modules, like those of installed peers, are not compiled in each process anew."""
        forbidden = {"PYTHONDONTWRITEBYTECODE": "1"}
        assert turns_of("keeping", KEEPING, tmp_path, **forbidden) == "{'ours': [1.0]}\n"


def turns_of(name: str, figure: str, where: Path, **environment: str) -> str:
    """What the turns of a figure that is written here were."""
    shutil.copytree(ROOT / "benchmarks", where / "benchmarks")
    (where / "benchmarks" / f"{name}.py").write_text(figure)
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MEASURE_IN_NO_TIME.format(file=name))],
        cwd=where,
        env={**plain_environment(), "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


class TestCommand:
    """python -m benchmarks."""

    def test_an_unknown_name_is_said_so(self) -> None:
        """A figure that does not exist is an error, and nothing is measured."""
        ended = measure(ROOT, "B99")
        assert ended.returncode == 1
        assert ended.stderr == "no figure is called B99\n"

    def test_of_one_figure_measures_that_one(self) -> None:
        """A figure is found by its id, in any case, and told with its aims."""
        ended = measure(ROOT, "b13")
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.startswith("B13")
        assert "at most 0.5x multiprocessing" in ended.stdout
