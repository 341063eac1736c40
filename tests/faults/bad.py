# SPDX-License-Identifier: MIT
"""Scenarios that break their promise, each in its way: the runner must notice every one."""

from __future__ import annotations

import os
import sys
import tempfile

from row import Row
from stage import Stage, for_ever

import snakefish

BAD = Row("Z1", "what the runner must notice", "it notices")

kept = []


@BAD.scenario(timeout=1.0)
def hangs_in_a_child(stage: Stage) -> None:
    """Waits for a child that never ends."""
    thread = snakefish.Thread(for_ever)
    thread.start()
    thread.join()


@BAD.scenario()
def leaves_a_descriptor(stage: Stage) -> None:
    kept.append(os.pipe())


@BAD.scenario()
def leaves_a_child(stage: Stage) -> None:
    if os.fork() == 0:
        for_ever()


@BAD.scenario()
def leaves_a_zombie(stage: Stage) -> None:
    if os.fork() == 0:
        os._exit(0)


@BAD.scenario()
def leaves_a_daemon(stage: Stage) -> None:
    """Of another session, and nobody's child."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        if os.fork() == 0:
            for_ever()
        os._exit(0)
    os.waitpid(pid, 0)


@BAD.scenario()
def leaves_a_mapping(stage: Stage) -> None:
    kept.append(snakefish.Channel())


@BAD.scenario()
def leaves_a_name(stage: Stage) -> None:
    os.close(tempfile.mkstemp()[0])


@BAD.scenario()
def lets_a_child_escape(stage: Stage) -> None:
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)


@BAD.scenario()
def breaks_its_promise(stage: Stage) -> None:
    stage.expect(False, "in its own words")


@BAD.scenario()
def raises_something(stage: Stage) -> None:
    raise LookupError("of its own")


@BAD.scenario()
def leaves_without_a_word(stage: Stage) -> None:
    sys.stdout.flush()
    os._exit(7)


@BAD.scenario()
def is_in_order(stage: Stage) -> None:
    stage.inject()
