"""A check of the schedules in the settings: whether their tasks exist and take the arguments."""

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Error

from aftercommit.enqueue.backend import DatabaseBackend
from aftercommit.enqueue.called import declared_task
from aftercommit.enqueue.configured import our_backends
from aftercommit.enqueue.signature import check_call
from aftercommit.errors import AftercommitError
from aftercommit.options.schedules import ScheduleOptions


def check_schedules(**_kwargs: Any) -> list[CheckMessage]:
    """Report schedules whose job could not be made."""
    return [one for backend in our_backends() for one in _of_backend(backend)]


def _of_backend(backend: DatabaseBackend) -> Iterator[CheckMessage]:
    for name, given in backend.config.schedules.items():
        if isinstance(given, ScheduleOptions) and (problem := _problem(backend, given)):
            yield Error(
                f"TASKS[{backend.alias!r}]['OPTIONS']['schedules'][{name!r}]: {problem} Its jobs "
                "could not be made.",
                hint="Correct the task, its arguments or the queue, or take the schedule out.",
                id="aftercommit.E017",
            )


def _problem(backend: DatabaseBackend, given: ScheduleOptions) -> str:
    task = declared_task(given.task)
    if task is None:
        return f"nothing declares a task {given.task!r}."
    if given.queue and backend.queues and given.queue not in backend.queues:
        return f"{given.queue!r} is no queue of this backend."
    try:
        check_call(task, given.args, given.kwargs)
    except (TypeError, AftercommitError) as error:
        return f"{given.task} does not take these arguments: {error}."
    return ""
