"""What needs attention, in sentences: what ``doctor`` finds, and tasks that fail."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from django.db import Error, transaction
from django.utils.formats import date_format
from django.utils.timezone import localtime
from django.utils.translation import gettext as _

from aftercommit import jobs
from aftercommit.dashboard.filters import JobFilter
from aftercommit.dashboard.visit import Visit
from aftercommit.jobs import Statistics
from aftercommit.printable import one_line
from aftercommit.windows.doctor.periodic import schedules
from aftercommit.windows.doctor.served import messages, unknown_tasks, waiting
from aftercommit.windows.doctor.workers import clocks, versions

PARTS = (waiting, messages, unknown_tasks, schedules, versions, clocks)
HOUR, STEP = timedelta(hours=1), timedelta(minutes=5)
MUCH, FEW = 0.2, 5  # the share that fails, of so many ended jobs or more


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence, what to do, and where to look."""

    text: str
    cure: str = ""
    url: str = ""


def notices(visit: Visit) -> list[Notice]:
    """Return what needs attention in a database."""
    found: list[Notice] = []
    for part in PARTS:
        # A savepoint, with ATOMIC_REQUESTS: the error would break the transaction of the page.
        with suppress(Error), transaction.atomic(using=visit.using):
            found += [Notice(one.text, one.cure) for one in part(visit.store) if one.is_problem]
    return [*_failing(visit), *found]


def _failing(visit: Visit) -> Iterator[Notice]:
    """Yield the tasks of which many jobs have failed for good within the last hour."""
    by_task = jobs.series(by="task", over=HOUR, step=STEP, times=False, using=visit.using)
    for name, points in by_task.items():
        since = failing_since(points)
        if since is None:
            continue
        failed, ended = sum(one.failed for one in since), sum(one.ended for one in since)
        at = since[0].since
        text = _("%(task)s fails: %(share)d %% of %(ended)d jobs since %(time)s.") % {
            "task": one_line(name),
            "share": round(100 * failed / ended),
            "ended": ended,
            "time": "" if at is None else date_format(localtime(at), "H:i"),
        }
        yield Notice(text, url=f"{visit.url('jobs')}?{_query(name)}")


def failing_since(points: Sequence[Statistics]) -> Sequence[Statistics] | None:
    """Return the latest steps in which much has failed, or None if that is over.

    Steps in which nothing has ended do not count.
    """
    begin = len(points)
    for number in range(len(points) - 1, -1, -1):
        share = points[number].failure_share
        if share is not None and share < MUCH:
            break
        if share is not None:
            begin = number
    latest = points[begin:]
    return latest if sum(one.ended for one in latest) >= FEW else None


def _query(name: str) -> str:
    return JobFilter(state="failed", task=name, since="1h").query()
