# SPDX-License-Identifier: MIT
"""Thread: a function in a child process that feels like a thread."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import functools
import gc
import multiprocessing.util
import operator
import os
import pickle
import resource
import select
import selectors
import signal
import sys
import threading
import traceback
import types
import weakref
from typing import TYPE_CHECKING, Any, Callable, ClassVar, NoReturn

import pytest
from deadline import SOON, wait_until
from process_table import children, is_gone, open_descriptors, session_members, state
from scenario import Program, output_of, run_program, signal_when_asleep
from troubles import (
    UNTRAVELLED,
    UNTRAVELLED_NAMES,
    BeyondException,
    CannotBeShown,
    Complaint,
    DiesInPickling,
    FailsToPickle,
    FailsToRebuild,
    InterruptsOnRebuild,
    LeavesOnRebuild,
)

from snakefish import SnakefishError, Thread
from snakefish._errors import StatusUnknownError

if TYPE_CHECKING:
    from collections.abc import Iterator

IS_PYPY = sys.implementation.name == "pypy"
total = 0
merges = 0
delta: dict[str, Any] = {"itemized": 1}


@pytest.fixture(autouse=True)
def fresh_globals() -> None:
    global total, merges
    total = merges = 0
    globals().pop("itemized", None)


def keep_total(namespace: dict[str, Any]) -> dict[str, Any]:
    return {"total": namespace["total"]}


def add_total(namespace: dict[str, Any], extracted: dict[str, Any]) -> None:
    namespace["total"] += extracted["total"]
    namespace["merges"] += 1


def set_total(value: int) -> int:
    global total
    total = value
    return value


def for_ever() -> NoReturn:
    while True:
        select.select([], [], [], 0.1)  # a signal just before signal.pause() would be missed


def started(f: Callable[..., Any], *arguments: Any, **keywords: Any) -> Thread:
    thread = Thread(f, *arguments, **keywords)
    thread.start()
    return thread


def joined(f: Callable[..., Any], *arguments: Any, **keywords: Any) -> Thread:
    thread = started(f, *arguments, **keywords)
    thread.join()
    return thread


def result_of(f: Callable[..., Any], **keywords: Any) -> Any:
    with joined(f, **keywords) as thread:
        return thread.get_result()


def die_by(number: int) -> None:
    faulthandler.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
    os.kill(os.getpid(), number)
    for_ever()


def status_if_known(thread: Thread) -> int | None:
    """The exit status, or None for the RuntimeError that nobody knows it."""
    try:
        return thread.get_exit_status()
    except StatusUnknownError:
        return None


def raising(error: BaseException) -> NoReturn:
    raise error


class TestConstructor:
    """Thread(f), Thread(f, extract, merge)."""

    def test_takes_a_function(self) -> None:
        """A function alone is enough."""
        assert result_of(lambda: 42) == 42

    def test_takes_extract_and_merge_by_position(self) -> None:
        """The second and third argument are extract and merge."""
        joined(lambda: set_total(5), keep_total, add_total).dispose()
        assert total == 5

    def test_takes_extract_and_merge_by_keyword(self) -> None:
        """They go by their names as well."""
        joined(lambda: set_total(5), extract=keep_total, merge=add_total).dispose()
        assert total == 5

    def test_args_are_passed_to_f(self) -> None:
        """The items of args are the positional arguments of f."""
        assert result_of(lambda a, b: (a, b), args=(1, "two")) == (1, "two")

    def test_kwargs_are_passed_to_f(self) -> None:
        """The items of kwargs are the keyword arguments of f."""
        assert result_of(lambda a, *, b: (a, b), args=(1,), kwargs={"b": 2}) == (1, 2)

    def test_args_kwargs_and_name_are_keyword_only(self) -> None:
        """A fourth positional argument is refused."""
        with pytest.raises(TypeError):
            Thread(int, keep_total, add_total, ())  # type: ignore[misc]

    def test_name_is_kept(self) -> None:
        """The name given is the thread's name."""
        with Thread(int, name="worker seven") as thread:
            assert thread.name == "worker seven"

    @pytest.mark.parametrize("what", [None, 42, "f", [len]])
    def test_refuses_what_cannot_be_called(self, what: Any, no_fork: None) -> None:
        """What is not callable is a TypeError of the constructor."""
        with pytest.raises(TypeError):
            Thread(what)

    @pytest.mark.parametrize(("args", "kwargs"), [((1,), None), ((), {"a": 1})])
    def test_refuses_arguments_that_do_not_fit(self, args: Any, kwargs: Any) -> None:
        """Arguments that f cannot take are a TypeError of the constructor."""
        with pytest.raises(TypeError):
            Thread(lambda: None, args=args, kwargs=kwargs)

    def test_takes_no_process_and_no_descriptor(self, no_fork: None) -> None:
        """Two thousand threads that are not started hold neither processes nor descriptors."""
        before = open_descriptors()
        threads = [Thread(int) for _ in range(2000)]
        assert open_descriptors() == before
        assert not children()
        for thread in threads:
            thread.dispose()

    def test_callables_of_every_kind_run(self) -> None:
        """Builtins, partials, methods, classes and callable objects run like functions."""
        assert result_of(int) == 0
        assert result_of(functools.partial(divmod, 7, 2)) == (3, 1)
        assert result_of("abc".upper) == "ABC"
        assert result_of(operator.methodcaller("title"), args=("abc",)) == "Abc"


