# SPDX-License-Identifier: MIT
"""Section D: the parent is disturbed, by signals, by its own death, and by what else it does."""

from __future__ import annotations

import linecache
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Callable

from deadline import SOON, wait_until
from family import bare_fork
from gate import Gate
from libraries import Library
from process_table import children, is_gone, session_members
from row import Row
from scenario import Program, signal_when_asleep
from stage import NO_WAY, Stage, for_ever
from ways import WAYS, Busy, counting, forked, not_merged, nothing_of, start_everything

import snakefish
from snakefish import Channel, Generator, Thread

if TYPE_CHECKING:
    from collections.abc import Iterator

    Blocked = tuple[Callable[[], Any], Any]

PACKAGE = os.path.dirname(os.path.abspath(snakefish.__file__))


def program(source: str) -> Program:
    """A program that finds the modules of the scenarios."""
    return Program(source, environment={"PYTHONPATH": os.environ["PYTHONPATH"]})


def with_library(library: Library, source: str) -> Program:
    """A program that calls `blocked()`, which has *library* run two workers for ever."""
    return program(f"""
from libraries import {type(library).__name__} as Library
from parent_disturbed import announced_for_ever
def blocked():
    Library().map(announced_for_ever, range(2))
{source}
""")


def announced_for_ever(_item: object) -> None:
    """Say that the worker runs, and never return."""
    os.write(1, b"runs\n")
    for_ever()


def two_lines(running: Program) -> None:
    """Wait until both workers run."""
    running.line()
    running.line()


def all_are_gone(stage: Stage, session: int) -> None:
    """Everybody in *session* is dead within a second."""
    begin = time.monotonic()
    stage.wait_until(lambda: not session_members(session), "processes outlive their parent")
    took = time.monotonic() - begin
    stage.expect(took < 3, f"the last process lives {took:.1f} s longer")
    longest = max(took, float(str(stage.facts.get("longest_s", 0))))
    stage.facts["longest_s"] = round(longest, 4)


# --------------------------------------------------------------- Ctrl-C in a call


D1 = Row(
    "D1, D2, D3, D4",
    "Ctrl-C in join, receive, map, next",
    "KeyboardInterrupt within 1 s, nothing lost, the call can be repeated; map reaps its workers",
)


