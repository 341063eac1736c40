# SPDX-License-Identifier: MIT
"""Every exception of the package, and the one place that reads codes of C.

Each class has two parents, `SnakefishError` and the builtin that a reader of
the standard library would expect, so both kinds of `except` work.

C answers with negative errno values whose meaning depends on what was asked;
`failure` looks the pair up and returns the exception to raise.
"""

from __future__ import annotations

import errno
import os
from typing import Any, NamedTuple


class SnakefishError(Exception):
    """The base of all exceptions that this package defines."""

    __module__ = "snakefish"  # where users find it, and what a traceback shows

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        cls.__module__ = SnakefishError.__module__


class MisuseError(SnakefishError, RuntimeError):
    """The object is not in a state in which this can be asked of it."""


class StartError(SnakefishError, RuntimeError):
    """No child could be forked; it may be tried again."""


class ChildDiedError(SnakefishError, RuntimeError):
    """A child ended before it had delivered what it was started for."""


class StatusUnknownError(SnakefishError, RuntimeError):
    """The child has ended and somebody else took its exit status away."""


class RemoteError(SnakefishError, RuntimeError):
    """An exception of a child that could not be brought over as itself."""


class RemoteTraceback(SnakefishError):  # noqa: N818 - it is a cause, not an error
    """The text of a traceback in a child; the `__cause__` of what it raised."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class ForkSafetyWarning(SnakefishError, RuntimeWarning):  # noqa: N818 - a warning
    """A child is forked while other threads run, which it will not have.

    Given once a process, before the first such fork. To silence it:

    >>> import warnings, snakefish
    >>> warnings.filterwarnings("ignore", category=snakefish.ForkSafetyWarning)
    """


class WaitTimeoutError(SnakefishError, TimeoutError):
    """The timeout passed; nothing was lost and the call can be repeated."""

    sent = 0
    """Of several messages that were to be sent, how many were."""


class ChannelFullError(SnakefishError, OverflowError):
    """There is no room for the message; nothing of it was sent."""

    sent = 0
    """Of several messages that were to be sent, how many were."""


class ChannelEmptyError(SnakefishError, IndexError):
    """There is no message, or no next value, yet."""


class ChannelEndError(SnakefishError, EOFError):
    """The channel is empty and closed, so nothing will come any more."""


class ChannelAbandonedError(ChannelEndError):
    """The channel is empty and all who could send have died or closed their end."""


class ChannelBrokenError(SnakefishError, BrokenPipeError):
    """The channel cannot be sent to: it is closed, or nobody is left to receive."""


class ChannelDamagedError(SnakefishError, RuntimeError):
    """The memory of the channel was overwritten by somebody."""


class OutOfMemoryError(SnakefishError, MemoryError):
    """The system has no memory, or no address space, for this."""


class NotShareableError(SnakefishError, TypeError):
    """A variable, or what a task did to it, is not for the merge it was shared by."""


class Conflict(NamedTuple):
    """Two writers of the same part of a shared variable."""

    name: str
    """The variable, as it was shared."""

    key: Any
    """Which part of its value: a key, an index; None for the whole."""

    current: Any
    """What is there, from the first of the *writers*."""

    theirs: Any
    """What the second of the *writers* wanted there."""

    writers: tuple[str, str]

    def __str__(self) -> str:
        part = "" if self.key is None else f"[{self.key!r}]"
        first, second = self.writers
        return (
            f"{self.name}{part} has two writers: "
            f"{first} left {self.current!r:.80}, {second} {self.theirs!r:.80}"
        )


# Two tasks that wrote to all of a buffer have a conflict for each of its elements.
_MOST_TOLD = 5


class MergeConflict(SnakefishError, RuntimeError):  # noqa: N818 - the word for it
    """What a task did to shared variables contradicts what others did.

    Nothing of the task was merged. *task* says which it was, *conflicts* what
    contradicts what.
    """

    def __init__(self, task: str, conflicts: list[Conflict]) -> None:
        super().__init__(task, conflicts)
        self.task = task
        self.conflicts = conflicts

    def __str__(self) -> str:
        told = [str(conflict) for conflict in self.conflicts[:_MOST_TOLD]]
        if len(self.conflicts) > _MOST_TOLD:
            told.append(f"and {len(self.conflicts) - _MOST_TOLD} more")
        return f"{self.task}: {'; '.join(told)}"


class LostWriteWarning(SnakefishError, UserWarning):  # noqa: N818 - a warning
    """A child changed variables that were not shared, or did not join its own children.

    What it, or they, did is lost. Given once a call, with the `share=` that would
    keep the changes. To silence it for one variable, share it by `merges.private`;
    for all:

    >>> import warnings, snakefish
    >>> warnings.filterwarnings("ignore", category=snakefish.LostWriteWarning)
    """


_DISPOSED = "it has been disposed"
_DAMAGED = "the channel's memory was overwritten"
_NO_PLACE = "too many processes of this program are alive"

_MEANINGS: dict[tuple[str, int], tuple[type[SnakefishError], str]] = {
    ("create", errno.EAGAIN): (StartError, _NO_PLACE),
    ("create", errno.ENOMEM): (OutOfMemoryError, "no memory or address space for it"),
    ("create", errno.EINVAL): (OutOfMemoryError, "the size cannot be had"),
    ("spawn", errno.EALREADY): (MisuseError, "it has already been started"),
    ("send", errno.ENOBUFS): (ChannelFullError, "no room for a message of {size} bytes"),
    ("send", errno.EMSGSIZE): (
        ChannelFullError,
        "a message of {size} bytes can never fit into a channel of {capacity} bytes",
    ),
    ("send", errno.ESHUTDOWN): (ChannelBrokenError, "the channel is closed"),
    ("send", errno.EPIPE): (ChannelBrokenError, "no room, and nobody is left to make some"),
    ("send", errno.EBADF): (MisuseError, _DISPOSED),
    ("send", errno.EBADMSG): (ChannelDamagedError, _DAMAGED),
    ("receive", errno.ESHUTDOWN): (ChannelEndError, "the channel is closed and empty"),
    ("receive", errno.EPIPE): (ChannelAbandonedError, "nobody is left to send anything"),
    ("receive", errno.EBADF): (MisuseError, _DISPOSED),
    ("receive", errno.EBADMSG): (ChannelDamagedError, _DAMAGED),
    ("receive", errno.ENOMEM): (OutOfMemoryError, "no memory to receive the message"),
    ("wait", errno.EBADF): (MisuseError, _DISPOSED),
    ("close", errno.EBADF): (MisuseError, _DISPOSED),
    ("fileno", errno.EBADF): (MisuseError, _DISPOSED),
}

_OTHERWISE = {"create": StartError, "spawn": StartError}


def failure(asked: str, code: int, **facts: object) -> SnakefishError:
    """Return the exception that says what the negative *code* means.

    *asked* is what was being done; *facts* fill the sentence.
    """
    kind, sentence = _MEANINGS.get((asked, -code), (None, ""))
    if kind is None:
        kind = _OTHERWISE.get(asked, MisuseError)
        sentence = f"cannot {asked}: {os.strerror(-code)} (errno {-code})"
    return kind(sentence.format(**facts))
