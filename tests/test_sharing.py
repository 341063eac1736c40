# SPDX-License-Identifier: MIT
"""share=: what tasks did to variables comes back, as the plain loop would have left it."""

from __future__ import annotations

import enum
import functools
import gc
import operator
import os
import signal
import sys
import threading
import types
import warnings
from array import array
from collections import Counter, defaultdict
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from deadline import wait_until
from process_table import children, state
from scenario import output_of

import snakefish
from snakefish import Generator, MergeConflict, NotShareableError, Thread, merges, shares
from snakefish.merges import Merge, Undo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gate import Gate

number = 0
ratio = 0.0
items: list[Any] = []
alias = items
counts: Counter[str] = Counter()
memo: dict[Any, Any] = {}
winner: Any = None
limits = {"low": 0, "high": 9}
cells = array("l", [0] * 8)
trouble: Any = None


HOME = os.getpid()


class Box:
    """Holds a class attribute."""

    hits = 0


class Step(enum.Enum):
    """How far somebody is."""

    BEGUN, HALF, DONE = range(3)


@pytest.fixture(autouse=True)
def reset_before() -> None:
    reset()


def reset() -> None:
    global number, ratio, winner, limits, trouble, cells
    number, ratio, winner, trouble = 0, 0.0, None, None
    items.clear()
    counts.clear()
    memo.clear()
    limits = {"low": 0, "high": 9}
    cells = array("l", [0] * 8)
    Box.hits = 0


ALL: dict[str, Merge] = {"number": merges.add, "items": merges.append, "counts": merges.count}


def note(item: int) -> int:
    """Leave a trace in three variables."""
    global number
    number += item
    items.append(item)
    counts[str(item % 3)] += 1
    return -item


def note_up_to(last: int, item: int) -> int:
    """As note, and half of it before the exception, for items beyond the last."""
    global number
    number += item
    if item > last:
        raise ValueError(f"item {item} is too much")
    items.append(item)
    counts[str(item % 3)] += 1
    return -item


def snapshot() -> tuple[Any, ...]:
    return number, list(items), dict(counts), list(counts)


def left_by_loop(function: Callable[[int], int], upto: int) -> tuple[Any, ...]:
    """What the plain loop leaves; the globals are then as before."""
    try:
        for item in range(upto):
            function(item)
    except ValueError:
        pass
    left = snapshot()
    reset()
    return left


def joined(*threads: Thread) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
        thread.dispose()


class TestIsolation:
    """Rule 1: a child sees the state at its fork plus its own writes."""

    def test_parent_sees_nothing_before_the_join(self, gate: Gate) -> None:
        """However long ago the child has ended, only join brings its changes."""
        with Thread(lambda: note(5), share=ALL) as thread:
            thread.start()
            wait_until(lambda: not thread.is_alive(), "it does not end")
            assert snapshot() == (0, [], {}, [])
            thread.join()
        assert snapshot() == (5, [5], {"2": 1}, ["2"])

    def test_a_child_sees_its_own_writes_and_not_its_siblings(self) -> None:
        """Two children that count begin with the same number."""
        seen = snakefish.map(lambda n: note(n) and number, [3, 3], 2, 1, share=ALL)
        assert seen == [3, 3]
        assert number == 6

    def test_what_is_not_shared_stays_in_the_child(self) -> None:
        """Only the declared variables change."""
        joined(Thread(lambda: note(4), share={"number": merges.add}))
        assert snapshot() == (4, [], {}, [])


class TestOrder:
    """Rule 2: commits happen in the order of the arguments or joins, never of finishing."""

    def test_of_map_is_that_of_the_arguments(self, make_gate: Callable[[], Gate]) -> None:
        """The first job ends last, and is committed first."""
        gates = [make_gate() for _ in range(4)]
        gates[3].open()

        def late(item: int) -> None:
            gates[item].wait()
            items.append(item)
            if item:
                gates[item - 1].open()

        snakefish.map(late, range(4), 4, 1, share={"items": merges.append})
        assert items == [0, 1, 2, 3]

    def test_of_threads_is_that_of_the_joins(self, gate: Gate) -> None:
        """The Thread that is joined first comes first."""

        def late(item: int) -> None:
            if item == 1:
                gate.wait()
            items.append(item)

        threads = [Thread(late, args=(item,), share="items") for item in (1, 2)]
        for thread in threads:
            thread.start()
        wait_until(lambda: not threads[1].is_alive(), "it does not end")
        gate.open()
        for thread in threads:
            thread.join()
            thread.dispose()
        assert items == [1, 2]


class TestSnapshot:
    """Rule 3: every job of a map sees the state at the call."""

    @pytest.mark.parametrize("concurrency", [1, 2, 5])
    def test_jobs_see_the_state_at_the_call(self, concurrency: int) -> None:
        """However few run at once, none sees what another has done."""
        items.append("before")

        def see(item: int) -> list[Any]:
            items.append(item)
            return items[:-1]

        seen = snakefish.map(see, range(5), concurrency, 1, share="items")
        assert seen == [["before"]] * 5
        assert items == ["before", 0, 1, 2, 3, 4]


