"""A job as a line of a list: what is worth a look, and nothing that may be large."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.utils.translation import gettext as _

from aftercommit.dashboard.times import ago, between, span
from aftercommit.dashboard.visit import Visit
from aftercommit.models import Job, State
from aftercommit.printable import one_line
from aftercommit.windows.admin import content
from aftercommit.windows.admin.brief import last_line, preview


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """What a line shows."""

    id: UUID
    url: str
    name: str
    arguments: str
    state: str
    shown_state: str
    why: str  # what keeps it from being claimed
    queue: str
    priority: int
    tags: list[str]
    attempts: int
    max_attempts: int
    enqueued_at: datetime
    enqueued: str
    due_at: datetime | None
    due: str
    wait: str
    duration: str
    error: str
    stopping: bool


def rows(visit: Visit, jobs: Iterable[Job], now: datetime) -> list[JobRow]:
    """Return the lines of jobs that ``store.browse()`` has found."""
    return [_row(visit, one, now) for one in jobs]


def _row(visit: Visit, job: Job, now: datetime) -> JobRow:
    is_ready = job.state == State.READY
    end = now if job.state == State.RUNNING else job.finished_at
    return JobRow(
        id=job.id,
        url=visit.url("job", job_id=job.id),
        name=content.name_of(job),
        arguments=preview(job) if visit.may.arguments else "",
        state=str(job.state),
        shown_state=state_of(job),
        why=waits_for(job),
        queue=one_line(str(job.queue)),
        priority=job.priority,
        tags=[one_line(tag) for tag in job.tags],
        attempts=job.attempts,
        max_attempts=job.max_attempts,
        enqueued_at=job.enqueued_at,
        enqueued=ago(job.enqueued_at, now),
        due_at=job.run_after if is_ready else None,
        due=ago(job.run_after, now) if is_ready else "",
        wait=span(wait_of(job)),
        duration=span(between(job.claimed_at, end)) if not is_ready else "",
        error=last_line(getattr(job, "errors_tail", "")),
        stopping=job.cancel_requested and job.state == State.RUNNING,
    )


def wait_of(job: Job) -> Any:
    """Return how long a job was due before its latest claim; None: never claimed, or retried."""
    return between(max(job.run_after, job.enqueued_at), job.claimed_at)


def state_of(job: Job) -> str:
    """Return the state in words; a message that a broker has is published."""
    if content.is_message(job) and job.state == State.SUCCEEDED:
        return _("Published")
    return str(job.get_state_display())


def waits_for(job: Job) -> str:
    """Return what keeps a ready job from being claimed, or nothing."""
    if job.waits_because == "jobs":
        return _("waits for other jobs")
    return content.wait_of(job)