class TestStart:
    """Thread.start()."""

    def test_runs_f_in_a_child(self) -> None:
        """f runs in another process, whose parent is this one."""
        pid, parent = result_of(lambda: (os.getpid(), os.getppid()))
        assert pid != os.getpid()
        assert parent == os.getpid()

    def test_closures_and_live_objects_just_work(self) -> None:
        """What cannot be pickled is there in the child: closures, locks, generators, files."""
        lock, steps = threading.Lock(), iter([1, 2, 3])
        next(steps)
        with open(__file__, encoding="utf-8") as file:
            seen = result_of(lambda: (lock.acquire(), next(steps), bool(file.read())))
        assert seen == (True, 2, True)

    def test_changes_in_the_child_stay_there(self) -> None:
        """Without extract and merge, the parent's objects stay as they were."""
        mine = [1]
        result_of(lambda: mine.append(2))
        assert mine == [1]

    def test_second_start_is_refused(self) -> None:
        """A thread starts once: running or joined, RuntimeError."""
        with started(int) as thread:
            with pytest.raises(RuntimeError) as caught:
                thread.start()
            assert isinstance(caught.value, SnakefishError)
            thread.join()
            with pytest.raises(RuntimeError):
                thread.start()

    def test_failed_fork_is_a_runtime_error_and_can_be_tried_again(self) -> None:
        """With no process to be had, start raises and leaks nothing; later it works."""
        assert output_of("""
            import resource
            from process_table import open_descriptors
            thread = Thread(lambda: 42)
            with Thread(int) as first:
                first.start()
                first.join()
            user, limits = 54321, resource.getrlimit(resource.RLIMIT_NPROC)
            before = open_descriptors()
            read, write = os.pipe()
            if os.getuid() == 0:
                os.setresuid(user, user, 0)
            resource.setrlimit(resource.RLIMIT_NPROC, (0, limits[1]))
            for attempt in range(3):
                try:
                    thread.start()
                except RuntimeError as error:
                    say(isinstance(error, snakefish.SnakefishError), thread.is_alive())
            os.close(read), os.close(write)
            resource.setrlimit(resource.RLIMIT_NPROC, limits)
            say(open_descriptors() == before)
            thread.start()
            thread.join()
            say(thread.get_result())
            """) == ["True False"] * 3 + ["True", "42"]

    def test_failed_fork_names_its_errno(self) -> None:
        """The error says why the fork failed."""
        assert output_of("""
            import errno, resource
            if os.getuid() == 0:
                os.setuid(54321)
            resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
            try:
                Thread(int).start()
            except RuntimeError as error:
                say(os.strerror(errno.EAGAIN) in str(error) or "EAGAIN" in str(error))
            """) == ["True"]

    def test_without_descriptors_it_fails_clearly_or_works(self) -> None:
        """Whichever descriptor is the one too many: a result or an OSError or RuntimeError."""
        assert output_of("""
            import resource
            from process_table import open_descriptors
            Channel().dispose()
            before = open_descriptors()
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            for spare in range(10):
                resource.setrlimit(resource.RLIMIT_NOFILE, (max(before) + 1 + spare, hard))
                try:
                    with Thread(lambda: 42) as thread:
                        thread.start()
                        thread.join()
                        assert thread.get_result() == 42
                except (OSError, RuntimeError):
                    pass
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            with Thread(lambda: 42) as thread:
                thread.start()
                thread.join()
                say(thread.get_result())
            say(len(open_descriptors()) - len(before) <= 2)
            """) == ["42", "True"]

    def test_works_within_400_megabytes_of_address_space(self) -> None:
        """A thread that returns 42 needs no gigabytes of address space."""
        assert output_of("""
            import resource
            resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))
            with Thread(lambda: 42) as thread:
                thread.start()
                thread.join()
                say(thread.get_result())
            """) == ["42"]

    def test_works_under_a_limit_on_file_size(self) -> None:
        """A limit on the size of files does not matter: no file is written."""
        assert (
            output_of("""
            import resource
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
            with Thread(lambda: bytes(1 << 20)) as thread:
                thread.start()
                thread.join()
                os.write(os.memfd_create("out"), b"") if hasattr(os, "memfd_create") else None
                result = thread.get_result()
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            sys.exit(0 if len(result) == 1 << 20 else 1)
            """)
            == []
        )

    def test_works_without_a_working_or_temporary_directory(self, tmp_path: Any) -> None:
        """The current directory may be gone, and no directory for temporary files be there."""
        assert output_of(
            f"""
            os.mkdir({str(tmp_path / "gone")!r})
            os.chdir({str(tmp_path / "gone")!r})
            os.rmdir({str(tmp_path / "gone")!r})
            with Thread(lambda: 42) as thread:
                thread.start()
                thread.join()
                say(thread.get_result())
            """,
            environment={"TMPDIR": "/nowhere/at/all"},
        ) == ["42"]

    def test_descriptors_of_ours_do_not_survive_exec(self) -> None:
        """What a running child costs in descriptors is closed in programs started by exec."""
        before = open_descriptors()
        with started(for_ever):
            ours = set(open_descriptors()) - set(before)
            assert ours
            assert not any(os.get_inheritable(descriptor) for descriptor in ours)

    def test_a_running_child_costs_one_descriptor(self) -> None:
        """Twenty running children take twenty descriptors of their parent."""
        before = len(open_descriptors())
        threads = [started(for_ever) for _ in range(20)]
        assert len(open_descriptors()) - before <= 20
        for thread in threads:
            thread.dispose()

    def test_hundred_at_once_all_deliver(self) -> None:
        """A hundred threads at once each bring their own result."""
        threads = [started(lambda n: n * n, args=(n,)) for n in range(100)]
        for thread in threads:
            thread.join()
        assert [thread.get_result() for thread in threads] == [n * n for n in range(100)]
        for thread in threads:
            thread.dispose()

    def test_two_hundred_in_sequence_leave_nothing(self) -> None:
        """Thread after thread, descriptors and children stay as many as they were."""
        before = open_descriptors()
        for n in range(200):
            assert result_of(lambda n=n: n) == n
        assert open_descriptors() == before
        assert not children()

    def test_threads_start_threads_to_any_depth(self) -> None:
        """A child starts a child that starts a child, and the results come back up."""

        def descend(depth: int) -> int:
            return 1 + result_of(descend, args=(depth - 1,)) if depth else 0

        assert descend(5) == 5

    def test_a_thread_started_elsewhere_than_made_belongs_there(self) -> None:
        """What a child inherits unstarted, it cannot start: RuntimeError there, fine here."""
        with Thread(lambda: 42) as inherited:

            def start_it() -> str:
                try:
                    inherited.start()
                except RuntimeError:
                    return "refused"
                return "started"

            assert result_of(start_it) == "refused"
            inherited.start()
            inherited.join()
            assert inherited.get_result() == 42


