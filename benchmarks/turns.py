# SPDX-License-Identifier: MIT
"""Rounds in which everybody takes a turn, in an order that is shuffled anew each time.

A machine is not the same from one second to the next; who is measured in the same round had the
same machine. So ratios are made of pairs of one round, and only then medians are taken.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks.figure import LIMIT, OURS
from benchmarks.measured import Row
from benchmarks.runner_process import RunnerError, RunnerProcess, end_orphans

if TYPE_CHECKING:
    from benchmarks.discovery import Place
    from benchmarks.figure import Scale

IMPATIENCE = 10
"""So many times the seconds of the scale, and even the fewest rounds are too many."""

BUDGET = 5
"""So many times the seconds of the scale are for the turns of one peer; then the others go on."""

Round = dict[str, list[float]]


def measure(place: Place) -> Row:
    """Measure a figure; who fails is ended at once, and has no turns."""
    figure = place.figure()
    failures: dict[str, str] = {}
    with _processes(place, list(figure.runners), failures) as processes:
        if place.scale.warms_up and figure.warms_up:
            _round(processes, failures, dict.fromkeys(processes, 0.0), random.Random(0))
        rounds = _rounds(processes, failures, place.scale)
    measured = [name for name in figure.runners if name not in failures]
    turns = {name: [one[name] for one in rounds if name in one] for name in measured}
    return Row.of(figure, turns, failures)


@contextmanager
def _processes(
    place: Place, names: list[str], failures: dict[str, str]
) -> Iterator[dict[str, RunnerProcess]]:
    processes: dict[str, RunnerProcess] = {}
    try:
        for name in names:
            processes[name] = RunnerProcess(place, name)
        yield processes
    finally:
        for process in processes.values():
            process.end()
        end_orphans()


def _rounds(
    processes: dict[str, RunnerProcess], failures: dict[str, str], scale: Scale
) -> list[Round]:
    rounds: list[Round] = []
    spent = dict.fromkeys(processes, 0.0)
    while processes:
        rounds.append(_round(processes, failures, spent, random.Random(len(rounds))))
        for name in _slow(spent, scale) & processes.keys():
            processes.pop(name).end()
        if _is_enough(len(rounds), sum(spent[name] for name in processes), scale):
            break
    return rounds


def _slow(spent: dict[str, float], scale: Scale) -> set[str]:
    """Return the peers whose turns, of *spent* seconds together, have been long enough."""
    return {name for name in spent if spent[name] > BUDGET * scale.seconds} - {OURS, LIMIT}


def _is_enough(count: int, elapsed: float, scale: Scale) -> bool:
    if count >= scale.most or elapsed > IMPATIENCE * scale.seconds:
        return True
    return count >= scale.fewest and elapsed > scale.seconds


def _round(
    processes: dict[str, RunnerProcess],
    failures: dict[str, str],
    spent: dict[str, float],
    dice: random.Random,
) -> Round:
    order = list(processes)
    dice.shuffle(order)
    turns: Round = {}
    for name in order:
        began = time.monotonic()
        try:
            turns[name] = processes[name].turn()
        except RunnerError as failed:
            failures[name] = str(failed)
            processes.pop(name).end()
        spent[name] += time.monotonic() - began
    return turns
