# SPDX-License-Identifier: MIT
"""The life of a child, from the fork to `os._exit`.

This is the only code that runs in a child before the user's, and the only one
that leaves it. No path leads out: whatever is raised, a child ends in `_leave`
and never returns into the frames that it inherited from its parent.

    flush streams, fork | settle in | work | settle up | exit record, os._exit

If the parent has threads, the standard streams and those of logging's handlers get
buffers of their own over the same descriptors: an inherited one may be locked for ever
by a thread that was printing, and may hold text that the parent will print. A module
that a thread was importing is imported from the start by whoever needs it. The child
forgets the event loop that its parent was running. What multiprocessing would do in a
child of its own is done here as well, at both ends: with only one of the two a
`multiprocessing.Queue` silently loses what was put in it.

The parent's atexit functions do not run, and nothing that was inherited is collected:
that would copy most of the heap, and what is garbage of the parent's is for it to
finalize. CPython's collector writes to each object that it looks at, so it is told to
leave those alone.

What takes the time of a short child is pages. CPython counts references in the objects, so
to call a function or to look an attribute up writes to it, and each page that is
written to for the first time after the fork is copied: 2 microseconds, the time of 50 calls. So
what can be looked up, bound or decided before the fork is, and what has no reason to
run does not.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import io
import os
import signal
import sys
import threading
from _signal import set_wakeup_fd  # type: ignore[import-not-found]
from _signal import signal as set_handler  # that of the module signal is slower: it makes enums
from os import getpid
from threading import get_native_id
from typing import Any, Callable

from snakefish import _fork_safety, _stacks
from snakefish._native import lib
from snakefish._outcome import Outcome, raised, returned
from snakefish._process import ChildProcess

_FAILED = 1
_SIGINT = int(signal.SIGINT)

_PYPY = sys.implementation.name == "pypy"

_HAS_NATIVE_ID = hasattr(threading.Thread, "_set_native_id")

_exiting = lib.sf_process_exiting

_freeze = getattr(gc, "freeze", None)  # PyPy has none

_module_locks: dict[str, Any] = sys.modules["_frozen_importlib"]._module_locks

# The parent's buffers, kept for ever: finalizing one would flush it and close its descriptor.
_inherited_buffers: list[Any] = []


def spawn(
    process: ChildProcess, work: Callable[[], int], report: Callable[[Outcome], None]
) -> None:
    """Fork *process*; return in the parent only.

    The child does its *work*, which returns the exit status. What escapes from
    there, or happens on the way there, is for *report*.

    Raises:
        StartError: There is no child.
        ForkSafetyWarning: There are threads, and the user wants that to be an
            error. There is no child.
    """
    status, owner = _FAILED, process.owner
    try:
        flush_streams()
        threaded = _fork_safety.warn_if_threaded()
        repairs = _repairs(threaded)
        if _fork_safety.spawn_quietly(process.spawn) if threaded else process.spawn():
            return
        try:
            _settle_in(process, repairs)
            status = work()
        finally:
            _settle_up()
    except BaseException as error:
        if getpid() == owner:
            raise
        report(raised(error))
    finally:
        if getpid() != owner:
            _leave(status)


def capture(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Outcome:
    """Call *function* and return how it ended; nothing but its outcome gets out.

    From its end on a Ctrl-C, which has nothing to interrupt any more, is
    ignored: it could only lose the outcome.
    """
    try:
        value = function(*args, **kwargs)
        ignore_interrupts()
    except BaseException as error:  # the contract: whatever f raises is its outcome
        ignore_interrupts()
        return raised(error)
    return returned(value)


def ignore_interrupts() -> None:
    """Ignore SIGINT, in this process only: SIG_IGN would be inherited by exec."""
    try:
        set_handler(_SIGINT, _ignore)
    except ValueError:  # not in the main thread
        pass


def _ignore(_number: int, _frame: object) -> None:
    """Handle a signal by doing nothing."""


# ------------------------------------------------------- the standard streams


def _new_buffers() -> list[tuple[io.TextIOWrapper, Any]]:
    """Return each stream that the child shall renew, with its new buffer.

    Only other threads can have been printing or logging.
    """
    buffers: list[tuple[io.TextIOWrapper, Any]] = []
    streams = {id(stream): stream for stream in (sys.stdout, sys.stderr, *_log_streams())}
    for stream in streams.values():
        if type(stream) is io.TextIOWrapper:  # what a program replaced is its own business
            with contextlib.suppress(AttributeError, OSError, ValueError):
                buffers.append((stream, _buffer_like(stream.buffer)))
    return buffers


def _log_streams() -> list[Any]:
    """Return what logging's handlers write to."""
    logging: Any = sys.modules.get("logging")
    handlers = [reference() for reference in logging._handlerList] if logging is not None else []
    return [getattr(handler, "stream", None) for handler in handlers]


