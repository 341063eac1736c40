# SPDX-License-Identifier: MIT
"""Runs all rows on the interpreters given, comparisons also with the peers; prints the document.

    python tests/faults/table.py PYTHON [PYTHON ...] > FAULTS.md

What the cells say is what the programs reported. The peers run on the first interpreter.
"""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from typing import NamedTuple

import runner
import sections
from libraries import LIBRARIES, PEERS
from row import Row

NOTHING = "-"
_LONGEST = 70


class Column(NamedTuple):
    """A library on an interpreter."""

    heading: str
    library: str
    python: str


class Cell(NamedTuple):
    """What a column shows for a row."""

    text: str
    held: bool
    injected: int


def _version(python: str) -> str:
    """What an interpreter calls itself."""
    code = (
        "import platform as p, sys; print(p.python_implementation(), '.'.join(map(str, "
        "getattr(sys, 'pypy_version_info', sys.version_info)[:3])))"
    )
    return subprocess.check_output([python, "-c", code], text=True).strip()


def _kernel() -> str:
    return f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}"


def _versions_of_peers(python: str) -> str:
    code = (
        "import importlib.metadata as m, sys; print(', '.join(f'{n} {m.version(n)}' "
        "for n in sys.argv[1:]))"
    )
    modules = [module for peer in PEERS for module in LIBRARIES[peer].modules]
    return subprocess.check_output([python, "-c", code, *modules], text=True).strip()


def _cell(row: Row, column: Column) -> Cell:
    """Run what the row has for a column."""
    is_ours = column.library == "snakefish"
    outcomes = [
        runner.run(scenario, column.library, column.python)
        for scenario in row.scenarios
        if is_ours or scenario.is_comparison
    ]
    failures = list(dict.fromkeys(outcome.text for outcome in outcomes if not outcome.held))
    injected = sum(outcome.injected for outcome in outcomes)
    for outcome in outcomes:
        if is_ours and not outcome.held:
            print(row.identity, column.heading, outcome.text, outcome.complaint, file=sys.stderr)
    if not outcomes:
        return Cell(NOTHING, True, 0)
    text = "; ".join(map(_short, failures)) or f"held ({injected})" if is_ours else ""
    return Cell(text or "; ".join(map(_short, failures)) or "held", not failures, injected)


def _short(text: str) -> str:
    """One line for a cell."""
    line = re.sub(r"\s+", " ", text).replace("|", "\\|")
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _print_section(heading: str, rows: list[Row], columns: list[Column]) -> list[list[Cell]]:
    print(f"\n## {heading}\n")
    print(_line(["", "fault", "what must happen", *[column.heading for column in columns]]))
    print(_line(["---"] * (3 + len(columns))))
    table = []
    for row in rows:
        cells = [_cell(row, column) for column in columns]
        print(_line([row.identity, row.fault, row.promise, *[cell.text for cell in cells]]))
        sys.stdout.flush()
        table.append(cells)
    return table


def main(pythons: list[str]) -> int:
    """Print the document; return 1 if one of our own cells does not hold."""
    columns = [Column(_version(python), "snakefish", python) for python in pythons]
    ours = len(columns)
    columns += [Column(peer, peer, pythons[0]) for peer in PEERS]
    print(
        _HEAD.format(
            system=f"{_kernel()} {platform.machine()}",
            peers=_versions_of_peers(pythons[0]),
        )
    )
    table: list[list[Cell]] = []
    for section, heading in sections.SECTIONS.items():
        table += _print_section(heading, sections.rows_of(section), columns)
    print("\n## In all\n")
    print(_line(["", *[column.heading for column in columns]]))
    print(_line(["---"] * (1 + len(columns))))
    tried = [[row[n] for row in table if row[n].text != NOTHING] for n in range(len(columns))]
    print(
        _line(
            [
                "rows held of those tried",
                *[f"{sum(c.held for c in cells)} / {len(cells)}" for cells in tried],
            ]
        )
    )
    injected = [str(sum(cell.injected for cell in cells)) for cells in tried[:ours]]
    print(_line(["faults injected", *injected, *[NOTHING] * len(PEERS)]))
    return 0 if all(cell.held for cells in tried[:ours] for cell in cells) else 1


_HEAD = """\
# Faults

What can go wrong, what must happen then, and what did happen: `make faults` wrote this file from
its own run on {system}. Every fault is injected in a program of its own, under a time limit; when
the program has ended, no process, descriptor, shared mapping or name of it may be left, and no
child may have run on into the program's end. A number is how many faults were injected.

The last columns are what `multiprocessing.Pool`, `concurrent.futures.ProcessPoolExecutor`, joblib
with its loky workers and mpire do on the same scenario, in the same harness, under the same limit
({peers}); there is none where the fault cannot happen to them because
they have nothing like it."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