@D1.comparison()
def ctrl_c_ends_a_map(stage: Stage, library: Library) -> None:
    """At a random moment of the call, its start included; and no process is left."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for _ in stage.times(5):

        def interrupted() -> None:
            stage.kill_within(os.getpid(), 0.1, signal.SIGINT)
            library.map(stays, range(4))

        error = stage.quickly(lambda call=interrupted: stage.error_of(call))
        stage.expect(type(error) is KeyboardInterrupt, f"{type(error).__name__} instead")


def stays(_item: object) -> None:
    """Never return."""
    for_ever()


@contextmanager
def blocked_join(gate: Gate) -> Iterator[Blocked]:
    with Thread(lambda: gate.wait() or 42) as thread:
        thread.start()
        yield (lambda: (thread.join(), thread.get_result())[1]), 42


@contextmanager
def blocked_next(gate: Gate) -> Iterator[Blocked]:
    def one() -> Iterator[int]:
        gate.wait()
        yield 42

    with Generator(one) as generator:
        generator.start()
        yield generator.next, 42


@contextmanager
def blocked_join_of_a_generator(gate: Gate) -> Iterator[Blocked]:
    def one() -> Iterator[int]:
        gate.wait()
        yield 42

    with Generator(one) as generator:
        generator.start()
        with suppress(IndexError):
            generator.next(False)  # what it asks for keeps the child at work
        yield (lambda: (generator.join(), generator.get_exit_status())[1]), 0


@contextmanager
def blocked_receive(gate: Gate) -> Iterator[Blocked]:
    with Channel() as channel, Thread(lambda: (gate.wait(), channel.send_pyobj(42))) as sender:
        sender.start()
        yield channel.receive_pyobj, 42
        sender.join()


@contextmanager
def blocked_send(gate: Gate) -> Iterator[Blocked]:
    """An interrupted send has sent nothing, so the repeated one is the only one."""
    with Channel(4096) as channel:
        count = 0
        try:
            while True:
                channel.send_pyobj(count)
                count += 1
        except OverflowError:
            pass

        def receive_all() -> list[int]:
            gate.wait()
            return [channel.receive_pyobj() for _ in range(count + 1)]

        with Thread(receive_all) as receiver:
            receiver.start()
            yield (lambda: channel.send_pyobj("last", block=True)), None
            receiver.join()
            assert receiver.get_result() == [*range(count), "last"]


@contextmanager
def blocked_map(gate: Gate) -> Iterator[Blocked]:
    yield lambda: snakefish.map(lambda n: gate.wait() or n, range(4), concurrency=2), [0, 1, 2, 3]
    assert not children()


@contextmanager
def blocked_map_with_merging(gate: Gate) -> Iterator[Blocked]:
    def call() -> list[int]:
        return snakefish.map(
            lambda n: gate.wait() or n, range(4), nothing_of, not_merged, concurrency=2
        )

    yield call, [0, 1, 2, 3]
    assert not children()


BLOCKED = (
    blocked_join,
    blocked_next,
    blocked_join_of_a_generator,
    blocked_receive,
    blocked_send,
    blocked_map,
    blocked_map_with_merging,
)


@D1.scenario()
def ctrl_c_ends_every_blocking_call(stage: Stage) -> None:
    """Each is interrupted several times while it sleeps, then repeated to its end."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for _ in stage.times(2):
        for blocked in BLOCKED:
            gate = Gate()
            with blocked(gate) as (call, value):
                for _ in range(2):
                    stage.inject()
                    with signal_when_asleep():
                        error = stage.quickly(lambda call=call: stage.error_of(call))
                    stage.expect(
                        type(error) is KeyboardInterrupt,
                        f"{blocked.__name__}: {type(error).__name__}",
                    )
                gate.open()
                stage.expect(call() == value, f"{blocked.__name__} has lost its value")
            gate.close()


WHERE_C_IS_CALLED = r"\blib\.\w+\(|(?<![.\w])(_receive|_send|call)\("


class Interrupter:
    """Interrupts this process again and again while one of its calls is in C.

    Python raises what a handler raises when C returns, and C may then have done all that was
    asked. Elsewhere nothing is raised: between the end of a call and the assignment of what that
    returned nobody can help.
    """

    def __init__(self, stage: Stage, where: str = WHERE_C_IS_CALLED) -> None:
        self._stage = stage
        self._where = re.compile(where)
        self._armed = True

    def __enter__(self) -> Interrupter:
        signal.signal(signal.SIGALRM, self._handle)
        self._again()
        return self

    def __exit__(self, *exception: object) -> None:
        self._armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _again(self) -> None:
        if self._armed:
            signal.setitimer(signal.ITIMER_REAL, 0.00005 + self._stage.dice.random() * 0.0005)

    def _handle(self, _number: int, frame: Any) -> None:
        file, line = frame.f_code.co_filename, frame.f_lineno
        in_c = file.startswith(PACKAGE) and self._where.search(linecache.getline(file, line))
        if in_c and self._armed:
            self._stage.inject()
            raise KeyboardInterrupt
        self._again()

    def persist(self, call: Callable[[], Any]) -> Any:
        """What *call* returns when it is repeated until nothing interrupts it."""
        for _ in range(1000):
            try:
                return call()
            except KeyboardInterrupt:
                self._again()  # not before: there is no second Ctrl-C while one is handled
        raise AssertionError("no call gets through")


@D1.scenario()
def interrupted_in_c_no_message_is_lost(stage: Stage) -> None:
    """Each message of a stream arrives once and in order, whatever line Ctrl-C strikes."""
    for _ in stage.times(1):
        with Channel() as channel:

            def send() -> None:
                for number in range(3000):
                    channel.send_pyobj(number if number % 50 else (number, bytes(200_000)))

            with Thread(send) as sender:
                sender.start()
                with Interrupter(stage) as interrupter:
                    for number in range(3000):
                        message = interrupter.persist(lambda: channel.receive_pyobj(timeout=SOON))
                        seen = message if number % 50 else message[0]
                        stage.expect(seen == number, f"{seen} arrives where {number} was to come")
                sender.join()


