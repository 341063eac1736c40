# SPDX-License-Identifier: MIT
"""Section H. Channels: what peers may do to one another.

The messages of most scenarios name their sender and their number, and their body follows from
both. So a receiver can tell one that is torn, doubled, lost or out of order from one that is not.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import itertools
import multiprocessing
import os
import pickle
import signal
import struct
import threading
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, NoReturn

from deadline import SOON
from family import bare_fork, finish, running, status_of
from gate import Gate
from process_table import state
from row import Row
from scenario import signal_when_asleep
from stage import BrokenPromise, Stage
from troubles import FailsToPickle, FailsToRebuild, LeavesOnRebuild

from snakefish import Channel, Generator, Thread

if TYPE_CHECKING:
    from collections.abc import Iterator

RINGS = (300, 4096, 100_000)
"""Sizes of channels through which some hundred messages go round and round."""

F_SETPIPE_SZ = 1031

STREAM = 140_000
"""Bytes of a message that is published piece by piece, however large the channel is."""


class Numbered(NamedTuple):
    """A message that shows whether it is what was sent."""

    sender: int
    number: int
    body: bytes

    def is_whole(self) -> bool:
        return self.body == body_of(self.sender, self.number, len(self.body))


def body_of(sender: int, number: int, size: int) -> bytes:
    """The bytes that belong to a message: no two messages have the same eight in a row."""
    word = struct.pack("<II", sender, number)
    return (word * (size // 8 + 1))[:size]


def numbered(sender: int, number: int, size: int) -> Numbered:
    return Numbered(sender, number, body_of(sender, number, size))


def send_numbered(channel: Channel, sender: int, sizes: list[int]) -> None:
    for number, size in enumerate(sizes):
        channel.send_pyobj(tuple(numbered(sender, number, size)), block=True)


def send_for_ever(channel: Channel, sender: int, sizes: list[int]) -> NoReturn:
    for number in itertools.count():
        size = sizes[number % len(sizes)]
        channel.send_pyobj(tuple(numbered(sender, number, size)), block=True)
    raise AssertionError


def receive_numbered(channel: Channel) -> list[tuple[int, int]]:
    """Take messages until a None; who sent them and their numbers."""
    taken = []
    for message in iter(channel.receive_pyobj, None):
        received = Numbered(*message)
        assert received.is_whole(), f"torn: {received.sender} {received.number}"
        taken.append((received.sender, received.number))
    return taken


def random_sizes(stage: Stage, count: int, largest: int) -> list[int]:
    """Sizes of every magnitude up to *largest*."""
    return [min(largest, int(2 ** (stage.dice.random() * 18))) for _ in range(count)]


def expect_all(stage: Stage, taken: list[list[tuple[int, int]]], counts: list[int]) -> None:
    """Each receiver has each sender's in order; together they have everything once."""
    for one in taken:
        for sender in range(len(counts)):
            numbers = [n for s, n in one if s == sender]
            stage.expect(numbers == sorted(set(numbers)), "out of order, or doubled")
    everything = sorted(itertools.chain(*taken))
    sent = [(s, n) for s, count in enumerate(counts) for n in range(count)]
    stage.expect(len(everything) >= len(sent), f"{len(sent) - len(everything)} lost")
    stage.expect(everything == sent, "doubled")


# ------------------------------------------------------------------- many peers

H1 = Row(
    "H1, H2",
    "many producers, many consumers",
    "nothing lost, doubled or torn; first in, first out per producer",
)


def exchange(stage: Stage, ring: int, senders: int, receivers: int, largest: int) -> None:
    """Let as many processes send and receive as said, and see that everything arrives."""
    sizes = [random_sizes(stage, 120, largest) for _ in range(senders)]
    with Channel(ring) as channel:
        takers = [running(receive_numbered, channel) for _ in range(receivers)]
        givers = [running(send_numbered, channel, s, sizes[s]) for s in range(senders)]
        finish(*givers)
        for _ in takers:
            stage.inject()
            channel.send_pyobj(None, block=True)
        expect_all(stage, finish(*takers), [len(one) for one in sizes])
        stage.expect(channel.used == 0, f"{channel.used} bytes stay")


