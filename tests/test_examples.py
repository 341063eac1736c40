# SPDX-License-Identifier: MIT
"""Every example runs and says what it is expected to say."""

from __future__ import annotations

from pathlib import Path

import pytest
from scenario import run_program

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_example_says_what_is_expected(name: str) -> None:
    """An example ends well, does not complain, and writes its expected output."""
    program = f"import runpy; runpy.run_path({name + '.py'!r}, run_name='__main__')"
    ended = run_program(program, preamble="", cwd=str(EXAMPLES))
    assert (ended.status, ended.complaint) == (0, "")
    assert ended.output == (EXAMPLES / "expected" / f"{name}.txt").read_text("utf-8")


def test_every_expectation_has_its_example() -> None:
    """No expected output is left over from an example that is gone."""
    assert sorted(path.stem for path in (EXAMPLES / "expected").glob("*.txt")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_example_is_short_and_introduces_itself(name: str) -> None:
    """An example fits a screen or two and begins with what to look at."""
    text = (EXAMPLES / f"{name}.py").read_text("utf-8")
    assert '"""' in text.splitlines()[1]
