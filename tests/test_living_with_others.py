# SPDX-License-Identifier: MIT
"""Living with others: multiprocessing, subprocess, asyncio, and the user's own children."""

from __future__ import annotations

import asyncio
import multiprocessing
import multiprocessing.util
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Callable

import pytest
from deadline import SOON, wait_until
from process_table import children, is_gone
from scenario import output_of

import snakefish
from snakefish import Channel, Generator, Thread

if TYPE_CHECKING:
    from collections.abc import Iterator

mp = multiprocessing.get_context("fork")


def started(f: Callable[..., Any], *arguments: Any) -> Thread:
    thread = Thread(f, args=arguments)
    thread.start()
    return thread


def result_of(f: Callable[..., Any], *arguments: Any) -> Any:
    with started(f, *arguments) as thread:
        thread.join(timeout=3 * SOON)
        return thread.get_result()


def square(n: int) -> int:
    return n * n


class TestMultiprocessingInOurChildren:
    """Their primitives, used by our children."""

    def test_a_lock_excludes(self) -> None:
        """A Lock made before the fork is held by one child at a time."""
        lock = mp.Lock()
        with Channel() as events:

            def work() -> None:
                for _ in range(20):
                    with lock:
                        events.send_pyobj("in")
                        events.send_pyobj("out")

            threads = [started(work) for _ in range(3)]
            for thread in threads:
                thread.join()
                thread.dispose()
            seen = [events.receive_pyobj() for _ in range(120)]
        assert seen == ["in", "out"] * 60

    def test_semaphores_events_and_conditions_work(self) -> None:
        """An Event set in a child is seen in the parent and in another child."""
        event, barrier = mp.Event(), mp.Semaphore(0)
        with started(lambda: (barrier.acquire(timeout=SOON), event.is_set())) as waiter:
            result_of(lambda: (event.set(), barrier.release()))
            assert event.is_set()
            waiter.join()
            assert waiter.get_result() == (True, True)

    def test_a_shared_value_is_shared(self) -> None:
        """A Value incremented under its lock by children counts all of them."""
        assert output_of("""
            import multiprocessing
            value = multiprocessing.get_context("fork").Value("i", 0)
            def add():
                for _ in range(100):
                    with value.get_lock():
                        value.value += 1
            threads = [Thread(add) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            say(value.value)
            """) == ["300"]

    def test_what_a_child_puts_into_a_queue_arrives(self) -> None:
        """The queue's feeder thread is through before our child leaves."""
        queue = mp.Queue()
        for _ in range(5):
            with started(lambda: [queue.put((n, "x" * 10000)) for n in range(20)][:0]) as thread:
                taken = [queue.get(timeout=SOON) for _ in range(20)]
                thread.join()
            assert [n for n, _ in taken] == list(range(20))
        queue.close()
        queue.join_thread()

    def test_a_queue_used_in_the_parent_before_works_in_a_child(self) -> None:
        """A queue whose feeder thread already runs in the parent can be used by a child."""
        queue = mp.Queue()
        queue.put("mine")
        assert queue.get(timeout=SOON) == "mine"
        result_of(queue.put, "theirs")
        assert queue.get(timeout=SOON) == "theirs"
        queue.close()
        queue.join_thread()

    def test_a_pipe_connects_a_child(self) -> None:
        """Both ends of a Pipe work across our fork."""
        here, there = mp.Pipe()
        with started(lambda: there.send(there.recv() * 2)) as thread:
            here.send(21)
            assert here.poll(SOON)
            assert here.recv() == 42
            thread.join()
        here.close()
        there.close()

    def test_a_pool_works_inside_a_child(self) -> None:
        """A Pool of the child's own computes and is gone with it."""

        def use_pool() -> list[int]:
            with mp.Pool(2) as pool:
                return pool.map(square, range(10))

        assert result_of(use_pool) == [n * n for n in range(10)]

    def test_a_process_works_inside_a_child(self) -> None:
        """A Process of the child's own starts and is joined."""

        def use_process() -> int:
            process = mp.Process(target=os._exit, args=(5,))
            process.start()
            process.join()
            return process.exitcode

        assert result_of(use_process) == 5

    def test_an_unjoined_process_is_waited_for_as_by_multiprocessing(self) -> None:
        """A Process that the child left running comes to its end before the child does."""
        read, write = os.pipe()
        result_of(lambda: mp.Process(target=os.write, args=(write, b"done")).start())
        os.set_blocking(read, False)
        assert os.read(read, 10) == b"done"
        os.close(read)
        os.close(write)

    def test_finalizers_of_the_parents_do_not_run_in_a_child(self) -> None:
        """What multiprocessing would finalize in the parent is not finalized in our child."""
        read, write = os.pipe()
        finalizer = multiprocessing.util.Finalize(
            None, os.write, args=(write, b"finalized"), exitpriority=1
        )
        result_of(int)
        finalizer.cancel()
        os.set_blocking(read, False)
        with pytest.raises(BlockingIOError):
            os.read(read, 1)
        os.close(read)
        os.close(write)

    def test_processes_of_the_parent_are_left_alone(self) -> None:
        """A child of ours neither joins nor ends a Process of its parent."""
        process = mp.Process(target=signal.pause)
        process.start()
        result_of(multiprocessing.active_children)
        assert process.is_alive()
        process.terminate()
        process.join()
        assert process.exitcode == -signal.SIGTERM
        process.close()

    def test_active_children_of_a_child_are_its_own(self) -> None:
        """In our child, multiprocessing knows none of the parent's processes."""
        process = mp.Process(target=signal.pause)
        process.start()
        assert result_of(lambda: len(multiprocessing.active_children())) == 0
        process.terminate()
        process.join()
        process.close()


