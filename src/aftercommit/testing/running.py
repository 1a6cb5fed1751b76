"""``run_jobs()``: runs what is due with the real worker, in the test's thread and transaction."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from uuid import UUID, uuid4

from aftercommit.enqueue.lookup import known_task
from aftercommit.enqueue.outcomes import Discard
from aftercommit.enqueue.outcomes import Retry as AskedForRetry
from aftercommit.enqueue.results import JobResult, finished_result, result_of
from aftercommit.errors import ConfigurationError, TooManyRuns
from aftercommit.models import Job, State
from aftercommit.options.queues import QUEUE_PREFIX
from aftercommit.options.worker import WorkerConfig
from aftercommit.store import store_for
from aftercommit.testing.clock import moved_by
from aftercommit.testing.moments import next_moments
from aftercommit.testing.transactions import as_in_production
from aftercommit.testing.worker import OneThread
from aftercommit.under_test import refuse_without_test_run
from aftercommit.values import NO_TIME, Failed, Retry, RunResult
from aftercommit.worker.config import Served, served
from aftercommit.worker.runs import Run

SHORTEST_STEP = timedelta(milliseconds=1)  # of the clock, on the way to the next job
LOOK_AT = 1000  # due jobs, for those of the wanted queues
MOST_RUNS = 1000


def run_jobs(
    *,
    queue: str | Collection[str] | None = None,
    until: timedelta | datetime | None = None,
    raise_errors: bool = True,
    most: int = MOST_RUNS,
) -> list[JobResult]:
    """Run the jobs that are due, and those that become due by them; return a result of each run.

    They run as in production, but in this thread and on its connections: each in autocommit mode
    or in the transaction that its task asks for, callbacks of ``on_commit()`` after each commit,
    retries by the clock, groups, schedules, batches and async tasks. In a ``TestCase`` all of
    it is rolled back at the end of the test.

    ``queue``: only jobs of these queues. Messages for brokers stay in the outbox, unless their
    queue is named (``relay.celery``): then they are published. ``until``: let the clock go on,
    from one due job to the next, up to this span from now or this aware moment; afterwards it is
    what it was. ``raise_errors``: raise the first exception of a task, once its outcome is
    written; not those by which a task chooses its outcome. With False it is tried again as in
    production, if it is due. ``most``: raise ``TooManyRuns`` if more runs would follow.

    Raises ``InsideTransaction`` if the test has a transaction open by itself,
    ``ConfigurationError`` if it may use no database with jobs or if no test run is on, and what
    the database raises.
    """
    refuse_without_test_run("run_jobs()")
    wanted = (queue,) if isinstance(queue, str) else queue
    with as_in_production() as aliases:
        found = [one for one in served(WorkerConfig()) if one.using in aliases]
        if not found:
            raise ConfigurationError(
                "run_jobs(): this test may use none of the databases that have jobs. Nothing was "
                "run. Fix: name them in databases = {...} of the test class."
            )
        running = Running(found, wanted, raise_errors=raise_errors, most=most)
        if until is None:
            running.run_due()
        else:
            running.run_until(running.moment(until))
    return running.results


class Running:
    """One call of ``run_jobs()``."""

    def __init__(
        self,
        serving: list[Served],
        queues: Collection[str] | None,
        *,
        raise_errors: bool = True,
        most: int = MOST_RUNS,
        worker_id: UUID | None = None,
    ) -> None:
        self.claimed: Callable[[], None] = lambda: None  # called after each claim
        self.results: list[JobResult] = []
        self._serving = serving
        self._queues = queues
        self._raise_errors = raise_errors
        self._most = most
        self._worker_id = worker_id or uuid4()
        self._raised: BaseException | None = None
        self._not_claimed: set[UUID] = set()
        self._using = ""  # the alias that is served just now

    def run_due(self) -> None:
        """Run what is due, until nothing is."""
        any_ran = True
        while any_ran:  # a job may have enqueued another one on a database that was served before
            ran = [self._run_alias(one) for one in self._serving]
            any_ran = any(ran)

    def run_job(self, job_id: UUID) -> None:
        """Run this job, if it is ready, and no other."""
        for one in self._serving:
            job = store_for(one.using).job(job_id)
            if job is None or job.state != State.READY:
                continue
            self._using = one.using
            with self._serve(one) as alias:
                alias.run_one(job)
            if self._raised is not None:
                raise self._raised

    def run_until(self, end: datetime) -> None:
        """Run what is due, and let the clock go on to the next job, until ``end``."""
        start = position = self._clock()
        self.run_due()
        while (moment := self._next_moment(after=position)) is not None and moment <= end:
            position = moment
            with moved_by(max(position - start, NO_TIME) + SHORTEST_STEP):
                self.run_due()

    def moment(self, until: timedelta | datetime) -> datetime:
        """Return the moment of a span from now, or the moment that is given."""
        if isinstance(until, timedelta):
            return self._clock() + until
        if not isinstance(until, datetime) or until.tzinfo is None:
            raise ConfigurationError(
                f"run_jobs(until=): expected a timedelta or an aware datetime, got {until!r}. "
                "Nothing was run."
            )
        return until

    def _clock(self) -> datetime:
        return store_for(self._serving[0].using).clock()

    def _next_moment(self, *, after: datetime) -> datetime | None:
        """Return when the next job may be due, or becomes one by its schedule."""
        moments = (next_moments(one, after=after) for one in self._serving)
        return min(chain.from_iterable(moments), default=None)

    def _run_alias(self, one: Served) -> bool:
        """Run what is due on an alias; return whether there was anything."""
        any_ran, self._using, self._not_claimed = False, one.using, set()
        with self._serve(one) as alias:
            alias.begin()
            while (job := self._next(alias)) is not None:
                if len(self.results) >= self._most:
                    raise TooManyRuns(most=self._most, task_path=job.task_path)
                ran = alias.run_one(job)
                if self._raised is not None:
                    raise self._raised
                any_ran = any_ran or bool(ran)
                # One that could not be claimed waits for another one, whose end may free it.
                self._not_claimed = set() if ran else {*self._not_claimed, job.id}
        return any_ran

    def _serve(self, one: Served) -> OneThread:
        told = partial(OneThread, recorded=self._recorded, claimed=self.claimed)
        return told(one, self._worker_id)

    def _next(self, alias: OneThread) -> Job | None:
        alias.look_around()
        limit = LOOK_AT
        while True:
            due = alias.due(limit=limit, name="")
            jobs = {job.id: job for job in alias.store.jobs(due)}
            for job_id in due:
                if job_id in jobs and self._wants(jobs[job_id]):
                    return jobs[job_id]
            if len(due) < limit:
                return None
            limit *= 2

    def _wants(self, job: Job) -> bool:
        if job.id in self._not_claimed:
            return False
        if self._queues is None:
            chosen = not job.queue.startswith(QUEUE_PREFIX)
        else:
            chosen = job.queue in self._queues
        return chosen and known_task(job.task_path) is not None

    def _recorded(self, ends: Sequence[tuple[Run, RunResult]]) -> None:
        """Note runs whose outcomes are written."""
        for run, result in ends:
            ended = self._result(run, result)
            if ended is not None:
                self.results.append(ended)
            if self._raise_errors and self._raised is None:
                self._raised = _error_of(run, result)

    def _result(self, run: Run, result: RunResult) -> JobResult | None:
        claim, task = run.claim, run.facts.task
        job = store_for(self._using).job(claim.job_id)
        if job is not None:
            return result_of(job, task)
        return finished_result(claim, task, result.outcome, duration=run.duration)


def _error_of(run: Run, result: RunResult) -> BaseException | None:
    """Return what a run ended with, unless its task has chosen that; None: it is no error."""
    outcome, error = result.outcome, result.exception
    if not isinstance(outcome, Failed | Retry):
        return None
    if isinstance(error, AskedForRetry) and isinstance(outcome, Retry):
        return None
    if error is None:  # not of the task: its return value cannot be stored, for example
        path = run.claim.task_path
        return AssertionError(f"{path} has failed:\n{outcome.error.traceback}")
    return None if isinstance(error, Discard) else error
