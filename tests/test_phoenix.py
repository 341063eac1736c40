# SPDX-License-Identifier: MIT
"""The programs of Phoenix: `share=` leaves what the loop leaves, and asks for few lines."""

from __future__ import annotations

import importlib
import inspect
import operator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import share
from benchmarks.phoenix import changes

PROGRAMS = {name: importlib.import_module(f"benchmarks.phoenix.{name}") for name in share.PROGRAMS}


class Case:
    """A program, a small input, and what its loop makes of it."""

    def __init__(self, name: str) -> None:
        self.program = PROGRAMS[name]
        self.given = self.program.make(self.program.SIZES["test"], 1)
        self.expected = self.program.sequential(self.given)

    def agrees(self, result: Any) -> bool:
        return getattr(self.program, "equal", operator.eq)(result, self.expected)


@pytest.fixture(scope="module", params=PROGRAMS)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def test_there_are_eight() -> None:
    """No program is left out by whoever looks for them."""
    assert len(PROGRAMS) == 8


class TestPrograms:
    """sequential, ours and with_pool of each program."""

    def test_the_input_follows_from_the_seed(self, case: Case) -> None:
        """The same seed makes the same input."""
        assert case.program.make(case.program.SIZES["test"], 1) == case.given

    def test_another_input_has_another_result(self, case: Case) -> None:
        """Results can be told apart, so that the other tests could fail."""
        other = case.program.make(case.program.SIZES["test"], 2)
        assert not case.agrees(case.program.sequential(other))

    @pytest.mark.parametrize(("concurrency", "chunksize"), [(1, 0), (2, 0), (3, 7), (2, 1000)])
    def test_share_leaves_what_the_loop_leaves(
        self, case: Case, concurrency: int, chunksize: int
    ) -> None:
        """The result is the loop's for any number of children and chunks of any size."""
        assert case.agrees(case.program.ours(case.given, concurrency, chunksize))

    @pytest.mark.parametrize("processes", [1, 3])
    def test_a_pool_finds_the_same(self, case: Case, processes: int) -> None:
        """The program that share= is compared with is right."""
        assert case.agrees(case.program.with_pool(case.given, processes))

    def test_share_changes_fewer_lines_than_a_pool(self, case: Case) -> None:
        """Sharing takes a line or a few, merging by hand takes more."""
        source = inspect.getsource(case.program)
        ours, pool = (
            changes.lines_changed(source, "sequential", way) for way in ("ours", "with_pool")
        )
        assert 2 <= ours < pool


def test_the_readme_says_how_many_lines() -> None:
    """Its figures are those that are counted."""
    sources = [inspect.getsource(program) for program in PROGRAMS.values()]
    readme = (Path(__file__).resolve().parent.parent / "README.md").read_text("utf-8")
    for way in ("ours", "with_pool"):
        counted = [changes.lines_changed(source, "sequential", way) for source in sources]
        assert f" by {min(counted)} to {max(counted)} " in readme


SOURCE = """\
import map_of_theirs
START = 1

total = START

def add(n):
    global total
    total += n

def loop(ns):
    for n in ns:
        add(n)

    return total

def ours(ns: list,
         chunksize=0):
    map_of_theirs.map(add, ns)
    return total

def by_hand(ns):
    return sum(parts(ns))

def parts(ns):
    return ns
"""


class TestLinesChanged:
    """lines_changed(source, before, after)."""

    def test_lines_that_are_new_or_different_count(self) -> None:
        """An import and the line in place of the loop; neither the header nor what was deleted."""
        assert changes.lines_changed(SOURCE, "loop", "ours") == 2

    def test_what_only_the_other_way_needs_counts(self) -> None:
        """A function that is called counts with its header."""
        assert changes.lines_changed(SOURCE, "loop", "by_hand") == 3

    def test_a_program_is_what_it_needs(self) -> None:
        """Names are followed through functions to the values they begin with."""
        assert changes.program(SOURCE, "loop")[:2] == ["START = 1", "total = START"]
        assert changes.program(SOURCE, "by_hand") == [
            "    return sum(parts(ns))",
            "def parts(ns):",
            "    return ns",
        ]
