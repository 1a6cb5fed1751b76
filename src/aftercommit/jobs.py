"""What people and code may do about jobs; commands and pages change nothing by other ways."""

from collections.abc import Iterable
from uuid import UUID

from aftercommit.enqueue.finished import tell_finished
from aftercommit.store import store_for
from aftercommit.store.base import CancelAnswer, Retried


def cancel(job_ids: Iterable[UUID], *, using: str) -> CancelAnswer:
    """Cancel ready jobs of a database alias at once; ask the workers of running ones to stop.

    In a transaction of the caller's it belongs to it. ``task_finished`` is sent for each job
    that ended by it, after the commit.
    """
    store = store_for(using)
    answer = store.cancel(job_ids)
    tell_finished(store, answer.ended)
    return answer


def retry(job_ids: Iterable[UUID], *, using: str) -> Retried:
    """Make failed and cancelled jobs of a database alias ready again, with all their attempts."""
    return store_for(using).retry(job_ids)
