# SPDX-License-Identifier: MIT
"""Where the control groups of this process are, and what the files in them say.

There are two versions, and both may be in use at once: in version 2 one tree has
all controllers, in version 1 each has a tree of its own.
https://docs.kernel.org/admin-guide/cgroup-v2.html
"""

from __future__ import annotations

import os
from typing import NamedTuple

TREES = "/sys/fs/cgroup"
MEMBERSHIP = "/proc/self/cgroup"

_PIECE = 8192


class Place(NamedTuple):
    """A process's place in one tree: its group last, before it all that are around."""

    version: int
    groups: list[str]


def places(controller: str, trees: str = TREES, membership: str = MEMBERSHIP) -> list[Place]:
    """Return where *controller* may have this process, as directories.

    In a container the outer ones, or the innermost, may not be there.
    """
    found = []
    for line in text(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            found.append(Place(2, _groups(trees, path)))
        elif controller in controllers.split(","):
            found.append(Place(1, _groups(f"{trees}/{controller}", path)))
    return found


def _groups(root: str, path: str) -> list[str]:
    """Return the directories of the group at *path* and of all around it."""
    groups = [root]
    for name in path.strip("/").split("/"):
        if name:
            groups.append(f"{groups[-1]}/{name}")
    return groups


def text(path: str) -> str:
    """Return what a file of the kernel's says; nothing if it is not there.

    Each `map` reads a few, and a file object takes as long as all of that.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        pieces = iter(lambda: os.read(descriptor, _PIECE), b"")
        return b"".join(pieces).decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(descriptor)
