"""Where a single thread runs claims of one database alias, one after the other."""

import logging
from datetime import timedelta
from typing import Self
from uuid import UUID

from aftercommit import events
from aftercommit.errors import Stopped
from aftercommit.store import store_for
from aftercommit.store.base import Rescued
from aftercommit.tasks import registered
from aftercommit.values import Claim, ClaimQuery, Ran
from aftercommit.worker.announcer import Announcer
from aftercommit.worker.cell import Cell
from aftercommit.worker.executor import Executor
from aftercommit.worker.finisher import Finisher
from aftercommit.worker.heartbeat import Heartbeat
from aftercommit.worker.maintenance import Maintenance
from aftercommit.worker.overseer import Overseer
from aftercommit.worker.rounds import Rounds
from aftercommit.worker.runs import Run, Runs, now
from aftercommit.worker.session import Session
from aftercommit.worker.setup import Catalogue, Served
from aftercommit.worker.watch import Watch

logger = logging.getLogger("aftercommit")

TO_JOIN = timedelta(seconds=2)
TO_LOOK_AROUND = timedelta(seconds=5)  # for dead workers, before the first claim


class Desk:
    """A worker of one thread: it holds a session lock and rescues, as the large one does."""

    def __init__(self, one: Served, worker_id: UUID) -> None:
        self.store = store_for(one.using)
        self._using = one.using
        self._options = one.options
        self._worker_id = worker_id
        self._runs = Runs(lease=one.options.lease)
        self._run: Run | None = None
        self._session = Session()
        self._announcer = Announcer()
        self._executor = Executor(
            using=one.using,
            hold=self.store.hold,
            record=self.store.finish,
            task_of=Catalogue(),
            started=self._announcer.started,
        )
        self._finisher = Finisher(
            self.store,
            written=self._announcer.ended,
            lost=self._announcer.lost,
            let_go=self._runs.remove,
        )
        self._watch = Watch(
            self.store,
            worker_id=worker_id,
            session_locks=one.options.session_locks,
            news=lambda: None,
        )
        self._maintenance = Maintenance(
            self.store,
            worker_id=worker_id,
            lease=one.options.lease,
            heartbeat=one.options.heartbeat,
            max_crashes=one.options.max_crashes,
            rescued=self._rescued,
            forgotten=self._watch.announce_again,
        )
        self._rounds = self._all_rounds()

    def _all_rounds(self) -> list[Rounds]:
        lease, heartbeat = self._options.lease, self._options.heartbeat
        beat = Heartbeat(self.store, self._runs, lease=lease, heartbeat=heartbeat)
        overseer = Overseer([self._runs], give_up=lambda _run: None)
        return [
            Rounds(f"watch-{self._using}", self._watch.step, at_end=self._watch.sign_off),
            Rounds(
                f"maintenance-{self._using}",
                self._maintenance.step,
                on_trouble=lambda _error: self._maintenance.trouble(),
            ),
            Rounds(f"heartbeat-{self._using}", beat.step),
            Rounds(f"overseer-{self._using}", overseer.step),
        ]

    def __enter__(self) -> Self:
        for rounds in self._rounds:
            rounds.start()
        end = now() + TO_LOOK_AROUND.total_seconds()
        while not (self._watch.announced and self._maintenance.settled) and now() < end:
            self._maintenance.looked.wait(timedelta(milliseconds=100))
        return self

    def __exit__(self, *_: object) -> None:
        for rounds in self._rounds:
            rounds.stop()
        self._watch.interrupt()
        for rounds in self._rounds:
            rounds.join(TO_JOIN)

    def claim(self, job_id: UUID) -> Claim | None:
        """Claim this job, if it is still due and its task is known."""
        job = self.store.job(job_id)
        if job is None or registered(job.task_path) is None:
            return None
        claims = self.store.claim(
            ClaimQuery(
                queue=job.queue,
                limit=1,
                worker_id=self._worker_id,
                lease=self._options.lease,
                only=[job_id],
            )
        )
        return claims[0] if claims else None

    def run(self, claim: Claim) -> None:
        """Run it, in a process of its own if it is a suspect, and record how it ended."""
        self._run = run = self._runs.add(claim)
        ran = self._run_alone(run) if claim.crashes else self._run_here(run)
        self._run = None
        if ran is not None:
            self._finisher.put(claim, ran)
            self._finisher.write()
            return
        self._runs.remove(claim)
        rescued = self.store.crashed(claim, max_crashes=self._options.max_crashes)
        if rescued is not None:
            self._rescued(rescued)

    def give_back(self) -> None:
        """Break off what is running; it is released. Safe in a signal handler."""
        run = self._run
        if run is not None:
            run.interrupt(Stopped)

    def _run_here(self, run: Run) -> Ran:
        self._session.prepare()
        ran = self._executor.run(run)
        self._session.tidy()  # the same connection records the outcome
        return ran

    def _run_alone(self, run: Run) -> Ran | None:
        cell = Cell(self._using)
        try:
            return cell.run(run)
        finally:
            cell.end()

    def _rescued(self, rescued: Rescued) -> None:
        events.tell(events.job_rescued, sender=type(self), rescued=rescued)
