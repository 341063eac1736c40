# SPDX-License-Identifier: MIT
"""How to make the kernel refuse things, to a thread, a process or a program, and to nobody else."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stage import NO_WAY

if TYPE_CHECKING:
    from collections.abc import Iterator

_libc = ctypes.CDLL(None, use_errno=True)

# ------------------------------------------------------------------ system calls

_NUMBERS = {
    "x86_64": {
        "fork": (56, 57, 58, 435),
        "pipe2": (293,),
        "pidfd_open": (434,),
        "memfd_create": (319,),
        "ftruncate": (77,),
        "mmap": (9,),
    },
    "aarch64": {
        "fork": (220, 435),
        "pipe2": (59,),
        "pidfd_open": (434,),
        "memfd_create": (279,),
        "ftruncate": (46,),
        "mmap": (222,),
    },
}
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _MODE_FILTER = 22, 38, 2
_LOAD_NUMBER, _SKIP_UNLESS, _RETURN = 0x20, 0x15, 0x06
_REFUSE, _ALLOW = 0x00050000, 0x7FFF0000


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def refuse(call: str, error: int) -> None:
    """From now on *call* fails with *error* in this thread, and in what it forks; for ever."""
    steps = [struct.pack("HBBI", _LOAD_NUMBER, 0, 0, 0)]
    for number in _NUMBERS[platform.machine()][call]:
        steps.append(struct.pack("HBBI", _SKIP_UNLESS, 0, 1, number))
        steps.append(struct.pack("HBBI", _RETURN, 0, 0, _REFUSE | error))
    steps.append(struct.pack("HBBI", _RETURN, 0, 0, _ALLOW))
    program = _Program(len(steps), b"".join(steps))
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _check(_libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0))


def _check(result: int) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{NO_WAY}: {os.strerror(error)}")


# ------------------------------------------------------------------------ limits


@contextmanager
def limited(what: int, amount: int) -> Iterator[None]:
    """Set a soft limit of this process for a while."""
    soft, hard = resource.getrlimit(what)
    resource.setrlimit(what, (amount, hard))
    try:
        yield
    finally:
        resource.setrlimit(what, (soft, hard))


@contextmanager
def processes(count: int) -> Iterator[None]:
    """Let this process have no more than *count* others beside it, for a while.

    The limit counts all processes of a user and does not bind root. So root becomes a user who
    has no other process.
    """
    if os.getuid() == 0:
        user = 100_000 + os.getpid()
        os.setresuid(user, user, 0)
        try:
            with limited(resource.RLIMIT_NPROC, 1 + count):
                yield
        finally:
            os.setresuid(0, 0, 0)
    else:
        with limited(resource.RLIMIT_NPROC, _processes_of_this_user() + count):
            yield


def _processes_of_this_user() -> int:
    """How many processes and threads the kernel counts against the limit."""
    count = 0
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == os.getuid():
                count += len(os.listdir(f"/proc/{name}/task"))
        except OSError:
            pass
    return count


@contextmanager
def descriptors(count: int) -> Iterator[None]:
    """Let this process open exactly *count* descriptors more, for a while."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd"))) + 1
    spare = []
    with limited(resource.RLIMIT_NOFILE, highest + count):
        try:
            while True:
                spare.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        for _ in range(min(count, len(spare))):
            os.close(spare.pop())
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for descriptor in spare:
                os.close(descriptor)


@contextmanager
def address_space(megabytes: int) -> Iterator[None]:
    """Let this process map *megabytes* more than it does, for a while."""
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[0])
    used = pages * resource.getpagesize()
    with limited(resource.RLIMIT_AS, used + (megabytes << 20)):
        yield


# ------------------------------------------------------------------------- mounts

_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18


def leave_the_mounts() -> None:
    """Give this process mounts of its own, which it can change."""
    user, group = os.getuid(), os.getgid()
    _check(_libc.unshare(_CLONE_NEWNS | (_CLONE_NEWUSER if user else 0)))
    if user:
        _be_root_among_few(user, group)
    _mount("none", "/", None, _MS_REC | _MS_PRIVATE, None)


def _be_root_among_few(user: int, group: int) -> None:
    """In a new user namespace files need owners that it knows, user_namespaces(7)."""
    maps = (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1"))
    for name, text in maps:
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def mount_memory(place: str, options: str, read_only: bool = False) -> None:
    """Mount a fresh file system in memory at *place*."""
    _mount("tmpfs", place, "tmpfs", _MS_RDONLY if read_only else 0, options)


def make_read_only(place: str) -> None:
    """Let nothing be written below *place* any more."""
    _mount(place, place, None, _MS_BIND, None)
    _mount(place, place, None, _MS_BIND | _MS_REMOUNT | _MS_RDONLY, None)


def _mount(source: str, place: str, kind: str | None, flags: int, options: str | None) -> None:
    words = [word.encode() if word is not None else None for word in (source, place, kind)]
    data = options.encode() if options is not None else None
    _check(_libc.mount(*words, ctypes.c_ulong(flags), data))
