# SPDX-License-Identifier: MIT
"""Messages between processes: `struct sf_channel` for Python.

A message is a tag and bytes; what they mean is the business of the layers
above. The loops around C's -EINTR are here: between two calls the interpreter
runs its signal handlers, and an exception from one of those leaves the queue
as if the call had never been made.

Messages are received into a buffer on loan from a shelf, and decoded there or
copied out of it. A large one keeps its buffer, for as long as anything refers
to it, if its tag says IN_PLACE or if the memory would not be used again anyway.

Large bytes are received into the object itself. C writes them into memory of a
fresh bytes object that nobody else has seen, as CPython's own functions do.
PyPy's bytes have no address to write to. There a large buffer is received into
an mmap, the one object that NumPy can use as it is and that PyPy frees.
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
import threading
import weakref
from collections.abc import Sequence
from typing import Any, Callable

from snakefish._codec import (
    BYTES,
    ENCODING,
    FIRST_SIZED,
    IN_PLACE,
    PICKLE_BUFFERS,
    Payload,
    Received,
)
from snakefish._errors import ChannelFullError, failure
from snakefish._native import ffi, lib

_EINTR = -errno.EINTR
_EPIPE = -errno.EPIPE
_EAGAIN = -errno.EAGAIN
_EFBIG = -errno.EFBIG
_INLINE: int = lib.SF_MESSAGE_INLINE
_INLINE_CODES = (_INLINE + 1) << 8
_CPYTHON = sys.implementation.name == "cpython"
_LENT = BYTES if _CPYTHON else PICKLE_BUFFERS & ENCODING
_NOT_USED_AGAIN = 8 << 20  # bytes, beyond which a buffer returns its memory

# What a queue weighs in the eyes of PyPy's garbage collector, which would let
# thousands of dropped ones lie about if they seemed to cost nothing. Users drop
# channels; what the package makes for itself it releases, and a collection for
# every few of those would cost ten times what a child does.
_WEIGHT_OF_A_USERS = 16 << 20
_WEIGHT_OF_OUR_OWN = 1 << 16

_send = lib.sf_channel_send
_pace = lib.sf_channel_pace
_receive = lib.sf_channel_receive
_send_many = lib.sf_channel_send_many
_receive_many = lib.sf_channel_receive_many

# Together at one stroke: so many messages, and what each needs beside its bytes.
_MOST: int = lib.SF_MESSAGE_MANY
_BESIDE = 56

# Bytes lent on PyPy before its collector is told of them, and goes through the whole heap.
_WORTH_A_COLLECTION = 128 << 20
_untold = 0

_FURTHEST = (1 << 32) - 1

# What `receive_object` returns when there is no message.
NOTHING = object()


class UnwantedMessageError(Exception):
    """Raised by a decoder for a message that is to stay where it is."""


# Exceptions while a message is decoded that do not mean that it cannot be.
_ABOUT_THE_CALL = (KeyboardInterrupt, UnwantedMessageError)


class _Buffer:
    """Memory to receive into, how many messages were taken out of it, and what it was lent last."""

    __slots__ = ("__weakref__", "lent_at", "message", "taken", "view")

    def __init__(self) -> None:
        made = ffi.new("struct sf_message **")
        code = lib.sf_message_create(made)
        if code:
            raise failure("receive", code)
        lib.sf_message_ask(made[0], True)
        self.message = ffi.gc(made[0], lib.sf_message_destroy, size=_INLINE)
        self.view = ffi.buffer(lib.sf_message_data(self.message), _INLINE)
        self.taken = 0
        self.lent_at = 0
        _buffers.append(weakref.ref(self, _buffers.remove))


# All of them. Not a WeakSet, which other threads must leave alone while it is walked.
_buffers: list[weakref.ref[_Buffer]] = []
_shelf: list[_Buffer] = []


class MessageQueue:
    """A first-in first-out queue of messages that forked children share.

    With *shrink* it may become smaller than *capacity* when memory is short.
    With *bound* only processes named by `bind` count as senders. With *threads*
    other threads of this process may serve it, and are waited for.
    """

    __slots__ = ("_counts_self", "_kept", "_lent", "_threads", "handle")

    def __init__(
        self, capacity: int, *, shrink: bool = False, bound: bool = False, threads: bool = False
    ) -> None:
        flags = shrink * lib.SF_CHANNEL_SHRINK | bound * lib.SF_CHANNEL_BOUND
        made = ffi.new("struct sf_channel **")
        code = lib.sf_channel_create(capacity, flags, made)
        if code:
            raise failure("create", code)
        weight = _WEIGHT_OF_A_USERS if threads else _WEIGHT_OF_OUR_OWN
        self.handle = ffi.gc(made[0], lib.sf_channel_destroy, size=weight)
        self._kept: list[tuple[int, Any, Any, int]] = []
        # Objects that C may be writing to, even between two calls, or that hold a message
        # which nobody has taken yet; by their address, and the buffer that was lent them.
        self._lent: dict[int, tuple[Any, _Buffer]] = {}
        self._threads = threads
        self._counts_self = False

    def bind(self, process: Any) -> None:
        """Name *process*, a handle not yet spawned, as a sender."""
        code = lib.sf_channel_bind_sender(self.handle, process)
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
            code = _send(self.handle, tag, data, len(data), deadline)
            if code:
                code = self._persist(code, _send, tag, data, len(data), deadline)
        except BaseException:
            lib.sf_channel_cancel(self.handle)
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
            lib.sf_channel_cancel(self.handle)
            raise
        if code:
            raise failure("send", code, size=sum(sizes), capacity=self.capacity)

    def send_many(self, messages: list[tuple[int, Payload]], deadline: int) -> None:
        """Append messages one after the other, as many as possible at one stroke.

        Raises:
            The same as `send`; a ChannelFullError says how many were sent.
        """
        most = min(_INLINE, self.capacity) // 2
        parts: list[bytes] = []
        heads: list[int] = []
        size = sent = 0
        try:
            for tag, data in messages:
                alone = type(data) is not bytes or len(data) + _BESIDE > most
                size += len(data) + _BESIDE
                if alone or size > most or len(heads) == _MOST:
                    self._send_together(parts, heads, deadline)
                    sent += len(heads)
                    parts, heads, size = [], [], len(data) + _BESIDE
                if alone:
                    self.send(tag, data, deadline)
                    sent, size = sent + 1, 0
                else:
                    parts.append(data)  # type: ignore[arg-type]
                    heads.append(len(data) << 8 | tag)
            self._send_together(parts, heads, deadline)
        except ChannelFullError as error:
            error.sent = sent
            raise

    def _send_together(self, parts: list[bytes], heads: list[int], deadline: int) -> None:
        data = b"".join(parts)
        arguments = data, ffi.new("uint64_t[]", heads), len(heads)
        try:
            code = _send_many(self.handle, *arguments, deadline)
            if code:
                code = self._persist(code, _send_many, *arguments, deadline)
        except BaseException:
            lib.sf_channel_cancel(self.handle)
            raise
        if code:
            raise failure("send", code, size=len(data), capacity=self.capacity)

    def pace(self, ahead: int, deadline: int) -> int:
        """Wait until fewer than *ahead* messages wait; return how many may be sent then.

        For the only sender: at first, and when it has sent as many.

        Raises:
            ChannelFullError: Too many wait until the deadline.
            ChannelBrokenError: It is closed.
        """
        code = _pace(self.handle, min(ahead, _FURTHEST), deadline)
        if code < 0:
            code = self._persist(code, _pace, min(ahead, _FURTHEST), deadline)
        if code < 0:
            raise failure("send", code, size=0)
        return code

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
            loan = _Buffer()
        received = None
        code = _EAGAIN
        try:
            code = _receive(self.handle, loan.message, deadline)
            if 0 <= code < _INLINE_CODES:
                received = code & 255, loan.view[: code >> 8]
                loan.taken += 1
                _shelf.append(loan)
                return received
            return self._go_on(loan, code, deadline, wakes)
        except BaseException:
            self._keep(received, loan)
            raise

    def receive_object(self, deadline: int, decoders: Sequence[Callable[[Any], Any]]) -> Any:
        """Take the next message and return what its kind's decoder makes of it.

        The answer is NOTHING if there is no message in time. A Ctrl-C that comes
        when there is one leaves it to the next call, and so does UnwantedMessageError.

        Raises:
            Whatever decoding raises; the message is gone then.
            The same as `receive`, otherwise.
        """
        global _shelf
        if self._kept:
            kept = self._take_kept()
            if kept is not None:
                return self._decode(kept, decoders)
        try:
            loan = _shelf.pop()
        except IndexError:
            loan = _Buffer()
        code = _EAGAIN
        try:
            code = _receive(self.handle, loan.message, deadline)
            if 0 <= code < _INLINE_CODES:
                kind = code & ENCODING
                obj = loan.view if kind < FIRST_SIZED else loan.view[: code >> 8]
                if kind != BYTES:  # which they are by now
                    obj = decoders[kind](obj)
                loan.taken += 1
                # Not by a call: after one Python looks for signals, and what a
                # handler raises would take the object along.
                _shelf += (loan,)
                return obj
        except BaseException as error:
            self._undo(loan, code, error)
            raise
        received = None
        try:
            received = self._go_on(loan, code, deadline)
            return NOTHING if received is None else decoders[received[0] & ENCODING](received[1])
        except BaseException as error:
            if received is None:
                self._keep(None, loan)
            elif isinstance(error, _ABOUT_THE_CALL):
                self.put_back(*received)
            raise

    def receive_objects(
        self, deadline: int, decoders: Sequence[Callable[[Any], Any]], limit: int
    ) -> list[Any]:
        """Take the next message and those that are there behind it, *limit* at most; decode them.

        The list is empty if there is none in time. One that does not decode ends
        it before, and is what the exception is about if it is the first.

        Raises:
            The same as `receive_object`.
        """
        if self._kept:
            obj = self.receive_object(deadline, decoders)
            return [] if obj is NOTHING else [obj]
        messages = self._take_many(deadline, limit)
        objects: list[Any] = []
        try:
            for tag, data in messages:
                objects.append(decoders[tag & ENCODING](data))
        except BaseException as error:
            if isinstance(error, _ABOUT_THE_CALL):
                self._put_back_all(messages)
                raise
            self._put_back_all(messages[len(objects) or 1 :])
            if not objects:
                raise
        return objects

    def _take_many(self, deadline: int, limit: int) -> list[tuple[int, Received]]:
        try:
            loan = _shelf.pop()
        except IndexError:
            loan = _Buffer()
        messages: list[tuple[int, Received]] = []
        arguments = loan.message, min(limit, _MOST), deadline
        try:
            code = _receive_many(self.handle, *arguments)
            code = self._final(code, loan, False, _receive_many, *arguments)
            if code > 0:
                messages = self._cut(loan, code)
                loan.taken += code
            self._give_back(loan, lib.sf_message_result(loan.message) if code > 0 else code)
        except BaseException:
            count = lib.sf_message_count(loan.message) - loan.taken
            self._put_back_all(messages or (self._cut(loan, count) if count else []))
            self._let_go(loan)
            raise
        if not messages and code != _EAGAIN:
            raise failure("receive", code)
        return messages

    def _cut(self, loan: _Buffer, count: int) -> list[tuple[int, Received]]:
        """Return the messages that a receive has left in a buffer."""
        heads: Any = ffi.unpack(lib.sf_message_heads(loan.message), count)
        if heads[0] >= _INLINE_CODES:
            return [self._copied(loan, heads[0])]
        messages: list[tuple[int, Received]] = []
        view, begin = loan.view, 0
        for head in heads:
            end = begin + (head >> 8)
            messages.append((head & 255, view[begin:end]))
            begin = end
        return messages

    def _put_back_all(self, messages: list[tuple[int, Received]]) -> None:
        for message in reversed(messages):
            self.put_back(*message)

    def _decode(self, kept: tuple[int, Received], decoders: Sequence[Callable[[Any], Any]]) -> Any:
        try:
            return decoders[kept[0] & ENCODING](kept[1])
        except _ABOUT_THE_CALL:
            self.put_back(*kept)
            raise

    def _go_on(
        self, loan: _Buffer, code: int, deadline: int, wakes: bool = False
    ) -> tuple[int, Received] | None:
        """End a receive into *loan* whose first call answered *code*."""
        received = None
        try:
            code = self._final(code, loan, wakes, _receive, loan.message, deadline)
            if code >= 0:
                received = self._copied(loan, code)
                loan.taken += 1
            self._give_back(loan, code)
        except BaseException:
            self._keep(received, loan)
            raise
        if received is None and code != _EAGAIN and code != _EINTR:
            raise failure("receive", code)
        return received

    def _final(
        self, code: int, loan: _Buffer, wakes: bool, call: Callable[..., int], *arguments: Any
    ) -> int:
        """Go on with a receive that answered *code*; lend memory to a message that asks for it."""
        while True:
            if code < 0 and not (wakes and code == _EINTR):
                code = self._persist(code, call, *arguments)
            if code != _EFBIG:
                return code
            self._lend(loan)
            code = call(self.handle, *arguments)

    def _lend(self, loan: _Buffer) -> None:
        """Make the object that the large message at hand is to become, or to lie in."""
        code = lib.sf_message_result(loan.message)
        self._take_back(loan)
        memory, size = ffi.NULL, code >> 8
        made = _made_to_lend(size) if code & ENCODING == _LENT else None
        if made is not None:
            memory = ffi.from_buffer(made)
            loan.lent_at = _address(memory)
            self._lent[loan.lent_at] = made, loan
        lib.sf_message_lend(loan.message, memory, size)

    def _take_back(self, loan: _Buffer) -> None:
        """Let go of what a buffer was lent before, which C asks for anew.

        Then C writes to it no more. But another thread may have ended what was begun there, and
        not looked at its message yet; and the same address may be another buffer's by now.
        """
        lent = self._lent.get(loan.lent_at)
        if lent is None or lent[1] is not loan:
            return
        if not _holds_a_message(loan.lent_at):
            self._lent.pop(loan.lent_at, None)

    def _copied(self, loan: _Buffer, code: int) -> tuple[int, Received]:
        """Return the message that a receive answering *code* left in a buffer.

        One that is used in place is not copied, and holds on to the buffer.
        """
        message, tag, size = loan.message, code & 255, code >> 8
        data = lib.sf_message_data(message)
        lent = self._lent.get(_address(data)) if self._lent else None
        if lent is not None:
            return tag, lent[0]
        if _is_in_place(code):
            # The "destructor" only holds on to the message while its bytes are in use.
            held = ffi.gc(data, lambda _: message)
            return tag, memoryview(ffi.buffer(held, size))
        return tag, ffi.buffer(data, size)[:]

    def _give_back(self, loan: _Buffer, code: int) -> None:
        """End the loan of a buffer, unless its message is used in place.

        Its next message may be another queue's: what was lent to no avail is lent no more.
        """
        self._let_go(loan)
        if _is_in_place(code):
            return
        if code >= 0:
            lib.sf_message_clear(loan.message)
        if loan.lent_at:
            lib.sf_message_lend(loan.message, ffi.NULL, 0)
        _shelf.append(loan)

    def _let_go(self, loan: _Buffer) -> None:
        """Forget the object that is the message in a buffer: whoever has taken it has it."""
        if self._lent:
            self._lent.pop(_address(lib.sf_message_data(loan.message)), None)

    def put_back(self, tag: int, data: Received) -> None:
        """Let the next `receive` of this process return this message again."""
        self._kept.insert(0, (os.getpid(), (tag, data), None, 0))

    def _undo(self, loan: _Buffer, code: int, error: BaseException) -> None:
        """Keep a message that *error* did not let out, unless it does not decode."""
        if code < 0 or isinstance(error, _ABOUT_THE_CALL):
            self._keep(None, loan)
        else:
            loan.taken += 1
            _shelf.append(loan)

    def _keep(self, received: Any, loan: _Buffer) -> None:
        """Keep for the next call what an exception did not let this one return.

        It may have come when C had a message and its result was not seen yet.
        """
        if self._kept and self._kept[-1][2] is loan:
            return
        if received is not None or lib.sf_message_count(loan.message) > loan.taken:
            code = lib.sf_message_result(loan.message)
            self._kept.append((os.getpid(), received, loan, code))

    def _take_kept(self) -> tuple[int, Received] | None:
        """Return what was kept; what a parent kept is the parent's."""
        pid, received, loan, code = self._kept.pop(0)
        if pid != os.getpid():
            return None
        try:
            if received is None:
                received = self._copied(loan, code)
                loan.taken += 1
                self._give_back(loan, code)
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
            code = call(self.handle, *arguments)

    def _count_threads(self) -> bool:
        """Tell C whether other threads of this process may serve the queue."""
        self._counts_self = threading.active_count() > 1
        lib.sf_channel_count_self(self.handle, self._counts_self)
        return self._counts_self

    # ---------------------------------------------------------------- the end

    def close(self) -> None:
        """Close the queue for everybody; what is in it can still be received."""
        _check_close(lib.sf_channel_close(self.handle))

    def close_send(self) -> None:
        """Promise that this process will not send any more."""
        _check_close(lib.sf_channel_close_send(self.handle))

    def close_receive(self) -> None:
        """Promise that this process will not receive any more."""
        _check_close(lib.sf_channel_close_receive(self.handle))

    def release(self) -> None:
        """Leave the queue and unmap it in this process; any number of times."""
        lib.sf_channel_release(self.handle)
        self._kept.clear()

    # ------------------------------------------------------------------ sizes

    @property
    def capacity(self) -> int:
        """How many bytes may wait."""
        return lib.sf_channel_capacity(self.handle)

    @property
    def used(self) -> int:
        """How many bytes wait now, headers included."""
        return lib.sf_channel_used(self.handle)

    @property
    def committed(self) -> int:
        """How much memory the queue occupies, in bytes."""
        return lib.sf_channel_committed(self.handle)


