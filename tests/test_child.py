# SPDX-License-Identifier: MIT
"""Life in a child: what it inherits, what it does not, and how it leaves."""

from __future__ import annotations

import gc
import io
import os
import random
import re
import signal
import sys
import tempfile
import threading
import uuid
import weakref
from typing import TYPE_CHECKING, Any, Callable, NoReturn

import pytest
from deadline import SOON
from process_table import is_gone
from scenario import Program, output_of, run_program

import snakefish
from snakefish import Generator, Thread

if TYPE_CHECKING:
    from collections.abc import Iterator


def result_of(f: Callable[[], Any]) -> Any:
    with Thread(f) as thread:
        thread.start()
        thread.join(timeout=3 * SOON)
        return thread.get_result()


def by_thread(f: Callable[[], Any]) -> Any:
    return result_of(f)


def by_generator(f: Callable[[], Any]) -> Any:
    def once() -> Iterator[Any]:
        yield f()

    with Generator(once) as generator:
        generator.start()
        return generator.next(timeout=SOON)


def by_map(f: Callable[[], Any]) -> Any:
    return snakefish.map(lambda _: f(), [None])[0]


def by_merging_map(f: Callable[[], Any]) -> Any:
    return snakefish.map(lambda _: f(), [None], lambda mine: {}, lambda mine, theirs: None)[0]


@pytest.fixture(params=[by_thread, by_generator, by_map, by_merging_map])
def way(request: Any) -> Callable[[Callable[[], Any]], Any]:
    """Runs a function in a child: of Thread, Generator and map of either kind."""
    return request.param


hooks: list[str] = []
os.register_at_fork(
    before=lambda: hooks.append("before"),
    after_in_parent=lambda: hooks.append("parent"),
    after_in_child=lambda: hooks.append("child"),
)


