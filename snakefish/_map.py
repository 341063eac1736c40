# SPDX-License-Identifier: MIT
"""map and starmap: a function over many items, on all cores."""

from __future__ import annotations

import builtins
import functools
import itertools
import operator
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Callable, TypeVar, cast, overload

from snakefish import _chunks, _workers
from snakefish._clock import deadline_after
from snakefish._cores import usable_cores
from snakefish._merging import Extract, Globals, Merge
from snakefish._progress import Progress, reporter
from snakefish._returns import returns
from snakefish._task import Task

if TYPE_CHECKING:
    from snakefish._sharing import OnError, Share

T = TypeVar("T")
R = TypeVar("R")

# More children than this at a time gain nothing on any machine.
_MOST_AT_ONCE = 256

# Items taken from an iterable at a time, unless it is of a kind that has an end.
_BLOCK = 1000

# What cannot change while children are forked, and so need not be copied.
_CONSTANT = (tuple, range, str, bytes)

_OPTIONS = (
    "extract",
    "merge",
    "concurrency",
    "chunksize",
    "timeout",
    "progress",
    "share",
    "on_error",
)


@overload
def map(
    f: Callable[[T], R],
    args: Iterable[T],
    concurrency: int = ...,
    chunksize: int = ...,
    *,
    extract: Extract | None = ...,
    merge: Merge | None = ...,
    timeout: float | None = ...,
    progress: Progress = ...,
    share: Share = ...,
    on_error: OnError = ...,
) -> list[R]: ...
@overload
def map(
    f: Callable[[T], R],
    args: Iterable[T],
    extract: Extract,
    merge: Merge,
    concurrency: int = ...,
    chunksize: int = ...,
    *,
    timeout: float | None = ...,
    progress: Progress = ...,
    share: Share = ...,
    on_error: OnError = ...,
) -> list[R]: ...
def map(f: Callable[[Any], Any], args: Iterable[Any], *rest: Any, **options: Any) -> list[Any]:
    """Return `[f(x) for x in args]`, computed in parallel.

    >>> from snakefish import map
    >>> map(lambda x: x * x, range(5))
    [0, 1, 4, 9, 16]

    The signatures are `map(f, args, concurrency=0, chunksize=0)` and
    `map(f, args, extract, merge, concurrency=0, chunksize=0)`; all of them may be
    given as keywords. *concurrency* is how many children run at once, by
    default the cores that this process may use. *chunksize* is how many items
    a child takes at a time, by default what fits. *args* is read to its end
    first; the items are inherited by the children and never pickled, results are.

    With *extract* and *merge*, as in Thread, each chunk is a child of its own,
    which sees the globals as they were at the call. They are merged in the order
    of the items, whoever is done first:

    >>> seen = []
    >>> def square(x):
    ...     seen.append(x)
    ...     return x * x
    >>> def extract(its_globals):
    ...     return {"seen": seen}
    >>> def merge(our_globals, extracted):
    ...     seen.extend(extracted["seen"])
    >>> map(square, [3, 4, 5], extract, merge, chunksize=1)
    [9, 16, 25]
    >>> seen
    [3, 4, 5]

    With *share* the variables that it names are left as the plain loop would have left
    them, for any *concurrency* and *chunksize*. It is a dict of names and `merges`; or
    names alone, a list or a string, for the default merge of each value. A name is
    that of a closure variable or a global of *f*, or `"Class.attribute"`, or
    `"package.module:name"`. What `shares` declares on *f* is shared as well:

    >>> from collections import Counter
    >>> from snakefish import merges
    >>> letters, words = Counter(), 0
    >>> def count(word):
    ...     global words
    ...     words += 1
    ...     letters.update(word)
    >>> map(count, ["abc", "bcd"], share={"words": merges.add, "letters": merges.count})
    [None, None]
    >>> words, letters
    (2, Counter({'b': 2, 'c': 2, 'a': 1, 'd': 1}))

    Without, a LostWriteWarning names variables that children changed for nothing.

    When *f* raises, the exception of the first such item surfaces, later items
    are given up, and the changes to globals are those that the plain loop
    would have made. With *share*, *on_error* may be `"drop"`: the chunk that failed
    contributes nothing; or `"rollback"`: nothing of the call is shared, after a
    conflict, a timeout or a Ctrl-C neither.

    *timeout* seconds are for the whole call. *progress* may be True, for tqdm or a
    line on stderr, or a function that is called with (done, total).

    Raises:
        TypeError: *f* is not callable, *args* not iterable, a number not an
            integer, or one of *extract* and *merge* is missing; *share* is no
            declaration, or a value, or what was done to it, is not for its merge.
        ValueError: A number is negative, or *on_error* is none of the three.
        NameError: A variable to share does not exist.
        MergeConflict: Two chunks, or one and the parent, changed the same of a variable.
        RuntimeError: A child died, with the items that it held, or a fork failed.
        TimeoutError: It was not done within *timeout* seconds.
        Whatever *f*, *extract* or *merge* raises.
    """
    return _run("map", functools.partial(builtins.map, f), f, _consumed(args), rest, options)


