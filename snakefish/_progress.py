# SPDX-License-Identifier: MIT
"""What a long call says while it runs."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, Callable, Union

Progress = Union[bool, None, Callable[[int, int], object]]


@contextlib.contextmanager
def reporter(progress: Progress, total: int) -> Iterator[Callable[[int], object]]:
    """Give a function to be called with how many of *total* items are done.

    *progress* may be a function of (done, total), True for tqdm or, where that
    is not installed, a line on stderr, or false for nothing.
    """
    if callable(progress):
        user: Callable[[int, int], object] = progress
        yield lambda done: user(done, total)
    elif not progress:
        yield lambda done: None
    else:
        with _bar(total) as show:
            yield show


@contextlib.contextmanager
def _bar(total: int) -> Iterator[Callable[[int], object]]:
    try:
        from tqdm import tqdm
    except ImportError:
        yield lambda done: _print_line(done, total)
        print(file=sys.stderr)
        return
    # tqdm's monitor is a thread, and the children are not forked yet. Without it no update
    # may be put off until more of them have come.
    without_monitor = type("tqdm", (tqdm,), {"monitor_interval": 0})
    with without_monitor(total=total, miniters=1) as bar:
        yield lambda done: _advance(bar, done)


def _print_line(done: int, total: int) -> None:
    print(f"\r{done}/{total} ({100 * done // total} %)", end="", file=sys.stderr, flush=True)


def _advance(bar: Any, done: int) -> None:
    bar.update(done - bar.n)
