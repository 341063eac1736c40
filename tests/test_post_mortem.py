# SPDX-License-Identifier: MIT
"""What the error for a dead child tells: who, how, of what, and where it was."""

from __future__ import annotations

import faulthandler
import gc
import os
import re
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any, Callable

import pytest
from deadline import SOON, wait_until
from process_table import open_descriptors
from scenario import output_of, run_program

import snakefish
from snakefish import ChildDiedError, Generator, Thread, _oom
from snakefish._oom import Tally


def die_by(number: int) -> None:
    os.kill(os.getpid(), number)
    signal.pause()


def the_culprit(number: int = signal.SIGSEGV) -> None:
    die_by(number)


@pytest.fixture
def stacks() -> Iterator[None]:
    """faulthandler is enabled, whatever the options of pytest."""
    was_enabled = faulthandler.is_enabled()
    faulthandler.enable()
    yield
    if not was_enabled:
        faulthandler.disable()


@pytest.fixture
def no_stacks() -> Iterator[None]:
    """faulthandler is not enabled, whatever the options of pytest."""
    was_enabled = faulthandler.is_enabled()
    faulthandler.disable()
    yield
    if was_enabled:
        faulthandler.enable()


def by_thread(f: Callable[[], Any]) -> None:
    with Thread(f) as thread:
        thread.start()
        thread.join(timeout=3 * SOON)
        thread.get_result()


def by_generator(f: Callable[[], Any]) -> None:
    def values() -> Iterator[Any]:
        yield f()

    with Generator(values) as generator:
        generator.start()
        generator.next(timeout=3 * SOON)


def by_map(f: Callable[[], Any]) -> None:
    snakefish.map(lambda _: f(), ["an item"])


def by_merging_map(f: Callable[[], Any]) -> None:
    snakefish.map(lambda _: f(), ["an item"], lambda mine: {}, lambda mine, theirs: None)


@pytest.fixture(params=[by_thread, by_generator, by_map, by_merging_map])
def way(request: Any) -> Callable[[Callable[[], Any]], None]:
    """Runs a function in a child: of Thread, Generator and map of either kind."""
    return request.param


def death_of(f: Callable[[], Any], way: Callable[..., None] = by_thread) -> ChildDiedError:
    """The error for a child that runs *f* and does not survive it."""
    with pytest.raises(ChildDiedError) as caught:
        way(f)
    return caught.value


def printed(error: BaseException) -> str:
    return "".join(traceback.format_exception(type(error), error, None))


class TestSentence:
    """The text of the error."""

    def test_names_the_signal(self, way: Any) -> None:
        """However the child was started, the error names the signal by number and name."""
        assert "was killed by signal 15 (SIGTERM)" in str(death_of(lambda: die_by(15), way))

    def test_names_the_exit_code(self, way: Any) -> None:
        """However the child was started, the error names the exit code."""
        assert "left with exit code 3" in str(death_of(lambda: os._exit(3), way))

    def test_says_what_was_cut_short(self) -> None:
        """A Thread had no result yet, a Generator no next value, a worker held items."""
        texts = [str(death_of(lambda: die_by(15), way)) for way in (by_thread, by_generator)]
        texts.append(str(death_of(lambda: die_by(15), by_map)))
        assert texts[0].endswith("(SIGTERM) before it had a result")
        assert texts[1].endswith("(SIGTERM) before it had a next value")
        assert texts[2].endswith("(SIGTERM) while it held item 0")

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT])
    def test_speaks_of_memory_after_sigkill_only(self, number: int) -> None:
        """Only SIGKILL is the out-of-memory killer's."""
        assert "memory" not in str(death_of(lambda: die_by(number)))

    def test_no_stack_hides_behind_the_error_of_another_kind(self, no_stacks: None) -> None:
        """Nothing else is shown with it: no exception from inside the package."""
        error = death_of(lambda: die_by(15), by_generator)
        assert error.__cause__ is None
        assert printed(error).count("\n") == 1


# ------------------------------------------------------------ out of memory


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def events(kills: int) -> str:
    """A memory.events of version 2."""
    return f"low 0\nhigh 0\nmax 12\noom 1\noom_kill {kills}\noom_group_kill 7\n"


