# SPDX-License-Identifier: MIT
"""Where a variable lives that the user names."""

from __future__ import annotations

import functools
import sys
import types
from typing import Any

import pytest

from snakefish._place import find_place, namespace_of

value = 1


class Outer:
    """Has an attribute, and a class with another one."""

    value = 2

    class Inner:
        value = 3


def plain() -> int:
    return value


def make_module(name: str, source: str) -> types.ModuleType:
    module = types.ModuleType(name)
    exec(source, module.__dict__)
    return module


class TestFindPlace:
    """find_place(name, function, caller)."""

    def test_of_a_global_is_read_and_written_in_the_functions_module(self) -> None:
        """Not in the module that asks."""
        module = make_module("elsewhere", "value = 10\ndef f(): return value")
        place = find_place("value", module.f, globals())
        assert place.get() == 10
        place.set(11)
        assert (module.value, module.f(), value) == (11, 11, 1)

    def test_of_a_closure_variable_is_its_cell(self) -> None:
        """It hides a global of the same name."""
        value = 20

        def f() -> int:
            nonlocal value
            return value

        place = find_place("value", f, globals())
        place.set(place.get() + 1)
        assert (value, f()) == (21, 21)

    @pytest.mark.parametrize("name", ["Outer.value", f"{__name__}:Outer.value"])
    def test_of_an_attribute(self, name: str) -> None:
        """With dots, from a global of the function or of a module."""
        place = find_place(name, plain, {})
        assert place.get() == 2
        place.set(5)
        assert Outer.value == 5
        place.set(2)

    def test_goes_any_number_of_dots_deep(self) -> None:
        """Every part but the last is only looked at."""
        assert find_place("Outer.Inner.value", plain, {}).get() == 3

    def test_of_a_module_is_imported_if_need_be(self) -> None:
        """`package.module:name` needs no import statement."""
        place = find_place("xml.sax.handler:version", plain, {})
        assert place.get() == sys.modules["xml.sax.handler"].version

    def test_an_import_that_fails_for_another_reason_says_so(self, tmp_path: Any) -> None:
        """A module that is there and misses another one is not reported as missing."""
        (tmp_path / "needy_module.py").write_text("import surely_not_there")
        sys.path.insert(0, str(tmp_path))
        try:
            with pytest.raises(ModuleNotFoundError, match="surely_not_there"):
                find_place("needy_module:x", plain, {})
        finally:
            sys.path.remove(str(tmp_path))

    def test_has_one_key_by_whatever_name(self) -> None:
        """A global is the same variable as the attribute of its module."""
        names = ["value", f"{__name__}:value", "sys.modules"]
        keys = [find_place(name, plain, {}).key for name in names]
        assert keys[0] == keys[1] != keys[2]

    def test_of_a_builtin_is_in_the_callers_module(self) -> None:
        """What has no globals takes those of whoever calls."""
        assert find_place("value", len, globals()).get() == 1

    def test_of_a_variable_without_a_value_is_a_name_error(self) -> None:
        """A cell that is empty yet cannot be shared."""

        def f() -> Any:
            return later

        with pytest.raises(NameError, match="'later': it has no value yet"):
            find_place("later", f, {}).get()
        later = 1
        assert find_place("later", f, {}).get() == 1

    @pytest.mark.parametrize(
        ("name", "says"),
        [
            ("valeu", "no closure variable or global .* 'valeu'; did you mean 'value'"),
            ("qqqqqqqqqq", "'qqqqqqqqqq'$"),
            ("Outre.value", "cannot share 'Outre.value'.*did you mean 'Outer'"),
            ("Outer.valeu", "Outer has no 'valeu'; did you mean 'value'"),
            ("value.x", "an object of class int has no 'x'"),
            ("no.such:x", "there is no module 'no.such'"),
            ("xml.no_such:x", "there is no module 'xml.no_such'"),
            ("Outer.", "has no ''"),
        ],
    )
    def test_of_an_unknown_name_is_a_name_error_with_a_suggestion(
        self, name: str, says: str
    ) -> None:
        """The error repeats what was written, and says what is near."""
        with pytest.raises(NameError, match=says):
            find_place(name, plain, {})


class TestNamespaceOf:
    """namespace_of(function, caller)."""

    def test_of_a_wrapper_from_elsewhere_is_that_of_the_wrapped(self) -> None:
        """A decorator of a library does not hide the function's own module."""
        library = make_module(
            "library",
            "import functools\n"
            "def decorate(f):\n"
            "    @functools.wraps(f)\n"
            "    def wrapper(*args): return f(*args)\n"
            "    return wrapper\n",
        )
        assert namespace_of(library.decorate(plain), {}) is globals()
        assert find_place("value", functools.partial(library.decorate(plain)), {}).get() == 1
        assert find_place("decorate", library.decorate(plain), {}).get() is library.decorate

    def test_of_methods_partials_and_objects(self) -> None:
        """It is that of the function at the bottom."""

        class Callable_:
            def __call__(self) -> None: ...
            def method(self) -> None: ...

        for function in (Callable_(), Callable_().method, functools.partial(Callable_().method)):
            assert namespace_of(function, {}) is globals()

    def test_of_a_builtin_is_the_callers(self) -> None:
        """A builtin has none."""
        caller: dict[str, Any] = {}
        assert namespace_of(abs, caller) is caller
