"""Which queue runs the jobs of the rooms: one setting says so, and the rooms ask here."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from django.conf import settings


def task_of(room: str, name: str) -> Any:
    """Return a room's task: aftercommit's own, or that of the library that is relayed."""
    module = "tasks" if settings.QUEUE == "aftercommit" else f"with_{settings.QUEUE}"
    return getattr(import_module(f"{room}.{module}"), name)


def sending(task: Any) -> Callable[..., Any]:
    """Return what each library calls the way to send a task; its answer has an ``id``."""
    return task.enqueue if settings.QUEUE == "aftercommit" else task.delay  # type: ignore[no-any-return]
