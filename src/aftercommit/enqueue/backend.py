"""DatabaseBackend: turns a Task into a NewJob, and a Job into a TaskResult."""

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.apps import apps
from django.core.checks import CheckMessage, Error

from aftercommit._compat import (
    BaseTask,
    BaseTaskBackend,
    TaskResultDoesNotExist,
    for_both,
)
from aftercommit.enqueue.declared import validate
from aftercommit.enqueue.discovery import discover
from aftercommit.enqueue.fair import in_turn
from aftercommit.enqueue.limits import limit_key_of
from aftercommit.enqueue.lookup import known_task
from aftercommit.enqueue.many import Arguments, split_call
from aftercommit.enqueue.payload import check_meta, dump_arguments, with_moment
from aftercommit.enqueue.policy import goes_with_success, max_attempts_of
from aftercommit.enqueue.rates import rate_key_of
from aftercommit.enqueue.registry import option, registered
from aftercommit.enqueue.results import JobResult, enqueued_result, result_of
from aftercommit.enqueue.signals import enqueued
from aftercommit.enqueue.signature import check_call, check_calls
from aftercommit.enqueue.task import BuiltInTask, Task
from aftercommit.enqueue.unique import insert_unique, keyed
from aftercommit.errors import ConfigurationError
from aftercommit.ids import new_job_ids
from aftercommit.options.conf import BackendOptions
from aftercommit.options.queues import LONGEST_NAME, check_queues, is_stored_name
from aftercommit.options.tags import stored_tags
from aftercommit.store import default_alias, store_for
from aftercommit.values import NewJob, NewJobs

if TYPE_CHECKING:
    from aftercommit.models import Job
    from aftercommit.store.base import Store

BY_ARGUMENTS = ("limit_by", "rate_by", "fair_by")
MOST_VALIDATED = 1000  # tasks that a backend remembers


class DatabaseBackend(BaseTaskBackend):
    """Keeps jobs in the user's own database, in the transaction that enqueues them."""

    task_class = Task
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        self.mistake: ConfigurationError | None = None
        try:
            self._config = _options_in(alias, params)
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
        self._config = options

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
        return self._insert(task, self.new_job(task, args, kwargs))

    def enqueue_with_meta(
        self, task: Task, args: Sequence[Any], meta: dict[str, Any]
    ) -> JobResult:
        """Do as ``enqueue`` does, and store a JSON object with the job."""
        return self._insert(task, self.new_job(task, args, {}, meta=meta))

    def _insert(self, task: Task, job: NewJob) -> JobResult:
        if job.unique_key is None:
            enqueued_at = self.store.insert_one(job)
        else:
            (placed,) = insert_unique(self.store, task, [job], self.config)
            if placed.holder is not None:
                return result_of(placed.holder, task)
            enqueued_at = placed.enqueued_at
        return self._announce(task, str(job.id), job.payload, enqueued_at=enqueued_at)

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
        payloads = [dump(*call) for call in given]
        check_calls(task, given)
        if moment := _moment_of(task):
            payloads = [with_moment(payload, moment) for payload in payloads]
        if option(task, "unique") is not None:
            return self._many_unique(task, payloads)
        if any(option(task, by) for by in BY_ARGUMENTS):  # each call may have a key of its own
            jobs = [self._job(task, payload) for payload in payloads]
            ids = [str(job_id) for job_id in self.store.insert(jobs)]
        elif ids := new_job_ids(len(payloads)):
            like = self._job(task, payload="")
            self.store.insert_alike(NewJobs(ids=ids, payloads=payloads, like=like))
        if enqueued.any(logging.DEBUG):
            for job_id, payload in zip(ids, payloads, strict=True):
                self._announce(task, job_id, payload)
        return ids

    def _many_unique(self, task: Task, payloads: list[str]) -> list[str]:
        jobs = [keyed(self._job(task, payload), task) for payload in payloads]
        placed = insert_unique(self.store, task, jobs, self.config) if jobs else []
        for job, one in zip(jobs, placed, strict=True):
            if one.holder is None and enqueued.any(logging.DEBUG):
                self._announce(task, str(job.id), job.payload)
        return [str(one.job_id) for one in placed]

    def new_job(
        self,
        task: Task,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        *,
        meta: dict[str, Any] | None = None,
    ) -> NewJob:
        """Return the job for a call of ``task``, checked but not stored.

        Raises as ``enqueue`` does; ``meta`` is a JSON object that is stored with the job.
        """
        self.validate_task(task)
        path, limit = task.module_path, self.config.max_payload
        if meta:
            check_meta(meta, task_path=path, limit=limit)
        strict = self.config.strict_json
        payload = dump_arguments(args, kwargs, task_path=path, limit=limit, strict=strict)
        check_call(task, args, kwargs)
        job = self._job(task, with_moment(payload, _moment_of(task)), meta)
        return job if option(task, "unique") is None else keyed(job, task)

    def _job(self, task: Task, payload: str, meta: dict[str, Any] | None = None) -> NewJob:
        rate_key = rate_key_of(task, payload)
        job = NewJob(
            task_path=task.module_path,
            payload=payload,
            backend=self.alias,
            queue=task.queue_name,
            priority=int(task.priority),
            run_after=task.run_after,
            max_attempts=max_attempts_of(task, self.config),
            meta=meta or {},
            # Also without a limit: claims decide about jobs with such a key one by one.
            limit_key=limit_key_of(task, payload) or rate_key,
            rate_key=rate_key,
            tags=stored_tags(option(task, "tags", ())),
            goes_with_success=goes_with_success(task, self.config),
        )
        return in_turn(job, task)

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
        return result_of(job, task)

    def _find(self, result_id: str) -> "Job | None":
        try:
            job_id = UUID(str(result_id))
        except ValueError:
            return None
        return self.store.job(job_id)

    def _announce(
        self, task: Task, job_id: str, payload: str, *, enqueued_at: datetime | None = None
    ) -> JobResult:
        result = enqueued_result(
            task, job_id, payload, backend=self.alias, enqueued_at=enqueued_at
        )
        if enqueued.any(logging.DEBUG):
            enqueued.send(sender=type(self), task_result=result)
        return result


def task_at(path: str, modules: Iterable[str] = ()) -> BaseTask | None:
    """Return the task of a path, after importing every ``tasks`` module if it is not known."""
    if registered(path) is None:
        discover(modules)
    found: BaseTask | None = known_task(path)
    return found


def _moment_of(task: BaseTask) -> datetime | None:
    """Return ``run_after`` to keep with the call, but not with calls of ``schedule()``.

    ``deschedule()`` finds those by equal payloads.
    """
    return None if isinstance(task, BuiltInTask) else task.run_after


def _options_in(alias: str, params: dict[str, Any]) -> BackendOptions:
    """Return the options of a backend; raises ``ConfigurationError`` for what is wrong in it."""
    where = f"TASKS[{alias!r}]"
    if not is_stored_name(alias):  # its column is like that of the queues
        raise ConfigurationError(
            f"{where}: an alias has 1 to {LONGEST_NAME} printable characters."
        )
    check_queues(params.get("QUEUES", ()), where=f"{where}['QUEUES']")
    return BackendOptions.from_mapping(params.get("OPTIONS", {}), where=f"{where}['OPTIONS']")
