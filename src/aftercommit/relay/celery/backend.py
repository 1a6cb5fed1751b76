"""CeleryBackend: tasks of ``django.tasks`` that Celery's workers run."""

import json
from collections.abc import Sequence
from typing import Any, ClassVar
from uuid import uuid4

import celery
from django.core.checks import CheckMessage, Warning
from django.utils import timezone
from django.utils.module_loading import import_string

from aftercommit._compat import (
    BaseTaskBackend,
    InvalidTask,
    TaskResult,
    TaskResultStatus,
    for_both,
)
from aftercommit.enqueue.declared import validate
from aftercommit.enqueue.payload import dump_arguments
from aftercommit.enqueue.policy import max_attempts_of, policy_of
from aftercommit.enqueue.registry import option
from aftercommit.enqueue.signals import enqueued
from aftercommit.enqueue.signature import check_call
from aftercommit.enqueue.task import Task
from aftercommit.options.conf import BackendOptions
from aftercommit.relay.celery.consumer import RUN, Attempt
from aftercommit.relay.outbox import backends_keeping

HIGHEST = 9  # priority that RabbitMQ's documentation advises to use
# Promises that need rows of jobs. A task that seems to have them would run twice, or all at once.
NOT_KEPT = (
    "unique",
    "unique_key",
    "debounce",
    "limit",
    "ordered",
    "rate",
    "fair_by",
    "upgrade",
    "cron",
    "every",
)


class CeleryBackend(BaseTaskBackend):
    """Sends tasks to Celery, whose workers run them as aftercommit's worker would.

    OPTIONS are those of ``DatabaseBackend`` that belong to a task (``max_attempts``, ``backoff``,
    ``retry_on``, ``discard_on``, ``atomic``, ``timeout``), ``using`` and ``task_modules``, and
    ``app``, the dotted path of the Celery app (default: the current one). If a
    ``DatabaseBackend`` has ``"relay": ["celery"]``, sending is part of the transaction.
    """

    task_class = Task
    supports_defer = True
    supports_async_task = True
    supports_priority = True
    supports_get_result = False  # Celery's AsyncResult is there for it

    _own_options: ClassVar[set[str]] = {"app"}

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        of_tasks = {
            name: one for name, one in self.options.items() if name not in self._own_options
        }
        self.config = BackendOptions.from_mapping(of_tasks, where=f"TASKS[{alias!r}]['OPTIONS']")

    @property
    def app(self) -> celery.Celery:
        """The Celery app that sends."""
        path = self.options.get("app")
        return import_string(path) if path else celery.current_app

    def validate_task(self, task: Any) -> None:
        """Refuse a task that could not be run as it is declared; see also Django's method."""
        validate(task, self.config, super().validate_task)
        given = [name for name in NOT_KEPT if option(task, name)]
        if given:
            raise for_both(InvalidTask(_not_kept(task, given, self.alias)))

    def enqueue(self, task: Task, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:  # type: ignore[override]
        """Send a task; the id is that of Celery's message and its ``AsyncResult``.

        Raises ``InvalidTask``, ``PayloadError`` or ``PayloadTooLarge`` before anything is
        sent, and Celery's own errors if its broker does not answer and there is no relay.
        """
        self.validate_task(task)
        dumped = dump_arguments(
            args,
            kwargs,
            task_path=task.module_path,
            limit=self.config.max_payload,
            strict=self.config.strict_json,
        )
        check_call(task, args, kwargs)
        arguments = json.loads(dumped)
        attempt = Attempt(max_attempts_of(task, self.config))
        app = self.app
        sent = app.send_task(
            RUN,
            [task.module_path, arguments["args"], arguments["kwargs"], self.alias, attempt],
            task_id=str(uuid4()),
            shadow=task.module_path,
            eta=task.run_after,
            **self._options(task, app),
        )
        result: Any = TaskResult(
            task=task,
            id=sent.id,
            status=TaskResultStatus.READY,
            enqueued_at=timezone.now(),
            started_at=None,
            last_attempted_at=None,
            finished_at=None,
            backend=self.alias,
            errors=[],
            worker_ids=[],
            **arguments,
        )
        enqueued.send(sender=type(self), task_result=result)
        return result

    def _options(self, task: Task, app: celery.Celery) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if task.queue_name != "default":
            options["queue"] = task.queue_name
        if task.priority:
            options["priority"] = _priority(task.priority, app)
        if (timeout := policy_of(task, self.config).timeout) is not None:
            options["soft_time_limit"] = timeout.total_seconds()
        return options

    def check(self, **_kwargs: Any) -> list[CheckMessage]:
        """Warn if messages are sent before the commit."""
        if backends_keeping("celery"):
            return []
        return [
            Warning(
                f"TASKS[{self.alias!r}] sends to Celery at once, inside a transaction, too: the "
                "worker may begin before the commit, and after a rollback.",
                hint='Add "relay": ["celery"] to the OPTIONS of a DatabaseBackend.',
                id="aftercommit.W008",
            )
        ]


def _not_kept(task: Task, given: Sequence[str], alias: str) -> str:
    return (
        f"{task.module_path} has {', '.join(given)}, and backend {alias!r} sends to Celery, "
        "which does not keep that: jobs would run as if it had not been declared. Use a "
        "DatabaseBackend for this task, or declare it without."
    )


def _priority(priority: int, app: celery.Celery) -> int:
    """Convert a priority of aftercommit, -100 to 100, to one of Celery, 0 to 9."""
    level = round((priority + 100) * HIGHEST / 200)
    # On Redis Celery has a list for each priority and reads the list of priority 0 first.
    by_queue = app.connection_for_write().transport.driver_type == "redis"
    return HIGHEST - level if by_queue else level
