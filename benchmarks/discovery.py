# SPDX-License-Identifier: MIT
"""Which figures there are: the files of this directory that have a function `figures`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.figure import Figure, Scale


class Place(NamedTuple):
    """Where a figure is found again, by another process."""

    file: str
    number: int
    scale: Scale

    def figure(self) -> Figure:
        """Return the figure itself."""
        return listed(self.file, self.scale)[self.number]


def listed(file: str, scale: Scale) -> list[Figure]:
    """Return the figures that a file holds."""
    figures: list[Figure] = importlib.import_module(f"benchmarks.{file}").figures(scale)
    return figures


def files() -> list[str]:
    """Return the names of all files that hold figures, in the order of their names."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if _holds_figures(path))


def _holds_figures(path: Path) -> bool:
    """A file that cannot be imported counts, so that it is told what is wrong with it."""
    return "\ndef figures(" in path.read_text("utf-8")


def places(file: str, scale: Scale, wanted: Iterable[str] = ()) -> list[Place]:
    """Return where the figures of *file* are that are wanted, by their id or their file's name."""
    names = {name.casefold() for name in wanted}
    return [
        Place(file, number, scale)
        for number, figure in enumerate(listed(file, scale))
        if not names or names & {file.casefold(), figure.id.casefold()}
    ]
