# SPDX-License-Identifier: MIT
"""Processes that feel like threads, and channels between them.

A `Thread` runs a function in a forked child, a `Generator` runs a generator
there, `map` and `starmap` run a function over many items; a `Channel` carries
objects between any of them. Nothing happens at import but definitions.

What a program does not use is not loaded: each name is fetched from its module
when it is first asked for (PEP 562). Only what needs little but the compiled library is
loaded at once, so that a package that was not built cannot be imported.
"""

from snakefish._clock import get_timestamp, get_timestamp_serialized, timestamp_to_ns

TYPE_CHECKING = False  # as in typing, which would cost more than all else that is done here
if TYPE_CHECKING:
    from snakefish import merges
    from snakefish import testing as testing
    from snakefish._array import array
    from snakefish._channel import Channel
    from snakefish._errors import (
        ChannelAbandonedError,
        ChannelBrokenError,
        ChannelDamagedError,
        ChannelEmptyError,
        ChannelEndError,
        ChannelFullError,
        ChildDiedError,
        Conflict,
        ForkSafetyWarning,
        LostWriteWarning,
        MergeConflict,
        MisuseError,
        NotShareableError,
        OutOfMemoryError,
        RemoteError,
        RemoteTraceback,
        SnakefishError,
        StartError,
        StatusUnknownError,
        WaitTimeoutError,
    )
    from snakefish._generator import Generator
    from snakefish._map import map, starmap
    from snakefish._sharing import shares
    from snakefish._thread import Thread

__all__ = [
    "Channel",
    "ChannelAbandonedError",
    "ChannelBrokenError",
    "ChannelDamagedError",
    "ChannelEmptyError",
    "ChannelEndError",
    "ChannelFullError",
    "ChildDiedError",
    "Conflict",
    "ForkSafetyWarning",
    "Generator",
    "LostWriteWarning",
    "MergeConflict",
    "MisuseError",
    "NotShareableError",
    "OutOfMemoryError",
    "RemoteError",
    "RemoteTraceback",
    "SnakefishError",
    "StartError",
    "StatusUnknownError",
    "Thread",
    "WaitTimeoutError",
    "__version__",
    "array",
    "get_timestamp",
    "get_timestamp_serialized",
    "map",
    "merges",
    "shares",
    "starmap",
    "timestamp_to_ns",
]

__version__ = "0.1.0"

_ELSEWHERE = {
    "Channel": "_channel",
    "Generator": "_generator",
    "Thread": "_thread",
    "array": "_array",
    "map": "_map",
    "shares": "_sharing",
    "starmap": "_map",
}
"""Where the names are defined; all others are exceptions."""

if not TYPE_CHECKING:  # a type checker would take it that any name is there

    def __getattr__(name):
        from importlib import import_module

        if name in ("merges", "testing"):
            return import_module(f"snakefish.{name}")
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = import_module(f"snakefish.{_ELSEWHERE.get(name, '_errors')}")
        value = globals()[name] = getattr(module, name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "testing"})
