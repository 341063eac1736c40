# SPDX-License-Identifier: MIT
"""Rounds in which everybody takes a turn, in an order that is shuffled anew each time.

A machine is not the same from one second to the next; who is measured in the same round had the
same machine. So ratios are made of pairs of one round, and only then medians are taken.

A peer whose turns have taken their share of time leaves the others alone: it has the first rounds
only. Its share is larger if an aim names it. Ours and the limit have all rounds.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks.figure import LIMIT, OURS
from benchmarks.measured import Row
from benchmarks.runner_process import RunnerError, RunnerProcess, end_orphans

if TYPE_CHECKING:
    from benchmarks.discovery import Place
    from benchmarks.figure import Figure, Scale

# All of these are so many times the seconds of the scale.
IMPATIENCE = 20
"""Even the fewest rounds are too many when they have taken so long."""
BUDGET = 3
"""For the turns of a peer that an aim names."""
SHORT_BUDGET = 0.6
"""For those of another peer."""
LONG = 3
"""A peer's first turn that lasts so long counts and is its last: what it made in it is little."""


def measure(place: Place) -> Row:
    """Measure a figure; who fails is ended at once, and has no turns."""
    began = time.monotonic()
    figure = place.figure()
    with _processes(place, list(figure.runners)) as processes:
        rounds = Rounds(processes, figure, place.scale)
        if place.scale.warms_up and figure.warms_up:
            rounds.warm_up()
        while not rounds.are_enough():
            rounds.play_one()
    return Row.of(figure, rounds.turns(), rounds.failures, time.monotonic() - began)


@contextmanager
def _processes(place: Place, names: list[str]) -> Iterator[dict[str, RunnerProcess]]:
    processes: dict[str, RunnerProcess] = {}
    scratch = tempfile.mkdtemp(prefix="benchmark-")
    try:
        for name in names:
            processes[name] = RunnerProcess(place, name, scratch)
        yield processes
    finally:
        for process in processes.values():
            process.end()
        end_orphans()
        shutil.rmtree(scratch, ignore_errors=True)


class Rounds:
    """Who still takes turns, and what came of them."""

    def __init__(self, processes: dict[str, RunnerProcess], figure: Figure, scale: Scale) -> None:
        self.failures: dict[str, str] = {}
        self._processes = processes
        self._scale = scale
        self._count = 0
        self._turns: dict[str, list[list[float]]] = {name: [] for name in processes}
        self._spent = dict.fromkeys(processes, 0.0)
        named = {aim.against for aim in figure.aims}
        self._budgets = {
            name: scale.seconds * (BUDGET if name in named else SHORT_BUDGET)
            for name in processes.keys() - {OURS, LIMIT}
        }

    def warm_up(self) -> None:
        """Have everybody take a turn that does not count, unless it was a long one."""
        for name, samples in self._round().items():
            if name in self._budgets and self._spent[name] > LONG * self._scale.seconds:
                self._turns[name].append(samples)
                self._processes.pop(name).end()
            self._spent[name] = 0.0

    def play_one(self) -> None:
        """Have everybody who is left take a turn; then whose time is up goes."""
        for name, samples in self._round().items():
            self._turns[name].append(samples)
            if self._spent[name] > self._budgets.get(name, float("inf")):
                self._processes.pop(name).end()
        self._count += 1

    def _round(self) -> dict[str, list[float]]:
        order = list(self._processes)
        random.Random(self._count).shuffle(order)
        turns = {name: self._turn(name) for name in order}
        return {name: samples for name, samples in turns.items() if samples is not None}

    def _turn(self, name: str) -> list[float] | None:
        began = time.monotonic()
        try:
            return self._processes[name].turn()
        except RunnerError as failed:
            self.failures[name] = str(failed)
            self._processes.pop(name).end()
            return None
        finally:
            self._spent[name] += time.monotonic() - began

    def are_enough(self) -> bool:
        """Whether those who are left have had as many rounds, or as much time, as they should."""
        elapsed = sum(self._spent[name] for name in self._processes)
        if not self._processes or self._count >= self._scale.most:
            return True
        if elapsed > IMPATIENCE * self._scale.seconds:
            return True
        return self._count >= self._scale.fewest and elapsed > self._scale.seconds

    def turns(self) -> dict[str, list[list[float]]]:
        """Return the samples of each turn of everybody who did not fail."""
        return {name: turns for name, turns in self._turns.items() if name not in self.failures}
