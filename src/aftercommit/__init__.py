"""Background tasks for Django that respect your transactions."""

from typing import TYPE_CHECKING, Any

from aftercommit.control import Cancel, Discard, Retry, Snooze
from aftercommit.ordering import ordering_key
from aftercommit.retry import Delays, Exponential

if TYPE_CHECKING:
    from aftercommit.backend import DatabaseBackend
    from aftercommit.inbox import once
    from aftercommit.schedules import deschedule, schedule
    from aftercommit.tasks import Task, enqueue_many, task

__version__ = "0.1.0"

# Looked up on first use: they need django.tasks or its backport, whose absence is for a
# system check to explain, not for INSTALLED_APPS to stumble over.
_WORDS = {
    "DatabaseBackend": "aftercommit.backend",
    "Task": "aftercommit.tasks",
    "deschedule": "aftercommit.schedules",
    "enqueue_many": "aftercommit.tasks",
    "once": "aftercommit.inbox",
    "schedule": "aftercommit.schedules",
    "task": "aftercommit.tasks",
}

__all__ = [
    "Cancel",
    "DatabaseBackend",
    "Delays",
    "Discard",
    "Exponential",
    "Retry",
    "Snooze",
    "Task",
    "deschedule",
    "enqueue_many",
    "once",
    "ordering_key",
    "schedule",
    "task",
]


def __getattr__(name: str) -> Any:
    if name not in _WORDS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    word = getattr(import_module(_WORDS[name]), name)
    globals()[name] = word
    return word
