"""Checks the moment at which a job is to run: every database must be able to hold it."""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.utils.timezone import is_aware

from aftercommit._compat import InvalidTask
from aftercommit.errors import ConfigurationError
from aftercommit.options.checked import shown
from aftercommit.values import FIRST_MOMENT, LAST_MOMENT


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
    if isinstance(until, timedelta) or (
        isinstance(until, datetime) and is_aware(until) and _is_storable(until)
    ):
        return until
    raise ConfigurationError(
        "rate_limited_until: expected a timedelta, or an aware datetime from "
        f"{FIRST_MOMENT:%Y} to {LAST_MOMENT:%Y}, got {shown(until)}. Nothing is paused. "
        "Of seconds, as in Retry-After, make timedelta(seconds=...)."
    )


def _is_storable(moment: datetime) -> bool:
    try:
        utc = moment.astimezone(UTC) if is_aware(moment) else moment.replace(tzinfo=UTC)
    except (OverflowError, ValueError):
        return False
    return FIRST_MOMENT <= utc <= LAST_MOMENT
