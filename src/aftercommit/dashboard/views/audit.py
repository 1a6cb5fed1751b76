"""The audit: who has done what."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.http import HttpResponse
from django.utils.translation import gettext as _

from aftercommit.dashboard.access import May
from aftercommit.dashboard.filters import told_filter
from aftercommit.dashboard.times import ago
from aftercommit.dashboard.visit import Visit, page
from aftercommit.models import AuditRecord
from aftercommit.printable import one_line

SIZE = 50
MOST_DIGITS = 18
MOST_DETAILS = 300  # characters


@dataclass(frozen=True, slots=True)
class Line:
    """A record as a page shows it."""

    at: datetime
    ago: str
    by: str
    by_url: str
    action: str
    subject: str
    url: str
    details: str
    found: int
    changed: int


@page("audit")
def show(visit: Visit) -> HttpResponse:
    """Show the records, the newest first."""
    by = visit.request.GET.get("by", "")[:255].replace("\0", "")
    before = visit.request.GET.get("before", "")
    found = visit.store.actions(limit=SIZE + 1, before=_number(before), by=by)
    now = visit.store.now()
    query = {"by": by} if by else {}
    if len(found) > SIZE:
        query["before"] = str(found[SIZE - 1].pk)
    return visit.render(
        "audit",
        tab="audit",
        title=_("Audit"),
        lines=[_line(visit, one, now) for one in found[:SIZE]],
        by=by,
        next_url=f"?{urlencode(query)}" if "before" in query else "",
    )


def _number(text: str) -> int | None:
    is_number = text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS
    return int(text) if is_number else None


def _line(visit: Visit, row: AuditRecord, now: datetime) -> Line:
    return Line(
        at=row.at,
        ago=ago(min(row.at, now), now),
        by=one_line(row.by),
        by_url=f"?{urlencode({'by': row.by})}",
        action=one_line(row.action),
        subject=one_line(row.subject),
        url=_url(visit, row),
        details=one_line(_details(row.details, visit.may))[:MOST_DETAILS],
        found=row.found,
        changed=row.changed,
    )


def _url(visit: Visit, row: AuditRecord) -> str:
    try:
        return visit.url("job", job_id=UUID(row.subject))
    except ValueError:
        pass
    is_bulk = isinstance(row.details, dict) and "filter" in row.details
    return visit.url("bulk", number=row.pk) if is_bulk else ""


def _details(details: Any, may: May) -> str:
    if not isinstance(details, dict):
        return str(details)
    hidden = ("position", "until", "is_over")
    shown = {name: one for name, one in details.items() if name not in hidden}
    if "filter" in shown:
        shown["filter"] = urlencode(told_filter(details, may), safe="[]")
    return ", ".join(f"{name}: {one}" for name, one in shown.items())
