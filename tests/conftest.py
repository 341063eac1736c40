# SPDX-License-Identifier: MIT
"""What every test is held to: it ends, in the process that began it, and leaves nothing behind."""

from __future__ import annotations

import faulthandler
import gc
import os
import select
import signal
from typing import TYPE_CHECKING, Callable, NamedTuple

import pytest
from deadline import wait_until
from gate import Gate
from process_table import children, open_descriptors, shared_mappings
from scenario import hear_all_signals

import snakefish

if TYPE_CHECKING:
    from collections.abc import Iterator

LAST_RESORT = 120
"""Seconds after which not even the time limit of a test could end it."""


class Holdings(NamedTuple):
    """What this process holds of what could be left behind."""

    descriptors: list[str]
    children: list[int]
    mappings: int


def _holdings() -> Holdings:
    descriptors = sorted(f"{number}: {what}" for number, what in open_descriptors().items())
    return Holdings(descriptors, sorted(children()), len(shared_mappings()))


def _kill_with_stacks(pids: list[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
        os.kill(pid, signal.SIGQUIT)  # faulthandler writes where it is
    select.select([], [], [], 0.2)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _left_behind(before: Holdings) -> Holdings | None:
    """What is more than *before*, if anything."""
    now = _holdings()
    left = Holdings(
        [one for one in now.descriptors if one not in before.descriptors],
        [pid for pid in now.children if pid not in before.children],
        max(0, now.mappings - before.mappings),
    )
    return left if any(left) else None


def _return_to(before: Holdings) -> None:
    def nothing_left() -> bool:
        if not _left_behind(before):
            return True
        gc.collect()
        return not _left_behind(before)

    try:
        wait_until(nothing_left, "something is left", timeout=3)
    except AssertionError:
        left = _left_behind(before)
    else:
        return
    if left:
        _kill_with_stacks(left.children)
        pytest.fail(f"the test leaves behind {left}", pytrace=False)


class _Escapes:
    """Notices children that come back from a test as if they were the tests' own process."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)

    def stop_here(self) -> None:
        if os.getpid() != self.owner:
            os.write(self._write, b"!")
            os._exit(70)

    def happened(self) -> bool:
        try:
            return bool(os.read(self._read, 100))
        except BlockingIOError:
            return False


_escapes = _Escapes()
_stderr = os.dup(2)


def pytest_configure(config: pytest.Config) -> None:
    # Tests fork with threads on purpose, those of faulthandler's timer among them. CPython
    # warns of that from 3.12 on, where multiprocessing or a test calls os.fork.
    config.addinivalue_line("filterwarnings", "ignore::snakefish.ForkSafetyWarning")
    # Many children change variables to show that nobody sees it.
    config.addinivalue_line("filterwarnings", "ignore::snakefish.LostWriteWarning")
    config.addinivalue_line("filterwarnings", "ignore:.*multi-threaded:DeprecationWarning")
    hear_all_signals()
    faulthandler.register(signal.SIGQUIT, file=_stderr, all_threads=True)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    faulthandler.dump_traceback_later(LAST_RESORT, exit=True, file=_stderr)
    yield
    _escapes.stop_here()
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="session", autouse=True)
def first_use_is_over() -> None:
    """The library's one pipe and one registry of a process come with its first use."""
    thread = snakefish.Thread(int)
    thread.start()
    thread.join()
    thread.dispose()
    snakefish.Channel().dispose()
    snakefish.get_timestamp()


@pytest.fixture(autouse=True)
def nothing_left(first_use_is_over: None) -> Iterator[None]:
    """Descriptors, children and shared memory are the same before and after the test."""
    before = _holdings()
    yield
    _escapes.stop_here()
    _return_to(before)
    assert not _escapes.happened(), "a child came back from the test"


@pytest.fixture
def make_gate() -> Iterator[Callable[[], Gate]]:
    """Makes gates, and closes them after the test."""
    gates: list[Gate] = []

    def make() -> Gate:
        gates.append(Gate())
        return gates[-1]

    yield make
    for gate in gates:
        gate.close()


@pytest.fixture
def gate(make_gate: Callable[[], Gate]) -> Gate:
    """One gate."""
    return make_gate()


class ForkCount:
    """How many times this process has forked."""

    def __init__(self) -> None:
        self.count = 0
        os.register_at_fork(before=self._add)

    def _add(self) -> None:
        self.count += 1


_forks = ForkCount()


@pytest.fixture
def no_fork() -> Iterator[None]:
    """The test must do without a fork."""
    before = _forks.count
    yield
    assert _forks.count == before, "there was a fork"
