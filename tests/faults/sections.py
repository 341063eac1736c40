# SPDX-License-Identifier: MIT
"""All rows of the fault table, section by section."""

from __future__ import annotations

import importlib

from row import Row, Scenario

SECTIONS = {
    "child_dies": "A. The child dies",
    "untravelled": "B. Results and exceptions that do not travel",
    "merges": "C. extract and merge",
    "parent_disturbed": "D. The parent is disturbed",
    "machine_short": "E. The machine runs short",
    "fork_hygiene": "F. Fork hygiene",
    "misuse": "G. Misuse",
    "channels": "H. Channels",
    "maps": "I. map and starmap",
    "generators": "J. Generators",
    "leaks": "K. Leaks and scale",
    "load": "L, M, S. Time, escape and load",
}
"""The module of each section, and its heading."""


def rows_of(section: str) -> list[Row]:
    """The rows of a section, in the order in which they are written."""
    return [one for one in vars(importlib.import_module(section)).values() if isinstance(one, Row)]


def all_rows() -> list[Row]:
    """Every row of every section."""
    return [row for section in SECTIONS for row in rows_of(section)]


def all_scenarios() -> list[Scenario]:
    """Every scenario of every row."""
    return [scenario for row in all_rows() for scenario in row.scenarios]


def find(section: str, name: str) -> Scenario:
    """The scenario called *name*."""
    for row in rows_of(section):
        for scenario in row.scenarios:
            if scenario.name == name:
                return scenario
    raise LookupError(f"{section} has no scenario {name}")
