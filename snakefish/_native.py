# SPDX-License-Identifier: MIT
"""The compiled C library, and the one Python function that it calls.

The interpreter's own `os.fork` is bound to the hook as it is, without a line
of Python around it: C then records the new child's pid before any bytecode,
and so any signal handler, can run.
"""

from __future__ import annotations

import os
from types import TracebackType

try:
    from snakefish._sf import ffi, lib
except ModuleNotFoundError as error:
    if error.name != "snakefish._sf":
        raise
    message = "snakefish is not built: run `python setup.py build_ext --inplace` or `pip install .`"
    raise ImportError(message) from error

__all__ = ["ffi", "lib", "take_fork_errors"]

_fork_errors: list[BaseException] = []


def _keep_fork_error(_kind: object, error: BaseException, _traceback: TracebackType) -> None:
    """Keep what `os.fork` raised: an exception cannot pass through C."""
    _fork_errors.append(error)


def take_fork_errors() -> list[BaseException]:
    """Return what `os.fork` raised since the last call."""
    taken = _fork_errors[:]
    del _fork_errors[: len(taken)]
    return taken


ffi.def_extern(name="sf_fork_hook", error=-1, onerror=_keep_fork_error)(os.fork)
