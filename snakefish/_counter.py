# SPDX-License-Identifier: MIT
"""Numbers handed out to processes, each once: `struct sf_counter` for Python."""

from __future__ import annotations

import errno

from snakefish._errors import failure
from snakefish._native import ffi, lib


class Counter:
    """A dispenser of the numbers 0 to *limit* - 1 to takers 0 to *takers* - 1."""

    __slots__ = ("_handle", "_limit")

    def __init__(self, limit: int, takers: int) -> None:
        made = ffi.new("struct sf_counter **")
        code = lib.sf_counter_create(limit, takers, made)
        if code:
            raise failure("create", code)
        self._handle = ffi.gc(made[0], lib.sf_counter_destroy)
        self._limit = limit

    def take(self, taker: int, want: int) -> range:
        """Hand out up to *want* numbers; *taker* gives back those it had before."""
        first = lib.sf_counter_take(self._handle, taker, want)
        if first == -errno.ENODATA:
            return range(0)
        if first < 0:
            raise failure("take", first)
        return range(first, min(first + want, self._limit))

    def held(self, taker: int) -> range:
        """Return the numbers that *taker* holds."""
        first = ffi.new("uint64_t *")
        count = lib.sf_counter_held(self._handle, taker, first)
        return range(first[0], first[0] + count)

    def left(self) -> int:
        """Return how many numbers were not handed out."""
        return max(0, self._limit - lib.sf_counter_taken(self._handle))

    def stop(self) -> None:
        """Hand out no more."""
        lib.sf_counter_stop(self._handle)

    def release(self) -> None:
        """Unmap it in this process, after which nothing can be asked of it."""
        ffi.release(self._handle)