class TestFork:
    """What a fork must do in every child."""

    def test_at_fork_hooks_run_once_each(self, way: Any) -> None:
        """Hooks registered with os.register_at_fork run in parent and child, once a fork."""
        hooks.clear()
        in_child = way(lambda: list(hooks))
        assert in_child == ["before", "child"]
        assert hooks == ["before", "parent"]

    def test_the_childs_main_thread_is_its_only_one(self, way: Any) -> None:
        """In the child the main thread is the one that runs f, and there is no other."""

        def look() -> Any:
            main = threading.main_thread()
            return main is threading.current_thread(), threading.active_count(), main.is_alive()

        assert way(look) == (True, 1, True)

    @pytest.mark.skipif(not hasattr(threading, "get_native_id"), reason="no native ids here")
    def test_the_main_thread_has_its_native_id(self, way: Any) -> None:
        """The native id of the main thread is the child's own."""
        native, pid = way(lambda: (threading.main_thread().native_id, os.getpid()))
        assert native == pid

    def test_random_numbers_differ_between_children(self, way: Any) -> None:
        """random, uuid and tempfile give every child numbers of its own."""

        def draw() -> Any:
            name = next(tempfile._get_candidate_names())  # type: ignore[attr-defined]
            return random.random(), uuid.uuid4().hex, name

        drawn = [way(draw) for _ in range(4)] + [draw()]
        for kind in zip(*drawn):
            assert len(set(kind)) == len(kind)

    def test_a_random_object_of_the_users_own_is_a_copy(self, way: Any) -> None:
        """A random.Random made by the user goes on in the child where it stood."""
        dice = random.Random(5)
        expected = random.Random(5).random()
        assert way(dice.random) == expected
        assert dice.random() == expected

    def test_the_signal_mask_is_unchanged_in_both(self, way: Any) -> None:
        """What was blocked is blocked, and nothing else, here and there."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
        try:
            mine = signal.pthread_sigmask(signal.SIG_BLOCK, [])
            assert way(lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [])) == mine
            assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mine
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def test_no_signal_handler_is_ours(self, way: Any) -> None:
        """Every handler in the child and afterwards in the parent is the one from before."""

        def handlers() -> list[str]:
            return [str(signal.getsignal(number)) for number in sorted(signal.valid_signals())]

        before = handlers()
        assert way(handlers) == before
        assert handlers() == before

    def test_with_busy_threads_in_the_parent_children_are_healthy(self) -> None:
        """Threads that compute, log, import and use queues leave nothing locked in a child."""
        ended = run_program("""
            import importlib, logging, queue, threading, warnings
            warnings.simplefilter("ignore")
            logging.basicConfig()
            stop, items = threading.Event(), queue.Queue()
            def compute():
                while not stop.is_set():
                    sum(range(500))
            def log():
                while not stop.is_set():
                    logging.warning("busy")
            def put():
                while not stop.is_set():
                    items.put(1)
                    items.get()
            threads = [threading.Thread(target=f, daemon=True) for f in (compute, log, put)]
            for thread in threads:
                thread.start()
            def use_everything(n):
                logging.warning("in the child")
                inner = queue.Queue()
                other = threading.Thread(target=inner.put, args=(n,))
                other.start()
                other.join()
                importlib.import_module("wave" if n % 2 else "colorsys")
                return inner.get()
            for n in range(40):
                with Thread(use_everything, args=(n,)) as child:
                    child.start()
                    child.join(timeout=20)
                    assert child.get_result() == n
            stop.set()
            for thread in threads:
                thread.join()
            say("healthy")
            """)
        assert ended.output == "healthy\n", ended.complaint[-2000:]

    def test_while_another_thread_prints_children_can_print(self) -> None:
        """A stream that another thread is writing to at the fork is usable in the child."""
        ended = run_program("""
            import threading, warnings
            warnings.simplefilter("ignore")
            stop = threading.Event()
            def chatter():
                while not stop.is_set():
                    print("chatter", flush=True)
            thread = threading.Thread(target=chatter, daemon=True)
            thread.start()
            for n in range(40):
                with Thread(lambda: print("child", n, flush=True)) as child:
                    child.start()
                    child.join(timeout=20)
                    child.get_result()
            stop.set()
            thread.join()
            """)
        assert ended.status == 0, ended.complaint
        assert re.findall(r"child \d+", ended.output) == [f"child {n}" for n in range(40)]

    def test_start_from_another_thread_works(self, way: Any) -> None:
        """Children may be started by any thread of the parent."""
        results: list[Any] = []
        starter = threading.Thread(target=lambda: results.append(way(os.getppid)))
        starter.start()
        starter.join(3 * SOON)
        assert results == [os.getpid()]


class TestStreams:
    """stdout and stderr."""

    def test_everything_is_written_once_and_in_order(self) -> None:
        """What the parent had printed is not repeated, what the child prints is not lost."""
        ended = run_program("""
            print("before")
            sys.stderr.write("to stderr\\n")
            with Thread(lambda: print("in the child")) as thread:
                thread.start()
                thread.join()
            print("after")
            """)
        assert ended.status == 0
        assert ended.output.splitlines() == ["before", "in the child", "after"]
        assert ended.complaint == "to stderr\n"

    def test_print_from_every_kind_of_child_arrives_once(self) -> None:
        """Children of generators and maps print once, too, without a newline at the end."""
        ended = run_program("""
            print("parent", end=" ")
            def values():
                print("generator", end=" ")
                yield 1
            with Generator(values) as generator:
                generator.start()
                list(generator)
                generator.join()
            snakefish.map(lambda n: print("map", end=" "), [1])
            snakefish.map(lambda n: print("merging", end=" "), [1], lambda g: {}, lambda g, d: 0)
            """)
        assert ended.output.split() == ["parent", "generator", "map", "merging"]

    @pytest.mark.parametrize("options", [["-u"], []], ids=["unbuffered", "flushed"])
    def test_what_a_running_child_prints_can_be_seen_at_once(self, options: list[str]) -> None:
        """With python -u, or a flush, a child's output does not wait for its end."""
        source = f"""
            def tell():
                print("hello", flush={not options})
                for_ever()
            with Thread(tell) as thread:
                thread.start()
                thread.join()
            """
        with Program(source, options=options) as program:
            assert program.line() == "hello"

    @pytest.mark.parametrize(
        "trouble",
        [
            "sys.stdout.close()",
            "sys.stdout = sys.stderr = None",
            "os.close(1); os.close(2)",
            "import io; sys.stdout = io.StringIO()",
        ],
    )
    def test_streams_in_a_bad_state_do_not_matter(self, trouble: str) -> None:
        """Closed, missing or replaced streams hinder neither child nor parent."""
        ended = run_program(f"""
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)
            {trouble}
            with Thread(lambda: 42) as thread:
                thread.start()
                thread.join()
                os._exit(0 if (thread.get_result(), thread.get_exit_status()) == (42, 0) else 1)
            """)
        assert ended.status == 0

    def test_a_broken_pipe_for_stdout_does_not_matter(self) -> None:
        """Output that nobody reads is lost, the result is not."""
        ended = run_program("""
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)
            read, write = os.pipe()
            os.dup2(write, 1)
            os.close(read)
            os.close(write)
            with Thread(lambda: (print("lost"), 42)[1]) as thread:
                thread.start()
                thread.join()
                os._exit(0 if thread.get_result() == 42 else 1)
            """)
        assert ended.status == 0

    def test_a_stream_of_the_users_own_is_left_alone(self) -> None:
        """A StringIO in place of stdout collects the child's output in the child."""

        def collect() -> Any:
            sys.stdout = io.StringIO()
            print("kept")
            return sys.stdout.getvalue()

        assert result_of(collect) == "kept\n"


