# SPDX-License-Identifier: MIT
"""Channel: a queue of messages between processes."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import itertools
import os
import pickle
import random
import select
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Callable, NoReturn

import pytest
from deadline import SOON, wait_until
from process_table import shared_mappings, shared_sizes, state
from scenario import output_of, signal_when_asleep
from troubles import FailsToPickle, FailsToRebuild

from snakefish import Channel, SnakefishError, Thread

if TYPE_CHECKING:
    from collections.abc import Iterator

MEBIBYTE = 1 << 20


@pytest.fixture
def channel() -> Iterator[Channel]:
    with Channel() as made:
        yield made


@pytest.fixture
def small() -> Iterator[Channel]:
    """A channel of 4 KiB."""
    with Channel(4096) as made:
        yield made


def running(f: Callable[..., Any], *arguments: Any) -> Thread:
    thread = Thread(f, args=arguments)
    thread.start()
    return thread


def finish(*threads: Thread) -> list[Any]:
    """Join the threads and give their results."""
    results = []
    for thread in threads:
        thread.join(timeout=3 * SOON)
        results.append(thread.get_result())
        thread.dispose()
    return results


def for_ever() -> NoReturn:
    while True:
        select.select([], [], [], 0.1)  # a signal just before signal.pause() would be missed


def fill(channel: Channel, message: bytes) -> int:
    """Send *message* until there is no room; how often it went in."""
    count = 0
    try:
        while True:
            channel.send_bytes(message)
            count += 1
    except OverflowError:
        return count


class TestConstructor:
    """Channel(), Channel(size)."""

    def test_reserves_two_gibibytes_by_default(self) -> None:
        """The address space reserved for a channel is 2 GiB or a little more."""
        before = shared_sizes()["Size"]
        with Channel():
            assert 2 << 30 <= shared_sizes()["Size"] - before < 3 << 30

    def test_reserves_without_committing(self) -> None:
        """An idle channel uses next to none of the memory that it reserves."""
        before = shared_sizes()["Rss"]
        with Channel():
            assert shared_sizes()["Rss"] - before <= 32 << 10

    def test_many_channels_fit_at_once(self) -> None:
        """A hundred channels of the default size, 200 GiB reserved, are no burden."""
        channels = [Channel() for _ in range(100)]
        for channel in channels:
            channel.dispose()

    @pytest.mark.parametrize("size", [1, 100, 4096, 100_000, 1 << 20])
    def test_takes_a_size(self, size: int) -> None:
        """A message of exactly the size goes in, and one byte more is refused."""
        with Channel(size) as channel:
            channel.send_bytes(bytes(size))
            assert channel.receive_bytes() == bytes(size)
            with pytest.raises(OverflowError):
                channel.send_bytes(bytes(size + 1))

    @pytest.mark.parametrize("size", ["1", 1.5, [1]], ids=repr)
    def test_refuses_a_size_that_is_no_int(self, size: Any) -> None:
        """A size is an int: else TypeError."""
        with pytest.raises(TypeError):
            Channel(size)

    @pytest.mark.parametrize("size", [0, -1, -(1 << 70)])
    def test_refuses_a_size_that_is_not_positive(self, size: int) -> None:
        """A size is positive: else ValueError."""
        with pytest.raises(ValueError):
            Channel(size)

    @pytest.mark.parametrize("size", [1 << 62, 1 << 64, 1 << 100])
    def test_an_absurd_size_is_an_error(self, size: int) -> None:
        """More than any machine has is refused, not crashed on."""
        with pytest.raises((MemoryError, OverflowError, ValueError)):
            Channel(size)

    def test_without_address_space_it_is_smaller_or_refused(self) -> None:
        """Under a limit on address space a channel works, or says MemoryError or OSError."""
        assert output_of("""
            import resource
            resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))
            try:
                channel = Channel()
            except (MemoryError, OSError):
                say(1)
            else:
                channel.send_pyobj(1)
                say(channel.receive_pyobj())
            """) == ["1"]

    def test_leaves_no_name_anywhere(self) -> None:
        """Nothing appears in /dev/shm or in the directory for temporary files."""
        places = ["/dev/shm", "/tmp"]
        before = [set(os.listdir(place)) for place in places]
        with Channel() as channel:
            channel.send_pyobj(bytes(MEBIBYTE))
            assert not any(
                name.startswith(("sem.", "snakefish", "sf"))
                for place, names in zip(places, before)
                for name in set(os.listdir(place)) - names
            )


class TestSendPyobj:
    """Channel.send_pyobj(obj, block, timeout)."""

    @pytest.mark.parametrize(
        "value",
        [None, True, 0, -1, 1 << 70, 1.5, "", "ä\0", b"", b"\0a", bytearray(b"b"), (1, (2,)), [[]],
         {"k": [1]}, {1, 2}, 1j, range(3), ValueError("v")],
        ids=repr,
    )  # fmt: skip
    def test_what_is_sent_is_received(self, channel: Channel, value: Any) -> None:
        """An object arrives equal and of the same type."""
        channel.send_pyobj(value)
        received = channel.receive_pyobj(True)
        assert type(received) is type(value)
        assert repr(received) == repr(value)

    def test_subclasses_keep_their_class(self, channel: Channel) -> None:
        """A str or int of a class of the user's own arrives as that class."""
        channel.send_pyobj(OwnText("text"))
        channel.send_pyobj(OwnNumber(4))
        assert type(channel.receive_pyobj()) is OwnText
        assert type(channel.receive_pyobj()) is OwnNumber

    def test_sends_a_copy(self, channel: Channel) -> None:
        """What is changed after the send was sent as it was."""
        value = [1]
        channel.send_pyobj(value)
        value.append(2)
        assert channel.receive_pyobj() == [1]

    def test_without_room_is_an_overflow_error(self, small: Channel) -> None:
        """A full channel refuses: OverflowError."""
        fill(small, bytes(500))
        with pytest.raises(OverflowError) as caught:
            small.send_pyobj(bytes(1000))
        assert isinstance(caught.value, SnakefishError)

    def test_a_full_channel_keeps_the_first_message(self, small: Channel) -> None:
        """What was refused left nothing: what went in comes out, in order and whole."""
        messages = []

        def send_without_end() -> NoReturn:
            for n in itertools.count():
                small.send_pyobj([n, "x" * n])
                messages.append([n, "x" * n])

        with pytest.raises(OverflowError):
            send_without_end()
        assert messages
        assert [small.receive_pyobj() for _ in messages] == messages
        with pytest.raises(IndexError):
            small.receive_pyobj(False)

    def test_a_refused_message_leaves_the_channel_usable(self, small: Channel) -> None:
        """After an OverflowError and a receive there is room again."""
        for _ in range(50):
            count = fill(small, bytes(300))
            assert count > 0
            for _ in range(count):
                assert small.receive_bytes() == bytes(300)

    def test_blocking_waits_for_room(self, small: Channel) -> None:
        """With block=True the send goes on once the receiver has made room."""
        count = fill(small, bytes(400))
        sender = running(lambda: small.send_pyobj(b"late" * 200, block=True, timeout=SOON))
        wait_until(lambda: state(sender.pid) == "S", "the sender does not wait")
        assert sender.is_alive()
        for _ in range(count):
            small.receive_bytes()
        assert small.receive_pyobj(timeout=SOON) == b"late" * 200
        finish(sender)

    def test_blocking_with_a_timeout_ends_without_room(self, small: Channel) -> None:
        """No room in time is an error, and nothing was sent."""
        count = fill(small, bytes(400))
        with pytest.raises(TimeoutError) as caught:
            small.send_pyobj(b"late" * 200, block=True, timeout=0.05)
        assert isinstance(caught.value, SnakefishError)
        for _ in range(count):
            assert small.receive_bytes() == bytes(400)
        with pytest.raises(IndexError):
            small.receive_pyobj(False)

    def test_what_can_never_fit_is_refused_at_once_with_both_sizes(self) -> None:
        """A message larger than the channel is an OverflowError that says how large both are."""
        with Channel(1000) as channel:
            with pytest.raises(OverflowError) as caught:
                channel.send_pyobj(bytes(54321))
            assert "54321" in str(caught.value)
            assert "1000" in str(caught.value)
            channel.send_pyobj("still usable")
            assert channel.receive_pyobj() == "still usable"

    def test_blocking_streams_what_is_larger_than_the_channel(self, small: Channel) -> None:
        """With block=True and a receiver, a message of any size goes through a small channel."""
        blob = random.Random(1).getrandbits(8 * 3 * MEBIBYTE).to_bytes(3 * MEBIBYTE, "little")
        sender = running(lambda: small.send_pyobj(blob, block=True))
        assert small.receive_pyobj() == blob
        finish(sender)

    def test_what_cannot_be_pickled_raises_what_pickle_raised(self, channel: Channel) -> None:
        """Nothing is sent of an object that pickle refuses."""
        with pytest.raises(ZeroDivisionError):
            channel.send_pyobj([1, FailsToPickle()])
        with pytest.raises(Exception, match=r"(?i)pickle|local|lambda"):
            channel.send_pyobj(lambda: None)
        channel.send_pyobj("next")
        assert channel.receive_pyobj() == "next"

    def test_pickling_may_use_the_same_channel(self, channel: Channel) -> None:
        """No lock is held while Python runs: __reduce__ can send, too."""

        class Sending:
            def __reduce__(self) -> Any:
                channel.send_pyobj("from inside")
                return str, ("outer",)

        channel.send_pyobj(Sending())
        assert [channel.receive_pyobj(), channel.receive_pyobj()] == ["from inside", "outer"]

    def test_large_buffers_inside_objects_arrive(self, channel: Channel) -> None:
        """Buffers that pickle would send out of band arrive whole and in their places."""
        buffers = [pickle.PickleBuffer(bytearray(os.urandom(300_000))) for _ in range(3)]
        expected = [bytes(buffer.raw()) for buffer in buffers]
        channel.send_pyobj({"buffers": buffers, "n": 3})
        received = channel.receive_pyobj()
        assert [bytes(buffer) for buffer in received["buffers"]] == expected
        assert received["n"] == 3

    @pytest.mark.parametrize("size", [1, 65535, 65536, 131071, 131073, 1 << 20, 40 << 20])
    def test_any_size_arrives(self, channel: Channel, size: int) -> None:
        """Around every internal boundary and far above, messages arrive whole."""
        blob = os.urandom(1024) * (size // 1024 + 1)
        channel.send_pyobj(blob[:size])
        assert channel.receive_pyobj() == blob[:size]


class InterruptsOnce:
    """Raises KeyboardInterrupt when it is unpickled for the first time."""

    interrupted = False

    @classmethod
    def rebuild(cls) -> str:
        if not cls.interrupted:
            cls.interrupted = True
            raise KeyboardInterrupt
        return "rebuilt"

    def __reduce__(self) -> Any:
        return self.rebuild, ()


class OwnText(str):
    """A str of the tests' own."""

    __slots__ = ()


class OwnNumber(int):
    """An int of the tests' own."""


class TestReceivePyobj:
    """Channel.receive_pyobj(block, timeout)."""

    def test_empty_and_not_blocking_is_an_index_error(self, channel: Channel) -> None:
        """receive_pyobj(False) does not wait."""
        for _ in range(2):
            with pytest.raises(IndexError) as caught:
                channel.receive_pyobj(False)
            assert isinstance(caught.value, SnakefishError)

    @pytest.mark.skipif(
        sys.implementation.name == "pypy" or sys.version_info < (3, 11),
        reason="these look for signals between any two steps of the caller, where nobody can help",
    )
    def test_an_interruption_does_not_take_the_message_along(self) -> None:
        """What arrived as the handler raised is received by the next call.

        What is lost, one of a hundred or so, had left the library: the caller was
        about to store it. Where nothing is kept it is one of three.
        """
        [line] = output_of("""
            import signal
            class Interruption(KeyboardInterrupt):
                pass
            def interrupt(number, frame):
                global armed
                if armed:
                    armed = False
                    raise Interruption
            def send():
                for n in range(60000):
                    channel.send_pyobj(n, block=True)
            channel = Channel()
            sender = Thread(send)
            sender.start()
            received, interruptions, armed = [], 0, False
            signal.signal(signal.SIGALRM, interrupt)
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
            while not received or received[-1] < 59999:
                try:
                    armed = True
                    while not received or received[-1] < 59999:
                        received.append(channel.receive_pyobj())
                    armed = False
                except Interruption:
                    interruptions += 1
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert received == sorted(set(received))
            say(interruptions, 60000 - len(received))
            """)
        interruptions, lost = map(int, line.split())
        assert interruptions > 5
        assert lost * 10 <= interruptions

    def test_not_blocking_takes_what_is_there(self, channel: Channel) -> None:
        """receive_pyobj(False) gives the next message if there is one."""
        channel.send_pyobj(1)
        assert channel.receive_pyobj(False) == 1

    def test_blocking_waits_for_the_next(self, channel: Channel, gate: Any) -> None:
        """receive_pyobj(True) sleeps until something is sent."""
        receiver = running(lambda: (gate.open(), channel.receive_pyobj(True))[1])
        gate.wait()
        wait_until(lambda: state(receiver.pid) == "S", "the receiver does not wait")
        channel.send_pyobj("at last")
        assert finish(receiver) == ["at last"]

    def test_blocks_by_default(self, channel: Channel, gate: Any) -> None:
        """receive_pyobj() waits."""
        sender = running(lambda: (gate.wait(), channel.send_pyobj("late")))
        opener = threading.Timer(0.05, gate.open)
        opener.start()
        assert channel.receive_pyobj() == "late"
        opener.join()
        finish(sender)

    def test_timeout_is_a_timeout_error(self, channel: Channel) -> None:
        """Nothing in time is a TimeoutError, after that time and not before."""
        begin = time.monotonic()
        with pytest.raises(TimeoutError) as caught:
            channel.receive_pyobj(timeout=0.05)
        assert isinstance(caught.value, SnakefishError)
        assert time.monotonic() - begin >= 0.05

    def test_messages_come_in_order(self, channel: Channel) -> None:
        """First in, first out."""
        for n in range(1000):
            channel.send_pyobj(n)
        assert [channel.receive_pyobj() for _ in range(1000)] == list(range(1000))

    def test_a_message_that_cannot_be_rebuilt_is_consumed(self, channel: Channel) -> None:
        """What raises while it is unpickled is gone; the next message is fine."""
        channel.send_pyobj(FailsToRebuild())
        channel.send_pyobj("next")
        with pytest.raises(LookupError):
            channel.receive_pyobj()
        assert channel.receive_pyobj() == "next"

    def test_ctrl_c_interrupts_it_and_nothing_is_lost(self, channel: Channel) -> None:
        """KeyboardInterrupt leaves receive at once; the next message is received as usual."""
        with pytest.raises(KeyboardInterrupt), signal_when_asleep():
            channel.receive_pyobj()
        channel.send_pyobj("kept")
        assert channel.receive_pyobj() == "kept"

    def test_ctrl_c_while_unpickling_loses_nothing(self, channel: Channel) -> None:
        """A message whose unpickling was interrupted is what this process receives next."""
        InterruptsOnce.interrupted = False
        channel.send_pyobj(InterruptsOnce())
        channel.send_pyobj("second")
        with pytest.raises(KeyboardInterrupt):
            channel.receive_pyobj()
        assert channel.receive_pyobj() == "rebuilt"
        assert channel.receive_pyobj() == "second"

    def test_what_one_process_kept_no_other_gets(self, channel: Channel) -> None:
        """A message that an interrupted receive kept is not delivered to a child, too."""
        InterruptsOnce.interrupted = False
        channel.send_pyobj(InterruptsOnce())
        channel.send_pyobj("second")
        with pytest.raises(KeyboardInterrupt):
            channel.receive_pyobj()
        assert finish(running(channel.receive_pyobj)) == ["second"]
        assert channel.receive_pyobj() == "rebuilt"

    def test_ctrl_c_in_a_large_message_leaves_the_channel_usable(self, small: Channel) -> None:
        """An interrupted send of a stream is dropped whole; what follows arrives."""
        receiver = running(lambda: (small.receive_pyobj(), for_ever()))
        receiver.kill(signal.SIGSTOP)
        wait_until(lambda: state(receiver.pid) == "T", "the receiver goes on")
        with pytest.raises(KeyboardInterrupt), signal_when_asleep():
            small.send_bytes(bytes(MEBIBYTE), block=True)
        receiver.dispose()
        receiver = running(lambda: small.receive_pyobj(timeout=SOON))
        small.send_pyobj("after", block=True, timeout=SOON)
        assert finish(receiver) == ["after"]

    @pytest.mark.parametrize("interrupts", ["timeout", "ctrl-c"])
    def test_half_of_a_large_message_is_not_lost(self, small: Channel, interrupts: str) -> None:
        """A receive that ends in its middle leaves it to the next, of any thread."""
        blob = random.Random(1).randbytes(MEBIBYTE)
        sender = running(lambda: [small.send_bytes(blob, block=True) for _ in range(2)])
        wait_until(lambda: small.used > 0, "nothing is sent")
        sender.kill(signal.SIGSTOP)
        wait_until(lambda: state(sender.pid) == "T", "the sender does not stop")
        if interrupts == "timeout":
            with pytest.raises(TimeoutError):
                small.receive_bytes(timeout=0.05)
        else:
            with pytest.raises(KeyboardInterrupt), signal_when_asleep():
                small.receive_bytes()
        sender.kill(signal.SIGCONT)
        received: list[bytes] = []
        other = threading.Thread(target=lambda: received.append(small.receive_bytes()))
        other.start()
        other.join()
        received.append(small.receive_bytes())
        finish(sender)
        assert received == [blob, blob]

    def test_signal_handlers_run_while_it_waits(self, channel: Channel) -> None:
        """A Python handler runs during receive, may send, and receive goes on."""
        before = signal.signal(
            signal.SIGUSR1, lambda number, frame: channel.send_pyobj("from the handler")
        )
        try:
            with signal_when_asleep(signal.SIGUSR1):
                assert channel.receive_pyobj() == "from the handler"
        finally:
            signal.signal(signal.SIGUSR1, before)

    def test_lets_other_threads_run(self, channel: Channel) -> None:
        """While one thread waits in receive, another of the same process can send."""
        received: list[Any] = []
        receiver = threading.Thread(target=lambda: received.append(channel.receive_pyobj()))
        receiver.start()
        channel.send_pyobj("from a thread")
        receiver.join(SOON)
        assert received == ["from a thread"]

    def test_without_memory_is_a_memory_error(self) -> None:
        """A message there is no memory for is MemoryError, and stays in the channel."""
        assert output_of("""
            import resource
            from process_table import entry
            channel = Channel()
            sender = Thread(lambda: channel.send_pyobj(bytes(200 << 20), block=True))
            sender.start()
            sender.join()
            used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            limit, hard = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (used + (50 << 20), hard))
            try:
                channel.receive_pyobj()
            except MemoryError:
                say("MemoryError")
            resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
            say(len(channel.receive_pyobj(timeout=5)))
            """) == ["MemoryError", str(200 << 20)]

    def test_damage_to_the_shared_memory_is_a_runtime_error(self, small: Channel) -> None:
        """Memory that somebody overwrote is an error, for receivers and for senders, no crash."""
        small.send_bytes(b"a message to be damaged")
        [place] = [
            start + offset
            for start, memory in channel_memory()
            for offset in find_all(memory, b"a message to be damaged")
        ]
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(place - 8)
            memory.write(b"\xff" * 8)
        for _ in range(2):
            with pytest.raises(RuntimeError) as caught:
                small.receive_bytes(timeout=SOON)
            assert isinstance(caught.value, SnakefishError)


def channel_memory() -> Iterator[tuple[int, bytes]]:
    """The nameless shared memory of this process: addresses and contents."""
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        for line in shared_mappings():
            start, _, end = line.split()[0].partition("-")
            memory.seek(int(start, 16))
            yield int(start, 16), memory.read(int(end, 16) - int(start, 16))


def find_all(memory: bytes, what: bytes) -> Iterator[int]:
    """Where *what* occurs in *memory*."""
    place = memory.find(what)
    while place >= 0:
        yield place
        place = memory.find(what, place + 1)


class TestBytes:
    """Channel.send_bytes and Channel.receive_bytes."""

    @pytest.mark.parametrize("size", [0, 1, 1000, 65536, 131072, 131073, 3 << 20])
    def test_bytes_arrive_as_they_are(self, channel: Channel, size: int) -> None:
        """What is sent is received, without pickle."""
        blob = os.urandom(size)
        channel.send_bytes(blob)
        received = channel.receive_bytes()
        assert received == blob
        assert isinstance(received, bytes)

    @pytest.mark.parametrize("kind", [bytearray, memoryview])
    def test_takes_what_is_like_bytes(self, channel: Channel, kind: Any) -> None:
        """bytearray and memoryview go in, bytes come out."""
        channel.send_bytes(kind(b"some"))
        assert channel.receive_bytes() == b"some"

    @pytest.mark.parametrize("value", ["text", 3, None, [1]], ids=repr)
    def test_refuses_what_is_not(self, channel: Channel, value: Any) -> None:
        """Anything else is a TypeError."""
        with pytest.raises(TypeError):
            channel.send_bytes(value)

    def test_without_room_is_an_overflow_error(self, small: Channel) -> None:
        """As with send_pyobj, no room is OverflowError."""
        fill(small, bytes(1000))
        with pytest.raises(OverflowError) as caught:
            small.send_bytes(bytes(4096))
        assert isinstance(caught.value, SnakefishError)

    def test_blocking_send_waits_for_room(self, small: Channel) -> None:
        """As with send_pyobj, block=True waits."""

        def send() -> None:
            for n in range(40):
                small.send_bytes(bytes([n]) * 1500, block=True)

        sender = running(send)
        for n in range(40):
            assert small.receive_bytes(timeout=SOON) == bytes([n]) * 1500
        finish(sender)

    def test_empty_and_not_blocking_is_an_index_error(self, channel: Channel) -> None:
        """As with receive_pyobj, nothing there is IndexError."""
        with pytest.raises(IndexError):
            channel.receive_bytes(False)

    def test_timeout_is_a_timeout_error(self, channel: Channel) -> None:
        """As with receive_pyobj, nothing in time is TimeoutError."""
        with pytest.raises(TimeoutError):
            channel.receive_bytes(timeout=0.02)


MIXED = [1, "text", None, b"bytes", [1, 2], {"a": (1, 2)}, bytearray(b"array"), "\ud800", b""]


class TestMany:
    """Channel.send_many(objects, block, timeout) and receive_many(limit, block, timeout)."""

    @pytest.mark.parametrize("count", [0, 1, 9, 5000])
    def test_what_is_sent_together_can_be_received_one_by_one(
        self, channel: Channel, count: int
    ) -> None:
        """They are messages like others."""
        objects = (MIXED * (count // len(MIXED) + 1))[:count]
        channel.send_many(iter(objects))
        received = [channel.receive_pyobj(block=False) for _ in objects]
        assert received == objects
        assert [type(obj) for obj in received] == [type(obj) for obj in objects]
        assert channel.used == 0

    def test_what_is_sent_one_by_one_can_be_received_together(self, channel: Channel) -> None:
        """Up to the limit, in order."""
        for n in range(100):
            channel.send_pyobj(n)
        assert channel.receive_many(30) == list(range(30))
        assert channel.receive_many(1000) == list(range(30, 100))

    def test_large_ones_come_alone(self, channel: Channel) -> None:
        """Their neighbours come before and after them."""
        objects: list[Any] = [1, 2, bytes(MEBIBYTE), [bytearray(9 * MEBIBYTE)], 3, 4]
        channel.send_many(objects)
        assert [channel.receive_many() for _ in range(4)] == [
            objects[:2],
            objects[2:3],
            objects[3:4],
            objects[4:],
        ]

    def test_of_one_batch_several_processes_receive(self, small: Channel) -> None:
        """Each gets some, nobody gets what another has got."""
        receivers = [running(lambda: everything(small)) for _ in range(3)]
        small.send_many(range(20000), block=True)
        small.close()
        received = finish(*receivers)
        assert all(numbers == sorted(numbers) for numbers in received)
        assert sorted(itertools.chain.from_iterable(received)) == list(range(20000))

    @pytest.mark.parametrize(
        ("how", "error"), [({}, OverflowError), ({"block": True, "timeout": 0.02}, TimeoutError)]
    )
    def test_without_room_says_how_many_were_sent(
        self, small: Channel, how: dict[str, Any], error: type[Exception]
    ) -> None:
        """They can be received, the others can be sent later."""
        objects = list(range(1000))
        with pytest.raises(error) as caught:
            small.send_many(objects, **how)
        sent = caught.value.sent  # type: ignore[attr-defined]
        assert 0 < sent < 1000
        received: list[int] = []
        while small.used:
            received += small.receive_many()
        assert received == objects[:sent]

    def test_one_that_cannot_be_pickled_keeps_all_back(self, channel: Channel) -> None:
        """Nothing is sent."""
        with pytest.raises(ZeroDivisionError):
            channel.send_many([1, FailsToPickle(), 2])
        assert channel.used == 0

    def test_one_that_cannot_be_rebuilt_is_an_error_of_its_own(self, channel: Channel) -> None:
        """What is before it comes without it, what is behind it comes after it."""
        channel.send_many([1, FailsToRebuild(), 2, 3])
        assert channel.receive_many() == [1]
        with pytest.raises(LookupError):
            channel.receive_many()
        received: list[int] = []
        while len(received) < 2:
            received += channel.receive_many()
        assert received == [2, 3]

    def test_ctrl_c_while_unpickling_loses_nothing(self, channel: Channel) -> None:
        """All of them are received by the next calls."""
        InterruptsOnce.interrupted = False
        channel.send_many([1, InterruptsOnce(), 2])
        with pytest.raises(KeyboardInterrupt):
            channel.receive_many()
        received: list[Any] = []
        while len(received) < 3:
            received += channel.receive_many()
        assert received == [1, "rebuilt", 2]

    def test_waits_for_the_first_and_not_for_others(self, channel: Channel, gate: Any) -> None:
        """receive_many sleeps until something is sent, and has something then."""
        receiver = running(lambda: (gate.open(), channel.receive_many())[1])
        gate.wait()
        wait_until(lambda: state(receiver.pid) == "S", "the receiver does not wait")
        channel.send_pyobj("at last")
        assert finish(receiver) == [["at last"]]

    def test_empty_is_an_error(self, channel: Channel) -> None:
        """The same errors as those of receive_pyobj."""
        with pytest.raises(IndexError):
            channel.receive_many(block=False)
        with pytest.raises(TimeoutError):
            channel.receive_many(timeout=0.01)
        channel.close()
        with pytest.raises(EOFError):
            channel.receive_many()

    @pytest.mark.parametrize(
        ("limit", "error"), [(0, ValueError), (-1, ValueError), ("1", TypeError)]
    )
    def test_refuses_a_limit_that_is_none(
        self, channel: Channel, limit: Any, error: type[Exception]
    ) -> None:
        """At once, not when something comes."""
        with pytest.raises(error):
            channel.receive_many(limit)


def everything(channel: Channel) -> list[Any]:
    """What this process receives until the channel is closed."""
    received: list[Any] = []
    try:
        while True:
            received += channel.receive_many(7)
    except EOFError:
        return received


class TestManyPeers:
    """Any number of senders and receivers: nothing lost, doubled or torn."""

    def check(self, small: Channel, senders: int, receivers: int, count: int) -> None:
        """Each message carries its sender, its number and a digest of its varying body."""

        def send(sender: int) -> None:
            dice = random.Random(sender)
            for n in range(count):
                body = dice.randbytes(dice.choice([0, 3, 200, 1500]))
                digest = hashlib.blake2b(body, digest_size=8).digest()
                small.send_pyobj((sender, n, digest, body), block=True)

        def receive() -> list[Any]:
            taken = []
            while True:
                message = small.receive_pyobj()
                if message is None:
                    return taken
                sender, n, digest, body = message
                assert hashlib.blake2b(body, digest_size=8).digest() == digest
                taken.append((sender, n))

        takers = [running(receive) for _ in range(receivers)]
        givers = [running(send, sender) for sender in range(senders)]
        finish(*givers)
        for _ in takers:
            small.send_pyobj(None, block=True)
        taken = finish(*takers)
        everything = [message for each in taken for message in each]
        assert len(everything) == senders * count
        assert set(everything) == {(s, n) for s in range(senders) for n in range(count)}
        for each in taken:
            for sender in range(senders):
                numbers = [n for s, n in each if s == sender]
                assert numbers == sorted(numbers)

    def test_one_sender_one_receiver(self, small: Channel) -> None:
        """Through a small channel thousands of messages arrive once, whole, in order."""
        self.check(small, 1, 1, 3000)

    def test_four_senders_one_receiver(self, small: Channel) -> None:
        """Each sender's messages keep their order."""
        self.check(small, 4, 1, 500)

    def test_one_sender_four_receivers(self, small: Channel) -> None:
        """Each message goes to one receiver."""
        self.check(small, 1, 4, 2000)

    def test_four_senders_four_receivers(self) -> None:
        """Full and empty all the time, nothing is lost."""
        with Channel(8192) as channel:
            self.check(channel, 4, 4, 500)

    def test_threads_of_one_process(self, small: Channel) -> None:
        """Senders and receivers may be threads of one process."""
        taken: list[Any] = []

        def send(sender: int) -> None:
            for n in range(200):
                small.send_pyobj((sender, n), block=True)

        def receive() -> None:
            taken.extend(small.receive_pyobj() for _ in range(200))

        threads = [threading.Thread(target=send, args=(sender,)) for sender in range(3)]
        threads += [threading.Thread(target=receive) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(3 * SOON)
        assert sorted(taken) == [(s, n) for s in range(3) for n in range(200)]

    def test_ping_pong_loses_no_wake_up(self) -> None:
        """Thousands of turns over two tiny channels come to their end."""
        with Channel(1024) as there, Channel(1024) as back:

            def echo() -> None:
                for _ in range(3000):
                    back.send_pyobj(there.receive_pyobj())

            thread = running(echo)
            for n in range(3000):
                there.send_pyobj(n)
                assert back.receive_pyobj(timeout=SOON) == n
            finish(thread)

    def test_a_bare_fork_is_a_peer_too(self, channel: Channel) -> None:
        """A process made by os.fork alone can send and receive."""
        channel.send_pyobj("down")
        pid = os.fork()
        if pid == 0:
            try:
                channel.send_pyobj([channel.receive_pyobj(), "up"])
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        assert channel.receive_pyobj(timeout=SOON) == ["down", "up"]


class TestDeaths:
    """Peers that are killed leave a channel that works."""

    def test_a_killed_receiver_takes_at_most_its_message(self, channel: Channel, gate: Any) -> None:
        """After a waiting receiver is killed, the next message reaches a survivor at once."""
        victim = running(lambda: (gate.open(), channel.receive_pyobj()))
        gate.wait()
        wait_until(lambda: state(victim.pid) == "S", "the receiver does not wait")
        victim.kill(signal.SIGKILL)
        victim.join()
        victim.dispose()
        survivor = running(lambda: channel.receive_pyobj(timeout=SOON))
        channel.send_pyobj("for the survivor")
        assert finish(survivor) == ["for the survivor"]

    def test_a_killed_sender_leaves_whole_messages_only(self, small: Channel) -> None:
        """Senders killed at random moments tear nothing and block nobody."""
        dice = random.Random(7)
        for _ in range(25):
            victim = running(self.send_for_ever, small)
            received = [small.receive_pyobj(timeout=SOON) for _ in range(dice.randrange(1, 40))]
            victim.kill(signal.SIGKILL)
            victim.join()
            victim.dispose()
            with contextlib.suppress(IndexError, EOFError):
                while True:
                    received.append(small.receive_pyobj(False))
            for n, (number, body) in enumerate(received):
                assert number == n
                assert body == bytes([n % 256]) * len(body)
            small.send_pyobj("alive", block=True, timeout=SOON)
            assert small.receive_pyobj(timeout=SOON) == "alive"

    @staticmethod
    def send_for_ever(channel: Channel) -> NoReturn:
        n = 0
        while True:
            channel.send_pyobj((n, bytes([n % 256]) * (n * 37 % 1200)), block=True)
            n += 1

    @staticmethod
    def receive_for_ever(channel: Channel) -> NoReturn:
        while True:
            channel.receive_pyobj()

    def test_killed_receivers_block_nobody(self, small: Channel) -> None:
        """Receivers killed at random moments give nothing back twice; others go on."""
        dice = random.Random(8)
        sender = running(self.send_for_ever, small)
        numbers: list[int] = []
        for _ in range(25):
            victim = running(self.receive_for_ever, small)
            numbers.append(small.receive_pyobj(timeout=SOON)[0])
            victim.kill(signal.SIGKILL)
            victim.join()
            victim.dispose()
            count = dice.randrange(1, 30)
            numbers.extend(small.receive_pyobj(timeout=SOON)[0] for _ in range(count))
        sender.dispose()
        assert numbers == sorted(set(numbers))

    def test_a_sender_killed_inside_a_large_message_is_skipped(self, small: Channel) -> None:
        """Half a stream is never delivered; the next message is."""
        for _ in range(10):
            victim = running(lambda: small.send_bytes(bytes(50 * MEBIBYTE), block=True))
            survivor = running(lambda: small.receive_pyobj())
            wait_until(lambda: state(victim.pid) in "RS", "the sender does not run")
            victim.kill(signal.SIGKILL)
            victim.join()
            died = victim.get_exit_status() == -signal.SIGKILL
            victim.dispose()
            small.send_pyobj("next", block=True, timeout=SOON)
            [received] = finish(survivor)
            assert received == "next" if died else len(received) == 50 * MEBIBYTE
            while not died and small.receive_pyobj(timeout=SOON) != "next":
                pass

    def test_a_stopped_peer_is_only_waited_for(self, small: Channel) -> None:
        """While a peer is stopped others may wait, Ctrl-C works, and continued all goes on."""
        sender = running(self.send_for_ever, small)
        small.receive_pyobj(timeout=SOON)
        sender.kill(signal.SIGSTOP)
        wait_until(lambda: state(sender.pid) == "T", "the sender goes on")
        with pytest.raises(KeyboardInterrupt), signal_when_asleep():
            self.receive_for_ever(small)
        sender.kill(signal.SIGCONT)
        small.receive_pyobj(timeout=SOON)
        sender.dispose()


class TestClosing:
    """close, close_send, close_receive and the end of a stream."""

    def test_close_lets_receivers_take_what_is_left(self, channel: Channel) -> None:
        """After close comes what was sent before, then EOFError, again and again."""
        channel.send_pyobj(1)
        channel.send_pyobj(2)
        channel.close()
        assert [channel.receive_pyobj(), channel.receive_pyobj()] == [1, 2]
        for _ in range(2):
            with pytest.raises(EOFError) as caught:
                channel.receive_pyobj()
            assert isinstance(caught.value, SnakefishError)

    def test_close_wakes_a_waiting_receiver(self, channel: Channel, gate: Any) -> None:
        """A receiver that waits in another process sees the end."""

        def receive() -> str:
            gate.open()
            try:
                return channel.receive_pyobj()
            except EOFError:
                return "the end"

        receiver = running(receive)
        gate.wait()
        wait_until(lambda: state(receiver.pid) == "S", "the receiver does not wait")
        channel.close()
        assert finish(receiver) == ["the end"]

    def test_close_refuses_later_sends(self, channel: Channel) -> None:
        """A closed channel takes nothing more, in any process."""
        channel.close()
        with pytest.raises(BrokenPipeError) as caught:
            channel.send_pyobj(1)
        assert isinstance(caught.value, SnakefishError)
        [error] = finish(running(self.try_to_send, channel))
        assert error

    def test_close_again_is_a_no_op(self, channel: Channel) -> None:
        """Closed twice is closed."""
        channel.close()
        channel.close()

    @staticmethod
    def try_to_send(channel: Channel) -> bool:
        try:
            channel.send_pyobj(1)
        except SnakefishError:
            return True
        return False

    def test_close_in_a_child_closes_for_everybody(self, channel: Channel) -> None:
        """Any process can close the channel."""
        finish(running(channel.close))
        with pytest.raises(EOFError):
            channel.receive_pyobj()

    def test_close_send_shows_a_receiver_the_end(self, channel: Channel) -> None:
        """When the only sender has closed its end, the receiver gets what is left and EOFError."""

        def receive_all() -> list[Any]:
            taken = []
            try:
                while True:
                    taken.append(channel.receive_pyobj())
            except EOFError:
                return taken

        receiver = running(receive_all)
        for n in range(5):
            channel.send_pyobj(n)
        channel.close_send()
        assert finish(receiver) == [[0, 1, 2, 3, 4]]

    def test_close_send_refuses_own_sends(self, channel: Channel) -> None:
        """Who has closed its sending end can send no more."""
        channel.close_send()
        with pytest.raises(SnakefishError):
            channel.send_pyobj(1)

    def test_end_of_the_last_sender_is_the_end(self, channel: Channel) -> None:
        """Senders that have ended are seen: EOFError instead of waiting for ever."""
        senders = [running(channel.send_pyobj, n) for n in range(3)]
        finish(*senders)
        assert sorted(channel.receive_pyobj() for _ in range(3)) == [0, 1, 2]
        with pytest.raises(EOFError):
            channel.receive_pyobj()

    def test_death_of_the_last_sender_wakes_a_waiting_receiver(self, channel: Channel) -> None:
        """A receiver already waiting learns that the last sender was killed."""
        sender = running(for_ever)
        killer = threading.Timer(0.1, sender.kill, [signal.SIGKILL])
        killer.start()
        with pytest.raises(EOFError):
            channel.receive_pyobj(timeout=SOON)
        killer.join()
        sender.dispose()

    def test_close_receive_lets_a_blocked_sender_out(self, small: Channel) -> None:
        """A sender without room learns that nobody is left to make some."""

        def send() -> str:
            small.close_receive()
            try:
                while True:
                    small.send_bytes(bytes(1000), block=True)
            except SnakefishError:
                return "nobody"

        sender = running(send)
        small.close_receive()
        assert finish(sender) == ["nobody"]


class TestMemory:
    """Memory really used follows what is in flight."""

    def test_follows_what_is_in_flight_and_is_given_back(self, channel: Channel) -> None:
        """A burst takes its memory; drained, the channel gives most of it back."""
        before = shared_sizes()["Rss"]
        for _ in range(60):
            channel.send_bytes(bytes(MEBIBYTE))
        assert shared_sizes()["Rss"] - before >= 60 * MEBIBYTE
        for _ in range(60):
            channel.receive_bytes()
        assert shared_sizes()["Rss"] - before <= 12 * MEBIBYTE

    def test_a_long_stream_stays_small(self, channel: Channel) -> None:
        """A hundred megabytes one after another need the memory of a few."""
        before = shared_sizes()["Rss"]
        for _ in range(100):
            channel.send_bytes(bytes(MEBIBYTE))
            channel.receive_bytes()
        assert shared_sizes()["Rss"] - before <= 12 * MEBIBYTE

    @pytest.mark.skipif(sys.implementation.name != "cpython", reason="PyPy's bytes have no address")
    def test_large_bytes_are_received_into_themselves(self) -> None:
        """The receiver never holds a second copy, not even for a moment."""
        assert output_of("""
            def memory(field):
                with open("/proc/self/status") as lines:
                    [line] = [line for line in lines if line.startswith(field)]
                return int(line.split()[1]) << 10
            size = 64 << 20
            with Channel() as channel:
                thread = Thread(lambda: channel.send_bytes(b"x" * size, block=True))
                thread.start()
                before = memory("VmRSS")
                received = channel.receive_bytes()
                thread.join()
            say(memory("VmHWM") - before < 1.3 * size, received == b"x" * size)
            """) == ["True True"]

    def test_dispose_returns_all_of_it(self) -> None:
        """After dispose the channel's memory is gone from this process."""
        before = shared_sizes()
        channel = Channel()
        for _ in range(50):
            channel.send_bytes(bytes(MEBIBYTE))
        channel.dispose()
        assert shared_sizes() == before


class TestDispose:
    """Channel.dispose()."""

    def test_releases_the_memory(self) -> None:
        """The mapping is gone."""
        before = shared_mappings()
        channel = Channel()
        assert shared_mappings() != before
        channel.dispose()
        assert shared_mappings() == before

    def test_any_number_of_times(self) -> None:
        """Every later dispose does nothing."""
        channel = Channel()
        for _ in range(3):
            channel.dispose()

    @pytest.mark.parametrize(
        "use",
        [
            lambda channel: channel.send_pyobj(1),
            lambda channel: channel.receive_pyobj(False),
            lambda channel: channel.receive_pyobj(True),
            lambda channel: channel.send_bytes(b"1"),
            lambda channel: channel.receive_bytes(False),
            lambda channel: channel.close(),
            lambda channel: channel.close_send(),
            lambda channel: channel.close_receive(),
        ],
    )
    def test_afterwards_every_method_is_refused(self, use: Any) -> None:
        """On a disposed channel every method but dispose raises RuntimeError."""
        channel = Channel()
        channel.dispose()
        with pytest.raises(RuntimeError) as caught:
            use(channel)
        assert isinstance(caught.value, SnakefishError)

    def test_with_disposes_at_the_end(self) -> None:
        """Leaving the with block disposes, also by an exception."""
        with pytest.raises(LookupError), Channel() as channel:
            raise LookupError
        with pytest.raises(RuntimeError):
            channel.send_pyobj(1)

    def test_in_a_child_does_not_disturb_the_parent(self, channel: Channel) -> None:
        """A child's dispose is of its own copy."""
        channel.send_pyobj("kept")
        finish(running(channel.dispose))
        assert channel.receive_pyobj() == "kept"
        channel.send_pyobj("goes on")
        assert channel.receive_pyobj() == "goes on"

    def test_in_the_parent_does_not_disturb_a_child(self, make_gate: Any) -> None:
        """The child's copy lives on when the parent disposes its own."""
        disposed = make_gate()
        channel = Channel()
        channel.send_pyobj("inherited")
        child = running(lambda: (disposed.wait(), channel.receive_pyobj(timeout=SOON))[1])
        channel.dispose()
        disposed.open()
        assert finish(child) == ["inherited"]

    def test_while_a_thread_waits_lets_it_out(self, make_gate: Any) -> None:
        """A thread of this process that waits in receive gets an error and no crash."""
        channel = Channel()
        errors: list[BaseException] = []

        def receive() -> None:
            try:
                channel.receive_pyobj()
            except SnakefishError as error:
                errors.append(error)

        waiting = threading.Thread(target=receive)
        waiting.start()
        channel.dispose()
        waiting.join(SOON)
        assert len(errors) == 1

    def test_forgotten_channels_are_released(self) -> None:
        """Garbage without dispose gives its mapping back."""
        before = len(shared_mappings())
        for _ in range(20):
            Channel()
        wait_until(lambda: (gc.collect(), len(shared_mappings()) <= before)[1], "mappings are left")

    def test_forgotten_channels_do_not_pile_up(self) -> None:
        """Thousands dropped one after the other are released without anybody asking for it."""
        [most] = output_of("""
            from process_table import shared_mappings
            most = 0
            for n in range(2000):
                Channel()
                if n % 50 == 0:
                    most = max(most, len(shared_mappings()))
            say(most)
            """)
        assert int(most) < 500


class TestPickling:
    """A Channel is inherited, never sent."""

    def test_is_refused(self, channel: Channel) -> None:
        """A channel cannot be pickled: TypeError."""
        with pytest.raises(TypeError):
            pickle.dumps(channel)


def test_receive_works_in_a_storm_of_signals() -> None:
    """A signal every half millisecond, thousands of messages each way: nothing is lost."""
    assert output_of("""
        ticks = []
        signal.signal(signal.SIGALRM, lambda number, frame: ticks.append(number))
        with Channel(4096) as there, Channel(4096) as back:
            def echo():
                signal.setitimer(signal.ITIMER_REAL, 0.0007, 0.0007)
                for n in range(1500):
                    back.send_pyobj(there.receive_pyobj(), block=True)
            thread = Thread(echo)
            thread.start()
            signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
            for n in range(1500):
                there.send_pyobj((n, b"x" * (n % 600)), block=True)
                assert back.receive_pyobj() == (n, b"x" * (n % 600))
            signal.setitimer(signal.ITIMER_REAL, 0)
            thread.join()
            thread.get_result()
        say(len(ticks) > 10)
        """) == ["True"]


def test_a_large_message_survives_a_storm_of_signals() -> None:
    """A stream through a small channel goes on after every signal, and arrives whole."""
    assert output_of("""
        signal.signal(signal.SIGALRM, lambda number, frame: None)
        blob = bytes(range(256)) * (20 << 12)
        with Channel(1 << 20) as channel:
            def send():
                signal.setitimer(signal.ITIMER_REAL, 0.0007, 0.0007)
                channel.send_bytes(blob, block=True)
                signal.setitimer(signal.ITIMER_REAL, 0)
            thread = Thread(send)
            thread.start()
            signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
            say(channel.receive_bytes() == blob)
            signal.setitimer(signal.ITIMER_REAL, 0)
            thread.join()
            thread.get_result()
        """) == ["True"]
