# SPDX-License-Identifier: MIT
"""The documents: their Python runs, and what they point to exists."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
from scenario import run_program

import snakefish

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted(
    str(path.relative_to(ROOT)) for place in (ROOT, ROOT / "docs") for path in place.glob("*.md")
)
SHELL = ("make ", "pip ", "python ", "git ", "$ ", "apt-get ", ".ci/")


def code_blocks(text: str) -> list[str]:
    """The Python among the indented and the fenced blocks of a document."""
    fenced = re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    indented = re.findall(r"(?:^(?: {4}.*)?\n)*^ {4}.*\n", text, flags=re.MULTILINE)
    blocks = [textwrap.dedent(block).strip("\n") for block in [*fenced, *indented]]
    return [block for block in blocks if not block.startswith(SHELL)]


def test_python_of_the_readme_runs() -> None:
    """The README's blocks, one after the other, are a program that ends well."""
    blocks = code_blocks((ROOT / "README.md").read_text("utf-8"))
    assert blocks
    ended = run_program("\n".join(blocks), preamble="")
    assert (ended.status, ended.complaint) == (0, "")


def test_first_example_leaves_what_its_loop_leaves() -> None:
    """With the loop that the text names in place of map, it prints the same."""
    example = code_blocks((ROOT / "README.md").read_text("utf-8"))[0]
    call = r"snakefish\.map\(examine, (.*), share=.*\)"
    loop, calls = re.subn(call, r"for n in \1: examine(n)", example)
    assert calls == 1
    assert run_program(example, preamble="") == run_program(loop, preamble="")


def test_readme_has_every_public_name() -> None:
    """Whatever the package offers is named there, as code."""
    text = (ROOT / "README.md").read_text("utf-8")
    named = set(re.findall(r"\w+", " ".join(re.findall(r"`[^`\n]+`", text))))
    assert sorted(set(snakefish.__all__) - {"__version__"} - named) == []


def test_map_of_the_architecture_has_every_module() -> None:
    """What a file of the package is about can be looked up."""
    told = set(re.findall(r"\w+\.py", (ROOT / "ARCHITECTURE.md").read_text("utf-8")))
    modules = {path.name for path in (ROOT / "snakefish").glob("*.py")}
    assert sorted(modules - told) == ["__init__.py"]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    """Every relative link of a document is a file of the project."""
    text = (ROOT / name).read_text("utf-8")
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text)
    beside = (ROOT / name).parent
    assert [target for target in targets if not (beside / target).exists()] == []