@H1.scenario()
def processes_through_rings_of_any_size(stage: Stage) -> None:
    """Four to one, one to four, four to four, through rings that wrap all the time."""
    for _ in stage.times(1):
        for ring in RINGS:
            for senders, receivers in ((4, 1), (1, 4), (4, 4)):
                exchange(stage, ring, senders, receivers, min(ring // 2, 3000))


@H1.scenario()
def streams_larger_than_the_ring(stage: Stage) -> None:
    """Messages many times the channel's size, of several senders, stay apart."""
    for _ in stage.times(2):
        for ring in (*RINGS, 1):
            exchange(stage, ring, 3, 3, 200_000 if ring > 300 else 9000)


@H1.scenario()
def threads_and_processes_mixed(stage: Stage) -> None:
    """Eight Python threads of this process and six children send and receive at once."""
    for _ in stage.times(2):
        for ring in RINGS:
            sizes = [random_sizes(stage, 60, 2 * ring) for _ in range(6)]
            with Channel(ring) as channel:
                givers = [running(send_numbered, channel, s, sizes[s]) for s in range(3)]
                takers = [running(receive_numbered, channel) for _ in range(3)]
                taken: list[list[tuple[int, int]]] = []
                send = functools.partial(send_numbered, channel)
                threads = [
                    threading.Thread(target=send, args=(s, sizes[s]), daemon=True)
                    for s in range(3, 6)
                ]
                receivers = [
                    threading.Thread(target=lambda: taken.append(receive_numbered(channel)))
                    for _ in range(5)
                ]
                for thread in threads + receivers:
                    thread.daemon = True
                    thread.start()
                for thread in threads:
                    thread.join(SOON)
                finish(*givers)
                for _ in range(8):
                    stage.inject()
                    channel.send_pyobj(None, block=True, timeout=SOON)
                taken += finish(*takers)
                for thread in receivers:
                    thread.join(SOON)
                expect_all(stage, taken, [60] * 6)


def receive_to_the_end(channel: Channel) -> list[tuple[int, int]]:
    """Take messages until no sender is left."""
    taken = []
    with contextlib.suppress(EOFError):
        while True:
            received = Numbered(*channel.receive_pyobj())
            assert received.is_whole(), f"torn: {received.sender} {received.number}"
            taken.append((received.sender, received.number))
    return taken


@H1.scenario()
def all_receivers_see_the_end(stage: Stage) -> None:
    """When the last of eight senders has ended, every one of eight receivers is told soon."""
    for _ in stage.times(3):
        for ring in RINGS:
            sizes = [random_sizes(stage, 30, 2 * ring) for _ in range(8)]
            with Channel(ring) as channel:
                givers = [running(send_numbered, channel, s, sizes[s]) for s in range(8)]
                channel.close_send()
                takers = [running(receive_to_the_end, channel) for _ in range(8)]
                finish(*givers)
                stage.inject()
                taken = stage.quickly(functools.partial(finish, *takers))
                expect_all(stage, taken, [30] * 8)


# ------------------------------------------------------------------------ sizes

H6 = Row(
    "H6",
    "absurd sizes, timeouts and messages",
    "TypeError, ValueError, MemoryError or OverflowError, and the channel is whole; no crash",
)

REFUSALS = (TypeError, ValueError, MemoryError, OverflowError)
ABSURD: list[Any] = [
    0, -1, -(2**31), -(2**63), -(10**30), 2**47, 2**48 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1,
    2**64, 2**64 + 1, 10**30, 1.0, 1.5, float("inf"), float("nan"), "64", b"64", [], {}, object(),
    complex(1), ..., Channel,
]  # fmt: skip


@H6.scenario()
def absurd_sizes_are_refused(stage: Stage) -> None:
    """Whatever is asked for is an error of the usual kinds, or a channel that works."""
    for size in [*ABSURD, *range(1, 70), True, 2**31, 2**32, 2**40]:
        stage.inject()
        try:
            channel = Channel(size)
        except REFUSALS:
            continue
        with channel:
            giver = running(lambda channel=channel: channel.send_bytes(b"ok" * 500, block=True))
            stage.expect(channel.receive_bytes(timeout=SOON) == b"ok" * 500, f"{size}: torn")
            finish(giver)
            stage.expect(channel.size == size, f"{channel.size} instead of {size}")


@H6.scenario()
def messages_of_every_size_fit_or_overflow(stage: Stage) -> None:
    """Around every boundary of a channel: it arrives, or OverflowError and nothing is changed."""
    for ring in (1, 7, 8, 16, 47, 48, 49, 64, 100, 1000, 65536, 65537):
        with Channel(ring) as channel:
            for size in {*range(20), *range(max(0, ring - 70), ring + 20), 2 * ring, STREAM}:
                stage.inject()
                data = bytes([size % 251]) * size
                before = channel.used
                try:
                    channel.send_bytes(data)
                except OverflowError:
                    stage.expect(channel.used == before, "a refused message takes room")
                    stage.expect(size > ring // 2 - 48, f"{size} refused by an empty {ring}")
                    error = stage.error_of(lambda channel=channel: channel.receive_bytes(False))
                    stage.expect(isinstance(error, IndexError), f"{error!r}")
                else:
                    stage.expect(size <= ring, f"{size} fits into {ring}")
                    stage.expect(channel.receive_bytes(False) == data, f"{size} in {ring}: torn")


def fill(channel: Channel) -> int:
    """Send until there is no room; how many messages that took."""
    for count in itertools.count():
        try:
            channel.send_bytes(b"full")
        except OverflowError:
            return count
    raise AssertionError


@H6.scenario()
def absurd_timeouts_are_refused(stage: Stage) -> None:
    """Those that no clock can mean raise; huge ones wait, negative ones do not."""
    with Channel(100) as channel, Channel(100) as full:
        waiting = fill(full)
        for timeout in ABSURD:
            uses: list[Callable[[], object]] = [
                lambda timeout=timeout: channel.receive_pyobj(timeout=timeout),
                lambda timeout=timeout: full.send_bytes(bytes(60), block=True, timeout=timeout),
            ]
            if isinstance(timeout, (int, float)) and timeout > 0:
                channel.send_pyobj("there")
                stage.inject()
                try:
                    stage.expect(uses[0]() == "there", "not received")
                except REFUSALS:
                    channel.receive_pyobj(False)
                continue
            for use in uses:
                stage.inject()
                error = stage.quickly(lambda use=use: stage.error_of(use))
                allowed = isinstance(error, (*REFUSALS, TimeoutError))
                stage.expect(allowed, f"a timeout of {timeout!r}: {error!r}")
        for _ in range(waiting):
            stage.expect(full.receive_bytes(False) == b"full", "the channel is damaged")
        stage.expect(full.used == 0, "something was sent")


@H6.scenario()
def messages_without_bytes_are_refused(stage: Stage) -> None:
    """send_bytes takes contiguous buffers alone; what it refuses leaves nothing behind."""
    strided = memoryview(bytes(100))[::2]
    for wrong in [*ABSURD, None, "text", strided, [1, 2], range(3)]:
        if wrong != b"64":
            with Channel(200) as channel:
                stage.inject()
                error = stage.error_of(lambda wrong=wrong: channel.send_bytes(wrong))
                allowed = isinstance(error, (TypeError, ValueError, BufferError))
                stage.expect(allowed, f"{wrong!r}: {error!r}")
                stage.expect(channel.used == 0, "something was sent")


# ------------------------------------------------------------------------ deaths

H7 = Row(
    "H7",
    "a consumer killed while it waits or receives",
    "at most the message in its hands is gone; the next one reaches a survivor at once",
)


def receive_and_tell(channel: Channel, tell: int) -> None:
    """Take messages for ever, and after each write down whose it was and its number."""
    while True:
        sender, number, body = channel.receive_pyobj()
        whole = Numbered(sender, number, body).is_whole()
        os.write(tell, struct.pack("<III", sender, number, whole))


def notebook() -> tuple[int, int]:
    """A pipe into which many receivers can write many records before anybody reads."""
    read, write = os.pipe()
    fcntl.fcntl(write, F_SETPIPE_SZ, 1 << 20)
    return read, write


def told(read: int) -> list[tuple[int, int, int]]:
    """What all receivers have written down, whose writing end is closed here."""
    data = b"".join(iter(lambda: os.read(read, 1 << 20), b""))
    return list(struct.iter_unpack("<III", data))


def dispose(*things: Any) -> None:
    for thing in things:
        thing.dispose()


@H7.scenario(timeout=40)
def killed_receivers_take_one_message_each(stage: Stage) -> None:
    """Eight receivers, seven of them killed at random moments: at most seven are missing."""
    for ring in stage.dice.sample(RINGS * 4, 12):
        for _ in stage.times(1):
            sizes = random_sizes(stage, 100, 2 * ring)
            read, write = notebook()
            with Channel(ring) as channel:
                takers = [running(receive_and_tell, channel, write) for _ in range(8)]
                os.close(write)
                for taker in takers[1:]:
                    stage.kill_within(taker.pid, 0.03)
                for number, size in enumerate(sizes):
                    channel.send_pyobj(tuple(numbered(1, number, size)), block=True)
                for taker in takers[1:]:
                    taker.join()
                stage.wait_until(lambda channel=channel: channel.used == 0, "messages stay")
                stage.wait_until(
                    lambda takers=takers: state(takers[0].pid) == "S", "the survivor hangs"
                )
                dispose(*takers)
            records = told(read)
            os.close(read)
            stage.expect(all(whole for _, _, whole in records), "torn")
            numbers = [number for _, number, _ in records]
            stage.expect(len(numbers) == len(set(numbers)), "doubled")
            stage.expect(len(numbers) >= len(sizes) - 7, f"{len(sizes) - len(numbers)} are gone")


@H7.scenario()
def a_survivor_is_reached_at_once(stage: Stage) -> None:
    """Of ten that wait, nine are killed where they sleep; the next message reaches the tenth."""
    for _ in stage.times(6):
        read, write = notebook()
        with Channel(stage.dice.choice(RINGS)) as channel:
            takers = [running(receive_and_tell, channel, write) for _ in range(10)]
            os.close(write)
            for taker in takers:
                stage.wait_until(lambda taker=taker: state(taker.pid) == "S", "does not wait")
            survivor = takers.pop(stage.dice.randrange(10))
            for taker in takers:
                stage.kill(taker.pid)
            channel.send_pyobj((7, 1, body_of(7, 1, 100)))
            record = stage.quickly(lambda read=read: os.read(read, 100))
            stage.expect(struct.unpack("<III", record) == (7, 1, 1), "torn")
            dispose(survivor, *takers)
        os.close(read)


@H7.scenario()
def killed_at_the_very_moment_of_a_message(stage: Stage) -> None:
    """A message races with a SIGKILL to its only receiver: that one has it, or the next does."""
    for _ in stage.times(40):
        read, write = notebook()
        with Channel(4096) as channel:
            victim = running(receive_and_tell, channel, write)
            stage.kill_within(victim.pid, 0.003)
            for number in range(40):
                channel.send_pyobj((1, number, body_of(1, number, number)), block=True)
            victim.join()
            survivor = running(receive_and_tell, channel, write)
            os.close(write)
            stage.wait_until(lambda channel=channel: channel.used == 0, "messages stay")
            stage.wait_until(lambda pid=survivor.pid: state(pid) == "S", "the survivor hangs")
            dispose(victim, survivor)
        numbers = [number for _, number, whole in told(read) if whole]
        os.close(read)
        stage.expect(numbers == sorted(set(numbers)), "doubled or out of order")
        stage.expect(len(numbers) >= 39, f"{40 - len(numbers)} are gone")


@H7.scenario()
def killed_in_the_middle_of_a_stream(stage: Stage) -> None:
    """A receiver killed while a large message runs into it: the sender is not held up."""
    for _ in stage.times(10):
        for ring in RINGS:
            with Channel(ring) as channel:
                giver = running(send_numbered, channel, 1, [40 * ring] * 6)
                victims = [running(receive_to_the_end, channel) for _ in range(3)]
                for victim in victims:
                    stage.kill_within(victim.pid, 0.004)
                for victim in victims:
                    victim.join()
                channel.close_send()
                left = receive_to_the_end(channel)
                numbers = [number for _, number in left]
                stage.expect(numbers == sorted(set(numbers)), "doubled or out of order")
                stage.quickly(giver.join)
                dispose(giver, *victims)


H8 = Row(
    "H8",
    "a producer killed while it sends",
    "what it had not finished is gone without a trace; nobody waits",
)


@H8.scenario(timeout=40)
def killed_senders_leave_whole_messages(stage: Stage) -> None:
    """Eight senders killed at random moments: of each a beginning arrives, without a gap."""
    for ring in stage.dice.sample(RINGS * 4, 12):
        for _ in stage.times(1):
            sizes = random_sizes(stage, 50, 3 * ring)
            with Channel(ring) as channel:
                givers = [running(send_for_ever, channel, s, sizes) for s in range(8)]
                for giver in givers:
                    stage.kill_within(giver.pid, 0.05)
                channel.close_send()
                taken = receive_to_the_end(channel)
                for sender in range(8):
                    numbers = [n for s, n in taken if s == sender]
                    stage.expect(numbers == list(range(len(numbers))), "lost or doubled")
                for giver in givers:
                    giver.join()
                dispose(*givers)


@H8.scenario()
def the_room_of_the_dead_is_used_again(stage: Stage) -> None:
    """After each death the next sender and the next receiver need not wait."""
    for ring in RINGS:
        for _ in stage.times(15):
            with Channel(ring) as channel:
                for _ in range(2):
                    victim = running(send_for_ever, channel, 1, [ring // 3, 5 * ring, 8])
                    stage.kill_within(victim.pid, 0.004)
                    victim.join()
                    victim.dispose()
                    stage.quickly(functools.partial(drain, channel))
                    stage.expect(channel.used == 0, f"{channel.used} bytes stay")
                    alive = bytes(ring)
                    channel.send_bytes(alive)
                    stage.expect(channel.receive_bytes(False) == alive, "not received")


def drain(channel: Channel) -> None:
    """Take what is there; what a dead sender has begun is no message."""
    with contextlib.suppress(IndexError, EOFError):
        while True:
            assert Numbered(*channel.receive_pyobj(False)).is_whole()


@H8.scenario()
def survivors_go_on_at_once(stage: Stage) -> None:
    """A sender that waits behind the stream of another goes on when that one is killed."""
    for _ in stage.times(15):
        for ring in RINGS:
            with Channel(ring) as channel:
                victim = running(channel.send_bytes, bytes(100 * ring), True)
                stage.wait_until(lambda channel=channel: channel.used, "nothing is sent")
                waits = [running(channel.send_bytes, b"I live", True) for _ in range(2)]
                stage.kill(victim.pid)
                for _ in waits:
                    receive = functools.partial(channel.receive_bytes, timeout=SOON)
                    stage.expect(stage.quickly(receive) == b"I live", "torn")
                finish(*waits)
                victim.dispose()


@H8.scenario()
def kills_on_both_sides_at_once(stage: Stage) -> None:
    """Ten senders and ten receivers, nearly all killed: the last of each still understand."""
    for ring in RINGS:
        for _ in stage.times(3):
            read, write = notebook()
            sizes = random_sizes(stage, 30, 2 * ring)
            with Channel(ring) as channel:
                givers = [running(send_for_ever, channel, s, sizes) for s in range(10)]
                takers = [running(receive_and_tell, channel, write) for _ in range(10)]
                os.close(write)
                victims = givers + takers[1:]
                for victim in victims:
                    stage.kill_within(victim.pid, 0.06)
                for victim in victims:
                    victim.join()
                stage.wait_until(lambda channel=channel: channel.used == 0, "messages stay")
                last = running(send_numbered, channel, 99, [ring // 2])
                stage.quickly(functools.partial(finish, last))
                stage.wait_until(lambda channel=channel: channel.used == 0, "the last one stays")
                stage.wait_until(lambda pid=takers[0].pid: state(pid) == "S", "does not wait")
                dispose(*victims, takers[0])
            records = told(read)
            os.close(read)
            stage.expect((99, 0, 1) in records, "the last message is lost")
            stage.expect(len(set(records)) == len(records), "doubled")
            stage.expect(all(whole for _, _, whole in records), "torn")
            for sender in range(10):
                numbers = sorted(n for s, n, _ in records if s == sender)
                missing = max(numbers, default=-1) + 1 - len(numbers)
                stage.expect(missing <= 9, f"{missing} of one sender are gone")


H9 = Row(
    "H9",
    "a peer SIGSTOPped, even with the lock held",
    "others wait only as long as it is stopped; Ctrl-C and timeouts work meanwhile",
)


def stop(stage: Stage, thread: Thread) -> None:
    stage.kill(thread.pid, signal.SIGSTOP)
    try:
        stage.wait_until(lambda: state(thread.pid) == "T", "it does not stop")
    except BrokenPromise as broken:
        raise BrokenPromise(f"{broken}, its state is {state(thread.pid)}") from None


@H9.scenario()
def stopped_at_any_moment(stage: Stage) -> None:
    """A sender and a receiver among six are stopped again and again; nothing is lost."""
    for ring in RINGS:
        for _ in stage.times(2):
            sizes = random_sizes(stage, 150, 2 * ring)
            with Channel(ring) as channel:
                takers = [running(receive_numbered, channel) for _ in range(3)]
                givers = [running(send_numbered, channel, s, sizes) for s in range(3)]
                for _ in range(8):
                    one = stage.dice.choice(takers + givers)
                    stage.kill(one.pid, signal.SIGSTOP)
                    sum(range(stage.dice.randrange(30_000)))
                    stage.kill(one.pid, signal.SIGCONT)
                finish(*givers)
                for _ in takers:
                    channel.send_pyobj(None, block=True)
                expect_all(stage, finish(*takers), [150] * 3)


@H9.scenario()
def others_can_give_up_waiting(stage: Stage) -> None:
    """Behind the stream of a stopped sender timeouts pass, Ctrl-C interrupts, polling returns."""
    for _ in stage.times(3):
        for ring in RINGS:
            with Channel(ring) as channel:
                giver = running(send_numbered, channel, 1, [50 * ring])
                stage.wait_until(lambda channel=channel: channel.used, "nothing is sent")
                stop(stage, giver)
                for use in (
                    functools.partial(channel.send_bytes, b"x", block=True, timeout=0.05),
                    functools.partial(channel.receive_pyobj, timeout=0.05),
                ):
                    error = stage.quickly(lambda use=use: stage.error_of(use))
                    stage.expect(isinstance(error, TimeoutError), f"{error!r}")
                error = stage.quickly(lambda: stage.error_of(lambda: channel.send_bytes(b"x")))
                stage.expect(isinstance(error, OverflowError), f"{error!r}")
                error = stage.quickly(lambda: stage.error_of(lambda: channel.receive_pyobj(False)))
                stage.expect(isinstance(error, IndexError), f"{error!r}")
                for use in (channel.receive_pyobj, lambda: channel.send_bytes(b"x", block=True)):
                    with signal_when_asleep():
                        error = stage.quickly(lambda use=use: stage.error_of(use), 2)
                    stage.expect(isinstance(error, KeyboardInterrupt), f"{error!r}")
                stage.kill(giver.pid, signal.SIGCONT)
                message = Numbered(*channel.receive_pyobj(timeout=SOON))
                stage.expect(message.is_whole() and channel.used == 0, "torn")
                finish(giver)


@H9.scenario()
def stopped_and_then_killed(stage: Stage) -> None:
    """Whoever waits behind a stopped peer, or for it, goes on when it is killed instead."""
    for _ in stage.times(6):
        for ring in RINGS:
            for f in (send_for_ever, None):
                with Channel(ring) as channel:
                    if f is None:
                        victim = running(receive_to_the_end, channel)
                        other = running(send_numbered, channel, 2, [ring, 20 * ring])
                    else:
                        victim = running(f, channel, 1, [ring // 4, 3 * ring])
                        other = running(send_numbered, channel, 2, [ring, 20 * ring])
                    sum(range(stage.dice.randrange(20_000)))
                    stop(stage, victim)
                    stage.kill(victim.pid)
                    channel.close_send()
                    taken = stage.quickly(functools.partial(receive_to_the_end, channel))
                    numbers = [n for s, n in taken if s == 2]
                    expected = ([0, 1], [1], []) if f is None else ([0, 1],)
                    stage.expect(numbers in expected, f"{numbers}")
                    other.join()
                    dispose(victim, other)


@H9.scenario()
def interrupted_in_the_middle_of_a_stream(stage: Stage) -> None:
    """Ctrl-C, or a timeout, in a half sent message: nothing of it arrives, others go on at once."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for ring in RINGS:
        for parts in (bytes(30 * ring), bytearray(30 * ring)):
            for timeout in (None, 0.02):
                with Channel(ring) as channel:
                    send = functools.partial(channel.send_bytes, parts, block=True)
                    if timeout is None:
                        stage.inject()
                        with signal_when_asleep():
                            error = stage.error_of(send)
                    else:
                        error = stage.error_of(functools.partial(send, timeout=timeout))
                    expected = KeyboardInterrupt if timeout is None else TimeoutError
                    stage.expect(isinstance(error, expected), f"{error!r}")
                    other = running(send_numbered, channel, 1, [ring, 5 * ring])
                    for number in range(2):
                        receive = functools.partial(channel.receive_pyobj, timeout=SOON)
                        message = Numbered(*stage.quickly(receive))
                        stage.expect(message.number == number and message.is_whole(), "torn")
                    finish(other)


# --------------------------------------------------------------------- messages

H11 = Row(
    "H11",
    "a message whose unpickling raises, whatever it raises",
    "that message is consumed, the next is fine",
)


class Unpickles:
    """Does *action*, which pickle can name, when it is unpickled."""

    def __init__(self, action: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = action, arguments

    def __reduce__(self) -> Any:
        return self.reduced


def fail_deeply(depth: int = 100_000) -> int:
    return fail_deeply(depth - 1) + 1


def raise_memory_error() -> NoReturn:
    raise MemoryError("while unpickling")


def raise_index_error() -> NoReturn:
    raise IndexError("while unpickling")


def raise_end_of_file() -> NoReturn:
    raise EOFError("while unpickling")


def unpickle_rubbish() -> NoReturn:
    raise AssertionError(f"rubbish is {pickle.loads(b'rubbish')}")


UNPICKLINGS: list[tuple[Callable[[], Any], type[BaseException]]] = [
    (FailsToRebuild, LookupError),
    (LeavesOnRebuild, SystemExit),
    (lambda: Unpickles(fail_deeply), RecursionError),
    (lambda: Unpickles(raise_memory_error), MemoryError),
    (lambda: Unpickles(raise_index_error), IndexError),
    (lambda: Unpickles(raise_end_of_file), EOFError),
    (lambda: Unpickles(unpickle_rubbish), Exception),
    (lambda: Unpickles(int, "nothing"), ValueError),
    (lambda: Unpickles(len), TypeError),
    (lambda: Unpickles(next, iter(())), StopIteration),
    (lambda: [bytes(STREAM), FailsToRebuild()], LookupError),
]


@H11.scenario()
def a_poisoned_message_is_taken_once(stage: Stage) -> None:
    """Its error surfaces, it is gone, and what came before and after is received."""
    with Channel() as channel:
        for _ in stage.times(10):
            for make, kind in UNPICKLINGS:
                stage.inject()
                channel.send_pyobj("before")
                channel.send_pyobj(make())
                channel.send_pyobj("after")
                stage.expect(channel.receive_pyobj() == "before", "lost")
                error = stage.error_of(channel.receive_pyobj)
                stage.expect(isinstance(error, kind), f"{error!r}")
                stage.expect(channel.receive_pyobj() == "after", "the next is lost")
                stage.expect(channel.used == 0, "it stays")


@H11.scenario()
def poison_among_many_receivers(stage: Stage) -> None:
    """Each poisoned message fails in exactly one of four receivers; all others arrive."""

    def receive(channel: Channel) -> tuple[int, int]:
        good = bad = 0
        while True:
            try:
                message = channel.receive_pyobj()
            except LookupError:
                bad += 1
                continue
            if message is None:
                return good, bad
            good += 1

    for _ in stage.times(3):
        with Channel(2000) as channel:
            takers = [running(receive, channel) for _ in range(4)]
            poison = 0
            for n in range(200):
                bad = stage.dice.random() < 0.5
                poison += bad
                stage.injected += bad
                channel.send_pyobj(FailsToRebuild() if bad else n, block=True)
            for _ in takers:
                channel.send_pyobj(None, block=True)
            counts = finish(*takers)
            stage.expect(sum(bad for _, bad in counts) == poison, "poison is lost or doubled")
            stage.expect(sum(good for good, _ in counts) == 200 - poison, "messages are lost")


def yield_poison() -> Iterator[Any]:
    for n in range(20):
        yield n
        yield FailsToRebuild()


@H11.scenario()
def a_generators_poisoned_value(stage: Stage) -> None:
    """next raises what unpickling raises, and goes on with the next value."""
    for prefetch in (0, 1, 50):
        with Generator(yield_poison, prefetch=prefetch) as generator:
            generator.start()
            for n in range(20):
                stage.inject()
                stage.expect(generator.next() == n, "a value is lost")
                error = stage.error_of(generator.next)
                stage.expect(isinstance(error, LookupError), f"{error!r}")
            stage.expect(isinstance(stage.error_of(generator.next), StopIteration), "no end")


@H11.scenario()
def what_cannot_be_pickled_leaves_nothing(stage: Stage) -> None:
    """A send whose pickling raises has sent nothing, and the next one works."""
    with Channel(STREAM) as channel:
        for wrong in (FailsToPickle(), lambda: None, threading.Lock(), [bytes(9), FailsToPickle()]):
            for block in (False, True):
                stage.inject()
                stage.error_of(lambda w=wrong, b=block: channel.send_pyobj(w, block=b))
                stage.expect(channel.used == 0, "something was sent")
                channel.send_pyobj("next")
                stage.expect(channel.receive_pyobj(False) == "next", "the next is lost")


H12 = Row(
    "H12",
    "__reduce__, or a signal handler, that uses the same channel",
    "works: no lock is held while Python runs",
)

at_hand: list[Channel] = []
"""The channel that pickling and unpickling use."""


class SendsWhilePickled:
    """Sends a message on the same channel while it is pickled, and comes back as a text."""

    def __init__(self, depth: int) -> None:
        self.depth = depth

    def __reduce__(self) -> Any:
        inner: Any = SendsWhilePickled(self.depth - 1) if self.depth else "innermost"
        at_hand[0].send_pyobj(inner, block=True)
        return str, (f"level {self.depth}",)


def receive_another() -> Any:
    return ["outer", at_hand[0].receive_pyobj(timeout=SOON)]


def send_another() -> str:
    at_hand[0].send_pyobj("from unpickling", block=True)
    return "outer"


@H12.scenario()
def pickling_uses_the_channel(stage: Stage) -> None:
    """Messages sent while others are pickled come first; what unpickling takes is the next."""
    for ring in (1000, STREAM, 2 << 20):
        for _ in stage.times(20):
            with Channel(ring) as channel:
                at_hand[:] = [channel]
                stage.inject()
                channel.send_pyobj(SendsWhilePickled(5))
                received = [channel.receive_pyobj(False) for _ in range(7)]
                expected = ["innermost", *[f"level {n}" for n in range(6)]]
                stage.expect(received == expected, f"{received}")
                stage.inject()
                channel.send_pyobj(Unpickles(receive_another))
                channel.send_pyobj(Unpickles(receive_another))
                channel.send_pyobj(bytes(500))
                nested = stage.quickly(functools.partial(channel.receive_pyobj, False))
                stage.expect(nested == ["outer", ["outer", bytes(500)]], "wrong objects")
                stage.inject()
                channel.send_pyobj(Unpickles(send_another))
                stage.expect(channel.receive_pyobj(False) == "outer", "wrong object")
                stage.expect(channel.receive_pyobj(False) == "from unpickling", "lost")
    at_hand.clear()


@H12.scenario()
def pickling_uses_the_channel_in_many_processes(stage: Stage) -> None:
    """Six senders whose messages send, and two receivers whose unpickling receives."""

    def send() -> None:
        for n in range(40):
            at_hand[0].send_pyobj(SendsWhilePickled(2) if n % 4 else bytes(2500), block=True)

    def receive() -> int:
        count = 0
        for _ in iter(at_hand[0].receive_pyobj, None):
            count += 1
        return count

    for ring in (600, STREAM):
        for _ in stage.times(3):
            with Channel(ring) as channel:
                at_hand[:] = [channel]
                takers = [running(receive) for _ in range(2)]
                givers = [running(send) for _ in range(6)]
                finish(*givers)
                for _ in takers:
                    stage.inject()
                    channel.send_pyobj(None, block=True)
                counts = finish(*takers)
                stage.expect(sum(counts) == 6 * (10 + 30 * 4), f"{sum(counts)} arrived")
    at_hand.clear()


@H12.scenario()
def a_signal_handler_uses_the_channel(stage: Stage) -> None:
    """Under signals whose handler polls and sends, waiting or not, every message arrives whole."""
    for ring in RINGS:
        for block in (False, True):
            for _ in stage.times(1):
                with Channel(ring) as channel, Channel() as side:
                    taker = running(count_numbers, channel)
                    expect_whole_in_a_storm(stage, channel, side, ring, block)
                    channel.send_pyobj(None, block=True)
                    stage.expect(finish(taker) == [list(range(150))], "lost, doubled or torn")


def expect_whole_in_a_storm(
    stage: Stage, channel: Channel, side: Channel, ring: int, block: bool
) -> None:
    """Send numbered messages, most of them larger than the ring, while a handler sends others."""

    def use(_number: int, _frame: object) -> None:
        stage.inject()
        side.send_pyobj("by the way")
        side.receive_pyobj(False)
        with contextlib.suppress(OverflowError):
            channel.send_pyobj("from the handler", block=block)

    signal.signal(signal.SIGALRM, use)
    period = 0.003 if block else 0.001
    signal.setitimer(signal.ITIMER_REAL, period, period)
    try:
        for number in range(150):
            message = tuple(numbered(1, number, number * ring // 50))
            channel.send_pyobj(message, block=True, timeout=SOON)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0, 0)
        signal.signal(signal.SIGALRM, signal.SIG_IGN)


def count_numbers(channel: Channel) -> list[int]:
    """The numbers of the messages that came, those of a signal handler apart."""
    numbers = []
    for message in iter(channel.receive_pyobj, None):
        if message != "from the handler":
            assert Numbered(*message).is_whole(), "torn"
            numbers.append(message[1])
    return numbers


H13 = Row("H13", "a child by bare os.fork, or of multiprocessing, uses it", "it works, both ways")


@H13.scenario()
def bare_children_send_and_receive(stage: Stage) -> None:
    """Children, and their children, that no library knows of are peers like others."""
    for ring in RINGS:
        for _ in stage.times(2):
            sizes = random_sizes(stage, 60, 2 * ring)
            with Channel(ring) as channel, Channel() as answers:

                def receive(channel: Channel = channel, answers: Channel = answers) -> None:
                    answers.send_pyobj(receive_numbered(channel))

                def grandparent(channel: Channel = channel, sizes: Any = sizes) -> None:
                    pid = bare_fork(functools.partial(send_numbered, channel, 1, sizes))
                    send_numbered(channel, 0, sizes)
                    assert status_of(pid) == 0

                takers = [bare_fork(receive) for _ in range(3)]
                fork_context = multiprocessing.get_context("fork")
                other = fork_context.Process(target=send_numbered, args=(channel, 2, sizes))
                other.start()
                giver = bare_fork(grandparent)
                stage.inject()
                send_numbered(channel, 3, sizes)
                stage.expect(status_of(giver) == 0, "a sender fails")
                other.join()
                for _ in takers:
                    channel.send_pyobj(None, block=True)
                taken = [answers.receive_pyobj(timeout=SOON) for _ in takers]
                stage.expect([status_of(pid) for pid in takers] == [0] * 3, "a receiver fails")
                expect_all(stage, taken, [60] * 4)


@H13.scenario()
def bare_children_are_killed(stage: Stage) -> None:
    """A bare child killed while it sends or receives holds up nobody, and its end is seen."""
    for _ in stage.times(30):
        ring = stage.dice.choice(RINGS)
        read, write = os.pipe()
        with Channel(ring) as channel:
            sizes = [ring // 3, 4 * ring]
            victims = [
                bare_fork(functools.partial(tell_and_send, write, channel, sender, sizes))
                for sender in range(3)
            ]
            for _ in victims:
                os.read(read, 1)
            for pid in victims:
                stage.kill_within(pid, 0.004)
            channel.close_send()
            taken = stage.quickly(functools.partial(receive_to_the_end, channel))
            for sender in range(3):
                numbers = [n for s, n in taken if s == sender]
                stage.expect(numbers == list(range(len(numbers))), "lost or doubled")
            stage.expect([status_of(pid) for pid in victims] == [-9] * 3, "another end")
        os.close(read)
        os.close(write)


def tell_and_send(tell: int, channel: Channel, sender: int, sizes: list[int]) -> NoReturn:
    """Say that this process runs: os.fork returns before its child does."""
    os.write(tell, b"!")
    send_for_ever(channel, sender, sizes)


@H13.scenario()
def forked_while_others_use_it(stage: Stage) -> None:
    """A fork while Python threads are inside of send and receive leaves a child that can do both.

    What a thread had half sent or received is not the child's.
    """
    for _ in stage.times(4):
        with Channel(3000) as channel, Channel() as answers:
            gate = Gate()
            sizes = random_sizes(stage, 300, 9000)
            taken: list[list[tuple[int, int]]] = []
            threads = [
                threading.Thread(
                    target=lambda: taken.append(receive_numbered(channel)), daemon=True
                ),
                threading.Thread(target=send_numbered, args=(channel, 0, sizes), daemon=True),
            ]
            for thread in threads:
                thread.start()

            def join_in(n: int, channel: Channel = channel, answers: Channel = answers) -> None:
                send_numbered(channel, n, [10, 5000, 100])
                answers.send_pyobj(n)

            children = []
            for n in range(1, 7):
                stage.inject()
                children.append(bare_fork(functools.partial(join_in, n)))
            stage.expect([status_of(pid) for pid in children] == [0] * 6, "a child fails")
            threads[1].join(SOON)
            channel.send_pyobj(None, block=True, timeout=SOON)
            threads[0].join(SOON)
            expect_all(stage, taken, [300, 3, 3, 3, 3, 3, 3])
            gate.close()


@H13.scenario()
def a_stopped_family_waits_and_goes_on(stage: Stage) -> None:
    """Bare children that were stopped in turn deliver everything in the end."""
    for _ in stage.times(3):
        with Channel(700) as channel:
            sizes = random_sizes(stage, 100, 3000)
            givers = [
                bare_fork(functools.partial(send_numbered, channel, s, sizes)) for s in range(4)
            ]
            channel.close_send()
            for pid in givers:
                stage.kill(pid, signal.SIGSTOP)
            for pid in stage.dice.sample(givers, 4):
                stage.kill(pid, signal.SIGCONT)
            taken = receive_to_the_end(channel)
            expect_all(stage, [taken], [100] * 4)
            stage.expect([status_of(pid) for pid in givers] == [0] * 4, "a sender fails")
