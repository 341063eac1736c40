# SPDX-License-Identifier: MIT
"""What `share=` asks of a programmer, and what it brings: the programs of Phoenix.

For each the lines that differ from the plain loop, with `share=` and with a Pool, imports among
them; and the time of all three, which take turns, with the median over the rounds. The ratios
say how much faster than the loop it was, beside the number of cores that there are. Each result is
compared with that of the loop.

    python -m benchmarks.share [--size test] [--rounds 3] [program ...]
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import operator
import os
import platform
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.phoenix.changes import lines_changed

PROGRAMS = sorted(
    path.stem
    for path in (Path(__file__).parent / "phoenix").glob("*.py")
    if "def sequential" in path.read_text("utf-8")
)
WAYS = ("sequential", "ours", "with_pool")
ROW = "{:18} {:>7} {:>5} {:>9} {:>9} {:>9} {:>8} {:>6} {:>6}"


def main() -> None:
    options = arguments()
    print(f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} CPUs")
    print(ROW.format("", "lines", "", "seconds", "", "", "faster", "", ""))
    titles = ("program", "share=", "Pool", "loop", "share=", "Pool", "share=", "Pool", "equal")
    print(ROW.format(*titles), flush=True)
    for name in options.programs or PROGRAMS:
        print(ROW.format(name, *row(name, options.size, options.rounds)), flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("programs", nargs="*", metavar="program", help=", ".join(PROGRAMS))
    parser.add_argument("--size", choices=("test", "full"), default="full")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def row(name: str, size: str, rounds: int) -> list[str]:
    """Return what the table says of one program."""
    program = importlib.import_module(f"benchmarks.phoenix.{name}")
    source = inspect.getsource(program)
    lines = [str(lines_changed(source, "sequential", way)) for way in WAYS[1:]]
    times, equal = measured(program, program.make(program.SIZES[size], 1), rounds)
    seconds = [f"{median(times[way]):.3f}" for way in WAYS]
    loop = times["sequential"]
    faster = [f"{median(map(operator.truediv, loop, times[way])):.2f}" for way in WAYS[1:]]
    return [*lines, *seconds, *faster, "yes" if equal else "NO"]


def measured(program: Any, given: Any, rounds: int) -> tuple[dict[str, list[float]], bool]:
    """Return the times of all ways, by turns, and whether their results were always equal."""
    same = getattr(program, "equal", operator.eq)
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    results = {}
    equal = True
    for _ in range(rounds):
        for way in WAYS:
            began = time.perf_counter()
            results[way] = getattr(program, way)(given)
            times[way].append(time.perf_counter() - began)
        equal &= all(same(results["sequential"], results[way]) for way in WAYS)
    return times, equal


if __name__ == "__main__":
    main()
