# SPDX-License-Identifier: MIT
"""Section F: fork hygiene, or what a child must not inherit, repeat, lose or wait for."""

from __future__ import annotations

import asyncio
import collections
import logging
import os
import queue
import random
import re
import select
import signal
import sys
import tempfile
import threading
import uuid
from typing import TYPE_CHECKING, Any, Callable

from deadline import SOON
from libraries import Library
from process_table import children
from row import Row
from scenario import Program
from stage import Stage, for_ever
from ways import WAYS, Busy, counting

from snakefish import Channel, Generator, Thread

if TYPE_CHECKING:
    pass


def square(number: int) -> int:
    return number * number


def answer() -> int:
    return 42


def program(source: str, **how: Any) -> Program:
    """A program that finds the modules of the scenarios."""
    return Program(source, environment={"PYTHONPATH": os.environ["PYTHONPATH"]}, **how)


def output_of(stage: Stage, source: str, status: int = 0, **how: Any) -> str:
    """What a program writes to its standard output, if it ends as it should."""
    with program(source, **how) as running:
        try:
            ended = running.wait()
        except AssertionError:
            stage.expect(False, "hangs")
        last = (ended.complaint.strip().splitlines() or ["?"])[-1]
        stage.expect(ended.status == status, f"status {ended.status}: {last}")
        return ended.output


# ------------------------------------------------------------ threads in the parent

F1 = Row(
    "F1",
    "Python threads in the parent",
    "children of plain Python code work; one warning names the threads",
)


def compute() -> None:
    sorted(str(n) for n in range(300))


def much_python(number: int) -> int:
    """Use a little of everything that keeps to Python."""
    import decimal
    import json

    inner: queue.Queue[int] = queue.Queue()
    other = threading.Thread(target=inner.put, args=(number,))
    other.start()
    other.join()
    text = json.dumps({"n": inner.get(timeout=SOON), "d": str(decimal.Decimal(number) / 7)})
    return int(re.findall(r"\d+", text)[0])


@F1.comparison(timeout=30)
def maps_beside_busy_threads(stage: Stage, library: Library) -> None:
    """Three threads compute while functions that use threads, queues and regexes are mapped."""
    with Busy(compute, compute, lambda: much_python(1)):
        for _ in stage.times(5):
            stage.inject()
            stage.expect(library.map(much_python, range(8)) == list(range(8)), "other results")


@F1.scenario(timeout=30)
def every_way_beside_busy_threads(stage: Stage) -> None:
    """Children of every kind, nested ones too, while four threads of the parent are at work."""
    with Busy(compute, lambda: much_python(1), lambda: logging.getLogger("x").info("y"), compute):
        for number in stage.times(3):
            for way in WAYS:
                stage.inject()
                value = way(lambda n=number, way=way: way(lambda: much_python(n)))
                stage.expect(value == number, f"{way.__name__}: {value!r}")


@F1.scenario()
def one_warning_names_the_threads(stage: Stage) -> None:
    """The first fork beside a thread warns, at the user's line; no later one and no child does."""
    stage.inject()
    source = """
        import threading
        warnings.resetwarnings()
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, kind, *_: say(kind.__name__, message)
        stop = threading.Event()
        thread = threading.Thread(target=stop.wait, name="watchdog")
        thread.start()
        import ways
        for way in ways.WAYS:
            way(lambda way=way: ways.by_thread(int))
        stop.set()
        thread.join()
        """
    lines = output_of(stage, source).splitlines()
    stage.expect(len(lines) == 1, f"{len(lines)} warnings")
    stage.expect(lines[0].startswith("ForkSafetyWarning") and "watchdog" in lines[0], lines[0])


F2 = Row(
    "F2",
    "fork while another thread holds logging, import or queue locks",
    "no hang",
)


def log_and_import(number: int) -> int:
    """Need the locks that the parent's threads were holding."""
    logging.getLogger("busy").warning("from a worker")
    __import__(("wave", "colorsys")[number % 2])
    much_python(number)
    return number


def log() -> None:
    logging.getLogger("busy").warning("from a thread")


def import_afresh() -> None:
    sys.modules.pop("colorsys", None)
    __import__("colorsys")


