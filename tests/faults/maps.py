# SPDX-License-Identifier: MIT
"""Section I. map and starmap."""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import os
import resource
import select
import signal
import sys
import tempfile
import threading
import time
from typing import TYPE_CHECKING, Any, Callable, NoReturn

from deadline import wait_until
from libraries import Library
from process_table import children, is_gone, open_descriptors
from row import Row
from stage import Stage, for_ever

import snakefish
from snakefish import Channel

if TYPE_CHECKING:
    from collections.abc import Iterator

Namespace = dict[str, Any]

merged: list[int] = []


def keep_merged(namespace: Namespace) -> Namespace:
    return {"merged": namespace["merged"]}


def add_merged(namespace: Namespace, extracted: Namespace) -> None:
    namespace["merged"] += extracted["merged"]


MERGING = {"extract": keep_merged, "merge": add_merged}
WAYS: tuple[dict[str, Any], ...] = ({}, MERGING, {"chunksize": 1}, {**MERGING, "chunksize": 1})
"""Without merging and with it, in chunks of any size and of one."""


def double(x: Any) -> Any:
    return x + x


def nothing_wanted() -> Namespace:
    return {}


# ---------------------------------------------------------------------- nothing

I1 = Row("I1", "nothing to map", "an empty list")


def nothings() -> list[Any]:
    return [[], (), {}, set(), "", b"", range(0), iter(()), filter(None, [0]), (x for x in ())]


@I1.comparison()
def nothing_gives_nothing(stage: Stage, library: Library) -> None:
    """An empty iterable of any kind gives an empty list."""
    for nothing in nothings():
        stage.inject()
        result = stage.quickly(lambda nothing=nothing: library.map(double, nothing))
        stage.expect(result == [], f"{result!r}")


@I1.scenario()
def nothing_forks_nothing(stage: Stage) -> None:
    """Whatever else is asked for, no process is forked; what is wrong is refused all the same."""
    forks: list[int] = []
    os.register_at_fork(before=lambda: forks.append(1))
    for way in (*WAYS, {"concurrency": 1000}, {"timeout": 0}, {"progress": lambda *_: None}):
        for f in (snakefish.map, snakefish.starmap):
            for nothing in nothings():
                stage.inject()
                stage.expect(f(for_ever, nothing, **way) == [], "something")
    for wrong in ({"concurrency": -1}, {"chunksize": "1"}, {"extract": keep_merged}):
        stage.inject()
        error = stage.error_of(lambda wrong=wrong: snakefish.map(double, [], **wrong))
        stage.expect(isinstance(error, (TypeError, ValueError)), f"{error!r}")
    stage.expect(not forks, f"{len(forks)} forks")


I2 = Row(
    "I2",
    "negative, huge or other numbers; not callable; half a pair of extract and merge",
    "TypeError, ValueError or OverflowError, or it simply works",
)

NUMBERS: list[Any] = [
    -1, -(10**30), 10**3, 2**31, 2**63, 2**64, 10**30, True, False, 1.0, 2.5, float("nan"),
    float("inf"), "2", b"2", None, [], (), {}, object(), ..., int, 1j,
]  # fmt: skip


@I2.scenario()
def any_number_works_or_is_refused(stage: Stage) -> None:
    """As concurrency and as chunksize, by position and by keyword, with merging and without."""
    for number in NUMBERS:
        for way in ({}, MERGING):
            calls: list[Callable[..., Any]] = [
                functools.partial(snakefish.map, double, range(6), concurrency=number),
                functools.partial(snakefish.map, double, range(6), chunksize=number),
                functools.partial(snakefish.map, double, range(6), 2, number),
                functools.partial(snakefish.starmap, double, zip(range(6)), concurrency=number),
            ]
            for call in calls:
                stage.inject()
                try:
                    result = call(**way)
                except (TypeError, ValueError, OverflowError):
                    continue
                stage.expect(result == list(range(0, 12, 2)), f"{number!r} gives {result!r}")


