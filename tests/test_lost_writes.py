# SPDX-License-Identifier: MIT
"""What a child changed and nobody will see is warned of, with the line that would keep it."""

from __future__ import annotations

import re
import types
import warnings
from array import array
from collections import Counter, defaultdict, deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import pytest
from scenario import output_of

import snakefish
from snakefish import Generator, LostWriteWarning, Thread, merges
from snakefish._lost_writes import Watch

if TYPE_CHECKING:
    from collections.abc import Iterator

number = 0
ratio = 0
best: Any = None
items: list[Any] = []
alias = items
counts: Counter[str] = Counter()
index: defaultdict[str, list[int]] = defaultdict(list)
memo: dict[Any, Any] = {}
seen: set[int] = set()
queue: deque[int] = deque()
big = [0] * 10


@pytest.fixture(autouse=True)
def reset_before() -> None:
    global number, ratio, best
    number, ratio, best = 0, 0, None
    for container in (items, counts, index, memo, seen, queue):
        container.clear()


def told(call: Callable[[], object]) -> list[str]:
    """The LostWriteWarnings that a call gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(one.message) for one in caught if one.category is LostWriteWarning]


def joined(function: Callable[[], object], **how: Any) -> None:
    with Thread(function, **how) as thread:
        thread.start()
        thread.join()


def change_all(item: int = 1) -> None:
    global number, ratio, best
    number += item
    ratio += 0.5
    best = item
    items.append(item)
    counts["a"] += 1
    index["a"].append(1)
    memo[item] = item
    seen.add(item)
    queue.append(item)


LINE = (
    "share={'alias': merges.append, 'best': merges.once, 'counts': merges.count, "
    "'index': merges.mapping(merges.append), "
    "'items': merges.append, 'memo': merges.insert(clash='error'), 'number': merges.add, "
    "'queue': merges.once, 'ratio': merges.total, 'seen': merges.union}"
)


class TestWhatIsTold:
    """The text of the warning."""

    def test_names_each_variable_and_what_became_of_it(self) -> None:
        """Assigned, grown, shrunk."""
        big_enough = [1, 2, 3]

        def change() -> None:
            global number
            number = 7
            items.extend("abc")
            big_enough.pop()

        [text] = told(lambda: joined(change, name="changer"))
        assert text.startswith("changer changed variables in a child process")
        assert "big_enough (shrank by 1), items (grew by 3), number (was assigned to)" in text

    def test_has_the_line_to_copy(self) -> None:
        """The default merge of each value, as an argument for the call."""
        [text] = told(lambda: joined(change_all))
        assert LINE in text

    def test_the_line_works(self) -> None:
        """What it says is Python, and what it shares comes back and is warned of no more."""
        [text] = told(lambda: joined(change_all))
        line = text[text.index("share={") + len("share=") : text.index("};") + 1]
        share = eval(line, {"merges": merges})
        del share["queue"]
        assert told(lambda: joined(change_all, share={**share, "queue": merges.append})) == []
        assert (number, ratio, best, items, memo) == (1, 0.5, 1, [1], {1: 1})
        assert (counts, index, seen, list(queue)) == ({"a": 1}, {"a": [1]}, {1}, [1])

    def test_what_could_be_counts_is_never_merged_as_if_it_were_not(self) -> None:
        """Numbers in a plain dict: equal counts of two tasks would look like one memo."""

        def count(letter: str) -> None:
            memo[letter] = memo.get(letter, 0) + 1

        [warning] = told(lambda: snakefish.map(count, "aa", 2, 1))
        assert "share={'memo': merges.insert(clash='error')}" in warning
        with pytest.raises(snakefish.MergeConflict):
            snakefish.map(count, "aa", 2, 1, share={"memo": merges.insert(clash="error")})

    def test_is_what_the_readme_says(self) -> None:
        """Word for word."""
        text = (Path(__file__).resolve().parent.parent / "README.md").read_text("utf-8")
        quoted = re.search(r"(?:^> .*\n)+", text, re.MULTILINE)
        assert quoted
        letters: Counter[str] = Counter()
        lines = 0

        def count(line: str) -> None:
            nonlocal lines
            lines += 1
            letters.update(line)

        [warning] = told(lambda: snakefish.map(count, ["ab", "bc"], 1))
        assert warning == " ".join(quoted[0].replace("> ", "").split())

    def test_points_at_the_line_of_the_user(self) -> None:
        """The warning is given for where the call stands."""
        with pytest.warns(LostWriteWarning) as caught:
            snakefish.map(change_all, range(2))
        assert {one.filename for one in caught} == {__file__}

    def test_new_variables_are_told_without_a_line(self) -> None:
        """What is not there before the call cannot be shared."""
        try:
            [text] = told(lambda: joined(lambda: globals().update(brand_new=1)))
        finally:
            globals().pop("brand_new", None)
        assert "brand_new (is new)" in text
        assert "give them a value before the call" in text
        assert "share={" not in text

    def test_is_an_error_if_the_filter_says_so(self) -> None:
        """The join has happened by then."""
        with Thread(change_all) as thread:
            thread.start()
            with warnings.catch_warnings():
                warnings.simplefilter("error", LostWriteWarning)
                with pytest.raises(LostWriteWarning):
                    thread.join()
            assert thread.get_exit_status() == 0


class TestOnce:
    """One warning a call, whatever the number of children."""

    @pytest.mark.parametrize("how", [{}, {"share": {"number": merges.add}}])
    def test_of_map(self, how: dict[str, Any]) -> None:
        """By workers, and by jobs."""
        assert len(told(lambda: snakefish.map(change_all, range(8), 4, 1, **how))) == 1

    def test_of_starmap(self) -> None:
        """It is called by its name and its function's."""
        [text] = told(lambda: snakefish.starmap(lambda a: items.append(a), [(1,), (2,)]))
        assert text.startswith("starmap(<lambda>) changed")

    def test_of_a_thread_joined_twice(self) -> None:
        """The second join says nothing."""

        def call() -> None:
            with Thread(change_all) as thread:
                thread.start()
                thread.join()
                thread.join()
                thread.try_join()

        assert len(told(call)) == 1

    def test_of_a_generator(self) -> None:
        """At its join."""

        def numbers() -> Iterator[int]:
            items.append(1)
            yield 1

        def call() -> None:
            with Generator(numbers) as generator:
                generator.start()
                list(generator)
                generator.join()

        [text] = told(call)
        assert "items (grew by 1)" in text

    def test_each_call_is_told(self) -> None:
        """Two calls, two warnings, if the filter lets them through."""

        def call() -> None:
            joined(change_all)
            joined(change_all)

        assert len(told(call)) == 2

    def test_by_default_python_shows_it_once_a_line(self) -> None:
        """It goes to stderr, as warnings do."""
        lines = output_of(
            """
            import io
            sys.stderr = io.StringIO()
            warnings.resetwarnings()
            n = 0
            def f(i):
                global n
                n += i
            for _ in range(3):
                snakefish.map(f, [1, 2])
            say(sys.stderr.getvalue().count("LostWriteWarning"))
            """
        )
        assert lines == ["1"]


