"""Builds every ``TaskResult`` that this package returns."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from asgiref.sync import sync_to_async
from django.utils import timezone

from aftercommit._compat import BaseTask, TaskError, TaskResult, TaskResultStatus, tasks_base
from aftercommit.enqueue.gather import held_job
from aftercommit.enqueue.noted import JobLog, progress_of
from aftercommit.enqueue.payload import load_arguments, load_moment
from aftercommit.enqueue.transactions import refuse_waiting_for_itself
from aftercommit.enqueue.variants import as_called, variant
from aftercommit.enqueue.waits import Waits, longest, waits_for
from aftercommit.errors import NotEndedYet, NotInsertedYet, Unreadable
from aftercommit.notes import JobProgress
from aftercommit.values import Cancelled, Claim, Failed, Outcome, Succeeded

if TYPE_CHECKING:
    from aftercommit.models import Job

STATUS = {
    "ready": TaskResultStatus.READY,
    "running": TaskResultStatus.RUNNING,
    "succeeded": TaskResultStatus.SUCCESSFUL,
    "failed": TaskResultStatus.FAILED,
    "cancelled": TaskResultStatus.FAILED,
}
ARGUMENTS, PAYLOAD, RETURN_VALUE = ("args", "kwargs"), "_payload", "_return_value"
FORMER_MODULE = "aftercommit.control."  # of Cancel and the like, in rows that 0.1.0 wrote


class Unread(TaskResult):
    """A ``TaskResult`` whose arguments may still be JSON text, which is read when they are."""

    __slots__ = ("_payload",)

    def __post_init__(self) -> None:
        if not isinstance(self.args, str):
            TaskResult.__post_init__(self)
            return
        object.__setattr__(self, "_payload", self.args)
        for name in ARGUMENTS:
            object.__delattr__(self, name)

    def __getattr__(self, name: str) -> Any:  # of an attribute that is not set
        if name == RETURN_VALUE:  # one that cannot be read: see ``result_of``
            raise Unreadable(what="return value", problem="it is not JSON")
        if name not in ARGUMENTS:
            kind = type(self).__name__
            raise AttributeError(
                f"{kind!r} object has no attribute {name!r}", name=name, obj=self
            )
        for one, value in zip(ARGUMENTS, load_arguments(self._payload), strict=True):
            object.__setattr__(self, one, value)
        return getattr(self, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult(Unread):  # type: ignore[misc] # frozen at run time, but not in the stubs
    """Django's ``TaskResult``, with the job's own state beside Django's four statuses.

    ``duration``: how long the last run took, once it has ended; None if there was none.
    """

    state: str = "ready"
    duration: timedelta | None = None

    @property
    def progress(self) -> JobProgress | None:
        """How far the job is, read now; None if its task has not said so."""
        return progress_of(UUID(self.id), using=self._using)

    async def aprogress(self) -> JobProgress | None:
        """See ``progress``."""
        return await sync_to_async(progress_of)(UUID(self.id), using=self._using)

    @property
    def log(self) -> JobLog:
        """The log lines of all runs, the oldest first, read when they are iterated over."""
        return JobLog(UUID(self.id), using=self._using)

    @property
    def _using(self) -> str:
        backend: Any = self.task.get_backend()
        using: str = backend.using
        return using

    def refresh(self) -> None:
        """Read the job again."""
        self._take(self.task.get_backend().get_result(self.id))

    async def arefresh(self) -> None:
        """See ``refresh``."""
        self._take(await self.task.get_backend().aget_result(self.id))

    def wait(self, timeout: timedelta) -> Self:
        """Wait until the job has ended, refresh this result, and return it.

        Raises ``NotEndedYet`` after ``timeout``, and ``InsideTransaction`` in a transaction
        on the database of the jobs; ``TaskResultDoesNotExist`` if the row is gone.
        """
        if self.is_finished:
            return self
        waits, limit = self._waits(timeout)
        refuse_waiting_for_itself("result.wait()", using=waits.alias)
        waiter = waits.add(UUID(self.id))
        try:
            waiter.result(limit)
        except TimeoutError:
            self.refresh()
            self._must_have_ended(timeout)
        else:
            self.refresh()
        finally:
            waits.discard(UUID(self.id), waiter)
        return self

    async def await_(self, timeout: timedelta) -> Self:
        """See ``wait``; other coroutines go on meanwhile."""
        if self.is_finished:
            return self
        waits, limit = self._waits(timeout)
        refuse = sync_to_async(refuse_waiting_for_itself)
        await refuse("result.await_()", using=waits.alias)
        waiter = waits.add(UUID(self.id))
        try:
            await asyncio.wait_for(asyncio.wrap_future(waiter), limit)
        except TimeoutError:
            await self.arefresh()
            self._must_have_ended(timeout)
        else:
            await self.arefresh()
        finally:
            waits.discard(UUID(self.id), waiter)
        return self

    def _waits(self, timeout: timedelta) -> tuple[Waits, float]:
        limit = longest(timeout)
        backend: Any = self.task.get_backend()
        if held_job(UUID(self.id), using=backend.using) is not None:
            raise NotInsertedYet(job_id=self.id)
        return waits_for(backend.using, listens=backend.config.session_locks), limit

    def _must_have_ended(self, timeout: timedelta) -> None:
        if not self.is_finished:
            path = self.task.module_path
            raise NotEndedYet(job_id=self.id, task_path=path, state=self.state, timeout=timeout)

    def _take(self, fresh: TaskResult) -> None:
        for name in (*tasks_base.TASK_REFRESH_ATTRS, "state", "duration"):
            try:
                object.__setattr__(self, name, getattr(fresh, name))
            except Unreadable:
                _without(self, name)
        self._take_payload(getattr(fresh, PAYLOAD, None))

    def _take_payload(self, payload: str | None) -> None:
        """Read the arguments anew if they are others: results of other jobs were put in."""
        if payload is not None and payload != getattr(self, PAYLOAD, payload):
            object.__setattr__(self, PAYLOAD, payload)
            for name in ARGUMENTS:
                _without(self, name)


def enqueued_result(
    task: BaseTask, job_id: str, payload: str, *, backend: str, enqueued_at: datetime | None
) -> JobResult:
    """Return Django's view of a job that was just inserted."""
    if task.backend != backend:  # enqueued by the backend itself
        task = variant(task, backend=backend)
    unread: Any = payload
    return JobResult(
        task=task,
        id=job_id,
        status=TaskResultStatus.READY,
        enqueued_at=enqueued_at or timezone.now(),
        started_at=None,
        last_attempted_at=None,
        finished_at=None,
        args=unread,
        kwargs=unread,
        backend=backend,
        errors=[],
        worker_ids=[],
    )


