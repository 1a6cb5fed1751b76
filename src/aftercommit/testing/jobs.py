"""The jobs that a test has enqueued, as calls: of tasks, of functions, of brokers' tasks."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import QuerySet

from aftercommit._compat import is_task
from aftercommit.enqueue.called import stored_names
from aftercommit.enqueue.functions import RUN_FUNCTION, RUN_WITH_BACKOFF
from aftercommit.enqueue.names import names_of
from aftercommit.enqueue.payload import load_moment
from aftercommit.errors import Unreadable
from aftercommit.models import Job
from aftercommit.options.queues import QUEUE_PREFIX
from aftercommit.printable import one_line
from aftercommit.relay.brokers.readable import readable
from aftercommit.relay.outbox import PUBLISH
from aftercommit.stored import without_version
from aftercommit.testing.transactions import usable_aliases

LONGEST_LINE = 200  # characters of a call in a message
Arguments = tuple[list[Any], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnqueuedCall:
    """What a job calls, and the job."""

    job: Job
    name: str  # of the task or the function; of a message, that of its library's task
    arguments: Arguments | None  # None: they are not JSON

    def __str__(self) -> str:
        return f"{self._call}  ({', '.join(self._notes)})"

    @property
    def run_after(self) -> datetime:
        """When it was to start as it was enqueued: the row has the moment of a retry by now."""
        asked = load_moment(self.job.payload)
        row: datetime = self.job.enqueued_at if self.job.token else self.job.run_after
        return row if asked is None else asked

    @property
    def _call(self) -> str:
        if self.arguments is None:
            return f"{self.name}(…)"
        args, kwargs = self.arguments
        shown = [repr(one) for one in args] + [f"{key}={one!r}" for key, one in kwargs.items()]
        text = one_line(f"{self.name}({', '.join(shown)})")
        return text if len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]} …"

    @property
    def _notes(self) -> Iterator[str]:
        job = self.job
        if job.queue.startswith(QUEUE_PREFIX):
            yield f"message for {job.queue.removeprefix(QUEUE_PREFIX)}"
        else:
            yield f"queue {job.queue}"
        yield str(job.state)
        if (self.run_after - job.enqueued_at).total_seconds() >= 1:
            yield f"run_after {self.run_after.isoformat(timespec='seconds')}"
        if self.arguments is None:
            yield "its arguments are not JSON and cannot be compared"


def enqueued_calls() -> list[EnqueuedCall]:
    """Return the jobs of all databases that the test may use, in the order of their ids."""
    return [call_of(job) for rows in _tables() for job in rows.order_by("id")]


def ids_of_jobs() -> set[Any]:
    """Return the ids of all jobs."""
    return {job_id for rows in _tables() for job_id in rows.values_list("id", flat=True)}


def _tables() -> Iterator[QuerySet[Job]]:
    return (Job.objects.using(alias) for alias in usable_aliases())


def names_meant(task: Any) -> set[str]:
    """Return the names under which the jobs of a task are stored.

    A task of Django, its name, a function for ``schedule()``, or a task of a broker's library.
    """
    if isinstance(task, str):
        return {without_version(one) for one in stored_names(task)}
    if is_task(task):
        return {without_version(one) for one in names_of(task)}
    for attribute in ("actor_name", "name"):  # of Dramatiq; of Celery and Huey
        if isinstance(name := getattr(task, attribute, None), str):
            return {name}
    if callable(task) and hasattr(task, "__qualname__"):
        return {f"{task.__module__}.{task.__qualname__}"}
    raise TypeError(
        f"expected a task, its name, a function or a task of a broker's library, got {task!r}."
    )


def call_of(job: Job) -> EnqueuedCall:
    """Return what a job calls."""
    meta = job.meta if isinstance(job.meta, Mapping) else {}
    arguments: Arguments | None = None
    with suppress(Unreadable):
        arguments = (job.args, job.kwargs)
    name = without_version(job.task_path)
    if name == PUBLISH:
        content = arguments[1].get("content") if arguments else None
        return EnqueuedCall(
            job=job, name=str(meta.get("name") or name), arguments=_of_message(content)
        )
    if name in {RUN_FUNCTION, RUN_WITH_BACKOFF} and arguments is not None:
        path, args, kwargs = arguments[0][:3]
        return EnqueuedCall(job=job, name=path, arguments=(args, kwargs))
    return EnqueuedCall(job=job, name=name, arguments=arguments)


def _of_message(content: Any) -> Arguments | None:
    """Return the arguments in a message, as far as they are JSON."""
    for found in readable(content) if isinstance(content, Mapping) else []:
        match found:
            case [list() as args, dict() as kwargs, *_]:  # Celery
                return args, kwargs
            case {"args": list() | tuple() as args, "kwargs": dict() as kwargs}:
                return list(args), kwargs
    return None


def listed(calls: Iterable[EnqueuedCall], *, most: int) -> str:
    """Return calls as lines of a message."""
    lines = [f"  {one}" for one in calls]
    more = [f"  … and {len(lines) - most:,} more"] if len(lines) > most else []
    return "\n".join([*lines[:most], *more])