@overload
def starmap(
    f: Callable[..., R],
    args: Iterable[Iterable[Any]],
    concurrency: int = ...,
    chunksize: int = ...,
    *,
    extract: Extract | None = ...,
    merge: Merge | None = ...,
    timeout: float | None = ...,
    progress: Progress = ...,
    share: Share = ...,
    on_error: OnError = ...,
) -> list[R]: ...
@overload
def starmap(
    f: Callable[..., R],
    args: Iterable[Iterable[Any]],
    extract: Extract,
    merge: Merge,
    concurrency: int = ...,
    chunksize: int = ...,
    *,
    timeout: float | None = ...,
    progress: Progress = ...,
    share: Share = ...,
    on_error: OnError = ...,
) -> list[R]: ...
def starmap(
    f: Callable[..., Any], args: Iterable[Iterable[Any]], *rest: Any, **options: Any
) -> list[Any]:
    """Return `[f(*x) for x in args]`, computed in parallel.

    >>> from snakefish import starmap
    >>> starmap(pow, [(2, 5), (3, 2)])
    [32, 9]

    Everything else is as in `map`.

    Raises:
        TypeError: An item cannot be unpacked.
        The same as `map`, otherwise.
    """
    items = _consumed(args)
    if set(builtins.map(type, items)) != {tuple}:
        items = [tuple(_consumed(item)) for item in items]
    return _run("starmap", functools.partial(itertools.starmap, f), f, items, rest, options)


def _consumed(args: Iterable[T]) -> Sequence[T]:
    """Return *args* as a sequence that nobody will change.

    What may be endless is read in blocks: between two of them a Ctrl-C gets through.
    Inside of one it does not, if no bytecode runs there.
    """
    if type(args) in _CONSTANT:
        return cast("Sequence[T]", args)
    if type(args) is list:
        return args[:]
    iterator = iter(args)
    items: list[T] = []
    while True:
        block = list(itertools.islice(iterator, _BLOCK))
        items += block
        if len(block) < _BLOCK:
            return items


def _run(
    name: str,
    apply: Callable[[Sequence[Any]], Iterable[Any]],
    f: object,
    items: Sequence[Any],
    rest: tuple[Any, ...],
    options: dict[str, Any],
) -> list[Any]:
    """Run a call of map or starmap, whose arguments after the second are *rest* and *options*."""
    if not callable(f):
        raise TypeError(f"{name} needs a function, not {type(f).__name__}")
    given = _arguments(name, rest, options)
    called = f"{name}({getattr(f, '__name__', type(f).__name__)})"
    return _run_task(called, apply, f, items, sys._getframe(2).f_globals, **given)


def _run_task(
    name: str,
    apply: Callable[[Sequence[Any]], Iterable[Any]],
    f: object,
    items: Sequence[Any],
    caller: Globals,
    *,
    extract: Extract | None = None,
    merge: Merge | None = None,
    concurrency: int = 0,
    chunksize: int = 0,
    timeout: float | None = None,
    progress: Progress = None,
    share: Share = None,
    on_error: OnError = "sequential",
) -> list[Any]:
    plan = returns(f, extract, merge, share, on_error, caller)
    at_once = _number("concurrency", concurrency) or usable_cores()
    size = min(_number("chunksize", chunksize), len(items))
    deadline = deadline_after(timeout)
    if not items:
        return []
    with reporter(progress, len(items)) as report:
        at_once = min(at_once, len(items), _MOST_AT_ONCE)
        task = Task(name, apply, items, at_once, size, deadline, report)
        if plan.merging is None and plan.sharing is None:
            return _workers.run(task, plan.watch)
        return _chunks.run(task, plan)


def _arguments(name: str, rest: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
    """Return all arguments by name: the third one says which form is meant."""
    names = ["concurrency", "chunksize"]
    if rest and callable(rest[0]):
        names = ["extract", "merge", *names]
    if len(rest) > len(names):
        raise TypeError(f"{name} takes at most {len(names) + 2} arguments like these")
    given = dict(zip(names, rest))
    for option in options:
        if option in given or option not in _OPTIONS:
            problem = "twice" if option in given else "which it does not take"
            raise TypeError(f"{name} got {option!r} {problem}")
    return {**given, **options}


def _number(name: str, value: int) -> int:
    number = operator.index(value)
    if number < 0:
        raise ValueError(f"{name} must not be negative, like {number}")
    return number
