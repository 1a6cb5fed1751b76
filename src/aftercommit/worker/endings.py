"""Ends the runs of one database alias: from a result, by release, or by giving one up."""

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from queue import SimpleQueue

from aftercommit.errors import ClaimLost, TimedOut
from aftercommit.options.queues import QUEUE_PREFIX
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

    def ended(self, ends: Sequence[tuple[Run, RunResult]]) -> None:
        """Queue the results of runs for the finisher, and free their capacity."""
        self._rooms.finisher.put_all([one for one in ends if _is_kept(*one)])
        for run, result in ends:
            run.size += size_of(result)
            is_counted = not run.company or run is run.company[0]  # a call is one run
            if run.took is not None and is_counted:
                self._process.prefetch.ran(run.took * max(len(run.company), 1))
        if self._served.crashed:
            for run, _result in ends:
                self._unrecorded.put(run)
        self._ring()
        if not self._served.crashed:
            self._process.capacity.vacate(sum([run.weight for run, _result in ends]))

    def step(self) -> timedelta:
        """Write the results that are queued; return when to write again."""
        finisher = self._rooms.finisher
        if self._process.pool.waiting and finisher.waiting < LARGEST_BATCH:
            time.sleep(LINGER.total_seconds())  # more runs will have ended, for the same write
        ended = self._unrecorded.qsize()
        try:
            written = finisher.write()
        finally:
            self._rooms.passage.look_soon()
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
        self._process.capacity.vacate(sum(run.weight for run in runs))
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
        for one in run.company or (run,):
            one.given_up = True
            policy = one.facts.policy_of(one.claim)
            outcome = outcome_of(TimedOut(), one.claim, policy, conflict=False)
            if one is not run and one.claim.queue.startswith(QUEUE_PREFIX):
                outcome = Released()  # messages wait as long as their broker does not answer
            self._rooms.finisher.put(one, RunResult(outcome=outcome))
        self._ring()


def _is_kept(run: Run, result: RunResult) -> bool:
    """Return whether a result counts: not that of a run whose outcome is decided already."""
    return not run.given_up or result.recorded
