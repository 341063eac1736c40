# SPDX-License-Identifier: MIT
"""Section G. Misuse: what is called twice, too early, too late, from the wrong place."""

from __future__ import annotations

import contextlib
import copy
import functools
import gc
import itertools
import os
import pickle
import signal
import threading
from typing import TYPE_CHECKING, Any, Callable

from deadline import SOON
from family import KINDS, bare_fork, finish, running, status_of
from gate import Gate
from libraries import Library
from process_table import children, is_gone, open_descriptors, shared_mappings, state
from row import Row
from scenario import output_of
from stage import Stage, for_ever

import snakefish
from snakefish import Channel, Generator, SnakefishError, Thread

if TYPE_CHECKING:
    from collections.abc import Iterator

Namespace = dict[str, Any]

merged: list[Any] = []


def keep_nothing(namespace: Namespace) -> Namespace:
    return {"pid": os.getpid()}


def note_merge(namespace: Namespace, extracted: Namespace) -> None:
    merged.append(extracted["pid"])


def leave() -> None:
    os._exit(3)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    for_ever()


def one_two() -> Iterator[int]:
    yield 1
    yield 2


def endless() -> Iterator[int]:
    yield from itertools.count()


def idle_generator() -> Iterator[int]:
    yield 1
    for_ever()


def dead_end() -> Iterator[int]:
    yield 1
    die()


def divide() -> float:
    return 1 / 0


def started(thing: Any) -> Any:
    thing.start()
    return thing


