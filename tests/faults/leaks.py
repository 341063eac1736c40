# SPDX-License-Identifier: MIT
"""Section K: what is left over after many uses, many at once, much data, and a kill of everything.

The runner looks for processes, descriptors, mappings and names after every scenario; here it is
also memory, and all of it use after use.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import os
import select
import signal
import subprocess
import sys
import time
import weakref
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

import libraries
from libraries import Library
from process_table import (
    children,
    open_descriptors,
    session_members,
    shared_mappings,
    shared_sizes,
)
from row import Row
from scenario import Program
from stage import Stage, for_ever

import snakefish
from snakefish import Channel, Generator, SnakefishError, Thread

if TYPE_CHECKING:
    from collections.abc import Iterator

_PYPY = sys.implementation.name == "pypy"
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MIB = 1 << 20

# ---------------------------------------------------------------------- weighing


class _Allocations(ctypes.Structure):
    """`struct mallinfo2` of glibc 2.33 and newer."""

    _fields_ = [
        *[(name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks")],
        *[(name, ctypes.c_size_t) for name in ("hblkhd", "usmblks", "fsmblks")],
        *[(name, ctypes.c_size_t) for name in ("uordblks", "fordblks", "keepcost")],
    ]


def _allocated() -> int:
    """Bytes that malloc has given out, 0 where that cannot be known exactly."""
    count = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if count is None or _PYPY:  # what its JIT compiles is counted too
        return 0
    count.restype = _Allocations
    found = count()
    return int(found.uordblks + found.hblkhd)


def resident() -> int:
    """Bytes of memory that this process uses."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * _PAGE


