# SPDX-License-Identifier: MIT
"""Functions as users give them: what is under their wrappers, and what is declared there."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import TypeGuard

DECLARED = "__snakefish_shares__"
"""The attribute of a function in which `shares` keeps what is declared."""


def is_plain(f: object) -> TypeGuard[FunctionType]:
    """Whether *f* is a function with nothing attached to it: the usual case.

    There is then no wrapper to look under. To walk through layers or signatures that are
    not there touches many pages, each of which has to be made writable after a fork.
    """
    return type(f) is FunctionType and not f.__dict__


def shares_something(f: object) -> bool:
    """Whether `shares` has declared something on *f*, or on what is under its wrappers."""
    return not is_plain(f) and any(getattr(layer, DECLARED, None) for layer in layers(f))


def layers(function: Any) -> Iterator[Any]:
    """Yield *function* and what is under its partials, wrappers, methods and objects.

    >>> class Doubler:
    ...     def __call__(self, x):
    ...         return 2 * x
    >>> doubler = Doubler()
    >>> list(layers(functools.partial(doubler, 3)))[1:] == [doubler, Doubler.__call__]
    True
    """
    seen: set[int] = set()
    while id(function) not in seen:
        seen.add(id(function))
        yield function
        if isinstance(function, functools.partial):
            function = function.func
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif hasattr(function, "__func__"):
            function = function.__func__
        elif not hasattr(function, "__globals__"):
            function = getattr(type(function), "__call__", function)  # noqa: B004
