# SPDX-License-Identifier: MIT
"""Senders and receivers that are killed and replaced on one channel, and the books kept of it.

Every peer writes down, in shared memory, what it has sent and what it has received; that is still
there when it is dead. So the parent can say of every message what became of it:

    doubled   received twice
    torn      not what was sent, or never sent
    unordered after a later one of the same sender, at the same receiver
    lost      sent, the call had returned, and never received

A receiver killed between taking a message and writing it down takes this one along; it has said
before that it is about to take one. More than one for each such death would be a loss.
"""

from __future__ import annotations

import ctypes
import mmap
import pickle
import random
import select
import struct
import time
import zlib
from typing import TYPE_CHECKING, NamedTuple

from snakefish import Channel, ChannelEndError, Thread

if TYPE_CHECKING:
    from stage import Stage

_HEAD = struct.Struct("<IIII")  # sender, number, size, checksum
_NOISE = random.Random(1).getrandbits(8 << 18).to_bytes(1 << 18, "little")
_LOG = 4096

# What a peer's words are: counters first, then its log.
_SENT, _WRITTEN, _READ, _TAKING = range(4)
_FIRST = 8
_WORDS = _FIRST + _LOG
_TORN = (1 << 64) - 1


def message(sender: int, number: int, dice: random.Random) -> bytes:
    """A message that can be told from every other, and from its own parts."""
    kind = dice.random()
    size = dice.randrange(300 if kind < 0.7 else 3000 if kind < 0.97 else 150_000)
    begin = dice.randrange(len(_NOISE) - size)
    body = _NOISE[begin : begin + size]
    return _HEAD.pack(sender, number, size, zlib.crc32(body, sender ^ number)) + body


def entry(data: bytes) -> int:
    """Sender and number of a message in one word, or that it is torn."""
    if len(data) < _HEAD.size:
        return _TORN
    sender, number, size, checksum = _HEAD.unpack_from(data)
    body = data[_HEAD.size :]
    if len(body) != size or zlib.crc32(body, sender ^ number) != checksum:
        return _TORN
    return sender << 32 | number  # type: ignore[no-any-return]


class Account(NamedTuple):
    """What was sent under one name, and how its sender ended."""

    sent: int
    was_killed: bool


class Peer:
    """A place in the crowd, and who has it now."""

    def __init__(self, place: int, sends: bool) -> None:
        self.base = 1 + place * _WORDS
        self.sends = sends
        self.name = 0
        self.thread: Thread | None = None
        self.latest: dict[int, int] = {}


