"""The rooms of a worker around one thread, so that a test can hand them one job at a time.

    job = rig.run(body, atomic=True)

enqueues a job whose task calls ``body(context)``, claims it, runs it, records how it
ended, and returns the row. Each step can be taken alone as well.
"""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import Error, connections

from aftercommit.enqueue.decorator import task
from aftercommit.enqueue.task import Task
from aftercommit.models import Job, Lease, State
from aftercommit.options.conf import BackendOptions
from aftercommit.options.worker import WorkerConfig
from aftercommit.values import Claim, ClaimQuery, RunResult
from aftercommit.worker.assembly import assemble
from aftercommit.worker.config import Served
from aftercommit.worker.facts import TaskFacts, facts_for
from aftercommit.worker.quota import RunQuota
from aftercommit.worker.running.atomic.shared import SharedTransactions
from aftercommit.worker.running.connections import ThreadConnections
from aftercommit.worker.runs import Owner, Run
from aftercommit.worker.worker import Worker
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
    """The rooms of a worker as it wires them, and no thread of their own. Owns its runs."""

    def __init__(self, *, using: str = "default", options: BackendOptions | None = None) -> None:
        self.using = using
        self.options = options or BackendOptions()
        self.worker_id = uuid4()
        served = Served(using=using, queues=None, backends=(), options=self.options, relays=False)
        self.rooms = assemble(served, worker_id=self.worker_id)
        self.store = self.rooms.store
        self.runs = self.rooms.runs
        self.leases = self.rooms.leases
        self.executor = self.rooms.executor
        self.finisher = self.rooms.finisher
        self.announcer = self.rooms.announcer
        self.connections = ThreadConnections()
        self.connections.__enter__()
        self.claims: list[Claim] = []
        self.written: list[tuple[Claim, RunResult]] = []
        self.lost: list[Claim] = []
        self._listen()
        self.shared = SharedTransactions(self.executor, self.store)
        self.in_company = False  # run each atomic job between two others, in one transaction
        self.company: list[UUID] = []
        self._tasks: dict[UUID, Task] = {}
        self._facts: dict[UUID, TaskFacts] = {}
        self._held: dict[tuple[UUID, int], Run] = {}

    def _listen(self) -> None:
        """Note what the announcer is asked to tell."""
        ended, lost = self.announcer.ended, self.announcer.lost

        def note_ended(run: Run, result: RunResult) -> None:
            self.written.append((run.claim, result))
            ended(run, result)

        def note_lost(claim: Claim) -> None:
            self.lost.append(claim)
            lost(claim)

        self.announcer.ended = note_ended
        self.announcer.lost = note_lost
        self.announcer.good_end_is_told = lambda: True  # here

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
            ClaimQuery(
                queue=self.job(job_id).queue,
                limit=1,
                worker_id=self.worker_id,
                lease=lease,
                only=[job_id],
            )
        )
        self.claims.append(claim)
        return claim

    def execute(self, claim: Claim) -> RunResult:
        """Run it in this thread."""
        return self.execute_run(self.hold(claim))

    def hold(self, claim: Claim, *, owner: Owner | None = None) -> Run:
        """Hold a claim, once, as a run of this rig's, or of another owner's."""
        name = (claim.job_id, claim.token)
        if name not in self._held:
            self.leases.opened([claim])
            self._held[name] = self.runs.add(claim, self.facts_of(claim), owner or self)
        return self._held[name]

    def facts_of(self, claim: Claim) -> TaskFacts:
        """Return what is known of a claim's task: as it was enqueued here, or as declared."""
        task = self._tasks.get(claim.job_id)
        if task is None:
            facts = self.rooms.catalogue.facts_of(claim)
            assert facts is not None
            return facts
        if claim.job_id not in self._facts:
            self._facts[claim.job_id] = facts = facts_for(task, self.options)
            facts.group = self.shared if facts.policy.atomic and facts.policy.fuse else None
        return self._facts[claim.job_id]

    def in_one_thread(self, runs: Sequence[Run]) -> AbstractContextManager[None]:
        """Count nothing: a rig has no threads."""
        return nullcontext()

    def ended(self, ends: Sequence[tuple[Run, RunResult]]) -> None:
        """Take results, as the owner of runs does."""
        self.finisher.put_all(ends)

    def execute_run(self, run: Run) -> RunResult:
        """Run it in this thread, as a thread of the pool does."""
        self.connections.prepare()
        if self.in_company and run.facts.policy.atomic:
            result = self._execute_in_company(run)
        elif run.facts.is_async:
            result = asyncio.run(self.executor.arun(run))
        else:
            result = self.executor.run(run)
        self.connections.tidy()
        return result

    def _execute_in_company(self, run: Run) -> RunResult:
        """Run it between two others; they, too, must come to a good end."""
        others = [self.enqueue(_leave_one, atomic=True) for _ in "12"]
        self.company += others
        before, after = (self.hold(self.claim(other)) for other in others)
        together = [before, run, after]
        for one in together:
            make_short(one)
        results = dict(self.shared.run(together, at_work))
        for other in (before, after):
            # Not begun, if the others were undone: then it is put back, and run later.
            self.finisher.put(other, results.get(other) or self.executor.run(other))
        return results[run]

    def check_company(self) -> None:
        """See that the others have left exactly one effect each."""
        assert {self.job(other).state for other in self.company} <= {State.SUCCEEDED}
        assert all(effects(str(other), using=self.using) == 1 for other in self.company)

    def finish(self, claim: Claim, ran: RunResult) -> None:
        """Record how it ended, once."""
        self.put(claim, ran)
        self.finisher.write()

    def put(self, claim: Claim, ran: RunResult) -> None:
        """Hand over how a run ended."""
        self.finisher.put(self.hold(claim), ran)

    def finish_whatever_happens(self, tries: int = 5) -> None:
        """Record what is handed over as the finisher's loop does: a broken write is repeated."""
        for _try in range(tries):
            with suppress(Error):
                self.finisher.write()
                return
            connections.close_all()
        raise AssertionError(f"The outcome could not be written in {tries} tries.")

    def lose(self, claim: Claim) -> Claim:
        """Give the job to another worker, as if ours had fallen silent."""
        leases = Lease.objects.using(self.using)
        lease = leases.get(pk=claim.lease_id)
        jobs = json.loads(lease.jobs)
        (name,) = (name for name in jobs if UUID(name) == claim.job_id)
        leases.create(  # of this job alone: the others of its claim are not lost
            id=uuid4(),
            worker_id=claim.worker_id,
            lease_until=claim.enqueued_at - LEASE,
            jobs=json.dumps({name: jobs.pop(name)}),
        )
        leases.filter(pk=lease.pk).update(jobs=json.dumps(jobs))
        self.store.rescue(max_crashes=100)
        (successor,) = self.store.claim(
            ClaimQuery(
                queue=claim.queue, limit=1, worker_id=uuid4(), lease=LEASE, only=[claim.job_id]
            )
        )
        return successor

    def job(self, job_id: UUID) -> Job:
        """Return the row as it is now."""
        return Job.objects.using(self.using).get(pk=job_id)

    def close(self) -> None:
        """Take the watch from the connections of this thread."""
        self.connections.__exit__(None, None, None)


def make_short(run: Run) -> None:
    """Let the worker expect that a run's body is over at once."""
    while not run.facts.durations.short:
        run.facts.durations.took(0.0)


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


def work(**given: Any) -> int:
    """Run a worker until nothing is due; return its exit status."""
    return Worker(WorkerConfig(drain=True, **given), quota=RunQuota(None)).run()
