# SPDX-License-Identifier: MIT
"""map and starmap: the built-in ones, on all cores."""

from __future__ import annotations

import itertools
import os
import pickle
import random
import re
import select
import shutil
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from deadline import SOON, wait_until
from process_table import children, entries, state
from scenario import output_of, signal_when_asleep
from troubles import (
    UNTRAVELLED,
    UNTRAVELLED_NAMES,
    BeyondException,
    Complaint,
    FailsToPickle,
    FailsToRebuild,
)

import snakefish
from snakefish import Channel, SnakefishError

if TYPE_CHECKING:
    from collections.abc import Iterator

seen: list[Any] = []
merges = 0


@pytest.fixture(autouse=True)
def fresh_globals() -> None:
    global merges
    seen.clear()
    merges = 0


def keep_seen(namespace: dict[str, Any]) -> dict[str, Any]:
    return {"seen": namespace["seen"]}


def add_seen(namespace: dict[str, Any], extracted: dict[str, Any]) -> None:
    namespace["seen"].extend(extracted["seen"])
    namespace["merges"] += 1


def see(value: Any) -> Any:
    seen.append(value)
    return value


def square(n: int) -> int:
    return n * n


def for_ever() -> NoReturn:
    while True:
        select.select([], [], [], 0.1)  # a signal just before signal.pause() would be missed


WAYS = {"without merging": {}, "with merging": {"extract": keep_seen, "merge": add_seen}}


@pytest.fixture(params=list(WAYS))
def way(request: Any) -> dict[str, Any]:
    """Keywords for a call without and with merging: what must hold both ways runs twice."""
    return WAYS[request.param]


