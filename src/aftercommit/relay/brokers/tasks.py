"""Other backends of ``django.tasks``: their ``enqueue`` is wrapped, tasks need no change."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from datetime import datetime
from functools import wraps
from typing import Any

from django.db import InterfaceError, OperationalError
from django.utils import timezone

from aftercommit._compat import (
    BaseTask,
    BaseTaskBackend,
    TaskError,
    TaskResult,
    TaskResultStatus,
    task_backends,
)
from aftercommit.enqueue.lookup import known_task
from aftercommit.enqueue.payload import dump_arguments
from aftercommit.errors import ConfigurationError
from aftercommit.ids import new_job_id
from aftercommit.relay.brokers.base import Away, Broker, Message, Outbox, publish_or_keep
from aftercommit.relay.brokers.servers import loaded

LARGEST = 16 * 1024 * 1024  # bytes of arguments; the other backend may have a lower limit
# The errors of the usual clients when their server does not answer.
OUTAGES = {
    "redis.exceptions": ("ConnectionError", "TimeoutError"),
    "kombu.exceptions": ("OperationalError",),
    "pika.exceptions": ("AMQPError",),
}


class OtherBackends(Broker):
    """``{"tasks": {"backends": ["mail"]}}``; without options, all backends of other libraries."""

    name = "tasks"

    def capture(self, outbox: Outbox) -> None:
        """Ask the outbox in ``enqueue`` of the classes of these backends."""
        kinds: set[Any] = {type(task_backends[alias]) for alias in self._aliases}
        for kind in kinds:
            kind.enqueue = _asking(self, outbox, kind.enqueue)
            kind.get_result = _finding(self, kind.get_result)

    @property
    def _aliases(self) -> Sequence[str]:
        chosen: Sequence[str] = self.options.get("backends") or self.others()
        return chosen

    def wraps(self, backend: BaseTaskBackend) -> bool:
        """Return whether the messages of a backend go through the outbox."""
        return self.covers(backend.alias)

    def covers(self, backend: str) -> bool:
        """See ``Broker``."""
        return backend in self._aliases

    def publish(self, content: dict[str, Any]) -> str:
        """Call the backend's own ``enqueue``; return the id of its result."""
        if content["alias"] not in self._aliases:
            raise ConfigurationError(
                f"A message is for the backend {content['alias']!r} of TASKS, which "
                'OPTIONS["relay"] does not name.\n'
                "It is not published, and ends as failed.\n"
                'Fix: name the backend in {"tasks": {"backends": [...]}}, then retry the message.'
            )
        task = _loaded_task(content["task"]).using(backend=content["alias"])
        when = content["run_after"]
        task = replace(
            task,
            priority=content["priority"],
            queue_name=content["queue_name"],
            run_after=when and datetime.fromisoformat(when),
        )
        try:
            with _asked_already():
                result = task.enqueue(*content["args"], **content["kwargs"])
        except _outages() as error:
            raise Away(str(error)) from error
        return str(result.id)

    def problem(self) -> str | None:
        """Return which backend does not exist, if there is one."""
        for alias in self._aliases:
            if alias not in self.others():
                return (
                    f'what the backend {alias!r} is. Set {{"tasks": {{"backends": [...]}}}} to '
                    "aliases of TASKS with a backend of another library"
                )
        return None


def _asking(
    broker: OtherBackends, outbox: Outbox, original: Callable[..., Any]
) -> Callable[..., Any]:
    @wraps(original)
    def enqueue(self: BaseTaskBackend, task: Any, args: Any, kwargs: Any) -> Any:
        if _asked.get() or not broker.wraps(self):
            return original(self, task, args, kwargs)

        def publish() -> Any:
            with _asked_already():
                return original(self, task, args, kwargs)

        return publish_or_keep(
            outbox,
            "tasks",
            when=getattr(task.func, "aftercommit", None),
            away=_outages(),
            publish=publish,
            keep=lambda using: _keep(outbox, using, self, task, args, kwargs),
        )

    return enqueue


def _keep(
    outbox: Outbox, using: str, backend: BaseTaskBackend, task: Any, args: Any, kwargs: Any
) -> Any:
    backend.validate_task(task)
    path = task.module_path
    arguments = json.loads(dump_arguments(args, kwargs, task_path=path, limit=LARGEST))
    content = {
        "alias": backend.alias,
        "task": path,
        "priority": task.priority,
        "queue_name": task.queue_name,
        "run_after": task.run_after and task.run_after.isoformat(),
        **arguments,
    }
    job_id = new_job_id()
    message = Message(
        broker="tasks", message_id=str(job_id), job_id=job_id, name=path, content=content
    )
    outbox.keep(message, using=using)
    return _result(backend, task, content, str(job_id), enqueued_at=timezone.now())


def _finding(broker: OtherBackends, original: Callable[..., Any]) -> Callable[..., Any]:
    """Make ``get_result`` accept the id of a stored message, too."""

    @wraps(original)
    def get_result(self: BaseTaskBackend, result_id: str) -> Any:
        job = broker.find(result_id) if broker.wraps(self) else None
        if job is None:
            return original(self, result_id)
        if job.state == "succeeded":
            result = original(self, job.return_value)
            object.__setattr__(result, "id", result_id)
            return result
        content = job.kwargs["content"]
        ended = job.finished_at is not None
        errors = [
            TaskError(
                exception_class_path=one["exception_class_path"], traceback=one["traceback"]
            )
            for one in job.error_list
        ]
        return _result(
            self,
            _loaded_task(content["task"]),
            content,
            result_id,
            enqueued_at=job.enqueued_at,
            finished_at=job.finished_at,
            status=TaskResultStatus.FAILED if ended else TaskResultStatus.READY,
            errors=errors,
        )

    return get_result


def _result(
    backend: BaseTaskBackend,
    task: Any,
    content: dict[str, Any],
    result_id: str,
    **known: Any,
) -> Any:
    """Return the result of a task that its backend has not received yet."""
    fields = {
        "status": TaskResultStatus.READY,
        "started_at": None,
        "last_attempted_at": None,
        "finished_at": None,
        "errors": [],
        "worker_ids": [],
        **known,
    }
    return TaskResult(
        task=task,
        id=result_id,
        args=content["args"],
        kwargs=content["kwargs"],
        backend=backend.alias,
        **fields,
    )


_asked: ContextVar[bool] = ContextVar("aftercommit_asked", default=False)


@contextmanager
def _asked_already() -> Iterator[None]:
    """Let ``enqueue`` call the backend: its class and its bases may all be wrapped."""
    token = _asked.set(True)
    try:
        yield
    finally:
        _asked.reset(token)


def _loaded_task(path: str) -> Any:
    """Return a task; its module is imported by the rules of ``known_task`` only."""
    task = loaded(path)
    if not isinstance(task, BaseTask):
        task = known_task(path)
    if not isinstance(task, BaseTask):
        raise ConfigurationError(
            f"No task {path} is known here: is its module in an installed app, listed in "
            "OPTIONS['task_modules'], or below one of OPTIONS['task_packages']?\n"
            "Its message cannot be published, and ends as failed.\n"
            "Fix: name the module there, then retry it."
        )
    return task


def _outages() -> tuple[type[BaseException], ...]:
    """Return the errors of the clients that are loaded; the others cannot have raised."""
    found: list[type[BaseException]] = [OSError, InterfaceError, OperationalError]
    for module, names in OUTAGES.items():
        if module in sys.modules:
            found += [getattr(sys.modules[module], name) for name in names]
    return tuple(found)
