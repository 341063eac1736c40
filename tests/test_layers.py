# SPDX-License-Identifier: MIT
"""The one-way street: a module imports only from layers below its own."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "snakefish"


def layers_drawn() -> list[set[str]]:
    """The modules of each layer in the drawing of ARCHITECTURE.md, from the top down."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    drawing, _, _ = text.partition("\n    Python  ")[2].partition("\n\n")
    return [set(re.findall(r"\w+", layer)) for layer in drawing.split("->")]


LAYERS = layers_drawn()


def imports_of(name: str) -> set[str]:
    """The modules of the package that a module names in import statements, wherever they stand."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{name}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            if node.module == "snakefish":
                found |= {alias.name for alias in node.names}
            elif node.module and node.module.startswith("snakefish."):
                found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "snakefish":
                    found.add((alias.name + ".").split(".")[1] or "__init__")
    return found


def layer_of(name: str) -> int:
    """The number of a module's layer, 0 at the top."""
    [number] = [number for number, names in enumerate(LAYERS) if name in names]
    return number


MODULES = sorted(path.stem for path in PACKAGE.glob("*.py"))
PACKAGES = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}


@pytest.mark.parametrize("name", MODULES)
def test_module_imports_only_from_layers_below(name: str) -> None:
    """Every import inside the package leads downwards."""
    upward = {other for other in imports_of(name) if layer_of(other) <= layer_of(name)}
    assert not upward


def test_every_layer_is_there() -> None:
    """The drawing and the files agree: nothing is drawn that does not exist."""
    drawn = set().union(*LAYERS) - {"_sf"}
    assert drawn == set(MODULES) | PACKAGES


def test_c_is_called_from_few_places() -> None:
    """Only the modules that wrap the C library touch it."""
    users = {name for name in MODULES if "_native" in imports_of(name) or "_sf" in imports_of(name)}
    assert "__init__" not in users
    assert not users & {"_map", "_thread", "_generator"}