def threads_at_once(stage: Stage, count: int, action: Callable[[int], object]) -> list[Any]:
    """What *count* Python threads get that call *action* at the same time, errors included."""
    outcomes: list[Any] = [None] * count
    barrier = threading.Barrier(count)

    def call(number: int) -> None:
        barrier.wait(SOON)
        try:
            outcomes[number] = action(number)
        except BaseException as error:
            outcomes[number] = error

    threads = [threading.Thread(target=call, args=(n,), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
        stage.expect(not thread.is_alive(), "a Python thread hangs")
    return outcomes


# ----------------------------------------------------------------------- joins

G2 = Row("G2", "joined twice", "no-op; try_join is True for ever; merged once")

ENDS: dict[str, tuple[Callable[[], Any], int]] = {
    "returns": (int, 0),
    "raises": (divide, 0),
    "leaves": (leave, 3),
    "is killed": (die, -signal.SIGKILL),
}


@G2.scenario()
def joining_again_changes_nothing(stage: Stage) -> None:
    """However f ended and whatever is called in whatever order, status and result stay."""
    for _ in stage.times(6):
        for how, (f, status) in ENDS.items():
            merged.clear()
            with started(Thread(f, keep_nothing, note_merge)) as thread:
                thread.join()
                answers = [fate_of(thread) for _ in again(stage, thread)]
                stage.expect(set(answers) == {answers[0]}, f"{how}: the answer changes")
                stage.expect(thread.get_exit_status() == status, f"{how}: another status")
            stage.expect(len(merged) == (status == 0), f"{how}: merged {len(merged)} times")


@G2.scenario()
def joining_a_generator_again_changes_nothing(stage: Stage) -> None:
    """The same for a generator that was exhausted, stopped or killed."""
    for _ in stage.times(6):
        for taken in range(4):
            merged.clear()
            with started(Generator(dead_end if taken == 3 else one_two)) as generator:
                with contextlib.suppress(SnakefishError):
                    for _ in range(taken):
                        generator.next()
                generator.join()
                statuses = {generator.get_exit_status() for _ in again(stage, generator)}
                stage.expect(len(statuses) == 1, "the status changes")
                after = stage.error_of(generator.next)
                stage.expect(isinstance(after, StopIteration), f"next raises {after!r}")


def again(stage: Stage, thing: Any) -> Iterator[None]:
    """Join a few times more, in any way."""
    for _ in range(5):
        stage.inject()
        if stage.dice.random() < 0.5:
            stage.expect(stage.quickly(thing.join) is None, "join returns something")
        else:
            stage.expect(stage.quickly(thing.try_join), "try_join is False after join")
        stage.expect(not thing.is_alive(), "alive after join")
        yield


def fate_of(thread: Thread) -> str:
    """Status and result, in words."""
    try:
        result = repr(thread.get_result())
    except Exception as error:
        result = repr(error)
    return f"{thread.get_exit_status()} {result}"


G3 = Row("G3", "joined from the child", "RuntimeError in the child; the parent can join")

FOR_THE_OWNER = ("start", "join", "try_join", "is_alive", "get_exit_status", "kill", "fileno")


@G3.scenario()
def only_the_owner_may_ask(stage: Stage) -> None:
    """In a child of any kind every method that is the owner's is refused, in any state."""
    unstarted = Thread(int)
    with Thread(for_ever) as runs, Thread(int) as joined, Generator(endless) as generator:
        for thing in (runs, joined, generator):
            thing.start()
        joined.join()
        for kind, do in KINDS.items():
            for thing in (unstarted, runs, joined, generator):
                for name in FOR_THE_OWNER:
                    stage.inject()
                    refused = do(functools.partial(is_refused, thing, name))
                    stage.expect(refused, f"{name} is allowed in a child of {kind}")
        stage.expect(runs.is_alive() and generator.next() == 0, "a child disturbed its parent's")
        stage.expect(joined.get_result() == 0, "a child took a result")
        started(unstarted).join()
        stage.expect(unstarted.get_result() == 0, "a child started its parent's")
    unstarted.dispose()


def is_refused(thing: Any, name: str) -> bool:
    try:
        getattr(thing, name)()
    except RuntimeError:
        return True
    return False


@G3.scenario()
def a_child_cannot_join_itself(stage: Stage) -> None:
    """A child that joins the Thread it runs in gets an error and does not wait for itself."""
    for _ in stage.times(10):
        stage.inject()
        inside: dict[str, Thread] = {}
        inside["me"] = Thread(lambda inside=inside: is_refused(inside["me"], "join"))
        with started(inside["me"]) as thread:
            stage.quickly(thread.join)
            stage.expect(thread.get_result(), "a child may join itself")
        inside.clear()


# ---------------------------------------------------------------------- dispose


def ignore_everything() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for_ever()


def have_a_grandchild() -> None:
    started(Thread(for_ever)).join()


def unstarted_thread() -> Thread:
    return Thread(int)


def stopped_thread() -> Thread:
    thread = started(Thread(for_ever))
    thread.kill(signal.SIGSTOP)
    return thread


def ended_thread() -> Thread:
    """Ended, and nobody has looked."""
    thread = started(Thread(int))
    while not is_gone(thread.pid):
        pass
    return thread


def joined(thing: Any) -> Any:
    thing.join()
    return thing


def raised_and_fetched() -> Thread:
    """Its exception was raised here, and keeps a traceback of these frames."""
    thread = joined(started(Thread(divide)))
    with contextlib.suppress(ZeroDivisionError):
        thread.get_result()
    return thread


def cannot_be_joined() -> Thread:
    """Its join has raised."""
    thread = started(Thread(int, lambda mine: divide(), note_merge))
    with contextlib.suppress(ZeroDivisionError):
        thread.join()
    return thread


def consumed(f: Callable[[], Iterator[Any]], count: int, prefetch: int = 0) -> Generator:
    generator = started(Generator(f, prefetch=prefetch))
    with contextlib.suppress(StopIteration, SnakefishError):
        for _ in range(count):
            generator.next()
    return generator


def asked_generator() -> Generator:
    """It was asked for a value that never comes."""
    generator = consumed(idle_generator, 1)
    with contextlib.suppress(IndexError):
        generator.next(False)
    return generator


def full_channel() -> Channel:
    channel = Channel(5000)
    with contextlib.suppress(OverflowError):
        while True:
            channel.send_bytes(bytes(700))
    return channel


def closed_channel() -> Channel:
    channel = full_channel()
    channel.close()
    return channel


STATES: dict[str, Callable[[], Any]] = {
    "unstarted": unstarted_thread,
    "running": lambda: started(Thread(for_ever)),
    "a moment old": lambda: started(Thread(for_ever)),
    "deaf to signals": lambda: started(Thread(ignore_everything)),
    "stopped": stopped_thread,
    "a parent": lambda: started(Thread(have_a_grandchild)),
    "with an unread result": lambda: started(Thread(lambda: bytes(3_000_000))),
    "ended": ended_thread,
    "joined": lambda: joined(started(Thread(int))),
    "killed": lambda: joined(started(Thread(die))),
    "raised": raised_and_fetched,
    "its join failed": cannot_be_joined,
    "unstarted generator": lambda: Generator(endless),
    "idle generator": lambda: started(Generator(endless)),
    "busy generator": lambda: consumed(endless, 3, prefetch=50),
    "asked generator": asked_generator,
    "exhausted generator": lambda: consumed(one_two, 3),
    "joined generator": lambda: joined(consumed(endless, 1)),
    "killed generator": lambda: consumed(dead_end, 2),
    "empty channel": Channel,
    "full channel": full_channel,
    "closed channel": closed_channel,
}
"""Objects of all kinds, in every state they can be in."""


def holdings() -> tuple[set[int], set[int], int]:
    return children(), set(open_descriptors()), len(shared_mappings())


def expect_nothing_left(stage: Stage, before: Any, how: str, collect: bool) -> None:
    """Nothing may be held beyond *before*; if *collect*, garbage may be collected first."""

    def back() -> bool:
        if collect:
            gc.collect()
        now = holdings()
        return now[0] <= before[0] and now[1] <= before[1] and now[2] <= before[2]

    stage.wait_until(back, f"{how}: something stays")


G4 = Row(
    "G4", "disposed when unstarted, running, ended, joined", "ended and reaped at once; no zombie"
)


@G4.scenario()
def dispose_works_in_every_state(stage: Stage) -> None:
    """It is quick, and when it returns child, descriptors and memory are gone."""
    for _ in stage.times(3):
        for how, make in STATES.items():
            before = holdings()
            thing = make()
            stage.inject()
            stage.quickly(thing.dispose)
            now = holdings()
            stage.expect(now[0] <= before[0], f"{how}: leaves a process")
            stage.expect(now[1] <= before[1], f"{how}: leaves a descriptor")
            expect_nothing_left(stage, before, how, collect=True)


@G4.scenario()
def dispose_works_at_any_moment(stage: Stage) -> None:
    """A random moment after the start is as good as any."""
    for _ in stage.times(60):
        before = children()
        prefetch = stage.dice.choice([0, 9])
        made = [Thread(lambda: bytes(300_000)), Generator(endless, prefetch=prefetch)]
        for thing in made:
            started(thing)
        sum(range(stage.dice.randrange(60_000)))
        for thing in stage.dice.sample(made, 2):
            stage.inject()
            stage.quickly(thing.dispose)
        stage.expect(children() <= before, "leaves a process")


G5 = Row("G5", "disposed twice", "no-op")


@G5.scenario()
def disposing_again_is_harmless(stage: Stage) -> None:
    """Any number of times, in any state, inside `with` and after it, and then by the collector."""
    for _ in stage.times(2):
        for how, make in STATES.items():
            with make() as thing:
                for _ in range(3):
                    stage.inject()
                    stage.expect(thing.dispose() is None, f"{how}: dispose returns something")
            stage.inject()
            thing.dispose()
            del thing
            gc.collect()


@G5.scenario()
def disposing_again_hits_nobody_else(stage: Stage) -> None:
    """What took over pid, descriptor and address meanwhile is left alone."""
    for _ in stage.times(10):
        old = [started(Thread(for_ever)), started(Generator(endless)), Channel()]
        for thing in old:
            thing.dispose()
        new = [started(Thread(lambda: 42)), started(Generator(endless)), Channel()]
        for thing in old:
            stage.inject()
            thing.dispose()
        thread, generator, channel = new
        channel.send_pyobj("here")
        stage.expect(channel.receive_pyobj(False) == "here", "the next channel is hit")
        stage.expect(generator.next() == 0, "the next generator is hit")
        thread.join()
        stage.expect(thread.get_result() == 42, "the next thread is hit")
        for thing in new:
            thing.dispose()


G6 = Row(
    "G6",
    "used after dispose; disposed while others use it",
    "RuntimeError; whoever waits in it gets out; a child's copy is its own",
)

USES: dict[type, dict[str, Callable[[Any], object]]] = {
    Thread: {
        name: lambda thing, name=name: getattr(thing, name)()
        for name in (*FOR_THE_OWNER, "get_result")
    },
    Generator: {
        name: lambda thing, name=name: getattr(thing, name)()
        for name in (*FOR_THE_OWNER, "next", "__next__")
    },
    Channel: {
        "send_pyobj": lambda channel: channel.send_pyobj(1),
        "send_pyobj, blocking": lambda channel: channel.send_pyobj([1], block=True),
        "send_bytes": lambda channel: channel.send_bytes(bytes(200_000)),
        "receive_pyobj": lambda channel: channel.receive_pyobj(),
        "receive_pyobj, polling": lambda channel: channel.receive_pyobj(False),
        "receive_bytes": lambda channel: channel.receive_bytes(timeout=1),
        "close": lambda channel: channel.close(),
        "close_send": lambda channel: channel.close_send(),
        "close_receive": lambda channel: channel.close_receive(),
    },
}


@G6.scenario()
def everything_is_refused_afterwards(stage: Stage) -> None:
    """Whatever state it was in, every method but dispose raises RuntimeError, and repr works."""
    for how, make in STATES.items():
        thing = make()
        thing.dispose()
        for name, use in USES[type(thing)].items():
            stage.inject()
            error = stage.quickly(lambda use=use, thing=thing: stage.error_of(lambda: use(thing)))
            stage.expect(isinstance(error, RuntimeError), f"{how}, {name}: {error!r}")
        stage.expect("disposed" in repr(thing), f"{how}: repr is {thing!r}")


@G6.scenario()
def waiting_threads_get_out(stage: Stage) -> None:
    """Python threads that wait in an object which is disposed then get an error soon."""
    waits: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
        "join": (lambda: started(Thread(for_ever)), lambda thing: thing.join()),
        "join of a generator": (asked_generator, lambda thing: thing.join()),
        "next": (asked_generator, lambda thing: thing.next()),
        "receive": (Channel, lambda thing: thing.receive_pyobj()),
        "send": (full_channel, lambda thing: thing.send_bytes(bytes(9999), block=True)),
    }
    for _ in stage.times(2):
        for how, (make, wait) in waits.items():
            thing = make()

            def act(number: int, thing: Any = thing, wait: Any = wait) -> object:
                if number:
                    return wait(thing)
                sum(range(stage.dice.randrange(200_000)))
                stage.inject()
                return thing.dispose()

            outcomes = stage.quickly(lambda act=act: threads_at_once(stage, 5, act))
            for outcome in outcomes[1:]:
                allowed = isinstance(outcome, SnakefishError) or outcome is None
                stage.expect(allowed, f"{how} ends with {outcome!r}")
            stage.expect(outcomes[0] is None, f"{how}: dispose raises {outcomes[0]!r}")


@G6.scenario()
def children_go_on_with_their_copies(stage: Stage) -> None:
    """Two children exchange messages through a channel that their parent has disposed of."""
    for _ in stage.times(5):
        channel = Channel(3000)
        gate = Gate()

        def send(channel: Channel = channel, gate: Gate = gate) -> None:
            gate.wait()
            for n in range(100):
                channel.send_pyobj((n, bytes(n * 50)), block=True)

        def receive(channel: Channel = channel) -> int:
            return sum(channel.receive_pyobj()[0] for _ in range(100))

        users = [running(send), running(receive)]
        stage.inject()
        channel.dispose()
        gate.open()
        stage.expect(finish(*users)[1] == sum(range(100)), "a message is lost")
        gate.close()


@G6.scenario()
def a_consumer_of_a_disposed_generator_is_told(stage: Stage) -> None:
    """A child that consumes a generator learns soon that its parent has ended it."""
    for prefetch in (0, 3):
        for _ in stage.times(5):
            generator = started(Generator(endless, prefetch=prefetch))
            reached = Gate()

            def consume(generator: Generator = generator, reached: Gate = reached) -> str:
                try:
                    for value in generator:
                        if value == 20:
                            reached.open()
                except RuntimeError as error:
                    return f"told: {error}"
                return "the end"

            consumer = running(consume)
            reached.wait()
            stage.inject()
            generator.dispose()
            told = stage.quickly(lambda consumer=consumer: finish(consumer))[0]
            stage.expect(told.startswith("told"), f"it takes that for {told}")
            reached.close()


# ---------------------------------------------------------------------- garbage

G7 = Row(
    "G7", "garbage-collected without dispose, in every state", "no zombie, descriptor or mapping"
)


@G7.scenario()
def garbage_in_every_state_leaves_nothing(stage: Stage) -> None:
    """An object that nobody refers to takes its child, descriptors and memory along."""
    for how, make in STATES.items():
        before = holdings()
        for _ in stage.times(4):
            stage.inject()
            make()
        expect_nothing_left(stage, before, how, collect=True)


@G7.scenario()
def garbage_in_cycles_leaves_nothing(stage: Stage) -> None:
    """The same when only cycles hold them: an object among its own arguments, an exception."""
    for how, make in STATES.items():
        before = holdings()
        for _ in stage.times(3):
            stage.inject()
            knot: list[Any] = [make()]
            knot.append(knot)
            del knot
        expect_nothing_left(stage, before, how, collect=True)
    before = holdings()
    for _ in stage.times(5):
        stage.inject()
        holder: dict[str, Any] = {}
        holder["thread"] = started(Thread(lambda holder=holder: for_ever()))
        del holder
    expect_nothing_left(stage, before, "in its own closure", collect=True)


@G7.scenario()
def garbage_of_a_python_thread_leaves_nothing(stage: Stage) -> None:
    """It does not matter which Python thread made it, nor that this one has ended."""
    before = holdings()
    makers = list(STATES.values())
    for _ in stage.times(2):
        outcomes = threads_at_once(stage, len(makers), lambda number: bool(makers[number]()))
        stage.inject()
        stage.expect(all(one is True for one in outcomes), f"{outcomes}")
    expect_nothing_left(stage, before, "a thread's", collect=True)


@G7.scenario()
def garbage_in_a_child_is_the_childs_own(stage: Stage) -> None:
    """Objects made and dropped in a child leave nothing there; inherited ones harm nobody."""
    inherited = [started(Thread(lambda: 42)), started(Generator(endless)), Channel()]
    thread, generator, channel = inherited

    def make_garbage() -> bool:
        inherited.clear()
        before = children()
        for make in STATES.values():
            make()
        for _ in range(200):
            gc.collect()
            if children() <= before:
                return True
        return False

    for kind, do in KINDS.items():
        stage.inject()
        stage.expect(do(make_garbage), f"something stays in a child of {kind}")
    channel.send_pyobj("here")
    stage.expect(channel.receive_pyobj(False) == "here", "the parent's channel is gone")
    stage.expect(generator.next() == 0, "the parent's generator is gone")
    thread.join()
    stage.expect(thread.get_result() == 42, "the parent's thread is gone")
    for thing in (thread, generator, channel):
        thing.dispose()


def hold_an_error(_: int) -> None:
    raise LookupError("kept by its caller")


@G7.comparison()
def kept_errors_keep_nothing_else(stage: Stage, library: Library) -> None:
    """While a caller keeps the errors of many calls, what they were raised in is gone."""
    kept = [stage.error_of(lambda: library.map(hold_an_error, [1, 2]))]
    gc.collect()
    before = holdings()
    for _ in stage.times(5):
        stage.inject()
        kept.append(stage.error_of(lambda: library.map(hold_an_error, [1, 2])))
    stage.expect(all(isinstance(one, LookupError) for one in kept), f"{kept[-1]!r}")
    expect_nothing_left(stage, before, "with the error", collect=True)


# --------------------------------------------------------------------- nesting

G8 = Row("G8", "started in a child that does not join it", "no hang; the grandchild ends too")


WAYS_TO_LEAVE: dict[str, Callable[[], object]] = {
    "returns": int,
    "raises": divide,
    "calls os._exit": leave,
    "is killed": die,
}


@G8.scenario()
def forgotten_grandchildren_end(stage: Stage) -> None:
    """However a child leaves that has children of its own, none of them outlives it."""
    for _ in stage.times(4):
        for how, leave_this_way in WAYS_TO_LEAVE.items():
            for kind in (Thread, Generator):
                read, write = os.pipe()
                nest = functools.partial(start_and, leave_this_way, kind, write)
                with started(Thread(nest)) as thread:
                    stage.inject()
                    stage.quickly(thread.join)
                pid = int(os.read(read, 100))
                stage.quickly(
                    lambda pid=pid, how=how: stage.wait_until(
                        lambda: is_gone(pid), f"a grandchild outlives a child that {how}"
                    )
                )
                os.close(read)
                os.close(write)


kept_by_the_child: list[Any] = []


def start_and(then: Callable[[], object], kind: type, tell: int) -> None:
    thing = started(kind(for_ever) if kind is Thread else kind(endless, prefetch=5))
    kept_by_the_child.append(thing)
    os.write(tell, f"{thing.pid}\n".encode())
    then()


G9 = Row("G9", "threads in threads, map in map, merges through levels", "works to any depth")

DEPTH = 8


@G9.scenario()
def threads_in_threads(stage: Stage) -> None:
    """Results and exceptions come up through eight levels, and so does a death."""
    for leaf in (lambda: 42, divide, die):
        for _ in stage.times(3):
            stage.inject()
            outcome = stage.error_of(lambda leaf=leaf: raise_answer(descend(DEPTH, leaf)))
            expected = {divide: ZeroDivisionError, die: RuntimeError}.get(leaf, AnswerError)
            stage.expect(isinstance(outcome, expected), f"{outcome!r}")


class AnswerError(Exception):
    """The leaf's answer arrived."""


def raise_answer(value: int) -> None:
    if value == 42:
        raise AnswerError


def descend(depth: int, leaf: Callable[[], Any]) -> Any:
    if depth == 0:
        return leaf()
    return finish(running(descend, depth - 1, leaf))[0]


visited: list[str] = []


def keep_visited(namespace: Namespace) -> Namespace:
    return {"visited": namespace["visited"]}


def add_visited(namespace: Namespace, extracted: Namespace) -> None:
    namespace["visited"].extend(extracted["visited"])


def grow(path: str, depth: int) -> None:
    """Visit a node of a binary tree and, in two children, all that is below it."""
    visited.clear()
    if depth:
        branches = [
            started(Thread(grow, keep_visited, add_visited, args=(path + turn, depth - 1)))
            for turn in "lr"
        ]
        for branch in branches:
            branch.join()
            branch.get_result()
            branch.dispose()
    visited.append(path)


@G9.scenario()
def merges_through_levels(stage: Stage) -> None:
    """A tree of processes five levels deep merges all that it found, in the order of the joins."""
    for _ in stage.times(1):
        stage.inject()
        grow("", 5)
        stage.expect(visited == post_order("", 5), "something is lost, doubled or out of order")


def post_order(path: str, depth: int) -> list[str]:
    below = (
        [*post_order(path + "l", depth - 1), *post_order(path + "r", depth - 1)] if depth else []
    )
    return [*below, path]


@G9.scenario()
def generators_in_generators(stage: Stage) -> None:
    """A chain of eight generators, each started inside the one before, gives all its values."""
    for prefetch in (0, 2):
        for _ in stage.times(2):
            stage.inject()
            with Generator(functools.partial(chain, DEPTH, prefetch)) as generator:
                generator.start()
                stage.expect(list(generator) == [n + DEPTH for n in range(10)], "wrong values")
                generator.join()


def chain(depth: int, prefetch: int) -> Iterator[int]:
    if depth == 0:
        yield from range(10)
        return
    with Generator(functools.partial(chain, depth - 1, prefetch), prefetch=prefetch) as generator:
        generator.start()
        for value in generator:
            yield value + 1


@G9.scenario()
def merging_maps_in_merging_maps(stage: Stage) -> None:
    """What the innermost call changed arrives at the top, in the order of the plain loops."""
    for _ in stage.times(1):
        stage.inject()
        visited.clear()
        leaves = map_tree(3, "")
        plain = ["".join(turns) for turns in itertools.product("lr", repeat=3)]
        stage.expect(leaves == plain, "wrong results")
        stage.expect(visited == plain, f"merged {visited}")


def map_tree(depth: int, path: str) -> list[str]:
    visited.clear()
    if depth == 0:
        visited.append(path)
        return [path]
    below = functools.partial(map_tree, depth - 1)
    paths = [path + turn for turn in "lr"]
    leaves = snakefish.map(below, paths, keep_visited, add_visited, chunksize=1)
    return [*itertools.chain(*leaves)]


def count_leaves(library: Library, depth: int) -> int:
    if depth == 0:
        return 1
    return sum(library.map(functools.partial(one_branch, library, depth - 1), [0, 1]))


def one_branch(library: Library, depth: int, _: int) -> int:
    return count_leaves(library, depth)


@G9.comparison()
def map_in_map(stage: Stage, library: Library) -> None:
    """A function that maps in its turn, five levels deep, works."""
    stage.inject()
    stage.expect(count_leaves(library, 5) == 32, "a leaf is lost")


# ------------------------------------------------------------ concurrent callers

G10 = Row(
    "G10, G11",
    "from other Python threads; concurrent joins",
    "safe; at least one join succeeds, the rest are no-op or RuntimeError",
)


@G10.scenario()
def many_threads_join_one(stage: Stage) -> None:
    """Every join returns when it has ended, try_join answers, the merge happens once."""
    for _ in stage.times(10):
        merged.clear()
        gate = Gate()
        with started(Thread(lambda gate=gate: gate.wait(), keep_nothing, note_merge)) as thread:

            def act(number: int, thread: Thread = thread, gate: Gate = gate) -> object:
                stage.inject()
                if number == 0:
                    return gate.open()
                return thread.try_join() if number % 4 == 1 else thread.join()

            outcomes = threads_at_once(stage, 24, act)
            allowed = all(one in (None, True, False) for one in outcomes)
            stage.expect(allowed, f"{outcomes}")
            stage.expect(thread.get_result() is None, "no result")
        stage.expect(len(merged) == 1, f"merged {len(merged)} times")
        gate.close()


@G10.scenario()
def many_threads_start_one(stage: Stage) -> None:
    """One start succeeds, the rest are refused, and there is one child."""
    for _ in stage.times(10):
        for kind, f in ((Thread, for_ever), (Generator, endless)):
            before = children()
            with kind(f) as thing:
                stage.inject()
                outcomes = threads_at_once(stage, 16, lambda _, thing=thing: thing.start())
                stage.expect(outcomes.count(None) == 1, f"{outcomes.count(None)} starts")
                refused = all(one is None or isinstance(one, RuntimeError) for one in outcomes)
                stage.expect(refused, f"{outcomes}")
                stage.expect(len(children() - before) == 1, "several children")


@G10.scenario()
def many_threads_have_their_own(stage: Stage) -> None:
    """Sixteen Python threads start, join and dispose of their own at once, of every kind."""

    def use(number: int) -> object:
        for turn in range(3):
            expected = number * 100 + turn
            if finish(running(lambda: expected)) != [expected]:
                return "another's result"
            with Generator(one_two, prefetch=turn) as generator:
                if list(started(generator)) != [1, 2]:
                    return "another's values"
                generator.join()
            if snakefish.map(abs, [-expected, 1], concurrency=2) != [expected, 1]:
                return "another's map"
        return None

    for _ in stage.times(1):
        stage.inject()
        outcomes = threads_at_once(stage, 16, use)
        stage.expect(outcomes == [None] * 16, f"{set(map(repr, outcomes))}")


@G10.scenario()
def many_threads_consume_one_generator(stage: Stage) -> None:
    """Each value goes to one of them, each of them comes to the end, and all join."""
    for prefetch in (0, 1, 20):
        for _ in stage.times(2):
            stage.inject()
            with started(Generator(iter_over, args=[range(200)], prefetch=prefetch)) as generator:

                def consume(_: int, generator: Generator = generator) -> list[int]:
                    values = list(generator)
                    generator.join()
                    return values

                outcomes = threads_at_once(stage, 8, consume)
                lists = [one for one in outcomes if isinstance(one, list)]
                stage.expect(len(lists) == 8, f"{outcomes}")
                stage.expect(sorted(itertools.chain(*lists)) == list(range(200)), "lost or doubled")
                stage.expect(all(one == sorted(one) for one in lists), "out of order")


@G10.scenario()
def everything_at_once_on_one_object(stage: Stage) -> None:
    """Start, join, ask, kill and dispose from all sides: answers or RuntimeErrors, no crash."""
    for _ in stage.times(12):
        for thing in (Thread(for_ever), Generator(endless, prefetch=3)):
            uses = list(USES[type(thing)].values())
            calls = [lambda thing: thing.dispose()] * 2 + stage.dice.sample(uses, 7)

            def act(number: int, thing: Any = thing, calls: Any = calls) -> object:
                return calls[number](thing)

            stage.inject()
            for outcome in threads_at_once(stage, len(calls), act):
                fine = not isinstance(outcome, BaseException)
                allowed = (RuntimeError, StopIteration)
                stage.expect(fine or isinstance(outcome, allowed), f"{outcome!r}")
            stage.expect("disposed" in repr(thing), f"{thing!r}")


def square(number: int) -> int:
    return number * number


@G10.comparison()
def map_from_many_threads(stage: Stage, library: Library) -> None:
    """Eight Python threads map at the same time, three times each."""

    def use(number: int) -> object:
        for _ in range(3):
            if library.map(square, range(number, number + 9)) != [
                n * n for n in range(number, number + 9)
            ]:
                return "wrong results"
        return None

    for _ in stage.times(1):
        stage.inject()
        outcomes = threads_at_once(stage, 8, use)
        problems = {one if isinstance(one, str) else repr(one) for one in outcomes if one}
        stage.expect(not problems, "; ".join(problems))


# -------------------------------------------------------------------- arguments

G12 = Row("G12", "not callable, wrong arity", "TypeError, in the constructor")


def two_wanted(first: object, second: object) -> None:
    pass


def keyword_wanted(*, key: object) -> None:
    pass


class NeedsOne:
    def __call__(self, one: object) -> None:
        pass

    def method(self, one: object) -> None:
        pass


NO_FUNCTIONS: list[Any] = [None, 5, "f", b"", [], {}, object(), ..., 1.5, NotImplemented]
MISFITS: list[Any] = [
    two_wanted,
    keyword_wanted,
    lambda x: x,
    NeedsOne(),
    NeedsOne().method,
    functools.partial(two_wanted, 1),
    functools.partial(two_wanted, 1, 2, 3),
]


@G12.scenario()
def constructors_refuse_what_cannot_be_called(stage: Stage) -> None:
    """Before anything is forked; extract and merge are looked at as well."""
    before = holdings()
    for kind, right in ((Thread, divide), (Generator, one_two)):
        wrong = NO_FUNCTIONS + (MISFITS if kind is Thread else [lambda x: (yield x)])
        calls = [functools.partial(kind, f) for f in wrong]
        calls += [
            functools.partial(kind, right, one, note_merge)
            for one in (*NO_FUNCTIONS[1:], two_wanted)
        ]
        calls += [
            functools.partial(kind, right, keep_nothing, one)
            for one in (*NO_FUNCTIONS[1:], NeedsOne())
        ]
        calls += [
            functools.partial(kind, right, args=(1, 2, 3, 4)),
            functools.partial(kind, right, args=5),
            functools.partial(kind, right, kwargs={"nothing": 1}),
            functools.partial(kind, right, kwargs=5),
            functools.partial(kind, right, keep_nothing),
            functools.partial(kind, right, merge=note_merge),
            functools.partial(kind),
        ]
        for call in calls:
            stage.inject()
            error = stage.error_of(call)
            stage.expect(isinstance(error, TypeError), f"{call} raises {error!r}")
    expect_nothing_left(stage, before, "a refused object", collect=True)


@G12.comparison()
def map_refuses_what_cannot_be_called(stage: Stage, library: Library) -> None:
    """TypeError, soon."""
    for f in (None, 5, two_wanted, keyword_wanted):
        stage.inject()
        error = stage.quickly(lambda f=f: stage.error_of(lambda: library.map(f, [1, 2, 3])))
        stage.expect(isinstance(error, TypeError), f"{f}: {type(error).__name__}")


# ------------------------------------------------------------------ other copies

G13 = Row("G13", "disposed in a child", "the parent's objects live on")


def harm(things: list[Any]) -> bool:
    """Do to inherited objects whatever gets rid of them."""
    for thing in things:
        thing.dispose()
        thing.dispose()
    for thing in things:
        with thing:
            pass
    things.clear()
    gc.collect()
    return True


@G13.scenario()
def a_childs_dispose_is_its_own(stage: Stage) -> None:
    """After children of every kind have disposed of all they inherited, all of it works."""
    for _ in stage.times(2):
        gate = Gate()
        thread = started(Thread(lambda gate=gate: gate.wait() or 42))
        generator = started(Generator(endless, prefetch=2))
        unstarted = Thread(lambda: 43)
        channel = Channel(9000)
        channel.send_pyobj("still here")
        for kind, do in KINDS.items():
            stage.inject()
            things = [thread, generator, unstarted, channel]
            harmed = do(functools.partial(harm, things))
            stage.expect(harmed, f"dispose fails in a child of {kind}")
        stage.expect(channel.receive_pyobj(False) == "still here", "the channel was emptied")
        echo = running(lambda channel=channel: channel.send_pyobj(os.getpid()))
        stage.expect(channel.receive_pyobj(timeout=SOON) == echo.pid, "the channel is dead")
        stage.expect([generator.next() for _ in range(9)] == list(range(9)), "the generator")
        gate.open()
        thread.join()
        started(unstarted).join()
        stage.expect((thread.get_result(), unstarted.get_result()) == (42, 43), "the threads")
        generator.join()
        stage.expect(generator.get_exit_status() == 0, "the generator was hit")
        finish(echo)
        for thing in (thread, generator, unstarted, channel, gate):
            getattr(thing, "dispose", getattr(thing, "close", None))()


G14 = Row("G14", "a Thread, Generator or Channel pickled", "TypeError")


class OwnThread(Thread):
    """A subclass with an attribute."""

    mark = 1


class OwnChannel(Channel):
    """A subclass that has a dict."""


@G14.scenario()
def pickling_is_refused(stage: Stage) -> None:
    """By every protocol, by copy, and wherever an object would be pickled along the way."""
    things = [OwnThread(int), OwnChannel(), *(make() for make in STATES.values())]
    for thing in things:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            expect_type_error(stage, lambda p=protocol, t=thing: pickle.dumps(t, p))
            expect_type_error(stage, lambda p=protocol, t=thing: pickle.dumps({"in": [t]}, p))
        for copies in (copy.copy, copy.deepcopy):
            expect_type_error(stage, lambda t=thing, copies=copies: copies(t))
    with Channel() as channel:
        expect_type_error(stage, lambda: channel.send_pyobj(channel))
        expect_type_error(stage, lambda: finish(running(lambda: channel)))
        expect_type_error(stage, lambda: snakefish.map(lambda _: channel, [1]))
        expect_type_error(stage, lambda: next(started(Generator(iter_over, args=[[channel]]))))
    for thing in things:
        thing.dispose()


def iter_over(values: Any) -> Iterator[Any]:
    yield from values


def expect_type_error(stage: Stage, action: Callable[[], object]) -> None:
    stage.inject()
    error = stage.error_of(action)
    stage.expect(isinstance(error, TypeError), f"{error!r}")


G15 = Row("G15", "a bare os.fork copies our objects", "the copy is harmless")


@G15.scenario()
def a_bare_childs_copies_are_harmless(stage: Stage) -> None:
    """It may drop them in any state, or be killed, or leave; the parent's work is not touched."""
    for how, make in STATES.items():
        for end in (int, die):
            things = [make()]
            before = children()
            stage.inject()

            def drop(things: list[Any] = things, end: Any = end) -> None:
                things.clear()
                gc.collect()
                gc.collect()
                end()

            pid = bare_fork(drop)
            stage.expect(status_of(pid) == (0 if end is int else -9), f"{how}: the copy crashes")
            stage.expect(children() == before, f"{how}: a child of the parent is reaped")
            alive = {one for one in before if state(one) not in "ZX"}
            stage.expect(all(not is_gone(one) for one in alive), f"{how}: a child is killed")
            things[0].dispose()


@G15.scenario()
def a_bare_child_ends_as_a_program(stage: Stage) -> None:
    """It leaves through the interpreter's own finalization, with all our objects in its hands."""
    for ending in ("sys.exit(0)", "raise SystemExit(0)", "pass"):
        stage.inject()
        lines = output_of(f"""
            def count():
                yield from range(10)
            thread = Thread(lambda: os.read(read, 1))
            read, write = os.pipe()
            generator, channel, idle = Generator(count), Channel(), Thread(int)
            thread.start()
            generator.start()
            channel.send_pyobj("kept")
            pid = os.fork()
            if pid == 0:
                {ending}
            else:
                status = os.waitpid(pid, 0)[1]
                alive = thread.is_alive()
                os.write(write, b"!")
                thread.join()
                idle.start()
                idle.join()
                say(status, alive, thread.get_result(), list(generator)[-1],
                    channel.receive_pyobj(False), idle.get_result())
                for thing in (thread, generator, channel, idle):
                    thing.dispose()
            """)
        stage.expect(lines == ["0 True b'!' 9 kept 0"], f"{lines}")
