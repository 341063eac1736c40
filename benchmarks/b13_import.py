# SPDX-License-Identifier: MIT
"""B13: how long `import snakefish` takes, beside `import multiprocessing`, each in a fresh process.

What the interpreter itself needs to start is not in it. There is no limit to divide by.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

from benchmarks.figure import OURS, SECONDS, Aim, Figure, Runner, Scale

PROGRAM = """
import time
began = time.perf_counter()
import {module}
print(time.perf_counter() - began)
"""
MODULES = {
    OURS: "snakefish",
    "multiprocessing": "multiprocessing",
    "multiprocessing, used": "multiprocessing.connection, multiprocessing.queues",
    "concurrent.futures": "concurrent.futures.process",
    "joblib": "joblib",
    "mpire": "mpire",
}
"""multiprocessing imports most of itself at its first use."""


def figures(scale: Scale) -> list[Figure]:
    times = scale.choose(tiny=1, quick=3, full=5)
    return [
        Figure(
            id="B13",
            what="import",
            unit=SECONDS,
            runners={name: imported(module, times) for name, module in MODULES.items()},
            aims=[Aim("multiprocessing", at_most=0.5)],
        )
    ]


def imported(module: str, times: int) -> Runner:
    return lambda: statistics.median(time_of_import(module) for _ in range(times))


def time_of_import(module: str) -> float:
    command = [sys.executable, "-c", PROGRAM.format(module=module)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if "ModuleNotFoundError" in ended.stderr:
        raise ModuleNotFoundError(module)
    return float(ended.stdout)