class TestParentWroteMeanwhile:
    """Rule 4: deltas apply to the value that there is at the commit."""

    def test_deltas_come_on_top(self) -> None:
        """What the parent did between start and join stays."""
        global number
        with Thread(lambda: note(5), share=ALL) as thread:
            thread.start()
            number += 100
            items.append("parent")
            counts["2"] += 7
            thread.join()
        assert snapshot() == (105, ["parent", 5], {"2": 8}, ["2"])

    def test_the_parent_is_a_writer_like_others(self) -> None:
        """once, disjoint and insert conflict with it, and name it."""
        global winner

        def write() -> None:
            global winner
            winner = "child"
            cells[3] = 4
            memo["key"] = "child's"

        share = {"winner": merges.once, "cells": merges.disjoint, "memo": merges.insert}
        with Thread(write, share=share, name="writer") as thread:
            thread.start()
            winner, cells[3], memo["key"] = "parent", 9, "parent's"
            with pytest.raises(MergeConflict) as conflict:
                thread.join()
        assert [
            (one.name, one.key, one.current, one.theirs) for one in conflict.value.conflicts
        ] == [
            ("winner", None, "parent", "child"),
            ("cells", 3, 9, 4),
            ("memo", "key", "parent's", "child's"),
        ]
        assert {one.writers for one in conflict.value.conflicts} == {("the parent", "writer")}
        assert (winner, cells[3], memo) == ("parent", 9, {"key": "parent's"})


CHUNKS = [(1, 1), (2, 1), (4, 3), (2, 20)]


class TestCallsAtTheSameTime:
    """Several threads of the parent may share one variable, each in a call of its own."""

    @pytest.mark.parametrize("inner", [None, merges.add], ids=["count", "mapping"])
    def test_what_is_committed_between_capture_and_fork_is_not_counted_twice(
        self, gate: Gate, inner: Merge | None
    ) -> None:
        """Values are captured at the call, and jobs are forked later."""
        merge = merges.mapping(inner) if inner else merges.count
        counts["a"] = 1

        def first_waits(item: int) -> None:
            if item == 0:
                gate.wait()
            counts["a"] += 10
            counts[str(item)] += 1

        def other() -> None:
            snakefish.map(first_waits, range(2), 1, 1, share={"counts": merge})

        with Thread(lambda: counts.update("aab"), share={"counts": merge}) as thread:
            thread.start()
            call = threading.Thread(target=other)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", snakefish.ForkSafetyWarning)
                call.start()
                wait_until(lambda: len(children()) == 2, "both children run")
                thread.join()  # the second job of the map is forked after that
                gate.open()
                call.join()
        assert counts == {"a": 23, "b": 1, "0": 1, "1": 1}


class TestErrors:
    """Rule 5: what is left after an exception, by on_error."""

    @pytest.mark.parametrize(("concurrency", "chunksize"), CHUNKS)
    def test_sequential_leaves_what_the_loop_leaves(self, concurrency: int, chunksize: int) -> None:
        """Everything before the failing item, its effects up to the raise, nothing after."""
        function = functools.partial(note_up_to, 6)
        expected = left_by_loop(function, 12)
        with pytest.raises(ValueError, match="item 7 is too much"):
            snakefish.map(function, range(12), concurrency, chunksize, share=ALL)
        assert snapshot() == expected

    def test_drop_leaves_out_the_failing_task(self) -> None:
        """The jobs before it are in, it and later ones are not."""
        with pytest.raises(ValueError, match="item 7"):
            snakefish.map(
                functools.partial(note_up_to, 6), range(12), 2, 3, share=ALL, on_error="drop"
            )
        assert (number, items) == (15, [0, 1, 2, 3, 4, 5])

    def test_rollback_leaves_nothing(self) -> None:
        """Not even the jobs that went well are in, and objects are the same ones."""
        items.append("before")
        same = items, counts
        with pytest.raises(ValueError, match="item 7"):
            snakefish.map(
                functools.partial(note_up_to, 6), range(12), 2, 3, share=ALL, on_error="rollback"
            )
        assert snapshot() == (0, ["before"], {}, [])
        assert same == (items, counts)
        assert same[0] is items

    def test_rollback_leaves_inherited_attributes_inherited(self) -> None:
        """An attribute that the call made is gone, of a class or of an object."""

        class Inheriting(Box):
            """Has no hits of its own."""

            __slots__ = ("points",)

        box = Inheriting()
        box.points = 1

        def score(item: int) -> None:
            Inheriting.hits += 1
            box.hits += 1
            box.points += 1
            if item:
                raise ValueError

        share = dict.fromkeys(("Inheriting.hits", "box.hits", "box.points"), merges.add)
        with pytest.raises(ValueError):
            snakefish.map(score, [0, 1], 1, 1, share=share, on_error="rollback")
        Box.hits = 5
        assert (Inheriting.hits, box.hits, box.points) == (5, 5, 1)

    @pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
    def test_other_exceptions_are_no_exception(self, exception: type[BaseException]) -> None:
        """What is not an Exception leaves the same behind."""

        def leave(item: int) -> None:
            items.append(item)
            if item == 2:
                raise exception

        expected: type[BaseException] = RuntimeError if exception is SystemExit else exception
        with pytest.raises(expected):
            snakefish.map(leave, range(6), 2, 2, share="items")
        assert items == [0, 1, 2]

    @pytest.mark.parametrize(
        ("on_error", "left"), [("sequential", 9), ("drop", 0), ("rollback", 0)]
    )
    def test_of_a_thread(self, on_error: str, left: int) -> None:
        """A Thread that fails is one task."""
        thread = Thread(note_up_to, args=(6, 9), share=ALL, on_error=on_error)
        thread.start()
        thread.join()
        assert number == left
        with pytest.raises(ValueError, match="item 9"):
            thread.get_result()
        thread.dispose()

    @pytest.mark.parametrize(
        ("on_error", "left"), [("sequential", 3), ("drop", 0), ("rollback", 0)]
    )
    def test_of_a_generator(self, on_error: str, left: int) -> None:
        """A Generator that fails is one task, too."""

        def failing() -> Iterator[int]:
            global number
            number += 3
            yield number
            raise ValueError("enough")

        with Generator(failing, share={"number": merges.add}, on_error=on_error) as generator:
            generator.start()
            assert generator.next() == 3
            with pytest.raises(ValueError, match="enough"):
                generator.next()
            generator.join()
        assert number == left

    def test_a_killed_job_contributes_nothing(self) -> None:
        """The jobs before the one that died are in, and the error says which it was."""

        def die(item: int) -> None:
            items.append(item)
            if item == 3:
                os.kill(os.getpid(), signal.SIGKILL)

        with pytest.raises(RuntimeError, match="item 3"):
            snakefish.map(die, range(6), 2, 1, share="items")
        assert items == [0, 1, 2]

    def test_a_killed_job_rolls_back(self) -> None:
        """With rollback a death leaves nothing either."""

        def die(item: int) -> None:
            items.append(item)
            if item == 3:
                os.kill(os.getpid(), signal.SIGKILL)

        with pytest.raises(RuntimeError, match="item 3"):
            snakefish.map(die, range(6), 2, 1, share="items", on_error="rollback")
        assert items == []

    def test_a_timeout_merges_nothing(self) -> None:
        """When map is not done in time, no job was committed."""

        def slow(item: int) -> None:
            items.append(item)
            if item == 3:
                signal.pause()

        with pytest.raises(TimeoutError):
            snakefish.map(slow, range(4), 2, 1, share="items", timeout=0.3)
        assert items == []


