# SPDX-License-Identifier: MIT
"""What the kernel says about processes: who lives, whose child, and what this one holds."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class Entry(NamedTuple):
    """One line of the process table."""

    pid: int
    state: str
    parent: int
    session: int


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def entry(pid: int) -> Entry | None:
    """The entry of *pid*, or None when there is no such process."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    if len(fields) < 4:
        return None
    return Entry(pid, fields[0], int(fields[1]), int(fields[3]))


def entries() -> Iterator[Entry]:
    """All processes that this one can see."""
    for name in os.listdir("/proc"):
        found = entry(int(name)) if name.isdigit() else None
        if found:
            yield found


def state(pid: int) -> str:
    """R, S, T, Z and so on; an empty string when there is no such process."""
    found = entry(pid)
    return found.state if found else ""


def is_gone(pid: int) -> bool:
    """Whether *pid* runs no longer; what nobody has reaped yet counts as gone."""
    return state(pid) in ("", "Z", "X")


def children() -> set[int]:
    """The children of this process, the ended ones that nobody has reaped included."""
    pid = os.getpid()
    if not os.path.exists(f"/proc/self/task/{pid}/children"):  # the kernel may be built without
        return {found.pid for found in entries() if found.parent == pid}
    threads = os.listdir("/proc/self/task")
    return {int(one) for t in threads for one in _read(f"/proc/self/task/{t}/children").split()}


def session_members(session: int) -> list[Entry]:
    """The running processes of a session."""
    return [e for e in entries() if e.session == session and e.state not in ("Z", "X")]


def open_descriptors() -> dict[int, str]:
    """What each open descriptor of this process refers to."""
    found = {int(name): _target(name) for name in os.listdir("/proc/self/fd")}
    return {number: target for number, target in found.items() if target}


def _target(name: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{name}")
    except OSError:  # the descriptor that listed the directory
        return ""


_NAMELESS = re.compile(r" \S\S\Ss \S+ \S+ \S+\s+(/memfd:|/dev/zero)")


def shared_mappings() -> list[str]:
    """The lines of nameless shared memory in this process's map."""
    return [line for line in _read("/proc/self/maps").splitlines() if _NAMELESS.search(line)]


def shared_sizes() -> dict[str, int]:
    """The bytes that nameless shared memory spans in this process, and those it really uses."""
    sizes = {"Size": 0, "Rss": 0}
    inside = False
    for line in _read("/proc/self/smaps").splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            inside = bool(_NAMELESS.search(line))
        elif inside and line.split(":")[0] in sizes:
            sizes[line.split(":")[0]] += int(line.split()[1]) * 1024
    return sizes