def set_up_logging() -> None:
    """Log to where nobody looks, with a lock around each line."""
    handler = logging.FileHandler(os.devnull)
    logging.getLogger("busy").handlers = [handler]
    logging.getLogger("busy").propagate = False


def close_logging() -> None:
    for handler in logging.getLogger("busy").handlers:
        handler.close()
    logging.getLogger("busy").handlers = []


@F2.comparison(timeout=30)
def workers_need_the_same_locks(stage: Stage, library: Library) -> None:
    """Threads log, import and queue all the time; so do the functions that are mapped."""
    set_up_logging()
    items: queue.Queue[int] = queue.Queue()
    with Busy(log, import_afresh, lambda: (items.put(1), items.get())):
        for _ in stage.times(8):
            stage.inject()
            stage.expect(library.map(log_and_import, range(6)) == list(range(6)), "other results")
    close_logging()


@F2.scenario(timeout=30)
def children_of_every_kind_need_the_same_locks(stage: Stage) -> None:
    """Threads, generators and jobs forked at many moments of the threads' lives."""
    set_up_logging()
    items: queue.Queue[int] = queue.Queue()
    with Busy(log, import_afresh, log, lambda: (items.put(1), items.get())):
        for number in stage.times(6):
            for way in WAYS:
                stage.inject()
                value = way(lambda n=number: log_and_import(n))
                stage.expect(value == number, f"{way.__name__}: {value!r}")
    close_logging()


F2B = Row("F2b", "fork while another thread writes to stdout", "no hang; each line once")

CHATTER = """
from ways import Busy
def chatter():
    print("chatter " * 20)
    select.select([], [], [], 0.0002)
"""


def print_number(number: int) -> int:
    print("child", number, flush=True)
    return number


@F2B.comparison(timeout=45)
def workers_print_beside_a_thread_that_prints(stage: Stage, library: Library) -> None:
    """Maps whose functions print, started while a thread prints without a pause."""
    stage.inject()
    source = f"""{CHATTER}
from libraries import {type(library).__name__} as Library
from fork_hygiene import print_number
library = Library()
with Busy(chatter, chatter):
    for turn in range(10):
        library.map(print_number, range(turn * 4, turn * 4 + 4))
library.close()
"""
    said = collections.Counter(re.findall(r"child \d+\n", output_of(stage, source)))
    expected = collections.Counter(f"child {n}\n" for n in range(40))
    stage.expect(said == expected, f"{sum(said.values())} lines of 40")


@F2B.scenario(timeout=30)
def children_of_every_kind_print_beside_a_thread_that_prints(stage: Stage) -> None:
    """Each line of a child comes once, whatever the threads were writing at its fork."""
    for _ in stage.times(1):
        source = f"""{CHATTER}
from ways import WAYS
with Busy(chatter, chatter):
    for number in range(8):
        for way in WAYS:
            way(lambda: print("child", number, os.getpid()))
            way(lambda: print("complaint", number, file=sys.stderr))
"""
        found = re.findall(r"child \d+ \d+\n", output_of(stage, source))
        stage.injected += 2 * 8 * len(WAYS)
        stage.expect(len(set(found)) == len(found) == 32, f"{len(found)} lines of 32")


# ----------------------------------------------------------- what a child is told

F3 = Row(
    "F3",
    "os.register_at_fork; threading.main_thread() in the child",
    "each hook once; the child's one thread is its main thread",
)

hooks = {"before": 0, "parent": 0, "child": 0}
registered = False


def count_hooks() -> None:
    """Count every hook from now on; there is no way to unregister."""
    global registered
    if not registered:
        registered = True
        os.register_at_fork(
            before=lambda: hooks.update(before=hooks["before"] + 1),
            after_in_parent=lambda: hooks.update(parent=hooks["parent"] + 1),
            after_in_child=lambda: hooks.update(child=hooks["child"] + 1),
        )
    hooks.update(before=0, parent=0, child=0)


def threads_as_seen() -> tuple[Any, ...]:
    """What a child knows of its threads."""
    main = threading.main_thread()
    return (
        main is threading.current_thread(),
        threading.enumerate() == [main],
        threading.get_ident() == main.ident,
        main.native_id == os.getpid(),
        signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
    )


