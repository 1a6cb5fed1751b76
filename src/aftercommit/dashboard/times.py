"""Moments and spans as people read them."""

from datetime import datetime, timedelta

from django.utils.translation import gettext as _

from aftercommit.wording import spoken

SHORTEST = timedelta(milliseconds=1)


def span(value: timedelta | None) -> str:
    """Return a span in its two largest units; nothing for None."""
    if value is None:
        return ""
    return spoken(value) if value >= SHORTEST else "0 s"


def _roughly(value: timedelta) -> str:
    """Return a span in its largest unit."""
    return " ".join(span(value).split()[:2])


def ago(moment: datetime | None, now: datetime) -> str:
    """Return how long ago a moment was, or in how long it will be."""
    if moment is None:
        return ""
    if moment > now:
        return _("in %(span)s") % {"span": _roughly(moment - now)}
    return _("%(span)s ago") % {"span": _roughly(now - moment)}


def between(begin: datetime | None, end: datetime | None) -> timedelta | None:
    """Return the span from one moment to another, if both are known and in order."""
    if begin is None or end is None or end < begin:
        return None
    return end - begin
