# SPDX-License-Identifier: MIT
"""What cffi is told and what the header declares are the same functions."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from snakefish._native import lib

ROOT = Path(__file__).resolve().parent.parent
HOOK = "sf_fork_hook"
"""The one function that is Python's, not the header's."""


def declared() -> set[str]:
    """The functions of the public header."""
    text = re.sub(r"/\*.*?\*/", "", (ROOT / "c/snakefish.h").read_text("utf-8"), flags=re.DOTALL)
    return set(re.findall(r"\bSF_API\b[^;(]*?\b(sf_\w+)\(", text))


def compiled() -> set[str]:
    """The functions of the compiled module."""
    return {name for name in dir(lib) if name.startswith("sf_")} - {HOOK}


def stubbed() -> set[str]:
    """The functions of the compiled module's stub."""
    tree = ast.parse((ROOT / "snakefish/_sf.pyi").read_text("utf-8"))
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("sf_")
    } - {HOOK}


def test_header_declares_what_is_compiled() -> None:
    """Every function of the header can be called from Python, and no other."""
    assert len(declared()) > 30
    assert compiled() == declared()


def test_stub_declares_what_is_compiled() -> None:
    """The stub names every function of the compiled module, and no other."""
    assert stubbed() == compiled()


def test_every_declaration_is_marked_public() -> None:
    """A function of the header without its mark would not be exported."""
    text = re.sub(r"/\*.*?\*/", "", (ROOT / "c/snakefish.h").read_text("utf-8"), flags=re.DOTALL)
    assert set(re.findall(r"\b(sf_\w+)\(", text)) == declared()