class TestLeaving:
    """How a child ends."""

    def test_exit_handlers_of_the_parent_do_not_run_in_it(self) -> None:
        """atexit handlers run once, in the parent."""
        ended = run_program("""
            import atexit
            atexit.register(print, "at exit")
            for f in (int, sys.exit):
                with Thread(f) as thread:
                    thread.start()
                    thread.join()
            """)
        assert ended.output == "at exit\n"

    def test_finalizers_of_the_parents_objects_do_not_run_in_it(self, way: Any) -> None:
        """weakref.finalize, __del__ and temporary directories are the parent's."""

        class Object:
            def __del__(self) -> None:
                os.write(log.fileno(), b"deleted")

        with tempfile.TemporaryFile() as log, tempfile.TemporaryDirectory() as directory:
            thing = Object()
            finalizer = weakref.finalize(thing, os.write, log.fileno(), b"finalized")
            way(int)
            assert os.path.isdir(directory)
            assert os.fstat(log.fileno()).st_size == 0
            finalizer.detach()
            Object.__del__ = lambda self: None  # type: ignore[method-assign]

    def test_its_other_threads_finish_first(self) -> None:
        """Non-daemon threads that f started come to their end before the child leaves."""
        read, write = os.pipe()

        def leave_a_thread() -> str:
            def late() -> None:
                threading.main_thread().join()
                os.write(write, b"finished")

            threading.Thread(target=late).start()
            return "returned"

        assert result_of(leave_a_thread) == "returned"
        os.close(write)
        with open(read, "rb") as written:
            assert written.read() == b"finished"

    @pytest.mark.skipif(sys.version_info >= (3, 13), reason="threads have no such lock any more")
    def test_its_other_threads_finish_whatever_lock_they_hold(self) -> None:
        """A thread that joins the main thread has its lock while the main thread ends."""
        go, let_go = os.pipe()
        read, write = os.pipe()

        def leave_a_thread() -> None:
            main: Any = threading.main_thread()
            lock, taken, checked = main._tstate_lock, threading.Event(), threading.Event()

            def late() -> None:
                with lock:  # as in join, where nothing says for how long
                    taken.set()
                    checked.wait(SOON)
                os.write(write, os.read(go, 100))

            def trace(frame: Any, event: str, _argument: object) -> Any:
                if frame.f_code is not threading.Thread._stop.__code__:  # type: ignore[attr-defined]
                    return None
                if event == "call":
                    taken.wait(SOON)
                elif event in ("exception", "return"):
                    checked.set()
                return trace

            threading.Thread(target=late).start()
            sys.settrace(trace)

        with Thread(leave_a_thread) as thread:
            thread.start()
            with pytest.raises(TimeoutError):  # it waits for what late does
                thread.join(timeout=0.5)
            os.write(let_go, b"finished")
            thread.join(timeout=SOON)
        os.close(write)
        with open(read, "rb") as written:
            assert written.read() == b"finished"
        os.close(go)
        os.close(let_go)

    def test_a_daemon_thread_does_not_hold_it_up(self) -> None:
        """A daemon thread that never ends does not keep the child alive."""

        def leave_a_daemon() -> int:
            threading.Thread(target=threading.Event().wait, daemon=True).start()
            return 1

        assert result_of(leave_a_daemon) == 1

    def test_no_child_comes_back_to_the_code_that_started_it(self) -> None:
        """Whatever f does, nothing after start runs in the child."""
        assert (
            output_of("""
            def bad_exit():
                sys.exit(3)
            def bad_raise():
                raise KeyboardInterrupt
            def bad_recursion():
                return bad_recursion()
            me = os.getpid()
            for f in (int, bad_exit, bad_raise, bad_recursion, lambda: 1 // 0):
                try:
                    with Thread(f) as thread:
                        thread.start()
                        assert os.getpid() == me
                        thread.join()
                finally:
                    say(os.getpid() == me)
            """)
            == ["True"] * 5
        )

    def test_a_patched_os_exit_is_used(self) -> None:
        """os._exit is looked up when the child leaves, so that tools can patch it."""
        read, write = os.pipe()
        leave = os._exit

        def tell_and_leave(status: int) -> NoReturn:
            os.write(write, b"patched")
            leave(status)

        os._exit = tell_and_leave  # type: ignore[assignment]
        try:
            result_of(int)
        finally:
            os._exit = leave
        assert os.read(read, 100) == b"patched"
        os.close(read)
        os.close(write)

    def test_a_disposed_object_of_the_parent_in_it_is_not_finalized_twice(self) -> None:
        """Garbage that both processes inherit is harmless in both."""
        threads = [Thread(signal.pause) for _ in range(3)]
        for thread in threads:
            thread.start()
        pids = [thread.pid for thread in threads]

        def collect() -> None:
            threads.clear()
            gc.collect()

        result_of(collect)
        assert not any(is_gone(pid) for pid in pids)
        for thread in threads:
            thread.dispose()


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="PyPy's collections write little")
class TestCollection:
    """What garbage collections in a child go through."""

    def test_leaves_alone_what_was_inherited(self, way: Any) -> None:
        """A collection in a child does not touch the parent's objects, not even its garbage."""
        knot = Knot()
        inherited = weakref.ref(knot)
        gc.disable()
        try:
            del knot
            is_gone = way(lambda: (gc.collect(), inherited() is None)[1])
        finally:
            gc.enable()
        assert not is_gone

    def test_takes_what_the_child_itself_left_behind(self, way: Any) -> None:
        """A cycle that f made is collected in the child as anywhere."""

        def knot_is_collected() -> bool:
            knot = Knot()
            own = weakref.ref(knot)
            del knot
            gc.collect()
            return own() is None

        assert way(knot_is_collected)


