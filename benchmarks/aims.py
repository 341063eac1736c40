# SPDX-License-Identifier: MIT
"""The aims, and what was measured of each on each interpreter: a table to begin with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from benchmarks import words
from benchmarks.figure import LIMIT, Aim
from benchmarks.measured import Row, Run

FIGURES = {
    "B1": "start + join + result of a trivial function",
    "B2": "one-way latency of a small object",
    "B3": "stream of small objects, messages/s",
    "B4": "stream of bytes, bytes/s",
    "B5": "one large result, bytes/s",
    "B6": "map of a million trivial items",
    "B7": "map where one item in a hundred costs 100 times as much",
    "B8": "map that reads large inherited data",
    "B9": "what a child changed, brought back",
    "B10": "pipeline of three stages",
    "B11": "whole programs",
    "B12": "start + join + result in a parent that holds much",
    "B13": "import",
    "memory": "memory held",
    "scale": "many children at once, a child",
    "deaths": "until a death, or a Ctrl-C, is known",
}
"""What there is to be told of, whether it was measured or not."""

FEW = 4
"""So many cases are told one by one, of more only the ends."""


class Goal(NamedTuple):
    """An aim that cases of a figure have in common, against the limit or against peers."""

    id: str
    is_limit: bool
    bounds: str


class Found(NamedTuple):
    """What an aim was found to be in one case, against one peer."""

    goal: Goal
    row: Row
    aim: Aim

    def measured(self) -> float | None:
        return self.row.measured(self.aim)

    def number(self) -> str:
        measured = self.measured()
        if measured is None:
            return "not known"
        return words.times(measured) if self.aim.against else words.amount(measured, self.row.unit)


def summary(runs: Sequence[Run]) -> str:
    """Return how many of the aims are reached on each interpreter."""
    counts = []
    for run in runs:
        several = [found for row in run.rows for found in found_in(run, row)]
        goals = {found.goal for found in several}
        missed = {found.goal for found in several if not found.row.reached(found.aim)}
        counts.append(f"{len(goals - missed)} of {len(goals)} on {run.interpreter}")
    return f"Reached in all their cases: {', '.join(counts)}.\n"


def table(runs: Sequence[Run]) -> str:
    """Return the table; each figure has a row for each of its aims, and no cell is empty."""
    heads = ("id", "figure", "aim", *(f"{run.interpreter}: reached, measured" for run in runs))
    ids = dict.fromkeys([*FIGURES, *(row.id for run in runs for row in run.rows)])
    rows = [cells for one in ids for cells in rows_of(one, runs)]
    return "\n".join(map(words.line, (heads, ["---"] * len(heads), *rows))) + "\n"


def rows_of(one: str, runs: Sequence[Run]) -> Iterator[list[str]]:
    everything = [
        [found for row in run.rows if row.id == one for found in found_in(run, row)] for run in runs
    ]
    goals = list(dict.fromkeys(found.goal for several in everything for found in several))
    for goal in goals:
        of_goal = [[found for found in several if found.goal == goal] for several in everything]
        together = [found for several in of_goal for found in several]
        yield [one, figure(one, together), aim(together), *(verdict(found) for found in of_goal)]
    if not goals:
        measured = [any(row.id == one for row in run.rows) for run in runs]
        states = ["no aim" if some else "not measured" for some in measured]
        yield [one, FIGURES.get(one, one), "none", *states]


def found_in(run: Run, row: Row) -> Iterator[Found]:
    for aim in row.aims_on(run.interpreter):
        alike = [other for other in row.aims if other.against == aim.against]
        bounds = words.bounds_by_interpreter(alike, row.unit)
        yield Found(Goal(row.id, aim.against == LIMIT, bounds), row, aim)


def figure(one: str, together: Sequence[Found]) -> str:
    """Return what the figure is, and the cases of an aim if they are few."""
    what = FIGURES.get(one, one)
    cases = dict.fromkeys(found.row.case for found in together)
    return f"{what}: {', '.join(cases)}" if all(cases) and len(cases) <= FEW else what


def aim(together: Sequence[Found]) -> str:
    """Return what was aimed at, on each interpreter."""
    first = together[0]
    alike = [aim for aim in first.row.aims if aim.against == first.aim.against]
    names = dict.fromkeys(found.aim.against for found in together if found.aim.against)
    of = " the limit" if first.goal.is_limit else f" {', '.join(names)}"
    return words.bounds_by_interpreter(alike, first.row.unit, of)


def verdict(several: Sequence[Found]) -> str:
    """Say whether an aim is reached, in how many of its cases, and what was measured."""
    if not several:
        return "no aim"
    reached = [words.verdict(found.row, found.aim) for found in several]
    answer = next((word for word in ("no", "not known") if word in reached), "yes")
    count = f", {reached.count('yes')} of {len(several)}" if several[1:] else ""
    return f"**{answer}**{count}: {numbers(several)}"


def numbers(several: Sequence[Found]) -> str:
    if len(several) <= FEW:
        return ", ".join(f"{name(found, several)} {found.number()}".strip() for found in several)
    known = sorted(
        (found for found in several if found.measured() is not None),
        key=lambda found: found.measured() or 0.0,
    )
    if not known:
        return "nothing"
    ends = known if several[0].aim.at_least is None else known[::-1]
    return f"{ends[0].number()} to {ends[-1].number()} ({name(ends[-1], several)})"


def name(found: Found, several: Sequence[Found]) -> str:
    """Return what tells a case from the others: itself, or the peer, or both."""
    cases = {other.row.case for other in several}
    peers = {other.aim.against for other in several}
    parts = [found.row.case] * (len(cases) > 1) + [found.aim.against or ""] * (len(peers) > 1)
    return ", ".join(parts)
