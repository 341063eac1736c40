# SPDX-License-Identifier: MIT
"""The channel that users see: Python objects through a queue of messages."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any, Callable, NoReturn

from snakefish._clock import FOREVER, NOW, deadline_after
from snakefish._codec import BYTEARRAY, BYTES, DECODERS, Payload, encode
from snakefish._errors import (
    ChannelAbandonedError,
    ChannelEmptyError,
    ChannelFullError,
    WaitTimeoutError,
)
from snakefish._queue import NOTHING, MessageQueue, UnwantedMessageError
from snakefish._resource import Resource


def _refuse(_data: Any) -> NoReturn:
    raise UnwantedMessageError("the next message is an object; receive_pyobj receives it")


_BYTES_DECODERS = [
    decoder if tag in (BYTES, BYTEARRAY) else _refuse for tag, decoder in enumerate(DECODERS)
]

DEFAULT_SIZE = 2 << 30
_LARGEST_SIZE = 1 << 63


class Channel(Resource):
    """A queue of Python objects between processes, and between their threads.

    *size* is how many bytes may wait in it, 2 GiB if not given. Address space is
    reserved for them, memory is only used by what is waiting. Make the channel
    before the children that use it are started:

    >>> from snakefish import Channel, Thread
    >>> channel = Channel()
    >>> with Thread(lambda: channel.send_pyobj({"answer": 42})) as child:
    ...     child.start()
    ...     channel.receive_pyobj(True)
    {'answer': 42}
    >>> channel.dispose()

    Any number of processes and threads may send and receive. Each message
    arrives once, whole, and in the order in which its sender sent it, whoever
    is killed meanwhile. A child that uses a channel has a handle of its own:
    nothing that it does to that one disturbs its parent.

    As a context manager it disposes itself at the end.

    Raises:
        TypeError: *size* is not an integer.
        ValueError: *size* is not positive.
        OverflowError: *size* is beyond every address.
        MemoryError: There is no address space for it.
    """

    __slots__ = ("__weakref__", "_queue")

    def __init__(self, size: int | None = None) -> None:
        if size is None:
            self._queue = MessageQueue(DEFAULT_SIZE, shrink=True, threads=True)
        else:
            self._queue = MessageQueue(_checked_size(size), threads=True)

    # ---------------------------------------------------------------- sending

    def send_pyobj(self, obj: object, block: bool = False, timeout: float | None = None) -> None:
        """Send *obj*, as pickle would: what arrives is a copy.

        Without *block* there must be room now. With it the call waits for room,
        *timeout* seconds at most, and *obj* may even be larger than the channel
        while somebody receives.

        >>> with Channel(64) as channel:
        ...     channel.send_pyobj("x" * 100)
        Traceback (most recent call last):
            ...
        snakefish.ChannelFullError: a message of 100 bytes can never fit into a \
