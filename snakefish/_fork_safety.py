# SPDX-License-Identifier: MIT
"""A word about threads, before a fork in a process that has several.

A child has a copy of the forking thread only. A lock that another thread holds
at that moment stays locked in the child, and what a library expects of its own
threads does not happen there. Code that keeps to Python is mostly all right, as
the interpreter puts its own locks in order. Known to break when the parent has
used them, by what their makers or users found:

    CUDA         "CUDA does not support the fork() system call"
                 https://github.com/NVIDIA/cuda-python/pull/1309
    gRPC         https://github.com/grpc/grpc/blob/master/doc/fork_support.md
    GNU OpenMP   hangs in the child's first parallel region
                 https://gcc.gnu.org/bugzilla/show_bug.cgi?id=60035
    TBB          undefined unless its first user forks
                 https://numba.readthedocs.io/en/stable/user/threading-layer.html
    XLA (JAX)    "will likely lead to a deadlock", says its own warning

The OpenMP of LLVM and Intel is not among them: it starts afresh in a child,
https://reviews.llvm.org/D41462.

CPython 3.12 and newer give a DeprecationWarning of their own, from within
`os.fork`, when it is too late to heed it. This one takes its place. It costs a
single-threaded program one stat of /proc at each start.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from typing import Callable

from snakefish._errors import ForkSafetyWarning
from snakefish._warning import warn_user

_TASKS = "/proc/self/task"
_MOST_NAMES = 8

# A thread that was joined can be seen for some microseconds more.
_PATIENCE_S = 0.01
_NAP_S = 0.0002

_KNOWN_TO_BREAK = {
    "CUDA": re.compile(r"libcuda(rt)?[.-]"),
    "gRPC": re.compile(r"cygrpc\.|libgrpc[.-]"),
    "GNU OpenMP": re.compile(r"libgomp[.-]"),
    "TBB": re.compile(r"libtbb[.-]"),
    "XLA": re.compile(r"xla_extension\.|libjax_common\."),
}

_PYTHON_WARNS_TOO = sys.implementation.name == "cpython" and sys.version_info >= (3, 12)

_warned = False  # a child inherits it, and does not repeat what its parent has said


def warn_if_threaded() -> bool:
    """Warn of the other threads of this process, if there are any; once.

    Return whether there may be any.

    Raises:
        ForkSafetyWarning: The user's filter turns it into an error.
    """
    global _warned
    if not _warned and _thread_count() > 1:
        python_threads, others = _other_threads()
        if python_threads or others:
            message = _message(python_threads, others, _libraries_that_break())
            warn_user(message, ForkSafetyWarning)
            _warned = True
    return _warned


def spawn_quietly(spawn: Callable[[], int]) -> int:
    """Call *spawn*, and keep back the warning of Python that ours stands for."""
    if not _PYTHON_WARNS_TOO:
        return spawn()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return spawn()


# ---------------------------------------------------------------- the threads


def _thread_count() -> int:
    """Return how many threads this process has, whoever started them."""
    try:
        return os.stat(_TASKS).st_nlink - 2
    except OSError:
        return threading.active_count()


def _other_threads() -> tuple[list[str], list[str]]:
    """Return the names of the other threads: Python's, and as the kernel knows the rest."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        this = threading.current_thread()
        threads = [thread for thread in threading.enumerate() if thread is not this]
        known = {thread.native_id for thread in threads} | {threading.get_native_id()}
        foreign = [number for number in os.listdir(_TASKS) if int(number) not in known]
        if not foreign or time.monotonic() > deadline:
            return [thread.name for thread in threads], [_kernel_name(n) for n in foreign]
        time.sleep(_NAP_S)


def _kernel_name(number: str) -> str:
    try:
        with open(f"{_TASKS}/{number}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "?"


def _libraries_that_break() -> list[str]:
    """Return which of the libraries known to break are loaded, with the files' names."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
            files = {os.path.basename(line.strip().rpartition("/")[2]) for line in file}
    except OSError:
        return []
    found = []
    for library, pattern in _KNOWN_TO_BREAK.items():
        found += [f"{library} ({name})" for name in sorted(files) if pattern.match(name)]
    return found


# ---------------------------------------------------------------- the warning


def _message(python_threads: list[str], others: list[str], libraries: list[str]) -> str:
    who = [_some([repr(name) for name in python_threads])] if python_threads else []
    if others:
        who.append(f"{len(others)} that Python did not start ({_some(sorted(set(others)))})")
    count = len(python_threads) + len(others)
    running = "1 other thread runs" if count == 1 else f"{count} other threads run"
    breaking = f"Known to break in a child: {_some(libraries)}. " if libraries else ""
    return (
        f"{running} in this process: {' and '.join(who)}. A forked child has none of them, and "
        f"what they have locked at the fork stays locked in it. {breaking}"
        "Start children before threads. If yours keep to plain Python, silence this with "
        'warnings.filterwarnings("ignore", category=snakefish.ForkSafetyWarning)'
    )


def _some(names: Sequence[str]) -> str:
    shown = list(names[:_MOST_NAMES])
    if len(names) > len(shown):
        shown.append(f"{len(names) - len(shown)} more")
    return ", ".join(shown)
