"""The operations on jobs that commands, pages and code use."""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from aftercommit.enqueue.finished import send_finished
from aftercommit.jobs.asked import criteria, database
from aftercommit.jobs.numbers import (
    MOST,
    Depth,
    Latency,
    Number,
    Throughput,
    counts,
    latency,
    oldest_due_age,
    throughput,
)
from aftercommit.jobs.selection import Progress, Selection
from aftercommit.store import store_for

if TYPE_CHECKING:
    from aftercommit.store.base import CancelAnswer, Retried

__all__ = [
    "MOST",
    "Depth",
    "Latency",
    "Number",
    "Progress",
    "Selection",
    "Throughput",
    "cancel",
    "counts",
    "find",
    "latency",
    "oldest_due_age",
    "retry",
    "throughput",
]


def cancel(job_ids: Iterable[UUID], *, using: str) -> "CancelAnswer":
    """Cancel ready jobs of a database alias at once; ask the workers of running jobs to stop.

    In a transaction of the caller, the change is part of it. ``task_finished`` is sent after
    the commit, for each job that was ended.
    """
    store = store_for(database(using))
    answer = store.cancel(job_ids)
    send_finished(store, answer.ended)
    return answer


def retry(job_ids: Iterable[UUID], *, using: str) -> "Retried":
    """Make failed and cancelled jobs of a database alias ready again, with all their attempts."""
    return store_for(database(using)).retry(job_ids)


def find(  # noqa: PLR0913 - each of them narrows the selection
    *,
    ids: Collection[UUID] | None = None,
    state: str | Collection[str] | None = None,
    task: Any = None,
    queue: str | None = None,
    enqueued_before: datetime | timedelta | None = None,
    finished_before: datetime | timedelta | None = None,
    error_contains: str | None = None,
    tag: str | None = None,
    after: UUID | None = None,
    using: str | None = None,
) -> Selection:
    """Return the jobs of a database alias that meet all conditions; nothing is read yet.

    ``ids``: UUIDs of jobs. ``state``: one or several. ``task``: a task or one of its names;
    its jobs are found under all of them.
    ``enqueued_before``, ``finished_before``: a moment, or how long ago. ``error_contains``: a
    part of the exception's class or of the traceback of one of their failed runs. ``tag``: one of
    their tags. ``after``:
    only ids behind this one, to go on where an operation was stopped. ``using``: the database
    alias, by default where the router writes jobs.

    Raises ``BadSelection`` for what cannot be true of a job.
    """
    wanted = criteria(
        ids=ids,
        state=state,
        task=task,
        queue=queue,
        enqueued_before=enqueued_before,
        finished_before=finished_before,
        error_contains=error_contains,
        tag=tag,
    )
    return Selection(wanted, using=database(using), after=after)
