"""The operations on jobs that commands, pages and code use: cancel and retry."""

from collections.abc import Iterable
from typing import TYPE_CHECKING
from uuid import UUID

from aftercommit.enqueue.finished import send_finished
from aftercommit.store import store_for

if TYPE_CHECKING:
    from aftercommit.store.base import CancelAnswer, Retried


def cancel(job_ids: Iterable[UUID], *, using: str) -> "CancelAnswer":
    """Cancel ready jobs of a database alias at once; ask the workers of running jobs to stop.

    In a transaction of the caller, the change is part of it. ``task_finished`` is sent after
    the commit, for each job that was ended.
    """
    store = store_for(using)
    answer = store.cancel(job_ids)
    send_finished(store, answer.ended)
    return answer


def retry(job_ids: Iterable[UUID], *, using: str) -> "Retried":
    """Make failed and cancelled jobs of a database alias ready again, with all their attempts."""
    return store_for(using).retry(job_ids)