class Crowd:
    """Some senders and receivers on one small channel."""

    def __init__(self, senders: int, receivers: int, size: int, seed: int) -> None:
        self.channel = Channel(size)
        self._peers = [Peer(place, place < senders) for place in range(senders + receivers)]
        self._memory = mmap.mmap(-1, 8 * (1 + len(self._peers) * _WORDS))
        self._words = (ctypes.c_uint64 * (1 + len(self._peers) * _WORDS)).from_buffer(self._memory)
        self._seed = seed
        self._names = 0
        self._accounts: dict[int, Account] = {}
        self._seen: dict[int, bytearray] = {}
        self._progress = time.monotonic()
        self._progress_of_senders = 0
        self._dying: dict[Peer, float] = {}
        self.statuses: set[int] = set()
        self.killed = self.received = 0
        self.doubled = self.torn = self.unordered = self.excused = 0
        self.silence = 0.0
        self.slowest_death = 0.0

    # -------------------------------------------------------------- the peers

    def start(self) -> None:
        """Let all come."""
        for peer in self._peers:
            self._start(peer)

    def _start(self, peer: Peer) -> None:
        self._names += 1
        peer.name = self._names
        peer.latest = {}
        for word in (_SENT, _WRITTEN, _READ, _TAKING):
            self._words[peer.base + word] = 0
        work = self._send if peer.sends else self._receive
        peer.thread = Thread(work, args=(peer.base, peer.name))
        peer.thread.start()

    def _send(self, base: int, name: int) -> int:
        dice = random.Random(self._seed * 1_000_003 + name)
        words, number = self._words, 0
        while not words[0]:
            data = message(name, number, dice)
            if number % 2:
                self.channel.send_bytes(data, block=True)
            else:
                self.channel.send_pyobj([data], block=True)
            number += 1
            words[base + _SENT] = number
        return number

    def _receive(self, base: int, name: int) -> int:
        words, written = self._words, 0
        while True:
            while written - words[base + _READ] >= _LOG:
                select.select([], [], [], 0.0005)
            words[base + _TAKING] = 1
            try:
                found = self.channel.receive_pyobj()
            except ChannelEndError:
                return written
            except pickle.UnpicklingError:
                found = b"torn"
            data = found[0] if type(found) is list else found
            words[base + _FIRST + written % _LOG] = entry(data)
            written += 1
            words[base + _WRITTEN] = written
            words[base + _TAKING] = 0

    # ------------------------------------------------------------- the parent

    def kill_one(self, stage: Stage, victims: str = "all") -> None:
        """Kill a peer at this moment, whatever it is doing; another will take its place."""
        alive = [one for one in self._peers if one not in self._dying]
        if not alive:
            return
        peer = stage.dice.choice([one for one in alive if victims == "all" or one.sends] or alive)
        assert peer.thread is not None
        stage.inject()
        peer.thread.kill()
        self._dying[peer] = time.monotonic()

    def _replace_the_dead(self) -> None:
        for peer, killed in list(self._dying.items()):
            assert peer.thread is not None
            if peer.thread.try_join():
                self.slowest_death = max(self.slowest_death, time.monotonic() - killed)
                self.statuses.add(peer.thread.get_exit_status())
                peer.thread.dispose()
                self.killed += 1
                del self._dying[peer]
                self._close_account(peer, True)
                self._start(peer)

    def _close_account(self, peer: Peer, was_killed: bool) -> None:
        self._read_log(peer)
        if peer.sends:
            self._accounts[peer.name] = Account(self._words[peer.base + _SENT], was_killed)
        elif was_killed:
            self.excused += self._words[peer.base + _TAKING]

    def watch(self, seconds: float) -> None:
        """Read the logs for so long; note how long nothing came."""
        end = time.monotonic() + seconds
        while True:
            self._replace_the_dead()
            news = sum(self._read_log(peer) for peer in self._peers if not peer.sends)
            sent = sum(self._words[peer.base + _SENT] for peer in self._peers if peer.sends)
            now = time.monotonic()
            if news or sent != self._progress_of_senders:
                self._progress, self._progress_of_senders = now, sent
            self.silence = max(self.silence, now - self._progress)
            if now >= end:
                return
            if not news:
                select.select([], [], [], min(0.0005, end - now))

    def _read_log(self, peer: Peer) -> int:
        """Take in what a receiver has written down since the last time."""
        if peer.sends:
            return 0
        read, written = self._words[peer.base + _READ], self._words[peer.base + _WRITTEN]
        first = peer.base + _FIRST
        for place in range(read, written):
            self._note(self._words[first + place % _LOG], peer.latest)
        self._words[peer.base + _READ] = written
        self.received += written - read
        return int(written - read)

    def _note(self, word: int, latest: dict[int, int]) -> None:
        if word == _TORN:
            self.torn += 1
            return
        sender, number = word >> 32, word & 0xFFFFFFFF
        if latest.get(sender, -1) >= number:
            self.unordered += 1
        latest[sender] = number
        seen = self._seen.setdefault(sender, bytearray())
        if len(seen) <= number:
            seen.extend(bytes(number + 64 - len(seen)))
        self.doubled += seen[number]
        seen[number] = 1

    def finish(self, stage: Stage) -> None:
        """Let the senders stop, the receivers come to the end, and close the books."""
        end = time.monotonic() + 10
        while self._dying:
            stage.expect(time.monotonic() < end, "hangs: a killed peer does not die")
            self.watch(0.001)
        self._words[0] = 1
        self._join(stage, True)
        self.channel.close()
        self._join(stage, False)
        stage.expect(self.channel.used == 0, f"{self.channel.used} bytes stay in the channel")

    def _join(self, stage: Stage, senders: bool) -> None:
        waiting = [peer for peer in self._peers if peer.sends is senders]
        end = time.monotonic() + 10
        while waiting:
            self.watch(0.001)
            for peer in list(waiting):
                assert peer.thread is not None
                if peer.thread.try_join():
                    peer.thread.get_result()
                    self._close_account(peer, False)
                    waiting.remove(peer)
            who = "senders" if senders else "receivers"
            stage.expect(time.monotonic() < end, f"hangs: {len(waiting)} {who} do not end")

    def lost(self) -> int:
        """How many messages that were sent were not received, beyond what is excused."""
        missing = 0
        for name, account in self._accounts.items():
            seen = self._seen.get(name, bytearray())
            missing += account.sent - sum(seen[: account.sent])
        return max(0, missing - self.excused)

    def never_sent(self) -> int:
        """How many messages were received that nobody has sent."""
        found = 0
        for name, seen in self._seen.items():
            account = self._accounts.get(name, Account(0, False))
            # A sender killed before it could count its last message has sent one more.
            found += sum(seen[account.sent + account.was_killed :])
        return found

    def dispose(self) -> None:
        """Release everything."""
        for peer in self._peers:
            if peer.thread is not None:
                peer.thread.dispose()
        self.channel.dispose()
        del self._words
        self._memory.close()

    def judge(self, stage: Stage) -> None:
        """Write the figures down and break the promise if one is not zero."""
        figures = {
            "torn": self.torn + self.never_sent(),
            "doubled": self.doubled,
            "lost": self.lost(),
            "unordered": self.unordered,
        }
        stage.facts.update(
            {**figures, "died": self.killed, "messages": self.received},
            silence=round(self.silence, 3),
            slowest_death=round(self.slowest_death, 3),
        )
        stage.expect(self.statuses <= {-9}, f"statuses {self.statuses} of what was killed")
        stage.expect(self.slowest_death < 3, f"hangs: {self.slowest_death:.1f} s to die")
        for what, count in figures.items():
            stage.expect(count == 0, f"{count} message(s) {what}")
        stage.expect(self.silence < 3, f"hangs: nothing for {self.silence:.1f} s")


def run(stage: Stage, kills: int, seconds: float, victims: str = "all") -> None:
    """Kill *kills* of eight peers, one in *seconds* on average, and judge."""
    crowd = Crowd(4, 4, 16384, stage.dice.randrange(1 << 30))
    try:
        crowd.start()
        for _ in range(kills):
            crowd.watch(stage.dice.random() * 2 * seconds)
            crowd.kill_one(stage, victims)
        crowd.finish(stage)
        crowd.judge(stage)
    finally:
        crowd.dispose()