@D1.scenario()
def interrupted_in_c_every_message_is_sent_whole(stage: Stage) -> None:
    """Repeated sends that Ctrl-C ended: each message arrives whole and in order.

    It arrives twice if it was on its way already when the exception was raised.
    """
    for _ in stage.times(1):
        sizes = [number if number % 20 else 200_000 + number for number in range(1, 601)]
        with Channel(1 << 20) as channel:

            def receive() -> list[int]:
                seen = [len(channel.receive_pyobj(timeout=SOON))]
                while seen[-1] != sizes[-1]:
                    size = len(channel.receive_pyobj(timeout=SOON))
                    seen += [size] if size != seen[-1] else []
                return seen

            with Thread(receive) as receiver:
                receiver.start()
                with Interrupter(stage) as interrupter:
                    for size in sizes:
                        interrupter.persist(
                            lambda size=size: channel.send_pyobj(bytes(size), block=True)
                        )
                receiver.join()
                stage.expect(receiver.get_result() == sizes, "other messages arrive")


merged = 0


def one_more(_globals: dict[str, Any], _changes: dict[str, Any]) -> None:
    global merged
    merged += 1


@D1.scenario()
def interrupted_in_c_joins_once(stage: Stage) -> None:
    """Joining, looking and getting results go on where they were; a merge happens once."""
    for turn in stage.times(60):
        before = merged
        with Thread(lambda turn=turn: (turn, bytes(turn << 10)), nothing_of, one_more) as thread:
            thread.start()
            with Interrupter(stage) as interrupter:
                interrupter.persist(thread.is_alive)
                interrupter.persist(thread.join)
                result = interrupter.persist(thread.get_result)
            stage.expect(result == (turn, bytes(turn << 10)), "another result")
            stage.expect(thread.get_exit_status() == 0, "another status")
        stage.expect(merged == before + 1, f"merged {merged - before} times")


@D1.scenario()
def interrupted_in_c_no_value_is_lost(stage: Stage) -> None:
    """A generator's values come once each and in order."""
    for prefetch in (0, 3):
        with Generator(counting, prefetch=prefetch) as generator:
            generator.start()
            with Interrupter(stage) as interrupter:
                for number, _ in enumerate(stage.times(400)):
                    value = interrupter.persist(lambda: generator.next(timeout=SOON))
                    stage.expect(value == number, f"{value} comes where {number} was due")
                interrupter.persist(generator.join)
            stage.expect(generator.get_exit_status() == 0, "another status")


@D1.scenario()
def interrupted_in_a_fork_a_start_leaves_nothing(stage: Stage) -> None:
    """The child of a start that Ctrl-C ends is gone; the start can be repeated."""
    for turn in stage.times(12):
        make = (lambda: Thread(for_ever)) if turn % 2 else (lambda: Generator(counting))
        with make() as one:
            with Interrupter(stage, r"sf_process_spawn\(") as interrupter:
                interrupter.persist(lambda one=one: one.pid is None and one.start())
            stage.expect(one.is_alive(), "it does not run")
            stage.expect(children() == {one.pid}, "a child of an earlier try is left")


# ------------------------------------------------------------ the end of the parent


D5 = Row(
    "D5",
    "SIGTERM to the parent",
    "default: its children die with it; with a handler: it unwinds and nothing is left",
)


def workers_die_with_their_parent(stage: Stage, library: Library, number: int) -> None:
    """A signal ends a program whose workers are busy with a call that would never end."""
    with with_library(library, "blocked()") as parent:
        two_lines(parent)
        stage.inject()
        parent.send_signal(number)
        parent.wait()
        all_are_gone(stage, parent.pid)


