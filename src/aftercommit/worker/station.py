"""All that one process does for one database alias."""

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

from aftercommit import events
from aftercommit.errors import ClaimLost, TimedOut
from aftercommit.failure import run_error
from aftercommit.models import State
from aftercommit.store import store_for
from aftercommit.store.base import Rescued
from aftercommit.values import Claim, Failed, Ran, Released, Retry
from aftercommit.worker.ahead import Ahead
from aftercommit.worker.announcer import Announcer
from aftercommit.worker.executor import Executor
from aftercommit.worker.fetcher import Fetcher
from aftercommit.worker.finisher import LARGEST_BATCH, Finisher
from aftercommit.worker.heartbeat import Heartbeat
from aftercommit.worker.maintenance import Maintenance
from aftercommit.worker.orders import Orders
from aftercommit.worker.pool import Pool
from aftercommit.worker.rounds import Rounds
from aftercommit.worker.runs import Run, Runs
from aftercommit.worker.setup import Served, is_known
from aftercommit.worker.slots import Ends, Slots, Tickets
from aftercommit.worker.solo import Solo
from aftercommit.worker.watch import Watch

logger = logging.getLogger("aftercommit")

UNTIL_RUNG = timedelta(seconds=5)
AT_ONCE = timedelta(0)
SETTLING = timedelta(milliseconds=100)  # a dead worker's jobs are about to be ready
AFTER_MISHAP = timedelta(seconds=5)  # until a job is tried again that could not be started
LINGER = timedelta(milliseconds=10)
SUSPECTS_ABOUT = timedelta(seconds=10)
UNBEGUN = Ran(outcome=Released())  # no run at all
QUICK = timedelta(milliseconds=300)  # longest wait of those that keep this worker alive


