# SPDX-License-Identifier: MIT
"""A function call in a child process."""

from __future__ import annotations

import functools
import itertools
import signal
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Callable

from snakefish._child import capture
from snakefish._clock import FOREVER, NOW, deadline_after
from snakefish._errors import WaitTimeoutError
from snakefish._job import Job
from snakefish._merging import Extract, Merge
from snakefish._process import STARTED
from snakefish._resource import Resource
from snakefish._returns import returns
from snakefish._signature import bound_call

if TYPE_CHECKING:
    from snakefish._sharing import OnError, Share

_numbers = itertools.count(1)


class Thread(Resource):
    """A call of *f* that runs in parallel, in a child process forked for it.

    The child has the whole state of the program as it was at `start`: closures,
    lambdas, globals and live objects just work, and nothing that it does to
    them is seen here. What *f* returns comes back by `get_result`:

    >>> from snakefish import Thread
    >>> thread = Thread(lambda: sum(range(10)))
    >>> thread.start()
    >>> thread.join()
    >>> thread.get_result()
    45
    >>> thread.dispose()

    Changes to globals come back through *extract* and *merge*. `extract(globals)`
    runs in the child when *f* is done and returns a dict, which is pickled;
    `merge(globals, extracted)` runs here, once, at the join:

    >>> found = []
    >>> def search():
    ...     found.append("treasure")
    >>> def extract(its_globals):
    ...     return {"found": found}
    >>> def merge(our_globals, extracted):
    ...     found.extend(extracted["found"])
    >>> with Thread(search, extract, merge) as thread:
    ...     thread.start()
    ...     thread.join()
    >>> found
    ['treasure']

    *share* says it without functions: which variables come back, and by which of the
    `merges`. What tasks do to a variable is then done again here, at the join, so
    that the order of the joins is the order in which it seems to have happened:

    >>> from snakefish import merges
    >>> with Thread(search, share={"found": merges.append}) as thread:
    ...     thread.start()
    ...     thread.join()
    >>> found
    ['treasure', 'treasure']

    It is a dict of names and merges; or names alone, a list or a string, for the default
    merge of each value. A name is that of a closure variable or a global of *f*, or
    `"Class.attribute"`, or `"package.module:name"`. What `shares` declares on *f* is
    shared as well; *share* wins, name by name. A child is merged whole or not at all.
    When *f* raises, *on_error* decides: `"sequential"` brings back what it had done until
    then, `"drop"` and `"rollback"` nothing.

    *args* and *kwargs* are passed to *f*; *name* is for messages. A child that
    is no longer referred to is killed and reaped, so keep the object, as with
    the tasks of asyncio; better, use `with`, which disposes at the end. Only the
    process that made a Thread can start or join it.

    Raises:
        TypeError: *f* is not callable or does not take these arguments, or one
            of *extract* and *merge* is missing or not callable, or *share* is no
            declaration, or a value is not for its merge.
        NameError: A variable to share does not exist.
        ValueError: *on_error* is none of the three.
    """

    def __init__(
        self,
        f: Callable[..., Any],
        extract: Extract | None = None,
        merge: Merge | None = None,
        *,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        share: Share = None,
        on_error: OnError = "sequential",
    ) -> None:
        self._body: Any = functools.partial(capture, bound_call(f, args, kwargs))
        caller = sys._getframe(1).f_globals
        plan = returns(f, extract, merge, share, on_error, caller)
        self._job = Job(name or f"Thread-{next(_numbers)}", plan)

    def start(self) -> None:
        """Fork the child and let it run *f*.

        Raises:
            RuntimeError: It was started before, or the fork failed; after a
                failed fork it can be started again.
            TypeError: A shared variable holds what its merge cannot copy.
            ForkSafetyWarning: Other threads run, and warnings are errors; it can
                be started again.
        """
        self._job.start(self._body)

    def join(self, timeout: float | None = None) -> None:
        """Wait until the child has ended, then merge.

        Merging happens once; to join again does nothing. A LostWriteWarning names
        variables that the child changed and that are not shared.

        >>> with Thread(lambda: None, name="idler") as thread:
        ...     thread.join()
        Traceback (most recent call last):
            ...
        snakefish.MisuseError: idler has not been started

        Raises:
            RuntimeError: It was not started, or waiting failed, or a signal
                handler wants to wait for the join that it interrupts.
            TimeoutError: It runs for more than *timeout* seconds; it can be
                joined again.
            MergeConflict: The child and others changed the same of a shared variable.
            TypeError: What the child did to a shared variable is not what its merge is
                for, or cannot be pickled.
            Whatever *extract* raised or *merge* raises. It counts as joined then, and
            after the two above: nothing of the child is shared.
        """
        deadline = FOREVER if timeout is None else deadline_after(timeout)
        if not self._job.join(deadline):
            raise WaitTimeoutError(f"{self._job.process} has not ended within {timeout} seconds")
        self._job.warn_of_lost()

    def try_join(self) -> bool:
        """Join if the child has ended; return whether it is joined.

        Raises:
            The same as `join`, but no TimeoutError.
        """
        joined = self._job.join(NOW)
        self._job.warn_of_lost()
        return joined

    def is_alive(self) -> bool:
        """Return whether the child was started and has not ended, joined or not.

        Raises:
            RuntimeError: It is disposed, or belongs to another process.
        """
        return self._job.is_alive()

    def get_exit_status(self) -> int:
        """Return the exit status of the child, -N if signal N has killed it.

        It is 0 after a normal end and after an exception in *f*, which is a result
        like others; only SystemExit sets it, as `sys.exit` defines.

        >>> with Thread(lambda: sys.exit(3)) as thread:
        ...     thread.start()
        ...     thread.join()
        ...     thread.get_exit_status()
        3

        Raises:
            RuntimeError: It is not joined, or somebody else took the status.
        """
        return self._job.exit_status()

    def get_result(self) -> Any:
        """Return what *f* returned, or raise what it raised, each time it is called.

        The traceback in the child is the `__cause__` of the exception.

        >>> with Thread(lambda: 1 / 0) as thread:
        ...     thread.start()
        ...     thread.join()
        ...     thread.get_result()
        Traceback (most recent call last):
            ...
        ZeroDivisionError: division by zero

        Raises:
            RuntimeError: It is not joined, or the child was killed before it had
                a result, or *f* raised what cannot be brought over as itself.
            Whatever *f* raised.
        """
        return self._job.result()

    def kill(self, signal_number: int = signal.SIGKILL) -> None:
        """Send a signal to the child; nothing happens if it has ended.

        Raises:
            RuntimeError: It was not started, or is disposed.
            ValueError: There is no such signal.
        """
        self._job.process.require(*STARTED)
        self._job.process.kill(signal_number)

    def fileno(self) -> int:
        """Return a descriptor that is readable once the child has ended.

        Selectors and `loop.add_reader` of asyncio can wait for it; the Thread
        owns it until it is disposed.

        Raises:
            RuntimeError: It was not started, or is disposed.
        """
        self._job.process.require(*STARTED)
        return self._job.process.fileno()

    @property
    def pid(self) -> int | None:
        """The process id of the child, None before the start."""
        return self._job.process.pid

    @property
    def name(self) -> str:
        """The name given, or one made up."""
        return self._job.process.name

    def dispose(self) -> None:
        """Release everything; at any time, any number of times.

        A child that still runs is killed and reaped. In a child that inherited
        the object only its own copy is released.

        Raises:
            Nothing.
        """
        self._job.dispose()
        self._body = None

    def __repr__(self) -> str:
        return f"<snakefish.Thread {self._job.process}>"
