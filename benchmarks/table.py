# SPDX-License-Identifier: MIT
"""What was measured, as a page: `python -m benchmarks.table BENCHMARKS.md RESULT.json ...`.

The status is 1, and standard error says which, if a runner of ours failed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks import aims, words
from benchmarks.figure import OURS
from benchmarks.measured import Row, Run

PLOTS = Path("docs/plots")
OBSTACLES = Path("docs/what_stands_in_the_way.md")

HEAD = f"""\
# Benchmarks

What is measured of snakefish, of the libraries that do the same work, and of the **limit**, which
is the least that the work can cost. `make bench` measures all of it anew and writes this page.

## The aims

A number with an x is **ours divided by theirs**: of times where nothing else is said, so that less
is better, of speeds where it says "/s". What stands in the way of those that are not reached, and
what was tried, is in [{OBSTACLES.name}]({OBSTACLES}).
"""

TURNS = """\
## How it is measured

Everybody takes turns on one machine, round by round, in shuffled order. Each ratio is the median
over pairs of one round, with the least and the greatest in parentheses; who takes seconds for a
turn has fewer of them, or only one ("once"). Ratios carry over to other machines, absolute times do
not. What each figure is, exactly, is said in the head of its file in [benchmarks](benchmarks); each
peer runs with its best settings by its own documentation.

A cell always says something: "not installed" is a peer that this interpreter does not have or
cannot build, an exception is what the peer ended with, "none" says that there is no such peer,
limit or aim.
"""

ALL = "all"
COLUMNS = ("id", "figure", "better", "ours", "ours / peers", "ours / limit", "aim", "reached")


def main(target: str, *results: str) -> int:
    runs = [Run.from_json(json.loads(Path(path).read_text("utf-8"))) for path in results]
    Path(target).write_text(page(runs), "utf-8")
    failures = [
        f"{run.interpreter}: {row.id} {row.case}: {row.failures[OURS]}"
        for run in runs
        for row in run.rows
        if row.failed()
    ]
    print(*failures, sep="\n", end="\n" * bool(failures), file=sys.stderr)
    return int(bool(failures))


def page(runs: list[Run]) -> str:
    sections = [section(run) for run in runs]
    summary = [HEAD, aims.summary(runs), aims.table(runs), TURNS]
    return "\n".join([*summary, *sections, minutes(runs), *plots()])


def section(run: Run) -> str:
    lines = [
        f"## {run.interpreter} {run.version}",
        "",
        f"{run.date}, commit {run.commit}, a {run.scale} run on {run.machine}.",
        "",
        words.line(COLUMNS),
        words.line(["---"] * len(COLUMNS)),
        *(words.line(cells(row, run.interpreter)) for row in run.rows),
        "",
    ]
    return "\n".join(lines)


def cells(row: Row, interpreter: str) -> list[str]:
    """Return a row of the table; no cell is empty."""
    aims = row.aims_on(interpreter)
    return [
        f"{row.id} {row.case}".strip(),
        row.what,
        "more" if row.unit.more_is_better else "less",
        words.ours(row),
        in_lines(words.peers(row)),
        words.limit(row),
        in_lines([words.aim(aim, row.unit) for aim in aims]),
        in_lines([words.verdict(row, aim) for aim in aims]),
    ]


def in_lines(parts: list[str]) -> str:
    return "<br>".join(parts) or "none"


def minutes(runs: list[Run]) -> str:
    """Return how long each figure took on each interpreter."""
    if not any(seconds(run, ALL) for run in runs):
        return "## Plots\n"
    ids = [*dict.fromkeys(row.id for run in runs for row in run.rows), ALL]
    rows = [[one, *(f"{seconds(run, one):.0f} s" for run in runs)] for one in ids]
    columns = ["id", *(run.interpreter for run in runs)]
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(["## How long it took", "", *map(words.line, lines), "", "## Plots", ""])


def seconds(run: Run, one: str) -> float:
    return sum(row.took for row in run.rows if one in (row.id, ALL))


def plots() -> list[str]:
    """Return what shows the plots that were drawn."""
    return [f"![{path.stem.replace('-', ' ')}]({path})\n" for path in sorted(PLOTS.glob("*.svg"))]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