class TestSilence:
    """What is not told."""

    def test_nothing_changed(self) -> None:
        """Reading is no write, and neither is an assignment of the same object."""

        def read() -> Any:
            global best
            best = best
            return number, items, memo.get(1), len(big)

        assert told(lambda: joined(read)) == []

    def test_what_is_shared(self) -> None:
        """By whatever merge."""
        share = "number ratio best items counts index memo seen queue"
        how: dict[str, Any] = {"ratio": merges.total, "queue": merges.append}
        both = {**{name: merges.default_for(globals()[name]) for name in share.split()}, **how}
        assert told(lambda: joined(change_all, share=both)) == []

    @pytest.mark.parametrize("concurrency", [1, 2])
    def test_what_is_private(self, concurrency: int) -> None:
        """It is not merged, and not told."""
        names = ["number", "ratio", "best", "items", "counts", "index", "memo", "seen", "queue"]
        share = dict.fromkeys(names, merges.private)
        assert told(lambda: snakefish.map(change_all, range(4), concurrency, share=share)) == []
        assert (number, items) == (0, [])

    def test_what_the_filter_turns_off(self) -> None:
        """By category."""

        def call() -> None:
            warnings.simplefilter("ignore", LostWriteWarning)
            joined(change_all)

        assert told(call) == []

    def test_an_alias_of_what_is_shared(self) -> None:
        """The object comes back, by whatever name the task has changed it."""
        assert told(lambda: joined(lambda: alias.append(1), share={"items": merges.append})) == []
        assert alias == [1]

    def test_an_alias_of_an_object_that_a_view_replaced(self) -> None:
        """That one is lost indeed: the task has changed another object than the shared one."""
        share = {"items": merges.fresh(list, lambda mine, theirs: mine + theirs)}
        [text] = told(lambda: joined(lambda: alias.append(1), share=share))
        assert "alias (grew by 1)" in text
        assert items == []

    def test_extract_and_merge(self) -> None:
        """Who merges by hand decides by hand."""
        how = {"extract": lambda its: {}, "merge": lambda ours, extracted: None}
        assert told(lambda: joined(change_all, **how)) == []
        assert told(lambda: snakefish.map(change_all, range(2), **how)) == []

    def test_definitions_and_names_of_pythons_own(self) -> None:
        """An import, a function made at first use, a registry of warnings."""

        def define() -> None:
            global lazy_module, lazy_function
            import json as lazy_module

            lazy_function = lambda: lazy_module  # noqa: E731
            globals().setdefault("__warningregistry__", {})[1] = 2

        globals().setdefault("__warningregistry__", {})
        assert told(lambda: joined(define)) == []

    def test_functions_of_installed_modules(self) -> None:
        """What libraries keep for themselves is no loss."""
        library = types.ModuleType("library")
        library.__file__ = "/somewhere/site-packages/library.py"
        exec("cache = []\ndef f(n): cache.append(n)", library.__dict__)
        assert told(lambda: snakefish.map(library.f, range(3))) == []

    def test_values_that_behave_oddly(self) -> None:
        """A class of its own mind, a length that raises, a factory that raises."""

        class Proxy:
            @property
            def __class__(self) -> type:  # type: ignore[override]
                raise RuntimeError("there is nothing behind it")

        class Endless(list):  # type: ignore[type-arg]
            def __len__(self) -> int:
                raise OverflowError

        def angry() -> None:
            raise ArithmeticError

        proxy, endless, factory = Proxy(), Endless(), defaultdict(angry)

        def touch() -> Any:
            endless.append(1)
            factory["x"] = None
            return proxy and 5

        [text] = told(lambda: joined(touch))
        assert "factory (grew by 1)" in text
        assert "'factory': merges.once" in text

    def test_what_is_not_found(self) -> None:
        """What is in the same containers, of the same length, and other containers."""
        nested, cells = [[0]], array("l")

        def change() -> None:
            big[0] = 5
            big.append(big.pop(0))
            nested[0].append(1)
            cells.append(1)
            change.calls = 1  # type: ignore[attr-defined]
            types.lost = 1  # type: ignore[attr-defined]

        assert told(lambda: joined(change)) == []

    def test_names_of_functions_and_classes_are_no_variables(self) -> None:
        """What is defined is not looked at, so that a start costs less."""

        def change() -> None:
            globals()["told"] = 5

        assert told(lambda: joined(change)) == []

    def test_a_task_that_fails_is_told_as_well(self) -> None:
        """What it had changed until then is lost too."""

        def fail() -> None:
            items.append(1)
            raise ValueError

        assert len(told(lambda: joined(fail))) == 1

    def test_what_the_parent_changes_meanwhile_is_none_of_it(self) -> None:
        """Only children are watched."""

        def call() -> None:
            with Thread(int) as thread:
                thread.start()
                items.append(1)
                thread.join()

        assert told(call) == []


