# SPDX-License-Identifier: MIT
"""Arrays whose written pages are known are shared as any buffer is, only faster.

What is said of sharing is tried on both kinds of memory: the one that knows, and the ordinary
one that is made where a limit on the size of files forbids the other.
"""

from __future__ import annotations

import array as arrays
import gc
import math
import os
import pickle
import re
import resource
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from process_table import open_descriptors

import snakefish
from snakefish import MergeConflict, Thread, merges
from snakefish._array import _address, _memories, _PagesImage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = os.sysconf("SC_PAGESIZE")
IN_PAGE = PAGE // 8
COUNT = 5 * IN_PAGE

grid: Any = None
other: Any = None


@contextmanager
def without_large_files() -> Iterator[None]:
    """No file of more than one byte can be made, in memory neither."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def knows_its_pages(value: Any) -> bool:
    """Whether the merge has a better image of it than a copy."""
    token = merges.disjoint.capture(value)
    known = isinstance(token.image, _PagesImage)
    merges.disjoint.release(token)
    return known


def known_array(shape: Any, dtype: Any = "d") -> Any:
    """An array whose pages are known, where that is possible."""
    made = snakefish.array(shape, dtype)
    if not knows_its_pages(made):
        pytest.skip("the kernel does not tell which pages were written")
    return made


def ordinary_array(shape: Any, dtype: Any = "d") -> Any:
    """An array for which that was not possible."""
    with without_large_files():
        made = snakefish.array(shape, dtype)
    assert not knows_its_pages(made)
    return made


def numpy_array(shape: Any) -> Any:
    """One of numpy, whose pages are known."""
    pytest.importorskip("numpy")
    return known_array(shape, "float64")


@pytest.fixture(params=[known_array, ordinary_array, numpy_array])
def make(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Makes arrays of one kind."""
    return request.param


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """No test leaves an array behind."""
    yield
    global grid, other
    grid = other = None


def anonymous_bytes(value: Any) -> int:
    """How much of an array this process has for itself."""
    with memoryview(value) as view:
        address = _address(view)
    inside = False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        bounds = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
        if bounds:
            inside = int(bounds[1], 16) <= address < int(bounds[2], 16)
        elif inside and line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the array is nowhere")


def in_child(function: Callable[[], Any]) -> Any:
    """What a function returns in a bare fork."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            with open(write, "wb") as pipe:
                pickle.dump(function(), pipe)
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as pipe:
        result = pickle.load(pipe)
    os.waitpid(pid, 0)
    return result


class TestMaking:
    @pytest.mark.parametrize("letter", "cbB?hHiIlLqQnNfd")
    def test_letter_makes_a_memoryview_of_zeros(self, letter):
        """Of that format, with so many elements."""
        made = snakefish.array(7, letter)
        assert (type(made), made.format, made.shape) == (memoryview, letter, (7,))
        assert not any(made.tobytes())

    def test_several_dimensions(self):
        """An index has as many numbers."""
        made = snakefish.array((3, 4), "i")
        made[2, 1] = 5
        assert (made.shape, made[2, 1], made.tolist()[2]) == ((3, 4), 5, [0, 5, 0, 0])

    def test_no_dimension_is_one_element(self):
        """As for numpy."""
        assert snakefish.array((), "i").shape == ()

    @pytest.mark.parametrize("kind", ["f8", float, "i4,f8", "<M8[s]", "c16"])
    def test_type_of_numpy_makes_an_array_of_numpy(self, kind):
        """Whatever numpy takes."""
        numpy = pytest.importorskip("numpy")
        made = snakefish.array((2, 3), kind)
        assert isinstance(made, numpy.ndarray)
        assert (made.dtype, made.shape) == (numpy.dtype(kind), (2, 3))
        assert (made == numpy.zeros((2, 3), kind)).all()

    def test_type_of_numpy_needs_numpy(self, monkeypatch):
        """What is returned does not depend on what is installed."""
        monkeypatch.setitem(sys.modules, "numpy", None)
        with pytest.raises(ImportError):
            snakefish.array(3, "float64")

    def test_nothing_at_all(self):
        """An empty array is one."""
        made = snakefish.array(0)
        assert list(made) == []
        assert merges.disjoint.diff(merges.disjoint.capture(made), made) is None

    @pytest.mark.parametrize(
        ("shape", "error"),
        [(-1, ValueError), ((2, 0), ValueError), (1.5, TypeError), ("ab", TypeError)],
    )
    def test_what_is_no_shape(self, shape, error):
        """It is told in words."""
        with pytest.raises(error):
            snakefish.array(shape)

    def test_references_cannot_be_shared(self):
        """Another process has other objects."""
        pytest.importorskip("numpy")
        with pytest.raises(TypeError, match="objects"):
            snakefish.array(3, object)

    @pytest.mark.parametrize("size", [1 << 58, 1 << 62, 1 << 80])
    def test_more_than_any_machine_has(self, size):
        """That is an error of this package's own, and a MemoryError."""
        with pytest.raises(snakefish.OutOfMemoryError, match="array of"):
            snakefish.array(size, "B")

    def test_without_a_descriptor_left(self):
        """It is ordinary memory then."""
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        try:
            made = snakefish.array(COUNT)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        made[7] = 1.5
        assert (made[7], knows_its_pages(made)) == (1.5, False)

    def test_memory_lasts_as_long_as_its_last_view(self):
        """Any view will do; with the last it is given back."""
        view = known_array(COUNT).cast("B")
        gc.collect()
        view[0] = 7
        assert len(_memories) == 1
        assert (view[0], knows_its_pages(view)) == (7, True)
        del view
        for _ in range(3):
            gc.collect()
        assert len(_memories) == 0

    def test_default_merge_is_disjoint(self, make):
        """So its name alone shares it."""
        assert merges.default_for(make(3)) == merges.disjoint


