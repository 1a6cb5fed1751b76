"""Ends the runs of one database alias: from a result, by release, or by giving one up."""

import time
from collections.abc import Callable
from datetime import timedelta
from queue import SimpleQueue

from aftercommit.errors import ClaimLost, TimedOut
from aftercommit.values import Released, RunResult
from aftercommit.worker.assembly import Rooms
from aftercommit.worker.config import Served
from aftercommit.worker.process_wide import ProcessWide
from aftercommit.worker.running.outcome import outcome_of
from aftercommit.worker.runs import Run
from aftercommit.worker.upkeep.finisher import LARGEST_BATCH, size_of

UNTIL_RUNG = timedelta(seconds=5)
AT_ONCE = timedelta(0)
# Without this pause each write has few outcomes, and its commits take time from those of the
# tasks: plain tasks that write a row ran at 2,500 a second instead of 4,500
# (``python -m benchmarks.run --workloads row --peers aftercommit``).
LINGER = timedelta(milliseconds=10)
RELEASED = RunResult(outcome=Released())


class Endings:
    """The way from a result to the table; ``step`` is repeated by a thread of its own.

    ``ring`` ends the wait for the next step, ``claim`` that for the next claim; from any thread.
    """

    def __init__(
        self,
        served: Served,
        rooms: Rooms,
        process: ProcessWide,
        *,
        ring: Callable[[], None],
        claim: Callable[[], None],
    ) -> None:
        self._served = served
        self._rooms = rooms
        self._process = process
        self._ring = ring
        self._claim = claim
        # Runs of jobs with crashes that have ended. The next such job begins when their results
        # are recorded: if it killed this process before, the ended jobs would run again.
        self._unrecorded: SimpleQueue[Run] = SimpleQueue()

    def ended(self, run: Run, result: RunResult) -> None:
        """Queue the result of a run for the finisher, and free its capacity."""
        if run.took is not None:
            self._process.prefetch.ran(run.took)
        if not run.given_up or result.recorded:
            run.size += size_of(result)
            self._rooms.finisher.put(run, result)
            self._ring()
        if self._served.crashed:
            self._unrecorded.put(run)
            self._ring()
        else:
            self._process.capacity.vacate()

    def step(self) -> timedelta:
        """Write the results that are queued; return when to write again."""
        finisher = self._rooms.finisher
        if self._process.pool.waiting and finisher.waiting < LARGEST_BATCH:
            time.sleep(LINGER.total_seconds())  # more runs will have ended, for the same write
        ended = self._unrecorded.qsize()
        written = finisher.write()
        if ended and finisher.empty:
            for _number in range(ended):
                self._unrecorded.get()
            self._process.capacity.vacate(ended)
        if self._rooms.fetcher.in_order.may_go_on:
            self._claim()
        return AT_ONCE if written else UNTIL_RUNG

    def release_unstarted(self, runs: list[Run]) -> None:
        """Release runs that no thread has begun, so that another worker may claim the jobs."""
        for run in runs:
            run.given_up = True
            self._rooms.finisher.put(run, RELEASED)
        self._process.quota.give(len(runs))
        self._process.per_process.claimed(-len(runs))
        self._process.capacity.vacate(len(runs))
        self._ring()

    def release(self, runs: list[Run]) -> None:
        """Release runs without counting an attempt, and interrupt their bodies.

        Without the interrupt, the open transaction of an atomic body on SQLite would block
        the write of the release.
        """
        for run in runs:
            run.given_up = run.lost = True
            self._rooms.finisher.put(run, RELEASED)
            run.interrupt(ClaimLost)
        self._ring()

    def give_up(self, run: Run) -> None:
        """Record a timeout for a body that ignores its interrupt; the thread is lost."""
        outcome = outcome_of(TimedOut(), run.claim, run.facts.policy, conflict=False)
        self._rooms.finisher.put(run, RunResult(outcome=outcome))
        self._ring()