def _buffer_like(buffer: Any) -> Any:
    """Return a buffer over the same descriptor; a raw file for a raw file, as with -u."""
    fresh = io.FileIO(buffer.fileno(), "w", closefd=False)
    fresh.name = getattr(buffer, "raw", buffer).name
    return fresh if isinstance(buffer, io.FileIO) else io.BufferedWriter(fresh)


def flush_streams() -> None:
    """Flush the standard streams, where there are any that work."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass


# -------------------------------------------------------------- settling in


def _repairs(threaded: bool) -> list[Callable[[], None]]:
    """Return what the child has to mend of what it inherits.

    Where there are other threads, what is true here need not be at the fork.
    """
    repairs: list[Callable[[], None]] = []
    if threaded and threading.active_count() > 1:
        repairs += [functools.partial(_renew, *stream) for stream in _new_buffers()]
    if threaded or _is_importing():
        repairs.append(_forget_imports)
    if threaded or "asyncio" in sys.modules:
        repairs.append(_forget_event_loop)
    if threaded or "multiprocessing.util" in sys.modules:
        repairs.append(_enter_multiprocessing)
    return repairs


def _is_importing() -> bool:
    """Whether a module is being imported; PyPy keeps the locks of those that were, for a while."""
    locks = [reference() for reference in list(_module_locks.values())]
    return any(lock is not None and lock.owner is not None for lock in locks)


def _settle_in(process: ChildProcess, repairs: list[Callable[[], None]]) -> None:
    if _freeze is not None:
        _freeze()
    if process.place is not None:
        _stacks.settle_in(process.place)
    for repair in repairs:
        repair()
    try:
        set_wakeup_fd(-1)  # signals shall not write into the parent's event loop
    except ValueError:  # not in the main thread
        pass
    if _HAS_NATIVE_ID:  # and it is still that of the parent's
        thread: Any = threading._main_thread  # type: ignore[attr-defined]
        thread._native_id = get_native_id()


def _renew(stream: io.TextIOWrapper, buffer: Any) -> None:
    """Give *stream* a new buffer; it stays the same object.

    So logging handlers, and whoever else holds on to it, have the new one too.
    """
    _inherited_buffers.append(stream.buffer)
    if _PYPY:  # what a thread has written there and not flushed stays the parent's
        _wrap_again(stream, io.BytesIO())
        stream.flush()
    _wrap_again(stream, buffer)


def _wrap_again(stream: io.TextIOWrapper, buffer: Any) -> None:
    stream.__init__(  # type: ignore[misc]
        buffer,
        encoding=stream.encoding,
        errors=stream.errors,
        newline="\n",
        line_buffering=stream.line_buffering,
        write_through=getattr(stream, "write_through", False),
    )


def _forget_imports() -> None:
    """Let modules be imported from the start that a thread of the parent was importing.

    That thread is not here to come to the end of it, nor to let go of the locks.
    """
    bootstrap: Any = sys.modules["_frozen_importlib"]
    for name, reference in list(_module_locks.items()):
        lock = reference()
        if lock is None:
            continue
        if lock.owner == threading.get_ident():  # this process is itself importing
            lock.lock = bootstrap._ModuleLock(name).lock
            continue
        _module_locks.pop(name, None)
        spec = getattr(sys.modules.get(name), "__spec__", None)
        if getattr(spec, "_initializing", False):
            for module in [m for m in sys.modules if m == name or m.startswith(name + ".")]:
                del sys.modules[module]


def _forget_event_loop() -> None:
    """Let `asyncio.run` work here."""
    asyncio: Any = sys.modules.get("asyncio")
    if asyncio is not None:
        asyncio._set_running_loop(None)


def _enter_multiprocessing() -> None:
    """Do what `multiprocessing.process._bootstrap` does first."""
    util: Any = sys.modules.get("multiprocessing.util")
    if util is None:
        return
    process: Any = sys.modules["multiprocessing.process"]
    process._children = set()
    util._finalizer_registry.clear()
    util._run_after_forkers()


# -------------------------------------------------------------- settling up


def _settle_up() -> None:
    ignore_interrupts()
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None:
        util._exit_function()
    state: Any = threading
    if len(state._active) > 1 or state._limbo or state._threading_atexits:
        _finish_threads()
    flush_streams()


def _finish_threads() -> None:
    """Do what the interpreter does about threads at its own end.

    `threading._shutdown` releases the main thread's lock and then asserts that it is free. If a
    thread was waiting for the main thread, it may have that lock by then: on PyPy, whose
    `locked` tries it, that is one time in a hundred.
    """
    with contextlib.suppress(AssertionError):
        threading._shutdown()  # type: ignore[attr-defined]
        return
    here = threading.current_thread()
    while others := [t for t in threading.enumerate() if t is not here and not t.daemon]:
        for thread in others:
            thread.join()


def _leave(status: int) -> None:
    """End this process, whatever a signal handler raises meanwhile."""
    try:
        _exiting(status)
        os._exit(status)  # looked up now: coverage puts its own in that place
    finally:
        os.kill(getpid(), signal.SIGKILL)
