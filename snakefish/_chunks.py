# SPDX-License-Identifier: MIT
"""map with merging: each chunk of the items is a job, a fork of its own.

All jobs are forked before the first merge, so each of them sees the globals as
they were at the call. Merges happen in the order of the items. When a job fails,
the jobs before it and it itself are merged and later ones are not: what is left
is what the plain loop would have left.
"""

from __future__ import annotations

import functools
import select
from collections.abc import Sequence
from typing import Any

from snakefish._child import capture
from snakefish._clock import NOW, has_passed
from snakefish._errors import WaitTimeoutError
from snakefish._job import Job
from snakefish._lost_writes import warn_of
from snakefish._returns import Returns
from snakefish._task import Task, presentable

_SLICE_MS = 100


def run(task: Task, returns: Returns) -> list[Any]:
    """Return the results of a *task*, in the order of its items, and merge.

    Raises:
        Whatever the function raised for the first item for which it raised, or
        extract or merge raised.
        MergeConflict: What a job did to shared variables contradicts what others did.
        ChildDiedError: A job ended before its work.
        WaitTimeoutError: The deadline came first; nothing was merged.
        StartError: A job could not be forked; nothing was merged.
    """
    jobs = _Jobs(task, returns)
    try:
        jobs.run()
        jobs.merge()
        return jobs.results()
    except BaseException:
        jobs.roll_back()
        raise
    finally:
        jobs.dismiss()


class _Jobs:
    """The jobs of one call: those not started, those that run, those that ended."""

    def __init__(self, task: Task, returns: Returns) -> None:
        count = len(task.items)
        size = task.chunksize or -(-count // task.concurrency)
        self._task = task
        self._chunks = [range(first, min(first + size, count)) for first in range(0, count, size)]
        self._jobs = [Job(_name(chunk), returns) for chunk in self._chunks]
        self._call = returns.begin(len(self._jobs))
        self._running: dict[int, int] = {}  # descriptor: number of the job
        self._poll = select.poll()
        self._limit = len(self._jobs)  # jobs from here on are not needed
        self._done = 0

    def run(self) -> None:
        """Run all jobs, up to the first that fails."""
        started = 0
        while self._running or started < self._limit:
            while started < self._limit and len(self._running) < self._task.concurrency:
                self._start(started)
                started += 1
            self._wait()

    def merge(self) -> None:
        """Merge what the plain loop would have done."""
        for job in self._needed():
            job.join(NOW)
        warn_of(self._task.name, [lost for job in self._needed() for lost in job.lost])

    def roll_back(self) -> None:
        """Take back what was merged, if the user wants that after an error."""
        if self._call is not None:
            self._call.roll_back()

    def results(self) -> list[Any]:
        """Return the values of all items, or raise for the first that has none."""
        values: list[Any] = []
        for job in self._needed():
            try:
                values += job.result()
            except SystemExit as error:
                raise presentable(error) from error
        return values

    def dismiss(self) -> None:
        """End and reap whoever is left."""
        for number in self._running.values():
            self._jobs[number].process.kill_if_running()
        for job in self._jobs:
            job.dispose()
        if self._call is not None:
            self._call.close()  # of jobs that were never started too

    def _needed(self) -> Sequence[Job]:
        return self._jobs[: self._limit + 1]

    def _start(self, number: int) -> None:
        chunk = self._chunks[number]
        items = self._task.items[chunk.start : chunk.stop]
        job = self._jobs[number]
        body = functools.partial(capture, _values, self._task, items)
        job.start(body, call=self._call)
        descriptor = job.process.fileno()
        self._running[descriptor] = number
        self._poll.register(descriptor, select.POLLIN)

    def _wait(self) -> None:
        """Wait until a job has ended or a slice of time has passed; take in what is there."""
        if has_passed(self._task.deadline):
            raise WaitTimeoutError("map was not done in time")
        ready = [descriptor for descriptor, _ in self._poll.poll(_SLICE_MS)]
        # A job whose result is beyond its queue cannot end before it is drained.
        for descriptor in ready or list(self._running):
            number = self._running.get(descriptor)
            if number is not None and self._jobs[number].collect(NOW):
                self._finish(descriptor)

    def _finish(self, descriptor: int) -> None:
        number = self._running.pop(descriptor)
        job = self._jobs[number]
        self._poll.unregister(descriptor)
        job.process.release()
        if number < self._limit and job.failed():
            self._stop_at(number)
        self._done += len(self._chunks[number])
        self._task.report(self._done)

    def _stop_at(self, number: int) -> None:
        """Note that a job failed: later ones are killed, earlier ones are waited for."""
        self._limit = number
        for descriptor, running in list(self._running.items()):
            if running > number:
                self._poll.unregister(descriptor)
                self._jobs[running].dispose()
                del self._running[descriptor]


def _name(chunk: range) -> str:
    if len(chunk) == 1:
        return f"map job of item {chunk.start}"
    return f"map job of items {chunk.start} to {chunk.stop - 1}"


def _values(task: Task, items: Sequence[Any]) -> list[Any]:
    values: list[Any] = []
    task.do(items, values)
    return values