@I2.scenario()
def bad_arguments_fork_nothing(stage: Stage) -> None:
    """They are refused in this process, before any child exists."""
    forks: list[int] = []
    os.register_at_fork(before=lambda: forks.append(1))
    bad: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((None, [1]), {}),
        ((5, [1]), {}),
        (("f", [1]), {}),
        ((double, 5), {}),
        ((double, None), {}),
        ((double, double), {}),
        ((double, [1], keep_merged), {}),
        ((double, [1], keep_merged, None), {}),
        ((double, [1], keep_merged, 5), {}),
        ((double, [1], nothing_wanted, add_merged), {}),
        ((double, [1], keep_merged, lambda ours: None), {}),
        ((double, [1]), {"extract": keep_merged}),
        ((double, [1]), {"merge": add_merged}),
        ((double, [1], 1, 1, 1), {}),
        ((double, [1], 1), {"concurrency": 1}),
        ((double, [1]), {"size": 1}),
        ((double, [1]), {"timeout": "soon"}),
        ((double, [1]), {"timeout": float("nan")}),
        ((double,), {}),
        ((), {}),
    ]
    for f in (snakefish.map, snakefish.starmap):
        for arguments, options in bad:
            stage.inject()
            error = stage.error_of(functools.partial(f, *arguments, **options))
            how = f"{arguments} {options}"
            stage.expect(isinstance(error, (TypeError, ValueError)), f"{how}: {error!r}")
            stage.expect(not forks, f"{how}: {len(forks)} forks")


# ----------------------------------------------------------------------- deaths

I3 = Row(
    "I3",
    "a worker dies, exits, or calls sys.exit",
    "an error at once (RuntimeError); the rest ended and reaped; never a short list",
)


def be_killed() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    for_ever()


def segfault() -> NoReturn:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.kill(os.getpid(), signal.SIGSEGV)
    for_ever()


WAYS_TO_DIE: dict[str, Callable[[], Any]] = {
    "is killed": be_killed,
    "crashes": segfault,
    "leaves with 0": lambda: os._exit(0),
    "leaves with 3": lambda: os._exit(3),
    "calls sys.exit": lambda: sys.exit(3),
    "calls sys.exit with 0": lambda: sys.exit(0),
    "calls sys.exit with a text": lambda: sys.exit("a text"),
}


def die_at(victim: int, how: str, item: int) -> int:
    if item == victim:
        WAYS_TO_DIE[how]()
    return item


def expect_death(stage: Stage, library: Library, how: str, victim: int) -> None:
    """A map one of whose items ends its worker raises, and soon."""
    stage.inject()
    f = functools.partial(die_at, victim, how)
    error = stage.quickly(lambda: stage.error_of(lambda: library.map(f, range(20))))
    stage.expect(isinstance(error, Exception), f"{type(error).__name__} ends the parent")


@I3.comparison(timeout=10)
def a_killed_worker_is_an_error(stage: Stage, library: Library) -> None:
    """SIGKILL at the first, a middle and the last item."""
    for victim in (0, 11, 19):
        expect_death(stage, library, "is killed", victim)


@I3.comparison(timeout=10)
def a_worker_that_leaves_is_an_error(stage: Stage, library: Library) -> None:
    """os._exit, with 0 as well."""
    for how in ("leaves with 0", "leaves with 3"):
        expect_death(stage, library, how, 11)


@I3.comparison(timeout=10)
def sys_exit_is_an_error(stage: Stage, library: Library) -> None:
    """It ends neither the caller nor the list."""
    for how in ("calls sys.exit", "calls sys.exit with 0", "calls sys.exit with a text"):
        expect_death(stage, library, how, 11)


def die_or_block(item: int) -> int:
    """The last item dies, its neighbour never ends."""
    if item == 3:
        be_killed()
    if item == 2:
        for_ever()
    return item


@I3.comparison(timeout=10)
def a_death_does_not_wait_for_the_rest(stage: Stage, library: Library) -> None:
    """While another worker never ends, the error comes at once, and that worker is ended."""
    stage.inject()
    error = stage.quickly(lambda: stage.error_of(lambda: library.map(die_or_block, range(4))))
    stage.expect(isinstance(error, Exception), f"{type(error).__name__}")


@I3.scenario()
def every_death_at_every_item(stage: Stage) -> None:
    """RuntimeError whatever the way and the item; it says which items were held; none is left."""
    for _ in stage.times(3):
        for how in WAYS_TO_DIE:
            for way in WAYS:
                before = children()
                victim = stage.dice.randrange(12)
                f = functools.partial(die_at, victim, how)
                call = functools.partial(snakefish.map, f, range(12), concurrency=3, **way)
                stage.inject()
                error = stage.quickly(lambda call=call: stage.error_of(call))
                stage.expect(isinstance(error, RuntimeError), f"{how}: {error!r}")
                if "sys.exit" not in how:
                    names_it = str(victim) in str(error) or " to " in str(error)
                    stage.expect(names_it, f"does not say which item: {error}")
                stage.expect(children() <= before, f"{how}: a worker is left")
    merged.clear()