class Station:
    """Fetches, finishes, renews, rescues and listens, each in a thread of its own.

    So a slow finish does not stop a renewal, and one database that is away does not stop
    the others.
    """

    def __init__(
        self,
        served: Served,
        *,
        worker_id: UUID,
        slots: Slots,
        tickets: Tickets,
        pool: Pool,
        ends: Ends,
        ahead: Ahead,
    ) -> None:
        self.using = served.using
        self.runs = Runs(lease=served.options.lease)
        self.quiet_since = -1  # ends of runs when a look last found nothing at all
        self.done = 0  # runs recorded since the start, without those that do not count
        self._worker_id = worker_id
        self._slots = slots
        self._tickets = tickets
        self._pool = pool
        self._ends = ends
        self._ahead = ahead
        self._options = served.options
        self._store = store_for(served.using)
        self._poll_interval = served.options.polls_every(
            woken=self._store.wakes_workers and served.options.session_locks
        )
        self._announcer = Announcer()
        self._build_rooms(served)
        self._build_rounds()
        self._away = False
        self._fetching = True
        self._asking = False  # a claim is on its way

    def _build_rooms(self, served: Served) -> None:
        options = served.options
        self._orders = Orders(
            self._store,
            started=self._announcer.started,
            ended=self._ended,
            at_once=lambda: self._pool.at_once,
        )
        self.finisher = Finisher(
            self._store,
            written=self._written,
            lost=self._announcer.lost,
            let_go=self.runs.remove,
        )
        self._fetcher = Fetcher(
            self._store,
            queues=served.queues,
            backends=served.backends,
            worker_id=self._worker_id,
            lease=options.lease,
            knows=is_known,
            relays=served.relays,
        )
        self._heartbeat = Heartbeat(
            self._store, self.runs, lease=options.lease, heartbeat=options.heartbeat
        )
        self._watch = Watch(
            self._store,
            worker_id=self._worker_id,
            session_locks=options.session_locks,
            news=self.ring,
        )
        self._maintenance = Maintenance(
            self._store,
            worker_id=self._worker_id,
            lease=options.lease,
            heartbeat=options.heartbeat,
            max_crashes=options.max_crashes,
            rescued=self._rescued,
            forgotten=self._watch.announce_again,
        )
        self._solo = Solo(served.using, ended=self._ended, crashed=self._solo_crashed)

    def _build_rounds(self) -> None:
        def rounds(name: str, step: Callable[[], timedelta], **more: Any) -> Rounds:
            return Rounds(f"{name}-{self.using}", step, **more)

        self._fetch_rounds = rounds("fetch", self._fetch)
        self._finish_rounds = rounds("finish", self._finish)
        self._watch_rounds = rounds(
            "watch", self._watch.step, longest_wait=QUICK, at_end=self._watch.sign_off
        )
        self._other_rounds = [
            rounds("heartbeat", self._heartbeat.step, longest_wait=QUICK),
            # It asks at every step, so it is the one that knows whether anybody answers.
            rounds(
                "maintenance",
                self._maintain,
                on_trouble=self._on_trouble,
                on_success=self._on_success,
            ),
        ]

    # ---- life -------------------------------------------------------------------

    def start(self) -> None:
        """Begin to serve the alias."""
        for rounds in (self._watch_rounds, *self._other_rounds):
            rounds.start()
        self._finish_rounds.start()
        self._fetch_rounds.start()
        events.tell(
            events.worker_started, sender=type(self), worker_id=self._worker_id, using=self.using
        )

    @property
    def executor(self) -> Executor:
        """What runs the jobs of this alias."""
        return self._orders.executor

    @property
    def at_rest(self) -> bool:
        """Whether nothing is claimed, running or waiting to be written."""
        return not (self._asking or self.runs) and self.finisher.empty

    def ring(self) -> None:
        """Look for jobs now."""
        self._fetch_rounds.ring()

    def stop_fetching(self) -> None:
        """Claim nothing more."""
        self._fetching = False
        self._fetch_rounds.stop()

    def give_back(self, runs: list[Run]) -> None:
        """Release runs without spending an attempt: they have not begun, or must end now.

        Bodies are broken off: on SQLite the transaction of an atomic one would keep the
        release from being written.
        """
        for run in runs:
            run.given_up = run.lost = True
            self.finisher.put(run.claim, Ran(outcome=Released()))
            run.interrupt(ClaimLost)
        self._finish_rounds.ring()

    def stop(self, limit: timedelta) -> None:
        """Write what is left, give the session lock back, end the threads."""
        self._fetch_rounds.join(limit)
        self._solo.stop()
        self._finish_rounds.ring()
        self._watch_rounds.stop()
        self._watch.interrupt()
        for rounds in (*self._other_rounds, self._finish_rounds):
            rounds.stop()
        for rounds in (self._watch_rounds, *self._other_rounds, self._finish_rounds):
            rounds.join(limit)
        events.tell(
            events.worker_stopped, sender=type(self), worker_id=self._worker_id, using=self.using
        )

    # ---- the road of a job ------------------------------------------------------

    def _fetch(self) -> timedelta:
        if not self._watch.announced:
            return SETTLING  # a job that nobody sees die would wait for its lease
        at_rest = self.at_rest
        began = self._ends.count
        self._asking = True
        try:
            claims = self._claim()
        finally:
            self._asking = False
        if claims is None:
            return UNTIL_RUNG
        if at_rest and not claims and self._maintenance.settled:
            self.quiet_since = began
        if claims:
            return AT_ONCE
        return self._poll_interval if self._maintenance.settled else SETTLING

    def _claim(self) -> int | None:
        """Claim and begin what there is room for; None if there is none."""
        ahead = self._ahead.jobs
        free = self._slots.free(ahead=ahead, otherwise=self.ring) if self._fetching else 0
        allowed = self._tickets.take(free)
        if not allowed:
            return None
        claims: list[Claim] = []
        try:
            claims = self._fetcher.fetch(limit=allowed)
        finally:
            self._tickets.give(allowed - len(claims))
        self._begin(claims, threads_free=max(self._slots.open, 0))
        return len(claims)

    def _begin(self, claims: list[Claim], *, threads_free: int) -> None:
        self._slots.occupy(len(claims))
        runs = self.runs.add_all(claims)
        if not self._fetching:
            self.hand_back(runs)
            return
        suspects = [run for run in runs if run.claim.crashes]
        if suspects:
            # With them about, the next death of this process may be near.
            self._ahead.close(SUSPECTS_ABOUT)
            self.hand_back(suspects[threads_free:])
        for run in suspects[:threads_free]:
            self._begin_alone(run)
        self._pool.submit(self._orders.of(run for run in runs if not run.claim.crashes))

    def _begin_alone(self, run: Run) -> None:
        try:
            self._solo.submit(run)
        except Exception:
            logger.exception("Job %s could not be started", run.claim.job_id)
            self._ended(run, Ran(outcome=Released(AFTER_MISHAP)))

    def hand_back(self, runs: list[Run]) -> None:
        """Give back what was claimed and has not begun, for whoever has time for it."""
        for run in runs:
            run.given_up = True
            self.finisher.put(run.claim, UNBEGUN)
        self._tickets.give(len(runs))
        self._slots.vacate(len(runs))
        self._finish_rounds.ring()

    def _ended(self, run: Run, ran: Ran, seconds: float | None = None) -> None:
        """Free the slot of a body that is over; send its outcome on the way to the table."""
        if seconds is not None:
            self._ahead.ran(seconds)
        if not run.given_up or ran.recorded:
            self.finisher.put(run.claim, ran)
            self._finish_rounds.ring()
        self._slots.vacate()

    def _finish(self) -> timedelta:
        if self._pool.waiting and self.finisher.waiting < LARGEST_BATCH:
            time.sleep(LINGER.total_seconds())  # more will have ended, for the same write
        return AT_ONCE if self.finisher.write() else UNTIL_RUNG

    def _written(self, claim: Claim, ran: Ran) -> None:
        if ran is not UNBEGUN:
            self.done += not isinstance(ran.outcome, Released)
            self._announcer.ended(claim, ran)
        self._ends.add()

    # ---- when things go wrong ---------------------------------------------------

    def _maintain(self) -> timedelta:
        wait = self._maintenance.step()
        if not self._maintenance.settled:
            self._solo.warm_up()  # somebody looks dead
        self._solo.trim()
        return wait

    def give_up(self, run: Run) -> None:
        """Record a timeout for a body that cannot be interrupted; its thread is lost."""
        error = run_error(TimedOut())
        last = run.claim.failed_runs + 1 >= run.claim.max_attempts
        self.finisher.put(run.claim, Ran(outcome=Failed(error) if last else Retry(error)))
        self._finish_rounds.ring()

    def _solo_crashed(self, run: Run) -> None:
        self.runs.remove(run.claim)  # first: if the database is away, the lease must end
        self._slots.vacate()
        rescued = self._store.crashed(run.claim, max_crashes=self._options.max_crashes)
        if rescued is not None:
            self._rescued(rescued)
        self._ends.add()

    def _rescued(self, rescued: Rescued) -> None:
        events.tell(events.job_rescued, sender=type(self), rescued=rescued)
        if rescued.state != State.READY and (job := self._store.job(rescued.job_id)):
            self._announcer.quarantined(job)
        self.ring()

    def _on_trouble(self, error: Exception) -> None:
        self._maintenance.trouble()
        if not self._away:
            self._away = True
            events.tell(events.database_away, sender=type(self), using=self.using, error=error)

    def _on_success(self) -> None:
        if self._away:
            self._away = False
            events.tell(events.database_back, sender=type(self), using=self.using)
            self.ring()