class TestIsolation:
    def test_child_has_a_copy_of_its_own(self, make):
        """What is not shared does not come back."""
        made = make(COUNT)
        made[3] = 1
        assert in_child(lambda: (made.__setitem__(3, 2), made[3])[1]) == 2
        assert made[3] == 1

    def test_child_does_not_see_what_calls_bring_in_later(self, make, make_gate):
        """Even one that has nothing to do with them, and lives through many."""
        global grid
        grid = make(COUNT)
        grid[5], gate = 1, make_gate()

        def look():
            gate.wait()
            return [grid[5], grid[COUNT - 1]]

        with Thread(look) as witness:
            witness.start()
            for value in range(2, 6):
                snakefish.map(lambda i: grid.__setitem__(i, value), [5, COUNT - 1], share="grid")
                grid[7] = value
            gate.open()
            witness.join()
            assert witness.get_result() == [1, 0]
        assert [grid[5], grid[COUNT - 1]] == [5, 5]


class TestSharing:
    @pytest.mark.parametrize("concurrency", [1, 2, 5])
    @pytest.mark.parametrize("chunksize", [0, 1, 7])
    def test_map_leaves_what_the_loop_leaves(self, make, concurrency, chunksize):
        """Whatever the number of cores and the chunks."""
        global grid
        grid = make(COUNT)
        expected = make(COUNT)

        def fill(i):
            for at in range(i, COUNT, 60):
                grid[at] = i + 0.5

        for i in range(0, 60, 3):
            for at in range(i, COUNT, 60):
                expected[at] = i + 0.5
        how = {"concurrency": concurrency, "chunksize": chunksize}
        snakefish.map(fill, range(0, 60, 3), share="grid", **how)
        assert grid.tolist() == expected.tolist()

    def test_one_call_after_another(self, make):
        """Each begins with what the last one and the parent left."""
        global grid
        grid = make(COUNT)
        expected = [0.0] * COUNT

        def step(i):
            grid[i] = 2 * grid[i - 1] + grid[i + 1] + 1

        for turn in range(6):
            grid[turn] = expected[turn] = turn
            places = range(1 + turn, COUNT - 1, 11)
            before = list(expected)
            for i in places:
                expected[i] = 2 * before[i - 1] + before[i + 1] + 1
            snakefish.map(step, places, share="grid", chunksize=100)
            assert grid.tolist() == expected

    def test_elements_of_one_page_have_different_writers(self, make):
        """A page is not the unit."""
        global grid
        grid = make(COUNT)
        snakefish.map(lambda i: grid.__setitem__(i, i), range(9), share="grid", chunksize=1)
        assert grid.tolist()[:10] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 0]

    def test_conflict_names_the_element_and_its_writers(self, make):
        """As for any buffer."""
        global grid
        grid = make((4, IN_PAGE))

        def write(i):
            grid[2, 7] = i

        with pytest.raises(MergeConflict) as caught:
            snakefish.map(write, [1, 2, 3], share="grid", chunksize=1, concurrency=1)
        [conflict] = caught.value.conflicts
        assert (conflict.name, conflict.key) == ("grid", (2, 7))
        assert (conflict.current, conflict.theirs) == (1, 2)
        assert grid[2, 7] == 1

    def test_parent_is_one_more_writer(self, make, gate):
        """What it writes while a child runs is kept, and conflicts."""
        global grid
        grid = make(COUNT)

        def write():
            gate.wait()
            grid[1] = grid[IN_PAGE] = 5

        with Thread(write, share="grid") as thread:
            thread.start()
            grid[2] = grid[IN_PAGE] = 6
            gate.open()
            with pytest.raises(MergeConflict, match="the parent left"):
                thread.join()
        assert (grid[1], grid[2], grid[IN_PAGE]) == (0, 6, 6)

    def test_storing_what_is_there_is_no_write(self, make):
        """Two tasks may both do it."""
        global grid
        grid = make(COUNT)
        grid[3] = 4
        snakefish.map(lambda _: grid.__setitem__(3, 4), range(4), share="grid", chunksize=1)
        assert grid[3] == 4

    def test_equality_is_that_of_bytes(self, make):
        """NaN is no change of NaN, and -0.0 is one of 0.0."""
        global grid
        grid = make(COUNT)
        grid[0] = math.nan

        def write(i):
            grid[0] = math.nan
            grid[i] = -0.0

        snakefish.map(write, [1, 2], share="grid", chunksize=1)
        assert [math.copysign(1, grid[i]) for i in (1, 2, 3)] == [-1, -1, 1]

    @pytest.mark.parametrize(
        ("on_error", "left"),
        [("sequential", [1, 2, 3, 0]), ("drop", [1, 2, 0, 0]), ("rollback", [0, 0, 0, 0])],
    )
    def test_errors(self, make, on_error, left):
        """What was brought in is taken back, where it has to be."""
        global grid
        grid = make(4 * IN_PAGE)

        def write(i):
            grid[i * IN_PAGE] = i + 1
            if i == 2:
                raise KeyError(i)

        with pytest.raises(KeyError):
            snakefish.map(write, range(4), share="grid", chunksize=1, on_error=on_error)
        assert [grid[i * IN_PAGE] for i in range(4)] == left

    def test_threads_forked_and_joined_in_any_order(self, make, make_gate):
        """Each is compared with the state at its own fork, whatever came in between."""
        global grid
        grid = make(COUNT)
        threads, gates = [], []

        def write(i, gate):
            gate.wait()
            before = grid[i * IN_PAGE]
            grid[i * IN_PAGE + 1] = before + 10
            return grid[3]

        for i in range(4):
            grid[i * IN_PAGE] = i + 1
            gates.append(make_gate())
            threads.append(Thread(write, args=(i, gates[i]), share="grid"))
            threads[i].start()
            grid[3] += 1
        for i in (2, 0, 3, 1):
            gates[i].open()
            threads[i].join()
            grid[i + 20] = 7
            assert threads[i].get_result() == i
            threads[i].dispose()
        assert [grid[i * IN_PAGE + 1] for i in range(4)] == [11, 12, 13, 14]
        assert [grid[i] for i in (3, 20, 21, 22, 23)] == [4, 7, 7, 7, 7]

    def test_grandchildren(self, make):
        """What children of a child did is in what it did, and its own writes are not in theirs."""
        global grid
        grid = make(COUNT)
        grid[9] = 1

        def inner(i):
            grid[i * IN_PAGE + 1] = grid[9] + i

        def outer(i):
            grid[9 if i == 1 else 10] += 5
            for _ in range(2):
                snakefish.map(inner, [i, i + 2], share="grid", chunksize=1)
            grid[i * IN_PAGE + 2] = 1

        snakefish.map(outer, [1, 2], share="grid", chunksize=1)
        assert [grid[i] for i in (9, 10)] == [6, 5]
        assert [grid[i * IN_PAGE + 1] for i in range(5)] == [0, 7, 3, 9, 5]
        assert [grid[i * IN_PAGE + 2] for i in range(5)] == [0, 1, 1, 0, 0]

    def test_part_of_it(self, make):
        """A slice is shared as the buffer it is, and written to in place."""
        global grid
        whole = make(COUNT)
        grid = whole[IN_PAGE - 3 : 2 * IN_PAGE + 3]
        snakefish.map(lambda i: grid.__setitem__(i, i), range(0, 9, 2), share="grid")
        assert whole[IN_PAGE - 3 :].tolist()[:10] == [0, 0, 2, 0, 4, 0, 6, 0, 8, 0]

    def test_task_may_leave_another_buffer_of_the_kind(self, make):
        """Its elements are compared, wherever they are."""
        global grid
        grid = made = make(COUNT)
        made[1] = 1

        def replace():
            global grid
            grid = memoryview(arrays.array("d", grid))
            if not isinstance(made, memoryview):
                grid = sys.modules["numpy"].array(grid)
            grid[2] = 2

        with Thread(replace, share="grid") as thread:
            thread.start()
            thread.join()
        assert grid is made
        assert made.tolist()[:4] == [0, 1, 2, 0]

    def test_value_of_a_mapping(self, make):
        """Each key's array is one of its own."""
        global grid
        grid = {"a": make(COUNT), "b": make(COUNT)}
        merge = merges.mapping(merges.disjoint)
        for _ in range(2):
            snakefish.map(
                lambda i: grid["ab"[i % 2]].__setitem__(i, i), range(4), share={"grid": merge}
            )
        assert (grid["a"].tolist()[:4], grid["b"].tolist()[:4]) == ([0, 0, 2, 0], [0, 1, 0, 3])

    def test_task_that_closes_descriptors_it_does_not_know(self, make):
        """It loses speed, not data."""
        global grid
        grid = make(COUNT)

        def close_and_go_on():
            for descriptor, target in open_descriptors().items():
                if "memfd:snakefish" in target:
                    os.close(descriptor)
            grid[1] = 1
            snakefish.map(lambda i: grid.__setitem__(i, i), [2, 3], share="grid")

        with Thread(close_and_go_on, share="grid") as thread:
            thread.start()
            thread.join()
            thread.get_result()
        assert grid.tolist()[:5] == [0, 1, 2, 3, 0]


