# SPDX-License-Identifier: MIT
"""Which figures there are: the files of this directory that have a function `figures`."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, NamedTuple

import benchmarks

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
    names = (module.name for module in pkgutil.iter_modules(benchmarks.__path__))
    return sorted(name for name in names if name != "__main__" and _holds_figures(name))


def _holds_figures(name: str) -> bool:
    """A file that cannot be imported counts, so that it is told what is wrong with it."""
    try:
        return hasattr(importlib.import_module(f"benchmarks.{name}"), "figures")
    except Exception:  # noqa: BLE001 - whatever it raises, the other files are measured
        return True


def places(file: str, scale: Scale, wanted: Iterable[str] = ()) -> list[Place]:
    """Return where the figures of *file* are that are wanted, by their id or their file's name."""
    names = {name.casefold() for name in wanted}
    return [
        Place(file, number, scale)
        for number, figure in enumerate(listed(file, scale))
        if not names or names & {file.casefold(), figure.id.casefold()}
    ]
