# SPDX-License-Identifier: MIT
"""extract and merge: how changes to globals come back from a child.

`extract(globals)` runs in the child at its end, and its dict is pickled;
`merge(globals, extracted)` runs in the parent. Each is given the globals of the
module in which it was written, whoever calls it from where: what `globals()`
would return inside it.
"""

from __future__ import annotations

from typing import Any, Callable, NamedTuple

from snakefish._call import layers
from snakefish._codec import Received
from snakefish._errors import RemoteError
from snakefish._outcome import EXTRACTED, RAISED, Outcome, exception_of, raised, returned, value_of

Globals = dict[str, Any]
Extract = Callable[[Globals], Globals]
Merge = Callable[[Globals, Globals], object]


class Merging(NamedTuple):
    """A pair of functions and the globals that each is given."""

    extract: Extract
    merge: Merge
    extract_globals: Globals
    merge_globals: Globals

    def extracted(self) -> Outcome:
        """Run extract, in the child."""
        try:
            changes = self.extract(self.extract_globals)
            if not isinstance(changes, dict):
                kind = type(changes).__name__
                raise TypeError(f"extract must return a dict, not {kind}")
        except BaseException as error:  # shipped, and raised by join
            outcome = raised(error)
        else:
            outcome = returned(changes)
        return Outcome(outcome.tag | EXTRACTED, outcome.data)


def changes_of(tag: int, data: Received) -> Globals:
    """Return the dict that extract returned, or raise what it raised.

    Raises:
        RemoteError: It raised something that must not pass through join, such
            as SystemExit.
        Whatever extract, or unpickling its dict, raises.
    """
    if tag & RAISED:
        error = exception_of(data)
        if not isinstance(error, Exception):
            raise RemoteError(f"extract ended with {type(error).__name__}") from error
        raise error
    changes: Globals = value_of(tag, data)
    return changes


def merging(
    function: object, extract: Extract | None, merge: Merge | None, caller: Globals
) -> Merging | None:
    """Return the merging that the user asked for, None if none.

    *function* is what runs in the child; its globals, and then *caller*, stand
    in where extract or merge are not Python functions.

    Raises:
        TypeError: One of the two is missing, or cannot be called like this.
    """
    if extract is None and merge is None:
        return None
    if extract is None or merge is None:
        raise TypeError("extract and merge are given together or not at all")
    from snakefish._signature import check_arguments  # which loads what others do not need

    check_arguments(extract, {})
    check_arguments(merge, {}, {})
    fallback = _globals_of(function, caller)
    return Merging(extract, merge, _globals_of(extract, fallback), _globals_of(merge, fallback))


def _globals_of(function: object, fallback: Globals) -> Globals:
    """Return the globals of the Python function at the bottom of *function*."""
    *_, innermost = layers(function)
    found: Globals | None = getattr(innermost, "__globals__", None)
    return fallback if found is None else found
