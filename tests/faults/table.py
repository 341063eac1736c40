# SPDX-License-Identifier: MIT
"""Runs all rows on the interpreters given, comparisons also with the peers; prints the document.

    python tests/faults/table.py [--at-once N] PYTHON [PYTHON ...] > FAULTS.md

N rows are run at the same time, as most of the time is spent waiting for peers that hang. What the
cells say is what the programs reported. The peers run on the first interpreter.
"""

from __future__ import annotations

import argparse
import platform
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
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
    held = f"held ({injected})" if is_ours else "held"
    return Cell("; ".join(map(_short, failures)) or held, not failures, injected)


def _short(text: str) -> str:
    """One line for a cell."""
    line = re.sub(r"\s+", " ", text).replace("|", "\\|")
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(row: Row, columns: list[Column]) -> list[Cell]:
    return [_cell(row, column) for column in columns]


def _columns(pythons: list[str]) -> list[Column]:
    """Ours on every interpreter, then the peers on the first."""
    ours = [Column(_version(python), "snakefish", python) for python in pythons]
    return ours + [Column(peer, peer, pythons[0]) for peer in PEERS]


def _print_head(cells: list[str]) -> None:
    print(_line(cells))
    print(_line(["---"] * len(cells)))


def _print_rows(columns: list[Column], at_once: int) -> list[list[Cell]]:
    """Run and print all sections; return the cells of all rows."""
    table = []
    with ThreadPoolExecutor(at_once) as executor:
        cells_to_come = [executor.submit(_cells, row, columns) for row in sections.all_rows()]
        for section, heading in sections.SECTIONS.items():
            print(f"\n## {heading}\n")
            _print_head(["", "fault", "what must happen", *[one.heading for one in columns]])
            for row in sections.rows_of(section):
                cells = cells_to_come[len(table)].result()
                print(_line([row.identity, row.fault, row.promise, *[one.text for one in cells]]))
                sys.stdout.flush()
                table.append(cells)
    return table


def _print_sums(table: list[list[Cell]], columns: list[Column]) -> None:
    print("\n## In all\n")
    _print_head(["", *[column.heading for column in columns]])
    held, injected = [], []
    for number, column in enumerate(columns):
        tried = [cells[number] for cells in table if cells[number].text != NOTHING]
        held.append(f"{sum(cell.held for cell in tried)} / {len(tried)}")
        is_ours = column.library == "snakefish"
        injected.append(str(sum(cell.injected for cell in tried)) if is_ours else NOTHING)
    print(_line(["rows held of those tried", *held]))
    print(_line(["faults injected", *injected]))


def main() -> int:
    """Print the document; return 1 if one of our own cells does not hold."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("pythons", nargs="+")
    options = parser.parse_args()
    columns = _columns(options.pythons)
    system = f"{_kernel()} {platform.machine()}"
    print(_HEAD.format(system=system, peers=_versions_of_peers(options.pythons[0])))
    table = _print_rows(columns, options.at_once)
    _print_sums(table, columns)
    ours = len(options.pythons)
    return 0 if all(cell.held for cells in table for cell in cells[:ours]) else 1


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
    sys.exit(main())
