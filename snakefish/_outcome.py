# SPDX-License-Identifier: MIT
"""How a function ended, as a message: with a value, or with an exception.

Bits of the message's tag that the codec leaves to others say which:

    RAISED      an exception, not a value
    EXTRACTED   it is about extract, not about the function itself
    END         a generator's last message
    SHARED      what became of shared variables, and of others
    SHARED+END  that, and the outcome behind it: one message is sent faster than two

An exception travels as a pickle of four things: its class's name, its last
line, the text of its whole traceback, and its own pickle, which was tried for
the round trip in the child. Where that does not work out, there or here, a
RemoteError with the text takes its place.
"""

from __future__ import annotations

import functools
import mmap
import pickle
import struct
import traceback
from typing import Any, Callable, NamedTuple

from snakefish._codec import Payload, Received, decode, encode
from snakefish._errors import RemoteError, RemoteTraceback

RAISED = 0x10
EXTRACTED = 0x20
END = 0x40
SHARED = 0x80
_BOTH = SHARED | END

_MOST = 1 << 16  # bytes that are worth copying, to send one message and not two
_CHANGES = struct.Struct("<BBq")  # the tags of the two, and the size of the first

# Address space for the last words of a process that has none left: no memory, as nobody touches it.
_reserve = mmap.mmap(-1, 4 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ)


class Outcome(NamedTuple):
    """A message about the end of a function, and the exit status that goes with it."""

    tag: int
    data: Payload
    status: int = 0


# The class's own way, for those who give no status, touches more pages; see _child.
_outcome: Callable[[tuple[int, Payload, int]], Outcome]
_outcome = functools.partial(tuple.__new__, Outcome)


def returned(value: object) -> Outcome:
    """Return the outcome of having returned *value*; a failure to pickle it is one too."""
    try:
        tag, data = encode(value)
        return _outcome((tag, data, 0))
    except BaseException as error:  # whatever __reduce__ does, it is the outcome
        return raised(error)._replace(status=0)


def raised(error: BaseException) -> Outcome:
    """Return the outcome of having raised *error*."""
    try:
        return _described(error)
    except MemoryError:
        _reserve.close()
        return _described(error)


def _described(error: BaseException) -> Outcome:
    kind = type(error)
    text = "".join(traceback.format_exception(kind, error, error.__traceback__))
    last_line = "".join(traceback.format_exception_only(kind, error)).strip()
    parts = (kind.__qualname__, last_line, text, _tried_pickle(error))
    return Outcome(RAISED, pickle.dumps(parts, 5), _exit_status(error))


def together(changes: Outcome, outcome: Outcome) -> list[Outcome]:
    """Return as few messages as can be for the two; what is large stays where it is."""
    first, second = changes.data, outcome.data
    if type(first) is not bytes or type(second) is not bytes or len(first) + len(second) > _MOST:
        return [changes._replace(tag=changes.tag | SHARED), outcome]
    head = _CHANGES.pack(changes.tag, outcome.tag, len(first))
    return [Outcome(_BOTH, head + first + second, outcome.status)]


def apart(tag: int, data: Received) -> list[tuple[int, Received]]:
    """Return the messages that were put `together`, or the one that it is."""
    if tag & _BOTH != _BOTH:
        return [(tag, data)]
    first, second, size = _CHANGES.unpack_from(data)
    end = _CHANGES.size + size
    return [(first | SHARED, data[_CHANGES.size : end]), (second, data[end:])]


def value_of(tag: int, data: Received) -> Any:
    """Return the value that a message carries, or raise the exception.

    Raises:
        What was raised, with the child's traceback as its cause; or whatever
        unpickling the value raises.
    """
    if tag & RAISED:
        raise exception_of(data)
    return decode(tag, data)


def exception_of(data: Received) -> BaseException:
    """Return the exception of a RAISED message, made afresh."""
    name, last_line, text, pickled = pickle.loads(data)
    error = None if pickled is None else _rebuilt(pickled)
    if error is None:
        error = RemoteError(f"{name} in a child, which cannot be sent as itself: {last_line}")
    error.__cause__ = RemoteTraceback(text)
    return error


def _tried_pickle(error: BaseException) -> bytes | None:
    """Return the pickle of *error*, if it comes back as what it was."""
    try:
        pickled = pickle.dumps(error, 5)
    except BaseException:  # user code runs in there, and may even exit
        return None
    return pickled if type(_rebuilt(pickled)) is type(error) else None


def _rebuilt(pickled: bytes) -> BaseException | None:
    try:
        error = pickle.loads(pickled)
    except KeyboardInterrupt:
        raise
    except BaseException:  # an __init__ may raise anything, or exit
        return None
    return error if isinstance(error, BaseException) else None


def _exit_status(error: BaseException) -> int:
    """Return the exit status of a process that *error* ends, as sys.exit defines it.

    Any exception but SystemExit is a result like others: the child ends well.
    """
    if not isinstance(error, SystemExit) or error.code is None:
        return 0
    return error.code & 0xFF if isinstance(error.code, int) else 1