class Explosive:
    """A value that cannot be compared in the process of the tests."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        if os.getpid() == HOME:
            raise ArithmeticError("no comparison")
        return isinstance(other, Explosive) and other.value == self.value

    __hash__ = None  # type: ignore[assignment]


class Grumpy(Merge):
    """Adds, and raises once it has written to the list in place."""

    def __init__(self, error: BaseException) -> None:
        self.errors = [error]

    def capture(self, base: Any) -> int:
        return len(base)

    def diff(self, token: int, mine: Any) -> Any:
        return mine[token:] or None

    def apply(self, current: Any, delta: Any, undo: Undo) -> Any:
        length = len(current)
        undo.append(lambda: current.__delitem__(slice(length, None)))
        current.extend(delta)
        if self.errors:
            raise self.errors.pop()
        return current


class GrumpyAboutTwo(Grumpy):
    """Raises only where the element 2 is added."""

    def apply(self, current: Any, delta: Any, undo: Undo) -> Any:
        return super().apply(current, delta, undo) if 2 in delta else current + delta


class TestAllOrNothing:
    """Rule 6: a task is committed whole or not at all."""

    def test_a_conflict_leaves_other_variables_untouched(self) -> None:
        """All names are checked before the first is changed."""
        global winner

        def write() -> None:
            global winner
            note(5)
            winner = "child"

        with Thread(write, share={**ALL, "winner": merges.once}) as thread:
            thread.start()
            winner = "parent"
            with pytest.raises(MergeConflict):
                thread.join()
        assert snapshot() == (0, [], {}, [])

    def test_a_comparison_that_raises_leaves_everything_untouched(self) -> None:
        """An __eq__ of the user's may raise anything."""
        global trouble
        trouble = Explosive(1)

        def write() -> None:
            global trouble
            note(5)
            trouble = Explosive(2)

        with Thread(write, share={**ALL, "trouble": merges.once}) as thread:
            thread.start()
            trouble = Explosive(3)
            with pytest.raises(ArithmeticError, match="no comparison"):
                thread.join()
        assert snapshot() == (0, [], {}, [])

    def test_a_merge_that_raises_is_undone(self) -> None:
        """What it had done, and what others had done before it, is taken back."""
        global trouble
        trouble = ["before"]
        share = {**ALL, "trouble": Grumpy(ArithmeticError("not today"))}

        def write() -> None:
            note(5)
            trouble.append("child")

        with Thread(write, share=share) as thread:
            thread.start()
            with pytest.raises(ArithmeticError, match="not today"):
                thread.join()
            thread.join()  # it counts as joined
        assert snapshot() == (0, [], {}, [])
        assert trouble == ["before"]

    def test_ctrl_c_in_the_middle_commits_nothing_and_the_next_join_all(self) -> None:
        """It neither loses the changes nor does it bring them twice."""
        global trouble
        trouble = ["before"]

        def write() -> None:
            note(5)
            trouble.append("child")

        share = {**ALL, "trouble": Grumpy(KeyboardInterrupt())}
        with Thread(write, share=share) as thread:
            thread.start()
            with pytest.raises(KeyboardInterrupt):
                thread.join()
            assert (snapshot(), trouble) == ((0, [], {}, []), ["before"])
            thread.join()
        assert (snapshot(), trouble) == ((5, [5], {"2": 1}, ["2"]), ["before", "child"])

    def test_ctrl_c_in_the_middle_of_map_keeps_whole_tasks(self) -> None:
        """The tasks before it are in, the one that was interrupted is not."""
        self._interrupt_map("sequential")
        assert (number, items, trouble) == (1, [0, 1], [0, 1])

    def test_rollback_takes_back_what_ctrl_c_left(self) -> None:
        """With rollback an interrupted map leaves nothing."""
        self._interrupt_map("rollback")
        assert (number, items, trouble) == (0, [], [])

    def _interrupt_map(self, on_error: str) -> None:
        """Map over four items; a Ctrl-C comes while the third is committed."""
        global trouble
        trouble = []

        def write(item: int) -> None:
            note(item)
            trouble.append(item)

        share = {**ALL, "trouble": GrumpyAboutTwo(KeyboardInterrupt())}
        with pytest.raises(KeyboardInterrupt):
            snakefish.map(write, range(4), 2, 1, share=share, on_error=on_error)

    def test_a_second_ctrl_c_does_not_stop_the_undo(self) -> None:
        """Interrupted while it takes back, it goes on, and is raised at the end."""
        global trouble
        trouble = ["before"]
        again = [KeyboardInterrupt()]

        class Interrupted(Grumpy):
            def apply(self, current: Any, delta: Any, undo: Undo) -> Any:
                undo.append(self.interrupt)
                return super().apply(current, delta, undo)

            def interrupt(self) -> None:
                if again:
                    raise again.pop()

        def write() -> None:
            note(5)
            trouble.append("child")

        with Thread(write, share={**ALL, "trouble": Interrupted(KeyboardInterrupt())}) as thread:
            thread.start()
            with pytest.raises(KeyboardInterrupt):
                thread.join()
            assert (snapshot(), trouble) == ((0, [], {}, []), ["before"])
            thread.join()
        assert trouble == ["before", "child"]