class TestOursInTheirs:
    """Our objects, used in their processes."""

    @staticmethod
    def run(target: Callable[[], None]) -> None:
        process = mp.Process(target=target)
        process.start()
        process.join(3 * SOON)
        assert process.exitcode == 0
        process.close()

    def test_a_thread_works_in_a_process(self) -> None:
        """A multiprocessing.Process can start and join Threads."""
        with Channel() as results:
            self.run(lambda: results.send_pyobj(result_of(square, 6)))
            assert results.receive_pyobj(timeout=SOON) == 36

    def test_a_generator_and_a_map_work_in_a_process(self) -> None:
        """So can Generators and maps."""

        def count() -> Iterator[int]:
            yield from range(3)

        def work() -> None:
            with Generator(count) as generator:
                generator.start()
                results.send_pyobj(list(generator))
            results.send_pyobj(snakefish.map(square, range(3)))

        with Channel() as results:
            self.run(work)
            assert results.receive_pyobj(timeout=SOON) == [0, 1, 2]
            assert results.receive_pyobj(timeout=SOON) == [0, 1, 4]

    def test_a_channel_connects_their_processes(self) -> None:
        """A Channel made before the fork of a Process carries messages to it and back."""
        with Channel() as there, Channel() as back:
            process = mp.Process(target=lambda: back.send_pyobj(there.receive_pyobj() + 1))
            process.start()
            there.send_pyobj(1)
            assert back.receive_pyobj(timeout=SOON) == 2
            process.join()
            process.close()

    def test_a_thread_works_in_a_pool_worker(self) -> None:
        """Workers of a Pool can use map."""
        with mp.Pool(2) as pool:
            assert pool.map(sum_of_squares, [3, 4]) == [5, 14]
            pool.close()
            pool.join()

    def test_inherited_threads_are_left_alone(self) -> None:
        """A Process that ends does not end the Threads of its parent."""
        with started(signal.pause) as thread:
            self.run(int)
            assert thread.is_alive()


