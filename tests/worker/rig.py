"""The rooms of a worker around one thread, so that a test can hand them one job at a time.

    job = rig.run(body, atomic=True)

enqueues a job whose task calls ``body(context)``, claims it, runs it, records how it
ended, and returns the row. Each step can be taken alone as well.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import Error, connections

from aftercommit.conf import BackendOptions
from aftercommit.models import Job, State
from aftercommit.store import store_for
from aftercommit.tasks import Task, task
from aftercommit.values import Claim, Ran
from aftercommit.worker.announcer import Announcer
from aftercommit.worker.executor import Executor
from aftercommit.worker.finisher import Finisher
from aftercommit.worker.fusing import Fusing
from aftercommit.worker.runs import Run, Runs
from aftercommit.worker.session import Session
from aftercommit.worker.setup import task_of
from tests.app.models import Effect

commits = pytest.mark.django_db(transaction=True)
LEASE = timedelta(seconds=30)
AT_ONCE = timedelta(0)
QUEUE = "rig"

Body = Callable[[Any], Any]
bodies: dict[str, Body] = {}


def call(context: Any, number: str) -> Any:
    """Call the body that a test has given."""
    return bodies[number](context)


async def acall(context: Any, number: str) -> Any:
    """Await the body that a test has given."""
    return await bodies[number](context)


class Rig:
    """Store, executor and finisher as a worker wires them, and no thread of their own."""

    def __init__(self, *, using: str = "default", options: BackendOptions | None = None) -> None:
        self.using = using
        self.store = store_for(using)
        self.options = options or BackendOptions()
        self.worker_id = uuid4()
        self.runs = Runs(lease=LEASE)
        self.session = Session()
        self.announcer = Announcer()
        self.claims: list[Claim] = []
        self.written: list[tuple[Claim, Ran]] = []
        self.lost: list[Claim] = []
        self.executor = Executor(
            using=using,
            hold=self.store.hold,
            record=self.store.finish,
            task_of=self._task_of,
            started=self.announcer.started,
        )
        self.finisher = Finisher(
            self.store, written=self._written, lost=self._lost, let_go=self.runs.remove
        )
        self.fusing = Fusing(
            self.executor,
            using=using,
            savepoint=self.store.savepoint,
            record_many=self.store.finish_many,
        )
        self.in_company = False  # run each atomic job between two others, in one transaction
        self.company: list[UUID] = []
        self._tasks: dict[UUID, Task] = {}
        self._watched: list[Any] = []

    # ---- a whole run, or what of it a test needs ----------------------------------

    def run(self, body: Body, **options: Any) -> Job:
        """Do all of it once."""
        job_id = self.enqueue(body, **options)
        return self.run_again(job_id)

    def run_again(self, job_id: UUID) -> Job:
        """Claim a job that is there, run it, record how it ended."""
        claim = self.claim(job_id)
        self.finish(claim, self.execute(claim))
        return self.job(job_id)

    def enqueue(self, body: Body, **options: Any) -> UUID:
        """Enqueue a job that calls ``body``; ``options`` are those of ``@task``."""
        number = uuid4().hex
        bodies[number] = body
        given = {"takes_context": True, "backoff": AT_ONCE, **options}
        function = acall if asyncio.iscoroutinefunction(body) else call
        return self.enqueue_task(task(queue_name=QUEUE, **given)(function), number)

    def enqueue_task(self, task: Task, *args: Any) -> UUID:
        """Enqueue any task."""
        job_id = UUID(task.enqueue(*args).id)
        self._tasks[job_id] = task
        return job_id

    def claim(self, job_id: UUID, *, lease: timedelta = LEASE) -> Claim:
        """Claim a certain job for this rig's worker."""
        (claim,) = self.store.claim(
            queue=self.job(job_id).queue,
            limit=1,
            worker_id=self.worker_id,
            lease=lease,
            only=[job_id],
        )
        self.claims.append(claim)
        return claim

    def execute(self, claim: Claim) -> Ran:
        """Run it in this thread."""
        return self.execute_run(self.runs.add(claim))

    def execute_run(self, run: Run) -> Ran:
        """Run it in this thread, as a thread of the pool does."""
        self.session.prepare()
        if self.in_company and self.executor._look_up(run).policy.atomic:
            ran = self._execute_in_company(run)
        elif self.executor.is_async(run):
            ran = asyncio.run(self.executor.arun(run))
        else:
            ran = self.executor.run(run)
        self.session.tidy()
        return ran

    def _execute_in_company(self, run: Run) -> Ran:
        """Run it between two others; they, too, must come to a good end."""
        others = [self.enqueue(_leave_one, atomic=True) for _ in "12"]
        self.company += others
        before, after = (self.runs.add(self.claim(other)) for other in others)
        ends = dict(self.fusing.run([before, run, after], at_work))
        for other in (before, after):
            # Not begun, if the others were undone: then it is put back, and run later.
            self.finisher.put(other.claim, ends.get(other) or self.executor.run(other))
        return ends[run]

    def check_company(self) -> None:
        """See that the others have left exactly one effect each."""
        assert {self.job(other).state for other in self.company} <= {State.SUCCEEDED}
        assert all(effects(str(other), using=self.using) == 1 for other in self.company)

    def finish(self, claim: Claim, ran: Ran) -> None:
        """Record how it ended, once."""
        self.finisher.put(claim, ran)
        self.finisher.write()

    def finish_whatever_happens(self, tries: int = 5) -> None:
        """Record what is handed over as the finisher's rounds do: a broken write is repeated."""
        for _try in range(tries):
            with suppress(Error):
                self.finisher.write()
                return
            connections.close_all()
        raise AssertionError(f"The outcome could not be written in {tries} tries.")

    def lose(self, claim: Claim) -> Claim:
        """Give the job to another worker, as if ours had fallen silent."""
        rows = Job.objects.using(self.using).filter(pk=claim.job_id)
        rows.update(lease_until=claim.enqueued_at - LEASE)
        self.store.rescue(max_crashes=100)
        (successor,) = self.store.claim(
            queue=claim.queue, limit=1, worker_id=uuid4(), lease=LEASE, only=[claim.job_id]
        )
        return successor

    def job(self, job_id: UUID) -> Job:
        """Return the row as it is now."""
        return Job.objects.using(self.using).get(pk=job_id)

    def close(self) -> None:
        """Take the session's watch from the connections of this thread."""
        for connection in connections.all(initialized_only=True):
            connection.execute_wrappers.clear()

    # ---- what the rooms ask for and tell ------------------------------------------

    def _task_of(self, claim: Claim) -> tuple[Task, BackendOptions]:
        if claim.job_id not in self._tasks:  # not enqueued here
            return task_of(claim)
        return self._tasks[claim.job_id], self.options

    def _written(self, claim: Claim, ran: Ran) -> None:
        self.written.append((claim, ran))
        self.announcer.ended(claim, ran)

    def _lost(self, claim: Claim) -> None:
        self.lost.append(claim)
        self.announcer.lost(claim)


def _leave_one(context: Any) -> None:
    leave(str(context.job_id))


@contextmanager
def at_work(runs: Sequence[Run]) -> Iterator[None]:
    """Stand for the board."""
    yield


def effects(key: str, *, using: str = "default") -> int:
    """Count what tasks have left under a key."""
    return Effect.objects.using(using).filter(key=key).count()


def leave(key: str, *, using: str = "default") -> None:
    """Leave one effect under a key."""
    Effect.objects.using(using).create(key=key)


def sql(statement: str, *given: Any, using: str = "default") -> list[Any]:
    """Run a statement on this thread's connection, past Django's bookkeeping."""
    with connections[using].cursor() as cursor:
        cursor.execute(statement, given or None)
        return list(cursor.fetchall()) if cursor.description else []


@contextmanager
def another_connection(using: str = "default"):
    """Give a connection of somebody else's."""
    connection = connections[using].copy()
    try:
        yield connection
    finally:
        connection.close()
