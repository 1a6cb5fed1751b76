"""The context that a task with ``takes_context=True`` receives."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from aftercommit._compat import TaskContext
from aftercommit.errors import NotRunByWorker


def _no_commit() -> AbstractContextManager[Any]:
    raise NotRunByWorker


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

    def commit(self) -> AbstractContextManager[Any]:
        """Open the transaction that holds the task's effects and its completion.

        ``with context.commit() as finish:`` commits the block's effects and marks the
        job as succeeded in one step; set ``finish.return_value`` if there is one. What
        the task does afterwards does not change the job. Allowed once in a run.

        Raises ``AlreadyCommitted`` the second time, ``ClaimLost`` if another worker may
        have the job, ``RuntimeError`` inside another transaction.
        """
        return self.enter_commit()
