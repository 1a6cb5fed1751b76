"""Copies of a task that differ from its declaration in what belongs to a call."""

from dataclasses import fields
from typing import Any

from aftercommit._compat import task_backends
from aftercommit.enqueue.registry import option
from aftercommit.options.conf import BackendOptions


def variant(task: Any, **changes: Any) -> Any:
    """Return a copy of a task with other values, which are not validated.

    ``dataclasses.replace`` would validate the copy against its backend, whose settings may be
    others by now than when the job was enqueued.
    """
    made = object.__new__(type(task))
    for name in getattr(task, "__dict__", ()):  # of a subclass without slots
        object.__setattr__(made, name, getattr(task, name))
    for field in fields(task):
        value = changes[field.name] if field.name in changes else getattr(task, field.name)
        object.__setattr__(made, field.name, value)
    return made


def as_called(task: Any, row: Any, *, run_after: Any) -> Any:
    """Return the task as it was when the job of ``row``, a Job or a Claim, was enqueued."""
    called = {
        "priority": row.priority,
        "queue_name": row.queue,
        "backend": row.backend,
        "run_after": run_after,
    }
    changes = {name: value for name, value in called.items() if getattr(task, name) != value}
    if hasattr(task, "max_attempts") and row.max_attempts != _max_attempts(task, row.backend):
        changes["max_attempts"] = row.max_attempts
    return variant(task, **changes) if changes else task


def _max_attempts(task: Any, alias: str) -> int:
    own: int | None = option(task, "max_attempts")
    if own is not None:
        return own
    known = alias in task_backends.settings
    options = getattr(task_backends[alias], "config", None) if known else None
    return (options or BackendOptions()).max_attempts
