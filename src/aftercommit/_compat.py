"""``django.tasks``, or its backport ``django_tasks`` on Django 5.2, under one set of names.

Beside Django 6 the backport may be installed, too: Wagtail declares its tasks with it. Nobody can
catch an exception of the backport, or listen to its signals, without having imported it. So it is
looked up among the loaded modules, and never imported for this.
"""

import sys
from typing import TYPE_CHECKING, Any

from aftercommit.errors import MissingBackport

if TYPE_CHECKING:  # one set of types, whatever is installed
    from django.tasks import TaskContext, TaskResult, TaskResultStatus, task_backends
    from django.tasks import base as tasks_base
    from django.tasks import exceptions as tasks_exceptions
    from django.tasks import signals as tasks_signals
    from django.tasks.backends.base import BaseTaskBackend
    from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist, TaskResultMismatch
    from django.tasks.signals import task_enqueued, task_finished, task_started
else:
    try:
        from django.tasks import TaskContext, TaskResult, TaskResultStatus, task_backends
        from django.tasks import base as tasks_base
        from django.tasks import exceptions as tasks_exceptions
        from django.tasks import signals as tasks_signals
        from django.tasks.backends.base import BaseTaskBackend
        from django.tasks.exceptions import TaskResultDoesNotExist, TaskResultMismatch
        from django.tasks.signals import task_enqueued, task_finished, task_started
    except ImportError:
        try:
            from django_tasks import TaskContext, TaskResult, TaskResultStatus, task_backends
            from django_tasks import base as tasks_base
            from django_tasks import exceptions as tasks_exceptions
            from django_tasks import signals as tasks_signals
            from django_tasks.backends.base import BaseTaskBackend
            from django_tasks.exceptions import TaskResultDoesNotExist, TaskResultMismatch
            from django_tasks.signals import task_enqueued, task_finished, task_started
        except ImportError as missing:
            raise MissingBackport from missing
    # Renamed in the backport after 0.12.
    InvalidTask = getattr(
        tasks_exceptions, "InvalidTask", getattr(tasks_exceptions, "InvalidTaskError", None)
    )

BaseTask = tasks_base.Task
TaskError = tasks_base.TaskError
BACKPORT = "django_tasks"
FORMER_NAMES = {"InvalidTask": "InvalidTaskError"}  # of exceptions, in the backport until 0.12


def beside(module: str, name: str) -> Any:
    """Return what the backport has under a name, if it is loaded beside Django's own tasks."""
    ours = tasks_base.__name__.partition(".")[0]
    loaded = None if ours == BACKPORT else sys.modules.get(f"{BACKPORT}.{module}")
    return getattr(loaded, name, None)


def is_task(value: object) -> bool:
    """Return whether a value is a task of Django, or of the backport beside it.

    By its type: isinstance() would ask the value, and a lazy object would be evaluated.
    """
    backports = beside("base", "Task")
    return issubclass(type(value), BaseTask if backports is None else (BaseTask, backports))


def for_both(error: Exception) -> Exception:
    """Return an exception of Django's tasks that ``except`` of the backport catches, too."""
    kind = type(error)
    former = FORMER_NAMES.get(kind.__name__, kind.__name__)
    backports = beside("exceptions", kind.__name__) or beside("exceptions", former)
    if backports is None or isinstance(error, backports):
        return error
    return _both(kind, backports)(*error.args)


def _both(kind: type[Exception], backports: type[Exception]) -> type[Exception]:
    def reduce(self: Exception) -> tuple[Any, ...]:  # pickle does not find this class
        return kind, self.args

    body = {"__module__": kind.__module__, "__doc__": kind.__doc__, "__reduce__": reduce}
    # A backport that subclasses Django's exceptions cannot be named after them among the bases.
    bases = (backports,) if issubclass(backports, kind) else (kind, backports)
    return type(kind.__name__, bases, body)


__all__ = [
    "BaseTask",
    "BaseTaskBackend",
    "InvalidTask",
    "TaskContext",
    "TaskError",
    "TaskResult",
    "TaskResultDoesNotExist",
    "TaskResultMismatch",
    "TaskResultStatus",
    "beside",
    "for_both",
    "is_task",
    "task_backends",
    "task_enqueued",
    "task_finished",
    "task_started",
    "tasks_base",
    "tasks_signals",
]
