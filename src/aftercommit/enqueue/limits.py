"""Concurrency limits: the options of a task, the key of a call, what the limit is now."""

from typing import Any

from aftercommit._compat import BaseTask, InvalidTask, for_both
from aftercommit.enqueue.keys import check_names_of_arguments, key_of
from aftercommit.enqueue.lookup import known_task
from aftercommit.enqueue.registry import declared_tasks, option, registered
from aftercommit.errors import ConfigurationError
from aftercommit.options.checked import check_counts, check_flags, names_in
from aftercommit.values import UNLIMITED, Limit

BY_CALL = ("priority", "queue_name", "backend")  # what .using() may change


def limit_of(task_path: str) -> Limit | None:
    """Return the limit that this process knows for a task's path; None: not even the task."""
    task = known_task(task_path)
    if task is None:
        return None
    slots = option(task, "limit")
    if slots is None:
        return UNLIMITED
    return Limit(slots, bool(option(task, "ordered")), _is_shared_by_rate(task))


def _is_shared_by_rate(task: BaseTask) -> bool:
    if option(task, "rate") is None:
        return False
    return set(option(task, "limit_by") or ()) <= set(option(task, "rate_by") or ())


def has_limits() -> bool:
    """Return whether a task that was declared in this process has a limit."""
    return any(option(task, "limit") is not None for task in declared_tasks())


def key_of_task(task: BaseTask) -> str:
    """Return the key of all calls of a task: those of a limit without ``limit_by``."""
    return key_of(task, "", ())


def limit_key_of(task: BaseTask, payload: str) -> str | None:
    """Return the key under which a call of ``task`` is limited; None: it is not.

    Raises ``TypeError`` if the function does not take the arguments of ``payload``,
    ``InvalidTask`` for a call that would leave the order of its key.
    """
    if option(task, "limit") is None:
        return None
    if option(task, "ordered"):
        _check_in_line(task)
    return key_of(task, payload, option(task, "limit_by") or ())


def _check_in_line(task: BaseTask) -> None:
    declared = registered(task.module_path) or task
    changed = [name for name in BY_CALL if getattr(task, name) != getattr(declared, name)]
    if task.run_after is not None:
        changed.append("run_after")
    if changed:
        raise for_both(
            InvalidTask(
                f"{task.module_path}: {changed[0]} cannot be given for a call of a task with "
                "ordered=True, whose jobs run in the order of the calls. Nothing was enqueued."
            )
        )


# ---- the options of a task -------------------------------------------------------------


def check_limit(task: Any) -> None:
    """Check the options of a task about limits; raises ``ConfigurationError``."""
    if task.ordered is not None:
        check_flags(ordered=task.ordered)
    if task.limit is None:
        for name in ("limit_by", "ordered"):
            if getattr(task, name):
                raise ConfigurationError(
                    f"{name} says how a limit counts, and this task has none: add limit=1 to "
                    f"its declaration, or leave {name} out."
                )
        return
    check_counts(limit=task.limit)
    object.__setattr__(task, "limit_by", names_in("limit_by", task.limit_by))
    if task.ordered and task.limit != 1:
        raise ConfigurationError(
            f"ordered=True needs limit=1, got {task.limit}: two jobs that run at once have no "
            "order."
        )
    check_names_of_arguments(task, "limit_by")
