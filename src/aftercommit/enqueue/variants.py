"""Copies of a task that differ from its declaration in what belongs to a call."""

from collections.abc import Iterable
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from aftercommit._compat import task_backends
from aftercommit.enqueue.registry import FIXED, option
from aftercommit.options.conf import BackendOptions

VARIED = (  # what using() takes
    *("priority", "queue_name", "run_after", "backend"),
    *("max_attempts", "unique_key", "on_conflict", "tags"),
)


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


def not_to_be_varied(task: Any, names: Iterable[str]) -> str:
    """Return why ``using()`` does not take options of these names."""
    known = {field.name for field in fields(task)} - {"func"}
    wrong = sorted(set(names) - known)
    if wrong:
        near = get_close_matches(wrong[0].lower(), VARIED, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"It takes {', '.join(VARIED)}."
        return f"{task.module_path}: using() has no option {wrong[0]!r}. {hint}"
    name = min(names)
    why = "the worker takes it from" if name in FIXED else "it belongs to"
    return (
        f"{task.module_path}: {name!r} cannot vary from call to call, because {why} "
        f"the declaration: write @task({name}=...) there."
    )
