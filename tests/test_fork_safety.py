# SPDX-License-Identifier: MIT
"""The warning about threads at a fork: when it comes, what it says, and what it leaves alone.

It comes once a process, so each test has a program of its own.
"""

from __future__ import annotations

import re
import sys
from textwrap import dedent
from typing import Any

import pytest
from scenario import PREAMBLE, Ended, run_program

import snakefish
from snakefish import ForkSafetyWarning

UNFILTERED = "".join(line for line in PREAMBLE.splitlines(True) if "filterwarnings" not in line)

READER = """
import faulthandler, threading, time
stop = threading.Event()
reader = threading.Thread(target=stop.wait, name="reader", daemon=True)
reader.start()
"""

FORKS = {
    "Thread": "Thread(int).start()",
    "Generator": "Generator(lambda: (yield 1)).start()",
    "map": "snakefish.map(abs, [1])",
    "merging map": "snakefish.map(abs, [1], lambda mine: {}, lambda mine, theirs: None)",
    "starmap": "snakefish.starmap(pow, [(1, 1)])",
}


def run(program: str, threads: str = READER, **how: Any) -> Ended:
    ended = run_program(threads + dedent(program), preamble=UNFILTERED, **how)
    assert ended.status == 0, ended
    return ended


def warnings_of(statement: str, threads: str = READER) -> list[str]:
    """What is warned of while *statement* runs, each as `class|file|line|text`."""
    ended = run(
        f"""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            exec(compile({statement!r}, "the user's file", "exec"))
        for one in caught:
            say("|".join([one.category.__name__, one.filename, str(one.lineno), str(one.message)]))
        """,
        threads,
    )
    return ended.output.splitlines()


def text_of(statement: str = "Thread(int).start()", threads: str = READER) -> str:
    """The text of the one warning while *statement* runs."""
    [warning] = warnings_of(statement, threads)
    return warning.split("|")[3]


class TestWhen:
    """When the warning comes."""

    @pytest.mark.parametrize("fork", FORKS.values(), ids=FORKS)
    def test_once_at_the_line_of_the_user(self, fork: str) -> None:
        """Whatever forks: one warning, in the class and at the line that can be filtered by.

        CPython's own, from 3.12 on, is not given in addition.
        """
        [warning] = warnings_of(f"\n\n{fork}\n{fork}")
        assert warning.startswith("ForkSafetyWarning|the user's file|3|")

    def test_it_is_shown_by_default(self) -> None:
        """Once, with its class and the line, on stderr."""
        complaint = run("Thread(int).start()\nThread(int).start()").complaint
        assert complaint.count("ForkSafetyWarning") == 2  # the class, and in what to do
        assert complaint.count("1 other thread runs") == 1

    @pytest.mark.parametrize("fork", FORKS.values(), ids=FORKS)
    def test_not_without_threads(self, fork: str) -> None:
        """A program of one thread sees none."""
        assert warnings_of(fork, threads="") == []

    def test_not_after_threads_have_ended(self) -> None:
        """A thread that was joined is gone, even if the kernel needs a moment more."""
        run(
            """
            import threading
            for _ in range(100):
                thread = threading.Thread(target=int)
                thread.start()
                thread.join()
                with Thread(int) as child:
                    child.start()
            """,
            threads="",
            options=["-W", "error"],
        )

    def test_not_for_the_bar_of_a_map(self) -> None:
        """tqdm would start a thread of its own before the children."""
        program = "snakefish.map(abs, [1, 2], progress=True)"
        ended = run(program, threads="", options=["-W", "error::RuntimeWarning"])
        assert "2/2" in ended.complaint

    def test_not_again_in_children(self) -> None:
        """What the parent has said its children do not repeat."""
        complaint = run(
            """
            def child():
                import threading
                thread = threading.Thread(target=stop.wait, daemon=True)
                thread.start()
                snakefish.map(abs, [1, 2])
            with Thread(child) as thread:
                thread.start()
                thread.join()
                thread.get_result()
            """
        ).complaint
        assert complaint.count("1 other thread runs") == 1

    def test_in_a_child_with_threads_of_its_own(self) -> None:
        """A parent without threads has said nothing, and the child says it."""
        complaint = run(
            """
            def child():
                import threading
                threading.Thread(target=signal.pause, name="inner", daemon=True).start()
                snakefish.map(abs, [1, 2])
            with Thread(child) as thread:
                thread.start()
                thread.join()
                thread.get_result()
            """,
            threads="",
        ).complaint
        assert "'inner'" in complaint