@F3.scenario()
def hooks_run_once_in_every_way(stage: Stage) -> None:
    """In the parent once for each child, in each child once a generation."""
    for _ in stage.times(5):
        for way in WAYS:
            stage.inject()
            count_hooks()
            inside, deeper = way(lambda way=way: (dict(hooks), way(lambda: dict(hooks))))
            stage.expect(hooks["before"] == hooks["parent"] == 1, f"{hooks}")
            stage.expect(hooks["child"] == 0, "a hook of the child ran in the parent")
            stage.expect(inside["child"] == 1, f"in the child: {inside}")
            stage.expect(inside["parent"] == inside["before"] - 1, f"in the child: {inside}")
            stage.expect(deeper["child"] == 2, f"in the grandchild: {deeper}")


@F3.scenario()
def the_one_thread_of_a_child_is_its_main_thread(stage: Stage) -> None:
    """Also when another thread forked it, beside others."""
    seen: list[Any] = []

    def look() -> None:
        for way in WAYS:
            stage.inject()
            seen.append(way(threads_as_seen))
            seen.append(way(lambda way=way: way(threads_as_seen)))

    for _ in stage.times(2):
        look()
        other = threading.Thread(target=look)
        with Busy(compute):
            other.start()
            other.join()
    stage.expect(all(all(one) for one in seen), f"{[one for one in seen if not all(one)][:1]}")


F4 = Row(
    "F4",
    "random state shared by children",
    "random, uuid, tempfile and secrets differ; own Random objects are copies",
)


def draw(_item: object) -> tuple[Any, ...]:
    """Random things, and whose they are."""
    import secrets

    select.select([], [], [], 0.002)  # so that no worker takes everything
    handle, name = tempfile.mkstemp()
    os.close(handle)
    os.unlink(name)
    drawn = (random.random(), random.getrandbits(64), uuid.uuid4().hex, uuid.uuid1().hex)
    return (*drawn, os.path.basename(name), secrets.token_hex(8))


@F4.comparison()
def workers_draw_different_numbers(stage: Stage, library: Library) -> None:
    """No random thing is drawn twice, by whatever worker."""
    tempfile.gettempdir()
    random.seed(7)
    for _ in stage.times(3):
        stage.inject()
        drawn = library.map(draw, range(12))
        for kind in zip(*drawn):
            stage.expect(len(set(kind)) == len(kind), f"drawn twice: {kind[0]!r}")


@F4.scenario()
def children_of_every_kind_draw_different_numbers(stage: Stage) -> None:
    """In siblings, in grandchildren and in the parent, seeded or not."""
    random.seed(7)
    with tempfile.NamedTemporaryFile():  # the parent has its own names already
        drawn = [draw(0)]
        for _ in stage.times(4):
            for way in WAYS:
                stage.inject()
                drawn.append(way(lambda: draw(0)))
                drawn.extend(way(lambda way=way: [draw(0), way(lambda: draw(0))]))
            drawn.append(draw(0))
    for kind in zip(*drawn):
        stage.expect(len(set(kind)) == len(kind), f"drawn twice: {kind[0]!r}")


@F4.scenario()
def own_generators_of_numbers_are_copies(stage: Stage) -> None:
    """A Random object goes on in each child where it was in the parent."""
    own = random.Random(3)
    for _ in stage.times(10):
        due = random.Random()
        due.setstate(own.getstate())
        expected = due.random()
        found = {way(own.random) for way in WAYS}
        stage.inject()
        stage.expect(found == {expected}, f"{found}")
        own.random()


# ----------------------------------------------------------------------- streams

F5 = Row(
    "F5, F6",
    "stdout: the parent's buffer doubled, the child's output lost",
    "everything once",
)


def print_item(item: int) -> int:
    print("item", item)
    return item