def note_pid_and_block(tell: int, item: int) -> None:
    os.write(tell, f"{os.getpid()}\n".encode())
    for_ever()


@I3.scenario()
def killed_from_outside_at_any_moment(stage: Stage) -> None:
    """A worker killed at a random moment by somebody else: a full list, or RuntimeError."""

    def work(item: int) -> tuple[int, int]:
        return item, sum(range(item * 20))

    expected = [work(item) for item in range(400)]
    for _ in stage.times(60):
        read, write = os.pipe()
        way = stage.dice.choice(WAYS[:2])

        def tell_and_work(item: int, write: int = write) -> tuple[int, int]:
            if item == 0:
                os.write(write, f"{os.getpid()} ".encode())
            return work(item)

        killer = threading.Thread(
            target=lambda read=read: stage.kill_within(int(os.read(read, 20).split()[0]), 0.003)
        )
        killer.start()
        try:
            result = stage.quickly(
                lambda way=way, f=tell_and_work: snakefish.map(f, range(400), concurrency=3, **way)
            )
        except RuntimeError as error:
            stage.expect("SIGKILL" in str(error), f"{error}")
        else:
            stage.expect(result == expected, f"a list of {len(result)}")
        killer.join()
        os.close(read)
        os.close(write)


@I3.scenario()
def all_workers_killed_at_once(stage: Stage) -> None:
    """When every worker is killed in the same moment the call ends all the same."""
    for way in ({}, {**MERGING, "chunksize": 1}):
        for _ in stage.times(10):
            read, write = os.pipe()

            def kill_all(read: int = read) -> None:
                pids: set[int] = set()
                while len(pids) < 6:
                    pids |= {int(line) for line in os.read(read, 1000).split()}
                for pid in pids:
                    stage.kill(pid)

            killer = threading.Thread(target=kill_all)
            killer.start()
            f = functools.partial(note_pid_and_block, write)
            call = functools.partial(snakefish.map, f, range(6), concurrency=6, **way)
            error = stage.error_of(call)
            stage.expect(isinstance(error, RuntimeError), f"{error!r}")
            killer.join()
            os.close(read)
            os.close(write)


# ------------------------------------------------------------------- exceptions

I4 = Row(
    "I4",
    "f raises",
    "the exception of the lowest index, whatever the timing; later items are stopped and not "
    "waited for; no process left",
)


class ItemError(Exception):
    """Names its item."""


def mark() -> str:
    """A file that a worker of any library can see."""
    return os.path.join(tempfile.gettempdir(), "mark")


def is_marked() -> bool:
    return os.path.exists(mark())


@contextlib.contextmanager
def unmarked() -> Iterator[None]:
    """Remove the mark afterwards."""
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(mark())


def wait_shortly_for_mark() -> None:
    end = time.monotonic() + 1
    while not is_marked() and time.monotonic() < end:
        select.select([], [], [], 0.01)


def fail_late_or_early(item: int) -> int:
    """Item 3 fails, but after item 7 has, if another worker can do that meanwhile."""
    if item == 3:
        wait_shortly_for_mark()
        raise ItemError(item)
    if item == 7:
        with open(mark(), "w", encoding="ascii"):
            pass
        raise ItemError(item)
    return item


@I4.comparison(timeout=10)
def the_lowest_index_wins(stage: Stage, library: Library) -> None:
    """Item 3 raises later than item 7, and is what surfaces."""
    with unmarked():
        stage.inject()
        error = stage.error_of(lambda: library.map(fail_late_or_early, range(12)))
        stage.expect(isinstance(error, ItemError), f"{type(error).__name__}")
        stage.expect(error.args == (3,), f"the error of item {error.args[0]}")


def fail_or_block(item: int) -> int:
    """The first item fails, the last never ends."""
    if item == 0:
        wait_shortly_for_mark()
        raise ItemError(item)
    if item == 3:
        with open(mark(), "w", encoding="ascii"):
            pass
        for_ever()
    return item


@I4.comparison(timeout=10)
def later_items_are_not_waited_for(stage: Stage, library: Library) -> None:
    """While the last item never ends, the error of the first comes at once."""
    with unmarked():
        stage.inject()
        call = functools.partial(library.map, fail_or_block, range(4))
        error = stage.quickly(lambda: stage.error_of(call))
        stage.expect(isinstance(error, ItemError), f"{type(error).__name__}")


