# SPDX-License-Identifier: MIT
"""share=: which variables come back from a child, and how.

    parent   begin     capture what has to be copied, once for all tasks of a call
    child    enter     capture the rest, and put the views in place
    child    changes   the deltas, as one message
    parent   commit    check every name, then apply all or none

Until the last commit of a call nothing of it is seen in the parent. Commits come in
the order in which the tasks were forked, and a task is committed whole: a conflict, or
anything raised on the way, leaves the parent as it was before that task.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Callable, Literal, NamedTuple, TypeVar, Union

from snakefish import merges
from snakefish._call import DECLARED, layers
from snakefish._epoch import epoch_of
from snakefish._errors import Conflict, MergeConflict, NotShareableError
from snakefish._place import Namespace, Place, find_place
from snakefish._undo import take_back
from snakefish.merges import Merge, Undo
from snakefish.merges._snapshot import is_immutable

Share = Union[Mapping[str, Merge], Iterable[str], str, None]
Function = TypeVar("Function", bound=Callable[..., Any])

OnError = Literal["sequential", "drop", "rollback"]

ON_ERROR = ("sequential", "drop", "rollback")


def shares(*names: str | Mapping[str, Merge], **declared: Merge) -> Callable[..., Any]:
    """Declare on a function what its variables come back by; it stays an ordinary function.

    >>> from snakefish import map, merges, shares
    >>> total = 0
    >>> @shares(total=merges.add)
    ... def count(n):
    ...     global total
    ...     total += n
    >>> map(count, range(5))
    [None, None, None, None, None]
    >>> total
    10

    Names alone, as strings, take the default merge of their value. What `share=`
    says at a call wins, name by name. Names that are no identifiers come in a dict.

    Raises:
        TypeError: What is declared is no merge.
    """
    together: dict[str, Merge | None] = {}
    for name in names:
        together.update(_by_name(name))
    together.update(_by_name(declared))

    def declare(function: Function) -> Function:
        setattr(function, DECLARED, {**getattr(function, DECLARED, {}), **together})
        return function

    return declare


def _by_name(share: Share) -> dict[str, Merge | None]:
    """Return a declaration as a dict; None stands for the default merge of the value.

    Raises:
        TypeError: It is none.
    """
    if share is None:
        return {}
    if isinstance(share, str):
        return dict.fromkeys(share.replace(",", " ").split())
    if isinstance(share, Mapping):
        for name, merge in share.items():
            _check(name)
            if not isinstance(merge, Merge):
                raise TypeError(f"share needs a merge for {name!r}, {_instead(merge)}")
        return dict(share)
    if isinstance(share, (bytes, Merge)) or not isinstance(share, Iterable):
        raise TypeError(f"share is a dict of names and merges, or names alone, not {share!r}")
    names = list(share)
    for name in names:
        _check(name)
    return dict.fromkeys(names)


def _check(name: object) -> None:
    if not (isinstance(name, str) and name.strip()):
        raise TypeError(f"share needs the names of variables, as strings, not {name!r}")


def _instead(given: Any) -> str:
    """Return what *given* is, and what was perhaps meant."""
    known = getattr(merges, given, None) if isinstance(given, str) else None
    if isinstance(known, Merge):
        return f"not {given!r}; did you mean merges.{given}?"
    if isinstance(given, type) and issubclass(given, Merge):
        return f"not the class of it: call {given.__name__}(...)"
    return f"not {given!r}"


def _declared_on(function: object) -> dict[str, Merge | None]:
    """Return what `shares` says on any layer of *function*, the outer ones last."""
    together: dict[str, Merge | None] = {}
    for layer in reversed(list(layers(function))):
        together.update(getattr(layer, DECLARED, None) or {})
    return together


# ------------------------------------------------------------- what is shared


class Variable(NamedTuple):
    """One shared variable, and how it is merged."""

    place: Place
    merge: Merge
    aliases: tuple[Place, ...] = ()
    """Where else the same object is shared."""


class Sharing:
    """The variables that the tasks of a call share, and what becomes of them after an error."""

    def __init__(self, variables: list[Variable], on_error: OnError) -> None:
        self.variables = variables
        self.on_error = on_error

    def brings_back(self) -> bool:
        """Whether anything that tasks do comes back."""
        return any(variable.merge != merges.private for variable in self.variables)

    def begin(self, tasks: int) -> Call:
        """Begin a call of *tasks* tasks."""
        return Call(self, tasks)


def sharing(function: object, share: Share, on_error: OnError, caller: Namespace) -> Sharing | None:
    """Return what *function* shares, by its declaration and by *share*; None for nothing.

    Raises:
        TypeError: *share* is no declaration, or a value is not for its merge.
        ValueError: *on_error* is none of the three.
        NameError: A variable does not exist.
    """
    if on_error not in ON_ERROR:
        raise ValueError(f"on_error is one of {', '.join(ON_ERROR)}, not {on_error!r}")
    declared = {**_declared_on(function), **_by_name(share)}
    variables = [_variable(name, merge, function, caller) for name, merge in declared.items()]
    return Sharing(_without_aliases(variables), on_error) if variables else None


def _variable(name: str, merge: Merge | None, function: object, caller: Namespace) -> Variable:
    place = find_place(name, function, caller)
    value = place.get()
    merge = merge or merges.default_for(value)
    refusal = merge.refusal(value)
    if refusal:
        raise NotShareableError(f"cannot share {name!r} by {merge.name()}: {refusal}")
    return Variable(place, merge)


def _without_aliases(variables: list[Variable]) -> list[Variable]:
    """Return each variable, and each object that several of them hold, once.

    Of what is immutable they share nothing by holding the same: each is assigned to.
    """
    kept: dict[object, Variable] = {}
    for variable in variables:
        value = variable.place.get()
        key = variable.place.key if is_immutable(value) else id(value)
        first = kept.setdefault(key, variable)
        if first.merge != variable.merge:
            raise NotShareableError(
                f"{first.place.name!r} and {variable.place.name!r} are the same object, "
                f"shared by {first.merge.name()} and by {variable.merge.name()}"
            )
        if first is not variable:
            kept[key] = first._replace(aliases=(*first.aliases, variable.place))
    return list(kept.values())


# ------------------------------------------------------------------- one call


class Call:
    """One call of *tasks* tasks, from before its first fork to after its last commit."""

    def __init__(self, sharing: Sharing, tasks: int = 1) -> None:
        self._variables = sharing.variables
        self._on_error = sharing.on_error
        self._epochs = [epoch_of(place) for place, *_ in self._variables]
        self._versions = [epoch.version for epoch in self._epochs]
        self._tokens: list[Any] = []
        try:
            for variable in self._variables:
                early = variable.merge.early
                self._tokens.append(_captured(variable) if early else None)
        except BaseException:
            self.close()
            raise
        self._bases: list[Any] = []
        self._done: list[Undo] = []
        self._left = tasks

    # --------------------------------------------------------------- the child

    def enter(self) -> None:
        """Prepare the variables for what the task will do to them."""
        # Kept, since letting go of a container touches all that is in it.
        self._bases = [variable.place.get() for variable in self._variables]
        for number, (place, merge, aliases) in enumerate(self._variables):
            base = self._bases[number]
            # Other threads may have committed to it between the capture and the fork.
            is_stale = self._epochs[number].version != self._versions[number]
            if is_stale or not merge.early:
                self._tokens[number] = merge.capture(base)
            view = merge.view(base)
            for one in (place, *aliases) if view is not base else ():
                one.set(view)

    def deltas(self, failed: bool) -> dict[int, Any]:
        """Return what the task changed, by the number of the variable.

        Raises:
            NotShareableError: A change is not one that its merge is for.
        """
        return {} if failed and self._on_error != "sequential" else dict(self._deltas())

    def _deltas(self) -> Iterator[tuple[int, Any]]:
        for number, (place, merge, _) in enumerate(self._variables):
            try:
                delta = merge.diff(self._tokens[number], place.get())
            except Exception as error:
                raise NotShareableError(f"{place.name}: {_sentence(error)}") from error
            if delta is not None:
                yield number, delta

    def refused(self, deltas: Mapping[int, Any], error: BaseException) -> BaseException:
        """Return the *error* of pickling all *deltas* as one that names the variable."""
        for number, delta in deltas.items():
            try:
                pickle.dumps(delta, pickle.HIGHEST_PROTOCOL)
            except Exception as reason:
                name = self._variables[number].place.name
                named = NotShareableError(
                    f"{name}: what the task did cannot be pickled: {_sentence(reason)}"
                )
                named.__cause__ = reason
                return named
        return error

    # -------------------------------------------------------------- the parent

    def commit(self, task: str, deltas: Mapping[int, Any], undo: Undo) -> None:
        """Bring in what *task* changed; after an exception, *undo* takes it all back.

        Raises:
            MergeConflict: It contradicts what others did.
            Whatever a merge, or a comparison of values, raises.
        """
        if self._on_error == "rollback":
            self._done.append(undo)
        conflicts = [one for number in deltas for one in self._conflicts(task, number, deltas)]
        if conflicts:
            raise MergeConflict(task, conflicts)
        for number in deltas:
            undo.append(self._epochs[number].turn)
            self._epochs[number].turn()
        try:
            for number, delta in deltas.items():
                self._apply(number, delta, undo)
        finally:
            for number in deltas:
                self._epochs[number].turn()
        for number, delta in deltas.items():
            self._epochs[number].note(task, self._variables[number].merge, delta)

    def _conflicts(self, task: str, number: int, deltas: Mapping[int, Any]) -> Iterator[Conflict]:
        place, merge, _ = self._variables[number]
        for clash in merge.clashes(self._tokens[number], place.get(), deltas[number]):
            writer = self._epochs[number].writer_of(clash.key)
            yield Conflict(place.name, clash.key, clash.current, clash.theirs, (writer, task))

    def _apply(self, number: int, delta: Any, undo: Undo) -> None:
        place, merge, _ = self._variables[number]
        current = place.get()
        value = self._epochs[number].value_with(current, merge, delta, undo)
        if value is not current:
            undo.append(place.way_back())
            place.set(value)

    def roll_back(self) -> None:
        """Take back every commit of this call."""
        while self._done:
            take_back(self._done[-1])
            self._done.pop()

    def leave(self) -> None:
        """End one task."""
        self._left -= 1
        if self._left <= 0:
            self.close()

    def close(self) -> None:
        """End all tasks: the next call begins afresh."""
        for (_, merge, _), token in zip(self._variables, self._tokens):
            if merge.early:
                merge.release(token)
        self._tokens = []
        for epoch in self._epochs:
            epoch.leave()
        self._epochs = []


def _captured(variable: Variable) -> Any:
    try:
        return variable.merge.capture(variable.place.get())
    except TypeError as error:
        what = f"{variable.place.name!r} by {variable.merge.name()}"
        raise NotShareableError(f"cannot share {what}: {error}") from error


def _sentence(error: BaseException) -> str:
    return str(error) or type(error).__name__