@D5.comparison(timeout=30)
def sigterm_by_default(stage: Stage, library: Library) -> None:
    """Workers do not outlive a parent that was terminated."""
    workers_die_with_their_parent(stage, library, signal.SIGTERM)


@D5.comparison(timeout=30)
def sigterm_with_a_handler(stage: Stage, library: Library) -> None:
    """A handler that raises SystemExit ends the program by the way of its finally blocks."""
    source = """
signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
try:
    blocked()
finally:
    say("unwound")
"""
    with with_library(library, source) as parent:
        two_lines(parent)
        stage.inject()
        parent.send_signal(signal.SIGTERM)
        ended = stage.quickly(parent.wait)
        stage.expect(ended.status == 5, f"status {ended.status}")
        stage.expect("unwound" in ended.output, "finally blocks did not run")
        all_are_gone(stage, parent.pid)


@D5.scenario()
def sigterm_at_any_moment_with_every_kind_of_child(stage: Stage) -> None:
    """Terminated at a random moment, from its first start on."""
    for _ in stage.times(10):
        ended_at_a_random_moment(stage, signal.SIGTERM)


def ended_at_a_random_moment(stage: Stage, number: int) -> None:
    """Start a family, send its parent a signal while it grows or when it stands."""
    pid = forked(lambda: (start_everything(), for_ever()))
    stage.kill_within(pid, 0.08, number)
    stage.quickly(lambda: os.waitpid(pid, 0), 3)
    all_are_gone(stage, pid)


D6 = Row(
    "D6",
    "the parent is SIGKILLed",
    "children, idle generators, blocked receivers and grandchildren are dead within 1 s",
)


@D6.comparison(timeout=30)
def no_worker_outlives_its_parent(stage: Stage, library: Library) -> None:
    """Workers busy with a call that would never end."""
    workers_die_with_their_parent(stage, library, signal.SIGKILL)


@D6.scenario()
def killed_when_the_family_stands(stage: Stage) -> None:
    """Every kind of child, each in its kind of sleep."""
    for _ in stage.times(5):
        gate = Gate()
        pid = forked(lambda gate=gate: (start_everything(gate.open), for_ever())[0])
        gate.wait()
        gate.close()
        stage.kill(pid)
        os.waitpid(pid, 0)
        all_are_gone(stage, pid)


@D6.scenario(timeout=30)
def killed_at_any_moment_of_a_start(stage: Stage) -> None:
    """At a random moment while the children are being started."""
    for _ in stage.times(40):
        ended_at_a_random_moment(stage, signal.SIGKILL)


@D6.scenario()
def a_child_that_is_killed_takes_its_own_children_along(stage: Stage) -> None:
    """In the middle of a tree too: below it all end, beside it nobody does."""
    for _ in stage.times(10):
        with Channel() as pids, Thread(for_ever) as sibling:

            def grow(depth: int) -> None:
                pids.send_pyobj(os.getpid())
                inner = [Thread(grow, args=(depth - 1,)) for _ in range(2 if depth else 0)]
                for thread in inner:
                    thread.start()
                for_ever()

            with Thread(grow, args=(2,)) as root:
                sibling.start()
                root.start()
                tree = {pids.receive_pyobj(timeout=SOON) for _ in range(7)}
                stage.kill(root.pid)
                stage.quickly(root.join)
                stage.quickly(
                    lambda tree=tree: stage.wait_until(
                        lambda: all(map(is_gone, tree)),
                        "grandchildren live on",
                    )
                )
            stage.expect(sibling.is_alive(), "a sibling has died")


D7 = Row(
    "D7, D8",
    "the parent ends without join: normally, sys.exit, exception, os._exit",
    "no hang, no process left",
)

ENDS = {
    "normally": ("", 0),
    "by sys.exit": ("sys.exit(3)", 3),
    "by an exception": ("raise LookupError", 1),
    "by os._exit": ("os._exit(4)", 4),
}


