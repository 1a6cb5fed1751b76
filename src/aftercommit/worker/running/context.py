"""The context that a task with ``takes_context=True`` receives."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.core.exceptions import SynchronousOnlyOperation

from aftercommit._compat import TaskContext, TaskResult
from aftercommit.enqueue.moments import checked_end
from aftercommit.enqueue.payload import load_schedule
from aftercommit.enqueue.registry import option
from aftercommit.errors import AlreadyCommitted, ConfigurationError, NotRunByWorker
from aftercommit.stored import read_headers, read_tags
from aftercommit.values import Scheduled
from aftercommit.worker.notes import Keeper, RunNotes, notes_of
from aftercommit.worker.running import kept
from aftercommit.worker.running.atomic.transaction import Stage, TaskTransaction
from aftercommit.worker.runs import Run

if TYPE_CHECKING:
    from aftercommit.enqueue.group_results import GroupResult

FindGroup = Callable[[UUID], "GroupResult | None"]  # that a job belongs to
PauseRate = Callable[[UUID, datetime | timedelta], None]  # of a job's key


IN_A_BATCH = (
    "context.commit() was called for one job of a batch. Nothing was committed by it. Declare "
    "the task with atomic=True: what its function writes is then committed with its jobs."
)
NOT_IN_A_COROUTINE = (
    "context.group reads the database, which a coroutine must not do by itself. In an async "
    "task, write: group = await context.agroup(), and await group.aadd(...) to add jobs."
)


def _no_commit() -> AbstractContextManager[Any]:
    raise NotRunByWorker


def _no_pause(_until: datetime | timedelta) -> None:
    raise NotRunByWorker("context.rate_limited_until()")


def _no_schedule() -> Scheduled | None:
    return None


def _no_group() -> None:
    return None


def _no_notes() -> RunNotes:
    raise NotRunByWorker("This part of the context")


def _never() -> bool:
    return False


def _go_on() -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobContext(TaskContext):  # type: ignore[misc]
    """Django's ``TaskContext``, with the job's id and the way to finish it by hand."""

    enter_commit: Callable[[], AbstractContextManager[Any]] = field(
        default=_no_commit, repr=False
    )
    is_cancel_requested: Callable[[], bool] = field(default=_never, repr=False)
    check: Callable[[], None] = field(default=_go_on, repr=False)
    pause_rate: Callable[[datetime | timedelta], None] = field(default=_no_pause, repr=False)
    find_group: Callable[[], "GroupResult | None"] = field(default=_no_group, repr=False)
    notes: Callable[[], RunNotes] = field(default=_no_notes, repr=False)
    tags: list[str] = field(default_factory=list)  # of the declaration, and of the call
    headers: dict[str, str] = field(default_factory=dict)  # written when it was enqueued
    find_schedule: Callable[[], Scheduled | None] = field(default=_no_schedule, repr=False)

    @property
    def schedule(self) -> Scheduled | None:
        """The schedule that has made this job and the moment that was due; None: another job.

        The same in every attempt: a report for "yesterday" takes that day from the moment.
        """
        return self.find_schedule()

    @property
    def job_id(self) -> str:
        """The id of the job: the same in every attempt, so fit for an idempotency key."""
        job_id: str = self.task_result.id
        return job_id

    @property
    def group(self) -> "GroupResult | None":
        """The group that the job belongs to, also as its last job; None if it has none.

        It is read each time. ``context.group.add(call)`` adds jobs to it. In an async task:
        ``agroup()``.
        """
        try:
            return self.find_group()
        except SynchronousOnlyOperation as error:
            raise SynchronousOnlyOperation(NOT_IN_A_COROUTINE) from error

    async def agroup(self) -> "GroupResult | None":
        """See ``group``."""
        return await sync_to_async(self.find_group)()

    @property
    def idempotency_key(self) -> str:
        """A key for a provider, the same in every run; see ``idempotency_key_for``."""
        return self.job_id

    def idempotency_key_for(self, name: str) -> str:
        """Return a key for one of several calls: a UUID that depends on the job and the name."""
        return kept.key_for(self.job_id, name)

    @property
    def cancelled(self) -> bool:
        """Whether this job should stop: it is cancelled, or its claim is lost."""
        return self.is_cancel_requested()

    @property
    def cancel_requested(self) -> bool:
        """The same as ``cancelled``, which is shorter."""
        return self.is_cancel_requested()

    def checkpoint(self) -> None:
        """Raise ``Cancel`` if this job is cancelled, ``TimedOut`` if its time is over.

        Each time that it is called, also if the task has swallowed an earlier exception. It
        asks no database. Raises ``ClaimLost`` if another worker may have the job.
        """
        self.check()

    def rate_limited_until(self, until: datetime | timedelta) -> None:
        """Let no worker start a job with this job's rate key before a moment, or for a span.

        For the answer 429 of a provider. The worker writes it at once, on a connection of its
        own: it stays when the task's transaction is rolled back. The task goes on; raise
        ``Snooze`` or ``Retry`` to end it. Jobs that have started are not stopped.

        Raises ``ConfigurationError`` if the task has no rate, or ``until`` is neither a timedelta
        nor an aware datetime, or more than 30 days from now. Nothing is paused then, and the job
        is tried again as after any error.
        """
        self.pause_rate(until)

    def progress(self, done: int, total: int | None = None, message: str = "") -> None:
        """Say how far the task is; ``result.progress`` shows it.

        It may be called as often as one likes, from any thread and from coroutines: the worker
        writes the latest one, once a second, on a connection of its own, and the last one
        before the outcome of a plain task, or right after the commit of an atomic one.

        Raises ``TypeError`` for what is no whole number from 0 on.
        """
        self.notes().progress(done, total, message)

    @property
    def log(self) -> logging.Logger:
        """A logger whose lines are kept with the job, and shown by ``result.log``."""
        return self.notes().log

    def save(self, value: Any) -> None:
        """Write a checkpoint: JSON that the next run of this job finds as ``saved``.

        In a transaction on the database of the job, it is a part of it. Raises ``ClaimLost`` if
        another worker may have the job, and ``PayloadError`` or ``PayloadTooLarge`` as a return
        value does.
        """
        kept.save(self.notes(), value)

    async def asave(self, value: Any) -> None:
        """See ``save``."""
        await sync_to_async(kept.save)(self.notes(), value)

    @property
    def saved(self) -> Any:
        """The latest checkpoint of this job; None without one. Raises ``ClaimLost``.

        From then on, what an earlier run saves is refused. In an async task: ``asaved()``.
        """
        return kept.saved(self.notes())

    async def asaved(self) -> Any:
        """See ``saved``."""
        return await sync_to_async(kept.saved)(self.notes())

    def once(self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a function and record its JSON answer; a later run returns the record instead.

        Nothing is recorded if the function raises. If the worker dies between the call and the
        record, the next run calls again: pass ``idempotency_key_for(name)`` to the provider.

        Raises ``InsideTransaction`` before the call if a transaction is open on the database of
        the job, and ``PayloadError`` after it if the answer is not JSON: then the job fails for
        good, because a retry would call again.
        """
        return kept.once(self.notes(), name, function, args, kwargs)

    async def aonce(
        self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Any:
        """See ``once``; the function may be a coroutine function or a plain one."""
        return await kept.aonce(self.notes(), name, function, args, kwargs)

    def commit(self) -> AbstractContextManager[Any]:
        """Open the transaction that holds the task's effects and its completion.

        ``with context.commit() as finish:`` commits the block's effects and marks the
        job as succeeded in one step; set ``finish.return_value`` if there is one. What
        the task does afterwards does not change the job. Allowed once in a run.

        Raises ``AlreadyCommitted`` the second time, ``ClaimLost`` if another worker may
        have the job, ``RuntimeError`` inside another transaction.
        """
        return self.enter_commit()


def context_of(
    run: Run,
    result: TaskResult,
    transaction: TaskTransaction | None,
    *,
    pause_rate: PauseRate,
    find_group: FindGroup,
    keeper: Keeper,
) -> JobContext:
    """Return the context of a run for its task."""

    def enter_commit() -> Any:
        if transaction is None:
            raise ConfigurationError(IN_A_BATCH)
        if transaction.stage is not Stage.CLOSED:
            raise AlreadyCommitted
        return transaction.open()

    return JobContext(
        task_result=result,
        enter_commit=enter_commit,
        is_cancel_requested=lambda: run.cancel_requested or run.lost,
        check=run.checkpoint,
        pause_rate=partial(_pause_rate, run, pause_rate),
        find_group=partial(find_group, run.claim.job_id),
        notes=partial(notes_of, run, keeper),
        tags=read_tags(run.claim.tags),
        headers=read_headers(run.claim.headers),
        find_schedule=partial(load_schedule, run.claim.payload),
    )


def _pause_rate(run: Run, pause_rate: PauseRate, until: datetime | timedelta) -> None:
    task = run.facts.task
    if option(task, "rate") is None:
        raise ConfigurationError(
            f"context.rate_limited_until(): {task.module_path} has no rate. Nothing is paused. "
            "Declare one, @task(rate='60/m'), or raise Snooze to delay this job alone."
        )
    pause_rate(run.claim.job_id, checked_end(until))