class TestJoin:
    """Thread.join(timeout)."""

    def test_blocks_until_the_child_has_ended(self, gate: Any) -> None:
        """join returns after f is through, not before."""
        with started(gate.wait) as thread:
            opener = threading.Timer(0.1, gate.open)
            opener.start()
            thread.join()
            assert gate.is_open()
            assert is_gone(thread.pid)
            opener.join()

    def test_then_merges(self) -> None:
        """Once the child has ended, what extract kept is merged."""
        with started(lambda: set_total(7), keep_total, add_total) as thread:
            assert total == 0
            thread.join()
            assert total == 7

    def test_timeout_raises_and_leaves_it_joinable(self, gate: Any) -> None:
        """A join that takes too long is a TimeoutError; a later one works and merges."""
        with started(lambda: (gate.wait(), set_total(3)), keep_total, add_total) as thread:
            for _ in range(2):
                with pytest.raises(TimeoutError) as caught:
                    thread.join(timeout=0.02)
                assert isinstance(caught.value, SnakefishError)
            assert thread.is_alive()
            gate.open()
            thread.join(timeout=SOON)
            assert thread.get_exit_status() == 0
            assert total == 3

    def test_timeout_of_a_child_that_has_ended_is_not_raised(self) -> None:
        """With the child gone, no time at all is time enough."""
        with started(int) as thread:
            wait_until(lambda: not thread.is_alive(), "the child goes on")
            thread.join(timeout=0)
            assert thread.get_result() == 0

    def test_before_start_is_refused(self) -> None:
        """What was not started cannot be joined: RuntimeError."""
        with Thread(int) as thread, pytest.raises(RuntimeError) as caught:
            thread.join()
        assert isinstance(caught.value, SnakefishError)

    def test_again_is_a_no_op(self) -> None:
        """Every later join returns at once."""
        with joined(int) as thread:
            thread.join()
            thread.join(timeout=0)

    def test_merges_exactly_once(self) -> None:
        """However often it is joined or tried, merge runs once."""
        with started(lambda: set_total(2), keep_total, add_total) as thread:
            wait_until(thread.try_join, "the child goes on")
            thread.join()
            assert thread.try_join()
            thread.join()
        assert (total, merges) == (2, 1)

    def test_from_the_child_is_refused(self) -> None:
        """A child cannot join its own thread, or its sister: RuntimeError there."""
        with started(for_ever) as sister:

            def join_sister() -> str:
                try:
                    sister.join(timeout=SOON)
                except RuntimeError:
                    return "refused"
                return "joined"

            assert result_of(join_sister) == "refused"
            assert sister.is_alive()

    def test_from_several_threads_at_once(self) -> None:
        """Concurrent joins end together; the merge still happens once."""
        failures = []
        with started(lambda: set_total(4), keep_total, add_total) as thread:

            def join() -> None:
                try:
                    thread.join()
                except RuntimeError as error:
                    failures.append(error)

            joiners = [threading.Thread(target=join) for _ in range(4)]
            for joiner in joiners:
                joiner.start()
            for joiner in joiners:
                joiner.join()
            assert len(failures) < 4
            assert (total, merges, thread.get_result()) == (4, 1, 4)

    def test_of_one_waits_for_no_other(self) -> None:
        """A brother that runs for ever does not hold up the join of a later one."""
        with started(for_ever), started(int) as quick:
            quick.join(timeout=SOON)
            assert quick.get_result() == 0

    def test_lets_other_threads_run(self, gate: Any) -> None:
        """While one thread of the parent is in join, the others go on."""
        with started(gate.wait) as thread:
            joiner = threading.Thread(target=thread.join)
            joiner.start()
            assert sum(range(100000)) == 4999950000
            assert joiner.is_alive()
            gate.open()
            joiner.join(SOON)
            assert not joiner.is_alive()

    def test_ctrl_c_interrupts_it_and_nothing_is_lost(self, gate: Any) -> None:
        """KeyboardInterrupt leaves join at once; the thread can be joined again."""
        with started(lambda: (gate.wait(), set_total(6))[1], keep_total, add_total) as thread:
            with pytest.raises(KeyboardInterrupt), signal_when_asleep():
                thread.join()
            assert thread.is_alive()
            gate.open()
            thread.join()
            assert (thread.get_result(), total) == (6, 6)

    def test_signal_handlers_run_while_it_waits(self, gate: Any) -> None:
        """A Python signal handler runs during join, which then goes on."""
        before = signal.signal(signal.SIGUSR1, lambda number, frame: gate.open())
        try:
            with started(gate.wait) as thread, signal_when_asleep(signal.SIGUSR1):
                thread.join()
                assert thread.get_exit_status() == 0
        finally:
            signal.signal(signal.SIGUSR1, before)

    def test_works_in_a_storm_of_signals(self) -> None:
        """A signal every half millisecond disturbs nothing, and its handler runs."""
        assert output_of("""
            ticks = []
            signal.signal(signal.SIGALRM, lambda number, frame: ticks.append(number))
            signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
            for n in range(30):
                with Thread(lambda: sum(range(20000)) + n) as thread:
                    thread.start()
                    thread.join()
                    assert thread.get_result() == sum(range(20000)) + n
            signal.setitimer(signal.ITIMER_REAL, 0)
            say(len(ticks) > 10)
            """) == ["True"]

    def test_ends_at_once_when_the_child_is_killed(self) -> None:
        """A SIGKILL to a computing child ends a join that is already waiting."""
        with started(for_ever) as thread:
            killer = threading.Timer(0.05, thread.kill, [signal.SIGKILL])
            killer.start()
            thread.join(timeout=SOON)
            assert thread.get_exit_status() == -signal.SIGKILL
            killer.join()

    def test_works_when_a_handler_reaps_every_child(self) -> None:
        """With a SIGCHLD handler that reaps all, join returns and the result is there."""
        assert output_of("""
            def reap(number, frame):
                try:
                    while os.waitpid(-1, os.WNOHANG)[0]:
                        pass
                except ChildProcessError:
                    pass
            signal.signal(signal.SIGCHLD, reap)
            for n in range(20):
                with Thread(lambda: n) as thread:
                    thread.start()
                    thread.join()
                    assert thread.get_result() == n
                    try:
                        assert thread.get_exit_status() == 0
                    except RuntimeError:
                        pass
            say("through")
            """) == ["through"]

    def test_works_when_sigchld_is_ignored(self) -> None:
        """With SIGCHLD ignored the kernel reaps; join returns and the result is there."""
        assert output_of("""
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            with Thread(lambda: 42) as thread:
                thread.start()
                thread.join()
                say(thread.get_result())
            with Thread(for_ever) as thread:
                thread.start()
                thread.kill(signal.SIGKILL)
                thread.join()
                try:
                    say(thread.get_exit_status())
                except RuntimeError:
                    say(-9)
            """) == ["42", "-9"]

    def test_works_when_somebody_else_took_the_status(self) -> None:
        """After an os.waitpid of the user's, join returns and the result is not lost."""
        with started(lambda: 42) as thread:
            os.waitpid(thread.pid, 0)
            thread.join()
            assert thread.get_result() == 42
            assert status_if_known(thread) in (0, None)


class TestTryJoin:
    """Thread.try_join()."""

    def test_false_while_it_runs(self, gate: Any) -> None:
        """It does not wait: a running child is False."""
        with started(gate.wait) as thread:
            assert thread.try_join() is False
            gate.open()
            thread.join()

    def test_true_once_it_has_ended(self) -> None:
        """An ended child is joined and True."""
        with started(lambda: 3) as thread:
            wait_until(lambda: not thread.is_alive(), "the child goes on")
            assert thread.try_join() is True
            assert thread.get_result() == 3

    def test_true_for_ever_after(self) -> None:
        """Joined by join or by itself, it is True and never False again."""
        with joined(int) as thread:
            assert all(thread.try_join() is True for _ in range(3))

    def test_merges(self) -> None:
        """The try that joins also merges."""
        with started(lambda: set_total(8), keep_total, add_total) as thread:
            wait_until(thread.try_join, "the child goes on")
            assert total == 8

    def test_before_start_is_refused(self) -> None:
        """What was not started cannot be joined: RuntimeError."""
        with Thread(int) as thread, pytest.raises(RuntimeError):
            thread.try_join()

    def test_a_large_result_needs_no_join(self) -> None:
        """A child with a result larger than any buffer ends although nobody is in join."""
        with started(lambda: bytes(30 << 20)) as thread:
            wait_until(thread.try_join, "the child goes on")
            assert len(thread.get_result()) == 30 << 20

    def test_a_stopped_child_is_not_joined(self) -> None:
        """A stopped child lives: False at once; continued, it ends."""
        with started(for_ever) as thread:
            thread.kill(signal.SIGSTOP)
            wait_until(lambda: state(thread.pid) == "T", "the child goes on")
            assert thread.try_join() is False
            assert thread.is_alive()
            thread.kill(signal.SIGCONT)
            thread.kill(signal.SIGTERM)
            thread.join()
            assert thread.get_exit_status() == -signal.SIGTERM


