"""DatabaseBackend: turns a Task into a NewJob, and a Job into a TaskResult."""

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.apps import apps
from django.core.checks import CheckMessage, Error

from aftercommit._compat import BaseTaskBackend, TaskResultDoesNotExist, for_both
from aftercommit.enqueue.calls import Call
from aftercommit.enqueue.declared import validate
from aftercommit.enqueue.discovery import task_at
from aftercommit.enqueue.gather import held_job, insert_gathered, open_block
from aftercommit.enqueue.graph_headers import with_headers
from aftercommit.enqueue.graphs import Graph, graph_of
from aftercommit.enqueue.many import Arguments, split_call
from aftercommit.enqueue.new_jobs import job_of, moment_of, new_job, payload_of
from aftercommit.enqueue.payload import dump_arguments, with_moment
from aftercommit.enqueue.registry import option
from aftercommit.enqueue.results import JobResult, enqueued_result, result_of
from aftercommit.enqueue.signals import enqueued
from aftercommit.enqueue.signature import check_calls
from aftercommit.enqueue.task import Task
from aftercommit.enqueue.unique import insert_unique, keyed
from aftercommit.enqueue.variants import as_called
from aftercommit.enqueue.with_headers import WithHeaders
from aftercommit.errors import ConfigurationError, HoldsSecret
from aftercommit.ids import new_job_ids
from aftercommit.options.conf import BackendOptions, options_of
from aftercommit.store import default_alias, store_for
from aftercommit.values import NewJob, NewJobs, Scheduled, Together

if TYPE_CHECKING:
    from aftercommit.models import Job
    from aftercommit.store.base import Store
    from aftercommit.store.unique import Placed

BY_ARGUMENTS = ("limit_by", "rate_by", "fair_by")
MOST_VALIDATED = 1000  # tasks that a backend remembers


