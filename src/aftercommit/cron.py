"""Cron expressions: when one is due next, in a time zone with its changes of the clock.

``cronsim`` reads the expression and walks through local times that no clock change touches. What
becomes of them when the clocks change is decided here, for every expression alike:

- each local time is due once;
- local times that a clock skips are due when the gap ends, all of a gap together, once;
- of local times that a clock shows twice, the first one is due.

So a moment is found from the local time, and never by adding to a moment: the order of local
times is that of their moments.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from aftercommit.errors import ConfigurationError

if TYPE_CHECKING:
    from cronsim import CronSim

FIELDS = 5
SHORTHANDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
SECOND = timedelta(seconds=1)
A_LEAP_YEAR = datetime(2024, 1, 1)
MISSING = (
    "cron={text!r}: the package 'cronsim', which reads cron expressions, is not installed.\n"
    "Fix: pip install 'aftercommit[cron]', or use every=timedelta(...), which needs no package."
)


def check_cron(text: object, name: str = "cron") -> None:
    """Refuse what is no cron expression, or names no day that exists."""
    if not isinstance(text, str) or not text.isascii():
        raise ConfigurationError(f"{name}: expected a text as '0 4 * * *', got {text!r:.100}.")
    if next(_local_times(text, A_LEAP_YEAR), None) is None:
        raise ConfigurationError(f"{name}: {text!r:.100} names a day that no year has.")


def check_zone(name: object) -> None:
    """Refuse what is not the name of a time zone."""
    zone_named(name)


def zone_named(name: object) -> ZoneInfo:
    """Return a time zone; raises ``ConfigurationError`` if there is none with this name."""
    try:
        return ZoneInfo(name)  # type: ignore[arg-type]
    except Exception as error:  # ValueError, KeyError, OSError, TypeError: each for another name
        raise ConfigurationError(
            f"timezone: {name!r:.100} is no time zone that this system knows "
            f"({type(error).__name__}). Write a name as 'Europe/Athens'; where the system has no "
            "time zones, pip install tzdata."
        ) from error


def moments_after(text: str, timezone: str, moment: datetime) -> Iterator[datetime]:
    """Yield the moments, in UTC, at which an expression is due after a moment, in their order."""
    zone = zone_named(timezone)
    latest = moment.astimezone(UTC)
    # The local time of the moment is no later than any that is due after it, also in the
    # second pass of a repeated hour: then the first pass is passed over here.
    start = moment.astimezone(zone).replace(tzinfo=None)
    for local in _local_times(text, start):
        found = moment_of(local, zone)
        if found > latest:  # several of one gap have one moment
            yield found
            latest = found


def moment_of(local: datetime, zone: ZoneInfo) -> datetime:
    """Return when a clock shows a local time, in UTC: the first time, or the end of the gap."""
    there = local.replace(tzinfo=zone)
    moment = there.astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == local:
        return moment
    return _end_of_gap(there, zone)


def _end_of_gap(there: datetime, zone: ZoneInfo) -> datetime:
    """Return the moment at which a zone passes over a local time, to the second."""
    before, after = (_offset(there.replace(fold=fold)) for fold in (0, 1))
    local = there.replace(tzinfo=UTC)
    # The change is after the one, not after the other.
    early, late = local - after, local - before
    while late - early > SECOND:
        middle = early + (late - early) / 2
        if _offset(middle.astimezone(zone)) == before:
            early = middle
        else:
            late = middle
    return late.replace(microsecond=0)


def _offset(moment: datetime) -> timedelta:
    return moment.utcoffset() or timedelta(0)


def _local_times(text: str, start: datetime) -> Iterator[datetime]:
    """Yield local times after ``start``, as a clock that never changes shows them."""
    parser = _parser(text)
    expression = SHORTHANDS.get(text.strip().lower(), text)
    if len(expression.split()) != FIELDS:
        raise ConfigurationError(
            f"cron: expected {FIELDS} fields (minute, hour, day of the month, month, day of the "
            f"week), got {text!r:.100}. For seconds use every=timedelta(seconds=...)."
        )
    try:
        yield from parser(expression, start)
    except Exception as error:  # also what the parser itself has overlooked
        raise ConfigurationError(f"cron: {text!r:.100} cannot be read: {error}.") from error


def _parser(text: str) -> "type[CronSim]":
    try:
        from cronsim import CronSim  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigurationError(MISSING.format(text=text[:100])) from error
    return CronSim
