"""``django.tasks``: every backend is called by ``Task.enqueue``."""

from collections.abc import Callable
from functools import partial, wraps
from types import ModuleType
from typing import Any

from django.db import router

from aftercommit.guard.dispatches import Dispatch, passing, someone_is_interested
from aftercommit.guard.patches import OnImport, patch

# Backends that pass a task on to a library that has an adapter of its own.
PASSING_ON = (
    "aftercommit.relay.celery.",
    "django_tasks.backends.rq",
    "django_tasks_celery",
    "django_tasks_rq",
    "huey.",
)
OURS = "aftercommit.enqueue.backend.DatabaseBackend"
# Backends with a table, and its model.
TABLES = {
    "django_tasks.backends.database": "django_tasks_database.DBTaskResult",
    "django_tasks_db": "django_tasks_db.DBTaskResult",
}
IMMEDIATE = "ImmediateBackend"


def install(on_import: OnImport) -> None:
    """Notice the tasks of Django's own module and of its backport."""
    for name in ("django.tasks.base", "django_tasks.base"):
        on_import.when(name, _patch)


def _patch(module: ModuleType) -> None:
    patch(module.Task, "enqueue", _sending)
    patch(module.Task, "aenqueue", _asending)


def _sending(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def enqueue(self: Any, *args: Any, **kwargs: Any) -> Any:
        send = partial(original, self, *args, **kwargs)
        return _passed(self, send, args, kwargs) if someone_is_interested() else send()

    return enqueue


def _asending(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def aenqueue(self: Any, *args: Any, **kwargs: Any) -> Any:
        send = partial(original, self, *args, **kwargs)
        return await (_passed(self, send, args, kwargs) if someone_is_interested() else send())

    return aenqueue


def _passed(task: Any, send: Callable[[], Any], args: Any, kwargs: Any) -> Any:
    backend = task.get_backend()
    kind = type(backend)
    if kind.__module__.startswith(PASSING_ON):
        return send()
    return passing(
        Dispatch(
            adapter="tasks",
            subject=task.module_path,
            send=send,
            body=lambda: task.call(*args, **kwargs),
            eager=any(one.__name__ == IMMEDIATE for one in kind.__mro__),
            database=_database(backend),
            when=getattr(task.func, "aftercommit", None),
            backend=task.backend,
        )
    )


def _database(backend: Any) -> str | None:
    """Return the database in whose tables a backend keeps its tasks, or None."""
    for kind in type(backend).__mro__:
        if f"{kind.__module__}.{kind.__qualname__}" == OURS:
            return str(backend.using)
        for module, label in TABLES.items():
            if kind.__module__.startswith(module):
                return _written_to(label)
    return None


def _written_to(label: str) -> str | None:
    from django.apps import apps  # noqa: PLC0415 - they are loaded when a task is enqueued

    try:
        return router.db_for_write(apps.get_model(label))
    except LookupError:
        return None
