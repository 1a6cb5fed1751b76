"""Checks the moment at which a job is to run: every database must be able to hold it."""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.utils.timezone import is_aware, now

from aftercommit._compat import InvalidTask
from aftercommit.errors import ConfigurationError
from aftercommit.options.checked import shown
from aftercommit.values import FIRST_MOMENT, LAST_MOMENT

LONGEST_PAUSE = timedelta(days=30)  # of a rate key


def check_run_after(task: Any) -> None:
    """Refuse anything but a moment, before Django's own check, which expects a datetime."""
    if task.run_after is not None and not isinstance(task.run_after, datetime):
        raise InvalidTask(
            f"{task.module_path}: run_after must be an aware datetime, got "
            f"{task.run_after!r}. For a span, add it to django.utils.timezone.now()."
        )
    if task.run_after is not None and not _is_storable(task.run_after):
        raise InvalidTask(
            f"{task.module_path}: run_after must be from {FIRST_MOMENT} to {LAST_MOMENT}, got "
            f"{task.run_after!r}. Nearer to the ends of datetime, some database or time zone "
            "could not represent it. To run the job at once, leave run_after out."
        )


def checked_end(until: Any) -> datetime | timedelta:
    """Return when a pause ends; raises ``ConfigurationError`` for what is no moment or span."""
    match until:
        case datetime() if not is_aware(until):
            raise ConfigurationError(
                f"rate_limited_until: {shown(until)} has no time zone. Nothing is paused. Say "
                "which it is, datetime.now(UTC) + ..., or give a timedelta."
            )
        case timedelta() | datetime():
            _check_length(until)
            return until
    raise ConfigurationError(
        f"rate_limited_until: expected a timedelta, or an aware datetime, got {shown(until)}. "
        "Nothing is paused. Of seconds, as in Retry-After, make timedelta(seconds=...)."
    )


def _check_length(until: datetime | timedelta) -> None:
    """Refuse a pause that nobody can have meant: it would stop the key for years."""
    span = until if isinstance(until, timedelta) else until - now()
    if span > LONGEST_PAUSE:
        raise ConfigurationError(
            f"rate_limited_until: {shown(until)} is more than {LONGEST_PAUSE.days} days from "
            "now. Nothing is paused. Are these milliseconds taken for seconds, or a moment taken "
            "for a span?"
        )


def _is_storable(moment: datetime) -> bool:
    try:
        utc = moment.astimezone(UTC) if is_aware(moment) else moment.replace(tzinfo=UTC)
    except (OverflowError, ValueError):
        return False
    return FIRST_MOMENT <= utc <= LAST_MOMENT
