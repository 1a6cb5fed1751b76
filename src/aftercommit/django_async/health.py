"""health(): what is in the queue, in the form in which Django Async prints it."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from aftercommit.django_async.estimates import (
    estimate_current_job_completion,
    estimate_rough_queue_completion,
)
from aftercommit.store import default_alias, store_for

LIVE = ("ready", "running")
STATES = (*LIVE, "succeeded", "failed", "cancelled")


def health(
    estimation_fn: Callable[[], float] = estimate_rough_queue_completion,
) -> dict[str, Any]:
    """Return information about the queue that can be written as JSON. It reads the whole table.

    Jobs that have succeeded count as executed. Jobs are named by their ids.
    """
    store = store_for(default_alias())
    executed, live = store.by_name("succeeded"), store.by_name(*LIVE)
    cancelled = store.by_name("cancelled")
    oldest, newest = store.first_and_last_end("succeeded")
    oldest_cancelled, newest_cancelled = store.first_and_last_end("cancelled")
    left = sum(live.values())
    queue = {
        "all-jobs": sum(store.by_name(*STATES).values()),
        "executed": sum(executed.values()),
        "executed-details": _details(executed),
        "oldest-executed": _text(oldest),
        "most-recent-executed": _text(newest),
        "remaining": left,
        "not-executed": left,
        "not-executed-details": _details(live),
        "cancelled": sum(cancelled.values()),
        "oldest-cancelled": _text(oldest_cancelled),
        "most-recent-cancelled": _text(newest_cancelled),
        "cancelled-details": _details(cancelled),
        "estimated-completion-current-job": estimate_current_job_completion(),
        "estimated-completion": estimation_fn(),
    }
    return {"queue": queue, "errors": {"number": store.failed_runs()}}


def _details(found: dict[str, int]) -> dict[str, dict[str, int]]:
    return {name: {"count": number} for name, number in found.items()}


def _text(job_id: UUID | None) -> str | None:
    return None if job_id is None else str(job_id)
