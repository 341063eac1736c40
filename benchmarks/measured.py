# SPDX-License-Identifier: MIT
"""What was measured: the turns of everybody, the ratios in pairs, and whether an aim is reached."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.figure import LIMIT, OURS, Aim, Unit

if TYPE_CHECKING:
    from benchmarks.figure import Figure


NOT_INSTALLED = "not installed"


class Spread(NamedTuple):
    """The middle of some numbers, the least and the greatest, and how many they are."""

    median: float
    least: float
    most: float
    count: int


def spread(numbers: Sequence[float]) -> Spread:
    return Spread(statistics.median(numbers), min(numbers), max(numbers), len(numbers))


@dataclass(frozen=True)
class Row:
    """A figure as it was measured on one interpreter."""

    id: str
    case: str
    what: str
    unit: Unit
    size: float | None
    aims: Sequence[Aim]
    names: Sequence[str]
    """Everybody, in the order of the table."""
    turns: Mapping[str, Sequence[float]]
    """By name, one number a round, for the slow of the first ones only; of several samples, their
    median."""
    percentiles: Mapping[str, Sequence[float]]
    """By name, the 0th to the 100th of all samples, where a turn has several."""
    failures: Mapping[str, str]
    """By name, why there is no number."""
    took: float = 0.0
    """Seconds, of all turns and of what had to be made for them."""

    @classmethod
    def of(
        cls,
        figure: Figure,
        turns: Mapping[str, list[list[float]]],
        failures: Mapping[str, str],
        took: float,
    ) -> Row:
        """Make the row of a figure of the samples of each turn."""
        return cls(
            id=figure.id,
            case=figure.case,
            what=figure.what,
            unit=figure.unit,
            size=figure.size,
            aims=list(figure.aims),
            names=list(figure.runners),
            turns={
                name: [statistics.median(samples) for samples in theirs]
                for name, theirs in turns.items()
            },
            percentiles={
                name: percentiles([sample for samples in theirs for sample in samples])
                for name, theirs in turns.items()
                if any(len(samples) > 1 for samples in theirs)
            },
            failures=dict(failures),
            took=took,
        )

    @classmethod
    def broken(cls, file: str, why: str) -> Row:
        """Make the row of a file whose figures cannot even be listed."""
        unit = Unit("")
        return cls(file, "", "cannot be listed", unit, None, [], [OURS], {}, {}, {OURS: why})

    def failed(self) -> bool:
        """Whether a runner of ours failed, and not for want of a module such as numpy."""
        return self.failures.get(OURS, NOT_INSTALLED) != NOT_INSTALLED

    def spread(self, name: str) -> Spread:
        """Return what *name* measured."""
        return spread(self.turns[name])

    def ratio(self, name: str) -> Spread:
        """Return ours divided by *name*'s, round by round."""
        pairs = zip(self.turns[OURS], self.turns[name])
        return spread([ours / theirs if theirs else float("inf") for ours, theirs in pairs])

    def peers(self) -> list[str]:
        return [name for name in self.names if name not in (OURS, LIMIT)]

    def measured(self, aim: Aim) -> float | None:
        """Return the number that an aim is about, None if there is none."""
        if not all(self.turns.get(name) for name in (OURS, aim.against or OURS)):
            return None
        if aim.against:
            return self.ratio(aim.against).median
        if aim.quantile is not None and OURS in self.percentiles:
            return self.percentiles[OURS][round(aim.quantile * 100)]
        return self.spread(OURS).median

    def reached(self, aim: Aim) -> bool | None:
        """Whether an aim is reached, None if nobody knows."""
        measured = self.measured(aim)
        if measured is None:
            return None
        at_least = float("-inf") if aim.at_least is None else aim.at_least
        return at_least <= measured <= (float("inf") if aim.at_most is None else aim.at_most)

    def aims_on(self, interpreter: str) -> list[Aim]:
        return [aim for aim in self.aims if aim.on in (None, interpreter)]


def percentiles(samples: Sequence[float]) -> list[float]:
    ordered = sorted(samples)
    return [ordered[round(n / 100 * (len(ordered) - 1))] for n in range(101)]


@dataclass(frozen=True)
class Run:
    """All rows of one run on one interpreter, and what is needed to understand them."""

    interpreter: str
    """As `platform.python_implementation()` says it."""
    version: str
    machine: str
    commit: str
    date: str
    scale: str
    rows: Sequence[Row]

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Run:
        return cls(**{**data, "rows": [_row_from_json(row) for row in data["rows"]]})


def _row_from_json(data: dict[str, Any]) -> Row:
    aims = [Aim(**aim) for aim in data["aims"]]
    return Row(**{**data, "unit": Unit(**data["unit"]), "aims": aims})
