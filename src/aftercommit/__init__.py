"""Background tasks for Django that respect your transactions."""

from typing import TYPE_CHECKING, Any

from aftercommit.enqueue.outcomes import Cancel, Discard, Retry, Snooze
from aftercommit.options.backoff import Delays, Exponential
from aftercommit.relay.ordering import ordering_key
from aftercommit.version import VERSION as _version

if TYPE_CHECKING:
    from aftercommit.enqueue.backend import DatabaseBackend
    from aftercommit.enqueue.decorator import task
    from aftercommit.enqueue.functions import deschedule, schedule
    from aftercommit.enqueue.many import enqueue_many
    from aftercommit.enqueue.task import Task
    from aftercommit.relay.inbox import once

__version__ = _version

# Looked up on first use: they need django.tasks or its backport, whose absence is for a
# system check to explain, not for INSTALLED_APPS to stumble over.
_WORDS = {  # CeleryBackend is not in __all__, because Celery is optional
    "CeleryBackend": "aftercommit.relay.celery.backend",
    "DatabaseBackend": "aftercommit.enqueue.backend",
    "Task": "aftercommit.enqueue.task",
    "deschedule": "aftercommit.enqueue.functions",
    "enqueue_many": "aftercommit.enqueue.many",
    "once": "aftercommit.relay.inbox",
    "schedule": "aftercommit.enqueue.functions",
    "task": "aftercommit.enqueue.decorator",
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
