"""The context that a task with ``takes_context=True`` receives."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from aftercommit._compat import TaskContext, TaskResult
from aftercommit.enqueue.moments import checked_end
from aftercommit.enqueue.registry import option
from aftercommit.errors import AlreadyCommitted, ConfigurationError, NotRunByWorker
from aftercommit.stored import read_tags
from aftercommit.worker.running.atomic.transaction import Stage, TaskTransaction
from aftercommit.worker.runs import Run

PauseRate = Callable[[UUID, datetime | timedelta], None]  # of a job's key


def _no_commit() -> AbstractContextManager[Any]:
    raise NotRunByWorker


def _no_pause(_until: datetime | timedelta) -> None:
    raise NotRunByWorker("context.rate_limited_until()")


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
    tags: list[str] = field(default_factory=list)  # of the declaration, and of the call

    @property
    def job_id(self) -> str:
        """The id of the job: the same in every attempt, so fit for an idempotency key."""
        job_id: str = self.task_result.id
        return job_id

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
    run: Run, result: TaskResult, transaction: TaskTransaction, pause_rate: PauseRate
) -> JobContext:
    """Return the context of a run for its task."""

    def enter_commit() -> Any:
        if transaction.stage is not Stage.CLOSED:
            raise AlreadyCommitted
        return transaction.open()

    return JobContext(
        task_result=result,
        enter_commit=enter_commit,
        is_cancel_requested=lambda: run.cancel_requested or run.lost,
        check=run.checkpoint,
        pause_rate=partial(_pause_rate, run, pause_rate),
        tags=read_tags(run.claim.tags),
    )


def _pause_rate(run: Run, pause_rate: PauseRate, until: datetime | timedelta) -> None:
    task = run.facts.task
    if option(task, "rate") is None:
        raise ConfigurationError(
            f"context.rate_limited_until(): {task.module_path} has no rate. Nothing is paused. "
            "Declare one, @task(rate='60/m'), or raise Snooze to delay this job alone."
        )
    pause_rate(run.claim.job_id, checked_end(until))
