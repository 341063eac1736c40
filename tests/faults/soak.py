# SPDX-License-Identifier: MIT
"""Leaks and load at soak size, on the interpreter that runs this.

    python tests/faults/soak.py [--kills 50000] [--minutes 30] [--threads 10000]
        [--at-once 500] [--messages 1000000] [--only PART ...] [--seed 1]

It runs scenarios of the fault table, made larger, in programs of some thousand kills each: one
that fails names its scenario and seed. At the end there is one table; the exit status is 1 if
anything in it is not zero.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import runner
import sections

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCH = 2000
"""As many kills in a program: a failure is found again in less than a minute."""

COUNTED = {
    "hangs": r"hang|took \d",
    "torn": r"torn",
    "doubled": r"doubled|unordered",
    "lost": r"lost",
    "leaked": r"leaves|stay|grows",
}
"""What is counted, and how a broken promise says that it was that."""


class Work(NamedTuple):
    """A scenario, to be run so and so often at such a size."""

    part: str
    what: str
    section: str
    scenario: str
    size: float
    times: int  # 0: as often as fits into the time
    at_once: int
    seconds: float = 0


class Total(NamedTuple):
    """What came of a work."""

    work: Work
    outcomes: list[runner.Outcome]
    seconds: float

    def fact(self, name: str) -> int:
        """The sum of what the programs say under *name*."""
        return sum(outcome.facts.get(name, 0) for outcome in self.outcomes)  # type: ignore[misc]

    def count(self, what: str) -> int:
        """How often *what* happened: messages where they are counted, else programs."""
        failed = [outcome for outcome in self.outcomes if not outcome.held]
        named = [one for one in failed if re.search(COUNTED[what], one.text)]
        return max(len(named), self.fact(what))

    def others(self) -> int:
        """How many programs failed in a way that is not counted."""
        texts = [outcome.text for outcome in self.outcomes if not outcome.held]
        return sum(not any(re.search(p, text) for p in COUNTED.values()) for text in texts)


def _killing(part: str, what: str, scenario: str, kills: float, base: int) -> Work:
    """The work of *kills* kills, in programs of BATCH; the scenario has *base* at size 1."""
    times = max(1, round(kills / BATCH + 0.49))
    return Work(part, what, "load", scenario, kills / times / base, times, 2)


def plan(options: argparse.Namespace) -> list[Work]:
    """What there is to do."""
    kills = options.kills
    works = [
        _killing("threads", "threads killed", "threads_killed_at_random", 0.25 * kills, 300),
        _killing(
            "generators", "generators killed", "generators_killed_at_random", 0.25 * kills, 102
        ),
        _killing("peers", "channel peers killed", "peers_killed_at_random", 0.24 * kills, 150),
        _killing("peers", "channel senders killed", "senders_killed_at_random", 0.1 * kills, 60),
        _killing("map", "map workers killed", "map_workers_killed_at_random", 0.14 * kills, 100),
        _killing("map", "merging jobs killed", "merging_jobs_killed_at_random", 0.06 * kills, 60),
        Work(
            "sequence",
            "threads one after another",
            "leaks",
            "one_after_another",
            options.threads / 1000,
            1,
            1,
        ),
        Work("at-once", "threads at once", "leaks", "all_at_once", options.at_once / 100, 1, 1),
        Work("messages", "messages", "load", "many_messages", options.messages / 20_000, 1, 1),
    ]
    if options.minutes:
        works.append(
            Work(
                "channel",
                "8 peers on a channel, one killed every 10 ms",
                "load",
                "peers_killed_every_10_ms",
                100,  # about a minute, on a channel of its own
                0,
                1,
                60 * options.minutes,
            )
        )
    return [work for work in works if not options.only or work.part in options.only]


def perform(work: Work, seed: int) -> Total:
    """Run a work's programs, and say which failed."""
    scenario = sections.find(work.section, work.scenario)
    began = time.monotonic()

    def one(number: int) -> runner.Outcome:
        outcome = runner.run(scenario, seed=seed + number, size=work.size)
        if not outcome.held:
            print(
                f"{scenario.name}, seed {seed + number}, size {work.size:.1f}: {outcome.text}\n"
                f"{outcome.complaint}",
                file=sys.stderr,
            )
        return outcome

    def numbers() -> Iterator[int]:
        """As many as there are times, or as begin in time."""
        for number in itertools.count():
            if number == work.times if work.times else time.monotonic() > began + work.seconds:
                return
            yield number

    if work.at_once == 1:
        outcomes = [one(number) for number in numbers()]
    else:
        with ThreadPoolExecutor(work.at_once) as executor:
            outcomes = list(executor.map(one, numbers()))
    total = Total(work, outcomes, time.monotonic() - began)
    print(f"{work.what}: {total.seconds:.0f} s", file=sys.stderr, flush=True)
    return total


def _how_many(total: Total) -> str:
    injected = sum(outcome.injected for outcome in total.outcomes)
    if injected:
        return f"{injected:,} SIGKILLs, {total.fact('died'):,} in time"
    return f"{total.fact('threads') or total.fact('messages'):,}"


def _rate(total: Total) -> str:
    for name in ("threads/s", "messages/s"):
        if total.fact(name):
            return f"{total.fact(name) / len(total.outcomes):,.0f} {name}"
    if total.fact("silence"):
        slowest = max(float(str(one.facts.get("silence", 0))) for one in total.outcomes)
        return f"{total.fact('messages'):,} messages, longest pause {slowest * 1000:.0f} ms"
    return ""


def _line(cells: list[Any]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def show(totals: list[Total]) -> bool:
    """Print the table; return whether all is well."""
    heading = f"{platform.python_implementation()} {platform.python_version()}"
    print(_line([heading, "how many", *COUNTED, "otherwise failed", "seconds", ""]))
    print(_line(["---"] * (5 + len(COUNTED))))
    for total in totals:
        counts = [*map(total.count, COUNTED), total.others(), round(total.seconds)]
        print(_line([total.work.what, _how_many(total), *counts, _rate(total)]))
    return all(outcome.held for total in totals for outcome in total.outcomes)


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", maxsplit=1)[0])
    parser.add_argument("--kills", type=int, default=50_000)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--threads", type=int, default=10_000)
    parser.add_argument("--at-once", type=int, default=500)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--only", nargs="+", help="parts, of those that --help lists below")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    return 0 if show([perform(work, options.seed) for work in plan(options)]) else 1


if __name__ == "__main__":
    sys.exit(main())
