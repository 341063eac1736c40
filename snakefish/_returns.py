# SPDX-License-Identifier: MIT
"""What comes back from a child besides its result, as the user asked for it.

extract, merge   a dict that the user's functions make and take
share            variables, each by its merge
neither          nothing, and a warning if that loses something
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from snakefish._call import shares_something
from snakefish._lost_writes import Watch
from snakefish._merging import Extract, Globals, Merge, Merging, merging

if TYPE_CHECKING:
    from snakefish._sharing import Call, OnError, Share, Sharing


class Returns(NamedTuple):
    """What comes back from the children of one call."""

    merging: Merging | None
    sharing: Sharing | None
    watch: Watch | None

    def begin(self, tasks: int = 1) -> Call | None:
        """Begin a call of *tasks* tasks, if they share anything."""
        return None if self.sharing is None else self.sharing.begin(tasks)


NOTHING = Returns(None, None, None)


def returns(
    f: object,
    extract: Extract | None,
    merge: Merge | None,
    share: Share,
    on_error: OnError,
    caller: Globals,
) -> Returns:
    """Return what the user asked for; *caller* stands in for globals that *f* has not.

    Raises:
        TypeError: One of *extract* and *merge* is missing or cannot be called, or
            *share* is no declaration, or not one for the values there are.
        ValueError: *on_error* is not known.
        NameError: A variable does not exist.
    """
    merged = merging(f, extract, merge, caller)
    shared = None
    if share is not None or on_error != "sequential" or shares_something(f):
        from snakefish._sharing import sharing  # which loads all merges, for those who share

        shared = sharing(f, share, on_error, caller)
    places = [variable.place for variable in shared.variables] if shared else []
    watch = None if merged else Watch(f, caller, places)
    return Returns(merged, shared if shared and shared.brings_back() else None, watch)