@D7.comparison(timeout=60)
def the_program_ends_while_a_call_runs(stage: Stage, library: Library) -> None:
    """A daemon thread waits for workers that never come to an end."""
    for way, (end, status) in ENDS.items():
        source = f"""
import threading
threading.Thread(target=blocked, daemon=True).start()
while not os.path.getsize("/proc/self/fd/1") >= 10:
    select.select([], [], [], 0.01)
{end}
"""
        with with_library(library, source) as parent:
            two_lines(parent)
            stage.inject()
            stage.expect(ends_soon(parent), f"the program that ends {way} hangs")
            stage.expect(parent.wait().status == status, f"ends {way} with another status")
            all_are_gone(stage, parent.pid)


def ends_soon(running: Program) -> bool:
    """Whether the program comes to an end."""
    try:
        wait_until(lambda: is_gone(running.pid), "it hangs", SOON / 2)
    except AssertionError:
        return False
    return True


@D7.scenario(timeout=30)
def the_program_ends_without_join(stage: Stage) -> None:
    """With every kind of child still at work, nothing disposed."""
    for _ in stage.times(1):
        for way, (end, status) in ENDS.items():
            with program(f"import ways\nkept = ways.start_everything()\n{end}\n") as parent:
                stage.inject()
                stage.expect(ends_soon(parent), f"the program that ends {way} hangs")
                ended = parent.wait()
                stage.expect(ended.status == status, f"ends {way} with {ended.status}")
                all_are_gone(stage, parent.pid)


@D7.scenario()
def a_child_ends_without_joining_its_own(stage: Stage) -> None:
    """What its children started is gone when the children are."""

    def desert(end: Callable[[], Any]) -> None:
        start_everything()
        end()

    for _ in stage.times(2):
        for end in (lambda: None, sys.exit, lambda: 1 / 0, lambda: os._exit(0)):
            stage.inject()
            pid = forked(lambda end=end: joined(Thread(desert, args=(end,))))
            os.waitpid(pid, 0)
            all_are_gone(stage, pid)


def joined(thread: Thread) -> None:
    """Run a thread to its end."""
    with thread:
        thread.start()
        thread.join()


# ----------------------------------------------------------------- SIGCHLD and wait


D9 = Row(
    "D9",
    "a SIGCHLD handler that reaps everything",
    "no hang, the result is there; the status is right or RuntimeError",
)


