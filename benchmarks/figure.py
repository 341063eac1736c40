# SPDX-License-Identifier: MIT
"""What a figure is: something measured of us, of the peers and of the limit, in turns.

A file of this directory that holds a figure has one function, `figures(scale)`, which returns a
list with one Figure for each of its cases. It is found by having that function:

    def figures(scale: Scale) -> list[Figure]:
        count = scale.choose(tiny=100, quick=100_000)
        return [
            Figure(
                id="B3",
                case="int",
                what="stream of small objects",
                unit=PER_SECOND,
                runners={OURS: lambda: ours(count), "Pipe": lambda: pipe(count), LIMIT: ...},
                aims=(Aim("Pipe", at_least=6, on="CPython"), Aim("Pipe", at_least=5, on="PyPy")),
            )
        ]

A runner does the work once, asserts that the result is right, and returns what it measured of
itself: one number, or a list of samples of which the median counts and the distribution is kept.
It lives in a process of its own for all of its turns, so what must not be measured can be made in
the first turn and kept. A peer is imported inside its runner and nowhere else: a module that is
not found is "not installed", and any other exception is told in the table by its last line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Callable, TypeVar, Union

OURS = "ours"
LIMIT = "limit"

Choice = TypeVar("Choice")
Runner = Callable[[], Union[float, Sequence[float]]]


@dataclass(frozen=True)
class Unit:
    """What a number counts, and whether more of it is better."""

    symbol: str
    more_is_better: bool = False


SECONDS = Unit("s")
BYTES = Unit("B")
PER_SECOND = Unit("/s", more_is_better=True)
BYTES_PER_SECOND = Unit("B/s", more_is_better=True)
TIMES = Unit("x", more_is_better=True)
"""So many times as fast as the sequential program, or another of the figure's own reference."""


@dataclass(frozen=True)
class Scale:
    """How large and how careful a run is."""

    name: str
    seconds: float
    """For the turns of one figure, once everybody has had *fewest* of them."""
    fewest: int
    most: int
    warms_up: bool
    """Whether everybody has a first turn that does not count."""
    patience: float
    """Seconds without an answer after which a runner counts as hung."""

    def choose(self, *, tiny: Choice, quick: Choice, full: Choice | None = None) -> Choice:
        """Return what fits this scale; without *full*, that is as large as *quick*."""
        return {"tiny": tiny, "quick": quick, "full": quick if full is None else full}[self.name]


TINY = Scale("tiny", seconds=0, fewest=1, most=1, warms_up=False, patience=30)
QUICK = Scale("quick", seconds=1, fewest=3, most=25, warms_up=True, patience=10)
FULL = Scale("full", seconds=60, fewest=7, most=101, warms_up=True, patience=600)
SCALES = {scale.name: scale for scale in (TINY, QUICK, FULL)}


@dataclass(frozen=True)
class Aim:
    """How good it has to be: ours divided by *against* as measured, or alone ours as it is.

    It binds on the interpreter *on*, "CPython" or "PyPy", or on both. With *quantile* it is ours
    at that quantile of the samples that binds, instead of the median.
    """

    against: str | None = None
    at_most: float | None = None
    at_least: float | None = None
    on: str | None = None
    quantile: float | None = None


@dataclass(frozen=True)
class Figure:
    """One row of the table."""

    id: str
    """As in the list of figures, "B3"; several cases share it."""
    what: str
    unit: Unit
    runners: Mapping[str, Runner]
    """By name; OURS is one of them, LIMIT another where there is one."""
    case: str = ""
    """Which of the figure's cases it is: "int", "64 KiB"."""
    aims: Sequence[Aim] = ()
    size: float | None = None
    """Where it stands on the x axis of a plot, for cases that differ in size alone."""
    warms_up: bool = True
    """False where the first turn is as good as any other, or too long to throw away."""