class TestNames:
    """A namespace whose names change."""

    @pytest.fixture
    def space(self) -> dict[str, Any]:
        """The globals of a module of its own."""
        return {"a": 1, "b": 2, "items": [], "c": 3}

    @staticmethod
    def told_of(space: dict[str, Any], source: str) -> list[str]:
        """What is told of a task that consists of *source*."""
        exec(f"def task():\n    {source}", space)
        return told(lambda: joined(space["task"]))

    def test_a_task_deletes_a_variable(self, space: dict[str, Any]) -> None:
        """The others are known by their names, not by their places."""
        [text] = self.told_of(space, "global a, c; del a; c = 5")
        assert "lost: c (was assigned to)." in text

    def test_a_task_deletes_one_and_makes_another(self, space: dict[str, Any]) -> None:
        """As many names as before are not the same names."""
        [text] = self.told_of(space, "global b, new; del b; new = 5")
        assert "lost: new (is new)." in text

    def test_a_task_deletes_one_and_makes_it_again(self, space: dict[str, Any]) -> None:
        """That is an assignment."""
        [text] = self.told_of(space, "global a; del a; a = 5")
        assert "lost: a (was assigned to)." in text

    def test_the_parent_replaces_a_name_between_two_starts(self, space: dict[str, Any]) -> None:
        """The names are looked at again."""
        assert self.told_of(space, "pass") == []
        del space["a"]
        space["z"] = 1
        [text] = self.told_of(space, "global z; z = 5; items.append(1)")
        assert "lost: items (grew by 1), z (was assigned to)." in text

    def test_the_parent_adds_a_name_between_two_starts(self, space: dict[str, Any]) -> None:
        """It is watched as well."""
        assert self.told_of(space, "pass") == []
        space["z"] = []
        [text] = self.told_of(space, "z.append(5)")
        assert "lost: z (grew by 1)." in text

    def test_a_name_that_comes_between_start_and_fork(self, space: dict[str, Any]) -> None:
        """Another thread may have made it, and not the task."""
        exec("def task(): pass", space)
        watch = Watch(space["task"], space, [])
        watch.prepare()
        space["z"] = 1
        watch.begin()
        assert watch.lost() == []

    @pytest.mark.parametrize("names", [(), ("only",)])
    def test_a_namespace_of_few_names(self, names: tuple[str, ...]) -> None:
        """None that could change, or one."""
        space = dict.fromkeys(names, 1)
        exec("def task(): globals().update(dict.fromkeys(globals(), 2), task=task)", space)
        assert len(told(lambda: joined(space["task"]))) == len(names)


class TestClosures:
    """Variables of enclosing functions."""

    def test_are_watched(self) -> None:
        """Assigned and grown ones."""
        total, found = 0, []

        def add() -> None:
            nonlocal total
            total += 1
            found.append(total)

        [text] = told(lambda: joined(add))
        assert "found (grew by 1), total (was assigned to)" in text
        assert "share={'found': merges.append, 'total': merges.add}" in text

    def test_that_are_shared_are_not_told(self) -> None:
        """A cell is known by itself, not by its name."""
        total = 0

        def add() -> None:
            nonlocal total
            total += 1

        assert told(lambda: joined(add, share="total")) == []
        assert total == 1
