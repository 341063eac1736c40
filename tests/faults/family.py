# SPDX-License-Identifier: MIT
"""Children of every kind, and how they end."""

from __future__ import annotations

import os
import traceback
from typing import TYPE_CHECKING, Any, Callable

import snakefish
from snakefish import Generator, Thread

if TYPE_CHECKING:
    from collections.abc import Iterator


def running(f: Callable[..., Any], *arguments: Any) -> Thread:
    """A Thread that runs *f* already."""
    thread = Thread(f, args=arguments)
    thread.start()
    return thread


def finish(*threads: Thread) -> list[Any]:
    """The results of *threads*, which are disposed then."""
    for thread in threads:
        thread.join()
    results = [thread.get_result() for thread in threads]
    for thread in threads:
        thread.dispose()
    return results


def bare_fork(work: Callable[[], object]) -> int:
    """Fork by `os.fork` alone a process that does its *work* and leaves; return its pid."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def status_of(pid: int) -> int:
    """Wait for a bare child's end; its exit code, or -N after signal N."""
    status = os.waitpid(pid, 0)[1]
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _by_thread(work: Callable[[], Any]) -> Any:
    return finish(running(work))[0]


def _by_generator(work: Callable[[], Any]) -> Any:
    def once() -> Iterator[Any]:
        yield work()

    with Generator(once) as generator:
        generator.start()
        value = generator.next()
        generator.join()
        return value


def _by_map(work: Callable[[], Any]) -> Any:
    return snakefish.map(lambda _: work(), [0])[0]


def _by_merging_map(work: Callable[[], Any]) -> Any:
    return snakefish.map(lambda _: work(), [0], lambda mine: {}, lambda ours, theirs: None)[0]


def _by_bare_fork(work: Callable[[], Any]) -> Any:
    """What a bare child finds out is true or false."""
    return status_of(bare_fork(lambda: work() or os._exit(3))) == 0


KINDS: dict[str, Callable[[Callable[[], Any]], Any]] = {
    "a Thread": _by_thread,
    "a Generator": _by_generator,
    "map": _by_map,
    "map with merging": _by_merging_map,
    "os.fork": _by_bare_fork,
}
"""Ways to have something done in another process: each returns what came of it."""
