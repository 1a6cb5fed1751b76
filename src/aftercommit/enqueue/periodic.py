"""Periodic tasks: the options of a task that say when it is due."""

from inspect import Parameter, signature
from typing import Any

from aftercommit.errors import ConfigurationError
from aftercommit.options.schedules import TIMES, check_times
from aftercommit.timing import LAST, QUEUE

NEED_TIMES = ("timezone", "catch_up", "catch_up_within", "overlap", "jitter")
WITHOUT_A_NAME = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def check_periodic(task: Any) -> None:
    """Check the options of a task about when it is due; raises ``ConfigurationError``."""
    if task.cron is None and task.every is None:
        for name in NEED_TIMES:
            if getattr(task, name) is not None:
                raise ConfigurationError(
                    f"{name} belongs to a task that is due by itself, and this one is not: add "
                    f"cron='0 4 * * *' or every=timedelta(...), or leave {name} out."
                )
        return
    check_times(TimesOfTask(task))
    _needs_no_arguments(task)


class TimesOfTask:
    """The options of a task as those of a schedule in the settings are."""

    def __init__(self, task: Any) -> None:
        for name in TIMES:
            setattr(self, name, getattr(task, name))
        self.catch_up = LAST if task.catch_up is None else task.catch_up
        self.overlap = QUEUE if task.overlap is None else task.overlap


def _needs_no_arguments(task: Any) -> None:
    try:
        found = list(signature(task.func).parameters.values())
    except (TypeError, ValueError):  # a function that cannot say what it takes
        return
    needed = [
        one.name
        for one in found[bool(task.takes_context) :]
        if one.default is Parameter.empty and one.kind not in WITHOUT_A_NAME
    ]
    if needed:
        raise ConfigurationError(
            f"A periodic task is called without arguments, and this one needs {needed[0]!r}.\n"
            "Fix: give it a default, or name the task with its arguments in "
            "OPTIONS['schedules'] of the settings."
        )
