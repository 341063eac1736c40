# SPDX-License-Identifier: MIT
"""Messages between processes: `struct sf_channel` for Python.

A message is a tag and bytes; what they mean is the business of the layers
above. The loops around C's -EINTR are here: between two calls the interpreter
runs its signal handlers, and an exception from one of those leaves the queue
as if the call had never been made.

Messages are received into a buffer on loan from a shelf, and copied out of it.
Only a large one whose tag says IN_PLACE keeps its buffer, for as long as
anything refers to it.
"""

from __future__ import annotations

import errno
import os
import threading
from typing import Any, Callable

from snakefish._codec import IN_PLACE, Payload, Received
from snakefish._errors import failure
from snakefish._native import ffi, lib

_EINTR = -errno.EINTR
_EPIPE = -errno.EPIPE
_EAGAIN = -errno.EAGAIN
_INLINE: int = lib.SF_MESSAGE_INLINE
_INLINE_CODES = (_INLINE + 1) << 8

# What a queue weighs in the eyes of PyPy's garbage collector, which would let
# thousands of dropped ones lie about if they seemed to cost nothing. Users drop
# channels; what the package makes for itself it releases, and a collection for
# every few of those would cost ten times what a child does.
_WEIGHT_OF_A_USERS = 16 << 20
_WEIGHT_OF_OUR_OWN = 1 << 16

_send = lib.sf_channel_send
_receive = lib.sf_channel_receive

# Buffers not in use: [struct sf_message *, view of where small messages lie,
# how many messages were taken out of it].
_shelf: list[list[Any]] = []