channel of 64 bytes

        Raises:
            OverflowError: There is no room; nothing was sent.
            TimeoutError: There was no room within *timeout*; nothing was sent.
            BrokenPipeError: The channel is closed, or nobody is left to receive.
            RuntimeError: The channel is disposed, or its memory damaged.
            Whatever pickling *obj* raises.
        """
        tag, data = encode(obj)
        deadline = NOW if not block else FOREVER if timeout is None else deadline_after(timeout)
        try:
            self._queue.send(tag, data, deadline)
        except ChannelFullError as error:
            raise _no_room(error, block, timeout) from None

    def send_bytes(
        self,
        data: bytes | bytearray | memoryview,
        block: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Send the bytes of *data*, any contiguous buffer, without pickling it.

        >>> with Channel() as channel:
        ...     channel.send_bytes(memoryview(b"raw"))
        ...     channel.receive_bytes()
        b'raw'

        Raises:
            TypeError: *data* has no buffer of bytes.
            BufferError, ValueError: The buffer is not contiguous.
            The same as `send_pyobj`, otherwise.
        """
        payload: Payload = data if type(data) is bytes else [memoryview(data).cast("B")]
        deadline = NOW if not block else FOREVER if timeout is None else deadline_after(timeout)
        try:
            self._queue.send(BYTES, payload, deadline)
        except ChannelFullError as error:
            raise _no_room(error, block, timeout) from None

    def send_many(
        self, objects: Iterable[object], block: bool = False, timeout: float | None = None
    ) -> None:
        """Send each of *objects* as `send_pyobj` would, in their order, at less cost.

        They are received one by one, by whoever comes, or together by
        `receive_many`. None is sent if one of them cannot be pickled. What ends
        the call before its end, a Ctrl-C or a kill, leaves the first of them
        sent, each whole.

        >>> with Channel() as channel:
        ...     channel.send_many(range(4))
        ...     channel.receive_pyobj(), channel.receive_many()
        (0, [1, 2, 3])

        Raises:
            OverflowError, TimeoutError: There is no room, or was none in time; the
                attribute `sent` of the exception says how many were sent.
            The same as `send_pyobj`, otherwise.
        """
        messages = [encode(obj) for obj in objects]
        deadline = deadline_after(timeout) if block else NOW
        try:
            self._queue.send_many(messages, deadline)
        except ChannelFullError as error:
            raise _no_room(error, block, timeout) from None

    # -------------------------------------------------------------- receiving

    def receive_pyobj(self, block: bool = True, timeout: float | None = None) -> Any:
        """Receive the next object.

        Without *block* it must be there already; with it the call waits, at most
        *timeout* seconds.

        >>> with Channel() as channel:
        ...     channel.send_pyobj([1, 2])
        ...     channel.receive_pyobj()
        ...     channel.receive_pyobj(block=False)
        Traceback (most recent call last):
            ...
        snakefish.ChannelEmptyError: the channel is empty

        Raises:
            IndexError: Nothing is there, and *block* is false.
            TimeoutError: Nothing came within *timeout*.
            EOFError: The channel is closed and empty; or *block* is true and all the
                other processes that could send have ended or closed their end.
            RuntimeError: The channel is disposed, or its memory damaged.
            MemoryError: There is no memory for the object; it stays in the channel.
            Whatever unpickling the object raises; it is gone then.
        """
        if block and timeout is None:
            return self._queue.receive_object(FOREVER, DECODERS)
        return self._receive(block, timeout, DECODERS)

    def receive_many(
        self, limit: int = 64, block: bool = True, timeout: float | None = None
    ) -> list[Any]:
        """Receive the next object and those that are there behind it, *limit* at most.

        It waits for the first as `receive_pyobj` does, and not for the others, of
        which it takes 128 KiB at most. A process that is killed takes along
        what it has received so.

        Raises:
            TypeError: *limit* is not an integer.
            ValueError: *limit* is not positive.
            Whatever unpickling the first object raises. If it is another one, that
                one is the first of the next call.
            The same as `receive_pyobj`, otherwise.
        """
        if operator.index(limit) <= 0:
            raise ValueError(f"the limit must be positive, not {limit}")
        deadline = deadline_after(timeout) if block else NOW
        try:
            objects = self._queue.receive_objects(deadline, DECODERS, limit)
        except ChannelAbandonedError:
            if block:
                raise  # whoever does not wait may yet fork a sender
            objects = []
        if not objects:
            raise _nothing(block, timeout)
        return objects

    def receive_bytes(self, block: bool = True, timeout: float | None = None) -> bytes:
        """Receive the next message, which `send_bytes` has sent, as bytes.

        Raises:
            TypeError: The message is an object that is not bytes; it stays in
                the channel.
            The same as `receive_pyobj`, otherwise.
        """
        try:
            if block and timeout is None:
                data: bytes = self._queue.receive_object(FOREVER, _BYTES_DECODERS)
            else:
                data = self._receive(block, timeout, _BYTES_DECODERS)
        except UnwantedMessageError as error:
            raise TypeError(*error.args) from None
        return data

    def _receive(
        self, block: bool, timeout: float | None, decoders: Sequence[Callable[[Any], Any]]
    ) -> Any:
        deadline = deadline_after(timeout) if block else NOW
        try:
            obj = self._queue.receive_object(deadline, decoders)
        except ChannelAbandonedError:
            if block:
                raise  # whoever does not wait may yet fork a sender
            obj = NOTHING
        if obj is NOTHING:
            raise _nothing(block, timeout)
        return obj

    # ---------------------------------------------------------------- the end

    def close(self) -> None:
        """Close the channel for everybody.

        What is in it can still be received; after that `receive_pyobj` raises
        EOFError. Sending raises BrokenPipeError from now on.

        >>> with Channel() as channel:
        ...     channel.send_pyobj("last")
        ...     channel.close()
        ...     channel.receive_pyobj()
        ...     channel.receive_pyobj()
        Traceback (most recent call last):
            ...
        snakefish.ChannelEndError: the channel is closed and empty

        Raises:
            RuntimeError: The channel is disposed.
        """
        self._queue.close()

    def close_send(self) -> None:
        """Declare that this process, and what it forks from now on, sends no more.

        When every process has said so, or ended, receivers see the end.

        Raises:
            RuntimeError: The channel is disposed.
        """
        self._queue.close_send()

    def close_receive(self) -> None:
        """Declare that this process, and what it forks from now on, receives no more.

        Raises:
            RuntimeError: The channel is disposed.
        """
        self._queue.close_receive()

    def dispose(self) -> None:
        """Release this process's hold on the channel; any number of times.

        Raises:
            Nothing.
        """
        self._queue.release()

    # ---------------------------------------------------------------- looking

    @property
    def size(self) -> int:
        """How many bytes may wait in the channel; 0 once it is disposed."""
        return self._queue.capacity

    @property
    def used(self) -> int:
        """How many bytes wait in the channel now, with a few for each message."""
        return self._queue.used

    @property
    def committed(self) -> int:
        """How much memory the channel occupies now, in bytes."""
        return self._queue.committed

    def __repr__(self) -> str:
        if self.size:
            return f"<Channel of {self.size} bytes, {self.used} used>"
        return "<Channel, disposed>"


def _checked_size(size: int) -> int:
    number = operator.index(size)
    if number <= 0:
        raise ValueError(f"the size of a channel must be positive, not {number}")
    if number >= _LARGEST_SIZE:
        raise OverflowError(f"no machine has a channel of {number} bytes")
    return number


def _no_room(error: ChannelFullError, block: bool, timeout: float | None) -> Exception:
    """Return what a send raises that found no room: it was too late, if it could wait."""
    if not block:
        return error
    late = WaitTimeoutError(f"no room in the channel within {timeout} seconds")
    late.sent = error.sent
    return late


def _nothing(block: bool, timeout: float | None) -> Exception:
    """Return what a receive raises that found nothing."""
    if block:
        return WaitTimeoutError(f"nothing came within {timeout} seconds")
    return ChannelEmptyError("the channel is empty")
