# SPDX-License-Identifier: MIT
"""Large bytes, which a channel writes into the object that it returns."""

from __future__ import annotations

import gc
import itertools
import sys
from typing import TYPE_CHECKING, Any, Callable

import pytest

from snakefish import Channel

if TYPE_CHECKING:
    from collections.abc import Iterator

MEBIBYTE = 1 << 20


@pytest.fixture
def channel() -> Iterator[Channel]:
    with Channel() as made:
        yield made


def at_return_of(name: str, act: Callable[[], None]) -> Callable[[Any, str, Any], None]:
    """Return a profiler that calls *act* when the first function of this name returns."""

    def profile(frame: Any, event: str, argument: Any) -> None:
        if event == "return" and frame.f_code.co_name == name:
            sys.setprofile(None)
            act()

    return profile


def interrupting(count: int) -> Callable[[Any, str, Any], Any]:
    """Return a tracer that raises KeyboardInterrupt at an opcode of receiving."""
    left = [count]

    def trace(frame: Any, event: str, argument: Any) -> Any:
        frame.f_trace_opcodes = frame.f_code.co_filename.endswith("_queue.py")
        if event == "opcode":
            left[0] -= 1
            if left[0] == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    return trace


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="objects without an address")
class TestReceivingIntoTheObject:
    """Large bytes are written into the object itself, and into nothing else."""

    def test_what_another_took_is_not_awaited_on_another_channel(self) -> None:
        """A message that another receiver was quicker to take leaves no memory to write to."""
        channels = [Channel()]
        ours: list[Any] = []
        channels[0].send_bytes(b"1" * MEBIBYTE)
        sys.setprofile(at_return_of("_lend", lambda: ours.append(channels[0].receive_bytes())))
        with pytest.raises(IndexError):
            channels[0].receive_bytes(block=False)
        channels.pop().dispose()
        gc.collect()
        zeros = [bytes(MEBIBYTE) for _ in range(4)]
        with Channel() as other:
            other.send_bytes(b"2" * MEBIBYTE)
            assert other.receive_bytes() == b"2" * MEBIBYTE
        assert ours == [b"1" * MEBIBYTE]
        assert zeros == [bytes(MEBIBYTE)] * 4

    def test_two_receivers_do_not_write_to_the_same_object(self, channel: Channel) -> None:
        """What one receiver is about to write to stays, whatever another one receives."""
        # So large that malloc asks the kernel for each, and gives it back at once.
        both = [bytes([turn]) * (33 * MEBIBYTE) for turn in range(2)]
        first: list[bytes] = []
        kept = []  # so that what one receiver was lent comes to be lent to the other

        for _ in range(3):
            for data in both:
                channel.send_bytes(data)
            sys.setprofile(at_return_of("_lend", lambda: first.append(channel.receive_bytes())))
            kept.append(channel.receive_bytes())
            assert [first.pop() == both[0], kept[-1] == both[1]] == [True, True]

    def test_an_interruption_anywhere_leaves_the_message_whole(self, channel: Channel) -> None:
        """Wherever Ctrl-C comes, the message is received afterwards, or was lost, but is whole."""
        interruptions = lost = 0

        for count in itertools.count(1):
            data = count.to_bytes(4, "little") * (MEBIBYTE // 4)
            channel.send_bytes(data)
            sys.settrace(interrupting(count))
            received: bytes | None = None
            try:
                received = channel.receive_bytes()
            except KeyboardInterrupt:
                interruptions += 1
            finally:
                sys.settrace(None)
            if interruptions == count:
                received = self._left(channel)
            assert received in (data, None)
            lost += received is None
            if interruptions < count:
                break
        assert interruptions > 50
        assert lost * 10 <= interruptions

    @staticmethod
    def _left(channel: Channel) -> bytes | None:
        others = [b"\xff" * MEBIBYTE for _ in range(4)]
        try:
            return channel.receive_bytes(block=False)
        except IndexError:
            return None
        finally:
            assert others == [b"\xff" * MEBIBYTE] * 4
