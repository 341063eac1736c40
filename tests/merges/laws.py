# SPDX-License-Identifier: MIT
"""The laws of `snakefish.testing`, tried by Hypothesis on what a test class describes.

Domains are tiny, ints from -3 to 3 and six keys: in wide ones two tasks hardly ever meet at the
same key with the same value, and the counterexamples are there.
"""

from __future__ import annotations

import copy
import pickle
from typing import Any, Callable, ClassVar

from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from snakefish.merges import Merge
from snakefish.testing import LAWS, Case

INTS = st.integers(-3, 3)
KEYS = st.sampled_from("abcdef")

tiny = settings(
    max_examples=60,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

search = settings(tiny, max_examples=4000, phases=[Phase.generate])
"""For counterexamples that exist: it ends with the first, however large that is."""


class Operation:
    """A step that can be read in a counterexample."""

    def __init__(self, text: str, function: Callable[[Any], Any]) -> None:
        self.text = text
        self.function = function

    def __call__(self, value: Any) -> Any:
        return self.function(value)

    def __repr__(self) -> str:
        return self.text


def steps(text: str, function: Callable[..., Any], *arguments: st.SearchStrategy[Any]) -> Any:
    """Operations that apply *function* to the value and drawn arguments."""

    def make(drawn: tuple[Any, ...]) -> Operation:
        shown = text.format(*map(repr, drawn))
        return Operation(shown, lambda value: function(value, *copy.deepcopy(drawn)))

    return st.tuples(*arguments).map(make)


def broken(law: str, case: Case) -> Any:
    """What is wrong with a law in a case, None if nothing."""
    return LAWS[law](case)


class Laws:
    """A test for each law. Those in *fails* must have a counterexample, and so must
    agreement, that two tasks which did the same are as one, if *agrees* is False."""

    merge: ClassVar[Merge]
    bases: ClassVar[Any]
    operations: ClassVar[Any]
    fails: ClassVar[frozenset[str]] = frozenset()
    agrees: ClassVar[bool | None] = None
    idle_is_none: ClassVar[bool] = True

    def _try(self, law: str, data: Any) -> None:
        if law in self.fails:
            return
        base, here, there = data.draw(self._cases())
        assert broken(law, Case(self.merge, base, here, there)) is None

    def _cases(self) -> Any:
        operations = st.lists(self.operations, max_size=4)
        return st.tuples(self.bases, operations, operations)

    def test_what_is_said_to_fail_does(self) -> None:
        """A law that a merge is known to break has a counterexample."""
        for law in self.fails:
            find(
                self._cases(),
                lambda drawn, law=law: broken(law, Case(self.merge, *drawn)),
                settings=search,
            )

    def test_agreement(self) -> None:
        """Two tasks that did the same are as one: always, or not always, as the class says."""
        if self.agrees is None:
            return
        try:
            find(
                self._cases(),
                lambda drawn: not agree(self.merge, drawn[0], drawn[1]),
                settings=tiny if self.agrees else search,
            )
        except NoSuchExample:
            assert self.agrees
        else:
            assert not self.agrees

    @tiny
    @given(data=st.data())
    def test_round_trip(self, data: Any) -> None:
        """What a task did comes back."""
        self._try("the round trip", data)

    @tiny
    @given(data=st.data())
    def test_idle_task_changes_nothing(self, data: Any) -> None:
        """A task that did nothing has no delta."""
        self._try("the idle task", data)
        if self.idle_is_none:
            base = data.draw(self.bases)
            token = self.merge.capture(base)
            assert self.merge.diff(token, self.merge.view(base)) is None

    @tiny
    @given(data=st.data())
    def test_idle_parent_clashes_with_nothing(self, data: Any) -> None:
        """Where nobody else did anything, there is no conflict."""
        self._try("the idle parent", data)

    @tiny
    @given(data=st.data())
    def test_replay(self, data: Any) -> None:
        """Merging is doing the same again, or a conflict."""
        self._try("replay", data)

    @tiny
    @given(data=st.data())
    def test_undo(self, data: Any) -> None:
        """What an apply did can be taken back."""
        self._try("undo", data)

    @tiny
    @given(data=st.data())
    def test_transport(self, data: Any) -> None:
        """A delta means the same after pickling."""
        self._try("transport", data)

    @tiny
    @given(data=st.data())
    def test_commuting(self, data: Any) -> None:
        """Commits in any order give the same, where that is claimed."""
        self._try("commuting", data)

    @tiny
    @given(data=st.data())
    def test_nesting(self, data: Any) -> None:
        """What a task's own task did is in its delta."""
        if "the round trip" in self.fails:
            return
        operations = st.lists(self.operations, max_size=3)
        base, outer, inner = data.draw(st.tuples(self.bases, operations, operations))
        assert nested(self.merge, base, outer, inner) == flat(self.merge, base, outer, inner)

    @tiny
    @given(data=st.data())
    def test_clashes_change_nothing(self, data: Any) -> None:
        """Looking for conflicts is pure: value, token and delta are what they were."""
        base, here, there = data.draw(self._cases())
        token = self.merge.capture(base)
        delta = task(self.merge, base, token, there)
        if delta is None:
            return
        current = run(here, base)
        before = pickle.dumps(current), copy.deepcopy(delta)
        first = list(self.merge.clashes(token, current, delta))
        assert first == list(self.merge.clashes(token, current, delta))
        assert (pickle.dumps(current), delta) == before


def run(operations: Any, value: Any) -> Any:
    """The value after all operations."""
    for operation in operations:
        result = operation(value)
        value = value if result is None else result
    return value


def task(merge: Merge, base: Any, token: Any, operations: Any) -> Any:
    """The delta of a task."""
    token, value = copy.deepcopy((token, base))
    return merge.diff(token, run(operations, merge.view(value)))


def agree(merge: Merge, base: Any, operations: Any) -> bool:
    """Whether two tasks with the same operations leave what one leaves, without a clash."""
    token = merge.capture(base)
    delta = task(merge, base, token, operations)
    if delta is None:
        return True
    once = merge.apply(copy.deepcopy(base), delta, [])
    before = copy.deepcopy(once)
    return not list(merge.clashes(token, once, delta)) and merge.apply(once, delta, []) == before


def nested(merge: Merge, base: Any, outer: Any, inner: Any) -> Any:
    """The value after a task that did *outer* and whose own task did *inner*."""
    token, value = copy.deepcopy((merge.capture(base), base))
    value = run(outer, merge.view(value))
    inside = task(merge, value, merge.capture(value), inner)
    if inside is not None:
        value = merge.apply(value, inside, [])
    delta = merge.diff(token, value)
    return merge.apply(copy.deepcopy(base), delta, []) if delta is not None else base


def flat(merge: Merge, base: Any, outer: Any, inner: Any) -> Any:
    """The value after a task that did all of it itself."""
    delta = task(merge, base, merge.capture(base), [*outer, *inner])
    return merge.apply(copy.deepcopy(base), delta, []) if delta is not None else base
