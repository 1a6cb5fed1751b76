"""All that a page says of one job."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.utils.translation import gettext_lazy

from aftercommit.dashboard.rows import JobRow, rows, state_of
from aftercommit.dashboard.times import ago, between, span
from aftercommit.dashboard.visit import Visit
from aftercommit.models import Job, State
from aftercommit.notes import JobProgress, LogEntry
from aftercommit.printable import lines, one_line
from aftercommit.store.graphs.seen import Edge
from aftercommit.stored import read_errors
from aftercommit.windows.admin import content

MOMENTS = {
    "enqueued_at": gettext_lazy("Enqueued"),
    "run_after": gettext_lazy("Due"),
    "started_at": gettext_lazy("First run"),
    "claimed_at": gettext_lazy("Latest run"),
    "finished_at": gettext_lazy("Ended"),
}
LINES, MOST_EDGES, MOST_ATTEMPTS = 500, 50, 50
LONGEST = 20_000  # characters of one text


@dataclass(frozen=True, slots=True)
class Attempt:
    """A run that has failed."""

    number: int
    error: str
    message: str
    traceback: str
    worker: str
    at: datetime | None
    began: str
    took: str
    is_last: bool


@dataclass(frozen=True, slots=True)
class Other:
    """A job that this one waits for, or that waits for this one."""

    url: str
    name: str
    state: str
    shown_state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What a page shows; texts are cut, and safe to show between tags that escape."""

    row: JobRow
    moments: list[tuple[Any, tuple[datetime, str]]]
    is_later: bool
    arguments: Any
    result: Any
    size: int
    attempts: list[Attempt]
    more_attempts: int
    worker: str
    run_time: str
    progress: JobProgress | None
    log: Sequence[LogEntry]
    is_log_cut: bool
    kept: list[tuple[str, str]]
    needs: list[Other]
    needed_by: list[Other]
    group_id: UUID | None
    group_name: str
    group_url: str
    graph_url: str


def details_of(visit: Visit, job: Job) -> Details:
    """Read what belongs to a job."""
    store, now = visit.store, visit.store.now()
    job.payload_head, job.payload_size = job.payload, len(str(job.payload))  # type: ignore[attr-defined]
    job.errors_tail = job.errors  # type: ignore[attr-defined]
    attempts = _attempts(job, now)
    log = store.last_lines_of(job.id, limit=LINES + 1)
    group = store.group_of(job.id)
    end = now if job.state == State.RUNNING else job.finished_at
    may_read = visit.may.arguments
    return Details(
        row=rows(visit, [job], now)[0],
        moments=_moments(job, now),
        is_later=job.state == State.READY and job.run_after > now,
        arguments=content.arguments(job) if may_read else None,
        result=content.return_value(job) if may_read else None,
        size=len(str(job.payload)),
        attempts=attempts[-MOST_ATTEMPTS:][::-1],
        more_attempts=max(len(attempts) - MOST_ATTEMPTS, 0),
        worker="" if job.worker_id is None else str(job.worker_id),
        run_time=span(between(job.claimed_at, end)) if job.state != State.READY else "",
        progress=store.progress_of([job.id]).get(job.id),
        log=log[-LINES:],
        is_log_cut=len(log) > LINES,
        kept=_kept(visit, job) if may_read else [],
        needs=_others(visit, store.needs_of(job.id, limit=MOST_EDGES)),
        needed_by=_others(visit, store.needed_by(job.id, limit=MOST_EDGES)),
        group_id=None if group is None else group.id,
        group_name="" if group is None else one_line(str(group)),
        group_url="" if group is None else visit.url("group", group_id=group.id),
        graph_url=visit.url("graph", job_id=job.id),
    )


def _moments(job: Job, now: datetime) -> list[tuple[Any, tuple[datetime, str]]]:
    moments = [(title, getattr(job, name)) for name, title in MOMENTS.items()]
    return [(title, (at, ago(at, now))) for title, at in moments if at is not None]


def _attempts(job: Job, now: datetime) -> list[Attempt]:
    entries = read_errors(job.errors)
    return [
        _attempt(number, entry, now, is_last=number == len(entries))
        for number, entry in enumerate(entries, start=1)
    ]


def _attempt(number: int, entry: dict[str, Any], now: datetime, *, is_last: bool) -> Attempt:
    at, took = _moment(entry.get("claimed_at")), entry.get("took")
    return Attempt(
        number=number,
        error=one_line(entry["exception_class_path"]),
        message=_last_line(entry["traceback"]),
        traceback=_cut(lines(entry["traceback"])),
        worker="" if entry["worker_id"] == "None" else one_line(entry["worker_id"]),
        at=at,
        began=ago(at, now),
        took="" if took is None else _span(took),
        is_last=is_last,
    )


def _moment(text: str | None) -> datetime | None:
    """Return a moment of a row; None: of an earlier version, or somebody has written it."""
    try:
        found = None if text is None else datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found is not None and found.tzinfo is not None else None


def _span(seconds: float) -> str:
    try:
        return span(timedelta(seconds=seconds))
    except (OverflowError, ValueError):
        return ""


def _last_line(text: str) -> str:
    found = text.strip().splitlines()
    return one_line(found[-1])[:LONGEST] if found else ""


def _kept(visit: Visit, job: Job) -> list[tuple[str, str]]:
    return [
        (one_line(row.name) or str(row.get_kind_display()), _cut(lines(str(row.value))))
        for row in visit.store.saved_of(job.id)
    ]


def _others(visit: Visit, edges: Sequence[Edge]) -> list[Other]:
    found = {job.id: job for job in visit.store.jobs([edge.other for edge in edges])}
    others = []
    for edge in edges:
        job = found.get(edge.other)
        if job is not None:
            name, shown, state = content.name_of(job), state_of(job), str(job.state)
        elif edge.outcome:  # it has ended, and its row is gone
            name, shown, state = str(edge.other), edge.outcome, edge.outcome
        else:
            continue  # the pause of its task, which the page says beside the state
        others.append(Other(visit.url("job", job_id=edge.other), name, state, shown))
    return others


def _cut(text: str) -> str:
    cut = text if len(text) <= LONGEST else f"{text[:LONGEST]} …"
    return cut.encode(errors="backslashreplace").decode()