class TestCollector:
    """While a task is committed, the cyclic garbage collector of the parent is at rest."""

    @pytest.fixture(autouse=True)
    def collector_as_it_was(self) -> Iterator[None]:
        """Leave the collector to other tests as it is."""
        yield
        gc.enable()

    @pytest.mark.parametrize("enabled", [True, False])
    def test_rests_during_a_commit_and_is_then_what_it_was(self, enabled: bool) -> None:
        """The function of a merge3 finds it at rest; after the call it is on again, if it was."""
        if not enabled:
            gc.disable()
        looked = merges.merge3(lambda base, mine, theirs: gc.isenabled())

        def write() -> None:
            global winner
            winner = "child"

        with Thread(write, share={"winner": looked}) as thread:
            thread.start()
            thread.join()
        assert winner is False
        assert gc.isenabled() is enabled

    def test_goes_on_after_a_conflict(self) -> None:
        """An exception on the way makes no difference."""

        def register(item: int) -> None:
            memo["x"] = item

        with pytest.raises(MergeConflict):
            snakefish.map(register, range(2), 2, 1, share="memo")
        assert gc.isenabled()


class TestConflicts:
    """Rule 7: a conflict names task, variable, key, both values and both writers."""

    def test_of_two_jobs_of_map(self) -> None:
        """Both jobs are named by their items."""

        def register(item: int) -> None:
            memo[item // 2] = f"by {item}"

        with pytest.raises(MergeConflict) as raised:
            snakefish.map(register, range(4), 2, 1, share={"memo": merges.insert})
        error = raised.value
        assert error.task == "map job of item 1"
        [conflict] = error.conflicts
        assert conflict == (
            "memo", 0, "by 0", "by 1", ("map job of item 0", "map job of item 1")
        )  # fmt: skip
        assert str(error) == (
            "map job of item 1: memo[0] has two writers: "
            "map job of item 0 left 'by 0', map job of item 1 'by 1'"
        )
        assert memo == {0: "by 0"}

    def test_of_two_threads(self) -> None:
        """Threads that run at the same time are named by their names."""

        def win(who: str) -> None:
            global winner
            winner = who

        threads = [
            Thread(win, args=(who,), name=f"thread {who}", share={"winner": merges.once})
            for who in "ab"
        ]
        for thread in threads:
            thread.start()
        threads[0].join()
        with pytest.raises(MergeConflict, match="thread a left 'a', thread b 'b'"):
            threads[1].join()
        for thread in threads:
            thread.dispose()
        assert winner == "a"

    def test_of_elements_names_who_wrote_them(self) -> None:
        """Not who wrote something else after that."""

        def write(index: int) -> None:
            cells[index] = index + 1

        threads = [
            Thread(write, args=(index,), name=name, share="cells")
            for name, index in (("one", 1), ("two", 2), ("three", 1))
        ]
        with threads[0], threads[1], threads[2]:
            for thread in threads:
                thread.start()
            threads[0].join()
            threads[1].join()
            with pytest.raises(MergeConflict) as conflict:
                threads[2].join()
        assert [one.writers for one in conflict.value.conflicts] == [("one", "three")]

    def test_all_are_collected(self) -> None:
        """Several variables and keys are told together."""

        def register(item: int) -> None:
            memo["x"], memo["y"], cells[2] = item, -item, item + 1

        with pytest.raises(MergeConflict) as raised:
            snakefish.map(register, range(2), 2, 1, share="memo cells")
        found = [(one.name, one.key) for one in raised.value.conflicts]
        assert found == [("memo", "x"), ("memo", "y"), ("cells", 2)]

    def test_of_many_a_few_are_told(self) -> None:
        """The message can be read, and all conflicts are in the exception."""

        def fill(item: int) -> None:
            cells[:] = array("l", [item + 1] * len(cells))

        with pytest.raises(MergeConflict) as raised:
            snakefish.map(fill, range(2), 2, 1, share={"cells": merges.disjoint})
        assert len(raised.value.conflicts) == len(cells)
        assert "cells[4]" in str(raised.value)
        assert "cells[5]" not in str(raised.value)
        assert str(raised.value).endswith("; and 3 more")

    def test_rollback_takes_back_the_tasks_before_a_conflict(self) -> None:
        """A conflict is an error like others."""

        def register(item: int) -> None:
            memo[item // 2] = item

        with pytest.raises(MergeConflict):
            snakefish.map(register, range(4), 2, 1, share="memo", on_error="rollback")
        assert memo == {}

    def test_travels_out_of_a_child(self) -> None:
        """A conflict within a child is its exception, as itself."""

        def register(item: int) -> None:
            memo[item // 2] = item

        with Thread(lambda: snakefish.map(register, range(4), 2, 1, share="memo")) as thread:
            thread.start()
            thread.join()
            with pytest.raises(MergeConflict, match="memo") as raised:
                thread.get_result()
        assert raised.value.conflicts[0].key == 0

    def test_a_dependence_on_what_another_changed_is_one(self) -> None:
        """ensure makes a stale read a conflict."""

        def read_and_write(item: int) -> None:
            limits["high"] += item

        with pytest.raises(MergeConflict, match="limits"):
            snakefish.map(read_and_write, [1, 2], 2, 1, share={"limits": merges.ensure})
        assert limits == {"low": 0, "high": 10}

    def test_an_epoch_ends_with_its_last_call(self) -> None:
        """A second call begins afresh: nobody of the first is in its way."""

        def register(item: int) -> None:
            global winner
            winner = item

        for item in (1, 2):
            snakefish.map(register, [item], 1, 1, share="winner")
        assert winner == 2


class TestIdentity:
    """Rule 8: mutable values are updated in place, immutable ones are rebound."""

    def test_aliases_survive(self) -> None:
        """Whoever holds the same object sees the change."""
        same = items, counts, memo
        snakefish.map(note, range(4), 2, 1, share=ALL)
        assert alias is items
        assert same[0] is items
        assert same[1] is counts
        assert alias == [0, 1, 2, 3]

    def test_two_names_of_one_object_merge_once(self) -> None:
        """What is appended by either name is there once."""
        snakefish.map(lambda n: alias.append(n), range(4), 2, 1, share=["items", "alias"])
        assert items == [0, 1, 2, 3]

    def test_two_names_of_one_object_are_one_in_the_task(self) -> None:
        """Where the task begins with an object of its own, too."""
        items.append(7)

        def grow() -> None:
            items.append(1)
            alias.append(2)
            items.append(3)

        joined(Thread(grow, share=dict.fromkeys(("alias", "items"), merges.fresh(merges.append))))
        assert items == [7, 1, 2, 3]

    def test_different_merges_for_one_object_are_an_error(self, no_fork: None) -> None:
        """Which of them should it be?"""
        share = {"items": merges.append, "alias": merges.once}
        with pytest.raises(TypeError, match="'items' and 'alias' are the same object"):
            Thread(note, args=(1,), share=share)

    def test_equal_numbers_are_two_variables(self) -> None:
        """Small ints are one object and share nothing."""
        left = right = 7

        def move(n: int) -> None:
            nonlocal left, right
            left, right = left + n, right - n

        snakefish.map(move, range(4), 2, 1, share="left, right")
        assert (left, right) == (13, 1)

    @pytest.mark.parametrize(
        ("value", "others"),
        [
            (date(2020, 2, 2), [date(2020, 1, 1), date(2020, 3, 3)]),
            (Step.BEGUN, [Step.HALF, Step.DONE]),
            ((), [(1,), (2,)]),
        ],
    )
    def test_an_immutable_value_is_not_shared_by_two_names(
        self, value: object, others: list[object]
    ) -> None:
        """Variables that begin with one object, a date or a member of an enum, are two."""
        first = last = value

        def assign() -> None:
            nonlocal first, last
            first, last = others

        joined(Thread(assign, share={"first": merges.once, "last": merges.last}))
        assert [first, last] == others


def descend(depth: int, first: int) -> None:
    """Note a number, and have two children do the same, down to depth 0."""
    note(first)
    if depth:
        numbers = [first * 2, first * 2 + 1]
        snakefish.map(functools.partial(descend, depth - 1), numbers, 2, 1, share=ALL)


class TestNesting:
    """Rule 9: grandchildren are inside of a child's delta, if they were joined."""

    def test_two_deep(self) -> None:
        """A tree of maps leaves what the tree of loops leaves."""
        with Thread(descend, args=(2, 1), share=ALL) as thread:
            thread.start()
            thread.join()
        assert items == [1, 2, 4, 5, 3, 6, 7]
        assert number == sum(range(1, 8))
        assert counts == Counter(str(n % 3) for n in range(1, 8))

    def test_the_writers_of_a_child_are_not_those_of_its_parent(self) -> None:
        """A grandchild's conflict names children of the child."""

        def register(item: int) -> None:
            memo["key"] = item

        def inner() -> str:
            try:
                snakefish.map(register, [1, 2], 2, 1, share="memo")
            except MergeConflict as error:
                return " | ".join(error.conflicts[0].writers)
            return "no conflict"

        with Thread(register, args=(0,), share="memo", name="first") as first:
            first.start()
            first.join()
            memo.clear()
            with Thread(inner) as second:
                second.start()
                second.join()
                assert second.get_result() == "map job of item 0 | map job of item 1"

    def test_an_abandoned_child_is_killed_and_dropped(self) -> None:
        """The changes of one that was not joined are lost, the child's own are not."""
        kept: list[Thread] = []

        def negligent() -> int | None:
            note(1)
            kept.append(Thread(signal.pause, share=ALL, name="forgotten"))
            kept[0].start()
            return kept[0].pid

        with Thread(negligent, share=ALL, name="parent of one") as thread:
            thread.start()
            with pytest.warns(snakefish.LostWriteWarning) as warned:
                thread.join()
            pid = thread.get_result()
        wait_until(lambda: state(pid) in (None, "", "X", "Z"), "it lives on")
        assert items == [1]
        [warning] = [str(one.message) for one in warned if "forgotten" in str(one.message)]
        assert "parent of one ended without joining children of its own" in warning

    def test_a_dropped_child_is_warned_of_too(self) -> None:
        """Even where nobody refers to it any more."""

        def negligent(item: int) -> None:
            Thread(signal.pause, name=f"dropped {item}").start()

        with pytest.warns(snakefish.LostWriteWarning, match="dropped 0, dropped 1"):
            snakefish.map(negligent, range(2), 1, 1)

    def test_joined_and_disposed_children_are_none_of_it(self, recwarn: Any) -> None:
        """Who joins, or disposes on purpose, is not warned."""

        def careful() -> None:
            joined(Thread(int))
            with Thread(signal.pause) as thread:
                thread.start()
            with Thread(int):
                pass

        joined(Thread(careful))
        snakefish.map(lambda n: careful(), range(2), 2, 1)
        assert [one for one in recwarn if one.category is snakefish.LostWriteWarning] == []


class TestDeclaring:
    """The forms of share=, and of the decorator."""

    @pytest.mark.parametrize(
        "share",
        [
            "number items counts",
            "number, items, counts",
            ["number", "items", "counts"],
            {"number", "items", "counts"},
            ALL,
            types.MappingProxyType(ALL),
        ],
        ids=["words", "commas", "list", "set", "dict", "mapping"],
    )
    def test_forms(self, share: Any) -> None:
        """Names alone take the default merge of their value."""
        snakefish.map(note, range(6), 2, 2, share=share)
        assert (number, items) == (15, [0, 1, 2, 3, 4, 5])

    def test_nothing_to_share(self) -> None:
        """An empty declaration is none."""
        for share in ("", [], {}, None):
            snakefish.map(note, range(3), 2, 1, share=share)
        assert snapshot() == (0, [], {}, [])

    def test_starmap_takes_it(self) -> None:
        """As map does."""
        snakefish.starmap(lambda a, b: items.append(a + b), [(1, 2), (3, 4)], 2, 1, share="items")
        assert items == [3, 7]

    def test_a_generator_commits_at_its_join(self) -> None:
        """What the generator did up to its end comes back."""

        def numbers() -> Iterator[int]:
            for item in range(3):
                note(item)
                yield item

        with Generator(numbers, share=ALL) as generator:
            generator.start()
            assert list(generator) == [0, 1, 2]
            assert items == []
            generator.join()
        assert items == [0, 1, 2]

    def test_attributes_of_classes_and_names_of_modules(self) -> None:
        """`Class.attribute`, and `module:name` from anywhere."""

        def hit(n: int) -> None:
            Box.hits += n
            sys.modules[__name__].number += n  # type: ignore[attr-defined]

        share = {"Box.hits": merges.add, f"{__name__}:number": merges.add}
        snakefish.map(hit, range(5), 2, 1, share=share)
        assert (Box.hits, number) == (10, 10)

    def test_with_extract_and_merge(self) -> None:
        """Both ways at once: variables first, then merge."""

        def merge(namespace: dict[str, Any], extracted: dict[str, Any]) -> None:
            assert items[-1] == extracted["last"]
            namespace["number"] += 1

        snakefish.map(
            note, range(4), lambda its: {"last": items[-1]}, merge, 2, 1, share="items"
        )  # fmt: skip
        assert (items, number) == ([0, 1, 2, 3], 4)


@shares(number=merges.add, items=merges.append)
def declared(item: int) -> int:
    return note(item)


class Worker:
    """Has a declared method, and is callable."""

    @shares("items", "number")
    def work(self, item: int) -> int:
        return note(item)

    @shares("items", "number")
    def __call__(self, item: int) -> int:
        return note(item)

    @classmethod
    @shares("items", "number")
    def of_class(cls, item: int) -> int:
        return note(item)

    @staticmethod
    @shares("items", "number")
    def static(item: int) -> int:
        return note(item)


def wrapped(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


class TestDecorator:
    """@shares(...)."""

    @pytest.mark.parametrize(
        "function",
        [
            declared,
            functools.partial(declared),
            wrapped(declared),
            Worker().work,
            Worker(),
            Worker.of_class,
            Worker.static,
            functools.partial(wrapped(Worker().work)),
        ],
        ids=["plain", "partial", "wrapper", "method", "object", "class", "static", "all"],
    )
    def test_is_found_under_whatever_is_around(self, function: Any) -> None:
        """Partials, wrappers, methods and callable objects keep the declaration."""
        assert snakefish.map(function, range(4), 2, 1) == [0, -1, -2, -3]
        assert (number, items, counts) == (6, [0, 1, 2, 3], {})

    def test_leaves_the_function_what_it_was(self) -> None:
        """Called, it does what it did."""
        assert declared(4) == -4
        assert declared.__name__ == "declared"
        assert (number, items, counts) == (4, [4], {"1": 1})

    def test_the_call_wins_name_by_name(self) -> None:
        """share= adds to the declaration and replaces what it says again."""
        share = {"items": merges.private, "counts": merges.count}
        snakefish.map(declared, range(4), 2, 1, share=share)
        assert (number, items, counts) == (6, [], {"0": 2, "1": 1, "2": 1})

    def test_twice_adds_up(self) -> None:
        """Two decorators declare together; the outer one wins."""
        function = shares("counts", number=merges.private)(shares("number items")(wrapped(note)))
        snakefish.map(function, range(4), 2, 1)
        assert (number, items, counts) == (0, [0, 1, 2, 3], {"0": 2, "1": 1, "2": 1})

    def test_takes_a_dict_for_what_is_no_identifier(self) -> None:
        """`Class.attribute` and `module:name` can be declared as well."""

        @shares({"Box.hits": merges.add})
        def hit(n: int) -> None:
            Box.hits += n

        snakefish.map(hit, range(4), 2, 1)
        assert Box.hits == 6

    def test_refuses_what_is_no_merge(self) -> None:
        """At the declaration."""
        with pytest.raises(TypeError, match="a merge for 'number'"):
            shares(number="add")  # type: ignore[arg-type]


CALLS = {
    "Thread": lambda **how: Thread(note, args=(1,), **how),
    "Generator": lambda **how: Generator(lambda: (yield number, items), **how),
    "map": lambda **how: snakefish.map(note, range(3), **how),
    "starmap": lambda **how: snakefish.starmap(note, [(1,), (2,)], **how),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
class TestMistakes:
    """Errors are raised at the call, in the user's terms, before any fork."""

    @pytest.mark.parametrize(
        ("share", "kind", "says"),
        [
            ({"nubmer": merges.add}, NameError, "'nubmer'.*did you mean 'number'"),
            ("itmes", NameError, "did you mean 'items'"),
            ({"Box.hit": merges.add}, NameError, "Box has no 'hit'; did you mean 'hits'"),
            ({"no_such_module:x": merges.add}, NameError, "no module 'no_such_module'"),
            ({"json:dmups": merges.add}, NameError, "json has no 'dmups'; did you mean 'dumps'"),
            ({":x": merges.add}, NameError, "no module ''"),
            ({"items": merges.add}, TypeError, "cannot share 'items' by add: it is for int"),
            ({"ratio": merges.add}, TypeError, "'ratio' by add: a float loses.*use total"),
            ({"number": merges.append}, TypeError, "'number' by append: it is for list"),
            ({"number": "add"}, TypeError, "merge for 'number', not 'add'; .* merges.add"),
            ({"number": None}, TypeError, "merge for 'number', not None"),
            ({"memo": merges.mapping}, TypeError, "not the class of it"),
            ({1: merges.add}, TypeError, "names of variables, as strings, not 1"),
            (["items", 3], TypeError, "names of variables, as strings, not 3"),
            (5, TypeError, "share is a dict of names and merges, or names alone, not 5"),
            (merges.add, TypeError, "not merges.add"),
            (b"items", TypeError, "not b'items'"),
        ],
    )
    def test_of_share(
        self, call: Any, share: Any, kind: type[Exception], says: str, no_fork: None
    ) -> None:
        """A name, a value or a declaration that will not do."""
        with pytest.raises(kind, match=says):
            call(share=share)

    def test_of_on_error(self, call: Any, no_fork: None) -> None:
        """One of three words."""
        with pytest.raises(ValueError, match="sequential, drop, rollback, not 'ignore'"):
            call(share="items", on_error="ignore")


class TestChangesOfTheWrongKind:
    """What a task did is not what the merge is for, or cannot travel."""

    def test_names_the_variable_and_the_merge_is_not_done(self) -> None:
        """Nothing of the task is committed."""

        def shorten() -> None:
            note(3)
            memo.clear()

        memo["key"] = 1
        with Thread(shorten, share={**ALL, "memo": merges.insert}) as thread:
            thread.start()
            with pytest.raises(NotShareableError, match="memo: the task removed keys"):
                thread.join()
            thread.join()
        assert (snapshot(), memo) == ((0, [], {}, []), {"key": 1})

    def test_a_deleted_variable_is_named(self) -> None:
        """In the task, and in the parent."""

        def delete() -> None:
            del globals()["doomed"]

        globals()["doomed"] = 1
        with Thread(delete, share={"doomed": merges.add}) as thread:
            thread.start()
            with pytest.raises(NotShareableError, match=r"'doomed'.* deleted"):
                thread.join()
        with Thread(lambda: globals().update(doomed=2), share={"doomed": merges.add}) as thread:
            thread.start()
            delete()
            with pytest.raises(NameError, match=r"'doomed'.* deleted"):
                thread.join()

    def test_what_cannot_be_pickled_names_the_variable(self) -> None:
        """Not just the type that pickle stumbled over."""
        with Thread(lambda: items.append(lambda: 1), share="items number") as thread:
            thread.start()
            with pytest.raises(TypeError, match="items: what the task did cannot be pickled"):
                thread.join()
        assert items == []

    def test_in_map_leaves_the_tasks_before(self) -> None:
        """It ends the map as an exception of the function would."""

        def put(item: int) -> None:
            items.append(item if item < 2 else (lambda: 1))

        with pytest.raises(NotShareableError, match="items"):
            snakefish.map(put, range(4), 2, 1, share="items")
        assert items == [0, 1]

    def test_a_value_that_cannot_be_captured_is_refused_at_the_start(self, no_fork: None) -> None:
        """A snapshot needs a pickle, and the error says which variable has none."""
        global trouble
        trouble = [lambda: 1]
        with Thread(int, share={"number": merges.add}) as idle:
            assert not idle.pid
        with (
            Thread(note, args=(1,), share={"trouble": merges.once}) as thread,
            pytest.raises(NotShareableError, match="cannot share 'trouble' by once"),
        ):
            thread.start()


class TestClosures:
    """Variables of enclosing functions."""

    def test_are_shared_by_name(self) -> None:
        """Assigned and changed ones."""
        total, seen = 0, []

        def see(n: int) -> None:
            nonlocal total
            total += n
            seen.append(n)

        snakefish.map(see, range(5), 2, 2, share={"total": merges.add, "seen": merges.append})
        assert (total, seen) == (10, [0, 1, 2, 3, 4])

    def test_hide_globals_of_the_same_name(self) -> None:
        """As they do in the function itself."""
        items: list[int] = []
        snakefish.map(lambda n: items.append(n), range(3), 2, 1, share="items")
        assert items == [0, 1, 2]
        assert globals()["items"] == []


class TestValues:
    """Some merges end to end, where more than the algebra is at stake."""

    def test_total_is_exact(self) -> None:
        """Floats are added in one go for the whole call."""
        global ratio
        ratio = 1e16

        def add(n: int) -> None:
            global ratio
            ratio += 0.5

        snakefish.map(add, range(4), 2, 1, share={"ratio": merges.total})
        assert ratio == 1e16 + 2

    def test_fresh_shows_the_identity(self) -> None:
        """The task does not see the base, the parent keeps its object."""
        items.append("base")
        same = items
        share = {"items": merges.fresh(list, operator.iadd)}
        seen = snakefish.map(lambda n: items.append(n) or list(items), range(3), 2, 1, share=share)
        assert seen == [[0], [1], [2]]
        assert items == ["base", 0, 1, 2]
        assert same is items

    def test_an_index(self) -> None:
        """A mapping of lists, with keys that are new in several tasks."""
        index: defaultdict[int, list[int]] = defaultdict(list)
        snakefish.map(lambda n: index[n % 2].append(n), range(6), 2, 1, share="index")
        assert index == {0: [0, 2, 4], 1: [1, 3, 5]}

    def test_disjoint_writes(self) -> None:
        """Each task its own element."""

        def put(n: int) -> None:
            cells[n] = n * n

        snakefish.map(put, range(8), 2, 3, share="cells")
        assert list(cells) == [n * n for n in range(8)]


class Lender(Merge):
    """Lends the parent a token, and wants it back."""

    early = True

    def capture(self, base: Any) -> Any:
        lent.append(object())
        return lent[-1]

    def diff(self, token: Any, mine: Any) -> Any:
        return None

    def release(self, token: Any) -> None:
        lent.remove(token)


lent: list[Any] = []


class TestTokens:
    def test_each_is_given_back_when_its_call_is_over(self) -> None:
        """With the last join, and with the end of a map, whatever comes of it."""
        share = {"number": Lender()}
        first, second = Thread(int, share=share), Thread(int, share=share)
        first.start()
        second.start()
        assert len(lent) == 2
        first.join()
        assert len(lent) == 1
        second.dispose()
        assert lent == []
        first.dispose()
        assert snakefish.map(note, [1, 2], share=share, chunksize=1) == [-1, -2]
        assert lent == []
        with pytest.raises(ZeroDivisionError):
            snakefish.map(lambda i: 1 // i, [1, 0, 2], share={__name__ + ":number": Lender()})
        assert lent == []


class TestPrograms:
    """Whole programs."""

    def test_a_program_of_one_module(self) -> None:
        """Globals of __main__ are shared like others, and nothing is written to stderr."""
        assert output_of(
            """
            from snakefish import map, merges
            warnings.simplefilter("error", snakefish.LostWriteWarning)
            lines = 0
            words = {}
            def count(line):
                global lines
                lines += 1
                for word in line.split():
                    words[word] = words.get(word, 0) + 1
            map(count, ["a b", "b c", "c c"], share={"lines": merges.add, "words": merges.count})
            say(lines, words)
            """
        ) == ["3 {'a': 1, 'b': 2, 'c': 3}"]
