"""Worker processes: where they are, and what each runs."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.http import HttpResponse
from django.utils.translation import gettext as _

from aftercommit.dashboard.rows import JobRow, rows
from aftercommit.dashboard.times import ago, span
from aftercommit.dashboard.visit import Visit, page
from aftercommit.models import WorkerPresence
from aftercommit.options.sizes import size
from aftercommit.printable import one_line
from aftercommit.relay.neglected import SEEN_WITHIN
from aftercommit.store.criteria import Criteria

REFRESH = 5  # seconds
MOST_RUNNING = 500  # jobs that are shown
SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Line:
    """A worker process as a page shows it."""

    id: str
    host: str
    pid: int
    version: str
    started_at: datetime
    up: str
    seen: str
    is_silent: bool
    ahead: str
    pruned: int | None
    threads: int | None
    memory: str
    jobs: list[JobRow]


@page()
def show(visit: Visit) -> HttpResponse:
    """Show the workers of a database with their jobs."""
    now = visit.store.now()
    found = visit.store.browse(Criteria(states=("running",)), size=MOST_RUNNING)
    running: dict[str, list[JobRow]] = {}
    for job, row in zip(found.jobs, rows(visit, found.jobs, now), strict=True):
        running.setdefault(str(job.worker_id), []).append(row)
    workers = [_line(one, running.pop(str(one.id), []), now) for one in visit.store.workers.all()]
    return visit.render(
        "workers",
        tab="workers",
        title=_("Workers"),
        refresh=REFRESH,
        workers=workers,
        others=[row for some in running.values() for row in some],
        is_cut=found.next is not None,
    )


def _line(row: WorkerPresence, jobs: list[JobRow], now: datetime) -> Line:
    ahead = None if row.clock is None else row.clock - row.seen_at
    return Line(
        id=str(row.id),
        host=one_line(row.host),
        pid=row.pid,
        version=one_line(row.version or ""),
        started_at=row.started_at,
        up=span(max(now - row.started_at, timedelta(0))),
        seen=ago(min(row.seen_at, now), now),
        is_silent=now - row.seen_at > SEEN_WITHIN,
        ahead=span(abs(ahead)) if ahead is not None and abs(ahead) > SECOND else "",
        pruned=row.pruned,
        threads=row.threads,
        memory="" if row.memory is None else size(row.memory),
        jobs=jobs,
    )
