# SPDX-License-Identifier: MIT
"""B11: whole programs, seven of the Benchmarks Game and eight of Phoenix.

The plain program, ours and multiprocessing's take turns. Each has the same input, and none is
measured that does not give what the plain program gives. Everything from the call to the result
counts, so making and ending a Pool does too.

The limit is what the machine gives to that very program: the plain one as many times at once as
there are cores, and the time of that by their number. Where cores share what they compute with,
that is more than the time of one by their number.

On PyPy a child goes on with what its parent has compiled. The parent of ours and of the Pool has
not run the program itself, as the user's would not have, so each child compiles for itself.
"ours, warm" and the limit have a parent that ran the plain program before.

`python -m benchmarks.b11_programs [fasta pca ...] [--rounds 5] [--small]` prints them as speed-ups.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import gc
import importlib
import multiprocessing
import operator
import os
import pickle
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from benchmarks import discovery, words
from benchmarks.figure import FULL, LIMIT, OURS, SECONDS, TINY, Aim, Figure, Runner, Scale
from benchmarks.measured import Spread, spread
from benchmarks.runner_process import SCRATCH, adopt_orphans
from benchmarks.turns import measure

if TYPE_CHECKING:
    from benchmarks.measured import Row

GAMES = (
    "binary_trees",
    "fannkuch_redux",
    "fasta",
    "k_nucleotide",
    "mandelbrot",
    "regex_redux",
    "spectral_norm",
)
PHOENIX = (
    "histogram",
    "kmeans",
    "linear_regression",
    "matrix_multiply",
    "pca",
    "reverse_index",
    "string_match",
    "word_count",
)
PROGRAMS = (*(f"games.{name}" for name in GAMES), *(f"phoenix.{name}" for name in PHOENIX))
PYPY = platform.python_implementation() == "PyPy"
CORES = os.cpu_count() or 1
SEED = 42
LOADED = ("multiprocessing.pool", "snakefish._map", "snakefish._sharing")
"""What every turn finds loaded, whoever uses it. What was loaded before decides where CPython puts
objects, and that makes a fifth of `histogram`, which is the same work in all four."""

SEQUENTIAL = "sequential"
WARM = "ours, warm"
POOL = "multiprocessing"
COLUMNS = (
    "program",
    "sequential",
    "ours (of all cores, of the limit)",
    "multiprocessing",
    "limit",
    "ours / multiprocessing",
    "equal",
)

fork = multiprocessing.get_context("fork")


def figures(scale: Scale) -> list[Figure]:
    return [
        figure(Program(name, scale.choose(tiny="test", quick="quick", full="full")))
        for name in PROGRAMS
    ]


def figure(program: Program) -> Figure:
    runners: dict[str, Runner] = {
        OURS: lambda: program.turn("ours"),
        POOL: lambda: program.turn("with_pool"),
        SEQUENTIAL: program.plain_turn,
        LIMIT: program.turn_of_all_cores,
    }
    if PYPY:
        runners[WARM] = lambda: program.turn("ours", warm=True)
    return Figure(
        id="B11",
        case=program.name.rpartition(".")[2].replace("_", " "),
        what="a whole program",
        unit=SECONDS,
        runners=runners,
        aims=[Aim(LIMIT, at_most=1 / 0.95), Aim(POOL, at_most=1.0)],
        warms_up=False,
    )


class Program:
    """One of the programs; its input and its result are made in the first turn."""

    def __init__(self, name: str, size: str) -> None:
        self.name = name
        self._size = size
        self._is_warm = False
        self._plain_turns = 0

    @functools.cached_property
    def _module(self) -> Any:
        for name in LOADED:
            importlib.import_module(name)
        return importlib.import_module(f"benchmarks.{self.name}")

    @functools.cached_property
    def _input(self) -> Any:
        return self._module.make(self._module.SIZES[self._size], SEED)

    @functools.cached_property
    def _plain(self) -> tuple[float, Any]:
        """The seconds and the result of the plain program, run once for all runners.

        It runs where none of them learns from it.
        """
        kept = Path(os.environ.get(SCRATCH, os.devnull)) / "plain"
        if kept.exists():
            return pickle.loads(kept.read_bytes())
        receiver, sender = fork.Pipe(False)
        child = fork.Process(target=lambda: sender.send(self._timed("sequential")))
        child.start()
        sender.close()
        plain: tuple[float, Any] = receiver.recv()
        child.join()
        if kept.parent.is_dir():
            kept.write_bytes(pickle.dumps(plain, pickle.HIGHEST_PROTOCOL))
        return plain

    def _timed(self, how: str) -> tuple[float, Any]:
        run, given = getattr(self._module, how), self._input
        gc.collect()  # or each child goes on with a collection of PyPy's that was under way
        began = time.perf_counter()
        result = run(given)
        return time.perf_counter() - began, result

    def turn(self, how: str, warm: bool = False) -> float:
        """Return the seconds that it takes, if its result is right."""
        expected = self._plain[1]
        if warm:
            self._warm_up()
        elapsed, result = self._timed(how)
        equal = getattr(self._module, "equal", operator.eq)
        assert equal(result, expected), "not what the plain program gives"
        return elapsed

    def plain_turn(self) -> float:
        """Return the seconds of the plain program; the first time is that of its only run."""
        self._plain_turns += 1
        return self._plain[0] if self._plain_turns == 1 else self.turn("sequential")

    def turn_of_all_cores(self) -> float:
        """Return the seconds a program that as many at once take as there are cores."""
        self._warm_up()
        gc.collect()
        began = time.perf_counter()
        statuses = [os.waitpid(pid, 0)[1] for pid in [self._start() for _ in range(CORES)]]
        elapsed = time.perf_counter() - began
        assert not any(statuses)
        return elapsed / CORES

    def _warm_up(self) -> None:
        """Make the input, and have the plain program compiled by who compiles."""
        if self._input is not None and PYPY and not self._is_warm:
            self._module.sequential(self._input)
        self._is_warm = True

    def _start(self) -> int:
        return os.fork() or self._run_and_exit()

    def _run_and_exit(self) -> NoReturn:
        try:
            self._module.sequential(self._input)
            os._exit(0)
        finally:
            os._exit(1)


# ------------------------------------------------------------------ as speed-ups


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.b11_programs")
    parser.add_argument("names", nargs="*", help="programs; all of them if there are none")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="the sizes of the tests")
    options = parser.parse_args()
    adopt_orphans()
    rounds = {"fewest": options.rounds, "most": options.rounds, "seconds": FULL.seconds}
    scale = dataclasses.replace(TINY if options.small else FULL, **rounds)
    print(f"{platform.python_implementation()} {platform.python_version()}, {CORES} cores\n")
    print(f"| {' | '.join(COLUMNS)} |\n{'| --- ' * len(COLUMNS)}|")
    for place, name in zip(discovery.places("b11_programs", scale), PROGRAMS):
        if not options.names or name.rpartition(".")[2] in options.names:
            print(line(measure(place)), flush=True)


def line(row: Row) -> str:
    if row.failures:
        told = "; ".join(f"{name}: {why}" for name, why in row.failures.items())
        return f"| {row.case} | {told} {'| ' * (len(COLUMNS) - 2)}| no |"
    ours = speed_up(row, OURS)
    shares = f"{ours.median / CORES:.0%}, {1 / row.ratio(LIMIT).median:.0%}"
    warm = f"; warm {words.ratio(speed_up(row, WARM))}" if WARM in row.turns else ""
    cells = (
        row.case,
        words.amount(row.spread(SEQUENTIAL).median, row.unit),
        f"{words.ratio(ours)} ({shares}){warm}",
        words.ratio(speed_up(row, POOL)),
        words.ratio(speed_up(row, LIMIT)),
        words.ratio(quotient(row, POOL, OURS)),
        "yes",
    )
    return f"| {' | '.join(cells)} |"


def speed_up(row: Row, name: str) -> Spread:
    return quotient(row, SEQUENTIAL, name)


def quotient(row: Row, one: str, other: str) -> Spread:
    """Return how many times as fast *other* is as *one*, round by round."""
    return spread([a / b for a, b in zip(row.turns[one], row.turns[other])])


if __name__ == "__main__":
    main()
