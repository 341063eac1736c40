# SPDX-License-Identifier: MIT
"""The outcome of a function as a message: a value or an exception, always something."""

from __future__ import annotations

import traceback
from typing import Any, NoReturn

import pytest
from troubles import BeyondException, CannotBeShown, Complaint, FailsToPickle, FailsToRebuild

from snakefish import SnakefishError
from snakefish._codec import ENCODING, FOR_OTHERS, IN_PLACE, encode
from snakefish._outcome import (
    END,
    EXTRACTED,
    RAISED,
    SHARED,
    Outcome,
    apart,
    raised,
    returned,
    together,
    value_of,
)


def whole(outcome: Any) -> bytes:
    """The bytes of an outcome as they would arrive."""
    if isinstance(outcome.data, bytes):
        return outcome.data
    return b"".join(bytes(part) for part in outcome.data)


def caught(f: Any) -> BaseException:
    """What f raises."""
    try:
        f()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def test_the_bits_of_a_tag_have_one_meaning_each() -> None:
    """What says how a function ended does not say how its value was encoded."""
    for bit in (RAISED, EXTRACTED, END, SHARED):
        assert bit & FOR_OTHERS == bit
    assert FOR_OTHERS & (ENCODING | IN_PLACE) == 0


class TestReturned:
    """returned(value)."""

    @pytest.mark.parametrize("value", [None, 1, "text", [1], ValueError("v")], ids=repr)
    def test_gives_the_value_back(self, value: Any) -> None:
        """The message carries the value."""
        outcome = returned(value)
        assert repr(value_of(outcome.tag, whole(outcome))) == repr(value)
        assert outcome.status == 0

    def test_of_what_cannot_be_pickled_is_the_error(self) -> None:
        """A failure of pickle is an outcome like any other, with status 0."""
        outcome = returned(FailsToPickle())
        assert outcome.status == 0
        with pytest.raises(ZeroDivisionError):
            value_of(outcome.tag, whole(outcome))

    def test_of_what_cannot_be_rebuilt_raises_where_it_is_asked_for(self) -> None:
        """The failure to unpickle belongs to who asks for the value."""
        outcome = returned(FailsToRebuild())
        with pytest.raises(LookupError):
            value_of(outcome.tag, whole(outcome))


class TestRaised:
    """raised(error)."""

    @pytest.mark.parametrize(
        "error", [ValueError("v", 2), Complaint("c", 3), BeyondException("b"), KeyError("k")],
        ids=repr,
    )  # fmt: skip
    def test_gives_the_exception_back(self, error: BaseException) -> None:
        """The message raises the same class with the same arguments."""
        outcome = raised(error)
        again = caught(lambda: value_of(outcome.tag, whole(outcome)))
        assert (type(again), again.args) == (type(error), error.args)

    def test_makes_a_new_exception_every_time(self) -> None:
        """Raised twice, it is two objects: no traceback grows."""
        outcome = raised(ValueError("v"))
        first = caught(lambda: value_of(outcome.tag, whole(outcome)))
        assert caught(lambda: value_of(outcome.tag, whole(outcome))) is not first

    def test_carries_the_traceback_as_its_cause(self) -> None:
        """The text of the traceback is what the cause prints."""

        def deep_inside() -> NoReturn:
            raise Complaint("far away")

        outcome = raised(caught(deep_inside))
        again = caught(lambda: value_of(outcome.tag, whole(outcome)))
        shown = "".join(traceback.format_exception(type(again), again, again.__traceback__))
        assert "deep_inside" in str(again.__cause__)
        assert "deep_inside" in shown
        assert "Complaint" in shown

    @pytest.mark.parametrize(
        ("code", "status"), [(None, 0), (0, 0), (7, 7), (256, 0), (-1, 255), ("text", 1), (1.5, 1)]
    )
    def test_status_of_system_exit_is_as_sys_exit_defines_it(self, code: Any, status: int) -> None:
        """None is 0, numbers are themselves modulo 256, anything else is 1."""
        assert raised(SystemExit(code)).status == status

    def test_status_of_other_exceptions_is_zero(self) -> None:
        """An exception is a result; the child ends well."""
        assert raised(KeyboardInterrupt()).status == 0
        assert raised(ValueError()).status == 0

    def test_of_what_cannot_be_shown_does_not_fail(self) -> None:
        """An exception without a text is still told."""
        outcome = raised(CannotBeShown())
        again = caught(lambda: value_of(outcome.tag, whole(outcome)))
        assert isinstance(again, (CannotBeShown, SnakefishError))


class TestTogether:
    """together(changes, outcome), and apart(...)."""

    @staticmethod
    def arrived(changes: Outcome, outcome: Outcome) -> list[tuple[int, Any]]:
        """The messages that come out where those for the two went in."""
        return [one for sent in together(changes, outcome) for one in apart(sent.tag, whole(sent))]

    @pytest.mark.parametrize("value", [5, "text", b"", [1, 2]], ids=repr)
    def test_small_ones_are_one_message(self, value: Any) -> None:
        """From which both come back."""
        changes = Outcome(*encode({0: 1}))
        assert len(together(changes, returned(value))) == 1
        (tag, data), outcome = self.arrived(changes, returned(value))
        assert tag & SHARED
        assert value_of(tag & ~SHARED, data) == {0: 1}
        assert value_of(*outcome) == value

    @pytest.mark.parametrize("value", [b"x" * (1 << 20), bytearray(b"x")], ids=["long", "in place"])
    def test_large_ones_are_not_copied(self, value: Any) -> None:
        """They are two messages, and the outcome is the last."""
        changes = Outcome(*encode({0: 1}))
        assert len(together(changes, returned(value))) == 2
        (tag, _), outcome = self.arrived(changes, returned(value))
        assert tag & SHARED
        assert value_of(*outcome) == value

    def test_exceptions_stay_exceptions(self) -> None:
        """On either side."""
        (first, _), (second, _) = self.arrived(raised(KeyError("a")), raised(ValueError("b")))
        assert first & SHARED
        assert first & RAISED
        assert second & RAISED
