"""All that one worker process does for one database alias."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

from aftercommit import events
from aftercommit.errors import ClaimLost, TimedOut
from aftercommit.values import Released, RunResult
from aftercommit.worker.assembly import assemble
from aftercommit.worker.claiming.capacity import Capacity, FinishedCounter
from aftercommit.worker.claiming.prefetch import Prefetch
from aftercommit.worker.config import Served
from aftercommit.worker.quota import RunQuota
from aftercommit.worker.running.executor import Executor
from aftercommit.worker.running.outcome import outcome_of
from aftercommit.worker.running.pool import Pool
from aftercommit.worker.runs import Run, Runs
from aftercommit.worker.upkeep.loop import LoopThread

UNTIL_RUNG = timedelta(seconds=5)
AT_ONCE = timedelta(0)
SETTLING = timedelta(milliseconds=100)  # a dead worker's jobs are about to be ready
QUICK = timedelta(milliseconds=300)  # longest wait of the loops that keep this worker alive
RELEASED = RunResult(outcome=Released())


class AliasWorker:
    """Fetches, finishes, renews, rescues and listens, each in a thread of its own.

    So a slow finish does not stop a renewal, and one database that is away does not stop
    the others.
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
    ) -> None:
        self.using = served.using
        self.quiet_since = -1  # count of ``finished`` when a look last found nothing at all
        self.done = 0  # runs recorded since the start, without those that were released
        self._served = served
        self._worker_id = worker_id
        self._pool = pool
        self._capacity = capacity
        self._quota = quota
        self._finished = finished
        self._prefetch = prefetch
        self._rooms = assemble(
            served, worker_id=worker_id, news=self.ring, recorded=self._recorded
        )
        woken = self._rooms.store.wakes_workers and served.options.session_locks
        self._poll_interval = served.options.polls_every(woken=woken)
        self._away = False
        self._fetching = True
        self._asking = False  # a claim is on its way
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
            loop("heartbeat", rooms.heartbeat.step, longest_wait=QUICK),
            # It asks the database at every step, so it notices whether that answers.
            loop(
                "rescue",
                rooms.rescuer.step,
                on_trouble=self._on_trouble,
                on_success=self._on_success,
            ),
        ]

    # ---- life -------------------------------------------------------------------

    def start(self) -> None:
        """Begin to serve the alias."""
        for loop in (self._presence_loop, *self._other_loops, self._finish_loop):
            loop.start()
        self._fetch_loop.start()
        self._send(events.worker_started)

    @property
    def executor(self) -> Executor:
        """What runs the jobs of this alias."""
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
        """Whether there are, or will soon be, jobs to run that were on a dead worker."""
        return self._rooms.rescuer.sees_crashed

    def ring(self) -> None:
        """Look for jobs now."""
        self._fetch_loop.ring()

    def stop_fetching(self) -> None:
        """Claim nothing more."""
        self._fetching = False
        self._fetch_loop.stop()

    def stop(self, limit: timedelta) -> None:
        """Write what is left, give the session lock back, end the threads."""
        self._fetch_loop.join(limit)
        self._finish_loop.ring()
        self._presence_loop.stop()
        self._rooms.presence.interrupt()
        for loop in (*self._other_loops, self._finish_loop):
            loop.stop()
        for loop in (self._presence_loop, *self._other_loops, self._finish_loop):
            loop.join(limit)
        self._send(events.worker_stopped)

    # ---- the way of a job -------------------------------------------------------

    def _fetch(self) -> timedelta:
        rescuer = self._rooms.rescuer
        if not self._rooms.presence.announced:
            return SETTLING  # if this worker died now, nobody would see it before the lease ends
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

    def _claim(self) -> int | None:
        """Claim and begin as many jobs as there is capacity for; None if there is none."""
        # A job with crashes may kill this process: no other may wait here meanwhile.
        prefetch = 0 if self._served.crashed else self._prefetch.jobs
        free = 0
        if self._fetching:
            free = self._capacity.free(prefetch=prefetch, otherwise=self.ring)
        allowed = self._quota.take(free)
        if not allowed:
            return None
        taken = 0
        try:
            claims = self._rooms.fetcher.fetch(limit=allowed)
            taken = len(claims)
        finally:
            self._quota.give(allowed - taken)
        self._capacity.occupy(taken)
        runs = self.runs.add_all(claims, self)
        if self._fetching:
            self._pool.submit(runs)
        else:
            self.hand_back(runs)
        return taken

    def ended(self, run: Run, result: RunResult) -> None:
        """Free the capacity of a body that is over; send its result on its way to the table."""
        if run.took is not None:
            self._prefetch.ran(run.took)
        if not run.given_up or result.recorded:
            self._rooms.finisher.put(run, result)
            self._finish_loop.ring()
        self._capacity.vacate()

    def _finish(self) -> timedelta:
        return AT_ONCE if self._rooms.finisher.write() else UNTIL_RUNG

    def _recorded(self, run: Run, result: RunResult) -> None:
        self.done += not isinstance(result.outcome, Released)
        self._finished.add()

    # ---- runs that do not come to their own end ---------------------------------

    def hand_back(self, runs: list[Run]) -> None:
        """Release what was claimed and has not begun, for a worker that has time for it."""
        for run in runs:
            run.given_up = True
            self._rooms.finisher.put(run, RELEASED)
        self._quota.give(len(runs))
        self._capacity.vacate(len(runs))
        self._finish_loop.ring()

    def release(self, runs: list[Run]) -> None:
        """Release runs without spending an attempt, and interrupt their bodies.

        On SQLite the transaction of an atomic body would keep the release from being written.
        """
        for run in runs:
            run.given_up = run.lost = True
            self._rooms.finisher.put(run, RELEASED)
            run.interrupt(ClaimLost)
        self._finish_loop.ring()

    def give_up(self, run: Run) -> None:
        """Record a timeout for a body that cannot be interrupted; its thread is lost."""
        outcome = outcome_of(TimedOut(), run.claim, run.facts.policy, conflict=False)
        self._rooms.finisher.put(run, RunResult(outcome=outcome))
        self._finish_loop.ring()

    # ---- the database -----------------------------------------------------------

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
