"""An inline worker for one thread and its connections: whatever it writes, the caller sees."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Self
from uuid import UUID

from aftercommit.enqueue.lookup import known_task
from aftercommit.enqueue.registry import option
from aftercommit.models import Job
from aftercommit.values import Claim, RunResult
from aftercommit.worker.config import Served
from aftercommit.worker.facts import TaskFacts
from aftercommit.worker.inline import has_failed, may_join
from aftercommit.worker.inline_alias import TO_JOIN, InlineAlias
from aftercommit.worker.running.connections import ThreadConnections
from aftercommit.worker.running.timeouts import Timeouts
from aftercommit.worker.runs import Run
from aftercommit.worker.upkeep.loop import LoopThread

MOST_LOOKED_AT = 1000  # due jobs, for those of a batch
Recorded = Callable[[Sequence[tuple[Run, RunResult]]], None]


class OneThread(InlineAlias):
    """One database alias of such a worker.

    It has no presence, heartbeat and rescue: those are threads with connections of their own,
    which do not see the transaction of a test. Notes and pauses are written between the runs.
    """

    _crashed = None  # a job with crashes runs here as well

    def __init__(
        self,
        served: Served,
        worker_id: UUID,
        *,
        recorded: Recorded,
        claimed: Callable[[], None],
    ) -> None:
        super().__init__(served, worker_id, recorded=recorded)
        self._claimed = claimed
        self._connections = _Kept()

    def _make_loops(self) -> list[LoopThread]:
        timeouts = Timeouts([self._rooms.runs], give_up=lambda _run: None)
        return [LoopThread("timeouts-in-test", timeouts.step)]

    def __enter__(self) -> Self:
        return self

    def begin(self) -> None:
        """Let pass and make what is due, as a worker does at its start."""
        self._let_pass()
        self._make_scheduled_jobs()

    def __exit__(self, *_: object) -> None:
        for loop in self._loops:
            loop.stop()
            loop.join(TO_JOIN)

    def look_around(self) -> timedelta:
        """Do what a worker does between runs; return when there is something to do again."""
        return self._rooms.let_pass_and_schedule()

    def run_one(self, job: Job) -> int:
        """Run a job, and those with it in its batch; return how many runs there were."""
        if option(known_task(job.task_path), "timeout") is not None:
            self._loops[0].begin()
        ran = self.run([job, *self._batch_of(job)])
        self._rooms.notes.write_all()
        return ran

    def _claim(self, jobs: Sequence[Job]) -> list[tuple[Claim, TaskFacts]]:
        claims = super()._claim(jobs)
        self._claimed()
        return claims

    def _batch_of(self, job: Job) -> list[Job]:
        size = option(known_task(job.task_path), "batch_size") or 1
        if size == 1 or has_failed(job):
            return []
        others = self.store.jobs(self.due(limit=MOST_LOOKED_AT, name=job.task_path))
        return [one for one in others if one.id != job.id and may_join(one, job)][: size - 1]

    def _write(self, claims: Sequence[tuple[Claim, TaskFacts]]) -> None:
        """Write the results; a database error is the test's to see."""
        while not self._rooms.finisher.empty:
            self._rooms.finisher.write()
        for claim, _facts in claims:
            if claim.limit_key is not None:
                self._rooms.passage.freed(claim)


class _Kept(ThreadConnections):
    """Connections that stay as they are: the test goes on with them."""

    def prepare(self) -> None:
        """Watch nothing."""

    def tidy(self) -> None:
        """Close nothing."""

    def rest(self) -> None:
        """Close nothing."""
