# SPDX-License-Identifier: MIT
"""The libraries that run a comparison: ours, and the peers with their best settings.

What each does with a call that fails is its own; a comparison judges only what its user sees.
"""

from __future__ import annotations

import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable

from stage import BrokenPromise

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Function = Callable[[], Any]
    Submit = Callable[[Function], Function]

WORKERS = 2


def told_by(error: object) -> str:
    """All that a user gets to read about an error, its causes included."""
    if not isinstance(error, BaseException):
        raise BrokenPromise(f"no error, but {error!r:.60}")
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))


class Library:
    """Calls functions in other processes."""

    modules: tuple[str, ...] = ()
    """What has to be installed."""

    def session(self) -> Any:
        """Give, as a context, what submits a function and returns what waits for its result."""
        raise NotImplementedError

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """Return the results for all *items*, worked out by several processes."""
        raise NotImplementedError

    def call(self, function: Function) -> Any:
        """Return what *function* returns in another process, or raise what it raises there."""
        with self.session() as submit:
            return submit(function)()

    def endings(self, functions: Iterable[Function]) -> list[Any]:
        """Call all *functions* at once; return for each its result, or the exception raised."""
        with self.session() as submit:
            calls = [_ending(lambda function=function: submit(function)) for function in functions]
            return [_ending(call) if callable(call) else call for call in calls]

    def endings_in_turn(self, functions: Iterable[Function]) -> list[Any]:
        """Call *functions* one after the other, where a pool is kept in the same pool."""
        with self.session() as submit:
            return [_ending(lambda function=function: submit(function)()) for function in functions]

    def warm_up(self) -> None:
        """Do once what leaves behind what is made once a process."""
        self.map(abs, [1, 2])

    def close(self) -> None:
        """End what it has started."""


def _ending(action: Function) -> Any:
    """What *action* returns, or the exception that it raises."""
    try:
        return action()
    except BaseException as error:  # a child's SystemExit or KeyboardInterrupt among others
        return error


class Snakefish(Library):
    """Ours."""

    @contextmanager
    def session(self) -> Iterator[Submit]:
        from snakefish import Thread

        threads = []

        def submit(function: Function) -> Function:
            thread = Thread(function)
            threads.append(thread)
            thread.start()

            def wait() -> Any:
                thread.join()
                return thread.get_result()

            return wait

        try:
            yield submit
        finally:
            for thread in threads:
                thread.dispose()

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        import snakefish

        return snakefish.map(function, items, concurrency=WORKERS)

    def warm_up(self) -> None:
        import snakefish

        super().warm_up()
        snakefish.Channel().dispose()


class PoolLibrary(Library):
    """One whose pool has `apply_async` and `map`."""

    def pool(self) -> Any:
        """Return a new pool, which a with statement ends."""
        raise NotImplementedError

    @contextmanager
    def session(self) -> Iterator[Submit]:
        with self.pool() as pool:
            yield lambda function: pool.apply_async(function).get

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        with self.pool() as pool:
            return pool.map(function, items)


class Pool(PoolLibrary):
    """`multiprocessing.Pool`."""

    def pool(self) -> Any:
        from multiprocessing import get_context

        return get_context("fork").Pool(WORKERS)


class Executor(Library):
    """`concurrent.futures.ProcessPoolExecutor`."""

    @contextmanager
    def session(self) -> Iterator[Submit]:
        with self._executor() as executor:
            yield lambda function: executor.submit(function).result

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        with self._executor() as executor:
            return list(executor.map(function, items))

    def _executor(self) -> Any:
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        return ProcessPoolExecutor(WORKERS, mp_context=get_context("fork"))


class Joblib(Library):
    """`joblib.Parallel` with its loky backend, whose workers stay for the next call.

    `Parallel` tells of one error only, so calls that are judged one by one go to the
    executor below it.
    """

    modules = ("joblib",)

    @contextmanager
    def session(self) -> Iterator[Submit]:
        from joblib.externals.loky import get_reusable_executor

        yield lambda function: get_reusable_executor(WORKERS).submit(function).result

    def call(self, function: Function) -> Any:
        import joblib

        return joblib.Parallel(WORKERS)([joblib.delayed(function)()])[0]

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        import joblib

        return joblib.Parallel(WORKERS)(joblib.delayed(function)(item) for item in items)

    def close(self) -> None:
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(wait=True, kill_workers=True)


class Mpire(PoolLibrary):
    """`mpire.WorkerPool`."""

    modules = ("mpire",)

    def pool(self) -> Any:
        from mpire import WorkerPool

        return WorkerPool(WORKERS, start_method="fork")


LIBRARIES: dict[str, type[Library]] = {
    "snakefish": Snakefish,
    "Pool": Pool,
    "ProcessPoolExecutor": Executor,
    "joblib": Joblib,
    "mpire": Mpire,
}
PEERS = [name for name in LIBRARIES if name != "snakefish"]
