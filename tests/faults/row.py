# SPDX-License-Identifier: MIT
"""A row of the fault table: a fault, what must happen then, and the scenarios that show it.

A scenario is a function of a *stage* (see stage.py) that injects the fault and
raises when the promise is broken. A *comparison* is one that any library can
run: it gets the library too (see libraries.py), and the same lines judge ours
and the peers.

    KILLED = Row("A2", "a signal while f computes", "join ends at once with status -N")

    @KILLED.scenario()
    def join_ends_at_once(stage): ...

    @KILLED.comparison()
    def the_error_names_the_signal(stage, library): ...
"""

from __future__ import annotations

from typing import Callable, NamedTuple

ORDINARY_TIME = 20.0
"""Seconds after which a scenario counts as hung."""


class Scenario(NamedTuple):
    """One way to inject a row's fault."""

    row: Row
    function: Callable[..., None]
    is_comparison: bool
    timeout: float

    @property
    def name(self) -> str:
        """What it says, as a function's name."""
        return self.function.__name__

    @property
    def section(self) -> str:
        """The module it is written in."""
        return self.function.__module__


class Row:
    """A fault and its promise, in the order in which they were written down."""

    def __init__(self, identity: str, fault: str, promise: str) -> None:
        self.identity = identity
        self.fault = fault
        self.promise = promise
        self.scenarios: list[Scenario] = []

    def scenario(self, timeout: float = ORDINARY_TIME) -> Callable[..., Callable[..., None]]:
        """Add a scenario about snakefish alone."""
        return self._adder(False, timeout)

    def comparison(self, timeout: float = ORDINARY_TIME) -> Callable[..., Callable[..., None]]:
        """Add a scenario that every library can run."""
        return self._adder(True, timeout)

    def _adder(self, is_comparison: bool, timeout: float) -> Callable[..., Callable[..., None]]:
        def add(function: Callable[..., None]) -> Callable[..., None]:
            self.scenarios.append(Scenario(self, function, is_comparison, timeout))
            return function

        return add
