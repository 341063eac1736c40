# SPDX-License-Identifier: MIT
"""What was measured, as plots: `python -m benchmarks.plots DIRECTORY RESULT.json ...`.

    against-peers     bars: how many times as good as each peer, where there is no plot by size
    latency           distributions of a message's way, ours and the peers'
    by-size-*         lines: a figure's cases that differ in size, ours, peers and the limit
    programs          bars: speed-up of whole programs over the sequential ones

A plot of which nothing was measured is not drawn. What is not drawn is removed, so that no plot is
older than the table. Colours are Okabe and Ito's, which colour-blind readers can tell apart.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot
from matplotlib.figure import Figure as Canvas

from benchmarks.figure import LIMIT, OURS, TIMES
from benchmarks.measured import Row, Run
from benchmarks.words import amount

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
PROGRAMS = "B11"
LATENCY = "B2"


def main(directory: str, *results: str) -> None:
    runs = [Run.from_json(json.loads(Path(path).read_text("utf-8"))) for path in results]
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    for old in target.glob("*.svg"):
        old.unlink()
    # The same numbers give the same file.
    mpl.rcParams.update({"svg.hashsalt": "snakefish", "font.size": 9})
    for name, canvas in plots(runs):
        canvas.savefig(target / f"{name}.svg", metadata={"Date": None}, bbox_inches="tight")
        pyplot.close(canvas)


def plots(runs: Sequence[Run]) -> Iterator[tuple[str, Canvas]]:
    for run in runs:
        name = run.interpreter.lower()
        groups = grouped_by_size(run)
        elsewhere = [row for group in groups for row in group]
        rows = [row for row in run.rows if row.id != PROGRAMS and row not in elsewhere]
        if any(advantages(row) for row in rows):
            yield f"against-peers-{name}", against_peers(run, rows)
        for row in run.rows:
            if row.id == LATENCY and row.percentiles:
                yield f"latency-{name}", latency(run, row)
        for group in groups:
            yield f"by-size-{file_name(group)}-{name}", by_size(run, group)
    if any(row.id == PROGRAMS and speed_ups(row) for run in runs for row in run.rows):
        yield "programs", programs(runs)


def file_name(rows: Sequence[Row]) -> str:
    words = f"{rows[0].id} {series_of(rows[0])}".lower().split()
    return "-".join(word.strip(",.:()") for word in words)


# ------------------------------------------------------------------ against the peers


def advantages(row: Row) -> dict[str, float]:
    """Return how many times as good ours is as each peer."""
    if not row.turns.get(OURS):
        return {}
    peers = (name for name in row.peers() if row.turns.get(name) and row.spread(name).least > 0)
    ratios = {name: row.ratio(name).median for name in peers}
    return {
        name: ratio if row.unit.more_is_better else 1 / ratio
        for name, ratio in ratios.items()
        if ratio > 0
    }


def against_peers(run: Run, rows: Sequence[Row]) -> Canvas:
    bars = [
        (f"{row.id} {row.case}".strip() + f": {name}", times)
        for row in rows
        for name, times in advantages(row).items()
    ]
    canvas, axes = pyplot.subplots(figsize=(8, 0.17 * len(bars) + 1))
    for place, (_, times) in enumerate(bars):
        axes.barh(place, times - 1, left=1, color=COLOURS[0] if times >= 1 else COLOURS[5])
        axes.annotate(f" {amount(times, TIMES)}", (max(times, 1), place), va="center", fontsize=7)
    axes.set_yticks(range(len(bars)), [label for label, _ in bars], fontsize=7)
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.set_xscale("log")
    axes.margins(x=0.1)  # for the numbers behind the bars
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("so many times as good as the peer: faster, or smaller")
    axes.set_title(f"{run.interpreter} {run.version}: ours against the peers")
    return canvas


# --------------------------------------------------------------------------- latency


def latency(run: Run, row: Row) -> Canvas:
    canvas, axes = pyplot.subplots(figsize=(7, 4))
    for colour, name in zip(COLOURS, (name for name in row.names if name in row.percentiles)):
        axes.plot([t * 1e6 for t in row.percentiles[name]], range(101), color=colour, label=name)
    axes.set_xscale("log")
    axes.set_xlabel("microseconds from one process to another")
    axes.set_ylabel("% of the messages are there")
    axes.set_title(f"{run.interpreter} {run.version}: {row.what}")
    axes.legend()
    axes.grid(alpha=0.3)
    return canvas


# --------------------------------------------------------------------- against a size


def series_of(row: Row) -> str:
    """Return the name of a case without its size: words with a digit say how much."""
    words = (word for word in row.case.replace(",", "").split() if not word[0].isdigit())
    units = {"B", "kB", "MB", "GB", "KiB", "MiB", "GiB", "of"}
    return " ".join(word for word in words if word not in units)


def grouped_by_size(run: Run) -> list[list[Row]]:
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in run.rows:
        if row.size and row.turns.get(OURS):
            groups.setdefault((row.id, series_of(row)), []).append(row)
    return [sorted(rows, key=lambda row: row.size or 0) for rows in groups.values() if rows[1:]]


def by_size(run: Run, rows: Sequence[Row]) -> Canvas:
    canvas, axes = pyplot.subplots(figsize=(6, 4))
    for colour, name in zip(COLOURS, rows[0].names):
        points = [(row.size, row.spread(name)) for row in rows if row.turns.get(name)]
        sizes = [size for size, _ in points]
        style = {"color": colour, "linestyle": "--" if name == LIMIT else "-", "marker": "."}
        axes.plot(sizes, [spread.median for _, spread in points], label=name, **style)
        axes.fill_between(
            sizes,
            [spread.least for _, spread in points],
            [spread.most for _, spread in points],
            color=colour,
            alpha=0.15,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: amount(value, rows[0].unit))
    axes.yaxis.set_minor_formatter("")
    axes.set_xlabel(f"{rows[0].case} to {rows[-1].case}")
    axes.set_title(f"{run.interpreter} {run.version}: {rows[0].id} {series_of(rows[0])}")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    axes.grid(alpha=0.3)
    return canvas


# -------------------------------------------------------------------------- programs


def speed_ups(row: Row) -> dict[str, float]:
    """Return how many times as fast as the sequential program each parallel one is."""
    sequential = row.turns.get("sequential")
    if not sequential:
        return {}
    return {
        name: row.spread("sequential").median / row.spread(name).median
        for name in row.names
        if name != "sequential" and row.turns.get(name)
    }


def programs(runs: Sequence[Run]) -> Canvas:
    canvas, all_axes = pyplot.subplots(
        1, len(runs), figsize=(5 * len(runs), 5), sharey=True, squeeze=False
    )
    for axes, run in zip(all_axes[0], runs):
        rows = [row for row in run.rows if row.id == PROGRAMS and speed_ups(row)]
        draw_programs(axes, run, rows)
    canvas.tight_layout()
    return canvas


def draw_programs(axes: Any, run: Run, rows: Sequence[Row]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in speed_ups(row)))
    height = 0.8 / max(1, len(names))
    for number, name in enumerate(names):
        bars = [(place, speed_ups(row).get(name, 0)) for place, row in enumerate(rows)]
        places = [place + number * height for place, _ in bars]
        axes.barh(places, [times for _, times in bars], height, color=COLOURS[number], label=name)
    axes.set_yticks([place + 0.4 for place in range(len(rows))], [row.case for row in rows])
    axes.set_ylim(len(rows), -0.2)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("times as fast as the sequential program")
    axes.set_title(f"{run.interpreter} {run.version}")
    axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=len(names))


if __name__ == "__main__":
    main(*sys.argv[1:])
