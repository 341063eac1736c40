# SPDX-License-Identifier: MIT
"""What `import snakefish` gives, and what it does not do."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from scenario import output_of

import snakefish

ROOT = Path(__file__).resolve().parent.parent
NAMES = {
    "Channel",
    "Generator",
    "Thread",
    "map",
    "starmap",
    "shares",
    "merges",
    "MergeConflict",
    "LostWriteWarning",
    "get_timestamp",
    "get_timestamp_serialized",
    "timestamp_to_ns",
    "SnakefishError",
    "__version__",
}


class TestNames:
    """The public names."""

    def test_all_promised_names_are_there(self) -> None:
        """Every promised name exists and is in __all__."""
        assert set(snakefish.__all__) >= NAMES
        assert all(hasattr(snakefish, name) for name in snakefish.__all__)

    def test_version_is_that_of_the_package(self) -> None:
        """__version__ is the version in pyproject.toml."""
        text = (ROOT / "pyproject.toml").read_text("utf-8")
        assert f'version = "{snakefish.__version__}"' in text
        assert re.fullmatch(r"\d+\.\d+\.\d+\S*", snakefish.__version__)

    def test_public_names_are_documented(self) -> None:
        """Whatever can be called has a docstring."""
        for name in set(snakefish.__all__) - {"__version__"}:
            assert getattr(snakefish, name).__doc__, name

    def test_every_package_is_shipped(self) -> None:
        """What has an __init__ is among the packages that are installed."""
        text = (ROOT / "pyproject.toml").read_text("utf-8")
        [listed] = re.findall(r"^packages = (\[.*snakefish.merges.*\])$", text, re.MULTILINE)
        found = (
            path.parent.relative_to(ROOT) for path in (ROOT / "snakefish").rglob("__init__.py")
        )
        assert sorted(json.loads(listed)) == sorted(".".join(path.parts) for path in found)

    def test_dir_shows_them_all(self) -> None:
        """Those as well that were not asked for yet."""
        assert set(dir(snakefish)) >= set(snakefish.__all__)

    def test_modules_for_users_need_no_import_of_their_own(self) -> None:
        """`snakefish.merges` and `snakefish.testing` are there when they are asked for."""
        assert output_of(
            """
            import snakefish
            snakefish.testing.check(snakefish.merges.add, [0], [lambda n: n + 1])
            print({"merges", "testing"} <= set(dir(snakefish)))
            """,
            preamble="",
        ) == ["True"]

    def test_a_name_that_does_not_exist(self) -> None:
        """Is an AttributeError, as with any module."""
        with pytest.raises(AttributeError, match="'snakefish' has no attribute 'thread'"):
            getattr(snakefish, "thread")

    def test_types_are_shipped(self) -> None:
        """The package is marked as typed."""
        assert (Path(snakefish.__file__).parent / "py.typed").exists()


class TestImport:
    """import snakefish."""

    def test_does_nothing_but_define(self) -> None:
        """No process, thread, handler, descriptor, mapping or output comes with the import."""
        assert output_of(
            """
            import gc, os, signal, sys, threading
            sys.path.append(os.environ["PYTHONPATH"].split(os.pathsep)[1])
            from process_table import children, open_descriptors, shared_mappings
            import pickle, struct, marshal, platform, functools, operator, traceback, typing
            def handlers():
                numbers = sorted(set(range(1, signal.NSIG)) & set(signal.valid_signals()))
                return [signal.getsignal(number) for number in numbers]
            import _cffi_backend
            def now():
                return (children(), set(open_descriptors()), shared_mappings(), handlers(),
                        threading.active_count())
            before = now()
            from snakefish import *
            assert now() == before, (before, now())
            print("nothing")
            """,
            preamble="",
        ) == ["nothing"]

    def test_does_not_import_multiprocessing_or_asyncio(self) -> None:
        """Large modules that the program itself does not use are not pulled in."""
        assert output_of(
            """
            import sys
            from snakefish import *
            print(sorted({"multiprocessing", "asyncio", "tqdm", "numpy"} & set(sys.modules)))
            """,
            preamble="",
        ) == ["[]"]

    def test_loads_what_is_used(self) -> None:
        """The import alone loads almost nothing, and a Thread no merges."""
        assert output_of(
            """
            import sys
            import snakefish
            def loaded():
                ours = {"_errors", "_job", "_map", "_sharing", "merges"}
                return sorted(name for name in ours if f"snakefish.{name}" in sys.modules)
            print(loaded())
            with snakefish.Thread(lambda: None) as thread:
                thread.start()
                thread.join()
            print(loaded())
            """,
            preamble="",
        ) == ["[]", "['_errors', '_job']"]

    def test_a_map_that_shares_loads_no_large_module_that_it_may_do_without(self) -> None:
        """What knows signatures, dates and decimals is left to programs that have them."""
        assert output_of(
            """
            import sys
            import snakefish
            total, spare = 0, {"inspect", "datetime", "decimal", "fractions", "difflib"}
            def add(n):
                global total
                total += n
            snakefish.map(add, [1, 2, 3], share="total")
            print(total, sorted(spare & set(sys.modules)))
            """,
            preamble="",
        ) == ["6 []"]