def _check_close(code: int) -> None:
    if code:
        raise failure("close", code)


def _address(pointer: Any) -> int:
    return int(ffi.cast("uintptr_t", pointer))


def _holds_a_message(address: int) -> bool:
    """Return whether what was received last into any buffer lies there."""
    buffers = [buffer() for buffer in _buffers[:]]
    return any(
        buffer is not None and _address(lib.sf_message_data(buffer.message)) == address
        for buffer in buffers
    )


def _pages(size: int) -> mmap.mmap | None:
    """Return fresh memory, which PyPy's collector hears of; None if there is none."""
    global _untold
    try:
        pages = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError:
        return None
    _untold += size
    if _untold >= _WORTH_A_COLLECTION:
        _add_memory_pressure(_untold)
        _untold = 0
    return pages


if _CPYTHON:
    _made_to_lend: Callable[[int], Any] = bytes
else:
    from __pypy__ import (  # type: ignore[import-not-found]
        add_memory_pressure as _add_memory_pressure,
    )

    _made_to_lend = _pages


def _is_in_place(code: int) -> bool:
    kind, size = code & ENCODING, code >> 8
    if code < 0 or size <= _INLINE or kind == _LENT:
        return False
    return bool(code & IN_PLACE) or (_CPYTHON and size > _NOT_USED_AGAIN)
