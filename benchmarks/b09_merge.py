# SPDX-License-Identifier: MIT
"""B9: bringing back what a child changed, against how much there is and how much of it changed.

A Thread changes some of the entries of a large container. `share=` brings back the changes;
extract and merge as users write them bring back the whole value; Manager().dict, a server that
every access goes to, is asked for few changes only, being slow. The limit is pickle.dumps and
pickle.loads of the changes alone; a child whose changes are lost is the rest. To bring back one
change of many should cost little more than that child: then the cost is that of the changes.

    python -m benchmarks.b09_merge [ENTRIES] [KIND ...]

prints where time and memory go: the capture before the task, the comparison after it, the way to
the parent, the commit there; the bytes of the pickled changes, and the memory that the child at
its end no longer shares with its parent, less that of an idle child.
"""

from __future__ import annotations

import pickle
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from snakefish import Thread, merges

if TYPE_CHECKING:
    from benchmarks.figure import Figure, Scale

MANAGER_AT_MOST = 1000
"""Changes that Manager().dict is asked for: each is a round trip."""

LOST = "changes lost"

ROUNDS = 5


class Kind(NamedTuple):
    """A container, what a task does to it, and how that is undone before the next turn."""

    merge: merges.Merge
    make: Callable[[int], Any]
    change: Callable[[Any, int], object]
    restore: Callable[[Any, int], object]
    combine: Callable[[Any, Any], object]
    """Puts the whole value of a child into that of the parent, as users write it."""


def new_keys(count: int) -> Iterator[str]:
    return (f"new {number}" for number in range(count))


def count_up(counts: Counter[str], changes: int, by: int = 1) -> None:
    for key in list(islice(counts, changes)):
        counts[key] += by


def append_to_each(index: defaultdict[str, list[int]], changes: int) -> None:
    for lists in islice(index.values(), changes):
        lists.append(7)


def pop_from_each(index: defaultdict[str, list[int]], changes: int) -> None:
    for lists in islice(index.values(), changes):
        lists.pop()


def replace_list(value: list[int], theirs: list[int]) -> None:
    value[:] = theirs


KINDS = {
    "dict": Kind(
        merges.insert,
        lambda count: {f"key {number}": number for number in range(count)},
        lambda value, changes: value.update(dict.fromkeys(new_keys(changes), 7)),
        lambda value, changes: [value.pop(key) for key in new_keys(changes)],
        dict.update,
    ),
    "list": Kind(
        merges.append,
        lambda count: list(range(count)),
        lambda value, changes: value.extend(range(changes)),
        lambda value, changes: value.__delitem__(slice(len(value) - changes, None)),
        replace_list,
    ),
    "set": Kind(
        merges.union,
        lambda count: {f"key {number}" for number in range(count)},
        lambda value, changes: value.update(new_keys(changes)),
        lambda value, changes: value.difference_update(new_keys(changes)),
        set.update,
    ),
    "Counter": Kind(
        merges.count,
        lambda count: Counter({f"key {number}": number % 1000 for number in range(count)}),
        count_up,
        lambda value, changes: count_up(value, changes, -1),
        dict.update,
    ),
    "dict of lists": Kind(
        merges.mapping(merges.append),
        lambda count: defaultdict(list, {f"key {number}": [number] for number in range(count)}),
        append_to_each,
        pop_from_each,
        dict.update,
    ),
}

FRESH = ("set", "Counter", "dict of lists")
"""Those whose merge compares all with all; a child that begins with an empty one need not."""

state: Any = None
"""What is shared: a process has one container at a time."""

made: tuple[str, int] | None = None
"""Of which kind it is, and how large."""


# -------------------------------------------------------------- the figures


def figures(scale: Scale) -> list[Figure]:
    """As many changes as in the list of figures; at a smaller scale, fewer steps."""
    from benchmarks.figure import SECONDS, Aim, Figure

    entries = scale.choose(tiny=1000, quick=200_000, full=1_000_000)
    exponents = scale.choose(tiny=(0, 2), quick=(0, 2, 4), full=range(7))
    return [
        Figure(
            id="B9",
            case=f"{name}, {changes:,} of {entries:,}",
            what="start + join of a child whose changes come back",
            unit=SECONDS,
            size=changes,
            runners=runners(name, entries, changes),
            aims=[Aim(LOST, at_most=1.15)] if changes == 1 else [],
        )
        for name in KINDS
        for changes in (10**exponent for exponent in exponents)
    ]


def runners(name: str, entries: int, changes: int) -> dict[str, Callable[[], float]]:
    from benchmarks.figure import LIMIT, OURS

    kind = KINDS[name]
    several: dict[str, Callable[[], float]] = {
        OURS: lambda: sharing(name, entries, changes, kind.merge),
        "extract, merge": lambda: whole_value(name, entries, changes),
        LOST: lambda: losing(name, entries, changes),
        LIMIT: lambda: pickling(name, entries, changes),
    }
    if name in FRESH:
        several["ours, fresh"] = lambda: beginning_anew(name, entries, changes)
    if name == "dict" and changes <= MANAGER_AT_MOST:
        several["Manager().dict"] = lambda: managed(entries, changes)
    return several


def prepare(name: str, entries: int) -> Any:
    """Make the container in the first turn; return it as it was in all others."""
    global state, made
    if made != (name, entries):
        state, made = KINDS[name].make(entries), (name, entries)
    return state


