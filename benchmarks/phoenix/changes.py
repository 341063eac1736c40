# SPDX-License-Identifier: MIT
"""How many lines one way to run a program has that another way has not.

A module holds several ways to run one program. The text of one is its function, and each
statement of the module that defines a name used there, directly or through others: what would be
left if the other ways were deleted. Two such texts are compared line by line.
"""

from __future__ import annotations

import ast
import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def lines_changed(source: str, before: str, after: str) -> int:
    """Return how many lines of the text of *after* are not in that of *before*."""
    texts = [program(source, function) for function in (before, after)]
    matcher = difflib.SequenceMatcher(None, *texts, autojunk=False)
    return sum(last - first for tag, _, _, first, last in matcher.get_opcodes() if tag != "equal")


def program(source: str, function: str) -> list[str]:
    """Return the lines that *function* needs, without its own header, and without empty ones."""
    module, lines = ast.parse(source), source.splitlines()
    defined = {name: part for part in module.body for name in defines(part)}
    needed = set(reached(function, defined))
    text = []
    for part in module.body:
        if part in needed:
            whole = part.body if part is defined[function] else [part]  # type: ignore[attr-defined]
            text += [line for one in whole for line in lines[one.lineno - 1 : one.end_lineno]]
    return [line for line in text if line.strip()]


def reached(function: str, defined: dict[str, ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the definitions that *function* needs, itself among them."""
    wanted, seen = [function], set()
    while wanted:
        part = defined.get(wanted.pop())
        if part is not None and part not in seen:
            seen.add(part)
            yield part
            wanted += [node.id for node in ast.walk(part) if isinstance(node, ast.Name)]


def defines(part: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement of a module gives a value."""
    if isinstance(part, (ast.Import, ast.ImportFrom)):
        yield from (alias.asname or alias.name for alias in part.names)
    elif isinstance(part, (ast.FunctionDef, ast.ClassDef)):
        yield part.name
    else:
        nodes = (node for node in ast.walk(part) if isinstance(node, ast.Name))
        yield from (node.id for node in nodes if isinstance(node.ctx, ast.Store))