class Weight(NamedTuple):
    """What this process holds, down to the bytes."""

    processes: set[int]
    descriptors: set[tuple[int, str]]
    mappings: int
    shared: int
    objects: int
    allocated: int
    resident: int

    @classmethod
    def now(cls) -> Weight:
        """Weigh, garbage collected."""
        for _ in range(3):
            gc.collect()
        return cls(
            children(),
            set(open_descriptors().items()),
            len(shared_mappings()),
            shared_sizes()["Size"],
            len(gc.get_objects()),
            _allocated(),
            resident(),
        )

    def growth_since(self, before: Weight, cycles: int) -> str:
        """What has grown with the *cycles*, in words; nothing is an empty string.

        An object for every fourth cycle, or 40 bytes a cycle, would be a leak; what an
        interpreter keeps for itself grows less than that.
        """
        found = {
            "process(es)": len(self.processes - before.processes),
            "descriptor(s)": len(self.descriptors - before.descriptors),
            "mapping(s)": max(0, self.mappings - before.mappings),
            "shared byte(s)": max(0, self.shared - before.shared),
            "object(s)": _beyond(self.objects - before.objects, 8 + cycles // 4),
            "allocated byte(s)": _beyond(self.allocated - before.allocated, 8192 + 40 * cycles),
            "resident byte(s)": _beyond(self.resident - before.resident, 8 * _MIB),
        }
        return ", ".join(f"{count} {what}" for what, count in found.items() if count)


def _beyond(growth: int, allowed: int) -> int:
    return growth if growth > allowed else 0


# ------------------------------------------------------------------------- uses


def _thread(f: Callable[..., Any], *merging: Any) -> None:
    with Thread(f, *merging) as thread:
        thread.start()
        thread.join()
        with contextlib.suppress(Exception):
            thread.get_result()


def _thread_killed() -> None:
    with Thread(for_ever) as thread:
        thread.start()
        thread.kill()
        thread.join()


def _thread_disposed_running() -> None:
    thread = Thread(for_ever)
    thread.start()
    thread.dispose()


def _thread_dropped_running() -> None:
    Thread(for_ever).start()
    if _PYPY:
        gc.collect()


def _unstarted() -> None:
    Thread(int).dispose()
    Generator(_count).dispose()
    Channel().dispose()


def _count() -> Iterator[int]:
    yield from range(3)


def _raise() -> Iterator[int]:
    yield 1
    raise ZeroDivisionError


def _generator(taken: int, f: Callable[[], Iterator[int]] = _count, prefetch: int = 0) -> None:
    with Generator(f, prefetch=prefetch) as generator:
        generator.start()
        with contextlib.suppress(StopIteration, ZeroDivisionError):
            for _ in range(taken):
                generator.next()
        generator.join()


def _generator_killed() -> None:
    with Generator(_count) as generator:
        generator.start()
        generator.next()
        generator.kill()
        with contextlib.suppress(SnakefishError):
            generator.next()


def _nothing(namespace: dict[str, Any]) -> dict[str, Any]:
    return {}


def _forget(namespace: dict[str, Any], extracted: dict[str, Any]) -> None:
    pass


def _map_failing() -> None:
    with contextlib.suppress(ZeroDivisionError):
        snakefish.map(lambda n: 1 // n, range(-2, 3), concurrency=2)


def _map_killed() -> None:
    with contextlib.suppress(SnakefishError):
        snakefish.map(lambda n: os.kill(os.getpid(), signal.SIGKILL), range(2), concurrency=2)


def _channel() -> None:
    with Channel() as channel:
        channel.send_pyobj(bytes(300_000))
        channel.send_pyobj({"left": "there"})
        channel.receive_pyobj()


def _channel_failing() -> None:
    with Channel(64) as channel:
        for action in (
            lambda: channel.send_pyobj(b"x" * 65),
            lambda: channel.receive_pyobj(block=False),
            lambda: channel.receive_pyobj(timeout=0.0001),
            lambda: channel.send_pyobj(lambda: 0),
        ):
            with contextlib.suppress(Exception):
                action()


def _channel_abandoned() -> None:
    with Channel(4096) as channel, Thread(lambda: channel.send_bytes(b"x" * 100)) as thread:
        thread.start()
        channel.close_send()
        with contextlib.suppress(EOFError):
            while True:
                channel.receive_bytes()


THREAD_USES: list[Callable[[], None]] = [
    lambda: _thread(int),
    lambda: _thread(lambda: 1 // 0),
    lambda: _thread(lambda: os._exit(3)),
    lambda: _thread(lambda: lambda: 0),
    lambda: _thread(int, _nothing, _forget),
    _thread_killed,
    _thread_disposed_running,
    _thread_dropped_running,
    _unstarted,
]
GENERATOR_USES: list[Callable[[], None]] = [
    lambda: _generator(0),
    lambda: _generator(2, prefetch=1),
    lambda: _generator(9),
    lambda: _generator(9, _raise),
    _generator_killed,
]
MAP_USES: list[Callable[[], None]] = [
    lambda: snakefish.map(abs, range(5), concurrency=2) and None,
    lambda: snakefish.map(abs, range(3), _nothing, _forget, concurrency=2) and None,
    _map_failing,
    _map_killed,
]
CHANNEL_USES: list[Callable[[], None]] = [_channel, _channel_failing, _channel_abandoned]

K1 = Row("K1", "every use 200 times, also raising, killed, unstarted", "zero growth")


def _use_again_and_again(stage: Stage, uses: list[Callable[[], None]]) -> None:
    Weight.now()  # which keeps something itself, the first time
    for use in uses:
        for _ in range(10):
            use()
        before = Weight.now()
        cycles = 0
        for _ in stage.times(200):
            use()
            stage.inject()
            cycles += 1
        grown = Weight.now().growth_since(before, cycles)
        stage.expect(not grown, f"use {uses.index(use)}: {cycles} cycles leave {grown}")


@K1.scenario(timeout=60)
def threads_leave_nothing(stage: Stage) -> None:
    _use_again_and_again(stage, THREAD_USES)


@K1.scenario(timeout=60)
def generators_leave_nothing(stage: Stage) -> None:
    _use_again_and_again(stage, GENERATOR_USES)


@K1.scenario(timeout=60)
def maps_leave_nothing(stage: Stage) -> None:
    _use_again_and_again(stage, MAP_USES)


@K1.scenario(timeout=60)
def channels_leave_nothing(stage: Stage) -> None:
    _use_again_and_again(stage, CHANNEL_USES)


def divide_by_zero() -> int:
    return 1 // 0


@K1.comparison(timeout=40)
def calls_leave_nothing(stage: Stage, library: Library) -> None:
    """Call after call, also raising, there are as many processes, descriptors and mappings."""

    def use(cycles: int) -> Weight:
        """Use it, and weigh once what some end in threads of theirs has ended."""
        for _ in range(cycles):
            library.call(int)
            stage.error_of(lambda: library.call(divide_by_zero))
            library.map(abs, range(3))
            stage.inject()
        select.select([], [], [], 0.3)
        return Weight.now()._replace(objects=0, allocated=0, resident=0)

    cycles = sum(1 for _ in stage.times(8))
    before, after = use(cycles), use(cycles)
    grown = (
        len(after.processes) - len(before.processes),
        len(after.descriptors) - len(before.descriptors),
        after.mappings - before.mappings,
    )
    stage.expect(max(grown) < cycles // 2, f"{cycles} cycles leave {max(grown)} more")


# ------------------------------------------------------- one after another, at once

K2 = Row("K2", "1,000 threads one after another", "zero growth")


@K2.scenario(timeout=60)
def one_after_another(stage: Stage) -> None:
    for turn in range(20):
        _one(turn)
    before, began, count = Weight.now(), time.monotonic(), 0
    for turn in stage.times(1000):
        stage.expect(_one(turn) == turn, "a wrong result")
        count += 1
    stage.facts["threads"] = count
    stage.facts["threads/s"] = round(count / (time.monotonic() - began))
    grown = Weight.now().growth_since(before, count)
    stage.expect(not grown, f"{count} threads leave {grown}")


def _one(turn: int) -> int:
    with Thread(lambda: turn) as thread:
        thread.start()
        thread.join()
        return thread.get_result()  # type: ignore[no-any-return]


K3 = Row(
    "K3",
    "100 threads at once; 2,000 that are not started",
    "all results; no process, descriptor or mapping before a start",
)


@K3.scenario(timeout=60)
def all_at_once(stage: Stage) -> None:
    """All run before the first is joined; they end in another order than they began."""
    before, began = Weight.now(), time.monotonic()
    with contextlib.ExitStack() as stack:
        gate = os.pipe()
        threads = []
        for turn in stage.times(100):
            thread = stack.enter_context(Thread(lambda turn=turn: (os.read(gate[0], 1), turn)[1]))
            thread.start()
            threads.append(thread)
        stage.expect(all(thread.is_alive() for thread in threads), "not all are alive at once")
        stage.expect(len(children() - before.processes) == len(threads), "not as many processes")
        os.write(gate[1], b"!" * len(threads))
        for turn, thread in reversed(list(enumerate(threads))):
            thread.join(timeout=60)
            stage.expect(thread.get_result() == turn, "a wrong result")
        for end in gate:
            os.close(end)
    stage.facts["threads"] = len(threads)
    stage.facts["seconds"] = round(time.monotonic() - began, 2)
    grown = Weight.now().growth_since(before, 100 * len(threads))
    stage.expect(not grown, f"{len(threads)} threads at once leave {grown}")


@K3.scenario(timeout=60)
def killed_all_at_once(stage: Stage) -> None:
    """A hundred deaths in one moment are a hundred statuses."""
    with contextlib.ExitStack() as stack:
        threads = [stack.enter_context(Thread(for_ever)) for _ in stage.times(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            stage.kill(thread.pid)
        for thread in threads:
            stage.quickly(thread.join)
            stage.expect(thread.get_exit_status() == -signal.SIGKILL, "another status")


@K3.scenario(timeout=60)
def unstarted_costs_nothing(stage: Stage) -> None:
    before = Weight.now()
    made = [(Thread(int), Generator(_count)) for _ in stage.times(2000)]
    now = Weight.now()
    for what in ("processes", "descriptors", "mappings", "shared"):
        stage.expect(getattr(now, what) == getattr(before, what), f"{what} before the start")
    for pair in made:
        for one in pair:
            one.dispose()


# -------------------------------------------------------------------- much data

K4 = Row("K4", "1 GB through a channel, a generator", "memory stays flat, on both sides")
_BLOCK = bytes(range(256)) * 4096  # 1 MiB


def _consume(stage: Stage, receive: Callable[[], Any], count: int) -> None:
    """Take *count* blocks; what this process uses may not follow what went through."""
    for _ in range(64):
        stage.expect(len(receive()) == len(_BLOCK), "a torn block")
    highest = before = resident()
    for number in range(64, count):
        stage.expect(len(receive()) == len(_BLOCK), "a torn block")
        if number % 16 == 0:
            highest = max(highest, resident())
    stage.expect(highest - before < 48 * _MIB, f"grows by {(highest - before) // _MIB} MiB")


@K4.scenario(timeout=60)
def through_a_channel(stage: Stage) -> None:
    count = sum(1 for _ in stage.times(1024))

    def send() -> int:
        for _ in range(64):
            channel.send_bytes(_BLOCK, block=True)
        before = resident()
        for _ in range(64, count):
            channel.send_bytes(_BLOCK, block=True)
        return resident() - before

    with Channel(64 * _MIB) as channel, Thread(send) as sender:
        sender.start()
        _consume(stage, channel.receive_bytes, count)
        sender.join()
        grown = sender.get_result()
        stage.expect(grown < 80 * _MIB, f"the sender grows by {grown // _MIB} MiB")
        stage.expect(channel.committed < 16 * _MIB, f"keeps {channel.committed // _MIB} MiB")


@K4.scenario(timeout=60)
def through_a_generator(stage: Stage) -> None:
    count = sum(1 for _ in stage.times(1024))

    def blocks() -> Iterator[bytes]:
        for _ in range(count):
            yield _BLOCK

    with Generator(blocks, prefetch=4) as generator:
        generator.start()
        _consume(stage, generator.next, count)
        generator.join()


K5 = Row("K5", "a burst of 400 MB, then idle", "draining gives memory back, dispose() all of it")


@K5.scenario(timeout=60)
def a_burst_is_given_back(stage: Stage) -> None:
    before = shared_sizes()
    size = sum(1 for _ in stage.times(400)) * _MIB
    for drained in (False, True):
        with Channel() as channel:
            for _ in range(size // _MIB):
                channel.send_bytes(_BLOCK)
            stage.expect(shared_sizes()["Rss"] - before["Rss"] >= size, "is not there at all")
            while drained and channel.used:
                channel.receive_bytes()
            if drained:
                kept = channel.committed, shared_sizes()["Rss"] - before["Rss"]
                stage.expect(max(kept) < 32 * _MIB, f"drained, {max(kept) // _MIB} MiB stay")
        stage.expect(shared_sizes()["Size"] == before["Size"], "address space stays")
        stage.expect(shared_sizes()["Rss"] <= before["Rss"] + _MIB, "memory stays")


@K5.scenario(timeout=60)
def a_large_result_is_given_back(stage: Stage) -> None:
    size = sum(1 for _ in stage.times(200)) * _MIB
    before = resident()
    with Thread(lambda: b"\x01" * size) as thread:
        thread.start()
        thread.join()
        stage.expect(len(thread.get_result()) == size, "a torn result")
    gc.collect()
    grown = resident() - before
    stage.expect(grown < 32 * _MIB, f"{grown // _MIB} MiB stay")


# ------------------------------------------------------------------------- names

K6 = Row(
    "K6", "everything SIGKILLed in mid-work", "no name in /dev/shm, /tmp, of System V or POSIX"
)


def _names() -> set[str]:
    """All places where something that outlives its processes could stand."""
    places = ("/dev/shm", "/dev/mqueue", "/tmp", os.environ.get("TMPDIR", "/tmp"), os.getcwd())
    found = {f"{p}/{name}" for p in places if os.path.isdir(p) for name in os.listdir(p)}
    for kind in ("shm", "sem", "msg"):
        with contextlib.suppress(OSError), open(f"/proc/sysvipc/{kind}", encoding="ascii") as file:
            found |= {f"{kind} {line.split()[1]}" for line in file.readlines()[1:]}
    return found


def _work_for_ever() -> None:
    """A program's work with everything that there is, again and again."""
    big = b"\x01" * 300_000

    def send() -> None:
        while True:
            channel.send_pyobj(big, block=True)

    def grow() -> Iterator[bytes]:
        while True:
            yield big

    while True:
        channel = Channel(_MIB)
        with channel, Thread(send) as sender, Generator(grow, prefetch=2) as generator:
            sender.start()
            generator.start()
            for _ in range(10):
                channel.receive_pyobj()
                generator.next()
            snakefish.map(lambda n: big, range(8), concurrency=2)
            snakefish.map(abs, range(4), _nothing, _forget, concurrency=2)


def _kill_session(stage: Stage, leader: int) -> None:
    """Stop every process of a session, so that none can tidy up, then kill them all."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for _ in range(3):
            for member in session_members(leader):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(member.pid, number)
    stage.inject()


@K6.scenario(timeout=60)
def nothing_has_a_name(stage: Stage) -> None:
    """At random moments, the whole family at once."""
    before = _names()
    for _ in stage.times(20):
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                _work_for_ever()
            finally:
                os._exit(1)
        stage.wait_until(lambda pid=pid: len(session_members(pid)) > 2, "does not begin")
        select.select([], [], [], stage.dice.random() * 0.02)
        _kill_session(stage, pid)
        os.waitpid(pid, 0)
        stage.wait_until(lambda pid=pid: not session_members(pid), "somebody survives")
        new = {name for name in _names() - before if str(pid) in name or "snakefish" in name}
        stage.expect(not new, f"leaves {', '.join(sorted(new))}")


def hold_on(number: int) -> int:
    """An item of work that takes longer than its process has."""
    for_ever()


@K6.comparison()
def a_killed_program_leaves_no_name(stage: Stage, library: Library) -> None:
    """All processes of a program that is in a map are gone at once, as when a container ends."""
    source = f"""
        import libraries, leaks
        libraries.{type(library).__name__}().map(leaks.hold_on, range(4))
        """
    places = os.pathsep.join(path for path in sys.path if path)
    before = _names()
    with Program(source, environment={"PYTHONPATH": places}, preamble="") as program:
        stage.wait_until(
            lambda: len(session_members(program.pid)) > libraries.WORKERS, "does not begin"
        )
        select.select([], [], [], 0.3)
        pids = [str(member.pid) for member in session_members(program.pid)]
        _kill_session(stage, program.pid)
    new = [name for name in _names() - before if any(pid in name for pid in pids)]
    for name in new:
        subprocess.run(["rm", "-rf", name], check=True)
    stage.expect(not new, f"leaves {len(new)} name(s), like {new[:1]}")


# --------------------------------------------------------------- through an exec

K7 = Row("K7", "another program is executed", "it inherits no descriptor of ours")

# The descriptor that lists the directory has gone when the others are looked for.
_LIST = """import os
numbers = os.listdir('/proc/self/fd')
print(*[n for n in numbers if int(n) > 2 and os.path.exists('/proc/self/fd/' + n)])"""


def inherited_by_programs(_: object = None) -> list[int]:
    """The descriptors beyond the standard ones that a program executed here has."""
    command = [sys.executable, "-S", "-E", "-c", _LIST]
    found = subprocess.run(command, stdout=subprocess.PIPE, check=True, close_fds=False)
    return [int(number) for number in found.stdout.split()]


def _inheritable() -> list[str]:
    """Our open descriptors beyond the standard ones that lack FD_CLOEXEC."""
    found = []
    for number, target in open_descriptors().items():
        with contextlib.suppress(OSError):
            if number > 2 and not fcntl.fcntl(number, fcntl.F_GETFD) & fcntl.FD_CLOEXEC:
                found.append(target)
    return found


@K7.scenario()
def everything_is_close_on_exec(stage: Stage) -> None:
    """In the parent, in a thread, its child, a generator, workers: while everything is in use."""

    def look() -> list[Any]:
        stage.inject()
        return [*_inheritable(), *inherited_by_programs()]

    def look_below() -> list[Any]:
        with Thread(look) as thread:
            thread.start()
            thread.join()
            return [*look(), *thread.get_result()]

    def looks() -> Iterator[list[Any]]:
        yield look()
        yield look_below()

    with Channel() as channel, Thread(for_ever) as running, Generator(looks) as generator:
        running.start()
        generator.start()
        channel.send_pyobj(1)
        found = [look(), look_below(), generator.next(), generator.next()]
        found += snakefish.map(lambda _: look(), range(2), concurrency=2)
        found += snakefish.map(lambda _: look(), range(2), _nothing, _forget, concurrency=2)
        stage.expect(not any(found), f"inherits {next(filter(None, found), None)}")


@K7.comparison()
def workers_pass_nothing_on(stage: Stage, library: Library) -> None:
    """A program that f executes has nothing but its standard streams."""
    stage.inject()
    here = inherited_by_programs()
    there = library.map(inherited_by_programs, range(3))
    more = [number for found in there for number in found if number not in here]
    stage.expect(not more, f"a program inherits {len(more) // 3} descriptor(s)")


# --------------------------------------------------------------------- references

K8 = Row("K8", "disposed of, or returned from", "f, its arguments and its result are released")


class Token:
    """Something to be referred to; also a function."""

    def __init__(self, size: int = 0) -> None:
        self.payload = b"x" * size

    def __call__(self, *_: object) -> Token:
        return Token(10)


class Carried(Exception):
    """One that can be referred to weakly."""


def _released(stage: Stage, references: list[weakref.ref[Any]], what: str) -> None:
    stage.inject()

    def all_dead() -> bool:
        gc.collect()
        return not any(reference() for reference in references)

    stage.wait_until(all_dead, f"{what} is kept")


@K8.scenario()
def a_thread_lets_go(stage: Stage) -> None:
    """The Thread object lives on; what it had does not."""
    f, argument, extract, merge = Token(), Token(), lambda names: {}, lambda names, other: None
    thread = Thread(f, extract, merge, args=(argument,))
    thread.start()
    thread.join()
    result = thread.get_result()
    thread.dispose()
    references = [weakref.ref(one) for one in (f, argument, extract, merge, result)]
    del f, argument, extract, merge, result
    _released(stage, references, "something of a thread")


@K8.scenario()
def an_exception_lets_go(stage: Stage) -> None:
    def fail() -> None:
        raise Carried("over")

    with Thread(fail) as thread:
        thread.start()
        thread.join()
        reference = weakref.ref(stage.error_of(thread.get_result))
        other = weakref.ref(stage.error_of(thread.get_result))
    function = weakref.ref(fail)
    del fail
    _released(stage, [reference, other, function], "something of an exception")


@K8.scenario()
def a_generator_lets_go(stage: Stage) -> None:
    argument, values = Token(), []

    def make(token: Token) -> Iterator[Token]:
        yield token()
        yield token()

    generator = Generator(make, args=(argument,))
    generator.start()
    values.append(generator.next())
    generator.join()
    generator.dispose()
    references = [weakref.ref(one) for one in (make, argument, values.pop())]
    del make, argument
    _released(stage, references, "something of a generator")


@K8.scenario()
def a_map_lets_go(stage: Stage) -> None:
    for merging in ((), (lambda names: {}, lambda names, other: None)):
        f, items = Token(), [Token(), Token(), Token()]
        results = snakefish.map(f, items, *merging, concurrency=2)
        references = [weakref.ref(one) for one in (f, *items, *results)]
        del f, items, results
        _released(stage, references, "something of a map")


@K8.scenario()
def a_channel_lets_go(stage: Stage) -> None:
    with Channel() as channel:
        sent = Token(200_000)
        channel.send_pyobj(sent)
        received = channel.receive_pyobj()
        references = [weakref.ref(sent), weakref.ref(received)]
        del sent, received
        _released(stage, references, "what went through a channel")


@K8.comparison()
def a_call_lets_go(stage: Stage, library: Library) -> None:
    f, items = Token(), [Token(), Token()]
    results = library.map(f, items)
    results.append(library.call(f))
    references = [weakref.ref(one) for one in (f, *items, *results)]
    del f, items, results
    _released(stage, references, "something of a call")