class TestMap:
    """map(f, args, ...)."""

    def test_results_are_a_list_in_the_order_of_args(self, way: Any) -> None:
        """The result is the list that the built-in map would give."""
        assert snakefish.map(square, range(50), **way) == [n * n for n in range(50)]

    @pytest.mark.parametrize("seed", range(8))
    def test_equals_the_builtin_for_random_arguments(self, seed: int) -> None:
        """For any items, concurrency and chunksize the result is that of the loop."""
        dice = random.Random(seed)
        items = [
            dice.choice([None, dice.random(), "x" * dice.randrange(9), [dice.randrange(9)]])
            for _ in range(dice.randrange(40))
        ]
        for way in WAYS.values():
            result = snakefish.map(
                repr, items, concurrency=dice.randrange(5), chunksize=dice.randrange(8), **way
            )
            assert result == list(map(repr, items))

    def test_of_nothing_is_an_empty_list(self, way: Any) -> None:
        """Nothing to map is [], with any numbers."""
        assert snakefish.map(square, [], **way) == []
        assert snakefish.map(square, iter(()), concurrency=3, chunksize=2, **way) == []

    def test_results_may_hold_buffers_that_pickle_hands_over(self, way: Any) -> None:
        """What pickles out of band, as arrays do, is a result like any other."""
        results = snakefish.map(lambda n: pickle.PickleBuffer(bytes([n]) * 9), range(4), **way)
        assert [bytes(result) for result in results] == [bytes([n]) * 9 for n in range(4)]

    def test_runs_in_children(self, way: Any) -> None:
        """f runs in other processes than this one."""
        assert os.getpid() not in snakefish.map(lambda n: os.getpid(), range(4), **way)

    def test_takes_numbers_by_position(self) -> None:
        """map(f, args, concurrency, chunksize) is understood: the third is no callable."""
        pids = snakefish.map(lambda n: os.getpid(), range(6), 1, 2)
        assert len(set(pids)) == 1

    def test_takes_extract_and_merge_by_position(self) -> None:
        """map(f, args, extract, merge, concurrency, chunksize) is understood."""
        assert snakefish.map(see, range(4), keep_seen, add_seen) == [0, 1, 2, 3]
        assert seen == [0, 1, 2, 3]
        pids = snakefish.map(lambda n: os.getpid(), range(6), keep_seen, add_seen, 2, 3)
        assert len(set(pids)) == 2

    def test_takes_everything_by_keyword(self) -> None:
        """extract, merge, concurrency and chunksize go by their names in both forms."""
        assert snakefish.map(f=square, args=[3], concurrency=2, chunksize=1) == [9]
        snakefish.map(see, range(3), extract=keep_seen, merge=add_seen, concurrency=2, chunksize=1)
        assert seen == [0, 1, 2]
        seen.clear()
        snakefish.map(see, [3], keep_seen, add_seen, concurrency=2, chunksize=1)
        assert seen == [3]

    def test_arguments_are_never_pickled(self, way: Any) -> None:
        """Locks, lambdas and what raises in pickle can be items."""
        with open(os.devnull) as file:
            items = [threading.Lock(), lambda: 1, FailsToPickle(), file]
            names = snakefish.map(lambda item: type(item).__name__, items, **way)
        assert names == ["lock", "function", "FailsToPickle", "TextIOWrapper"]

    def test_items_of_a_generator_are_consumed_in_the_parent_before_the_forks(self) -> None:
        """args may be any iterable; it runs here, while there is no child."""
        states = []

        def items() -> Iterator[int]:
            for n in range(5):
                states.append((os.getpid(), children()))
                yield n

        assert snakefish.map(square, items()) == [0, 1, 4, 9, 16]
        assert states == [(os.getpid(), set())] * 5

    def test_an_iterable_that_raises_raises(self, no_fork: None) -> None:
        """The iterable's own error comes out, before any fork."""

        def items() -> Iterator[int]:
            yield 1
            raise LookupError("no more")

        with pytest.raises(LookupError, match="no more"):
            snakefish.map(square, items())

    def test_an_endless_iterable_can_be_interrupted(self, no_fork: None) -> None:
        """Ctrl-C ends a map that is still collecting its items."""

        def items() -> Iterator[int]:
            for n in itertools.count():
                if n == 1000:
                    signal.raise_signal(signal.SIGINT)
                yield n

        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                snakefish.map(square, items())
        finally:
            signal.signal(signal.SIGINT, before)

    def test_a_range_is_not_written_out(self, way: Any) -> None:
        """A range takes no memory, however long: there is nothing to collect before the forks."""

        def fail(n: int) -> NoReturn:
            raise LookupError(n)

        with pytest.raises(LookupError, match=r"^0$"):
            snakefish.map(fail, range(1 << 40), **way)

    def test_a_list_may_change_meanwhile(self, way: Any) -> None:
        """The items are those of the call, whatever becomes of the list."""
        items = list(range(40))
        results = snakefish.map(
            square, items, concurrency=2, chunksize=4, progress=lambda *_: items.clear(), **way
        )
        assert results == [n * n for n in range(40)]
        assert items == []

    @pytest.mark.parametrize("items", ["abc", b"abc", (1, "b", None)])
    def test_sequences_that_cannot_change_are_items(self, items: Any, way: Any) -> None:
        """The characters of a string, the numbers of bytes, what is in a tuple."""
        assert snakefish.map(repr, items, **way) == [repr(item) for item in items]

    def test_results_of_any_size_arrive(self, way: Any) -> None:
        """Large results come whole and in their places."""
        sizes = [0, 5 << 20, 10, 3 << 20, 200_000]
        results = snakefish.map(bytes, sizes, concurrency=2, **way)
        assert [len(result) for result in results] == sizes

    def test_maps_inside_maps(self, way: Any) -> None:
        """f may call map itself."""
        rows = snakefish.map(lambda n: snakefish.map(square, range(n), **way), range(4), **way)
        assert rows == [[], [0], [0, 1], [0, 1, 4]]

    def test_leaves_no_child(self, way: Any) -> None:
        """When map returns, every worker has been reaped."""
        snakefish.map(square, range(10), concurrency=4, **way)
        assert not children()

    def test_children_of_others_are_left_alone(self, way: Any) -> None:
        """A child of the user's own is still his to reap."""
        pid = os.fork()
        if pid == 0:
            os._exit(7)
        snakefish.map(square, range(4), **way)
        assert os.WEXITSTATUS(os.waitpid(pid, 0)[1]) == 7