class TestIsAlive:
    """Thread.is_alive()."""

    def test_false_before_start(self) -> None:
        """What was not started does not live."""
        with Thread(int) as thread:
            assert thread.is_alive() is False

    def test_true_while_it_runs(self) -> None:
        """A started child lives until it ends."""
        with started(for_ever) as thread:
            assert thread.is_alive() is True

    def test_false_once_it_has_ended_even_before_a_join(self) -> None:
        """The truth, whether anybody has joined or not."""
        with started(int) as thread:
            wait_until(lambda: not thread.is_alive(), "the child lives on")
            assert is_gone(thread.pid)
            thread.join()
            assert thread.is_alive() is False

    def test_false_once_it_was_killed_even_before_a_join(self) -> None:
        """A killed child does not live, joined or not."""
        with started(for_ever) as thread:
            thread.kill(signal.SIGKILL)
            wait_until(lambda: not thread.is_alive(), "the child lives on")

    def test_false_with_a_large_result_that_nobody_took(self) -> None:
        """A child whose result is large ends as well, without any join."""
        with started(lambda: bytes(30 << 20)) as thread:
            wait_until(lambda: not thread.is_alive(), "the child lives on")


class TestGetExitStatus:
    """Thread.get_exit_status()."""

    def test_zero_after_a_normal_end(self) -> None:
        """A function that returns has ended well, whatever it returned."""
        with joined(lambda: 17) as thread:
            assert thread.get_exit_status() == 0

    def test_zero_after_an_exception(self) -> None:
        """An exception is the result; the child ended well."""
        with joined(lambda: 1 // 0) as thread:
            assert thread.get_exit_status() == 0

    @pytest.mark.parametrize("code", [0, 1, 7, 255])
    def test_the_code_after_os_exit(self, code: int) -> None:
        """os._exit(n) is status n."""
        with joined(lambda: os._exit(code)) as thread:
            assert thread.get_exit_status() == code

    @pytest.mark.parametrize(
        ("argument", "status"), [(None, 0), (0, 0), (3, 3), (True, 1), (256, 0), (-1, 255)]
    )
    def test_as_sys_exit_defines_it(self, argument: Any, status: int) -> None:
        """SystemExit gives the status that a program would end with."""
        with joined(lambda: sys.exit(argument)) as thread:
            assert thread.get_exit_status() == status

    def test_one_after_sys_exit_with_a_text(self, capfd: Any) -> None:
        """sys.exit of anything else is status 1."""
        with joined(lambda: sys.exit("no")) as thread:
            assert thread.get_exit_status() == 1

    @pytest.mark.parametrize(
        "number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGUSR1, signal.SIGPIPE]
    )
    def test_minus_n_after_signal_n(self, number: int) -> None:
        """Signal N is status -N."""
        with joined(lambda: die_by(number)) as thread:
            assert thread.get_exit_status() == -number

    def test_minus_six_after_abort(self) -> None:
        """abort() in f is SIGABRT."""

        def abort() -> None:
            faulthandler.disable()
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.abort()

        with joined(abort) as thread:
            assert thread.get_exit_status() == -signal.SIGABRT

    def test_before_start_and_before_join_is_refused(self) -> None:
        """Until it is joined there is no status: RuntimeError."""
        with Thread(int) as thread:
            with pytest.raises(RuntimeError):
                thread.get_exit_status()
            thread.start()
            wait_until(lambda: not thread.is_alive(), "the child lives on")
            with pytest.raises(RuntimeError) as caught:
                thread.get_exit_status()
            assert isinstance(caught.value, SnakefishError)
            thread.join()

    def test_unknown_is_a_runtime_error_and_the_result_is_still_there(self) -> None:
        """A status that another took is found again or a RuntimeError; the result stays."""
        with started(lambda: os._exit(5)) as thread:
            os.waitpid(thread.pid, 0)
            thread.join()
            assert status_if_known(thread) in (5, None)

    def test_one_of_many_dies_alone(self) -> None:
        """The death of one is the status of that one only."""
        threads = [started(for_ever if n == 3 else int) for n in range(6)]
        threads[3].kill(signal.SIGKILL)
        for thread in threads:
            thread.join()
        assert [t.get_exit_status() for t in threads] == [0, 0, 0, -signal.SIGKILL, 0, 0]
        for thread in threads:
            thread.dispose()

    def test_killed_at_once_is_killed_or_complete(self) -> None:
        """A kill right after the start ends in -9, or in 0 with the result."""
        for _ in range(20):
            with started(lambda: 42) as thread:
                with contextlib.suppress(ProcessLookupError, RuntimeError):
                    thread.kill(signal.SIGKILL)
                thread.join()
                if thread.get_exit_status() == 0:
                    assert thread.get_result() == 42
                else:
                    assert thread.get_exit_status() == -signal.SIGKILL


class TestGetResult:
    """Thread.get_result()."""

    @pytest.mark.parametrize(
        "value",
        [
            None,
            False,
            True,
            0,
            -(1 << 200),
            1.5,
            "ä\0z",
            b"\0x",
            bytearray(b"y"),
            (1, [2]),
            {3: {4}},
        ],
        ids=repr,
    )
    def test_is_what_f_returned(self, value: Any) -> None:
        """Values arrive equal and of the same type."""
        result = result_of(lambda: value)
        assert result == value
        assert type(result) is type(value)

    def test_may_hold_buffers_that_pickle_hands_over(self) -> None:
        """What pickles out of band, as arrays do, is a result like any other."""
        result = result_of(lambda: [pickle.PickleBuffer(b"\1" * 100_000), 2])
        assert (bytes(result[0]), result[1]) == (b"\1" * 100_000, 2)

    def test_is_the_same_every_time(self) -> None:
        """Asked twice, it answers twice."""
        with joined(lambda: [1, 2]) as thread:
            assert thread.get_result() == thread.get_result() == [1, 2]

    def test_shared_references_and_cycles_survive(self) -> None:
        """One object seen twice is one object again, and may contain itself."""

        def tangle() -> Any:
            inner = [1]
            outer: Any = [inner, inner]
            outer.append(outer)
            return outer

        result = result_of(tangle)
        assert result[0] is result[1]
        assert result[2] is result

    def test_before_join_is_refused(self) -> None:
        """Until it is joined there is no result: RuntimeError."""
        with Thread(int) as thread:
            with pytest.raises(RuntimeError):
                thread.get_result()
            thread.start()
            with pytest.raises(RuntimeError) as caught:
                thread.get_result()
            assert isinstance(caught.value, SnakefishError)
            thread.join()

    @pytest.mark.parametrize(
        "error",
        [
            ValueError("v", 2),
            KeyError("k"),
            OSError(2, "gone", "file"),
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
            StopIteration(3),
            Complaint("c", 4),
            BeyondException("b"),
            KeyboardInterrupt("i"),
            GeneratorExit("g"),
            SystemExit(5),
            MemoryError("m"),
            IndexError("i"),
            TimeoutError("t"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_rethrows_what_f_raised_whatever_its_class(self, error: BaseException) -> None:
        """Type and arguments of the exception are those that f raised."""
        with joined(lambda: raising(error)) as thread, pytest.raises(type(error)) as caught:
            thread.get_result()
        assert type(caught.value) is type(error)
        assert caught.value.args == error.args

    def test_rethrows_every_time(self) -> None:
        """The exception comes back however often it is asked for."""
        with joined(lambda: raising(Complaint("again", 1))) as thread:
            for _ in range(3):
                with pytest.raises(Complaint, match="again"):
                    thread.get_result()

    def test_attributes_of_the_exception_survive(self) -> None:
        """What was set on the exception is there on its copy."""

        def complain() -> NoReturn:
            error = Complaint("with", 7)
            error.extra = {"a": [1]}  # type: ignore[attr-defined]
            raise error

        with joined(complain) as thread, pytest.raises(Complaint) as caught:
            thread.get_result()
        assert caught.value.code == 7
        assert caught.value.extra == {"a": [1]}  # type: ignore[attr-defined]

    @pytest.mark.skipif(sys.version_info < (3, 11), reason="notes and groups came with 3.11")
    def test_notes_and_groups_survive(self) -> None:
        """Notes and the members of an exception group arrive."""

        def complain() -> NoReturn:
            group = ExceptionGroup("many", [ValueError(1), KeyError(2)])  # noqa: F821
            group.add_note("noted")
            raise group

        with joined(complain) as thread, pytest.raises(BaseException) as caught:
            thread.get_result()
        assert [repr(one) for one in caught.value.exceptions] == ["ValueError(1)", "KeyError(2)"]
        assert caught.value.__notes__ == ["noted"]

    def test_the_childs_traceback_is_reachable(self) -> None:
        """The text of the child's frames and of its chain of causes comes with the exception."""

        def deep_inside() -> NoReturn:
            try:
                {}["missing"]
            except KeyError as error:
                raise ValueError("boom") from error

        with joined(deep_inside) as thread, pytest.raises(ValueError, match="boom") as caught:
            thread.get_result()
        error = caught.value
        assert error.__cause__ is not None
        assert "deep_inside" in str(error.__cause__)
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        assert "deep_inside" in text
        assert "KeyError: 'missing'" in text

    def test_the_traceback_does_not_grow(self) -> None:
        """Rethrown ten times, the exception shows as many frames as the second time."""
        with joined(lambda: 1 // 0) as thread:
            lengths = []
            for _ in range(10):
                with pytest.raises(ZeroDivisionError) as caught:
                    thread.get_result()
                error = caught.value
                shown = traceback.format_exception(type(error), error, error.__traceback__)
                lengths.append(len("".join(shown)))
        assert len(set(lengths)) == 1

    def test_nothing_is_printed(self, capfd: Any) -> None:
        """An exception in the child is not written anywhere."""
        with joined(lambda: raising(Complaint("loud"))):
            pass
        assert capfd.readouterr() == ("", "")

    def test_an_exception_object_is_a_value(self) -> None:
        """An exception that f returns is returned."""
        result = result_of(lambda: Complaint("value", 3))
        assert isinstance(result, Complaint)
        assert result.code == 3

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
    def test_after_a_signal_names_pid_and_signal(self, number: int) -> None:
        """A child killed before its result is a RuntimeError that says who and by what."""
        with joined(lambda: die_by(number)) as thread, pytest.raises(RuntimeError) as caught:
            thread.get_result()
        assert isinstance(caught.value, SnakefishError)
        assert str(thread.pid) in str(caught.value)
        assert signal.Signals(number).name in str(caught.value)

    def test_after_sigkill_suspects_the_lack_of_memory(self) -> None:
        """For SIGKILL the message mentions the usual suspect, the kernel's out-of-memory killer."""
        thread = joined(lambda: die_by(signal.SIGKILL))
        with thread, pytest.raises(RuntimeError, match=r"(?i)memory"):
            thread.get_result()

    @pytest.mark.parametrize("code", [0, 3])
    def test_after_os_exit_names_pid_and_code(self, code: int) -> None:
        """os._exit gives no result, not even with 0: a RuntimeError that says who and how."""
        with joined(lambda: os._exit(code)) as thread, pytest.raises(RuntimeError) as caught:
            thread.get_result()
        assert str(thread.pid) in str(caught.value)
        assert str(code) in str(caught.value).replace(str(thread.pid), "")

    def test_after_a_signal_is_a_runtime_error_every_time(self) -> None:
        """The death is told as often as it is asked for."""
        with joined(lambda: die_by(signal.SIGKILL)) as thread:
            for _ in range(2):
                with pytest.raises(RuntimeError):
                    thread.get_result()

    @pytest.mark.parametrize("make", UNTRAVELLED, ids=UNTRAVELLED_NAMES)
    def test_an_exception_that_cannot_travel_is_told(self, make: Any, request: Any) -> None:
        """It becomes a RuntimeError with its class name and the child's traceback."""

        def the_culprit() -> NoReturn:
            raise make()

        with joined(the_culprit) as thread:
            assert thread.get_exit_status() == 0
            with pytest.raises(RuntimeError) as caught:
                thread.get_result()
        error = caught.value
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        name = request.node.callspec.id
        assert isinstance(error, SnakefishError)
        assert name in str(error)
        assert "the_culprit" in text

    def test_an_exception_that_cannot_be_shown_still_arrives(self) -> None:
        """An exception whose text cannot be made is rethrown all the same."""
        thread = joined(lambda: raising(CannotBeShown("x")))
        with thread, pytest.raises(CannotBeShown):
            thread.get_result()

    @pytest.mark.parametrize(
        ("make", "error"),
        [
            (lambda: lambda: None, (pickle.PicklingError, AttributeError, TypeError)),
            (threading.Lock, (TypeError, pickle.PicklingError)),
            (lambda: open(os.devnull), TypeError),  # noqa: SIM115
            (FailsToPickle, ZeroDivisionError),
        ],
        ids=["lambda", "lock", "file", "reduce"],
    )
    def test_of_what_cannot_be_pickled_raises_what_pickle_raised(
        self, make: Any, error: Any
    ) -> None:
        """join returns, status is 0, globals are merged, and the result is pickle's error."""
        with joined(lambda: (set_total(1), make())[1], keep_total, add_total) as thread:
            assert thread.get_exit_status() == 0
            assert total == 1
            with pytest.raises(error):
                thread.get_result()

    def test_of_what_is_too_deep_raises(self) -> None:
        """A value nested too deeply for pickle is an error, not a dead child."""

        def deep() -> Any:
            value: Any = []
            for _ in range(20000):
                value = [value]
            return value

        with joined(deep) as thread:
            assert thread.get_exit_status() == 0
            with contextlib.suppress(RuntimeError, ValueError, pickle.PicklingError):
                thread.get_result()

    @pytest.mark.parametrize(
        ("make", "error"),
        [
            (FailsToRebuild, LookupError),
            (LeavesOnRebuild, SystemExit),
            (InterruptsOnRebuild, KeyboardInterrupt),
        ],
    )
    def test_of_what_cannot_be_rebuilt_raises_what_it_raised(self, make: Any, error: Any) -> None:
        """The error of unpickling comes from get_result; the thread stays joined."""
        with joined(make) as thread:
            assert thread.get_exit_status() == 0
            for _ in range(2):
                with pytest.raises(error):
                    thread.get_result()
            assert thread.try_join()

    def test_of_a_child_that_dies_while_pickling(self) -> None:
        """A death inside pickle is a death without a result."""
        with joined(DiesInPickling) as thread:
            assert thread.get_exit_status() == 9
            with pytest.raises(RuntimeError):
                thread.get_result()

    def test_is_rebuilt_by_get_result_not_by_join(self) -> None:
        """Unpickling happens in the parent, at get_result, at most once a call."""
        with joined(Rebuilding) as thread:
            assert Rebuilding.places == []
            thread.get_result()
            assert len(Rebuilding.places) <= 1
            thread.get_result()
            assert len(Rebuilding.places) <= 2
            assert set(Rebuilding.places) == {os.getpid()}
        Rebuilding.places.clear()

    @pytest.mark.parametrize("size", [0, 1, 4095, 65536, 131072, 131073, 5 << 20, 64 << 20])
    def test_of_any_size_arrives(self, size: int) -> None:
        """From nothing to 64 MiB, bytes arrive whole."""
        pattern = bytes(range(256))
        result = result_of(lambda: (pattern * (size // 256 + 1))[:size])
        assert len(result) == size
        assert result[-256:] == (pattern * (size // 256 + 1))[:size][-256:]

    def test_endless_recursion_is_an_exception_or_a_death(self) -> None:
        """Endless recursion is reported."""

        def again() -> Any:
            return again()

        with joined(again) as thread, pytest.raises((RecursionError, RuntimeError)):
            thread.get_result()

    def test_memory_error_travels(self) -> None:
        """Running out of memory in f is a MemoryError here."""
        with joined(lambda: bytearray(1 << 62)) as thread, pytest.raises(MemoryError):
            thread.get_result()

    def test_sigint_to_the_child_is_a_keyboard_interrupt_here(self, gate: Any) -> None:
        """Ctrl-C in the child is rethrown by get_result."""

        def wait_for_it() -> None:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            gate.open()
            for_ever()

        with started(wait_for_it) as thread:
            gate.wait()
            thread.kill(signal.SIGINT)
            thread.join()
            with pytest.raises(KeyboardInterrupt):
                thread.get_result()

    def test_committed_before_death_is_kept(self) -> None:
        """A result that was shipped counts although the child is killed afterwards."""

        def result_then_death() -> int:
            kill_at_exit = (os.getpid(), signal.SIGKILL)
            multiprocessing.util.Finalize(None, os.kill, kill_at_exit, exitpriority=1)
            return 42

        with joined(result_then_death) as thread:
            assert thread.get_exit_status() == -signal.SIGKILL
            assert thread.get_result() == 42


class Rebuilding:
    """Notes in which process it is rebuilt."""

    places: ClassVar[list[int]] = []

    def __setstate__(self, state: Any) -> None:
        self.places.append(os.getpid())

    def __getstate__(self) -> Any:
        return {"some": "state"}


class TestMerging:
    """extract and merge of a Thread."""

    def test_extract_runs_in_the_child_at_its_end(self) -> None:
        """extract sees the child's globals as f left them, in the child's process."""
        global delta

        def extract(namespace: dict[str, Any]) -> dict[str, Any]:
            return {"pid": os.getpid(), "total": namespace["total"]}

        seen = []
        thread = joined(lambda: set_total(9), extract, lambda mine, theirs: seen.append(theirs))
        assert seen == [{"pid": thread.pid, "total": 9}]
        thread.dispose()

    def test_extract_runs_also_when_f_raised(self) -> None:
        """Globals of a function that raised are merged, and its exception is the result."""
        with joined(lambda: 1 // set_total(0) if set_total(4) else 0, keep_total, add_total) as t:
            assert merges == 1
            with pytest.raises(ZeroDivisionError):
                t.get_result()

    def test_merge_runs_in_the_parent_with_its_globals(self) -> None:
        """merge gets the very dictionary of the parent's globals."""
        seen = []
        joined(int, lambda namespace: {}, lambda mine, theirs: seen.append((mine, os.getpid())))
        gc.collect()
        assert seen[0][0] is globals()
        assert seen[0][1] == os.getpid()

    def test_globals_are_those_of_the_module_each_was_written_in(self) -> None:
        """f, extract and merge of three modules see three modules."""
        makers = {
            "of_f": "def f():\n    global x\n    x = 'set by f'",
            "of_extract": "x = 'in extract'\ndef extract(g): return {'x': g['x']}",
            "of_merge": "seen = []\ndef merge(g, d): g['seen'].append(d)",
        }
        modules = {name: types.ModuleType(name) for name in makers}
        for name, source in makers.items():
            exec(source, modules[name].__dict__)
        thread = joined(modules["of_f"].f, modules["of_extract"].extract, modules["of_merge"].merge)
        thread.dispose()
        assert modules["of_merge"].seen == [{"x": "in extract"}]

    @pytest.mark.parametrize("shape", ["partial", "method", "wrapper", "callable"])
    def test_globals_are_found_through(self, shape: str) -> None:
        """Partials, methods, wrappers and callable objects lead to the function inside."""
        module = types.ModuleType("elsewhere")
        exec(
            "value = 'here'\nseen = []\n"
            "def extract(g): return {'value': g['value']}\n"
            "def merge(g, d): g['seen'].append(d['value'])\n"
            "class Object:\n"
            "    def extract(self, g): return extract(g)\n"
            "    def merge(self, g, d): return merge(g, d)\n"
            "class CallableExtract:\n    def __call__(self, g): return extract(g)\n"
            "class CallableMerge:\n    def __call__(self, g, d): return merge(g, d)\n",
            module.__dict__,
        )
        bound = module.Object()
        extract, merge = {
            "partial": (functools.partial(module.extract), functools.partial(module.merge)),
            "method": (bound.extract, bound.merge),
            "wrapper": (wrapping(module.extract), wrapping(module.merge)),
            "callable": (module.CallableExtract(), module.CallableMerge()),
        }[shape]
        joined(int, extract, merge).dispose()
        assert module.seen == ["here"]

    @pytest.mark.skipif(IS_PYPY, reason="what CPython has in C is a Python function there")
    def test_globals_for_what_is_not_a_python_function_are_those_of_f(self) -> None:
        """A builtin extract or merge gets the globals of f's module."""
        module = types.ModuleType("elsewhere")
        exec("delta = {}\ndef f(): delta['a'] = 1", module.__dict__)
        joined(module.f, operator.itemgetter("delta"), dict.update).dispose()
        assert module.a == 1

    @pytest.mark.skipif(IS_PYPY, reason="what CPython has in C is a Python function there")
    def test_globals_are_the_callers_when_f_is_a_builtin_too(self) -> None:
        """With three builtins the caller's globals are what is left."""
        joined(int, operator.itemgetter("delta"), dict.update).dispose()
        assert globals()["itemized"] == 1

    @pytest.mark.parametrize("error", [ValueError("extract"), SystemExit(3)], ids=repr)
    def test_extract_that_raises(self, error: BaseException) -> None:
        """join raises it, nothing is merged, the result is there."""
        with started(lambda: 42, lambda namespace: raising(error), add_total) as thread:
            with pytest.raises((type(error), RuntimeError)):
                thread.join()
            assert merges == 0
            assert thread.try_join()
            assert thread.get_result() == 42

    def test_merge_that_raises(self) -> None:
        """join raises it; the thread counts as joined and merge is not repeated."""
        calls = []

        def merge(mine: Any, theirs: Any) -> NoReturn:
            calls.append(theirs)
            raise LookupError("merge")

        with started(lambda: 42, lambda namespace: {}, merge) as thread:
            with pytest.raises(LookupError):
                thread.join()
            thread.join()
            assert thread.try_join()
            assert thread.get_result() == 42
            assert thread.get_exit_status() == 0
        assert len(calls) == 1

    def test_merge_that_raises_in_try_join(self) -> None:
        """try_join raises it once, and is True from then on."""
        with started(int, lambda namespace: {}, lambda mine, theirs: 1 // 0) as thread:
            wait_until(lambda: not thread.is_alive(), "the child lives on")
            with pytest.raises(ZeroDivisionError):
                thread.try_join()
            assert thread.try_join() is True

    @pytest.mark.parametrize("what", [None, 42, [("total", 1)]], ids=repr)
    def test_extract_that_returns_no_dict(self, what: Any) -> None:
        """join raises TypeError and merge is not called."""
        calls = []
        with started(lambda: 42, lambda namespace: what, lambda *a: calls.append(a)) as thread:
            with pytest.raises(TypeError):
                thread.join()
            assert calls == []
            assert thread.get_result() == 42

    def test_extract_whose_dict_cannot_be_pickled(self) -> None:
        """join raises the error, nothing is merged."""
        with started(lambda: 42, lambda namespace: {"x": FailsToPickle()}, add_total) as thread:
            with pytest.raises((ZeroDivisionError, RuntimeError)):
                thread.join()
            assert merges == 0
            assert thread.get_result() == 42

    def test_extract_whose_dict_cannot_be_rebuilt(self) -> None:
        """join raises the error, nothing is merged."""
        with started(lambda: 42, lambda namespace: {"x": FailsToRebuild()}, add_total) as thread:
            with pytest.raises(LookupError):
                thread.join()
            assert merges == 0
            assert thread.get_result() == 42

    def test_killed_inside_extract(self) -> None:
        """A death in extract is the status, and nothing is merged."""
        with joined(lambda: 42, lambda namespace: die_by(signal.SIGKILL), add_total) as thread:
            assert thread.get_exit_status() == -signal.SIGKILL
            assert merges == 0

    @pytest.mark.parametrize("end", [lambda: die_by(signal.SIGKILL), lambda: os._exit(0)])
    def test_killed_inside_f_is_not_merged(self, end: Any) -> None:
        """Of a child that died in f nothing is merged."""
        with joined(lambda: (set_total(1), end()), keep_total, add_total):
            assert (total, merges) == (0, 0)

    def test_a_large_extract_arrives(self) -> None:
        """Megabytes of extracted globals arrive whole."""
        seen = []
        thread = joined(
            int, lambda namespace: {"x": bytes(8 << 20)}, lambda mine, theirs: seen.append(theirs)
        )
        thread.dispose()
        assert len(seen[0]["x"]) == 8 << 20

    def test_merges_through_levels(self) -> None:
        """What a grandchild changed is merged into the child and from there into the parent."""

        def child() -> None:
            set_total(1)
            joined(lambda: set_total(10), keep_total, add_total).dispose()

        joined(child, keep_total, add_total).dispose()
        assert total == 11


def wrapping(f: Callable[..., Any]) -> Callable[..., Any]:
    """A wrapper around *f*, of this module, as decorators make them."""

    @functools.wraps(f)
    def wrapper(*arguments: Any) -> Any:
        return f(*arguments)

    return wrapper


class TestDispose:
    """Thread.dispose()."""

    def states(self) -> Iterator[Thread]:
        yield Thread(int)
        yield started(for_ever)
        ended = started(int)
        wait_until(lambda: not ended.is_alive(), "the child lives on")
        yield ended
        yield joined(int)

    def test_releases_everything_at_any_time(self) -> None:
        """Unstarted, running, ended or joined: no child and no descriptor is left."""
        before = open_descriptors()
        for thread in self.states():
            thread.dispose()
            assert not children()
            assert open_descriptors() == before

    def test_any_number_of_times(self) -> None:
        """Every later dispose does nothing."""
        for thread in self.states():
            for _ in range(3):
                thread.dispose()

    def test_kills_and_reaps_a_running_child(self) -> None:
        """A child that would never end is dead and gone from the process table."""
        thread = started(for_ever)
        pid = thread.pid
        thread.dispose()
        assert state(pid) == ""

    def test_kills_a_stopped_child(self) -> None:
        """A stopped child is killed as well."""
        thread = started(for_ever)
        pid = thread.pid
        thread.kill(signal.SIGSTOP)
        thread.dispose()
        assert state(pid) == ""

    @pytest.mark.parametrize(
        "method",
        ["start", "join", "try_join", "is_alive", "get_exit_status", "get_result", "fileno"],
    )
    def test_afterwards_every_method_is_refused(self, method: str) -> None:
        """On a disposed thread every method but dispose raises RuntimeError."""
        for thread in self.states():
            thread.dispose()
            with pytest.raises(RuntimeError) as caught:
                getattr(thread, method)()
            assert isinstance(caught.value, SnakefishError)

    def test_afterwards_kill_is_refused(self) -> None:
        """On a disposed thread kill raises RuntimeError."""
        thread = joined(int)
        thread.dispose()
        with pytest.raises(RuntimeError):
            thread.kill(signal.SIGTERM)

    def test_afterwards_f_and_the_result_are_released(self) -> None:
        """No reference to f, to its arguments or to the result is kept."""

        class Value:
            pass

        argument = Value()
        thread = joined(lambda value: None, args=(argument,))
        reference = weakref.ref(argument)
        thread.dispose()
        del argument
        wait_until(lambda: (gc.collect(), reference() is None)[1], "the argument is kept")

    def test_afterwards_merge_and_the_result_are_released(self) -> None:
        """No reference to extract, to merge or to the result is kept."""

        class Keeping:
            def __call__(self, *namespaces: Any) -> dict[str, Any]:
                return {}

        keeping = Keeping()
        thread = joined(lambda: Complaint("result"), keeping, keeping)
        result = thread.get_result()
        references = weakref.ref(keeping), weakref.ref(result)
        thread.dispose()
        del keeping, result
        wait_until(
            lambda: (gc.collect(), all(one() is None for one in references))[1], "something is kept"
        )

    def test_in_a_child_disturbs_nobody(self) -> None:
        """A child that disposes its copy of a running thread kills nothing."""
        with started(for_ever) as sister:
            result_of(sister.dispose)
            assert sister.is_alive()
            sister.kill(signal.SIGTERM)
            sister.join()
            assert sister.get_exit_status() == -signal.SIGTERM

    def test_of_a_copy_made_by_a_bare_fork_disturbs_nobody(self) -> None:
        """A process forked by others that drops or disposes its copies kills nothing."""
        with started(for_ever) as thread:
            pid = os.fork()
            if pid == 0:
                try:
                    thread.dispose()
                    gc.collect()
                finally:
                    os._exit(0)
            os.waitpid(pid, 0)
            assert thread.is_alive()

    def test_with_disposes_at_the_end(self) -> None:
        """Leaving the with block kills, reaps and releases, also by an exception."""
        with pytest.raises(LookupError), started(for_ever) as thread:
            raise LookupError
        assert not children()
        with pytest.raises(RuntimeError):
            thread.join()

    def test_with_gives_the_thread(self) -> None:
        """The with block gets the thread itself."""
        thread = Thread(int)
        with thread as same:
            assert same is thread

    def test_forgotten_threads_leave_nothing(self) -> None:
        """Garbage in every state is cleaned up without dispose."""
        for _ in range(5):
            for thread in self.states():
                del thread
        wait_until(lambda: (gc.collect(), not children())[1], "forgotten children live")


class TestPid:
    """Thread.pid."""

    def test_is_the_childs(self) -> None:
        """pid is what os.getpid() says in the child."""
        with joined(os.getpid) as thread:
            assert thread.pid == thread.get_result()


class TestKill:
    """Thread.kill(signal)."""

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1])
    def test_sends_the_signal(self, number: int) -> None:
        """The child gets the signal that was asked for."""
        with started(for_ever) as thread:
            thread.kill(number)
            thread.join()
            assert thread.get_exit_status() == -number

    def test_never_hits_a_stranger(self) -> None:
        """After the end, kill hits nobody who got the number: it is refused or nothing."""
        with joined(int) as thread:
            with contextlib.suppress(ProcessLookupError, RuntimeError):
                thread.kill(signal.SIGKILL)
            assert thread.get_exit_status() == 0

    def test_before_start_is_refused(self) -> None:
        """There is nobody to kill: RuntimeError."""
        with Thread(int) as thread, pytest.raises(RuntimeError):
            thread.kill(signal.SIGTERM)


class TestFileno:
    """Thread.fileno()."""

    def test_readable_when_the_child_has_ended(self, gate: Any) -> None:
        """Not readable while the child runs; readable afterwards."""
        with started(gate.wait) as thread:
            assert not select.select([thread.fileno()], [], [], 0)[0]
            gate.open()
            assert select.select([thread.fileno()], [], [], SOON)[0]
            assert not thread.is_alive()

    def test_readable_although_nobody_took_a_large_result(self) -> None:
        """The child does not wait for its parent to take the result."""
        with started(lambda: bytes(20 << 20)) as thread:
            assert select.select([thread.fileno()], [], [], SOON)[0]
            thread.join()
            assert len(thread.get_result()) == 20 << 20

    def test_selectors_can_wait_for_the_thread_itself(self) -> None:
        """An object with fileno is what selectors take."""
        with selectors.DefaultSelector() as selector, started(int) as thread:
            selector.register(thread, selectors.EVENT_READ)
            assert selector.select(SOON)
            thread.join()

    def test_asyncio_can_wait_for_it(self) -> None:
        """A loop's reader on the descriptor is called when the child has ended."""

        async def wait_for(thread: Thread) -> Any:
            ended = asyncio.Event()
            asyncio.get_running_loop().add_reader(thread.fileno(), ended.set)
            await asyncio.wait_for(ended.wait(), SOON)
            asyncio.get_running_loop().remove_reader(thread.fileno())
            assert thread.try_join()
            return thread.get_result()

        with started(lambda: 42) as thread:
            assert asyncio.run(wait_for(thread)) == 42


class TestRepr:
    """repr(thread)."""

    def test_shows_the_state(self) -> None:
        """Unstarted, running, joined and disposed look different, and carry the name."""
        thread = Thread(for_ever, name="who")
        shown = [repr(thread)]
        thread.start()
        shown.append(repr(thread))
        thread.kill(signal.SIGTERM)
        thread.join()
        shown.append(repr(thread))
        thread.dispose()
        shown.append(repr(thread))
        assert all("who" in text for text in shown)
        assert len(set(shown)) == 4


class TestPickling:
    """A Thread stays in its process."""

    def test_is_refused(self) -> None:
        """A thread cannot be pickled or copied by pickle: TypeError."""
        with Thread(int) as thread, pytest.raises(TypeError):
            pickle.dumps(thread)


class TestParentEnds:
    """What becomes of children whose parent goes first."""

    @pytest.mark.parametrize("end", ["pass", "sys.exit(0)", "os._exit(0)", "raise SystemExit(0)"])
    def test_without_join_no_process_is_left(self, end: str) -> None:
        """A program that ends with running children does not hang and leaves none."""
        ended = run_program(f"thread = Thread(for_ever)\nthread.start()\n{end}\n")
        assert ended.status == 0

    def test_by_an_exception_no_process_is_left(self) -> None:
        """An uncaught exception in the parent ends the children too."""
        ended = run_program("""
            thread = Thread(for_ever)
            thread.start()
            raise LookupError("uncaught")
            """)
        assert ended.status == 1
        assert ended.complaint.count("LookupError: uncaught") == 1

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
    def test_by_a_signal_children_and_grandchildren_end(self, number: int) -> None:
        """With the parent killed, its children and theirs are dead soon after."""
        source = """
            up = Channel()
            def child():
                with Thread(lambda: (up.send_pyobj(os.getpid()), for_ever())) as grandchild:
                    grandchild.start()
                    up.send_pyobj(os.getpid())
                    for_ever()
            def idle():
                yield 1
                yield 2
            receiver, generator = Thread(Channel().receive_pyobj), Generator(idle)
            thread = Thread(child)
            thread.start(), receiver.start(), generator.start()
            generator.next(True)
            say(up.receive_pyobj(), up.receive_pyobj(), receiver.pid)
            for_ever()
            """
        with Program(source) as program:
            pids = program.numbers()
            assert len(session_members(program.pid)) == 5
            program.send_signal(number)
            program.wait()
            program.wait_for_the_last()
            assert all(is_gone(pid) for pid in pids)

    def test_ctrl_c_at_the_terminal_ends_all(self) -> None:
        """SIGINT to the whole group ends parent and children."""
        source = """
            signal.signal(signal.SIGINT, signal.default_int_handler)
            threads = [Thread(for_ever) for _ in range(3)]
            for thread in threads:
                thread.start()
            say("ready")
            for thread in threads:
                thread.join()
                thread.get_result()
            """
        with Program(source) as program:
            assert program.line() == "ready"
            program.send_signal_to_all(signal.SIGINT)
            assert program.wait().status == -signal.SIGINT
            program.wait_for_the_last()

    def test_a_started_grandchild_ends_with_its_parent(self) -> None:
        """A child that ends without joining its own thread leaves no grandchild."""

        def leave_behind() -> int:
            grandchild = started(for_ever)
            grandchildren.append(grandchild)
            return grandchild.pid

        grandchildren: list = []
        with joined(leave_behind) as thread:
            pid = thread.get_result()
            wait_until(lambda: is_gone(pid), "the grandchild lives on")
            assert thread.get_exit_status() == 0
