"""``django.tasks``, or its backport ``django_tasks`` on Django 5.2, under one set of names."""

from typing import TYPE_CHECKING

from aftercommit.errors import MissingBackport

if TYPE_CHECKING:  # one set of types, whatever is installed
    from django.tasks import TaskContext, TaskResult, TaskResultStatus, task_backends
    from django.tasks import base as tasks_base
    from django.tasks import signals as tasks_signals
    from django.tasks.backends.base import BaseTaskBackend
    from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist, TaskResultMismatch
    from django.tasks.signals import task_enqueued, task_finished, task_started
else:
    try:
        from django.tasks import TaskContext, TaskResult, TaskResultStatus, task_backends
        from django.tasks import base as tasks_base
        from django.tasks import signals as tasks_signals
        from django.tasks.backends.base import BaseTaskBackend
        from django.tasks.exceptions import (
            InvalidTask,
            TaskResultDoesNotExist,
            TaskResultMismatch,
        )
        from django.tasks.signals import task_enqueued, task_finished, task_started
    except ImportError:
        try:
            from django_tasks import TaskContext, TaskResult, TaskResultStatus, task_backends
            from django_tasks import base as tasks_base
            from django_tasks import signals as tasks_signals
            from django_tasks.backends.base import BaseTaskBackend
            from django_tasks.exceptions import InvalidTaskError as InvalidTask
            from django_tasks.exceptions import TaskResultDoesNotExist, TaskResultMismatch
            from django_tasks.signals import task_enqueued, task_finished, task_started
        except ImportError as missing:
            raise MissingBackport from missing

BaseTask = tasks_base.Task
TaskError = tasks_base.TaskError

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
    "task_backends",
    "task_enqueued",
    "task_finished",
    "task_started",
    "tasks_base",
    "tasks_signals",
]
