# SPDX-License-Identifier: MIT
"""The figures of the README, in about a minute: ours, the peers and the limit.

Three of them: a child started, joined and asked for its result; messages per
second from one process to another; one result of 200 MB. Each is measured in
rounds in which everybody takes a turn; the ratios are medians over the rounds,
with the smallest and the largest. Nothing is asserted.

The limit of the first is os.fork, os._exit and os.waitpid in the same
interpreter. On PyPy set PYPY_GC_NURSERY=4M, as the Makefile does.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import statistics
import time
from typing import Any, Callable

from snakefish import Channel, Thread

ROUNDS = 7
MESSAGES = 100_000
PEER_MESSAGES = 25_000
STARTS_A_ROUND = 40
LARGE = 200_000_000
OBJECTS = {
    "int": 7,
    "6-key dict": {"a": 1, "b": 2.5, "c": "text", "d": None, "e": True, "f": (1, 2)},
    "1 KiB bytes": b"x" * 1024,
}

fork = multiprocessing.get_context("fork")


def main() -> None:
    print(f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} CPUs")
    report("start + join + result", {"ours": thread, "os.fork": bare_fork, "Process": process}, "s")
    for name, obj in OBJECTS.items():
        runners = {"ours": through_channel, "Pipe": through_pipe, "SimpleQueue": through_queue}
        report(
            f"stream of {name}", {who: lambda f=f, o=obj: f(o) for who, f in runners.items()}, "/s"
        )
    report("result of 200 MB", {"ours": large_result, "Pool": large_result_of_pool}, "s")


def report(what: str, runners: dict[str, Callable[[], float]], unit: str) -> None:
    """Measure in turns; print medians, and ours against each of the others."""
    rounds: dict[str, list[float]] = {who: [] for who in runners}
    for _ in range(ROUNDS):
        for who, run in runners.items():
            rounds[who].append(run())
    print(f"{what}:")
    for who, figures in rounds.items():
        ratios = [theirs / ours for theirs, ours in zip(figures, rounds["ours"])]
        if unit == "/s":
            ratios = [1 / ratio for ratio in ratios]
        print(
            f"    {who:12} {shown(statistics.median(figures), unit):>14}"
            + ("" if who == "ours" else f"    ours is {spread(ratios)} times as fast")
        )


def shown(figure: float, unit: str) -> str:
    return f"{figure / 1e3:,.0f} k/s" if unit == "/s" else f"{figure * 1e3:,.2f} ms"


def spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


# ------------------------------------------------------ start + join + result


def nothing() -> int:
    return 0


def median_time(call: Callable[[], object]) -> float:
    times = []
    for _ in range(STARTS_A_ROUND):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def thread() -> float:
    return median_time(one_thread)


def one_thread() -> None:
    with Thread(nothing) as child:
        child.start()
        child.join()
        child.get_result()


def bare_fork() -> float:
    return median_time(one_fork)


def one_fork() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def process() -> float:
    return median_time(one_process)


def one_process() -> None:
    receiver, sender = fork.Pipe(False)
    child = fork.Process(target=sender.send, args=(0,))
    child.start()
    sender.close()
    receiver.recv()
    child.join()
    child.close()
    receiver.close()


# --------------------------------------------------------------------- streams


def rate(send: Callable[[Any], object], receive: Callable[[], Any], obj: Any, count: int) -> float:
    """Return messages a second from a forked child to this process."""
    pid = os.fork()
    if pid == 0:
        for _ in range(count):
            send(obj)
        os._exit(0)
    receive()
    began = time.perf_counter()
    for _ in range(count - 1):
        receive()
    elapsed = time.perf_counter() - began
    os.waitpid(pid, 0)
    return (count - 1) / elapsed


def through_channel(obj: Any) -> float:
    with Channel() as channel:
        return rate(lambda o: channel.send_pyobj(o, True), channel.receive_pyobj, obj, MESSAGES)


def through_pipe(obj: Any) -> float:
    receiver, sender = fork.Pipe(False)
    with receiver, sender:
        return rate(sender.send, receiver.recv, obj, PEER_MESSAGES)


def through_queue(obj: Any) -> float:
    queue = fork.SimpleQueue()
    try:
        return rate(queue.put, queue.get, obj, PEER_MESSAGES)
    finally:
        queue.close()


# ----------------------------------------------------------------- one result


def large() -> bytes:
    return b"\x01" * LARGE


def large_result() -> float:
    began = time.perf_counter()
    with Thread(large) as child:
        child.start()
        child.join()
        assert len(child.get_result()) == LARGE
    return time.perf_counter() - began


def large_result_of_pool() -> float:
    began = time.perf_counter()
    with fork.Pool(1) as pool:
        assert len(pool.apply(large)) == LARGE
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
