# SPDX-License-Identifier: MIT
"""B11 measures only programs that are right, and everybody at the same work."""

from __future__ import annotations

import pytest

from benchmarks import b11_programs
from benchmarks.b11_programs import Program
from benchmarks.figure import LIMIT, OURS, TINY
from benchmarks.games import fannkuch_redux


@pytest.fixture
def program() -> Program:
    return Program("games.fannkuch_redux", "test")


class TestProgram:
    @pytest.mark.parametrize("how", ["sequential", "ours", "with_pool"])
    @pytest.mark.parametrize("knows", [False, True])
    def test_right_result_is_measured(self, program: Program, how: str, knows: bool) -> None:
        """A turn of a program that is right is its time."""
        assert program.turn(how, warm=knows) > 0

    def test_wrong_result_is_refused(
        self, program: Program, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A turn of a program that gives something else fails."""
        monkeypatch.setattr(fannkuch_redux, "ours", lambda size: (0, 0))
        with pytest.raises(AssertionError, match="not what the plain program gives"):
            program.turn("ours")

    def test_all_cores_run_the_plain_program(self, program: Program) -> None:
        """The limit is a time too, and leaves no child behind."""
        assert program.turn_of_all_cores() > 0

    def test_plain_program_that_fails_is_no_limit(
        self, program: Program, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A child that raises is noticed by its status."""
        assert program.turn_of_all_cores() > 0
        monkeypatch.setattr(fannkuch_redux, "stretch", lambda *where: 1 // 0)
        with pytest.raises(AssertionError):
            program.turn_of_all_cores()


def test_all_fifteen_have_a_figure() -> None:
    """Each program is a case of its own, measured beside the limit."""
    figures = b11_programs.figures(TINY)
    assert len({figure.case for figure in figures}) == 15
    assert all({OURS, LIMIT} <= set(figure.runners) for figure in figures)