class Knot:
    """Refers to itself, so only a collection can free it."""

    def __init__(self) -> None:
        self.itself = self


class TestWarningsAsErrors:
    """Python's -W error."""

    def test_a_program_without_threads_runs(self) -> None:
        """No warning comes from the package in plain use."""
        assert output_of(
            """
            import gc
            with Thread(lambda: 42) as thread, Channel() as channel:
                thread.start()
                thread.join()
                channel.send_pyobj(thread.get_result())
                say(channel.receive_pyobj())
            say(*snakefish.map(abs, [-1, 2]))
            gc.collect()
            """,
            options=["-W", "error", "-X", "dev"] if sys.implementation.name == "cpython" else [],
        ) == ["42", "1 2"]


def test_nested_children_of_every_kind(way: Any) -> None:
    """Each kind of child can have children of each kind."""
    kinds = [by_thread, by_generator, by_map, by_merging_map]
    assert way(lambda: [kind(lambda: 7) for kind in kinds]) == [7, 7, 7, 7]


def test_fork_tree_merges_upwards() -> None:
    """Eighty-five processes, four children each on three levels, all arrive at the top."""

    def count(depth: int) -> int:
        if depth == 0:
            return 1
        return 1 + sum(snakefish.map(count, [depth - 1] * 4, concurrency=2))

    assert result_of(lambda: count(3)) == 85