def time_of(thread: Thread) -> float:
    began = time.perf_counter()
    with thread:
        thread.start()
        thread.join()
        elapsed = time.perf_counter() - began
        thread.get_result()
    return elapsed


def sharing(name: str, entries: int, changes: int, merge: merges.Merge) -> float:
    kind, value = KINDS[name], prepare(name, entries)
    elapsed = time_of(Thread(lambda: kind.change(state, changes) and None, share={"state": merge}))
    kind.restore(value, changes)
    assert len(value) == entries
    return elapsed


def beginning_anew(name: str, entries: int, changes: int) -> float:
    """The same changes, by a task that begins with an empty container."""
    value, kind = prepare(name, entries), KINDS[name]
    keys = list(islice(value, changes))

    def change() -> None:
        if name == "set":
            kind.change(state, changes)
        for key in () if name == "set" else keys:
            if name == "Counter":
                state[key] += 1
            else:
                state[key].append(7)

    elapsed = time_of(Thread(change, share={"state": merges.fresh(kind.merge)}))
    kind.restore(value, changes)
    assert len(value) == entries
    return elapsed


def whole_value(name: str, entries: int, changes: int) -> float:
    kind, value = KINDS[name], prepare(name, entries)
    thread = Thread(
        lambda: kind.change(state, changes) and None,
        lambda its_globals: {"state": its_globals["state"]},
        lambda our_globals, changed: kind.combine(our_globals["state"], changed["state"]),
    )
    elapsed = time_of(thread)
    kind.restore(value, changes)
    assert len(value) == entries
    return elapsed


def losing(name: str, entries: int, changes: int) -> float:
    prepare(name, entries)
    return time_of(Thread(lambda: KINDS[name].change(state, changes) and None))


def pickling(name: str, entries: int, changes: int) -> float:
    delta = delta_of(name, entries, changes)
    began = time.perf_counter()
    pickle.loads(pickle.dumps(delta, pickle.HIGHEST_PROTOCOL))
    return time.perf_counter() - began


def delta_of(name: str, entries: int, changes: int) -> Any:
    """What a task that made the changes sends, reckoned without a child."""
    kind, value = KINDS[name], prepare(name, entries)
    token = kind.merge.capture(value)
    kind.change(value, changes)
    delta = kind.merge.diff(token, value)
    kind.restore(value, changes)
    return delta


manager: Any = None
shared: Any = None


def managed(entries: int, changes: int) -> float:
    """The dict lies in the server from the first turn on."""
    global manager, shared
    if manager is None:
        import multiprocessing

        manager = multiprocessing.get_context("fork").Manager()
        shared = manager.dict(KINDS["dict"].make(entries))

    def change() -> None:
        for key in new_keys(changes):
            shared[key] = 7

    elapsed = time_of(Thread(change))
    for key in new_keys(changes):
        shared.pop(key)
    assert len(shared) == entries
    return elapsed


# ------------------------------------------------------- where it all goes


class Parts(NamedTuple):
    """Seconds, and bytes."""

    capture: float
    diff: float
    transfer: float
    commit: float
    delta: float
    dirty: float


def private_dirty() -> int:
    """What this process does not share with its parent."""
    for line in Path("/proc/self/smaps_rollup").read_text("ascii").splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1]) * 1024
    raise LookupError("smaps_rollup says nothing about it")


def parts(name: str, entries: int, changes: int, merge: merges.Merge) -> Parts:
    """Do by hand, with the operations of the merge, what share= does."""
    kind, value = KINDS[name], prepare(name, entries)
    began = time.perf_counter()
    token = merge.capture(value)
    captured = time.perf_counter()

    def task() -> tuple[Any, float, float, int]:
        kind.change(value, changes)
        began = time.perf_counter()
        delta = merge.diff(token, value)
        done = time.perf_counter()
        return delta, began, done, private_dirty()

    delta, diff_began, diffed, dirty = result_of(task)
    received = time.perf_counter()
    merge.apply(value, delta, [])
    committed = time.perf_counter()
    kind.restore(value, changes)
    return Parts(
        captured - began,
        diffed - diff_began,
        received - diffed,
        committed - received,
        len(pickle.dumps(delta, pickle.HIGHEST_PROTOCOL)),
        dirty - result_of(private_dirty),
    )


def result_of(task: Callable[[], Any]) -> Any:
    lost = {"state": merges.private, **dict.fromkeys(task.__code__.co_freevars, merges.private)}
    with Thread(task, share=lost) as thread:
        thread.start()
        thread.join()
        return thread.get_result()


def show(name: str, entries: int) -> None:
    """Print a line for each number of changes, in medians."""
    global state
    state = None
    print(f"\n{name}, {entries:,} entries, {KINDS[name].merge.name()}")
    print("  changes  capture ms  diff ms  transfer ms  commit ms  delta bytes   dirty MB")
    changes = 1
    while changes <= entries:
        rounds = [parts(name, entries, changes, KINDS[name].merge) for _ in range(ROUNDS)]
        middle = Parts(*map(statistics.median, zip(*rounds)))
        times = "".join(f"{1e3 * seconds:11.2f}" for seconds in middle[:4])
        print(f"{changes:9,}{times} {middle.delta:12,.0f} {middle.dirty / 1e6:10.1f}")
        changes *= 10


def main() -> None:
    entries = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    for name in sys.argv[2:] or KINDS:
        show(name, entries)


if __name__ == "__main__":
    main()
