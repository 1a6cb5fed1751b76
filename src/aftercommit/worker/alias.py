"""Everything that one worker process does for one database alias."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from queue import SimpleQueue
from typing import Any
from uuid import UUID

from aftercommit import events
from aftercommit.errors import ClaimLost, TimedOut
from aftercommit.values import Released, RunResult
from aftercommit.worker.assembly import assemble
from aftercommit.worker.claiming.capacity import Capacity, FinishedCounter
from aftercommit.worker.claiming.payloads import PayloadBudget
from aftercommit.worker.claiming.prefetch import Prefetch
from aftercommit.worker.config import Served
from aftercommit.worker.quota import RunQuota
from aftercommit.worker.running.executor import Executor
from aftercommit.worker.running.outcome import outcome_of
from aftercommit.worker.running.pool import Pool
from aftercommit.worker.runs import Run, Runs, now
from aftercommit.worker.upkeep.finisher import LARGEST_BATCH, size_of
from aftercommit.worker.upkeep.loop import LoopThread

UNTIL_RUNG = timedelta(seconds=5)
AT_ONCE = timedelta(0)
SETTLING = timedelta(milliseconds=100)  # until the next claim, while a worker looks dead
QUICK = timedelta(milliseconds=300)  # longest wait after an error, for presence and heartbeat
# Without this pause each write has few outcomes, and its commits take time from those of the
# tasks: plain tasks that write a row ran at 2,500 a second instead of 4,500
# (``python -m benchmarks.run --workloads row --peers aftercommit``).
LINGER = timedelta(milliseconds=10)
RELEASED = RunResult(outcome=Released())


class AliasWorker:
    """Claims jobs, writes outcomes, renews leases, rescues and listens, each in its own thread.

    A slow write of outcomes then does not delay a renewal, and a database that does not
    answer does not stop the work on the other aliases.
    """

    def __init__(
        self,
        served: Served,
        *,
        worker_id: UUID,
        pool: Pool,
        capacity: Capacity,
        quota: RunQuota,
        finished: FinishedCounter,
        prefetch: Prefetch,
        threads: int,
    ) -> None:
        self.using = served.using
        # ``finished.count`` when a claim last found no job while nothing was running
        self.quiet_since = -1
        self.done = 0  # runs recorded since the start; released runs do not count
        self._served = served
        self._worker_id = worker_id
        self._pool = pool
        self._capacity = capacity
        self._quota = quota
        self._finished = finished
        self._prefetch = prefetch
        self._payloads = PayloadBudget(threads)
        self._waits_for_bytes = False  # no claim before some results are written
        self._rooms = assemble(
            served, worker_id=worker_id, news=self.ring, recorded=self._recorded
        )
        self._away = False
        # Runs of jobs with crashes that have ended. The next such job begins when their results
        # are recorded: if it killed this process before, the ended jobs would run again.
        self._unrecorded: SimpleQueue[Run] = SimpleQueue()
        self._fetching = True
        self._asking = False  # a claim is being made
        self._make_loops()

    def _make_loops(self) -> None:
        def loop(name: str, step: Callable[[], timedelta], **more: Any) -> LoopThread:
            return LoopThread(f"{name}-{self.using}", step, **more)

        rooms = self._rooms
        self._fetch_loop = loop("fetch", self._fetch)
        self._finish_loop = loop("finish", self._finish)
        self._presence_loop = loop(
            "presence",
            rooms.presence.step,
            longest_wait=QUICK,
            at_end=rooms.presence.sign_off,
        )
        self._other_loops = [
            loop(
                "heartbeat",
                rooms.heartbeat.step,
                longest_wait=QUICK,
                at_end=rooms.heartbeat.end_leases,
            ),
            # Each of its steps queries the database: it reports whether the database answers.
            loop(
                "rescue",
                rooms.rescuer.step,
                on_trouble=self._on_trouble,
                on_success=self._on_success,
            ),
        ]

    # ---- start and stop ---------------------------------------------------------

    def start(self) -> None:
        """Start the threads."""
        for loop in (self._presence_loop, *self._other_loops, self._finish_loop):
            loop.start()
        self._fetch_loop.start()
        self._send(events.worker_started)

    @property
    def executor(self) -> Executor:
        """The executor of this alias."""
        return self._rooms.executor

    @property
    def runs(self) -> Runs:
        """The runs whose outcome is not in the table yet."""
        return self._rooms.runs

    @property
    def at_rest(self) -> bool:
        """Whether nothing is claimed, running or waiting to be written."""
        return not (self._asking or self.runs) and self._rooms.finisher.empty

    @property
    def sees_crashed(self) -> bool:
        """Whether jobs with crashes are due soon, or a worker that looks dead may leave some."""
        return self._rooms.rescuer.sees_crashed

    def ring(self) -> None:
        """Claim jobs now, without waiting for the next poll."""
        self._fetch_loop.ring()

    def stop_fetching(self) -> None:
        """Claim no more jobs."""
        self._fetching = False
        self._fetch_loop.stop()

    def stop(self, limit: timedelta) -> None:
        """Write the remaining outcomes, release the session lock and end the threads."""
        self._fetch_loop.join(limit)
        self._finish_loop.ring()
        self._presence_loop.stop()
        self._rooms.presence.interrupt()
        for loop in (*self._other_loops, self._finish_loop):
            loop.stop()
        for loop in (self._presence_loop, *self._other_loops, self._finish_loop):
            loop.join(limit)
        self._send(events.worker_stopped)

    # ---- from claim to outcome --------------------------------------------------

    def _fetch(self) -> timedelta:
        rescuer = self._rooms.rescuer
        if not self._rooms.presence.announced:
            # Without presence, the death of this worker is noticed only when its leases end.
            return SETTLING
        at_rest = self.at_rest
        began = self._finished.count
        self._asking = True
        try:
            claims = self._claim()
        finally:
            self._asking = False
        if claims is None:
            return UNTIL_RUNG
        if at_rest and not claims and rescuer.settled:
            self.quiet_since = began
        if claims:
            return AT_ONCE
        return self._poll_interval if rescuer.settled else SETTLING

    @property
    def _poll_interval(self) -> timedelta:
        options = self._served.options
        notified = options.session_locks and not self._rooms.presence.pooled
        return options.polls_every(woken=self._rooms.store.wakes_workers and notified)

    def _claim(self) -> int | None:
        """Claim and submit as many jobs as there is capacity for; None if there is none."""
        # A job with crashes may kill this process, and prefetched jobs would die with it.
        prefetch = 0 if self._served.crashed else self._prefetch.jobs
        free = 0
        if self._fetching:
            free = self._capacity.free(prefetch=prefetch, otherwise=self.ring)
            free = min(free, self._fitting())
        allowed = self._quota.take(free)
        if not allowed:
            return None
        taken = 0
        asked_at = now()
        try:
            claims = self._rooms.fetcher.fetch(limit=allowed)
            taken = len(claims)
        finally:
            self._quota.give(allowed - taken)
        self._capacity.occupy(taken)
        self._payloads.claimed([len(claim.payload) for claim, _facts in claims])
        runs = self.runs.add_all(claims, self, asked_at=asked_at)
        if self._fetching:
            self._pool.submit(runs)
        else:
            self.release_unstarted(runs)
        return taken

    def _fitting(self) -> int:
        """Return how many jobs may be claimed by their size."""
        self._waits_for_bytes = True  # first: a result may be written meanwhile
        fitting = self._payloads.jobs([run.size for run in self.runs.all()])
        self._waits_for_bytes = not fitting
        return fitting

    @contextmanager
    def in_one_thread(self, number: int) -> Iterator[None]:
        """Count jobs that run together in one thread as one job, during the block."""
        self._capacity.vacate(number - 1)
        try:
            yield
        finally:
            self._capacity.occupy(number - 1)

    def ended(self, run: Run, result: RunResult) -> None:
        """Queue the result of a run for the finisher, and free its capacity."""
        if run.took is not None:
            self._prefetch.ran(run.took)
        if not run.given_up or result.recorded:
            run.kept = size_of(result)
            self._rooms.finisher.put(run, result)
            self._finish_loop.ring()
        if self._served.crashed:
            self._unrecorded.put(run)
            self._finish_loop.ring()
        else:
            self._capacity.vacate()

    def _finish(self) -> timedelta:
        if self._pool.waiting and self._rooms.finisher.waiting < LARGEST_BATCH:
            time.sleep(LINGER.total_seconds())  # more runs will have ended, for the same write
        ended = self._unrecorded.qsize()
        written = self._rooms.finisher.write()
        if ended and self._rooms.finisher.empty:
            for _number in range(ended):
                self._unrecorded.get()
            self._capacity.vacate(ended)
        if self._rooms.fetcher.in_order.may_go_on:
            self.ring()
        return AT_ONCE if written else UNTIL_RUNG

    def _recorded(self, run: Run, result: RunResult) -> None:
        self.done += not isinstance(result.outcome, Released)
        self._finished.add()
        if self._waits_for_bytes:
            self.ring()

    # ---- runs that are released or given up -------------------------------------

    def release_unstarted(self, runs: list[Run]) -> None:
        """Release runs that no thread has begun, so that another worker may claim the jobs."""
        for run in runs:
            run.given_up = True
            self._rooms.finisher.put(run, RELEASED)
        self._quota.give(len(runs))
        self._capacity.vacate(len(runs))
        self._finish_loop.ring()

    def release(self, runs: list[Run]) -> None:
        """Release runs without counting an attempt, and interrupt their bodies.

        Without the interrupt, the open transaction of an atomic body on SQLite would block
        the write of the release.
        """
        for run in runs:
            run.given_up = run.lost = True
            self._rooms.finisher.put(run, RELEASED)
            run.interrupt(ClaimLost)
        self._finish_loop.ring()

    def give_up(self, run: Run) -> None:
        """Record a timeout for a body that ignores its interrupt; the thread is lost."""
        outcome = outcome_of(TimedOut(), run.claim, run.facts.policy, conflict=False)
        self._rooms.finisher.put(run, RunResult(outcome=outcome))
        self._finish_loop.ring()

    # ---- whether the database answers -------------------------------------------

    def _on_trouble(self, error: Exception) -> None:
        self._rooms.rescuer.trouble()
        if not self._away:
            self._away = True
            events.send(events.database_away, sender=type(self), using=self.using, error=error)

    def _on_success(self) -> None:
        if self._away:
            self._away = False
            events.send(events.database_back, sender=type(self), using=self.using)
            self.ring()

    def _send(self, signal: Any) -> None:
        events.send(signal, sender=type(self), worker_id=self._worker_id, using=self.using)
