"""From a message to a job: the task by its name, the arguments bound to its signature."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aftercommit._compat import InvalidTask
from aftercommit.enqueue.backend import DatabaseBackend
from aftercommit.enqueue.called import declared_task, load_tasks
from aftercommit.enqueue.configured import our_backend
from aftercommit.enqueue.registry import option
from aftercommit.enqueue.unique import rule_of
from aftercommit.errors import AftercommitError
from aftercommit.importing.values import Message
from aftercommit.options.unique import RETURN
from aftercommit.values import NewJob

LOWEST, HIGHEST = -100, 100  # priorities, as in Django


class Unfit(Exception):
    """This message cannot become a job; says why, in words without its arguments."""


class Calls:
    """Makes jobs of messages, in one database. Nothing is read or written."""

    def __init__(self, *, using: str, source: str, names: Mapping[str, str]) -> None:
        self._using = using
        self._source = source
        self._names = names
        self._tasks: dict[str, Any] = {}
        load_tasks()

    def job_of(self, message: Message) -> tuple[Any, NewJob]:
        """Return the task as it is called, and the job; raises ``Unfit``."""
        if message.unfit is not None:
            raise Unfit(message.unfit)
        task, backend = self._task(message.task)
        meta = {"imported_from": self._source, "message": message.key}
        try:
            called = _called(task, backend, message)
            return called, backend.new_job(called, message.args, message.kwargs, meta=meta)
        except (AftercommitError, InvalidTask, TypeError, ValueError) as error:
            raise Unfit(_first_line(error)) from error

    def _task(self, theirs: str) -> tuple[Any, DatabaseBackend]:
        name = self._names.get(theirs, theirs)
        if name not in self._tasks:
            self._tasks[name] = declared_task(name)
        task = self._tasks[name]
        if task is None:
            raise Unfit(f"no task {name!r} is declared here")
        try:
            backend = our_backend(task.backend, needed_by="The import")
            using = backend.using
        except (AftercommitError, LookupError, ValueError) as error:
            raise Unfit(_first_line(error)) from error
        if using != self._using:
            raise Unfit(
                f"the jobs of {name!r} are in the database {using!r}: import it by --database "
                f"{using}"
            )
        return task, backend


def _called(task: Any, backend: DatabaseBackend, message: Message) -> Any:
    """Return the task with what the message says of this call."""
    given: dict[str, Any] = {}
    if message.priority is not None:
        given["priority"] = min(max(message.priority, LOWEST), HIGHEST)
    if message.queue is not None:
        given["queue_name"] = message.queue
    if message.run_after is not None and message.run_after > datetime.now(UTC):
        given["run_after"] = message.run_after
    if option(task, "unique") is not None and rule_of(task, backend.config).refuses:
        given["on_conflict"] = RETURN  # the holder of the key is this call, too
    return task.using(**given) if given else task


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
