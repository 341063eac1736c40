# SPDX-License-Identifier: MIT
"""Measure: `python -m benchmarks [B1 b03_small_messages ...] [--full] [--json FILE]`.

Everybody takes turns: ours, the peers that are installed, the limit. Without names all figures are
measured, in some minutes; --full is careful and takes an hour or more. Nothing about speed is ever
asserted. The status is 1 if a runner of ours failed, or gave a wrong result. With names and a FILE
that the same program wrote, on the same machine and day, the other rows of it are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import discovery, machine, words
from benchmarks.figure import OURS, SCALES, Scale
from benchmarks.measured import Row, Run
from benchmarks.runner_process import adopt_orphans
from benchmarks.turns import measure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def main() -> int:
    options = _options()
    adopt_orphans()
    before = _read(options.json, options.scale) if options.json and options.names else []
    rows: list[Row] = []
    for row in _rows(options.names, SCALES[options.scale]):
        rows.append(row)
        print("\n".join(_lines(row)), flush=True)
        if options.json:
            _write(options.json, _run(options.scale, _merged(before, rows)))
    if not rows:
        sys.exit(f"no figure is called {' or '.join(options.names)}")
    print("\n".join(_times(rows)))
    return int(any(row.failed() for row in rows))


def _options() -> argparse.Namespace:
    what = (__doc__ or "").partition("\n\n")[2]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=what)
    parser.add_argument("names", nargs="*", help="ids or files; all of them if there are none")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured there")
    scale = parser.add_mutually_exclusive_group()
    scale.add_argument("--full", dest="scale", action="store_const", const="full")
    scale.add_argument("--tiny", dest="scale", action="store_const", const="tiny")
    parser.set_defaults(scale="quick")
    return parser.parse_args()


def _rows(names: Sequence[str], scale: Scale) -> Iterator[Row]:
    """Measure what is wanted; a file that cannot list its figures is a row that says so."""
    for file in discovery.files():
        try:
            places = discovery.places(file, scale, names)
        except Exception as error:  # noqa: BLE001 - the other files are measured
            yield Row.broken(file, f"{type(error).__name__}: {error}")
            continue
        for place in places:
            yield measure(place)


def _lines(row: Row) -> list[str]:
    name, version = machine.interpreter()
    aims = [
        f"    {words.verdict(row, aim):9} {words.aim(aim, row.unit)}" for aim in row.aims_on(name)
    ]
    return [
        f"{row.id} {row.case}: {row.what}, {words.better(row.unit)} [{name} {version}]",
        f"    ours      {words.ours(row)}",
        *(f"    / {name}: {words.against(row, name)}" for name in row.names if name != OURS),
        *aims,
    ]


def _times(rows: Sequence[Row]) -> list[str]:
    """Return where the time of a run went, for who wants to shorten it."""
    ids = list(dict.fromkeys(row.id for row in rows))
    took = {one: sum(row.took for row in rows if row.id == one) for one in ids}
    took["all"] = sum(took.values())
    return [f"{one:8} {seconds:6.1f} s" for one, seconds in took.items()]


def _run(scale: str, rows: Sequence[Row]) -> Run:
    name, version = machine.interpreter()
    return Run(
        name, version, machine.machine(), machine.commit(), machine.today(), scale, list(rows)
    )


def _read(path: Path, scale: str) -> list[Row]:
    """Return the rows that another run of the same program wrote, none if it was not the same."""
    if not path.exists():
        return []
    found = Run.from_json(json.loads(path.read_text("utf-8")))
    return list(found.rows) if found == _run(scale, found.rows) else []


def _merged(before: Sequence[Row], rows: Sequence[Row]) -> list[Row]:
    """Return the rows of a run in part and, where it has none, those from before."""
    return list({(row.id, row.case): row for row in (*before, *rows)}.values())


def _write(path: Path, run: Run) -> None:
    """Whole or not at all, after each row, so that an interruption loses one row at most."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(run.to_json(), indent=1) + "\n", "utf-8")
    os.replace(beside, path)


if __name__ == "__main__":
    sys.exit(main())
