# SPDX-License-Identifier: MIT
"""Processes that feel like threads, and channels between them.

A `Thread` runs a function in a forked child, a `Generator` runs a generator
there, `map` and `starmap` run a function over many items; a `Channel` carries
objects between any of them. Nothing happens at import but definitions.
"""

from snakefish import merges
from snakefish._array import array
from snakefish._channel import Channel
from snakefish._clock import get_timestamp, get_timestamp_serialized, timestamp_to_ns
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
