# SPDX-License-Identifier: MIT
"""Exceptions: one base, and the builtin that the documents name."""

from __future__ import annotations

import builtins
from typing import Any, Callable

import pytest

import snakefish
from snakefish import Channel, Generator, SnakefishError, Thread


def exception_classes() -> list[type[BaseException]]:
    """Every exception class that the package offers or raises."""
    pending, found = [SnakefishError], []
    while pending:
        kind = pending.pop()
        found.append(kind)
        pending.extend(kind.__subclasses__())
    return found[1:]


def started() -> Thread:
    thread = Thread(int)
    thread.start()
    return thread


def empty(channel: Channel) -> None:
    channel.receive_pyobj(False)


def ended(channel: Channel) -> None:
    channel.close()
    channel.receive_pyobj()


def too_large(channel: Channel) -> None:
    channel.send_bytes(bytes(5000))


def too_late(channel: Channel) -> None:
    channel.receive_pyobj(timeout=0.001)


def disposed(channel: Channel) -> None:
    channel.dispose()
    channel.send_pyobj(1)


def closed(channel: Channel) -> None:
    channel.close()
    channel.send_pyobj(1)


class TestClasses:
    """The exception classes."""

    def test_there_is_one_base(self) -> None:
        """SnakefishError is an Exception and the base of several classes."""
        assert issubclass(SnakefishError, Exception)
        assert len(exception_classes()) >= 4

    @pytest.mark.parametrize("builtin", [OverflowError, IndexError, RuntimeError, TimeoutError])
    def test_each_named_builtin_has_its_class(self, builtin: type[BaseException]) -> None:
        """For every builtin that is promised there is a class that derives from both."""
        assert any(issubclass(kind, builtin) for kind in exception_classes())

    def test_each_class_derives_from_a_builtin(self) -> None:
        """Every class that is raised derives from a builtin more telling than Exception."""
        standard = tuple(
            kind
            for kind in vars(builtins).values()
            if isinstance(kind, type) and issubclass(kind, Exception) and kind is not Exception
        )
        raised = [kind for kind in exception_classes() if "Traceback" not in kind.__name__]
        assert [kind for kind in raised if not issubclass(kind, standard)] == []

    def test_each_class_that_is_offered_derives_from_the_base(self) -> None:
        """The warnings among them, which a filter may turn into errors, as well."""
        offered = (getattr(snakefish, name) for name in snakefish.__all__)
        exceptions = [
            kind for kind in offered if isinstance(kind, type) and issubclass(kind, BaseException)
        ]
        assert [kind for kind in exceptions if not issubclass(kind, SnakefishError)] == []

    def test_the_base_is_offered(self) -> None:
        """SnakefishError is a public name."""
        assert "SnakefishError" in snakefish.__all__


@pytest.mark.parametrize(
    ("use", "builtin"),
    [
        (empty, IndexError),
        (ended, EOFError),
        (too_large, OverflowError),
        (too_late, TimeoutError),
        (disposed, RuntimeError),
        (closed, BrokenPipeError),
    ],
)
class TestBothKindsOfExcept:
    """except SnakefishError and except the builtin catch the same."""

    def test_the_builtin_catches_it(self, use: Callable[[Channel], None], builtin: Any) -> None:
        """A program written with builtins alone works."""
        with Channel(4096) as channel, pytest.raises(builtin) as caught:
            use(channel)
        assert str(caught.value)

    def test_the_base_catches_it(self, use: Callable[[Channel], None], builtin: Any) -> None:
        """A program that catches everything of ours works."""
        with Channel(4096) as channel, pytest.raises(SnakefishError):
            use(channel)


class TestMisuse:
    """A method called in the wrong state."""

    @pytest.mark.parametrize("method", ["join", "try_join", "get_exit_status", "get_result"])
    def test_of_an_unstarted_thread_is_both(self, method: str) -> None:
        """It is a RuntimeError and a SnakefishError, with a sentence."""
        with Thread(int) as thread, pytest.raises(RuntimeError) as caught:
            getattr(thread, method)()
        assert isinstance(caught.value, SnakefishError)
        assert len(str(caught.value).split()) > 2

    @pytest.mark.parametrize("method", ["next", "join", "try_join", "get_exit_status"])
    def test_of_an_unstarted_generator_is_both(self, method: str) -> None:
        """It is a RuntimeError and a SnakefishError, with a sentence."""

        def f() -> Any:
            yield 1

        with Generator(f) as generator, pytest.raises(RuntimeError) as caught:
            getattr(generator, method)()
        assert isinstance(caught.value, SnakefishError)
        assert len(str(caught.value).split()) > 2

    def test_of_a_started_thread_is_both(self) -> None:
        """A second start is a RuntimeError and a SnakefishError."""
        with started() as thread, pytest.raises(RuntimeError) as caught:
            thread.start()
        assert isinstance(caught.value, SnakefishError)

    def test_of_no_generator_function_is_both(self) -> None:
        """The constructor's RuntimeError is a SnakefishError, too."""
        with pytest.raises(RuntimeError) as caught:
            Generator(int)
        assert isinstance(caught.value, SnakefishError)