class TestNumpy:
    """Views of an array of numpy."""

    @pytest.fixture(autouse=True)
    def numpy(self):
        """numpy, if it is there."""
        return pytest.importorskip("numpy")

    def test_shape_and_order_are_the_users(self, numpy):
        """A view of another shape is the same memory."""
        global grid
        whole = known_array(24, "i4")
        for shape, order in (((4, 6), "C"), ((2, 3, 4), "F")):
            whole[:] = 0
            grid = whole.reshape(shape, order=order)
            expected = numpy.zeros(shape, "i4", order)
            snakefish.map(lambda i: grid.__setitem__((i, 1), i + 1), range(2), share="grid")
            expected[0, 1], expected[1, 1] = 1, 2
            assert (grid == expected).all()
            assert whole.tolist() == expected.ravel(order="A").tolist()

    def test_elements_across_pages(self, numpy):
        """Elements of 24 bytes do not divide a page."""
        global grid
        grid = known_array(3 * PAGE // 24, "i4,f8,f8,i4")
        across = PAGE // 24

        def write(i):
            grid[i] = (i, 1, 2, 3)

        snakefish.map(write, [across - 1, across, across + 1], share="grid", chunksize=1)
        assert grid["f0"].nonzero()[0].tolist() == [across - 1, across, across + 1]

    @pytest.mark.skipif(
        sys.implementation.name == "pypy",
        reason="PyPy never frees a memoryview that numpy has looked into",
    )
    def test_numpy_writes_in_one_go(self, numpy):
        """Pages written by code of C are known as well."""
        global grid
        grid = known_array((8, IN_PAGE))

        def write(i):
            numpy.asarray(grid)[i] = numpy.arange(IN_PAGE) + i

        snakefish.map(write, range(8), share="grid")
        assert (numpy.asarray(grid) == numpy.arange(IN_PAGE) + numpy.arange(8)[:, None]).all()


class TestMemory:
    def test_what_calls_brought_in_is_held_once(self):
        """With the next call it is a part of what all have in common."""
        global grid
        grid = known_array(100 * IN_PAGE)

        def write(i):
            for at in range(i * IN_PAGE, (i + 10) * IN_PAGE):
                grid[at] = turn

        for turn in range(1, 4):
            snakefish.map(write, range(0, 100, 10), share="grid")
            assert anonymous_bytes(grid) >= 99 * PAGE
            assert knows_its_pages(grid)
            assert anonymous_bytes(grid) == 0

    def test_child_pays_for_what_it_writes(self):
        """To find two pages among many costs no copy of the rest, nor a look at it."""
        global grid
        grid = known_array(5000 * IN_PAGE)
        for at in range(0, len(grid), IN_PAGE):
            grid[at] = 1
        token = merges.disjoint.capture(grid)

        def write():
            before = anonymous_bytes(grid)
            grid[3] = grid[4000 * IN_PAGE] = 5
            own = anonymous_bytes(grid) - before
            return own, [first for first, _ in merges.disjoint.diff(token, grid)]

        assert in_child(write) == (2 * PAGE, [3, 4000 * IN_PAGE])
        merges.disjoint.release(token)

    def test_what_other_threads_write_meanwhile_is_not_lost(self):
        """Written pages stay where they are while a thread could be writing to them."""
        made = known_array(300 * IN_PAGE)
        stop, lost = threading.Event(), []

        def write():
            number = 0
            while not stop.is_set():
                number += 1
                made[-1] = number
                if made[-1] != number:
                    lost.append(number)

        thread = threading.Thread(target=write)
        thread.start()
        try:
            for turn in range(300):
                for at in range(0, len(made), IN_PAGE):
                    made[at] = turn
                knows_its_pages(made)
        finally:
            stop.set()
            thread.join()
        assert not lost


# ------------------------------------------- the same as with copies, in all cases

PLACES = st.sampled_from([0, 1, IN_PAGE - 1, IN_PAGE, IN_PAGE + 1, 2 * IN_PAGE, 3 * IN_PAGE - 1])
WRITES = st.lists(st.tuples(PLACES, st.integers(0, 2)), max_size=4)

real_forks = settings(
    max_examples=60,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def write_all(writes: Any, *targets: Any) -> None:
    """Do the same to several arrays."""
    for place, value in writes:
        for target in targets:
            target[place] = value


def elements_of(delta: Any, size: int = 8) -> dict[int, bytes]:
    """A delta, element by element."""
    return {
        first + at // size: data[at : at + size]
        for first, data in delta or ()
        for at in range(0, len(data), size)
    }


class TestAsWithCopies:
    @real_forks
    @given(before=WRITES, task=WRITES, inner=WRITES, meanwhile=WRITES, settled=st.booleans())
    def test_one_task(self, before, task, inner, meanwhile, settled):
        """Deltas, conflicts, what is applied and what is undone are the same."""
        merge = merges.disjoint
        known, plain = known_array(3 * IN_PAGE, "q"), arrays.array("q", bytes(3 * PAGE))
        write_all(before[:2], known, plain)
        if settled:
            merge.release(merge.capture(known))
        write_all(before[2:], known, plain)
        tokens = merge.capture(known), merge.capture(plain)

        def child():
            write_all(task, known, plain)
            nested = merge.capture(known), merge.capture(plain)

            def grandchild():
                write_all(inner, known, plain)
                return merge.diff(nested[0], known), merge.diff(nested[1], plain)

            fast, slow = in_child(grandchild)
            assert elements_of(fast) == elements_of(slow)
            for value, delta in ((known, fast), (plain, slow)):
                if delta is not None:
                    merge.apply(value, delta, [])
            return merge.diff(tokens[0], known), merge.diff(tokens[1], plain)

        fast, slow = in_child(child)
        assert elements_of(fast) == elements_of(slow)
        assert (fast is None) == (slow is None)
        write_all(meanwhile, known, plain)
        if fast is None:
            return
        clashes = list(merge.clashes(tokens[0], known, fast))
        assert clashes == list(merge.clashes(tokens[1], plain, slow))
        unmerged, undo = known.tolist(), []
        merge.apply(known, fast, undo)
        merge.apply(plain, slow, [])
        assert known.tolist() == plain.tolist()
        undo.pop()()
        assert known.tolist() == unmerged

    @real_forks
    @given(
        steps=st.lists(
            st.one_of(
                st.tuples(st.just("write"), WRITES),
                st.tuples(st.just("begin"), st.none()),
                st.tuples(st.just("end"), st.integers(0, 3)),
                st.tuples(st.just("fork"), WRITES),
            ),
            max_size=12,
        )
    )
    def test_calls_that_overlap(self, steps):
        """Images of any number of moments are right until the last is released."""
        merge = merges.disjoint
        known, plain = known_array(3 * IN_PAGE, "q"), arrays.array("q", bytes(3 * PAGE))
        tokens: list[Any] = []

        def check():
            for fast, slow in tokens:
                assert fast.image.read(0, 3 * PAGE) == slow.image.read(0, 3 * PAGE)
                found = elements_of(merge.diff(fast, known))
                assert found == elements_of(merge.diff(slow, plain))
            return known.tolist() == plain.tolist()

        for step, what in steps:
            if step == "write":
                write_all(what, known, plain)
            elif step == "begin":
                tokens.append((merge.capture(known), merge.capture(plain)))
            elif step == "fork":
                assert in_child(lambda: (write_all(what, known, plain), check())[1])
            elif tokens:
                merge.release(tokens.pop(what % len(tokens))[0])
            assert check()
        for fast, _ in tokens:
            merge.release(fast)
