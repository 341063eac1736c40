# SPDX-License-Identifier: MIT
"""Objects and exceptions that do not travel well from one process to another."""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

HOME = os.getpid()


def _fail_to_rebuild() -> NoReturn:
    raise LookupError("cannot be rebuilt")


def _leave() -> NoReturn:
    sys.exit("left while rebuilding")


def _interrupt() -> NoReturn:
    raise KeyboardInterrupt


class FailsToPickle:
    """Raises while it is pickled."""

    def __reduce__(self) -> NoReturn:
        raise ZeroDivisionError("cannot be pickled")


class FailsToRebuild:
    """Raises while it is unpickled."""

    def __reduce__(self) -> Any:
        return _fail_to_rebuild, ()


class LeavesOnRebuild:
    """Calls sys.exit while it is unpickled."""

    def __reduce__(self) -> Any:
        return _leave, ()


class InterruptsOnRebuild:
    """Raises KeyboardInterrupt while it is unpickled."""

    def __reduce__(self) -> Any:
        return _interrupt, ()


class DiesInPickling:
    """Kills the process that pickles it."""

    def __reduce__(self) -> NoReturn:
        os._exit(9)


class Complaint(Exception):
    """An ordinary exception of the user's, with an attribute."""

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text, code)
        self.code = code


class BeyondException(BaseException):
    """Derives from BaseException alone."""


class CarriesALambda(Exception):
    """Cannot be pickled for one of its attributes."""

    def __init__(self) -> None:
        super().__init__("carries a lambda")
        self.callback = lambda: None


class WantsTwo(Exception):
    """Is pickled but not rebuilt: its constructor wants more than its args."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first + second)


class WantsKeyword(Exception):
    """Is pickled but not rebuilt: its constructor wants a keyword."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")


class BadReduce(Exception):
    """Raises while it is pickled."""

    def __reduce__(self) -> NoReturn:
        raise ZeroDivisionError("cannot be pickled")


class RefusesItsParent(Exception):
    """Can be rebuilt in the process that raised it, and not at home."""

    def __init__(self, text: str = "refuses its parent") -> None:
        if os.getpid() == HOME:
            raise ValueError("not here")
        super().__init__(text)


class LeavesItsParent(Exception):
    """Calls sys.exit when it is rebuilt at home."""

    def __init__(self, text: str = "leaves its parent") -> None:
        if os.getpid() == HOME:
            sys.exit("not here")
        super().__init__(text)


class CannotBeShown(Exception):
    """Raises when it is turned into text."""

    def __str__(self) -> NoReturn:
        raise ZeroDivisionError("cannot be shown")


def local_exception() -> Exception:
    """An exception of a class that no other process can import."""

    class Local(Exception):
        pass

    return Local("local")


UNTRAVELLED = [
    CarriesALambda,
    lambda: WantsTwo("a", "b"),
    lambda: WantsKeyword(code=3),
    BadReduce,
    local_exception,
    RefusesItsParent,
    LeavesItsParent,
]
UNTRAVELLED_NAMES = [
    "CarriesALambda",
    "WantsTwo",
    "WantsKeyword",
    "BadReduce",
    "Local",
    "RefusesItsParent",
    "LeavesItsParent",
]
"""Makers of exceptions that cannot be carried over, and their class names."""