class TestConcurrency:
    """concurrency and chunksize."""

    @staticmethod
    def workers_by_default(prefix: list[str]) -> int:
        """How many jobs twelve items are shared out to when concurrency is left at 0."""
        [count] = output_of(
            """
            nothing = lambda *arguments: {}
            say(len(set(snakefish.map(lambda n: os.getpid(), range(12), nothing, nothing))))
            """,
            prefix=prefix,
        )
        return int(count)

    @pytest.mark.skipif(not shutil.which("taskset"), reason="needs taskset of util-linux")
    def test_by_default_it_is_the_cores_of_the_affinity(self) -> None:
        """concurrency 0 means the cores that this process may use, not the machine's."""
        cpus = sorted(self.allowed_cpus())
        assert self.workers_by_default(["taskset", "-c", str(cpus[0])]) == 1
        if len(cpus) > 1:
            pair = f"{cpus[0]},{cpus[1]}"
            assert self.workers_by_default(["taskset", "-c", pair]) == 2

    @staticmethod
    def allowed_cpus() -> list[int]:
        with open("/proc/self/status", encoding="ascii") as file:
            [ranges] = re.findall(r"Cpus_allowed_list:\s*(\S+)", file.read())
        cpus: list[int] = []
        for part in ranges.split(","):
            first, _, last = part.partition("-")
            cpus.extend(range(int(first), int(last or first) + 1))
        return cpus

    def test_by_default_it_heeds_the_quota_of_the_control_group(self, small_group: str) -> None:
        """In a control group with the time of one core, concurrency 0 is one."""
        enter = f'echo $$ > {small_group}/cgroup.procs && exec "$0" "$@"'
        assert self.workers_by_default(["sh", "-c", enter]) == 1

    def test_without_merging_there_are_at_most_so_many_workers(self) -> None:
        """Jobs are taken by at most concurrency processes."""
        for concurrency in (1, 2, 3):
            pids = snakefish.map(
                lambda n: os.getpid(), range(30), concurrency=concurrency, chunksize=1
            )
            assert len(set(pids)) <= concurrency

    def test_without_merging_so_many_run_at_once(self, make_gate: Any) -> None:
        """With concurrency 3, three items can wait for one another."""
        gates = [make_gate() for _ in range(3)]

        def meet(n: int) -> int:
            gates[n].open()
            for gate in gates:
                gate.wait()
            return n

        assert snakefish.map(meet, range(3), concurrency=3, chunksize=1) == [0, 1, 2]

    def test_without_merging_an_expensive_item_does_not_hold_up_the_rest(self, gate: Any) -> None:
        """While one worker is at a long item, the other takes all the rest."""

        def work(n: int) -> int:
            if n == 0:
                gate.wait()
            if n == 19:
                gate.open()
            return n

        assert snakefish.map(work, range(20), concurrency=2, chunksize=1) == list(range(20))

    def test_with_merging_each_job_is_a_fork_of_its_own(self) -> None:
        """Every job has its own process."""
        pids = snakefish.map(
            lambda n: os.getpid(), range(6), keep_seen, add_seen, concurrency=2, chunksize=1
        )
        assert len(set(pids)) == 6

    def test_chunksize_is_the_items_of_a_job(self) -> None:
        """Ten items in chunks of four are jobs of four, four and two."""
        pids = snakefish.map(
            lambda n: os.getpid(), range(10), keep_seen, add_seen, concurrency=2, chunksize=4
        )
        assert [len(list(group)) for _, group in itertools.groupby(pids)] == [4, 4, 2]

    def test_chunksize_zero_shares_the_items_out_evenly(self) -> None:
        """Ten items and five workers are jobs of two."""
        pids = snakefish.map(lambda n: os.getpid(), range(10), keep_seen, add_seen, concurrency=5)
        assert [len(list(group)) for _, group in itertools.groupby(pids)] == [2] * 5

    def test_with_merging_at_most_so_many_run_at_once(self) -> None:
        """Once the parent has started all it wants, there are no more than concurrency jobs."""

        def running_jobs(_: int) -> int:
            parent = os.getppid()
            wait_until(lambda: all(state(parent) == "S" for _ in range(5)), "the parent is busy")
            return sum(one.parent == parent and one.state != "Z" for one in entries())

        for concurrency in (1, 3):
            counts = snakefish.map(
                running_jobs, range(9), keep_seen, add_seen, concurrency=concurrency, chunksize=1
            )
            assert max(counts) <= concurrency

    def test_with_merging_a_slot_is_refilled_as_soon_as_it_is_free(self, gate: Any) -> None:
        """The first job can wait for the third although two run at once."""

        def work(n: int) -> int:
            if n == 0:
                gate.wait()
            if n == 2:
                gate.open()
            return n

        result = snakefish.map(work, range(3), keep_seen, add_seen, concurrency=2, chunksize=1)
        assert result == [0, 1, 2]

    def test_more_workers_than_items_is_fine(self, way: Any) -> None:
        """A concurrency or chunksize far above the number of items works."""
        assert snakefish.map(square, range(3), concurrency=50, chunksize=1000, **way) == [0, 1, 4]

    @pytest.mark.parametrize("name", ["concurrency", "chunksize"])
    @pytest.mark.parametrize(
        ("number", "error"),
        [(-1, ValueError), (1.5, TypeError), ("2", TypeError), (None, TypeError)],
        ids=repr,
    )
    def test_bad_numbers_are_refused_before_any_fork(
        self, name: str, number: Any, error: Any, way: Any, no_fork: None
    ) -> None:
        """Negative is ValueError, no int is TypeError."""
        with pytest.raises(error):
            snakefish.map(square, range(3), **{name: number}, **way)


