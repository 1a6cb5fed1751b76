"""The overview: what needs attention, how fast jobs end and how long they take, and who works."""

from datetime import timedelta

from django.http import HttpResponse
from django.utils.translation import gettext as _

from aftercommit import jobs
from aftercommit.dashboard import charts
from aftercommit.dashboard.attention import notices
from aftercommit.dashboard.depths import queue_lines
from aftercommit.dashboard.times import span
from aftercommit.dashboard.visit import Visit, page
from aftercommit.jobs import Statistics
from aftercommit.jobs.measured import merged
from aftercommit.relay.neglected import SEEN_WITHIN

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
NONE = "-"
REFRESH = 10  # seconds
SHOWN = 50  # queues


@page()
def overview(visit: Visit) -> HttpResponse:
    """Show how the database is."""
    by_minute = jobs.series(over=HOUR, step=MINUTE, using=visit.using)
    by_hour = jobs.series(over=DAY, step=HOUR, times=False, using=visit.using)
    # Those whose jobs have been due for longest; all of them are on the page of queues.
    lines = queue_lines(visit)
    if len(lines) > SHOWN:
        lines.sort(key=lambda one: one.age, reverse=True)
    return visit.render(
        "overview",
        tab="overview",
        title=_("Overview"),
        refresh=REFRESH,
        notices=notices(visit),
        queues=lines[:SHOWN],
        more=max(len(lines) - SHOWN, 0),
        workers=visit.store.workers.count_seen(within=SEEN_WITHIN),
        hour=_figures(merged(by_minute)),
        charts=_charts(by_minute, by_hour),
        workers_url=visit.url("workers"),
        queues_url=visit.url("queues"),
    )


def _figures(hour: Statistics) -> list[tuple[str, str]]:
    share = hour.failure_share
    return [
        (_("Ended in the last hour"), f"{hour.ended:,}"),
        (_("Failed of these"), NONE if share is None else f"{100 * share:.1f} %"),
        (_("Waited, 95 %"), span(hour.waits.percentile(95)) or NONE),
        (_("Ran, 95 %"), span(hour.runs.percentile(95)) or NONE),
    ]


def _charts(by_minute: list[Statistics], by_hour: list[Statistics]) -> list[charts.Chart]:
    return [
        charts.ends(
            by_minute,
            id="ends-hour",
            title=_("Ended by minute, last hour"),
            summary=_summary(by_minute),
            form="H:i",
        ),
        charts.ends(
            by_hour,
            id="ends-day",
            title=_("Ended by hour, last day"),
            summary=_summary(by_hour),
            form="D H:i",
        ),
        charts.spans(
            by_minute,
            lambda one: one.waits,
            id="waits-hour",
            title=_("Waited, last hour"),
            summary=_("For how long jobs were due before their run. Line: median, dashed: 95 %."),
            form="H:i",
        ),
        charts.spans(
            by_minute,
            lambda one: one.runs,
            id="runs-hour",
            title=_("Ran, last hour"),
            summary=_("For how long runs took. Line: median, dashed: 95 %."),
            form="H:i",
        ),
    ]


def _summary(points: list[Statistics]) -> str:
    return _("%(succeeded)d succeeded, %(failed)d failed.") % {
        "succeeded": sum(one.succeeded for one in points),
        "failed": sum(one.failed for one in points),
    }