class TestText:
    """What it says."""

    def test_names_the_threads_of_python(self) -> None:
        """By the names they have in threading, the forking one left out."""
        assert text_of().startswith("1 other thread runs in this process: 'reader'. A forked child")

    def test_names_the_main_thread_if_another_one_forks(self) -> None:
        """Then that is one of those which the child will not have."""
        forks = "t = threading.Thread(target=Thread(int).start); t.start(); t.join()"
        text = text_of(forks)
        assert "2 other threads run" in text
        assert "'MainThread', 'reader'" in text

    def test_names_other_threads_as_the_kernel_knows_them(self) -> None:
        """Those of libraries, which Python did not start."""
        native = """
import faulthandler
with open("/proc/self/comm", "w") as comm:
    comm.write("a-library")
faulthandler.dump_traceback_later(60)
"""
        assert "1 that Python did not start (a-library)" in text_of(threads=native)
        both = text_of(threads=READER + native)
        assert "2 other threads run in this process: 'reader' and 1 that" in both

    def test_names_a_few_of_many(self) -> None:
        """A hundred threads do not make a hundred lines."""
        many = (
            READER + "for n in range(20): threading.Thread(target=stop.wait, daemon=True).start()"
        )
        text = text_of(threads=many)
        assert "21 other threads run" in text
        assert ", 13 more." in text

    @pytest.mark.parametrize(
        ("file", "library"),
        [
            ("libcuda.so.1", "CUDA"),
            ("libcudart-d0da41ae.so.11.0", "CUDA"),
            ("cygrpc.cpython-311-x86_64-linux-gnu.so", "gRPC"),
            ("libgomp-a34b3233.so.1.0.0", "GNU OpenMP"),
            ("libtbb.so.12", "TBB"),
            ("xla_extension.so", "XLA"),
        ],
    )
    def test_names_libraries_that_break(self, file: str, library: str, tmp_path: Any) -> None:
        """Those that are loaded and known for it, with the name of the file."""
        assert f"Known to break in a child: {library} ({file}). Start" in self.with_file(
            tmp_path / file
        )

    @pytest.mark.parametrize("file", ["libomp.so.5", "libiomp5.so", "libtbbmalloc.so.2", "libc.so"])
    def test_names_no_other_library(self, file: str, tmp_path: Any) -> None:
        """LLVM's OpenMP, which is also Intel's, starts afresh in a child."""
        assert "Known to break" not in self.with_file(tmp_path / file)

    def with_file(self, path: Any) -> str:
        """The text where a file of that name is in memory, as a library is."""
        path.write_bytes(bytes(4096))
        loaded = f"""
import mmap
with open({str(path)!r}, "r+b") as file:
    loaded = mmap.mmap(file.fileno(), 0)
"""
        return text_of(threads=READER + loaded)

    def test_says_what_to_do(self) -> None:
        """The line to silence it can be copied from it, and works."""
        [line] = re.findall(r"warnings\.filterwarnings\(.*\)", text_of())
        assert run(f"{line}\nThread(int).start()").complaint == ""


class TestAsAnError:
    """Where warnings are errors."""

    @pytest.mark.parametrize("fork", FORKS.values(), ids=FORKS)
    def test_nothing_was_forked(self, fork: str) -> None:
        """It is raised before the fork, each time it is tried, and leaves nothing behind."""
        ended = run(
            f"""
            from process_table import children, open_descriptors
            warnings.simplefilter("ignore")
            os.register_at_fork(before=lambda: say("a fork"))
            before = open_descriptors()
            warnings.simplefilter("error")
            for _ in range(2):
                try:
                    {fork}
                except snakefish.ForkSafetyWarning as error:
                    say(isinstance(error, snakefish.SnakefishError))
            say(children(), open_descriptors() == before)
            """
        )
        assert ended.output.splitlines() == ["True", "True", "set() True"]

    def test_it_can_be_started_again(self) -> None:
        """The object is as if start had not been called."""
        ended = run(
            """
            thread, generator = Thread(lambda: 42), Generator(lambda: (yield 43))
            for child in (thread, generator):
                try:
                    child.start()
                except snakefish.ForkSafetyWarning:
                    say(child.is_alive(), child.pid)
            stop.set()
            reader.join()
            thread.start()
            generator.start()
            thread.join()
            say(thread.get_result(), generator.next())
            """,
            options=["-W", "error"],
        )
        assert ended.output.splitlines() == ["False None", "False None", "42 43"]

    def test_it_can_be_silenced(self) -> None:
        """By a filter for its class alone, wherever in the program that stands."""
        run(
            """
            warnings.filterwarnings("ignore", category=snakefish.ForkSafetyWarning)
            snakefish.map(abs, [1, 2])
            snakefish.map(abs, [1, 2])
            """,
            options=["-W", "error"],
        )


def test_class_is_public() -> None:
    """It is a RuntimeWarning, and of the family."""
    assert issubclass(ForkSafetyWarning, RuntimeWarning)
    assert issubclass(ForkSafetyWarning, snakefish.SnakefishError)
    assert ForkSafetyWarning.__module__ == "snakefish"


@pytest.mark.skipif(
    sys.implementation.name != "cpython" or sys.version_info < (3, 12),
    reason="this Python does not warn of threads",
)
def test_warnings_of_others_pass() -> None:
    """Only Python's own about the fork is held back: os.fork of the user's still warns."""
    [ours, pythons] = warnings_of("Thread(int).start()\nos.fork() or os._exit(0)")
    assert ours.startswith("ForkSafetyWarning|")
    assert pythons.startswith("DeprecationWarning|the user's file|2|")
