"""Rate limits: the options of a task, the key of a call, what the rate is now."""

from typing import Any

from aftercommit._compat import BaseTask
from aftercommit.enqueue.keys import check_names_of_arguments, key_of
from aftercommit.enqueue.lookup import known_task
from aftercommit.enqueue.registry import declared_tasks, option
from aftercommit.errors import ConfigurationError
from aftercommit.gcra import Rate
from aftercommit.options.checked import names_in
from aftercommit.options.rate import RATE_LINE, known_rate, rate_from

KEY_LENGTH = 64  # of the columns ``rate_key`` and ``line``


def rate_of(task_path: str) -> Rate | None:
    """Return the rate that this process knows for a task's path; None: it has none."""
    task = known_task(task_path)
    text = None if task is None else option(task, "rate")
    return None if text is None else known_rate(text, option(task, "burst") or 1)


def rate_key_of_task(task: BaseTask) -> str:
    """Return the key of all calls of a task: that of a rate without ``rate_by``."""
    return (RATE_LINE + key_of(task, "", ()))[:KEY_LENGTH]


def has_rates() -> bool:
    """Return whether a task that was declared in this process has a rate."""
    return any(option(task, "rate") is not None for task in declared_tasks())


def rate_key_of(task: BaseTask, payload: str) -> str | None:
    """Return the key whose starts a call of ``task`` shares; None: the task has no rate.

    Raises ``TypeError`` if the function does not take the arguments of ``payload``.
    """
    if option(task, "rate") is None:
        return None
    key = RATE_LINE + key_of(task, payload, option(task, "rate_by") or ())
    return key[:KEY_LENGTH]


def check_rate(task: Any) -> None:
    """Check the options of a task about its rate; raises ``ConfigurationError``."""
    if task.rate is None:
        for name in ("rate_by", "burst"):
            if getattr(task, name) is not None:
                raise ConfigurationError(
                    f"{name} says how a rate counts, and this task has none: add rate='60/m' to "
                    f"its declaration, or leave {name} out."
                )
        return
    rate_from(task.rate, 1 if task.burst is None else task.burst)
    object.__setattr__(task, "rate_by", names_in("rate_by", task.rate_by))
    check_names_of_arguments(task, "rate_by")
    if task.ordered:
        raise ConfigurationError(
            "ordered=True cannot be combined with a rate: a job that waits for its rate would "
            "have to hold up all others of its key. Leave out one of the two; the task can "
            "raise Snooze when a provider refuses, and then keeps its place."
        )
