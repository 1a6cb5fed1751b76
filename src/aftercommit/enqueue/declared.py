"""Which tasks a backend accepts: those that can be stored, found by a worker, and run."""

from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any

from aftercommit._compat import BaseTask, InvalidTask, for_both, is_task
from aftercommit.enqueue.moments import check_run_after
from aftercommit.enqueue.names import LONGEST_TASK_PATH, stored_name
from aftercommit.enqueue.registry import option, register
from aftercommit.enqueue.task import Task
from aftercommit.options.conf import BackendOptions
from aftercommit.options.queues import LONGEST_NAME, is_stored_name

UNREACHABLE = {"__main__", "__mp_main__"}  # modules that other processes do not find by name


def validate(task: Any, options: BackendOptions, by_django: Callable[[Any], None]) -> None:
    """Refuse a task that could not be stored, found or run; ``by_django``: Django's own check.

    Raises an ``InvalidTask`` that code for the backport of ``django.tasks`` catches as well.
    """
    try:
        check_run_after(task)
        by_django(task)
        check_declared(task, options)
        if not isinstance(task, Task):  # ours are registered where they are declared
            register(task)
    except InvalidTask as error:
        raise for_both(error) from None


def check_declared(task: Any, options: BackendOptions) -> None:
    """Refuse a task that aftercommit's worker would not know, or could not run."""
    if not is_task(task):
        raise InvalidTask(f"Expected a task of django.tasks, got {task!r}.")
    _check_names(task)
    if task.func.__module__ in UNREACHABLE:
        raise InvalidTask(
            f"{task.module_path} is declared in the script that was started. A worker imports a "
            "task by the name of its module, and has another __main__: move the function to a "
            "module of an installed app, and import it from there."
        )
    atomic = option(task, "atomic")
    if options.atomic and atomic is not False and iscoroutinefunction(task.func):
        raise InvalidTask(
            f"{task.module_path} is async, and this backend runs tasks in a transaction "
            "(OPTIONS['atomic']), which an async function cannot have: declare it with "
            "atomic=False."
        )


def _check_names(task: BaseTask) -> None:
    name = task.queue_name
    if not is_stored_name(name):
        raise InvalidTask(
            f"{task.module_path}: queue_name must have 1 to {LONGEST_NAME} printable "
            f"characters, got {name!r}."
        )
    if name != name.strip():
        raise InvalidTask(
            f"{task.module_path}: queue_name {name!r} begins or ends with a space. MySQL and "
            "MariaDB do not compare spaces at the end, so it would be another queue there."
        )
    if len(stored_name(task)) > LONGEST_TASK_PATH:
        raise InvalidTask(
            f"{task.module_path}: a task's dotted path must have at most "
            f"{LONGEST_TASK_PATH} characters, with its version."
        )
