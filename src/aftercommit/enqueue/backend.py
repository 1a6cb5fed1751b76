"""DatabaseBackend: turns a Task into a NewJob, and a Job into a TaskResult."""

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.apps import apps
from django.core.checks import CheckMessage, Error

from aftercommit._compat import (
    BaseTaskBackend,
    InvalidTask,
    TaskResultDoesNotExist,
    task_enqueued,
)
from aftercommit.enqueue.payload import check_meta, dump_arguments
from aftercommit.enqueue.policy import max_attempts_of
from aftercommit.enqueue.results import JobResult, enqueued_result, result_of
from aftercommit.enqueue.signals import listeners_of
from aftercommit.enqueue.task import Arguments, Task, discover, registered, split_call
from aftercommit.ids import new_job_ids
from aftercommit.options.conf import BackendOptions
from aftercommit.store import default_alias, store_for
from aftercommit.values import NewJob, NewJobs

if TYPE_CHECKING:
    from aftercommit.models import Job
    from aftercommit.store.base import Store

LONGEST_NAME = 100  # of queues and backends, as in the columns
LONGEST_TASK_PATH = 255
MOST_VALIDATED = 1000  # tasks that a backend remembers
_listeners = listeners_of(task_enqueued, "task_enqueued")


class DatabaseBackend(BaseTaskBackend):
    """Keeps jobs in the user's own database, in the transaction that enqueues them."""

    task_class = Task
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        self.config = BackendOptions.from_mapping(
            self.options, where=f"TASKS[{alias!r}]['OPTIONS']"
        )
        self._validated: dict[int, Any] = {}  # tasks by their id()

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
        in_queues = not self.queues or task.queue_name in self.queues
        if in_queues and self._validated.get(id(task)) is task:
            return
        check_run_after(task)
        super().validate_task(task)
        check_declared(task, self.config)
        if task.run_after is None:
            if len(self._validated) >= MOST_VALIDATED:
                self._validated.clear()  # variants made by using() for one call
            self._validated[id(task)] = task

    def enqueue(  # type: ignore[override]
        self, task: Task, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> JobResult:
        """Insert one job, in the transaction that is open on the jobs' database.

        Raises ``InvalidTask``, ``PayloadError`` or ``PayloadTooLarge`` before anything
        is written, ``django.db`` errors as any INSERT does.
        """
        return self._insert(task, self.new_job(task, args, kwargs))

    def enqueue_with_meta(
        self, task: Task, args: Sequence[Any], meta: dict[str, Any]
    ) -> JobResult:
        """Do as ``enqueue`` does, and store a JSON object with the job."""
        return self._insert(task, self.new_job(task, args, {}, meta=meta))

    def _insert(self, task: Task, job: NewJob) -> JobResult:
        self.store.insert([job])
        return self._announce(task, str(job.id), job.payload)

    def enqueue_many(self, task: Task, calls: Iterable[Arguments]) -> list[str]:
        """Insert one job for each call, all of them or none; return their ids in order.

        One statement on PostgreSQL and SQLite, one for 500 jobs on MySQL and MariaDB.
        Raises as ``enqueue`` does, and ``TypeError`` for a call that is neither a tuple
        nor a list nor a dict.
        """
        self.validate_task(task)
        dump = partial(dump_arguments, task_path=task.module_path, limit=self.config.max_payload)
        payloads = [dump(*split_call(call, index)) for index, call in enumerate(calls)]
        ids = new_job_ids(len(payloads))
        if ids:
            like = self._job(task, payload="")
            self.store.insert_alike(NewJobs(ids=ids, payloads=payloads, like=like))
        if _listeners.any(logging.DEBUG):
            for job_id, payload in zip(ids, payloads, strict=True):
                self._announce(task, job_id, payload)
        return ids

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
        payload = dump_arguments(args, kwargs, task_path=path, limit=limit)
        return self._job(task, payload, meta)

    def _job(self, task: Task, payload: str, meta: dict[str, Any] | None = None) -> NewJob:
        return NewJob(
            task_path=task.module_path,
            payload=payload,
            backend=self.alias,
            queue=task.queue_name,
            priority=int(task.priority),
            run_after=task.run_after,
            max_attempts=max_attempts_of(task, self.config),
            meta=meta or {},
        )

    def get_result(self, result_id: str) -> JobResult:
        """Return Django's view of a job.

        Raises ``TaskResultDoesNotExist`` if this backend has no job with this id, or
        no installed app declares the job's task.
        """
        job = self._find(result_id)
        if job is None or job.backend != self.alias:
            raise TaskResultDoesNotExist(result_id)
        task = task_at(job.task_path, self.config.task_modules)
        if task is None:
            raise TaskResultDoesNotExist(result_id)
        return result_of(job, task)

    def _find(self, result_id: str) -> "Job | None":
        try:
            job_id = UUID(str(result_id))
        except ValueError:
            return None
        return self.store.job(job_id)

    def _announce(self, task: Task, job_id: str, payload: str) -> JobResult:
        result = enqueued_result(task, job_id, payload, backend=self.alias)
        if _listeners.any(logging.DEBUG):
            task_enqueued.send_robust(type(self), task_result=result)
        return result


def task_at(path: str, modules: Iterable[str] = ()) -> Task | None:
    """Return the task of a path, after importing every ``tasks`` module if it is not known."""
    task = registered(path)
    if task is None:
        discover(modules)
        task = registered(path)
    return task


def check_declared(task: Any, options: BackendOptions) -> None:
    """Refuse a task that aftercommit's worker would not know, or could not run."""
    if not isinstance(task, Task):
        raise InvalidTask(
            f"{task.module_path} was declared for a backend of another kind, so no worker "
            "would know it: declare it with aftercommit.task."
        )
    _check_names(task)
    if options.atomic and task.atomic is not False and iscoroutinefunction(task.func):
        raise InvalidTask(
            f"{task.module_path} is async, and this backend runs tasks in a transaction "
            "(OPTIONS['atomic']), which an async function cannot have: declare it with "
            "atomic=False."
        )


def check_run_after(task: Any) -> None:
    """Refuse anything but a moment, before Django's own check, which expects a datetime."""
    if task.run_after is not None and not isinstance(task.run_after, datetime):
        raise InvalidTask(
            f"{task.module_path}: run_after must be an aware datetime, got "
            f"{task.run_after!r}. For a span, add it to django.utils.timezone.now()."
        )


def _check_names(task: Task) -> None:
    name = task.queue_name
    if not isinstance(name, str) or not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
        raise InvalidTask(
            f"{task.module_path}: queue_name must have 1 to {LONGEST_NAME} printable "
            f"characters, got {name!r}."
        )
    if len(task.module_path) > LONGEST_TASK_PATH:
        raise InvalidTask(
            f"{task.module_path}: a task's dotted path must have at most "
            f"{LONGEST_TASK_PATH} characters."
        )