class DatabaseBackend(WithHeaders, BaseTaskBackend):
    """Keeps jobs in the user's own database, in the transaction that enqueues them."""

    task_class = Task
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        self.mistake: ConfigurationError | None = None
        try:
            self._config = options_of(alias, params)
        except ConfigurationError as error:  # Django's own check builds backends, and would end
            self.mistake = error
            params = {**params, "QUEUES": [], "OPTIONS": {}}
        super().__init__(alias, params)
        self._validated: dict[int, Any] = {}  # tasks by their id()

    @property
    def config(self) -> BackendOptions:
        """The options; raises ``ConfigurationError`` if there is a mistake in TASKS."""
        if self.mistake is not None:
            raise ConfigurationError(str(self.mistake)) from self.mistake
        return self._config

    @config.setter
    def config(self, options: BackendOptions) -> None:
        self._config, self._writers = options, None

    @property
    def using(self) -> str:
        """The database alias of the jobs."""
        return self.config.using or default_alias()

    @property
    def store(self) -> "Store":
        """The store of the jobs' database alias."""
        return store_for(self.using)

    def check(self, **_kwargs: Any) -> list[CheckMessage]:
        """Check INSTALLED_APPS; the other checks are in ``windows.checks``."""
        if apps.is_installed("aftercommit"):
            return []
        return [
            Error(
                f"TASKS[{self.alias!r}] keeps its jobs in the database, but 'aftercommit' is "
                "not in INSTALLED_APPS, so there is no table for them.",
                hint="Add 'aftercommit' to INSTALLED_APPS and run migrate.",
                id="aftercommit.E011",
            )
        ]

    def validate_task(self, task: Any) -> None:
        """Refuse a task that could not be run or stored; see also Django's method.

        A task does not change, so that it was accepted once is enough. Only ``run_after`` and
        the queues also depend on what may change: USE_TZ, and the set ``queues``.
        """
        possible = not self.queues or task.queue_name in self.queues
        if possible and self.supports_async_task and self._validated.get(id(task)) is task:
            return
        validate(task, self.config, super().validate_task)
        if task.run_after is None:
            if len(self._validated) >= MOST_VALIDATED:
                self._validated.clear()  # variants made by using() for one call
            self._validated[id(task)] = task

    def enqueue(  # type: ignore[override]
        self, task: Task, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> JobResult:
        """Insert one job, in the transaction that is open on the jobs' database.

        Of a unique task the result may be that of another job: see ``enqueue.unique``.
        Raises ``InvalidTask``, ``PayloadError`` or ``PayloadTooLarge`` before anything is
        written, and ``TypeError`` for arguments that the function does not take; ``django.db``
        errors as any INSERT does.
        """
        return self.insert_job(task, self.new_job(task, args, kwargs))

    def insert_job(self, task: Task, job: NewJob, *, has_headers: bool = False) -> JobResult:
        """Insert what ``new_job`` has returned; see ``enqueue``.

        ``has_headers``: those that the project writes are in it. Else they are written here.
        """
        if (self._config.middleware or self._config.headers) and not has_headers:
            insert = partial(self.insert_job, task, has_headers=True)
            return self._with_headers(task, [job], lambda jobs: insert(*jobs))
        if job.unique_key is not None:
            (placed,) = insert_unique(self.store, task, [job], self.config)
            return self._placed(task, job, placed)
        if (block := open_block()) is not None:
            result = self._result(task, str(job.id), job.payload)
            if block.take(self.using, [job], inserted=partial(self._tell, result)):
                return result
        enqueued_at = self.store.insert_one(job)
        result = self._result(task, str(job.id), job.payload, enqueued_at=enqueued_at)
        self._tell(result)
        return result

    def enqueue_many(self, task: Task, calls: Iterable[Arguments]) -> list[str]:
        """Insert one job for each call, all of them or none; return their ids in order.

        One statement on PostgreSQL and SQLite, one for 500 jobs on MySQL and MariaDB.
        Raises as ``enqueue`` does, and ``TypeError`` for a call that is neither a tuple
        nor a list nor a dict.
        """
        self.validate_task(task)
        dump = partial(
            dump_arguments,
            task_path=task.module_path,
            limit=self.config.max_payload,
            strict=self.config.strict_json,
        )
        given = [split_call(call, index) for index, call in enumerate(calls)]
        try:
            payloads = [dump(*call) for call in given]
        except HoldsSecret:
            return self._enqueue_each(task, [self.new_job(task, *call) for call in given])
        check_calls(task, given)
        if moment := moment_of(task):
            payloads = [with_moment(payload, moment) for payload in payloads]
        if option(task, "unique") is not None:
            return self._enqueue_each(
                task, [keyed(self._job(task, payload), task) for payload in payloads]
            )
        if any(option(task, by) for by in BY_ARGUMENTS):  # each call may have a key of its own
            return self._enqueue_each(task, [self._job(task, payload) for payload in payloads])
        if ids := new_job_ids(len(payloads)):
            jobs = NewJobs(ids=ids, payloads=payloads, like=self._job(task, payload=""))
            self._insert_all(task, jobs, partial(self._tell_all, task, ids, payloads))
        return ids

    def _enqueue_each(self, task: Task, jobs: list[NewJob]) -> list[str]:
        """Insert jobs that differ in more than their arguments; return their ids."""
        if jobs and option(task, "unique") is not None:
            return self._with_headers(task, jobs, partial(self._many_unique, task))
        ids = [str(job.id) for job in jobs]
        if jobs:
            payloads = [job.payload for job in jobs]
            self._insert_all(task, jobs, partial(self._tell_all, task, ids, payloads))
        return ids

    def _insert_all(self, task: Task, jobs: Together, inserted: Callable[[], None]) -> None:
        def insert(jobs: Together) -> None:
            block = open_block()
            if block is None or not block.take(self.using, jobs, inserted=inserted):
                self.store.insert_together([jobs])
                inserted()

        self._with_headers(task, jobs, insert)

    def _tell_all(self, task: Task, ids: list[str], payloads: list[str]) -> None:
        if enqueued.any(logging.DEBUG):
            for job_id, payload in zip(ids, payloads, strict=True):
                self._tell(self._result(task, job_id, payload))

    def _many_unique(self, task: Task, jobs: list[NewJob]) -> list[str]:
        placed = insert_unique(self.store, task, jobs, self.config)
        for job, one in zip(jobs, placed, strict=True):
            if one.holder is None:
                self._tell_all(task, [str(job.id)], [job.payload])
        return [str(one.job_id) for one in placed]

    def enqueue_calls(self, calls: Sequence[Call]) -> list[JobResult]:
        """Insert jobs for calls and for all that they need, all or none; see ``Call.enqueue``.

        Returns the results of ``calls``, in their order.
        """
        graph = graph_of(calls)
        return self.insert_graph(graph, calls)

    def insert_graph(self, graph: Graph, calls: Sequence[Call]) -> list[JobResult]:
        """Insert a graph; return the results of some of its calls, in their order."""
        insert_gathered(graph.using)  # a result that it waits for may be one of those
        return with_headers(graph, partial(self._insert_graph, graph, calls))

    def _insert_graph(
        self, graph: Graph, calls: Sequence[Call], jobs: Sequence[NewJob]
    ) -> list[JobResult]:
        placed = store_for(graph.using).insert_graph(jobs, graph.edges, rules=graph.rules)
        wanted = set(calls) if not enqueued.any(logging.DEBUG) else set(graph.calls)
        results: dict[Call, JobResult] = {}
        for call, job, one in zip(graph.calls, jobs, placed, strict=True):
            if call in wanted:
                backend: DatabaseBackend = call.task.get_backend()
                results[call] = backend._placed(call.task, job, one)
        return [results[call] for call in calls]

    def _placed(self, task: Task, job: NewJob, placed: "Placed") -> JobResult:
        if placed.holder is not None:
            return result_of(placed.holder, task)
        result = self._result(task, str(job.id), job.payload, enqueued_at=placed.enqueued_at)
        self._tell(result)
        return result

    def new_job(
        self,
        task: Task,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        *,
        meta: dict[str, Any] | None = None,
        has_holes: bool = False,
        scheduled: Scheduled | None = None,
    ) -> NewJob:
        """Return the job for a call of ``task``, checked but not stored.

        Raises as ``enqueue`` does; ``meta`` is a JSON object that is stored with the job.
        ``has_holes``: results of other jobs are to be put into the arguments. ``scheduled``: the
        schedule that makes the job.
        """
        self.validate_task(task)
        return new_job(
            task,
            args,
            kwargs,
            backend=self.alias,
            options=self.config,
            meta=meta,
            has_holes=has_holes,
            scheduled=scheduled,
        )

    def payload_of(
        self, task: Task, args: Sequence[Any], kwargs: dict[str, Any], *, has_holes: bool
    ) -> str:
        """Return the arguments of a call, checked, as they are stored; see ``new_job``.

        Raises ``HoldsSecret`` for those that are stored otherwise.
        """
        self.validate_task(task)
        return payload_of(task, args, kwargs, self.config, has_holes=has_holes)

    def _job(self, task: Task, payload: str) -> NewJob:
        return job_of(task, payload, backend=self.alias, options=self.config)

    def get_result(self, result_id: str) -> JobResult:
        """Return Django's view of a job.

        Raises ``TaskResultDoesNotExist`` if this backend has no job with this id, or
        no installed app declares the job's task.
        """
        job = self._find(result_id)
        here = job is not None and job.backend == self.alias
        task = task_at(job.task_path, self.config.task_modules) if here and job else None
        if job is None or task is None:
            raise for_both(TaskResultDoesNotExist(result_id))
        if isinstance(job, NewJob):
            called = as_called(task, job, run_after=job.run_after)
            return self._result(called, str(job.id), job.payload)
        return result_of(job, task)

    def _find(self, result_id: str) -> "Job | NewJob | None":
        try:
            job_id = UUID(str(result_id))
        except ValueError:
            return None
        return held_job(job_id, using=self.using) or self.store.job(job_id)

    def _result(
        self, task: Task, job_id: str, payload: str, *, enqueued_at: datetime | None = None
    ) -> JobResult:
        return enqueued_result(task, job_id, payload, backend=self.alias, enqueued_at=enqueued_at)

    def _tell(self, result: JobResult) -> None:
        if enqueued.any(logging.DEBUG):
            enqueued.send(sender=type(self), task_result=result)
