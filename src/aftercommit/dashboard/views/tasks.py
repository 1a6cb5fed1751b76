"""Tasks: how often they run, how many jobs fail, and how long they wait and run."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.http import HttpResponse
from django.utils.formats import number_format
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aftercommit import jobs
from aftercommit.dashboard.times import span
from aftercommit.dashboard.visit import Visit, page
from aftercommit.jobs import Statistics
from aftercommit.printable import one_line
from aftercommit.relay.outbox import PUBLISH

REFRESH = 15  # seconds
OVER = {
    "1h": (timedelta(hours=1), gettext_lazy("last hour")),
    "1d": (timedelta(days=1), gettext_lazy("last day")),
    "7d": (timedelta(days=7), gettext_lazy("last 7 days")),
}
NO_TIME = timedelta(0)


@dataclass(frozen=True, slots=True)
class Line:
    """A task as a page shows it."""

    name: str
    url: str
    failed_url: str
    ended: str
    rate: str
    failed: str
    share: str
    retried: str
    waits: tuple[str, str]
    runs: tuple[str, str, str]


ORDERS: dict[str, tuple[Any, Callable[[Statistics], Any]]] = {
    "ended": (gettext_lazy("most ended"), lambda one: -one.ended),
    "failed": (gettext_lazy("most failed"), lambda one: (-one.failed, -one.ended)),
    "share": (gettext_lazy("largest share failed"), lambda one: -(one.failure_share or 0)),
    "time": (gettext_lazy("most time spent"), lambda one: -one.runs.total),
    "p95": (gettext_lazy("longest runs"), lambda one: -(one.runs.percentile(95) or NO_TIME)),
}


@page()
def show(visit: Visit) -> HttpResponse:
    """Show what the tasks of a database have come to in a span of time."""
    over = visit.request.GET.get("over", "")
    over = over if over in OVER else "1h"
    order = visit.request.GET.get("order", "")
    order = order if order in ORDERS else "ended"
    found = jobs.statistics(by="task", over=OVER[over][0], using=visit.using)
    key = ORDERS[order][1]
    ordered = sorted(found.items(), key=lambda pair: (key(pair[1]), pair[0]))
    return visit.render(
        "tasks",
        tab="tasks",
        title=_("Tasks"),
        refresh=REFRESH,
        lines=[_line(visit, name, one) for name, one in ordered if name],
        over=over,
        order=order,
        spans=[(name, title) for name, (_span, title) in OVER.items()],
        orders=[(name, title) for name, (title, _key) in ORDERS.items()],
    )


def _line(visit: Visit, name: str, one: Statistics) -> Line:
    share = one.failure_share
    address = f"{visit.url('jobs')}?"
    return Line(
        name=_("Messages for brokers") if name == PUBLISH else one_line(name),
        url=address + urlencode({"task": name}),
        failed_url=address + urlencode({"task": name, "state": "failed"}),
        ended=number_format(one.ended, force_grouping=True),
        rate=rate(one.per_second),
        failed=number_format(one.failed, force_grouping=True),
        share="" if not share else f"{100 * share:.1f} %",
        retried=number_format(one.retried, force_grouping=True),
        waits=(span(one.waits.percentile(50)), span(one.waits.percentile(95))),
        runs=(
            span(one.runs.percentile(50)),
            span(one.runs.percentile(95)),
            span(one.runs.percentile(99)),
        ),
    )


def rate(per_second: float | None) -> str:
    """Return a rate by the second, or by the minute if it is low."""
    if not per_second:
        return ""
    if per_second >= 1:
        return _("%.1f/s") % per_second
    return _("%.1f/min") % (per_second * 60)
