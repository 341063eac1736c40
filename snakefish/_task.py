# SPDX-License-Identifier: MIT
"""What one call of map or starmap is to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Callable, NamedTuple

from snakefish._errors import ChildDiedError


class Task(NamedTuple):
    """The work, and how it is to be done."""

    name: str  # for messages
    apply: Callable[[Sequence[Any]], Iterable[Any]]
    items: Sequence[Any]
    concurrency: int
    chunksize: int  # 0: as fits
    deadline: int
    report: Callable[[int], object]

    def do(self, items: Sequence[Any], values: list[Any]) -> None:
        """Append what the function makes of *items* to *values*, up to the first failure.

        Raises:
            Whatever the function raises, StopIteration too, which the builtin map takes
            for its own end.
        """
        wanted = len(values) + len(items)
        values.extend(self.apply(items))
        if len(values) < wanted:
            raise StopIteration


def presentable(error: BaseException) -> BaseException:
    """Return what to raise for an *error* of the function.

    A SystemExit was meant for the worker and shall not end the parent.
    """
    if not isinstance(error, SystemExit):
        return error
    replacement = ChildDiedError(f"the function called sys.exit({error.code!r})")
    replacement.__cause__ = error
    return replacement