def fail_or_note(item: int) -> int:
    """The first item fails; the others last a moment and write down that they ran."""
    if item == 0:
        raise ItemError(item)
    with open(mark(), "a", encoding="ascii") as file:
        file.write(".")
    select.select([], [], [], 0.01)
    return item


@I4.comparison(timeout=10)
def later_items_are_not_begun(stage: Stage, library: Library) -> None:
    """Of 200 items behind the one that fails, hardly any is begun."""
    with unmarked():
        stage.inject()
        error = stage.error_of(lambda: library.map(fail_or_note, range(200)))
        stage.expect(isinstance(error, ItemError), f"{type(error).__name__}")
        begun = os.path.getsize(mark()) if is_marked() else 0
        stage.facts["begun"] = begun
        stage.expect(begun < 20, f"{begun} of 199 are begun")


@I4.scenario()
def like_the_plain_loop(stage: Stage) -> None:
    """Items fail at random: error and merges are what the built-in would have left."""

    def run(item: int) -> int:
        merged.append(item)
        if item in fails:
            raise ItemError(item)
        return item

    for _ in stage.times(60):
        way = stage.dice.choice([MERGING, {**MERGING, "chunksize": 1}, {"concurrency": 4}, {}])
        count = stage.dice.randrange(1, 30)
        fails = set(stage.dice.sample(range(count), stage.dice.randrange(1, min(4, count + 1))))
        merged.clear()
        before = children()
        stage.inject()
        error = stage.error_of(lambda count=count, way=way: snakefish.map(run, range(count), **way))
        first = min(fails)
        stage.expect(isinstance(error, ItemError) and error.args == (first,), f"{error!r}")
        if "merge" in way:
            stage.expect(merged == list(range(first + 1)), f"{first}: merged {merged}")
        stage.expect(children() <= before, "a worker is left")
    merged.clear()


@I4.scenario()
def jobs_behind_a_failure_are_stopped(stage: Stage) -> None:
    """Those that run are ended wherever they are: asleep, computing, or deaf to signals."""

    def work(item: int) -> None:
        if item:
            os.write(write, b".")
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while item == 2:
                pass
            for_ever()
        got = b""
        while len(got) < 3:
            got += os.read(read, 3)
        raise ItemError(item)

    for way in ({}, {**MERGING, "chunksize": 1}):
        for _ in stage.times(5):
            read, write = os.pipe()
            before = children()
            stage.inject()
            call = functools.partial(snakefish.map, work, range(4), concurrency=4, **way)
            error = stage.quickly(lambda call=call: stage.error_of(call))
            stage.expect(isinstance(error, ItemError), f"{error!r}")
            stage.expect(children() <= before, "a job is left")
            os.close(read)
            os.close(write)


@I4.scenario()
def jobs_before_a_failure_go_on(stage: Stage) -> None:
    """While an earlier item is still at work, what is behind the failure is ended already."""

    def work(item: int) -> None:
        if item == 0:
            wait_until(lambda: is_gone(int(os.read(ready, 10))), "its neighbour still runs")
        elif item == 1:
            select.select([ready], [], [])
            raise ItemError(item)
        elif item == 2:
            os.write(tell, f"{os.getpid():10}".encode() * 1000)
            for_ever()
        os.write(begun, bytes([item]))

    for way in ({}, {**MERGING, "chunksize": 1}):
        for _ in stage.times(5):
            ready, tell = os.pipe()
            seen, begun = os.pipe()
            stage.inject()
            call = functools.partial(snakefish.map, work, range(9), concurrency=3, **way)
            error = stage.quickly(lambda call=call: stage.error_of(call))
            stage.expect(isinstance(error, ItemError), f"{error!r}")
            os.close(begun)
            items = os.read(seen, 100)
            stage.expect(items == b"\0", f"items {[*items]} were done")
            for descriptor in (ready, tell, seen):
                os.close(descriptor)


# --------------------------------------------------------------------- iterables

I5 = Row("I5", "the iterable raises midway", "that error; no process left")


def raises_midway(error: BaseException, count: int) -> Iterator[int]:
    yield from range(count)
    raise error


@I5.comparison(timeout=10)
def its_error_surfaces(stage: Stage, library: Library) -> None:
    """After none, three and a thousand items."""
    for count in (0, 3, 1000):
        stage.inject()
        items = raises_midway(ItemError(count), count)
        error = stage.quickly(lambda items=items: stage.error_of(lambda: library.map(abs, items)))
        stage.expect(isinstance(error, ItemError), f"{type(error).__name__}")