def control(kills: int) -> str:
    """A memory.oom_control of version 1."""
    return f"oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n"


class TestFileToRead:
    """Where the count of this process's group is looked for, in trees as the kernel lays them."""

    def found(self, root: Path, membership: str) -> str:
        write(root / "membership", membership)
        write(root / "vmstat", "nr_free_pages 5\noom_kill 3\n")
        file = _oom.file_to_read(
            str(root / "trees"), str(root / "membership"), str(root / "vmstat")
        )
        return os.path.relpath(file, root)

    def test_version_2_is_the_events_of_its_own_group(self, tmp_path: Path) -> None:
        """Groups around it have counts of others, too."""
        for group in ("a", "a/b"):
            write(tmp_path / "trees" / group / "memory.events", events(1))
        assert self.found(tmp_path, "0::/a/b\n") == "trees/a/b/memory.events"

    def test_version_2_without_a_controller_of_its_own_is_the_group_around(
        self, tmp_path: Path
    ) -> None:
        """Memory is then accounted to that one."""
        write(tmp_path / "trees/a/memory.events", events(1))
        write(tmp_path / "trees/a/b/cgroup.procs", "")
        assert self.found(tmp_path, "0::/a/b\n") == "trees/a/memory.events"

    def test_version_1_is_the_control_of_its_own_group(self, tmp_path: Path) -> None:
        """It lies in the tree of the memory controller; version 2's entry leads nowhere."""
        write(tmp_path / "trees/memory/a/memory.oom_control", control(1))
        membership = "9:cpu,cpuacct:/x\n4:memory:/a\n0::/\n"
        assert self.found(tmp_path, membership) == "trees/memory/a/memory.oom_control"

    def test_in_a_container_the_root_is_its_group(self, tmp_path: Path) -> None:
        """The path is one of the outer world, and the mounted tree begins at the group."""
        write(tmp_path / "trees/memory/memory.oom_control", control(1))
        membership = "4:memory:/docker/0123456789abcdef\n"
        assert self.found(tmp_path, membership) == "trees/memory/memory.oom_control"

    @pytest.mark.parametrize("membership", ["0::/\n", "", "4:memory:/\n"])
    def test_else_it_is_the_systems(self, tmp_path: Path, membership: str) -> None:
        """The root group has no count, and there may be no groups at all."""
        assert self.found(tmp_path, membership) == "vmstat"

    def test_of_this_machine_has_a_count(self) -> None:
        """Linux has had one or the other since 4.13."""
        tally = _oom.tally()
        assert tally.file == _oom.file_to_read()
        assert tally.kills is not None


class TestRead:
    """Reading the count."""

    @pytest.mark.parametrize(
        ("text", "kills"),
        [
            (events(0), 0),
            (events(41), 41),
            (control(2), 2),
            ("oom_kill 5\n", 5),
            ("".join(f"line_{n} 1\n" for n in range(3000)) + "oom_kill 6\nlast 1\n", 6),
        ],
    )
    def test_finds_the_field(self, tmp_path: Path, text: str, kills: int) -> None:
        """At any place, and not by the beginning of another name."""
        write(tmp_path / "file", text)
        assert _oom.read(str(tmp_path / "file"))[:2] == (str(tmp_path / "file"), kills)

    @pytest.mark.parametrize("text", ["", "oom_kill_disable 0\nunder_oom 0\n"])
    def test_without_the_field_there_is_no_count(self, tmp_path: Path, text: str) -> None:
        """As with Linux before 4.13."""
        write(tmp_path / "file", text)
        assert _oom.read(str(tmp_path / "file")).kills is None

    def test_without_the_file_there_is_no_count(self, tmp_path: Path) -> None:
        """And that is no error."""
        assert _oom.read(str(tmp_path / "nothing")).kills is None
        assert _oom.read(str(tmp_path)).kills is None


class TestVerdict:
    """What is said of a SIGKILL."""

    def test_without_a_kill_somebody_sent_it(self, way: Any) -> None:
        """The count of this machine, where no memory is short."""
        assert "counted no out-of-memory kill meanwhile, so somebody sent that signal" in str(
            death_of(lambda: die_by(signal.SIGKILL), way)
        )

    @pytest.mark.parametrize(
        ("kills", "words"), [(1, "counted 1 out-of-memory kill "), (3, "3 out-of-memory kills ")]
    )
    def test_with_kills_memory_ran_out(self, kills: int, words: str) -> None:
        """Most likely: the count does not say who was killed, and may be from before the start."""
        now = _oom.read(_oom.file_to_read())
        assert now.kills is not None
        verdict = _oom.verdict(Tally(now.file, now.kills - kills, now.time_s - 7))
        assert words in verdict
        assert verdict.endswith("in the last 8 s, so most likely memory ran out")

    @pytest.mark.parametrize(
        "before", [Tally(_oom.file_to_read(), None, 0), Tally("/another/memory.events", 0, 0)]
    )
    def test_when_it_cannot_be_known_there_is_a_suspect(self, before: Tally) -> None:
        """No count before, or the process was moved to another group since."""
        assert _oom.verdict(before) == "the usual suspect is the out-of-memory killer"

    def test_a_kill_is_not_told_of_children_started_later(self) -> None:
        """A death that was looked at begins a new count."""
        _oom.verdict(Tally(_oom.file_to_read(), 0, 0.0))
        assert "no out-of-memory kill" in str(death_of(lambda: die_by(signal.SIGKILL)))


@pytest.fixture
def small_group() -> Iterator[str]:
    """A memory group of 256 MB inside this process's own, where one can be made."""
    group = Path(_oom.file_to_read()).parent / f"snakefish-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("no memory group can be made here")
    limits = [group / "memory.max", group / "memory.limit_in_bytes"]
    try:
        [limit.write_text(str(256 << 20)) for limit in limits if limit.exists()] or pytest.skip(
            "the memory of a group cannot be limited here"
        )
        yield str(group)
    finally:
        wait_until(lambda: not (group / "cgroup.procs").read_text(), "processes in the group")
        group.rmdir()


def test_of_a_real_shortage_is_told(small_group: str) -> None:
    """In a group with too little memory, the kernel kills the child and the error says so."""
    inside = ["sh", "-c", f'echo $$ > {small_group}/cgroup.procs && exec "$@"', "sh"]
    [line] = output_of(
        """
        def eat():
            eaten = []
            while True:
                eaten.append(b"x" * (1 << 22))
        with Thread(eat, name="eater") as thread:
            thread.start()
            thread.join()
            try:
                thread.get_result()
            except snakefish.ChildDiedError as error:
                say(error)
        """,
        prefix=inside,
    )
    assert re.fullmatch(
        r"eater \(pid \d+\) was killed by signal 9 \(SIGKILL\) before it had a result; its cgroup "
        r"counted 1 out-of-memory kill in the last \d+ s, so most likely memory ran out",
        line,
    )


# --------------------------------------------------------------------- stacks


class TestStack:
    """The stack of a child that crashed, where faulthandler is enabled."""

    @pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS])
    def test_is_the_cause_of_the_error(self, stacks: None, number: int) -> None:
        """It names the function, in what a printed traceback shows."""
        error = death_of(lambda: the_culprit(number))
        assert isinstance(error.__cause__, snakefish.RemoteTraceback)
        assert "in the_culprit" in str(error.__cause__)
        assert "in the_culprit" in printed(error)
        assert "direct cause" in printed(error)

    def test_comes_from_every_kind_of_child(self, stacks: None, way: Any) -> None:
        """Thread, Generator and map."""
        assert "in the_culprit" in printed(death_of(the_culprit, way))

    def test_of_a_real_fault_is_told(self, stacks: None) -> None:
        """A read of address 0 does the same as a signal sent."""
        error = death_of(faulthandler._sigsegv)  # type: ignore[attr-defined]
        assert "Segmentation fault" in str(error.__cause__)

    def test_is_told_each_time_the_error_is_raised(self, stacks: None) -> None:
        """The error is made afresh, with its cause."""
        with Thread(the_culprit) as thread:
            thread.start()
            thread.join()
            for _ in range(2):
                with pytest.raises(ChildDiedError) as caught:
                    thread.get_result()
                assert "in the_culprit" in str(caught.value.__cause__)

    def test_is_not_there_without_a_fault(self, stacks: None) -> None:
        """SIGKILL and exits leave none."""
        assert death_of(lambda: die_by(signal.SIGKILL)).__cause__ is None
        assert death_of(lambda: os._exit(3)).__cause__ is None

    def test_is_not_there_without_faulthandler(self, no_stacks: None) -> None:
        """Who did not ask for it gets the plain error."""
        assert death_of(the_culprit).__cause__ is None

    def test_of_a_child_is_its_own(self, stacks: None) -> None:
        """Children that crash at the same time do not write into each other's."""

        def first_culprit() -> None:
            the_culprit()

        def second_culprit() -> None:
            the_culprit()

        with Thread(first_culprit) as first, Thread(second_culprit) as second:
            for thread in (first, second):
                thread.start()
            for thread, name, other in [
                (second, "second_culprit", "first_culprit"),
                (first, "first_culprit", "second_culprit"),
            ]:
                thread.join()
                with pytest.raises(ChildDiedError) as caught:
                    thread.get_result()
                assert name in str(caught.value.__cause__)
                assert other not in str(caught.value.__cause__)

    def test_of_an_earlier_child_is_not_shown_again(self, stacks: None) -> None:
        """The place of one that was long is clean for one that is short."""

        def deep(levels: int) -> None:
            deep(levels - 1) if levels else the_culprit()

        long = str(death_of(lambda: deep(60)).__cause__)
        short = str(death_of(the_culprit).__cause__)
        assert long.count("in deep") == 61
        assert short.count("in deep") == 0
        assert len(short) < len(long)

    def test_of_a_grandchild_is_told_by_the_child(self, stacks: None) -> None:
        """The child is the parent of that one, and has its error as its result."""

        def child() -> str:
            return printed(death_of(the_culprit))

        with Thread(child) as thread:
            thread.start()
            thread.join()
            assert "in the_culprit" in thread.get_result()

    def test_of_a_child_with_children_of_its_own_is_told(self, stacks: None) -> None:
        """That it has started others takes nothing of its own place."""

        def child() -> None:
            death_of(the_culprit)
            the_last_culprit()

        def the_last_culprit() -> None:
            die_by(signal.SIGSEGV)

        text = str(death_of(child).__cause__)
        assert "in the_last_culprit" in text
        assert "in the_culprit" not in text

    def test_in_a_child_of_a_plain_fork_is_told(self, stacks: None) -> None:
        """A process that os.fork made tells of its children, and not into its parent's file."""
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.write(write, str("in the_culprit" in printed(death_of(the_culprit))).encode())
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        assert os.read(read, 10) == b"True"
        os.close(read), os.close(write)
        assert "in the_culprit" in printed(death_of(the_culprit))


class TestStackUntold:
    """A stack that no error has told."""

    def complaint(self, program: str) -> str:
        ended = run_program("import faulthandler; faulthandler.enable()\n" + dedent(program))
        assert ended.status == 0, ended
        return ended.complaint

    def test_is_written_at_dispose(self) -> None:
        """To stderr, where it would have gone; under the name of the child."""
        complaint = self.complaint(
            """
            def the_culprit():
                faulthandler._sigsegv()
            with Thread(the_culprit, name="crasher") as thread:
                thread.start()
                thread.join()
            """
        )
        assert complaint.startswith("crasher (pid ")
        assert "SIGSEGV" in complaint.splitlines()[0]
        assert complaint.count("in the_culprit") == 1

    def test_is_written_when_nobody_joined(self) -> None:
        """Dispose takes in what a child left that had crashed before."""
        assert "in the_culprit" in self.complaint(
            """
            def the_culprit():
                faulthandler._sigsegv()
            thread = Thread(the_culprit)
            thread.start()
            select.select([thread], [], [])
            thread.dispose()
            """
        )

    def test_is_not_written_once_told(self) -> None:
        """The error had it."""
        complaint = self.complaint(
            """
            def the_culprit():
                faulthandler._sigsegv()
            with Thread(the_culprit) as thread:
                thread.start()
                thread.join()
                try:
                    thread.get_result()
                except RuntimeError:
                    pass
            """
        )
        assert complaint == ""

    def test_needs_no_stderr(self) -> None:
        """A program that has none is not disturbed."""
        assert (
            self.complaint(
                """
            sys.stderr = None
            with Thread(faulthandler._sigsegv) as thread:
                thread.start()
                thread.join()
            """
            )
            == ""
        )


class TestDescriptors:
    """What the stacks cost."""

    def test_one_serves_all_children(self, stacks: None) -> None:
        """Twenty children at once cost no more descriptors with faulthandler than without."""
        death_of(the_culprit)
        before = len(open_descriptors())
        threads = [Thread(signal.pause) for _ in range(20)]
        for thread in threads:
            thread.start()
        assert len(open_descriptors()) == before + 20
        for thread in threads:
            thread.dispose()
        assert len(open_descriptors()) == before

    def test_nothing_is_kept_of_children_that_end(self, stacks: None) -> None:
        """However they end: well, by a crash, disposed of while they run, or forgotten."""
        death_of(the_culprit)
        before = open_descriptors()
        for _ in range(5):
            death_of(the_culprit)
            for f in (int, signal.pause):
                thread = Thread(f)
                thread.start()
                thread.dispose()
            thread = Thread(signal.pause)
            thread.start()
            del thread
        gc.collect()
        wait_until(lambda: gc.collect() or open_descriptors() == before, "descriptors are left")

    def test_a_child_has_one_of_its_own_and_not_its_parents(self, stacks: None) -> None:
        """So has a grandchild: they do not add up."""

        def files() -> list[str]:
            return [name for name in open_descriptors().values() if "snakefish-stacks" in name]

        def result_of(f: Callable[[], Any]) -> Any:
            with Thread(f) as thread:
                thread.start()
                thread.join()
                return thread.get_result()

        result_of(int)
        assert [len(files()), len(result_of(files)), len(result_of(lambda: result_of(files)))] == [
            1,
            1,
            1,
        ]

    def test_a_program_started_meanwhile_inherits_none(self, stacks: None) -> None:
        """They are closed by exec, in the parent and in a child."""
        listing = [sys.executable, "-c", "import os; print(os.listdir('/proc/self/fd'))"]
        without = subprocess.check_output(listing, close_fds=False)
        with Thread(lambda: subprocess.check_output(listing, close_fds=False)) as thread:
            thread.start()
            thread.join()
            assert thread.get_result() == without

    def test_one_that_the_user_closed_is_replaced(self) -> None:
        """Whoever closes all descriptors gets stacks all the same, and his own files are left."""
        assert output_of(
            """
            import faulthandler, tempfile
            faulthandler.enable()
            def the_culprit():
                faulthandler._sigsegv()
            def stack():
                with Thread(the_culprit) as thread:
                    thread.start()
                    thread.join()
                    try:
                        thread.get_result()
                    except RuntimeError as error:
                        return str(error.__cause__)
            stack()
            [number] = [n for n in os.listdir("/proc/self/fd")
                        if "snakefish-stacks" in os.path.realpath(f"/proc/self/fd/{n}")]
            with tempfile.TemporaryFile() as file:
                os.dup2(file.fileno(), int(number))
                say("in the_culprit" in stack(), os.fstat(int(number)).st_size)
            """
        ) == ["True 0"]

    def test_without_one_to_be_had_a_start_can_be_tried_again(self) -> None:
        """At the limit of descriptors it fails as it does without faulthandler."""
        assert output_of(
            """
            import faulthandler, resource
            with Thread(int) as first:
                first.start()
                first.join()
            faulthandler.enable()
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            free = os.open("/dev/null", os.O_RDONLY)
            os.close(free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
            thread = Thread(lambda: 42)
            try:
                thread.start()
            except RuntimeError as error:
                say(isinstance(error, snakefish.StartError))
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            thread.start()
            thread.join()
            say(thread.get_result())
            """
        ) == ["True", "42"]
