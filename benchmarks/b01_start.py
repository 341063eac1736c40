# SPDX-License-Identifier: MIT
"""B1: start, join and the result of a function that does nothing.

Everybody starts from nothing each time: a pool is made, asked for one result and closed.

The limit is os.fork, os._exit and os.waitpid in the same interpreter, which bring no result. The
bare fork of the C library is 2.3 times as fast and wrong: the interpreter must be told.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from typing import Callable

from benchmarks.figure import LIMIT, OURS, SECONDS, Aim, Figure, Runner, Scale
from snakefish import Thread

fork = multiprocessing.get_context("fork")


def figures(scale: Scale) -> list[Figure]:
    often = scale.choose(tiny=1, quick=40)
    seldom = scale.choose(tiny=1, quick=2, full=5)
    return [
        Figure(
            id="B1",
            what="start + join + result of a trivial function",
            unit=SECONDS,
            runners={
                OURS: median_time(thread, often),
                "Process + Pipe": median_time(process_and_pipe, often),
                "ProcessPoolExecutor": median_time(executor, seldom),
                "joblib": median_time(joblib, seldom),
                "mpire": median_time(mpire, seldom),
                LIMIT: median_time(bare_fork, often),
            },
            aims=[Aim(LIMIT, at_most=1.15), Aim("Process + Pipe", at_most=0.6)],
        )
    ]


def median_time(call: Callable[[], object], times: int) -> Runner:
    def turn() -> float:
        return statistics.median(time_of(call) for _ in range(times))

    return turn


def time_of(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def answer() -> int:
    return 42


def thread() -> None:
    with Thread(answer) as child:
        child.start()
        child.join()
        assert child.get_result() == 42


def bare_fork() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(42)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42


def process_and_pipe() -> None:
    receiver, sender = fork.Pipe(False)
    child = fork.Process(target=lambda: sender.send(answer()))
    child.start()
    sender.close()
    assert receiver.recv() == 42
    child.join()
    child.close()
    receiver.close()


def executor() -> None:
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(1, mp_context=fork) as pool:
        assert pool.submit(answer).result() == 42


def joblib() -> None:
    from joblib import Parallel, delayed
    from joblib.externals.loky import get_reusable_executor

    assert Parallel(n_jobs=2)([delayed(answer)()]) == [42]
    get_reusable_executor().shutdown()


def mpire() -> None:
    from mpire import WorkerPool

    with WorkerPool(n_jobs=1, start_method="fork") as pool:
        assert pool.apply(answer) == 42