class Strange:
    """Gives three items, raises where it is told to, and may be wrong about its length."""

    def __init__(
        self, where: str = "", error: BaseException | None = None, length: Any = 3
    ) -> None:
        self.where, self.error, self.length = where, error, length

    def _perhaps_raise(self, where: str) -> None:
        if self.where == where and self.error:
            raise self.error

    def __iter__(self) -> Iterator[Any]:
        self._perhaps_raise("iter")
        return self._items()

    def _items(self) -> Iterator[Any]:
        yield from ([0], [1], [2])
        self._perhaps_raise("next")

    def __len__(self) -> int:
        self._perhaps_raise("len")
        return self.length


@I5.scenario()
def whatever_it_raises_from_wherever(stage: Stage) -> None:
    """Its iter or next may raise anything at all: that surfaces, and nothing was forked."""
    forks: list[int] = []
    os.register_at_fork(before=lambda: forks.append(1))
    errors = [ItemError(1), KeyboardInterrupt(), SystemExit(2), GeneratorExit(), MemoryError()]
    for error, where in itertools.product(errors, ("iter", "next")):
        for f, way in itertools.product((snakefish.map, snakefish.starmap), WAYS):
            stage.inject()
            call = functools.partial(f, double, Strange(where, error), **way)
            raised = stage.error_of(call)
            stage.expect(raised is error, f"{error!r} from {where} becomes {raised!r}")
    stage.expect(not forks, f"{len(forks)} forks")


@I5.scenario()
def lengths_that_lie(stage: Stage) -> None:
    """What __len__ claims or raises does not matter: all items are there."""
    strange = [Strange(length=n) for n in (0, 1, 2, 3, 4, 1000, 10**12, -1, 2**63, None, "3")]
    for items in [*strange, Strange("len", ItemError())]:
        stage.inject()
        result = snakefish.map(double, items)
        stage.expect(result == [[0, 0], [1, 1], [2, 2]], f"{items.length}: {result}")


@I5.scenario()
def the_iterable_may_use_the_library(stage: Stage) -> None:
    """An iterable that maps, and forks, while it is consumed, and then raises, leaves nothing."""
    before = children()

    def items() -> Iterator[int]:
        for n in range(3):
            yield from snakefish.map(double, [n, n + 1])
        raise ItemError

    for way in WAYS:
        stage.inject()
        error = stage.error_of(lambda way=way: snakefish.map(double, items(), **way))
        stage.expect(isinstance(error, ItemError), f"{error!r}")
    stage.expect(children() <= before, "a process is left")


I6 = Row("I6", "starmap of what cannot be unpacked", "TypeError, and nothing is forked")


@I6.scenario()
def items_that_cannot_be_unpacked(stage: Stage) -> None:
    """At any place among good ones; an item that raises while it is unpacked raises that."""
    forks: list[int] = []
    os.register_at_fork(before=lambda: forks.append(1))
    for _ in stage.times(3):
        for wrong in (1, None, 2.5, object(), double, ..., True, NotImplemented):
            for way in WAYS:
                items: list[Any] = [(n,) for n in range(8)]
                items[stage.dice.randrange(8)] = wrong
                stage.inject()
                call = functools.partial(snakefish.starmap, double, items, **way)
                error = stage.error_of(call)
                stage.expect(isinstance(error, TypeError), f"{wrong!r}: {error!r}")
        items = [(1,), raises_midway(ItemError("unpacking"), 2)]
        error = stage.error_of(lambda items=items: snakefish.starmap(double, items))
        stage.expect(isinstance(error, ItemError), f"{error!r}")
    stage.expect(not forks, f"{len(forks)} forks")


@I6.scenario()
def items_of_the_wrong_length(stage: Stage) -> None:
    """Those that f does not take are its TypeError, of the lowest index."""
    for way in WAYS:
        for wrong in ((), (1, 2), "ab", range(5)):
            items: list[Any] = [(n,) for n in range(8)]
            items[stage.dice.randrange(8)] = wrong
            stage.inject()
            call = functools.partial(snakefish.starmap, double, items, **way)
            error = stage.error_of(call)
            stage.expect(isinstance(error, TypeError), f"{wrong!r}: {error!r}")
    merged.clear()


I7 = Row("I7", "arguments and functions that cannot be pickled", "they work: they are inherited")


def kind_of(item: Any) -> str:
    return type(item).__name__


def call_it(item: Any) -> Any:
    return item()