@F5.comparison(timeout=30)
def everything_is_written_once(stage: Stage, library: Library) -> None:
    """What waits in the parent's buffer at the call, and what the workers print."""
    stage.inject()
    source = f"""
from libraries import {type(library).__name__} as Library
from fork_hygiene import print_item
library = Library()
for turn in range(5):
    print("parent", turn)
    library.map(print_item, range(turn * 10, turn * 10 + 10))
library.close()
print("end")
"""
    lines = output_of(stage, source).splitlines()
    expected = [f"item {n}" for n in range(50)] + [f"parent {n}" for n in range(5)] + ["end"]
    found = collections.Counter(lines)
    doubled = [line for line in found if found[line] > 1]
    stage.expect(not doubled, f"{doubled[0]!r} {found[doubled[0]]} times" if doubled else "")
    stage.expect(sorted(lines) == sorted(expected), f"{len(lines)} lines of {len(expected)}")


@F5.scenario()
def everything_is_written_once_however_a_child_ends(stage: Stage) -> None:
    """With text waiting in both streams; children that return, raise, exit, or have children."""
    for threads in ("Busy()", "Busy(lambda: select.select([], [], [], 0.001))"):
        stage.inject()
        source = f"""
import logging
from ways import WAYS, Busy
logging.basicConfig(format="log %(message)s", stream=sys.stdout)
def child(text, end):
    print(text)
    print(text, "without a newline", end="|")
    logging.warning(text)
    end()
def nest():
    with Thread(lambda: child("grandchild", int)) as inner:
        inner.start()
        inner.join()
with {threads}:
    print("parent, waiting", end="|")
    for number, end in enumerate((int, sys.exit, lambda: 1 / 0, nest)):
        with Thread(child, args=(f"child {{number}}", end)) as thread:
            thread.start()
            thread.join()
    def yields():
        print("from a generator")
        yield 1
    with Generator(yields) as generator:
        generator.start()
        generator.next()
        generator.join()
    def prints(n):
        print("from map", n)
    snakefish.map(prints, range(3), concurrency=2)
    snakefish.map(prints, range(3, 6), lambda g: {{}}, lambda g, d: None, concurrency=2)
print("end")
"""
        text = output_of(stage, source).replace("|", "\n")
        expected = ["parent, waiting", "end", "from a generator"]
        expected += [f"from map {n}" for n in range(6)]
        for one in (*(f"child {n}" for n in range(4)), "grandchild"):
            expected += [one, f"{one} without a newline", f"log {one}"]
        found = sorted(line for line in text.splitlines() if line)
        stage.expect(found == sorted(expected), f"{set(found) ^ set(expected) or 'doubled'}")


# ------------------------------------------------------------- the end of a child

F7 = Row(
    "F7, F9, F14",
    "atexit, weakref.finalize, __del__, TemporaryDirectory of the parent",
    "none runs in a child; each runs once, in the parent",
)

LAST_WISHES = """
import atexit, gc, tempfile, weakref
def tell(what):
    os.write(1, f"{what} {os.getpid()}\\n".encode())
class Dying:
    def __del__(self):
        tell("del")
class Held:
    pass
atexit.register(tell, "atexit")
held, dying, cycle = Held(), Dying(), Held()
weakref.finalize(held, tell, "finalize")
place = tempfile.TemporaryDirectory()
cycle.itself, cycle.dying = cycle, Dying()
"""


def last_wishes_are_the_parents(stage: Stage, output: str) -> None:
    """What was told at ends was told by the parent, once."""
    lines = [line.split() for line in output.splitlines()]
    parent = lines[0][1]
    foreign = {what for what, pid in lines if pid != parent}
    stage.expect(not foreign, f"in a child: {', '.join(sorted(foreign))}")
    told = collections.Counter(what for what, _ in lines)
    stage.expect(told["atexit"] == 1 and told["finalize"] == 1, f"{dict(told)}")
    stage.expect(told["place"] == 1, "the parent's temporary directory was removed by a child")


@F7.comparison(timeout=30)
def nothing_of_the_parents_ends_in_a_worker(stage: Stage, library: Library) -> None:
    """A program with things to finalize maps, and ends."""
    stage.inject()
    source = f"""{LAST_WISHES}
from libraries import {type(library).__name__} as Library
from fork_hygiene import square
tell("parent")
library = Library()
library.map(square, range(10))
library.call(os.getpid)
library.close()
if os.path.isdir(place.name):
    tell("place")
"""
    last_wishes_are_the_parents(stage, output_of(stage, source))


