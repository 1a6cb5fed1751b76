"""The operations on jobs that commands, pages and code use."""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from aftercommit.enqueue.finished import send_finished
from aftercommit.jobs.asked import criteria, database, uuids
from aftercommit.jobs.measured import Statistics, series, statistics, totals
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
from aftercommit.jobs.secrets import Reencrypted, reencrypt
from aftercommit.jobs.selection import Progress, Selection
from aftercommit.store import store_for
from aftercommit.tallies import Histogram

if TYPE_CHECKING:
    from aftercommit.store.base import CancelAnswer, Retried

__all__ = [
    "MOST",
    "Depth",
    "Histogram",
    "Latency",
    "Number",
    "Progress",
    "Reencrypted",
    "Selection",
    "Statistics",
    "Throughput",
    "cancel",
    "counts",
    "find",
    "latency",
    "oldest_due_age",
    "reencrypt",
    "retry",
    "series",
    "statistics",
    "throughput",
    "totals",
]


def cancel(job_ids: Iterable[UUID | str], *, using: str) -> "CancelAnswer":
    """Cancel ready jobs of a database alias at once; ask the workers of running jobs to stop.

    In a transaction of the caller, the change is part of it. ``task_finished`` is sent after
    the commit, for each job that was ended.
    """
    store = store_for(database(using))
    answer = store.cancel(uuids("job_ids", job_ids))
    send_finished(store, answer.ended)
    return answer


def retry(job_ids: Iterable[UUID | str], *, using: str) -> "Retried":
    """Make failed and cancelled jobs of a database alias ready again, with all their attempts."""
    return store_for(database(using)).retry(uuids("job_ids", job_ids))


def find(  # noqa: PLR0913 - each of them narrows the selection
    *,
    ids: Iterable[UUID | str] | None = None,
    state: str | Collection[str] | None = None,
    task: Any = None,
    queue: str | None = None,
    enqueued_before: datetime | timedelta | None = None,
    enqueued_after: datetime | timedelta | None = None,
    finished_before: datetime | timedelta | None = None,
    error_contains: str | None = None,
    arguments_contain: str | None = None,
    tag: str | None = None,
    group: Any = None,
    after: UUID | None = None,
    until: UUID | None = None,
    using: str | None = None,
) -> Selection:
    """Return the jobs of a database alias that meet all conditions; nothing is read yet.

    ``ids``: UUIDs of jobs. ``state``: one or several. ``task``: a task or one of its names;
    its jobs are found under all of them.
    ``enqueued_before``, ``enqueued_after``, ``finished_before``: a moment, or how long ago.
    ``error_contains``: a part of the exception's class or of the traceback of one of their failed
    runs. ``arguments_contain``: a part of their arguments as JSON; no message is found by it.
    ``tag``: one of their tags. ``group``: a group or its id; its last job is one of them.
    ``after``: only ids behind this one, to go on where an operation was stopped. ``until``: no id
    behind this one. ``using``: the database alias, by default where the router writes jobs.

    Raises ``BadSelection`` for what cannot be true of a job.
    """
    wanted = criteria(
        ids=ids,
        state=state,
        task=task,
        queue=queue,
        enqueued_before=enqueued_before,
        enqueued_after=enqueued_after,
        finished_before=finished_before,
        error_contains=error_contains,
        arguments_contain=arguments_contain,
        tag=tag,
        group=group,
        until=until,
    )
    return Selection(wanted, using=database(using), after=after)
