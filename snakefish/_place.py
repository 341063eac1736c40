# SPDX-License-Identifier: MIT
"""Where a shared variable lives, and how the user names it.

A name is that of a closure variable or of a global of the function's module; with
dots, of an attribute of one, `"Class.attribute"`; with a colon, of something in
another module, `"package.module:name"`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any, Callable, NamedTuple

from snakefish._call import is_plain, layers

Namespace = dict[str, Any]


class Place(NamedTuple):
    """One variable: the name that its user gave it, and how to get at it."""

    name: str
    key: tuple[int, str]
    """The same for the same variable, whatever it was called."""

    get: Callable[[], Any]
    set: Callable[[Any], None]
    owner: Any = None
    """The object of which it is an attribute."""

    def way_back(self) -> Callable[[], None]:
        """Return what puts back what is there now; it may be called several times."""
        current = self.get()
        attribute = self.key[1]
        if self.owner is None or attribute in getattr(self.owner, "__dict__", ()):
            return lambda: self.set(current)
        return lambda: _uncover(self.owner, attribute, current)


def find_place(name: str, function: object, caller: Namespace) -> Place:
    """Return the place that *name* means to *function*; *caller* for what has no globals.

    Raises:
        NameError: There is no such variable, or it has no value yet.
    """
    module, colon, path = name.rpartition(":")
    first, *attributes = path.split(".")
    if colon:
        owner: Any = _module(module, name)
        attributes = [first, *attributes]
    else:
        place = _variable(first, name, function, caller)
        if not attributes:
            return place
        owner = place.get()
    for attribute in attributes[:-1]:
        owner = _attribute(owner, attribute, name)
    _attribute(owner, attributes[-1], name)
    return _attribute_place(name, owner, attributes[-1])


def namespace_of(function: object, caller: Namespace) -> Namespace:
    """Return the globals of what is innermost in *function*, or *caller* if nothing has any."""
    if is_plain(function):
        return function.__globals__
    return next(_namespaces(function), caller)


def _namespaces(function: object) -> Iterator[Namespace]:
    """Yield the globals of *function* and its wrappers, the innermost first."""
    for layer in reversed(list(layers(function))):
        found: Namespace | None = getattr(layer, "__globals__", None)  # None on PyPy's builtins
        if found is not None:
            yield found


def closure_of(function: object) -> dict[str, Any]:
    """Return the cells of the closure variables of *function*, by name."""
    if is_plain(function) and not function.__closure__:
        return {}
    found: dict[str, Any] = {}
    for layer in layers(function):
        names = getattr(getattr(layer, "__code__", None), "co_freevars", ())  # not PyPy's builtins
        if names:
            found.update(zip(names, layer.__closure__ or ()))
    return found


def _variable(variable: str, name: str, function: object, caller: Namespace) -> Place:
    cells = closure_of(function)
    if variable in cells:
        return _cell_place(name, variable, cells[variable])
    namespaces = list(_namespaces(function)) or [caller]
    for namespace in namespaces:
        if variable in namespace:
            return _global_place(name, variable, namespace)
    known = [*cells, *(known for namespace in namespaces for known in namespace)]
    problem = f"no closure variable or global of the function is called {variable!r}"
    raise NameError(f"cannot share {name!r}: {problem}{_hint(variable, known)}")


def _hint(wanted: str, known: Iterable[str]) -> str:
    import difflib  # here, as mistakes are rare and the modules for them not small

    near = difflib.get_close_matches(wanted, list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _module(module: str, name: str) -> ModuleType:
    import importlib

    try:
        return importlib.import_module(module)
    except (ModuleNotFoundError, ValueError) as error:  # an empty name is a ValueError
        if isinstance(error, ModuleNotFoundError) and not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is there, and misses another one
        raise NameError(f"cannot share {name!r}: there is no module {module!r}") from None


def _attribute(owner: Any, attribute: str, name: str) -> Any:
    try:
        return getattr(owner, attribute)
    except AttributeError:
        who = getattr(owner, "__name__", f"an object of class {type(owner).__name__}")
        problem = f"{who} has no {attribute!r}{_hint(attribute, dir(owner))}"
        raise NameError(f"cannot share {name!r}: {problem}") from None


def _global_place(name: str, variable: str, namespace: Namespace) -> Place:
    def get() -> Any:
        try:
            return namespace[variable]
        except KeyError:
            raise NameError(f"cannot share {name!r}: it was deleted") from None

    def put(value: Any) -> None:
        namespace[variable] = value

    return Place(name, (id(namespace), variable), get, put)


def _cell_place(name: str, variable: str, cell: Any) -> Place:
    def get() -> Any:
        try:
            return cell.cell_contents
        except ValueError:
            raise NameError(f"cannot share {name!r}: it has no value yet") from None

    def put(value: Any) -> None:
        cell.cell_contents = value

    return Place(name, (id(cell), variable), get, put)


def _attribute_place(name: str, owner: Any, attribute: str) -> Place:
    """Return the place of an attribute; one of a module is the global of that name."""
    space = vars(owner) if isinstance(owner, ModuleType) else owner
    return Place(
        name,
        (id(space), attribute),
        lambda: getattr(owner, attribute),
        lambda value: setattr(owner, attribute, value),
        owner,
    )


def _uncover(owner: Any, attribute: str, inherited: Any) -> None:
    """Take away an attribute of *owner* that hides the one it inherits."""
    if attribute in getattr(owner, "__dict__", ()):
        delattr(owner, attribute)
    elif getattr(owner, attribute) is not inherited:  # a property's, or a slot
        setattr(owner, attribute, inherited)
