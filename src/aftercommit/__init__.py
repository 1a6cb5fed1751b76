"""Background tasks for Django that respect your transactions."""

from typing import TYPE_CHECKING, Any

from aftercommit.version import VERSION as _version

if TYPE_CHECKING:
    from aftercommit.enqueue.backend import DatabaseBackend
    from aftercommit.enqueue.batches import BatchCall
    from aftercommit.enqueue.calls import Call, chain
    from aftercommit.enqueue.decorator import task
    from aftercommit.enqueue.functions import deschedule, schedule
    from aftercommit.enqueue.gather import gather
    from aftercommit.enqueue.grouping import group
    from aftercommit.enqueue.many import enqueue_many
    from aftercommit.enqueue.outcomes import Cancel, Discard, Retry, Snooze
    from aftercommit.enqueue.secret import Secret
    from aftercommit.enqueue.task import Task
    from aftercommit.options.backoff import Delays, Exponential, Polynomial
    from aftercommit.reads import ReplicaRouter
    from aftercommit.relay.inbox import once
    from aftercommit.relay.ordering import ordering_key

__version__ = _version

# Looked up on first use: they need django.tasks or its backport, whose absence is for a
# system check to explain, not for INSTALLED_APPS to stumble over. And neither the linter nor
# the pytest plugin, which import this as well, need Django at all.
_WORDS = {  # CeleryBackend is not in __all__, because Celery is optional
    "Call": "aftercommit.enqueue.calls",
    "CeleryBackend": "aftercommit.relay.celery.backend",
    "BatchCall": "aftercommit.enqueue.batches",
    "Cancel": "aftercommit.enqueue.outcomes",
    "DatabaseBackend": "aftercommit.enqueue.backend",
    "Delays": "aftercommit.options.backoff",
    "Discard": "aftercommit.enqueue.outcomes",
    "Exponential": "aftercommit.options.backoff",
    "Polynomial": "aftercommit.options.backoff",
    "ReplicaRouter": "aftercommit.reads",
    "Retry": "aftercommit.enqueue.outcomes",
    "Secret": "aftercommit.enqueue.secret",
    "Snooze": "aftercommit.enqueue.outcomes",
    "Task": "aftercommit.enqueue.task",
    "chain": "aftercommit.enqueue.calls",
    "deschedule": "aftercommit.enqueue.functions",
    "enqueue_many": "aftercommit.enqueue.many",
    "gather": "aftercommit.enqueue.gather",
    "group": "aftercommit.enqueue.grouping",
    "once": "aftercommit.relay.inbox",
    "ordering_key": "aftercommit.relay.ordering",
    "schedule": "aftercommit.enqueue.functions",
    "task": "aftercommit.enqueue.decorator",
}

__all__ = [
    "BatchCall",
    "Call",
    "Cancel",
    "DatabaseBackend",
    "Delays",
    "Discard",
    "Exponential",
    "Polynomial",
    "ReplicaRouter",
    "Retry",
    "Secret",
    "Snooze",
    "Task",
    "chain",
    "deschedule",
    "enqueue_many",
    "gather",
    "group",
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