@F7.scenario()
def nothing_of_the_parents_ends_in_any_child(stage: Stage) -> None:
    """However it leaves: by returning, raising, exiting, closing, and with children of its own."""
    for _ in stage.times(1):
        stage.inject()
        source = f"""{LAST_WISHES}
from ways import WAYS, by_thread
tell("parent")
for way in WAYS:
    way(int)
    way(lambda: by_thread(int))
    for end in (sys.exit, lambda: 1 / 0):
        try:
            way(end)
        except (SystemExit, RuntimeError, ZeroDivisionError):
            pass
def endless():
    try:
        while True:
            yield 1
    finally:
        pass
with Generator(endless) as generator:
    generator.start()
    generator.next()
    generator.join()
if os.path.isdir(place.name):
    tell("place")
"""
        last_wishes_are_the_parents(stage, output_of(stage, source))


F10 = Row(
    "F10",
    "a running asyncio loop in the parent",
    "asyncio.run works in the child; the loop of the parent goes on",
)


async def sleep_a_little() -> int:
    await asyncio.sleep(0.001)
    return 42


def run_a_loop(_item: object = None) -> int:
    """A loop of the child's own."""
    return asyncio.run(sleep_a_little())


@F10.comparison()
def loops_run_in_workers_below_a_loop(stage: Stage, library: Library) -> None:
    """A coroutine calls and maps functions that use asyncio.run."""

    async def main() -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.001)
                ticks += 1

        ticking = asyncio.ensure_future(tick())
        for _ in stage.times(3):
            stage.inject()
            before = ticks
            stage.expect(library.map(run_a_loop, range(4)) == [42] * 4, "other results")
            stage.expect(library.call(run_a_loop) == 42, "another result")
            while ticks < before + 3:
                await asyncio.sleep(0.001)
        ticking.cancel()

    asyncio.run(main())


@F10.scenario()
def loops_run_in_children_of_every_kind(stage: Stage) -> None:
    """With readers, signal handlers and tasks of the parent's loop left alone."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        read, write = os.pipe()
        got: list[bytes] = []
        loop.add_reader(read, lambda: got.append(os.read(read, 1)))
        signals: list[int] = []
        loop.add_signal_handler(signal.SIGUSR1, signals.append, 1)
        for number in stage.times(5):
            for way in WAYS:
                stage.inject()
                stage.expect(way(run_a_loop) == 42, f"{way.__name__} has another result")
                way(lambda: os.kill(os.getpid(), signal.SIGUSR1))
            os.write(write, b"!")
            os.kill(os.getpid(), signal.SIGUSR1)
            while len(got) <= number or len(signals) <= number:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.002)
        stage.expect(len(signals) == len(got), f"{len(signals)} signals, of children too")
        loop.remove_reader(read)
        loop.remove_signal_handler(signal.SIGUSR1)
        os.close(read)
        os.close(write)

    asyncio.run(main())


@F10.scenario()
def a_loop_waits_for_children(stage: Stage) -> None:
    """A Thread is awaited by its descriptor, many at once, while the loop goes on."""

    async def result_of(number: int) -> int:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        with Thread(square, args=(number,)) as thread:
            thread.start()
            loop.add_reader(thread.fileno(), ended.set_result, None)
            try:
                await asyncio.wait_for(ended, SOON)
            finally:
                loop.remove_reader(thread.fileno())
            thread.join()
            return int(thread.get_result())

    async def main() -> list[int]:
        return await asyncio.gather(*map(result_of, range(20)))

    for _ in stage.times(2):
        stage.inject()
        stage.expect(asyncio.run(main()) == [n * n for n in range(20)], "other results")


F12 = Row("F12", "standard streams closed, None, broken pipe", "works")

STREAM_TROUBLES = {
    "closed": "sys.stdout.close(); sys.stderr.close()",
    "None": "sys.stdout = sys.stderr = None",
    "closed descriptors": "for n in (0, 1, 2): os.close(n)",
    "a broken pipe": "r, w = os.pipe(); os.close(r); os.dup2(w, 1); os.dup2(w, 2); os.close(w)",
    "a broken pipe with text in it": (
        "r, w = os.pipe(); os.close(r); os.dup2(w, 1); os.close(w); sys.stdout.write('text')"
    ),
    "a full disk": "f = os.open('/dev/full', os.O_WRONLY); os.dup2(f, 1); sys.stdout.write('text')",
    "the user's own": "sys.stdout = sys.stderr = type('Own', (), {'write': lambda self, t: 0})()",
}


@F12.comparison(timeout=90)
def calls_and_maps_without_streams(stage: Stage, library: Library) -> None:
    """In a program whose streams are in such a state; its report goes elsewhere."""
    for trouble, injection in STREAM_TROUBLES.items():
        stage.inject()
        source = f"""
