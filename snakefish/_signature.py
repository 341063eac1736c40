# SPDX-License-Identifier: MIT
"""Whether functions as users give them can be called as they will be.

A mistake in a call shall be seen where the call is written down, not in a child
that is started later. It takes `inspect`, which takes milliseconds to load, so this is
apart from what `map` needs.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Mapping
from typing import Any, Callable

from snakefish._call import is_plain, layers


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
    return any(inspect.isgeneratorfunction(layer) for layer in layers(f))