def result_of(job: "Job", task: BaseTask, *, ended_by_a_run: bool = True) -> JobResult:
    """Return Django's view of a job's row.

    The row of a cancelled job does not tell whether a run has ended it: no duration then.
    """
    ended_by_a_run = ended_by_a_run and job.state != "cancelled"
    errors = job.error_list
    unread: Any = job.payload  # read when it is asked for: it may be unreadable
    workers = [entry["worker_id"] for entry in errors]
    if job.worker_id is not None:
        workers.append(str(job.worker_id))
    result = JobResult(
        task=as_called(task, job, run_after=load_moment(job.payload)),
        id=str(job.id),
        status=STATUS.get(job.state, TaskResultStatus.FAILED),
        state=job.state,
        duration=_between(job.claimed_at, job.finished_at) if ended_by_a_run else None,
        enqueued_at=job.enqueued_at,
        started_at=job.started_at,
        last_attempted_at=job.claimed_at,
        finished_at=job.finished_at,
        args=unread,
        kwargs=unread,
        backend=job.backend,
        errors=[_error(entry["exception_class_path"], entry["traceback"]) for entry in errors],
        # After a manual retry the attempts start from zero, but earlier errors are kept.
        worker_ids=workers[-job.attempts :] if job.attempts else [],
    )
    try:
        object.__setattr__(result, RETURN_VALUE, job.return_value)
    except Unreadable:
        _without(result, RETURN_VALUE)
    return result


def running_result(claim: Claim, task: BaseTask) -> JobResult:
    """Return Django's view of a claimed job, without a query."""
    args, kwargs = load_arguments(claim.payload)
    errors, workers = claim.history()
    return JobResult(
        task=as_called(task, claim, run_after=load_moment(claim.payload)),
        id=str(claim.job_id),
        status=TaskResultStatus.RUNNING,
        state="running",
        enqueued_at=claim.enqueued_at,
        started_at=claim.started_at,
        last_attempted_at=claim.claimed_at,
        finished_at=None,
        args=args,
        kwargs=kwargs,
        backend=claim.backend,
        errors=[_error(one.exception_class_path, one.traceback) for one in errors],
        worker_ids=[*workers, str(claim.worker_id)][-claim.attempt :],
    )


def finished_result(
    claim: Claim, task: BaseTask, outcome: Outcome, *, duration: timedelta | None
) -> JobResult | None:
    """Return Django's view of a claimed job that has ended; None if it will run again."""
    match outcome:
        case Succeeded():
            state, error = "succeeded", None
        case Failed(error):
            state = "failed"
        case Cancelled(error):
            state = "cancelled"
        case _:
            return None
    result = running_result(claim, task)
    if error is not None:
        result.errors.append(_error(error.exception_class_path, error.traceback))
    changed: dict[str, Any] = {
        "state": state,
        "status": STATUS[state],
        "finished_at": timezone.now(),
        "duration": duration,
    }
    if isinstance(outcome, Succeeded):
        changed["_return_value"] = outcome.value
    for name, value in changed.items():
        object.__setattr__(result, name, value)
    return result


def _error(path: str, traceback: str) -> TaskError:
    if path.startswith(FORMER_MODULE):
        path = f"aftercommit.{path.removeprefix(FORMER_MODULE)}"
    return TaskError(exception_class_path=path, traceback=traceback)


def _without(result: TaskResult, name: str) -> None:
    """Let whoever asks for an attribute get ``Unreadable``."""
    with suppress(AttributeError):
        object.__delattr__(result, name)


def _between(begin: datetime | None, end: datetime | None) -> timedelta | None:
    return None if begin is None or end is None else end - begin