def sum_of_squares(n: int) -> int:
    return sum(snakefish.map(square, range(n)))


class TestSubprocess:
    """subprocess, next to us and inside our children."""

    def test_status_of_a_subprocess_is_not_taken(self) -> None:
        """While our children come and go, a Popen gets its own status."""
        program = subprocess.Popen([sys.executable, "-c", "input(); raise SystemExit(7)"],
                                   stdin=subprocess.PIPE)  # fmt: skip
        for n in range(10):
            assert result_of(square, n) == n * n
        program.communicate(b"\n")
        assert program.returncode == 7

    def test_works_inside_a_child(self) -> None:
        """A child can run programs and read their output."""
        command = [sys.executable, "-c", "print('from a program')"]
        assert result_of(subprocess.check_output, command) == b"from a program\n"

    def test_descriptors_of_ours_are_not_inherited_by_programs(self) -> None:
        """A program started while children run sees none of our descriptors."""
        listing = "import os; print(len(os.listdir('/proc/self/fd')))"
        command = [sys.executable, "-c", listing]
        before = subprocess.check_output(command, close_fds=False)
        with started(signal.pause), Channel():
            assert subprocess.check_output(command, close_fds=False) == before


class TestChildrenOfOthers:
    """Children that somebody else forked."""

    def test_are_never_reaped_by_us(self) -> None:
        """A zombie of the user's stays until he takes its status."""
        pid = os.fork()
        if pid == 0:
            os._exit(9)
        wait_until(lambda: is_gone(pid), "the child lives on")
        for n in range(5):
            assert result_of(square, n) == n * n
        snakefish.map(square, range(5))
        assert pid in children()
        assert os.WEXITSTATUS(os.waitpid(pid, 0)[1]) == 9

    def test_a_sigchld_handler_of_the_users_is_called(self) -> None:
        """The user's handler sees the ends of our children, and stays installed."""
        calls: list[int] = []
        handler = lambda number, frame: calls.append(number)  # noqa: E731
        before = signal.signal(signal.SIGCHLD, handler)
        try:
            for n in range(5):
                assert result_of(square, n) == n * n
            assert signal.getsignal(signal.SIGCHLD) is handler
        finally:
            signal.signal(signal.SIGCHLD, before)
        assert calls


class TestAsyncio:
    """A running event loop."""

    def test_asyncio_run_works_in_a_child_of_a_running_loop(self) -> None:
        """A child started inside a coroutine can run a loop of its own."""

        async def inner() -> str:
            await asyncio.sleep(0)
            return "inner"

        async def outer() -> Any:
            with started(lambda: asyncio.run(inner())) as thread:
                while not thread.try_join():
                    await asyncio.sleep(0.001)
                return thread.get_result(), asyncio.get_running_loop().is_running()

        assert asyncio.run(outer()) == ("inner", True)

    def test_the_loop_of_the_parent_is_not_disturbed(self, gate: Any) -> None:
        """Timers, callbacks and subprocesses of the loop go on while a child runs and ends."""

        async def busy() -> Any:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", "raise SystemExit(6)"
            )
            with started(gate.wait) as thread:
                asyncio.get_running_loop().call_later(0.01, gate.open)
                while not thread.try_join():
                    await asyncio.sleep(0)
                return thread.get_exit_status(), await process.wait()

        assert asyncio.run(busy()) == (0, 6)

    def test_join_in_an_executor_leaves_the_loop_free(self, gate: Any) -> None:
        """A blocking join in another thread does not hold up the loop."""

        async def wait_for(thread: Thread, gate: Any) -> bool:
            loop = asyncio.get_running_loop()
            joined = loop.run_in_executor(None, thread.join)
            await asyncio.sleep(0)
            gate.open()
            await asyncio.wait_for(joined, SOON)
            return thread.get_exit_status() == 0

        with started(gate.wait) as thread:
            assert asyncio.run(wait_for(thread, gate))
