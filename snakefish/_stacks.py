# SPDX-License-Identifier: MIT
"""The stack that faulthandler leaves of a child that crashed, for its parent to tell.

Only where the parent has faulthandler enabled. One file in memory serves all
children of a process: it is made with the first and costs the parent one
descriptor, however many run. Each child writes into a region of its own, through
a descriptor with a position of its own, which its parent opened for it:

    |  text of child A ... 0 0 0  |  0 0 0 ...  |  text of child C ... 0 0 0  |

What was read is zeroed, and the region is used again.
"""

from __future__ import annotations

import itertools
import os
import sys
from typing import Any

_REGION = 1 << 20  # faulthandler stops after 100 frames of a thread
_PIECE = 1 << 14


class _StackFile:
    """The file of one process, which keeps it; a child of its closes the copy that it inherits."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.descriptor = _nameless_file()
        self._identity = _identity(self.descriptor)
        self._unused = itertools.count()
        self._free: list[int] = []

    def is_intact(self) -> bool:
        """Whether it is this process's, and nobody closed the descriptor behind our back."""
        try:
            return self.owner == os.getpid() and _identity(self.descriptor) == self._identity
        except OSError:
            return False

    def reserve(self) -> int:
        """Return a region that nobody uses."""
        try:
            return self._free.pop()
        except IndexError:
            return next(self._unused)

    def open(self, region: int) -> int:
        """Return a new descriptor whose position is the beginning of *region*."""
        path = f"/proc/self/fd/{self.descriptor}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        os.lseek(descriptor, region * _REGION, os.SEEK_SET)
        return descriptor

    def empty(self, region: int) -> str:
        """Return what is written in *region*, and let it be used again."""
        start, text = region * _REGION, b""
        while b"\0" not in text:
            piece = os.pread(self.descriptor, _PIECE, start + len(text))
            text += piece
            if len(piece) < _PIECE:
                break
        text = text.partition(b"\0")[0]
        if text:
            os.pwrite(self.descriptor, bytes(len(text)), start)
        self._free.append(region)
        return text.decode("utf-8", "backslashreplace").strip()


class Place:
    """Where one child leaves its stack."""

    def __init__(self, file: _StackFile) -> None:
        self.file = file
        self.region = file.reserve()
        self.descriptor = file.open(self.region)

    def close(self) -> None:
        """Close the child's descriptor, in its parent after the fork."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def empty(self) -> str:
        """Return the stack that is there, "" for none; the place is given back."""
        self.close()
        try:
            return self.file.empty(self.region) if self.file.is_intact() else ""
        except OSError:
            return ""


_file: _StackFile | None = None
_own: Place | None = None  # where this process, a child, leaves its own


def reserve() -> Place | None:
    """Return a place for the stack of a child about to be forked; None for no stack."""
    global _file
    faulthandler: Any = sys.modules.get("faulthandler")
    if faulthandler is None or not faulthandler.is_enabled():
        return None
    try:
        if _file is None or not _file.is_intact():
            _file = _StackFile()
        return Place(_file)
    except OSError:  # no descriptor, no memory, another user: then there will be no stack
        return None


def settle_in(place: Place | None) -> None:
    """Let this process, a child, leave its stack in *place*, and drop what is its parent's."""
    global _file, _own
    if place is None:
        return
    former, _own, _file = _own, place, None
    try:
        sys.modules["faulthandler"].enable(place.descriptor)
        os.close(place.file.descriptor)
        if former is not None:
            os.close(former.descriptor)  # its parent's own, which it wrote to until now
    except (OSError, RuntimeError, ValueError):  # a hook of the user's has closed one of them
        pass


def _nameless_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("snakefish-stacks", os.MFD_CLOEXEC)
    return os.open("/dev/shm", os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino
