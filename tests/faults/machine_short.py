# SPDX-License-Identifier: MIT
"""Section E: the machine runs short, of processes, memory, descriptors or files."""

from __future__ import annotations

import errno
import os
import resource
import threading
from typing import TYPE_CHECKING, Any, Callable

import scarcity
from libraries import Library
from process_table import children, open_descriptors
from row import Row
from scenario import Program
from stage import Stage, for_ever
from ways import WAYS, by_thread, not_merged, nothing_of

import snakefish
from snakefish import Channel, Generator, Thread

if TYPE_CHECKING:
    from collections.abc import Iterator


def answer() -> int:
    return 42


def square(number: int) -> int:
    return number * number


SQUARES = [0, 1, 4, 9, 16]


def answer_or_error(stage: Stage, call: Callable[[], Any], expected: Any, *errors: type) -> None:
    """*call* gives what is expected or one of these errors, soon."""
    try:
        value = stage.quickly(call, 3)
    except errors:
        return
    except BaseException as error:
        stage.expect(False, f"{type(error).__name__}: {error}")
    stage.expect(value == expected, f"{value!r:.40} instead of {expected!r:.40}")


def map_or_error(stage: Stage, library: Library) -> None:
    """A map gives its results or an error, soon."""
    answer_or_error(stage, lambda: library.map(square, range(5)), SQUARES, Exception)


def call_and_map_or_error(stage: Stage, library: Library) -> None:
    """So does a call, and then a map."""
    answer_or_error(stage, lambda: library.call(answer), 42, Exception)
    map_or_error(stage, library)


def works_again(stage: Stage, library: Library) -> None:
    """When there is enough again, everything is as if nothing had been."""
    stage.expect(library.call(answer) == 42, "afterwards, another result")
    stage.expect(library.map(square, range(5)) == SQUARES, "afterwards, other results")


def ours_work(stage: Stage) -> None:
    """Every way of ours works."""
    for way in WAYS:
        stage.expect(way(answer) == 42, f"{way.__name__} does not work afterwards")


# ---------------------------------------------------------------------- processes

E1 = Row(
    "E1",
    "fork fails: no process, no memory, refused",
    "RuntimeError with the reason; start can be tried again; no descriptor leaks",
)


@E1.comparison()
def a_user_without_processes(stage: Stage, library: Library) -> None:
    """A call and a map fail soon or do without new ones; later all is well again."""
    for _ in stage.times(2):
        stage.inject()
        with scarcity.processes(0):
            call_and_map_or_error(stage, library)
        works_again(stage, library)


REASONS = (errno.EAGAIN, errno.ENOMEM, errno.EPERM, errno.ENOSYS, errno.ENOSPC, errno.EUSERS)


def in_a_thread_without(call: str, error: int, action: Callable[[], None]) -> None:
    """Run *action* in a thread to which the kernel refuses a system call."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            scarcity.refuse(call, error)
            action()
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def yields_one() -> Iterator[int]:
    yield 42


@E1.scenario()
def every_reason_of_the_kernels(stage: Stage) -> None:
    """Whatever errno fork gives, it is in the error; the same objects start when it is over."""
    for _ in stage.times(1):
        for reason in REASONS:
            thread, generator = Thread(answer), Generator(yields_one)
            before = open_descriptors()

            def fail(reason: int = reason) -> None:
                calls: list[Callable[[], Any]] = [thread.start, generator.start]
                calls.append(lambda: snakefish.map(square, range(4), concurrency=2))
                calls.append(
                    lambda: snakefish.map(square, range(4), nothing_of, not_merged, concurrency=2)
                )
                for call in [*calls, *calls]:
                    stage.inject()
                    error = stage.quickly(lambda call=call: stage.error_of(call))
                    stage.expect(isinstance(error, RuntimeError), f"{error!r}")
                    stage.expect(isinstance(error, snakefish.SnakefishError), f"{error!r}")
                    stage.expect(os.strerror(reason) in str(error), f"says {error}")
                    cause = getattr(error.__cause__, "errno", None)
                    stage.expect(cause == reason, f"caused by {error.__cause__!r}")

            in_a_thread_without("fork", reason, fail)
            stage.expect(open_descriptors() == before, "descriptors are left")
            thread.start()
            thread.join()
            stage.expect(thread.get_result() == 42, "the second start has another result")
            generator.start()
            stage.expect(generator.next() == 42, "the second start has another value")
            generator.join()
            thread.dispose()
            generator.dispose()


@E1.scenario()
def no_process_for_a_user(stage: Stage) -> None:
    """The limit of a real user: failed starts leave nothing, later ones work."""
    for _ in stage.times(10):
        thread, generator = Thread(answer), Generator(yields_one)
        before = open_descriptors()
        with scarcity.processes(0):
            for start in (thread.start, generator.start, thread.start):
                stage.inject()
                error = stage.error_of(start)
                stage.expect(isinstance(error, RuntimeError), f"{error!r}")
                stage.expect(os.strerror(errno.EAGAIN) in str(error), f"says {error}")
        stage.expect(open_descriptors() == before, "descriptors are left")
        for one in (thread, generator):
            one.start()
            one.join()
            one.dispose()
        stage.expect(not children(), "children are left")


STEPS = {
    "pidfd_open": (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSYS, errno.EPERM),
    "pipe2": (errno.EMFILE, errno.ENFILE),
    "memfd_create": (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSYS, errno.EPERM),
    "ftruncate": (errno.ENOMEM, errno.EFBIG, errno.ENOSPC),
    "mmap": (errno.ENOMEM, errno.EAGAIN, errno.EPERM),
}


@E1.scenario()
def every_other_step_of_a_start(stage: Stage) -> None:
    """Whatever else a start asks of the kernel is refused: an error or success, nothing left."""
    for _ in stage.times(1):
        for call, reasons in STEPS.items():
            for reason in reasons:
                before = open_descriptors()
                in_a_thread_without(call, reason, lambda: every_way_or_an_error(stage))
                found = {n: what for n, what in open_descriptors().items() if n not in before}
                stage.expect(not found, f"without {call}, {found} are left")
                stage.expect(not children(), f"without {call}, children are left")
    ours_work(stage)


def every_way_or_an_error(stage: Stage) -> None:
    """Every way and a channel give the answer or an error of the contract."""
    for way in (*WAYS, through_a_channel):
        stage.inject()
        answer_or_error(stage, lambda way=way: way(answer), 42, RuntimeError, OSError, MemoryError)


def through_a_channel(function: Callable[[], Any]) -> Any:
    """What *function* returns, sent through a Channel by a Thread."""
    with Channel() as channel:
        by_thread(lambda: channel.send_pyobj(function()))
        return channel.receive_pyobj()


# ------------------------------------------------------------------------- memory

E2 = Row(
    "E2",
    "no address space (RLIMIT_AS, RLIMIT_DATA)",
    "MemoryError or OSError from Channel(); a Thread works under a limit of 400 MB",
)


def program(source: str) -> Program:
    """A program that finds the modules of the scenarios."""
    return Program(source, environment={"PYTHONPATH": os.environ["PYTHONPATH"]})


def ends_well(stage: Stage, source: str) -> list[str]:
    """What a program says that ends with status 0 and leaves no process."""
    with program(source) as running:
        ended = running.wait()
        stage.expect(ended.status == 0, f"status {ended.status}: {ended.complaint[-300:]}")
        running.wait_for_the_last()
        return ended.output.splitlines()


@E2.scenario()
def everything_works_within_400_megabytes(stage: Stage) -> None:
    """Threads, generators, maps and channels, beside a channel of default size."""
    for _ in stage.times(1):
        stage.inject()
        said = ends_well(
            stage,
            """
            import resource
            resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))
            from machine_short import answer, through_a_channel
            from ways import WAYS
            with Channel():
                for way in (*WAYS, through_a_channel):
                    say(way(answer))
            """,
        )
        stage.expect(said == ["42"] * 5, f"says {said}")


@E2.comparison(timeout=30)
def little_address_space_is_an_error_or_enough(stage: Stage, library: Library) -> None:
    """A call and a map succeed or fail soon, and work when there is memory again."""
    for megabytes in (64, 32, 16, 8):
        stage.inject()
        with scarcity.address_space(megabytes):
            call_and_map_or_error(stage, library)
        works_again(stage, library)


@E2.scenario()
def channels_of_every_size_with_little_address_space(stage: Stage) -> None:
    """A channel is had whole or refused; what it refuses leaves nothing; a smaller one works."""
    for _ in stage.times(5):
        with scarcity.address_space(100):
            for power in range(40, 11, -2):
                stage.inject()
                try:
                    channel = Channel(1 << power)
                except (MemoryError, OSError):
                    stage.expect(power > 26, f"{1 << power} bytes are refused")
                    continue
                stage.expect(power < 27, f"{1 << power} bytes are promised")
                channel.send_pyobj("small")
                stage.expect(channel.receive_pyobj() == "small", "another message")
                channel.dispose()
            stage.expect(through_a_channel(answer) == 42, "one of default size does not work")
            ours_work(stage)


@E2.scenario()
def less_and_less_address_space(stage: Stage) -> None:
    """At each megabyte fewer: the answer or a clear error, nothing left, fine afterwards."""
    for _ in stage.times(1):
        for megabytes in (100, 70, 50, 40, 30, 20, 16, 12, 10):
            before = open_descriptors()
            with scarcity.address_space(megabytes):
                every_way_or_an_error(stage)
            stage.expect(open_descriptors() == before, "descriptors are left")
            stage.expect(not children(), "children are left")
        ours_work(stage)


@E2.scenario()
def no_private_memory_to_grow_by(stage: Stage) -> None:
    """A limit on data, as strict accounting has it: what is shared does not count."""
    with open("/proc/self/status", encoding="ascii") as file:
        data = next(int(line.split()[1]) for line in file if line.startswith("VmData"))
    for _ in stage.times(5):
        stage.inject()
        with scarcity.limited(resource.RLIMIT_DATA, (data << 10) + (48 << 20)):
            ours_work(stage)
            stage.expect(through_a_channel(answer) == 42, "a channel does not work")


# -------------------------------------------------------------------- descriptors

E3 = Row(
    "E3",
    "no file descriptor at any of the first steps",
    "a clear error or success; nothing leaks; works again afterwards",
)
FIRST_STEPS = range(10)


@E3.comparison(timeout=60)
def a_call_with_few_descriptors(stage: Stage, library: Library) -> None:
    """However many are left: the answer or an error, soon; then it works again."""
    for spare in FIRST_STEPS:
        stage.inject()
        with scarcity.descriptors(spare):
            call_and_map_or_error(stage, library)
        works_again(stage, library)


@E3.scenario()
def every_way_with_few_descriptors(stage: Stage) -> None:
    """Each way of ours and a channel, one descriptor more each time, until all work."""
    for _ in stage.times(3):
        for spare in FIRST_STEPS:
            before = open_descriptors()
            with scarcity.descriptors(spare):
                every_way_or_an_error(stage)
            stage.expect(open_descriptors() == before, f"with {spare} spare, descriptors are left")
            stage.expect(not children(), f"with {spare} spare, children are left")
        ours_work(stage)
        with scarcity.descriptors(FIRST_STEPS[-1]):
            ours_work(stage)


@E3.scenario(timeout=60)
def the_first_use_in_a_program_with_few_descriptors(stage: Stage) -> None:
    """What a program makes once, with its first use, fails and is made later."""
    for _ in stage.times(1):
        for first in ("by_thread", "by_generator", "by_map", "through_a_channel"):
            stage.inject()
            said = ends_well(
                stage,
                f"""
                import scarcity, ways
                from machine_short import answer, through_a_channel
                from ways import by_thread, by_generator, by_map
                for spare in {list(FIRST_STEPS)}:
                    pid = os.fork()  # a process that has not used anything yet
                    if pid == 0:
                        status = 1
                        try:
                            with scarcity.descriptors(spare):
                                try:
                                    assert {first}(answer) == 42
                                except (OSError, RuntimeError, MemoryError):
                                    pass
                            for way in (*ways.WAYS, through_a_channel):
                                assert way(answer) == 42
                            status = 0
                        finally:
                            os._exit(status)
                    say(os.waitpid(pid, 0)[1])
                """,
            )
            stage.expect(said == ["0"] * len(FIRST_STEPS), f"{first} first: statuses {said}")


@E3.scenario()
def a_parent_of_many_runs_out_in_the_middle(stage: Stage) -> None:
    """The start that finds none left fails; those before it go on; then there is room again."""
    for _ in stage.times(5):
        threads = [Thread(for_ever) for _ in range(20)]
        with scarcity.descriptors(12):
            started = 0
            for thread in threads:
                try:
                    thread.start()
                    started += 1
                except (RuntimeError, OSError):
                    stage.inject()
            stage.expect(0 < started < 20, f"{started} of 20 were started")
            stage.expect(
                sum(thread.is_alive() for thread in threads) == started, "one that ran has died"
            )
            threads[0].dispose()
            with Thread(answer) as again:
                again.start()
                again.join()
                stage.expect(again.get_result() == 42, "another result")
        for thread in threads:
            thread.dispose()


# -------------------------------------------------------------------------- files

E4 = Row("E4", "/dev/shm full, read-only, without inodes", "it is not needed at all")

SHORT_OF_SHM = {
    "full": (
        'scarcity.mount_memory("/dev/shm", "size=4k"); open("/dev/shm/f", "wb").write(bytes(4096))'
    ),
    "without inodes": 'scarcity.mount_memory("/dev/shm", "nr_inodes=1")',
    "read-only": 'scarcity.mount_memory("/dev/shm", "size=4k", read_only=True)',
}


@E4.comparison(timeout=60)
def works_without_dev_shm(stage: Stage, library: Library) -> None:
    """A call and a map, in a program that sees such a /dev/shm."""
    for trouble, injection in SHORT_OF_SHM.items():
        stage.inject()
        source = f"""
import scarcity
from libraries import {type(library).__name__} as Library
from machine_short import answer, square
scarcity.leave_the_mounts()
{injection}
library = Library()
say(library.call(answer))
say(library.map(square, range(5)))
library.close()
"""
        with program(source) as running:
            ended = running.wait()
            last = (ended.complaint.strip().splitlines() or ["?"])[-1]
            stage.expect(ended.status == 0, f"{trouble}: {last}")
            said = ended.output.splitlines()
            stage.expect(said == ["42", "[0, 1, 4, 9, 16]"], f"{trouble}: says {said}")
            running.wait_for_the_last()


@E4.scenario()
def all_of_ours_works_without_dev_shm(stage: Stage) -> None:
    """Every way, a channel, and a result larger than the whole of it."""
    for _ in stage.times(1):
        for trouble, injection in SHORT_OF_SHM.items():
            stage.inject()
            said = ends_well(
                stage,
                f"""
                import scarcity, ways
                from machine_short import answer, through_a_channel
                scarcity.leave_the_mounts()
                {injection}
                for way in (*ways.WAYS, through_a_channel):
                    say(way(answer), len(way(lambda: bytes(1 << 20))))
                """,
            )
            stage.expect(said == ["42 1048576"] * 5, f"{trouble}: says {said}")


E6 = Row("E6", "no file may grow (RLIMIT_FSIZE, SIGXFSZ)", "not affected")


@E6.comparison()
def works_when_no_file_may_grow(stage: Stage, library: Library) -> None:
    """A call and a map, in a process that may write no file."""
    for _ in stage.times(2):
        stage.inject()
        with scarcity.limited(resource.RLIMIT_FSIZE, 0):
            works_again(stage, library)


@E6.scenario()
def large_messages_when_no_file_may_grow(stage: Stage) -> None:
    """Whatever the size, no memory of ours counts as a file."""
    for _ in stage.times(3):
        for size in (1, 5000, 1 << 16, 1 << 20, 1 << 24):
            stage.inject()
            with scarcity.limited(resource.RLIMIT_FSIZE, 0):
                for way in (*WAYS, through_a_channel):
                    value = way(lambda size=size: bytes(size))
                    stage.expect(value == bytes(size), f"{way.__name__}: {size} bytes do not pass")


# ----------------------------------------------------------------- half of a map

E8 = Row(
    "E8",
    "the n-th fork of a map fails",
    "RuntimeError; those before it are ended and reaped",
)


@E8.comparison()
def the_second_worker_cannot_be_had(stage: Stage, library: Library) -> None:
    """An error or the results, soon, and no process left; then it works again."""
    for _ in stage.times(2):
        stage.inject()
        with scarcity.processes(1):
            map_or_error(stage, library)
        works_again(stage, library)


@E8.scenario()
def those_before_it_are_ended_and_reaped(stage: Stage) -> None:
    """Whichever fork fails, with merging and without, its predecessors busy for ever."""
    for _ in stage.times(3):
        for allowed in range(4):
            for merging in ((), (nothing_of, not_merged)):
                before = open_descriptors()
                stage.inject()

                def call(merging: Any = merging) -> Any:
                    return snakefish.map(
                        lambda _: for_ever(), range(8), *merging, concurrency=5, chunksize=1
                    )

                with scarcity.processes(allowed):
                    error = stage.quickly(lambda call=call: stage.error_of(call))
                stage.expect(isinstance(error, RuntimeError), f"{error!r}")
                stage.expect(os.strerror(errno.EAGAIN) in str(error), f"says {error}")
                stage.expect(not children(), "those before it are left")
                stage.expect(open_descriptors() == before, "descriptors are left")
    ours_work(stage)


E9 = Row("E9", "no temporary directory, current directory deleted", "not affected")


@E9.comparison(timeout=30)
def works_nowhere(stage: Stage, library: Library) -> None:
    """A call and a map in a program that has no place to write to."""
    stage.inject()
    source = f"""
import scarcity, tempfile
from libraries import {type(library).__name__} as Library
from machine_short import answer, square
place = tempfile.mkdtemp()
os.chdir(place)
os.rmdir(place)
os.environ["TMPDIR"] = place
tempfile.tempdir = None
scarcity.leave_the_mounts()
for root in ("/tmp", "/var/tmp", "/usr/tmp"):
    if os.path.isdir(root):
        scarcity.make_read_only(root)
library = Library()
say(library.call(answer))
say(library.map(square, range(5)))
library.close()
"""
    with program(source) as running:
        ended = running.wait()
        last = (ended.complaint.strip().splitlines() or ["?"])[-1]
        stage.expect(ended.status == 0, last)
        said = ended.output.splitlines()
        stage.expect(said == ["42", "[0, 1, 4, 9, 16]"], f"says {said}")
        running.wait_for_the_last()


@E9.scenario()
def all_of_ours_works_nowhere(stage: Stage) -> None:
    """Every way and a channel, the current directory deleted under a running program."""
    for _ in stage.times(1):
        stage.inject()
        said = ends_well(
            stage,
            """
            import scarcity, tempfile, ways
            from machine_short import answer, through_a_channel
            scarcity.leave_the_mounts()
            place = tempfile.mkdtemp()
            os.chdir(place)
            os.rmdir(place)
            for root in ("/tmp", "/var/tmp", "/usr/tmp"):
                if os.path.isdir(root):
                    scarcity.make_read_only(root)
            for way in (*ways.WAYS, through_a_channel):
                say(way(answer), len(way(lambda: bytes(1 << 20))))
            """,
        )
        stage.expect(said == ["42 1048576"] * 5, f"says {said}")