class MessageQueue:
    """A first-in first-out queue of messages that forked children share.

    With *shrink* it may become smaller than *capacity* when memory is short.
    With *bound* only processes named by `bind` count as senders. With *threads*
    other threads of this process may serve it, and are waited for.
    """

    __slots__ = ("_counts_self", "_handle", "_kept", "_threads")

    def __init__(
        self, capacity: int, *, shrink: bool = False, bound: bool = False, threads: bool = False
    ) -> None:
        flags = shrink * lib.SF_CHANNEL_SHRINK | bound * lib.SF_CHANNEL_BOUND
        made = ffi.new("struct sf_channel **")
        code = lib.sf_channel_create(capacity, flags, made)
        if code:
            raise failure("create", code)
        weight = _WEIGHT_OF_A_USERS if threads else _WEIGHT_OF_OUR_OWN
        self._handle = ffi.gc(made[0], lib.sf_channel_destroy, size=weight)
        self._kept: list[tuple[int, Any, Any, int]] = []
        self._threads = threads
        self._counts_self = False

    def bind(self, process: Any) -> None:
        """Name *process*, a handle not yet spawned, as a sender."""
        code = lib.sf_channel_bind_sender(self._handle, process)
        if code:
            raise failure("create", code)

    # ---------------------------------------------------------------- sending

    def send(self, tag: int, data: Payload, deadline: int) -> None:
        """Append a message, whole or not at all.

        Raises:
            ChannelFullError: There is no room in time.
            ChannelBrokenError: It is closed, or nobody is left to make room.
        """
        if type(data) is not bytes:
            self._send_parts(tag, data, deadline)
            return
        try:
            code = _send(self._handle, tag, data, len(data), deadline)
            if code:
                code = self._persist(code, _send, tag, data, len(data), deadline)
        except BaseException:
            lib.sf_channel_cancel(self._handle)
            raise
        if code:
            raise failure("send", code, size=len(data), capacity=self.capacity)

    def _send_parts(self, tag: int, data: Any, deadline: int) -> None:
        pinned = [ffi.from_buffer("char[]", part) for part in data]
        try:
            self._send_pinned(tag, pinned, deadline)
        finally:
            # An exception keeps this frame, perhaps in a cycle; and a memoryview in a cycle
            # that is collected while something uses its buffer crashes CPython.
            for part in pinned:
                ffi.release(part)

    def _send_pinned(self, tag: int, pinned: list[Any], deadline: int) -> None:
        sizes = [len(part) for part in pinned]
        arguments = (ffi.new("void *[]", pinned), ffi.new("size_t[]", sizes), len(sizes))
        try:
            code = self._persist(_EINTR, lib.sf_channel_send_parts, tag, *arguments, deadline)
        except BaseException:
            lib.sf_channel_cancel(self._handle)
            raise
        if code:
            raise failure("send", code, size=sum(sizes), capacity=self.capacity)

    # -------------------------------------------------------------- receiving

    def receive(self, deadline: int, wakes: bool = False) -> tuple[int, Received] | None:
        """Take the next message, its tag and data; None if there is none in time.

        With *wakes* the answer is None also when there is a reason to look
        around: a signal, a sender that died, a tenth of a second gone.

        Raises:
            ChannelEndError: It is closed and empty.
            ChannelAbandonedError: It is empty and its senders are gone.
        """
        if self._kept:
            kept = self._take_kept()
            if kept is not None:
                return kept
        try:
            loan = _shelf.pop()
        except IndexError:
            loan = _new_buffer()
        received = None
        code = _EAGAIN
        try:
            code = _receive(self._handle, loan[0], deadline)
            if 0 <= code < _INLINE_CODES:
                received = code & 255, loan[1][: code >> 8]
                loan[2] += 1
                _shelf.append(loan)
                return received
            if code < 0 and not (wakes and code == _EINTR):
                code = self._persist(code, _receive, loan[0], deadline)
            if code >= 0:
                received = _copied(loan, code)
                loan[2] += 1
            _give_back(loan, code)
        except BaseException:
            self._keep(received, loan)
            raise
        if received is None and code != _EAGAIN and code != _EINTR:
            raise failure("receive", code)
        return received

    def put_back(self, tag: int, data: Received) -> None:
        """Let the next `receive` of this process return this message again."""
        self._kept.insert(0, (os.getpid(), (tag, data), None, 0))

    def _keep(self, received: Any, loan: Any) -> None:
        """Keep for the next call what an exception did not let this one return.

        It may have come when C had a message and its result was not seen yet.
        """
        if received is not None or lib.sf_message_count(loan[0]) > loan[2]:
            code = lib.sf_message_result(loan[0])
            self._kept.append((os.getpid(), received, loan, code))

    def _take_kept(self) -> tuple[int, Received] | None:
        """Return what was kept; what a parent kept is the parent's."""
        pid, received, loan, code = self._kept.pop(0)
        if pid != os.getpid():
            return None
        try:
            if received is None:
                received = _copied(loan, code)
                loan[2] += 1
                _give_back(loan, code)
        except BaseException:
            self._kept.insert(0, (pid, received, loan, code))
            raise
        kept: tuple[int, Received] = received
        return kept

    # ---------------------------------------------------------------- waiting

    def _persist(self, code: int, call: Callable[..., int], *arguments: Any) -> int:
        """Go on with a *call* that answered *code*, until it answers something final.

        Compiled code of PyPy runs signal handlers where a loop begins again, and
        nowhere else: hence the turn without a call.
        """
        counted = looked = False
        while True:
            if code == _EINTR:
                if not looked:
                    looked = True
                    continue
                counted = False
                if self._counts_self:
                    self._count_threads()
            elif code == _EPIPE and self._threads and not counted and self._count_threads():
                counted = True
            else:
                return code
            code = call(self._handle, *arguments)

    def _count_threads(self) -> bool:
        """Tell C whether other threads of this process may serve the queue."""
        self._counts_self = threading.active_count() > 1
        lib.sf_channel_count_self(self._handle, self._counts_self)
        return self._counts_self

    # ---------------------------------------------------------------- the end

    def close(self) -> None:
        """Close the queue for everybody; what is in it can still be received."""
        _check_close(lib.sf_channel_close(self._handle))

    def close_send(self) -> None:
        """Promise that this process will not send any more."""
        _check_close(lib.sf_channel_close_send(self._handle))

    def close_receive(self) -> None:
        """Promise that this process will not receive any more."""
        _check_close(lib.sf_channel_close_receive(self._handle))

    def release(self) -> None:
        """Leave the queue and unmap it in this process; any number of times."""
        lib.sf_channel_release(self._handle)
        self._kept.clear()

    # ------------------------------------------------------------------ sizes

    @property
    def capacity(self) -> int:
        """How many bytes may wait."""
        return lib.sf_channel_capacity(self._handle)

    @property
    def used(self) -> int:
        """How many bytes wait now, headers included."""
        return lib.sf_channel_used(self._handle)

    @property
    def committed(self) -> int:
        """How much memory the queue occupies, in bytes."""
        return lib.sf_channel_committed(self._handle)


def _check_close(code: int) -> None:
    if code:
        raise failure("close", code)


def _new_buffer() -> list[Any]:
    made = ffi.new("struct sf_message **")
    code = lib.sf_message_create(made)
    if code:
        raise failure("receive", code)
    message = ffi.gc(made[0], lib.sf_message_destroy, size=_INLINE)
    return [message, ffi.buffer(lib.sf_message_data(message), _INLINE), 0]


def _copied(loan: list[Any], code: int) -> tuple[int, Received]:
    """Return the message that a receive answering *code* left in a buffer.

    One that is used in place is not copied, and holds on to the buffer.
    """
    message, size = loan[0], code >> 8
    data = lib.sf_message_data(message)
    if _is_in_place(code):
        # The "destructor" only holds on to the message while its bytes are in use.
        return code & 255, memoryview(ffi.buffer(ffi.gc(data, lambda _: message), size))
    return code & 255, ffi.buffer(data, size)[:]


def _give_back(loan: list[Any], code: int) -> None:
    """End the loan of a buffer, unless its message is used in place."""
    if _is_in_place(code):
        return
    if code >= 0:
        lib.sf_message_clear(loan[0])
    _shelf.append(loan)


def _is_in_place(code: int) -> bool:
    return code >= 0 and bool(code & IN_PLACE) and code >> 8 > _INLINE
