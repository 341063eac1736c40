# SPDX-License-Identifier: MIT
"""Functions as users give them: what is under their wrappers, and checks.

A mistake in a call shall be seen where the call is written down, not in a child
that is started later.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from typing_extensions import TypeGuard

DECLARED = "__snakefish_shares__"
"""The attribute of a function in which `shares` keeps what is declared."""


def bound_call(
    f: Callable[..., Any], args: Iterable[Any], kwargs: Mapping[str, Any] | None
) -> Callable[[], Any]:
    """Return a function that calls *f* with these arguments.

    Raises:
        TypeError: *f* is not callable, or not with these arguments.
    """
    positional, named = tuple(args), dict(kwargs or {})
    if not positional and not named and is_plain(f):
        code = f.__code__
        if not (code.co_argcount or code.co_kwonlyargcount):
            return f
    check_arguments(f, *positional, **named)
    return functools.partial(f, *positional, **named)


def is_plain(f: object) -> TypeGuard[FunctionType]:
    """Whether *f* is a function with nothing attached to it: the usual case.

    There is then no wrapper to look under. To walk through layers or signatures that are
    not there touches many pages, each of which has to be made writable after a fork.
    """
    return type(f) is FunctionType and not f.__dict__


def check_arguments(f: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Check that *f* can be called like this, as far as that can be known.

    >>> check_arguments(lambda x: x, 1)
    >>> check_arguments(lambda x: x)
    Traceback (most recent call last):
        ...
    TypeError: missing a required argument: 'x'
    """
    if not callable(f):
        raise TypeError(f"a function is needed, not {type(f).__name__}")
    import inspect  # here, because hardly anybody needs it, and loading it takes milliseconds

    try:
        signature = inspect.signature(f)
    except (TypeError, ValueError):  # many builtins have none
        if isinstance(f, functools.partial):  # nor has one whose own arguments do not fit
            check_arguments(f.func, *f.args, **f.keywords)
        return
    signature.bind(*args, **kwargs)


def is_generator_function(f: object) -> bool:
    """Whether calling *f* makes a generator.

    >>> def numbers(upto):
    ...     yield from range(upto)
    >>> is_generator_function(functools.partial(numbers, 3))
    True
    """
    import inspect  # here, as only Generator asks this

    return any(inspect.isgeneratorfunction(layer) for layer in layers(f))


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
