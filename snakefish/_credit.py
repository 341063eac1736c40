# SPDX-License-Identifier: MIT
"""How far a producer may run ahead of its consumers: `struct sf_credit` for Python."""

from __future__ import annotations

from snakefish._errors import failure
from snakefish._native import ffi, lib

_MOST = (1 << 32) - 1


class Credit:
    """Leave to make *ahead* values before the first is taken, and one more for each taken."""

    __slots__ = ("_handle",)

    def __init__(self, ahead: int) -> None:
        made = ffi.new("struct sf_credit **")
        code = lib.sf_credit_create(min(ahead, _MOST), made)
        if code:
            raise failure("create", code)
        self._handle = ffi.gc(made[0], lib.sf_credit_destroy)

    def left(self, made: int) -> int:
        """Return how many more values may be made by who has made *made*; for the producer alone.

        After 0 it has to wait until a consumer wakes it; less than that means to make no more.
        """
        return lib.sf_credit_left(self._handle, made)

    def give(self, values_round: int) -> int:
        """Note that a value was taken, of that round; return whether to wake the producer."""
        return lib.sf_credit_give(self._handle, values_round)

    def renew(self, made: int) -> bool:
        """Begin a new round, since all the *made* values were taken; return whether it is odd."""
        return lib.sf_credit_renew(self._handle, made) == 1

    def stop(self) -> None:
        """Let nothing more be made."""
        lib.sf_credit_stop(self._handle)

    def release(self) -> None:
        """Unmap it in this process; any number of times."""
        lib.sf_credit_release(self._handle)