def unpicklable() -> list[Any]:
    """Things that are at home in one process."""
    return [
        lambda: 1,
        threading.Lock(),
        (n for n in range(3)),
        memoryview(b"abc"),
        sys.stdout,
        sys,
        type("Local", (), {})(),
        sys._getframe(),
        select.poll(),
    ]


@I7.comparison(timeout=10)
def unpicklable_arguments(stage: Stage, library: Library) -> None:
    """Lambdas, locks, generators, files, modules, frames."""
    things = unpicklable()
    stage.injected += len(things)
    kinds = library.map(kind_of, things)
    stage.expect(kinds == [kind_of(thing) for thing in things], f"{kinds}")


@I7.comparison(timeout=10)
def unpicklable_functions(stage: Stage, library: Library) -> None:
    """A closure that holds a lock, mapped over closures."""
    lock = threading.Lock()
    held: list[int] = []

    def use(f: Callable[[], int]) -> int:
        with lock:
            held.append(f())
            return held[-1]

    stage.inject()
    result = library.map(use, [lambda n=n: n for n in range(9)])
    stage.expect(result == list(range(9)), f"{result}")


@I7.scenario()
def live_objects_are_inherited(stage: Stage) -> None:
    """Generators go on where they are, channels reach home, items stay the caller's own."""
    with Channel() as channel:
        for way in WAYS:
            stage.inject()
            halfway = iter(range(10))
            next(halfway)
            things = [lambda: next(halfway), lambda: channel.send_pyobj(os.getpid()) or 2]
            result = snakefish.map(call_it, things, **way)
            stage.expect(result == [1, 2], f"{result}")
            stage.expect(channel.receive_pyobj(timeout=5) != os.getpid(), "not from a child")
            stage.expect(next(halfway) == 1, "the caller's own object was used")
    counts: list[int] = []

    class Refuses:
        def __reduce__(self) -> NoReturn:
            counts.append(1)
            raise AssertionError("pickled")

    for way in WAYS:
        stage.inject()
        result = snakefish.map(kind_of, [Refuses() for _ in range(30)], **way)
        stage.expect(result == ["Refuses"] * 30 and not counts, "an argument was pickled")


I8 = Row("I8", "an endless iterable", "Ctrl-C interrupts it; without memory it is a MemoryError")


def endless(stage: Stage, seconds: float) -> Iterator[int]:
    """Numbers for ever; within *seconds* of the first one Ctrl-C comes, from outside."""

    def first() -> Iterator[int]:
        stage.kill_within(os.getpid(), seconds, signal.SIGINT)
        yield 0

    return itertools.chain(first(), itertools.count(1))


@I8.comparison(timeout=10)
def ctrl_c_interrupts_it(stage: Stage, library: Library) -> None:
    """KeyboardInterrupt, soon, and no process is left."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for _ in stage.times(2):
        items = endless(stage, 0.2)
        call = functools.partial(library.map, abs, items)
        error = stage.quickly(lambda call=call: stage.error_of(call))
        stage.expect(isinstance(error, KeyboardInterrupt), f"{type(error).__name__}")
        del items
        gc.collect()


@I8.scenario()
def without_memory_it_is_an_error(stage: Stage) -> None:
    """Under a limit on the address space the call raises MemoryError, and the next one works."""

    def blocks() -> Iterator[bytes]:
        while True:
            yield bytes(16 << 20)

    for f in (snakefish.map, snakefish.starmap):
        for way in WAYS[:2]:
            descriptors = set(open_descriptors())
            stage.inject()
            with address_space(150 << 20):
                error = stage.error_of(lambda f=f, way=way: f(len, blocks(), **way))
            stage.expect(isinstance(error, MemoryError), f"{type(error).__name__}")
            error.__traceback__ = None
            gc.collect()
            stage.expect(snakefish.map(abs, [-1]) == [1], "nothing works afterwards")
            stage.expect(set(open_descriptors()) == descriptors, "descriptors stay open")


@contextlib.contextmanager
def address_space(more: int) -> Iterator[None]:
    """Let this process map that many bytes more than it has."""
    with open("/proc/self/statm", encoding="ascii") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@I8.scenario()
def an_endless_item_of_starmap(stage: Stage) -> None:
    """What cannot be unpacked because it never ends is interrupted as well."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for _ in stage.times(5):
        item = endless(stage, 0.05)
        error = stage.quickly(
            lambda item=item: stage.error_of(lambda: snakefish.starmap(max, [(1, 2), item]))
        )
        stage.expect(isinstance(error, KeyboardInterrupt), f"{error!r}")
