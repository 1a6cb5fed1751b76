"""What the guard has stored: places that send something inside an open transaction."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.core.exceptions import PermissionDenied
from django.db import Error, router, transaction
from django.http import Http404, HttpResponse
from django.utils.formats import number_format
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from aftercommit.dashboard.times import ago
from aftercommit.dashboard.visit import GUARD, Visit, page
from aftercommit.printable import lines, one_line

if TYPE_CHECKING:
    from aftercommit.guard.models import StoredFinding

SIZE = 50
MOST_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Line:
    """A place as a page shows it."""

    place: str
    rule: str
    rule_url: str
    subject: str
    report: str
    count: str
    first: datetime
    last: datetime
    ago: str


@page()
def show(visit: Visit) -> HttpResponse:
    """Show the places, the most frequent first; those of one rule, if it is asked for."""
    if not apps.is_installed(GUARD):
        raise Http404("The guard is not installed.")
    if not visit.may.findings:
        raise PermissionDenied
    rule = visit.request.GET.get("rule", "")[:10].replace("\0", "")
    begin = _number(visit.request.GET.get("begin", ""))
    found = _found(rule, begin)
    now = visit.store.now()
    query: dict[str, Any] = {"rule": rule} if rule else {}
    is_more = found is not None and len(found) > SIZE
    return visit.render(
        "races",
        tab="races",
        title=_("Races"),
        lines=[_line(one, now) for one in (found or [])[:SIZE]],
        is_missing=found is None,
        rule=one_line(rule),
        next_url=f"?{urlencode({**query, 'begin': begin + SIZE})}" if is_more else "",
    )


def _found(rule: str, begin: int) -> "list[StoredFinding] | None":
    """Return one place more than a page has; None if there is no table yet."""
    model = apps.get_model("aftercommit_guard", "StoredFinding")
    using = router.db_for_read(model)
    rows = model._default_manager.using(using)
    if rule:
        rows = rows.filter(rule=rule)
    try:
        # A savepoint, with ATOMIC_REQUESTS: the error would break the transaction of the page.
        with transaction.atomic(using=using):
            return list(rows.order_by("-count", "path", "line", "pk")[begin : begin + SIZE + 1])
    except Error:
        return None


def _number(text: str) -> int:
    is_number = text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS
    return int(text) if is_number else 0


def _line(row: "StoredFinding", now: datetime) -> Line:
    return Line(
        place=one_line(f"{row.path}:{row.line} in {row.function}"),
        rule=one_line(row.rule),
        rule_url=f"?{urlencode({'rule': row.rule})}",
        subject=one_line(row.subject),
        report=lines(row.report),
        count=number_format(row.count, force_grouping=True),
        first=row.first_seen,
        last=row.last_seen,
        ago=ago(min(row.last_seen, now), now),
    )