def reap_everything(*_: object) -> None:
    """What some programs do in their handler."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


@contextmanager
def sigchld(handler: Any) -> Iterator[None]:
    """Handle SIGCHLD like this for a while."""
    before = signal.signal(signal.SIGCHLD, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


def square(number: int) -> int:
    return number * number


def answer() -> int:
    return 42


@D9.comparison()
def results_arrive_although_all_are_reaped(stage: Stage, library: Library) -> None:
    """Calls and maps give their results while a handler takes every status."""
    with sigchld(reap_everything):
        for _ in stage.times(3):
            stage.inject()
            stage.expect(library.call(answer) == 42, "another result")
            stage.expect(library.map(square, range(5)) == [0, 1, 4, 9, 16], "other results")


def ends_of_every_kind(stage: Stage) -> None:
    """Children return, fail, leave and die while somebody else takes their statuses."""
    kinds: list[tuple[Callable[[], Any], int]] = [
        (answer, 0),
        (lambda: 1 / 0, 0),
        (lambda: os._exit(7), 7),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), -9),
    ]
    for f, status in kinds:
        with Thread(f) as thread:
            stage.inject()
            thread.start()
            ready = select.select([thread], [], [], SOON)[0]
            stage.expect(ready, "its descriptor does not tell the end")
            stage.quickly(thread.join)
            stage.expect(thread.try_join(), "joined, and then not")
            try:
                found = thread.get_exit_status()
            except RuntimeError:
                found = status
            stage.expect(found == status, f"status {found} instead of {status}")
            if f is answer:
                stage.expect(thread.get_result() == 42, "the result is lost")
            else:
                error = stage.error_of(thread.get_result)
                stage.expect(isinstance(error, (RuntimeError, ZeroDivisionError)), f"{error!r}")
    for way in WAYS:
        stage.inject()
        stage.expect(way(answer) == 42, f"{way.__name__} has another result")


@D9.scenario()
def every_end_is_seen_although_all_are_reaped(stage: Stage) -> None:
    """Threads that return, fail, leave, die; generators; maps with and without merging."""
    with sigchld(reap_everything):
        for _ in stage.times(5):
            ends_of_every_kind(stage)


D10 = Row(
    "D10, D11",
    "SIGCHLD ignored; os.wait by the user; a pid used again",
    "join returns, the result is there; a stranger with that pid is never signalled",
)


@D10.comparison()
def results_arrive_although_sigchld_is_ignored(stage: Stage, library: Library) -> None:
    """The kernel keeps no status for anybody."""
    with sigchld(signal.SIG_IGN):
        for _ in stage.times(3):
            stage.inject()
            stage.expect(library.call(answer) == 42, "another result")
            stage.expect(library.map(square, range(5)) == [0, 1, 4, 9, 16], "other results")


def wait_for_anybody() -> None:
    """Reap any child, as a supervisor does."""
    try:
        os.waitpid(-1, 0)
    except ChildProcessError:
        select.select([], [], [], 0.0005)


@D10.comparison()
def results_arrive_although_a_thread_reaps(stage: Stage, library: Library) -> None:
    """Another thread of the program waits for any child at all."""
    with Busy(wait_for_anybody):
        for _ in stage.times(3):
            stage.inject()
            stage.expect(library.call(answer) == 42, "another result")
            stage.expect(library.map(square, range(5)) == [0, 1, 4, 9, 16], "other results")


@D10.scenario()
def every_end_is_seen_although_sigchld_is_ignored(stage: Stage) -> None:
    """The same ends as under a handler that reaps."""
    with sigchld(signal.SIG_IGN):
        for _ in stage.times(5):
            ends_of_every_kind(stage)


@D10.scenario()
def every_end_is_seen_although_a_thread_reaps(stage: Stage) -> None:
    """The same ends while os.waitpid(-1) of another thread competes for each status."""
    with Busy(wait_for_anybody):
        for _ in stage.times(5):
            ends_of_every_kind(stage)


def with_the_pid_of(pid: int) -> int:
    """Fork a process that gets the number *pid*, which must be free; 0 if that is not possible."""
    for _ in range(20):
        try:
            with open("/proc/sys/kernel/ns_last_pid", "w", encoding="ascii") as file:
                file.write(str(pid - 1))
        except OSError as error:
            raise OSError(error.errno, NO_WAY) from error
        stranger = bare_fork(for_ever)
        if stranger == pid:
            return stranger
        os.kill(stranger, signal.SIGKILL)
        os.waitpid(stranger, 0)
    return 0


def ended_with_a_successor(f: Callable[[], Any]) -> tuple[Thread, int]:
    """A Thread whose child is gone, and a process that has its number; 0 if that cannot be had.

    Others on the machine may take the number first, for a long time.
    """
    for _ in range(10):
        thread = Thread(f)
        thread.start()
        os.waitpid(thread.pid, 0)
        stranger = with_the_pid_of(thread.pid)
        if stranger:
            break
        thread.dispose()
    return thread, stranger


def lives(pid: int) -> bool:
    """Whether this child of ours runs."""
    return os.waitpid(pid, os.WNOHANG) == (0, 0)


@D10.scenario()
def a_stranger_with_the_same_pid_is_left_alone(stage: Stage) -> None:
    """The child is gone and reaped by somebody else, and its number is another process's."""
    for turn in stage.times(8):
        thread, stranger = ended_with_a_successor(answer if turn % 2 else lambda: os._exit(3))
        stage.expect(stranger, "no process gets that number here")
        stage.inject()
        if turn % 4 < 2:
            thread.kill(signal.SIGKILL)
            thread.kill(signal.SIGTERM)
            stage.expect(not thread.is_alive(), "the stranger is taken for the child")
            stage.quickly(thread.join)
        thread.dispose()
        stage.expect(lives(stranger), "the stranger was killed or reaped")
        os.kill(stranger, signal.SIGKILL)
        os.waitpid(stranger, 0)


