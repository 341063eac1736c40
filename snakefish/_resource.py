# SPDX-License-Identifier: MIT
"""What Channel, Thread and Generator are all three: something to dispose of.

It says nothing of what they hold; each has its process or its queue.
"""

from __future__ import annotations

from types import TracebackType
from typing import NoReturn, TypeVar

R = TypeVar("R", bound="Resource")


class Resource:
    """An object that is released by `dispose`, or at the end of a `with`."""

    __slots__ = ()

    def dispose(self) -> None:
        """Release everything; at any time, any number of times."""
        raise NotImplementedError

    def __enter__(self: R) -> R:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.dispose()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} cannot be pickled; a forked child inherits it")
