# SPDX-License-Identifier: MIT
"""The program in which one scenario runs: `program.py SECTION NAME LIBRARY SEED SIZE REPORT`.

It measures what it holds before and after, and reports one line of JSON. Two lines mean that a
child came back from where it was started and ran this program to its end as well.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import signal
import sys
import time
import traceback
from typing import NamedTuple

import libraries
import sections
from deadline import wait_until
from process_table import children, open_descriptors, shared_mappings
from row import Scenario
from scenario import hear_all_signals
from stage import NO_WAY, BrokenPromise, Stage

HELD = "held"


class Holdings(NamedTuple):
    """What this process holds of what could be left over."""

    processes: set[int]
    descriptors: set[tuple[int, str]]
    mappings: int

    @classmethod
    def now(cls) -> Holdings:
        """Look."""
        return cls(children(), set(open_descriptors().items()), len(shared_mappings()))

    def more_than(self, before: Holdings) -> str:
        """What there is more of than *before*, in words; nothing is an empty string."""
        excess = {
            "process(es)": len(self.processes - before.processes),
            "descriptor(s)": len(self.descriptors - before.descriptors),
            "mapping(s)": max(0, self.mappings - before.mappings),
        }
        left = [f"{count} {what}" for what, count in excess.items() if count]
        return f"leaves {', '.join(left)}" if left else ""


def _left_over(before: Holdings) -> str:
    """What is left over a few seconds after a scenario, garbage collected."""

    def nothing() -> bool:
        gc.collect()
        return not Holdings.now().more_than(before)

    try:
        wait_until(nothing, "something is left", timeout=2)
    except AssertionError:
        return Holdings.now().more_than(before)
    return ""


def _run(scenario: Scenario, library: libraries.Library, stage: Stage) -> str:
    """How it ended, in words."""
    try:
        if scenario.is_comparison:
            scenario.function(stage, library)
        else:
            scenario.function(stage)
    except BaseException as error:
        traceback.print_exc()
        what = "" if isinstance(error, BrokenPromise) else f"{type(error).__name__}: "
        return NO_WAY if NO_WAY in str(error) else f"{what}{error}"
    return HELD


def _perform(scenario: Scenario, library: libraries.Library, stage: Stage) -> str:
    """Run a scenario on a warmed-up library and look what is left of it."""
    library.warm_up()
    gc.collect()
    before = Holdings.now()
    outcome = _run(scenario, library, stage)
    library.close()
    stage.close()
    left = _left_over(before)
    return left if outcome == HELD and left else outcome


def main() -> None:
    hear_all_signals()
    section, name, library, seed, size, report = sys.argv[1:]
    faulthandler.register(signal.SIGQUIT, all_threads=True)
    stage = Stage(int(seed), float(size))
    begin = time.monotonic()
    outcome = _perform(sections.find(section, name), libraries.LIBRARIES[library](), stage)
    line = {
        "outcome": outcome,
        "injected": stage.injected,
        "seconds": round(time.monotonic() - begin, 3),
        "facts": stage.facts,
    }
    with open(report, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
