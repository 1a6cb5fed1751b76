"""Messages for other libraries' brokers: kept, published, refused."""

from dataclasses import dataclass
from datetime import timedelta

from django.http import HttpResponse
from django.utils.formats import number_format
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from aftercommit import jobs
from aftercommit.dashboard.depths import QueueLine, queue_lines
from aftercommit.dashboard.rows import JobRow, rows
from aftercommit.dashboard.visit import Visit, page
from aftercommit.options.queues import IN_ORDER, QUEUE_PREFIX
from aftercommit.printable import one_line
from aftercommit.relay.neglected import neglected
from aftercommit.relay.outbox import relaying
from aftercommit.store.criteria import Criteria

REFRESH = 10  # seconds
HOUR = timedelta(hours=1)
SHOWN = 20  # messages of each kind


@dataclass(frozen=True, slots=True)
class Line:
    """A queue of a broker as a page shows it."""

    broker: str
    in_order: bool
    queue: QueueLine
    published: str
    refused: str
    refused_url: str
    kept: list[JobRow]
    failed: list[JobRow]


@page()
def show(visit: Visit) -> HttpResponse:
    """Show the messages of each broker."""
    counted = jobs.statistics(by="queue", over=HOUR, using=visit.using)
    lines = [
        _line(visit, one, counted.get(one.name)) for one in queue_lines(visit) if one.is_relay
    ]
    here = [backend for backend in relaying() if backend.using == visit.using]
    late = list(dict.fromkeys(one for backend in here for one in neglected(backend)))
    return visit.render(
        "messages",
        tab="messages",
        title=_("Messages"),
        refresh=REFRESH,
        lines=lines,
        late=late,
    )


def _line(visit: Visit, queue: QueueLine, counted: jobs.Statistics | None) -> Line:
    store, now = visit.store, visit.store.now()
    kept = store.browse(Criteria(states=("ready",), queue=queue.name), size=SHOWN, order="due")
    failed = store.browse(Criteria(states=("failed",), queue=queue.name), size=SHOWN)
    query = urlencode({"state": "failed", "queue": queue.name})
    return Line(
        broker=one_line(queue.name.removeprefix(QUEUE_PREFIX).removesuffix(IN_ORDER)),
        in_order=queue.name.endswith(IN_ORDER),
        queue=queue,
        published=number_format(counted.succeeded if counted else 0, force_grouping=True),
        refused=number_format(counted.failed if counted else 0, force_grouping=True),
        refused_url=f"{visit.url('jobs')}?{query}",
        kept=rows(visit, kept.jobs, now),
        failed=rows(visit, failed.jobs, now),
    )