@pytest.fixture
def small_group() -> Iterator[str]:
    """A control group with the time of one core, where this user may make one."""
    unified = "/sys/fs/cgroup"
    place = f"{unified}/cpu" if os.path.isdir(f"{unified}/cpu") else unified
    group = f"{place}/snakefish-tests-{os.getpid()}"
    try:
        os.mkdir(group)
    except OSError:
        pytest.skip("no permission to make a control group")
    try:
        try:
            if os.path.exists(f"{group}/cpu.max"):
                settings = {"cpu.max": "100000 100000"}
            else:
                settings = {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "100000"}
            for name, value in settings.items():
                with open(f"{group}/{name}", "w", encoding="ascii") as file:
                    file.write(value)
        except OSError:
            pytest.skip("no control of the time of a control group")
        yield group
    finally:
        os.rmdir(group)


class TestMerging:
    """extract and merge of map."""

    def test_merges_come_in_the_order_of_args_whoever_ends_first(self, make_gate: Any) -> None:
        """Jobs that end in the opposite order are merged in their own."""
        ended = [make_gate() for _ in range(4)]

        def work(n: int) -> int:
            if n < 3:
                ended[n + 1].wait()
            ended[n].open()
            return see(n)

        result = snakefish.map(work, range(4), keep_seen, add_seen, concurrency=4, chunksize=1)
        assert result == [0, 1, 2, 3]
        assert seen == [0, 1, 2, 3]

    def test_every_job_sees_the_globals_as_they_were_at_the_call(self) -> None:
        """No job sees what another one's merge left, however late it starts."""
        sights = snakefish.map(
            lambda n: (see(n), list(seen))[1], range(6), keep_seen, add_seen,
            concurrency=2, chunksize=1,
        )  # fmt: skip
        assert sights == [[n] for n in range(6)]
        assert seen == [0, 1, 2, 3, 4, 5]

    def test_items_of_one_job_see_one_another(self) -> None:
        """Within a chunk, globals go on from item to item and are merged once."""
        sights = snakefish.map(
            lambda n: (see(n), len(seen))[1], range(6), keep_seen, add_seen,
            concurrency=2, chunksize=3,
        )  # fmt: skip
        assert sights == [1, 2, 3, 1, 2, 3]
        assert (seen, merges) == ([0, 1, 2, 3, 4, 5], 2)

    def test_merge_runs_in_the_parent_exactly_once_a_job(self) -> None:
        """As many merges as jobs, all in this process."""
        places = []

        def merge(mine: Any, theirs: Any) -> None:
            places.append((mine is globals(), os.getpid()))

        snakefish.map(see, range(5), keep_seen, merge, concurrency=2, chunksize=1)
        assert places == [(True, os.getpid())] * 5

    @pytest.mark.parametrize("half", [{"extract": keep_seen}, {"merge": add_seen}], ids=list)
    def test_half_of_extract_and_merge_is_refused(self, half: Any, no_fork: None) -> None:
        """One without the other is a TypeError before any fork."""
        with pytest.raises(TypeError):
            snakefish.map(square, range(3), **half)
        with pytest.raises(TypeError):
            snakefish.starmap(pow, [(1, 2)], **half)

    def test_half_by_position_is_refused(self, no_fork: None) -> None:
        """extract by position without merge is a TypeError, too."""
        with pytest.raises(TypeError):
            snakefish.map(square, range(3), keep_seen)

    def test_what_the_plain_loop_would_have_left_is_merged(self) -> None:
        """Jobs before the failing one and the failing one are merged, later ones are not."""

        def work(n: int) -> int:
            see(n)
            if n == 2:
                raise Complaint("two")
            return n

        with pytest.raises(Complaint, match="two"):
            snakefish.map(work, range(6), keep_seen, add_seen, concurrency=3, chunksize=1)
        assert seen == [0, 1, 2]

    def test_in_the_failing_chunk_what_came_before_is_merged(self) -> None:
        """The failing job's extract runs: its items up to the failure count."""

        def work(n: int) -> int:
            see(n)
            return 1 // (4 - n)

        with pytest.raises(ZeroDivisionError):
            snakefish.map(work, range(9), keep_seen, add_seen, concurrency=2, chunksize=3)
        assert seen == [0, 1, 2, 3, 4]

    def test_extract_that_fails_raises_and_merges_no_later_job(self) -> None:
        """An error of extract comes out of map; what was before it is merged."""

        def extract(namespace: dict[str, Any]) -> dict[str, Any]:
            if namespace["seen"] == [1]:
                raise Complaint("extract")
            return keep_seen(namespace)

        with pytest.raises((Complaint, RuntimeError)):
            snakefish.map(see, range(3), extract, add_seen, concurrency=2, chunksize=1)
        assert seen == [0]

    def test_extract_whose_dict_cannot_be_pickled_raises(self) -> None:
        """The error of pickle comes out of map."""
        with pytest.raises((ZeroDivisionError, RuntimeError)):
            snakefish.map(see, range(3), lambda namespace: {"x": FailsToPickle()}, add_seen)
        assert merges == 0

    def test_merge_that_fails_raises(self) -> None:
        """An error of merge comes out of map, and no child is left."""
        with pytest.raises(ZeroDivisionError):
            snakefish.map(see, range(3), keep_seen, lambda mine, theirs: 1 // 0)
        assert not children()


class TestExceptions:
    """An exception from f surfaces as itself."""

    @pytest.mark.parametrize(
        "error", [ValueError("v", 1), Complaint("c", 2), BeyondException("b"), KeyboardInterrupt(),
                  StopIteration()],
        ids=repr,
    )  # fmt: skip
    def test_surfaces_as_itself(self, way: Any, error: BaseException) -> None:
        """Type and arguments are those that f raised."""

        def work(n: int) -> int:
            if n == 2:
                raise error
            return n

        with pytest.raises(type(error)) as caught:
            snakefish.map(work, range(5), **way)
        assert caught.value.args == error.args

    def test_it_is_the_one_with_the_lowest_index_whatever_the_timing(
        self, way: Any, gate: Any
    ) -> None:
        """Item 3 fails first, yet the exception of item 1 is raised."""

        def work(n: int) -> int:
            if n == 1:
                gate.wait()
                raise Complaint("one")
            if n == 3:
                gate.open()
                raise Complaint("three")
            return n

        with pytest.raises(Complaint, match="one"):
            snakefish.map(work, range(4), concurrency=3, chunksize=1, **way)

    def test_the_rest_is_stopped_and_reaped_before_map_returns(self, way: Any) -> None:
        """Items that would never end do not hold up the exception before them."""

        def work(n: int) -> int:
            if n == 0:
                raise Complaint("zero")
            for_ever()

        begin = time.monotonic()
        with pytest.raises(Complaint, match="zero"):
            snakefish.map(work, range(4), concurrency=3, chunksize=1, **way)
        assert not children()
        assert time.monotonic() - begin < SOON

    def test_items_not_begun_are_not_begun_any_more(self) -> None:
        """After a failure no worker starts on new items for long."""
        with Channel() as begun:

            def work(n: int) -> int:
                begun.send_pyobj(n)
                if n == 0:
                    raise Complaint("zero")
                while n > 50:
                    signal.pause()
                return n

            with pytest.raises(Complaint):
                snakefish.map(work, range(1000), concurrency=1, chunksize=1)
            assert begun.receive_pyobj(False) == 0
            with pytest.raises((IndexError, EOFError)):
                begun.receive_pyobj(False)

    @pytest.mark.parametrize("make", UNTRAVELLED, ids=UNTRAVELLED_NAMES)
    def test_one_that_cannot_travel_is_told(self, make: Any, way: Any, request: Any) -> None:
        """It becomes a RuntimeError with its class name."""

        def work(n: int) -> NoReturn:
            raise make()

        names = [name for name in UNTRAVELLED_NAMES if name in request.node.callspec.id]
        with pytest.raises(RuntimeError, match=names[0]):
            snakefish.map(work, range(2), **way)

    def test_a_result_that_cannot_be_pickled_raises(self, way: Any) -> None:
        """What pickle raised comes out."""
        with pytest.raises(ZeroDivisionError):
            snakefish.map(lambda n: FailsToPickle() if n == 1 else n, range(3), **way)

    def test_a_result_that_cannot_be_rebuilt_raises(self, way: Any) -> None:
        """What unpickling raised comes out."""
        with pytest.raises(LookupError):
            snakefish.map(lambda n: FailsToRebuild() if n == 1 else n, range(3), **way)

    def test_an_exception_as_a_result_is_a_value(self, way: Any) -> None:
        """Exception objects that f returns are in the list."""
        results = snakefish.map(lambda n: Complaint("value", n), range(3), **way)
        assert [result.code for result in results] == [0, 1, 2]

    @pytest.mark.parametrize(
        "death", [lambda: os._exit(3), lambda: os._exit(0), lambda: os.kill(os.getpid(), 9)],
        ids=["exit 3", "exit 0", "SIGKILL"],
    )  # fmt: skip
    def test_a_worker_that_dies_is_a_runtime_error_with_its_items(
        self, way: Any, death: Any
    ) -> None:
        """The error says which items died with the worker; no list is returned."""

        def work(n: int) -> int:
            if n == 37:
                death()
            return n

        with pytest.raises(RuntimeError) as caught:
            snakefish.map(work, range(40), concurrency=2, chunksize=1, **way)
        assert isinstance(caught.value, SnakefishError)
        assert "37" in str(caught.value)
        assert not children()

    def test_a_death_is_noticed_at_once(self, gate: Any) -> None:
        """The best of five is well below the tenth of a second between two looks."""

        def work(n: int) -> None:
            if n == 1:
                died.send_pyobj(time.monotonic())
                os.kill(os.getpid(), 9)
            gate.wait()

        delays = []
        with Channel() as died:
            for _ in range(5):
                with pytest.raises(RuntimeError):
                    snakefish.map(work, range(2), concurrency=2, chunksize=1)
                delays.append(time.monotonic() - died.receive_pyobj())
        assert min(delays) < 0.05

    def test_a_worker_that_dies_in_a_chunk_names_the_chunk(self) -> None:
        """All the items that the worker held are named."""

        def work(n: int) -> int:
            if n == 35:
                os._exit(1)
            return n

        with pytest.raises(RuntimeError) as caught:
            snakefish.map(work, range(60), keep_seen, add_seen, concurrency=2, chunksize=10)
        assert re.search(r"\b30\b.*\b39\b", str(caught.value))

    def test_a_worker_that_dies_does_not_wait_for_the_others(self, way: Any) -> None:
        """The rest is ended at once, even if it would never end."""

        def work(n: int) -> int:
            if n == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            for_ever()

        with pytest.raises(RuntimeError):
            snakefish.map(work, range(4), concurrency=3, chunksize=1, **way)

    def test_sys_exit_in_f_is_a_runtime_error(self, way: Any) -> None:
        """A worker that calls sys.exit is a worker that ended: no exit here and no short list."""
        with pytest.raises(RuntimeError) as caught:
            snakefish.map(lambda n: sys.exit(4), range(3), **way)
        assert isinstance(caught.value, SnakefishError)

    def test_ctrl_c_ends_and_reaps_the_workers(self, way: Any) -> None:
        """KeyboardInterrupt leaves map at once, and no child is left."""
        with pytest.raises(KeyboardInterrupt), signal_when_asleep():
            snakefish.map(lambda n: for_ever(), range(4), concurrency=2, **way)
        assert not children()

    def test_a_fork_that_fails_ends_the_workers_before_it(self) -> None:
        """When no third process can be had: RuntimeError, and the first two are gone."""
        assert output_of("""
            import resource
            from process_table import children, entries, state
            if os.getuid() == 0:
                os.setuid(54321)
                allowed = 3
            else:
                sys.exit(print("True 0"))
            resource.setrlimit(resource.RLIMIT_NPROC, (allowed, allowed))
            try:
                snakefish.map(lambda n: for_ever(), range(4), concurrency=4, chunksize=1)
            except RuntimeError as error:
                say(isinstance(error, snakefish.SnakefishError), len(children()))
            """) == ["True 0"]


class TestTimeout:
    """map(..., timeout=)."""

    def test_is_for_the_whole_call(self, way: Any) -> None:
        """A call that takes too long is a TimeoutError, and no child is left."""
        begin = time.monotonic()
        with pytest.raises(TimeoutError) as caught:
            snakefish.map(lambda n: for_ever(), range(4), concurrency=2, timeout=0.1, **way)
        assert isinstance(caught.value, SnakefishError)
        assert 0.1 <= time.monotonic() - begin < SOON
        assert not children()

    def test_in_time_is_no_error(self, way: Any) -> None:
        """A call that ends in time gives its list."""
        assert snakefish.map(square, range(4), timeout=SOON, **way) == [0, 1, 4, 9]


class TestProgress:
    """map(..., progress=)."""

    def test_a_callable_is_given_done_and_total(self, way: Any) -> None:
        """It is called with growing numbers, the last time with all done."""
        calls = []
        snakefish.map(
            square, range(10), chunksize=1, progress=lambda *now: calls.append(now), **way
        )
        assert calls[-1] == (10, 10)
        assert all(total == 10 for done, total in calls)
        assert [done for done, total in calls] == sorted({done for done, total in calls})

    def test_true_shows_a_line_on_stderr(self, way: Any, capfd: Any) -> None:
        """With progress=True the state is shown on stderr, and nothing on stdout."""
        snakefish.map(square, range(10), progress=True, **way)
        output, shown = capfd.readouterr()
        assert output == ""
        assert re.search(r"10\s*(/|of)\s*10", shown)

    def test_true_is_tqdms_bar_where_it_is_installed(self, way: Any, capfd: Any) -> None:
        """With tqdm at hand the line is tqdm's, with its rate."""
        pytest.importorskip("tqdm")
        snakefish.map(square, range(10), progress=True, **way)
        assert "it/s" in capfd.readouterr().err

    def test_is_silent_by_default(self, way: Any, capfd: Any) -> None:
        """Without progress nothing is written."""
        snakefish.map(square, range(10), **way)
        assert capfd.readouterr() == ("", "")

    def test_an_exception_of_the_callable_ends_the_map(self, way: Any) -> None:
        """What progress raises comes out, and no child is left."""
        with pytest.raises(ZeroDivisionError):
            snakefish.map(square, range(10), progress=lambda done, total: 1 // 0, **way)
        assert not children()


class TestArguments:
    """What map and starmap refuse."""

    @pytest.mark.parametrize("f", [None, 3, "f"], ids=repr)
    def test_f_that_cannot_be_called(self, f: Any, no_fork: None) -> None:
        """A non-callable f is a TypeError before any fork."""
        with pytest.raises(TypeError):
            snakefish.map(f, range(3))
        with pytest.raises(TypeError):
            snakefish.starmap(f, [(1,)])

    @pytest.mark.parametrize("args", [None, 3, square], ids=["None", "3", "function"])
    def test_args_that_cannot_be_iterated(self, args: Any, no_fork: None) -> None:
        """args that are not iterable are a TypeError before any fork."""
        with pytest.raises(TypeError):
            snakefish.map(square, args)
        with pytest.raises(TypeError):
            snakefish.starmap(square, args)

    @pytest.mark.parametrize("pair", [(3, 4), ("a", "b"), (keep_seen, 4)], ids=str)
    def test_extract_and_merge_that_cannot_be_called(self, pair: Any, no_fork: None) -> None:
        """extract and merge are callables: else TypeError."""
        with pytest.raises(TypeError):
            snakefish.map(square, range(3), extract=pair[0], merge=pair[1])


class TestStarmap:
    """starmap(f, args, ...)."""

    def test_unpacks_each_item(self, way: Any) -> None:
        """Each item is the arguments of one call."""
        pairs = [(2, 5), (3, 2), (10, 3)]
        assert snakefish.starmap(pow, pairs, **way) == [32, 9, 1000]

    def test_items_may_be_of_any_length_and_kind(self) -> None:
        """Empty tuples, lists and iterators are unpacked as by the built-in one."""
        items: Any = [(), [1], iter((1, 2)), "abc"]
        assert snakefish.starmap(lambda *a: len(a), items) == [0, 1, 2, 3]

    def test_takes_numbers_by_position(self) -> None:
        """starmap(f, args, concurrency, chunksize) is understood."""
        pids = snakefish.starmap(lambda a, b: os.getpid(), [(1, 2)] * 5, 1, 2)
        assert len(set(pids)) == 1

    def test_takes_extract_and_merge_by_position(self) -> None:
        """starmap(f, args, extract, merge, concurrency, chunksize) is understood."""
        pids = snakefish.starmap(
            lambda a, b: (see(a), os.getpid())[1], [(n, 0) for n in range(6)],
            keep_seen, add_seen, 2, 2,
        )  # fmt: skip
        assert len(set(pids)) == 3
        assert seen == [0, 1, 2, 3, 4, 5]

    def test_takes_everything_by_keyword(self) -> None:
        """extract, merge, concurrency and chunksize go by their names."""
        snakefish.starmap(
            see, [(1,), (2,)], extract=keep_seen, merge=add_seen, concurrency=2, chunksize=1
        )
        assert seen == [1, 2]

    @pytest.mark.parametrize("items", [[3], [(1, 2), None]], ids=repr)
    def test_of_what_cannot_be_unpacked_is_a_type_error(self, items: Any, way: Any) -> None:
        """An item that is not iterable is a TypeError."""
        with pytest.raises(TypeError):
            snakefish.starmap(lambda *a: a, items, **way)

    def test_rethrows_what_f_raised(self, way: Any) -> None:
        """An exception from f surfaces as itself."""
        with pytest.raises(ZeroDivisionError):
            snakefish.starmap(divmod, [(4, 2), (1, 0)], **way)

    def test_has_timeout_and_progress(self) -> None:
        """The keywords of map are those of starmap."""
        calls = []
        result = snakefish.starmap(
            pow, [(2, 3)], timeout=SOON, progress=lambda *now: calls.append(now)
        )
        assert (result, calls[-1]) == ([8], (1, 1))
