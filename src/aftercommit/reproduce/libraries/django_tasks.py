"""``django.tasks`` and its backport: ``enqueue()`` of each backend that TASKS names."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import uuid4

from django.apps import apps
from django.db import router
from django.utils import timezone

from aftercommit.reproduce.libraries import Library, Taker, noted, patched

PLACES = ("django.tasks", "django_tasks")
# What these do ends elsewhere: in the table of jobs, or in a library that is intercepted itself.
PASSED_ON = ("aftercommit.", "django_tasks_rq.", "django_tasks.backends.rq")

# Other backends that store a job in a table: the label of the app, and their module.
STORING = {
    "django_tasks_database": ("django_tasks.backends.database", "django_tasks_db"),
    "django_tasks_db": ("django_tasks_db",),
}


@contextmanager
def intercept(taker: Taker) -> Iterator[None]:
    """Take the tasks of all backends but our own."""

    def taking(kind: Any) -> Callable[..., Any]:
        original = kind.enqueue

        def enqueue(self: Any, task: Any, args: Any, kwargs: Any) -> Any:
            if kind.__module__.startswith(PASSED_ON):
                return original(self, task, args, kwargs)
            self.validate_task(task)
            result = _result(kind, task, args, kwargs, self.alias)
            run = _runner(task, result, args, kwargs)
            held = _database_of(kind)
            taker.dispatch(task.module_path, args, kwargs, run=run, id=result.id, held=held)
            return result

        return enqueue

    with ExitStack() as stack:
        for kind in _backends():
            stack.enter_context(patched(kind, enqueue=taking(kind)))
        yield


@contextmanager
def watch(note: Callable[[], None]) -> Iterator[None]:
    """Note all dispatches."""
    with ExitStack() as stack:
        for kind in _backends():
            stack.enter_context(noted(note, kind, "enqueue"))
        yield


def _backends() -> set[Any]:
    """Return the classes of the backends in TASKS."""
    places = [sys.modules[one] for one in PLACES if one in sys.modules]
    handlers = [place.task_backends for place in places]
    return {type(handler[alias]) for handler in handlers for alias in handler.settings}


def _result(kind: Any, task: Any, args: Any, kwargs: Any, alias: str) -> Any:
    """Return what a dispatch answers: the job is ready."""
    package = sys.modules[next(one for one in PLACES if _is_of(kind, one))]
    return package.TaskResult(
        task=task,
        id=str(uuid4()),
        status=package.TaskResultStatus.READY,
        enqueued_at=timezone.now(),
        started_at=None,
        finished_at=None,
        last_attempted_at=None,
        args=list(args),
        kwargs=dict(kwargs),
        backend=alias,
        errors=[],
        worker_ids=[],
    )


def _database_of(kind: Any) -> str | None:
    """Return the alias in which a backend of others stores its jobs, or None."""
    for label, modules in STORING.items():
        if kind.__module__.startswith(modules) and label in apps.app_configs:
            model = next(iter(apps.get_app_config(label).get_models()))
            return str(router.db_for_write(model))
    return None


def _is_of(kind: Any, package: str) -> bool:
    return any(one.__module__.startswith(f"{package}.") for one in kind.__mro__)


def _runner(task: Any, result: Any, args: Any, kwargs: Any) -> Callable[[], Any]:
    def run() -> Any:
        if not task.takes_context:
            return task.call(*args, **kwargs)
        # Each package has its own class, beside its task.
        context = sys.modules[type(task).__module__].TaskContext(task_result=result)
        return task.call(context, *args, **kwargs)

    return run


LIBRARY = Library(intercept=intercept, watch=watch)