D12 = Row("D12", "subprocess and other people's children", "their statuses stay theirs")


@D12.comparison()
def their_statuses_stay_theirs(stage: Stage, library: Library) -> None:
    """Children that end before, during and after a call are there for those who made them."""
    for _ in stage.times(2):
        stage.inject()
        gate = Gate()
        leaves = subprocess.Popen([sys.executable, "-S", "-c", "raise SystemExit(3)"])
        waits = os.fork()
        if waits == 0:
            try:
                gate.wait()
            finally:
                os._exit(4)
        ends = os.spawnv(os.P_NOWAIT, "/bin/sh", ["sh", "-c", "exit 5"])
        library.map(square, range(5))
        gate.open()
        library.call(answer)
        for pid, status in ((waits, 4), (ends, 5)):
            found = os.waitpid(pid, 0)[1] >> 8
            stage.expect(found == status, f"status {found} instead of {status}")
        stage.expect(leaves.wait() == 3, f"subprocess says {leaves.returncode}")
        gate.close()


@D12.scenario()
def they_live_through_every_way_of_ours(stage: Stage) -> None:
    """Also while ours are killed, disposed of and waited for in every way."""
    for _ in stage.times(5):
        others = [os.spawnv(os.P_NOWAIT, "/bin/sh", ["sh", "-c", f"exit {n}"]) for n in (1, 2, 3)]
        ends_of_every_kind(stage)
        with Thread(for_ever) as thread:
            thread.start()
        found = [os.waitpid(pid, 0)[1] >> 8 for pid in others]
        stage.expect(found == [1, 2, 3], f"statuses {found}")


# ------------------------------------------------------------- signals without end


D13 = Row(
    "D13",
    "a signal every 500 us",
    "nothing fails; Python's handlers run during every blocking call",
)


class Storm:
    """A handled signal every 500 us, for as long as it is entered."""

    def __init__(self) -> None:
        self.count = 0

    def _handle(self, *_: object) -> None:
        self.count += 1

    def __enter__(self) -> Storm:
        signal.signal(signal.SIGALRM, self._handle)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        return self

    def __exit__(self, *exception: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)


def slow_square(number: int) -> int:
    select.select([], [], [], 0.005)
    return number * number


@D13.comparison()
def maps_and_calls_go_on(stage: Stage, library: Library) -> None:
    """A parent in a storm gets its results."""
    with Storm() as storm:
        for _ in stage.times(3):
            stage.expect(library.call(answer) == 42, "another result")
            results = library.map(slow_square, range(20))
            stage.expect(results == [n * n for n in range(20)], "other results")
    stage.injected += storm.count


@D13.scenario()
def handlers_run_during_every_blocking_call(stage: Stage) -> None:
    """Each is held up until a handler has run a hundred times, and then ends as ever."""
    for _ in stage.times(1):
        for blocked in BLOCKED:
            gate = Gate()
            with blocked(gate) as (call, value), Opener(gate, 100) as storm:
                stage.expect(call() == value, f"{blocked.__name__} has another value")
            stage.expect(storm.count >= 100, f"{blocked.__name__}: {storm.count} handlers ran")
            stage.injected += storm.count
            gate.close()


class Opener(Storm):
    """A storm that opens a gate with its n-th handler: who waits for that runs handlers."""

    def __init__(self, gate: Gate, number: int) -> None:
        super().__init__()
        self._gate = gate
        self._number = number

    def _handle(self, *_: object) -> None:
        super()._handle()
        if self.count == self._number:
            self._gate.open()


