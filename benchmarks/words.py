# SPDX-License-Identifier: MIT
"""Numbers, ratios and aims in words: the same on the terminal and in a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.figure import LIMIT, OURS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.figure import Aim, Unit
    from benchmarks.measured import Row, Spread

SMALL = {"s": ("ns", "us", "ms", "s")}
LARGE = ("", "k", "M", "G", "T")


def amount(number: float, unit: Unit) -> str:
    """Three digits and a unit.

    >>> from benchmarks.figure import BYTES_PER_SECOND, PER_SECOND, SECONDS, TIMES
    >>> amount(0.00198, SECONDS), amount(25.0, SECONDS), amount(0.0, SECONDS)
    ('1.98 ms', '25.0 s', '0 s')
    >>> amount(674_000, PER_SECOND), amount(2.2e10, BYTES_PER_SECOND), amount(1.84, TIMES)
    ('674 k/s', '22.0 GB/s', '1.84x')
    """
    if number == 0:
        return f"0 {unit.symbol}"
    if unit.symbol == "x":
        return times(number)
    if unit.symbol == "s":
        return _scaled(number * 1e9, SMALL["s"])
    return _scaled(number, tuple(prefix + unit.symbol for prefix in LARGE))


def _scaled(number: float, symbols: tuple[str, ...]) -> str:
    step = 0
    while abs(number) >= 999.5 and step < len(symbols) - 1:
        number, step = number / 1000, step + 1
    return f"{_three_digits(number)} {symbols[step]}"


def _three_digits(number: float) -> str:
    """As many decimals as make three digits, and all digits before the point."""
    size = abs(number)
    if size < 0.0995:
        return f"{number:.2g}"
    return f"{number:,.{0 if size >= 99.95 else 1 if size >= 9.995 else 2}f}"


def times(ratio: float) -> str:
    return f"{_three_digits(ratio)}x"


def ratio(spread: Spread) -> str:
    """Say the median and the range of what was measured, if that was more than once."""
    return f"{times(spread.median)} ({_range(spread) if spread.count > 1 else 'once'})"


def _range(spread: Spread) -> str:
    return f"{_three_digits(spread.least)} to {_three_digits(spread.most)}"


def ours(row: Row) -> str:
    """What we measured, or why not."""
    if OURS in row.failures:
        return row.failures[OURS]
    if not row.turns.get(OURS):
        return "not measured"
    text = amount(row.spread(OURS).median, row.unit)
    if OURS not in row.percentiles:
        return text
    p99, longest = row.percentiles[OURS][99], row.percentiles[OURS][100]
    return f"{text}; 99 %: {amount(p99, row.unit)}; longest: {amount(longest, row.unit)}"


def against(row: Row, name: str) -> str:
    """Ours divided by theirs, and theirs; or why there is no such number."""
    if name in row.failures:
        return row.failures[name]
    if not row.turns.get(name):
        return "not measured"
    theirs = amount(row.spread(name).median, row.unit)
    if not row.turns.get(OURS) or row.spread(name).least <= 0:
        return theirs
    return f"{ratio(row.ratio(name))} of {theirs}"


def peers(row: Row) -> list[str]:
    """A line for each of the peers; one that says so if there are none."""
    return [f"{name}: {against(row, name)}" for name in row.peers()] or ["none"]


def limit(row: Row) -> str:
    return against(row, LIMIT) if LIMIT in row.names else "none"


def aim(aim: Aim, unit: Unit) -> str:
    """Say what is aimed at.

    >>> from benchmarks.figure import Aim, SECONDS
    >>> aim(Aim("Pipe", at_most=0.25), SECONDS), aim(Aim(at_most=0.005, quantile=0.99), SECONDS)
    ('at most 0.25x Pipe', '99 %: at most 5.00 ms')
    """

    return bounds(aim, unit, f" {aim.against}" if aim.against else "")


def bounds(aim: Aim, unit: Unit, of: str = "") -> str:
    """Say within what ours has to be; *of* is said behind each ratio."""

    def bound(number: float) -> str:
        return f"{number:.3g}x{of}" if aim.against else amount(number, unit)

    both = (("at least", aim.at_least), ("at most", aim.at_most))
    said = ", ".join(f"{word} {bound(number)}" for word, number in both if number is not None)
    return said if aim.quantile is None else f"{aim.quantile:.0%}: ".replace("%", " %") + said


def bounds_by_interpreter(aims: Sequence[Aim], unit: Unit, of: str = "") -> str:
    """Say an aim that may not be the same on every interpreter.

    >>> from benchmarks.figure import Aim, PER_SECOND
    >>> both = [Aim("Pipe", at_least=6, on="CPython"), Aim("Pipe", at_least=5, on="PyPy")]
    >>> bounds_by_interpreter(both, PER_SECOND), bounds_by_interpreter([Aim("Pipe", 1)], PER_SECOND)
    ('at least 6x (CPython), at least 5x (PyPy)', 'at most 1x')
    """
    return ", ".join(bounds(aim, unit, of) + (f" ({aim.on})" if aim.on else "") for aim in aims)


def verdict(row: Row, aim: Aim) -> str:
    reached = row.reached(aim)
    return "not known" if reached is None else "yes" if reached else "no"


def line(cells: Sequence[str]) -> str:
    """Return a line of a table in a page."""
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def better(unit: Unit) -> str:
    return "more is better" if unit.more_is_better else "less is better"