from libraries import {type(library).__name__} as Library
from fork_hygiene import answer, square
report = os.dup(1)
{injection}
library = Library()
result = library.call(answer), library.map(square, range(5))
library.close()
os.write(report, repr(result).encode())
os._exit(0)
"""
        said = output_of(stage, source)
        stage.expect(said.endswith("(42, [0, 1, 4, 9, 16])"), f"{trouble}: {said!r:.40}")


@F12.scenario(timeout=30)
def every_way_without_streams(stage: Stage) -> None:
    """Children of every kind, which print if they can, beside a thread and without one."""
    for trouble, injection in STREAM_TROUBLES.items():
        for threads in ("", "lambda: select.select([], [], [], 0.001)"):
            stage.inject()
            source = f"""
from ways import WAYS, Busy
report = os.dup(1)
{injection}
def prints():
    try:
        print("from a child", flush=True)
    except (OSError, ValueError, AttributeError, RuntimeError):
        pass
    return 42
with Busy({threads}):
    result = [way(prints) for way in WAYS]
os.write(report, repr(result).encode())
os._exit(0)
"""
            said = output_of(stage, source)
            stage.expect(said.endswith("[42, 42, 42, 42]"), f"{trouble}: {said!r:.40}")


F13 = Row("F13", "signal mask, timers, handlers", "unchanged in parent and child")


def state_of_signals() -> tuple[Any, ...]:
    """The mask, what the kernel does with each signal, and the timers."""
    with open("/proc/self/status", encoding="ascii") as file:
        kept = [line for line in file if line.startswith(("SigBlk", "SigIgn", "SigCgt"))]
    return (*kept, sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])))


@F13.comparison()
def a_worker_has_the_parents_mask(stage: Stage, library: Library) -> None:
    """What the parent blocks is blocked in a worker, and nothing else."""
    for _ in stage.times(1):
        for blocked in ([], [signal.SIGUSR1], [signal.SIGINT, signal.SIGUSR2, signal.SIGRTMIN]):
            stage.inject()
            before = signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            try:
                found = library.call(blocked_signals)
                after = blocked_signals()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            stage.expect(after == sorted(map(int, blocked)), f"parent: {after}")
            stage.expect(found == after, f"worker: {found} instead of {after}")


def blocked_signals() -> list[int]:
    return sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, [])))


@F13.scenario()
def masks_handlers_and_timers_are_left_alone(stage: Stage) -> None:
    """While children of every kind come and go, and after starts that fail."""
    ticks: list[int] = []
    signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, lambda *_: ticks.append(1))
    signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGHUP, signal.SIGRTMIN])
    before = state_of_signals()
    for _ in stage.times(5):
        for way in WAYS:
            stage.inject()
            inside = way(state_of_signals)
            stage.expect(inside == before, f"{way.__name__}: {inside} instead of {before}")
            stage.expect(state_of_signals() == before, f"changed by {way.__name__}")
            timers = way(lambda: (signal.getitimer(signal.ITIMER_REAL), bool(ticks)))
            stage.expect(timers == ((0.0, 0.0), False), f"a timer in the child: {timers}")
    signal.setitimer(signal.ITIMER_REAL, 30, 0.5)
    for way in WAYS:
        way(answer)
    left, interval = signal.setitimer(signal.ITIMER_REAL, 0)
    stage.expect(0 < left <= 30 and interval == 0.5, f"the timer has {left}, {interval}")
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


F15 = Row(
    "F15",
    "siblings hold each other's pipe ends",
    "joining one never waits for another",
)


@F15.scenario()
def ends_are_seen_although_siblings_live(stage: Stage) -> None:
    """Children end or die in any order beside siblings that were forked before and after."""
    ends: list[Callable[[], Any]] = [answer, lambda: os._exit(3), lambda: 1 / 0]
    ends.append(lambda: os.kill(os.getpid(), signal.SIGKILL))
    for _ in stage.times(5):
        threads = [Thread(for_ever if n % 2 else stage.dice.choice(ends)) for n in range(12)]
        generators = [Generator(counting) for _ in range(3)]
        for one in stage.dice.sample([*threads, *generators], 15):
            one.start()
        quick = stage.dice.sample(threads[::2], 6)
        for thread in quick:
            stage.inject()
            stage.quickly(thread.join)
        for generator in generators:
            stage.quickly(generator.next)
            stage.quickly(generator.join)
        for thread in stage.dice.sample(threads[1::2], 6):
            stage.kill(thread.pid)
            stage.quickly(thread.join)
            stage.expect(thread.get_exit_status() == -signal.SIGKILL, "another status")
        for one in [*threads, *generators]:
            one.dispose()


@F15.scenario()
def a_channels_end_is_seen_although_siblings_hold_a_copy(stage: Stage) -> None:
    """When all who send have ended, the receiver sees the end, whoever inherited the channel."""
    for _ in stage.times(5):
        with Channel() as channel:

            def send() -> None:
                channel.send_pyobj("last")

            def hold() -> None:
                channel.close_send()
                for_ever()

            with Thread(hold) as sibling, Thread(send) as sender:
                stage.inject()
                sibling.start()
                sender.start()
                channel.close_send()
                stage.expect(channel.receive_pyobj(timeout=SOON) == "last", "another message")
                error = stage.quickly(lambda: stage.error_of(channel.receive_pyobj))
                stage.expect(isinstance(error, EOFError), f"{error!r}")
                sender.join()


@F15.scenario()
def a_users_pipe_comes_to_its_end(stage: Stage) -> None:
    """A child that closes the user's pipe ends it: nothing of ours holds a copy of it."""
    for _ in stage.times(5):
        for way in WAYS:
            stage.inject()
            read, write = os.pipe()
            with Generator(counting) as before:
                before.start()
                os.close(read)  # of no interest to the generator, which has a copy of both
                os.close(write)
                read, write = os.pipe()
                os.set_inheritable(write, True)
                way(lambda write=write: os.write(write, b"once"))
                os.close(write)
                stage.expect(os.read(read, 10)[:4] == b"once", "the pipe has other bytes")
                stage.expect(os.read(read, 10) == b"", "the pipe has no end")
                os.close(read)


F16 = Row(
    "F16",
    "coverage patches os._exit",
    "every child leaves by whatever os._exit is then",
)


@F16.scenario()
def a_patched_exit_is_called_once_in_each_child(stage: Stage) -> None:
    """As a tool that measures children does; whatever the way and the end."""
    read, write = os.pipe()
    leave = os._exit

    def told(status: int) -> None:
        os.write(write, f"{os.getpid()} ".encode())
        leave(status)

    os._exit = told  # type: ignore[assignment]
    try:
        expected = 0
        for _ in stage.times(3):
            for way in WAYS:
                stage.inject()
                way(answer)
                way(lambda way=way: way(answer))
            for end in (lambda: sys.exit(0), lambda: 1 / 0):
                stage.inject()
                with Thread(end) as thread:
                    thread.start()
                    thread.join()
            expected += 3 * len(WAYS) + 2
    finally:
        os._exit = leave
    os.close(write)
    with open(read, encoding="ascii") as file:
        pids = file.read().split()
    stage.expect(len(pids) == len(set(pids)), "one child left twice")
    stage.expect(len(pids) == expected, f"{len(pids)} of {expected} children told")
    stage.expect(not children(), "children are left")