@D13.scenario()
def a_storm_in_parent_and_child(stage: Stage) -> None:
    """Starts, large messages, full channels, values and ends, with both sides in a storm."""
    with Channel(1 << 16) as channel:

        def send() -> int:
            with Storm() as storm:
                for number in range(200):
                    channel.send_pyobj((number, bytes(number * 50)), block=True, timeout=SOON)
            return storm.count

        with Storm() as storm:
            for _ in stage.times(1):
                with Thread(send) as sender:
                    sender.start()
                    seen = [channel.receive_pyobj(timeout=SOON) for _ in range(200)]
                    sender.join(SOON)
                    stage.injected += sender.get_result()
                    expected = [(n, bytes(n * 50)) for n in range(200)]
                    stage.expect(seen == expected, "other messages")
            for _ in stage.times(3):
                ends_of_every_kind(stage)
                with Generator(counting, prefetch=2) as generator:
                    generator.start()
                    values = [generator.next(timeout=SOON) for _ in range(100)]
                    generator.join(SOON)
                    stage.expect(values == list(range(100)), "other values")
                with Thread(lambda: bytes(8 << 20)) as thread:
                    thread.start()
                    thread.join(SOON)
                    stage.expect(len(thread.get_result()) == 8 << 20, "another result")
                with Thread(for_ever) as thread:
                    thread.start()
                    stage.expect(not thread.try_join(), "joined while it runs")
        stage.injected += storm.count


D14 = Row("D14", "Ctrl-C at the terminal, for the whole group", "all are gone in seconds")


@D14.comparison(timeout=30)
def ctrl_c_at_the_terminal_ends_all(stage: Stage, library: Library) -> None:
    """The program and its workers get SIGINT at once."""
    source = "signal.signal(signal.SIGINT, signal.default_int_handler)\nblocked()"
    with with_library(library, source) as parent:
        two_lines(parent)
        stage.inject()
        parent.send_signal_to_all(signal.SIGINT)
        stage.expect(ends_soon(parent), "the program hangs")
        all_are_gone(stage, parent.pid)


@D14.scenario(timeout=30)
def ctrl_c_at_any_moment_ends_the_whole_family(stage: Stage) -> None:
    """At a random moment while children of every kind are being started, or when they stand."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for turn in stage.times(20):
        gate = Gate()

        def live() -> None:
            gate.open()
            kept = start_everything()
            try:
                for_ever()
            finally:
                for one in kept if turn % 2 else []:
                    one.dispose()

        pid = forked(live)
        gate.wait()
        select.select([], [], [], stage.dice.random() * 0.06)
        stage.inject()
        os.killpg(pid, signal.SIGINT)
        _, status = stage.quickly(lambda pid=pid: os.waitpid(pid, 0), 2)
        stage.expect(status == 0, f"the parent ended with {status}")
        all_are_gone(stage, pid)
        gate.close()


D15 = Row("D15", "other Python threads while one blocks", "they go on")


@D15.comparison()
def a_thread_goes_on_while_a_map_blocks(stage: Stage, library: Library) -> None:
    """A thread counts while the main thread waits for results."""
    moments: list[float] = []

    def count() -> None:
        moments.append(time.monotonic())
        select.select([], [], [], 0.001)

    with Busy(count):
        stage.inject()
        begin = time.monotonic()
        library.map(slow_square, range(40))
        end = time.monotonic()
    inside = [moment for moment in moments if begin <= moment <= end]
    longest = max(b - a for a, b in zip([begin, *inside], [*inside, end]))
    stage.expect(longest < 0.1, f"threads stand still for {longest:.2f} s")


@D15.scenario()
def threads_go_on_during_every_blocking_call(stage: Stage) -> None:
    """Another thread ends the wait: if it were held up, the call would never return."""
    for _ in stage.times(2):
        for blocked in BLOCKED:
            gate = Gate()
            with blocked(gate) as (call, value):
                stage.inject()
                opener = threading.Thread(target=open_when_main_sleeps, args=(gate,))
                opener.start()
                stage.expect(call() == value, f"{blocked.__name__} has another value")
                opener.join()
            gate.close()


def open_when_main_sleeps(gate: Gate) -> None:
    """Run a while beside the main thread, then open the gate it waits for."""
    for _ in range(50):
        select.select([], [], [], 0.0005)
    gate.open()
