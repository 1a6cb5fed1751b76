"""Schedules as they are found: frozen values, with what is known of their moments."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from itertools import islice
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from aftercommit.errors import NoSuchSchedule, Unreadable
from aftercommit.models import Schedule as Row
from aftercommit.queues.named import aliases
from aftercommit.schedules.spec import Spec
from aftercommit.store import store_for
from aftercommit.store.base import Store
from aftercommit.stored import read_arguments
from aftercommit.timing import PUNCTUAL
from aftercommit.wording import spoken


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A schedule as it is now."""

    using: str
    name: str
    source: str  # code, settings or people
    task: str
    backend: str
    args: Sequence[Any] | None  # None: the row has what cannot be read
    kwargs: dict[str, Any] | None
    queue: str  # empty: that of the task
    priority: int | None  # None: that of the task
    cron: str
    timezone: str
    every: timedelta | None
    catch_up: str
    catch_up_within: timedelta | None
    overlap: str
    jitter: timedelta | None
    enabled: bool
    edited: Sequence[str]  # what people have changed of what is declared
    ended_at: datetime | None  # no worker declares it any more
    next_run: datetime | None  # None: disabled, ended, or never again
    last_run: datetime | None  # the latest moment that became a job
    last_job_id: UUID | None
    missed: int  # moments that were left out, because no worker was there in time
    skipped: int  # moments that were left out, because a job had not ended
    late: timedelta | None  # for how long a moment has waited; None: it is not late
    problem: str  # why the present moment became no job

    @property
    def when(self) -> str:
        """When it is due, in words."""
        if self.every is not None:
            return f"every {spoken(self.every)}"
        return f"{self.cron} {self.timezone}"

    @property
    def state(self) -> str:
        """One word: ``enabled``, ``disabled``, ``late`` or ``ended``."""
        if self.ended_at is not None:
            return "ended"
        if not self.enabled:
            return "disabled"
        return "enabled" if self.late is None else "late"

    def local(self, moment: datetime) -> datetime:
        """Return a moment in the time zone of the schedule; in UTC if it has none."""
        try:
            return moment.astimezone(ZoneInfo(self.timezone) if self.timezone else UTC)
        except (LookupError, ValueError, OSError):
            return moment.astimezone(UTC)


def find(using: str | None = None) -> Sequence[Schedule]:
    """Return the schedules of a database, or of all that hold jobs, by name."""
    return [one for alias in aliases(using) for one in in_database(store_for(alias))]


def in_database(store: Store) -> Sequence[Schedule]:
    """Return the schedules of one database, by name."""
    rows = store.schedules()
    now = store.clock() if rows else datetime.now(tz=UTC)
    return [of_row(store.alias, row, now) for row in rows]


def get(name: str, using: str | None = None) -> Schedule:
    """Return a schedule; raises ``NoSuchSchedule`` if none or several databases have it."""
    store = store_of(name, using)
    rows = store.schedules([name])
    if not rows:
        raise NoSuchSchedule(name=name)
    return of_row(store.alias, rows[0], store.clock())


def upcoming(name: str, count: int = 5, *, using: str | None = None) -> list[datetime]:
    """Return the next moments of a schedule in UTC, without jitter; none if it is disabled."""
    store = store_of(name, using)
    rows = store.schedules([name])
    if not rows or rows[0].next_run is None:
        return []
    first: datetime = rows[0].next_run
    later = Spec.of(rows[0]).timing.moments(first)
    return [first, *islice(later, max(count - 1, 0))][:count]


def store_of(name: str, using: str | None) -> Store:
    """Return the store of the database that has a schedule; raises ``NoSuchSchedule``."""
    stores = [store_for(alias) for alias in aliases(using)]
    having = [one for one in stores if one.schedules([name])]
    if len(having) > 1:
        raise NoSuchSchedule(name=name, several=[one.alias for one in having])
    if not having:
        known = [row.name for one in stores for row in one.schedules()]
        raise NoSuchSchedule(name=name, near=get_close_matches(name, known))
    return having[0]


def of_row(using: str, row: Row, now: datetime) -> Schedule:
    """Return what a row says at a moment."""
    args: list[Any] | None
    kwargs: dict[str, Any] | None
    try:
        args, kwargs = read_arguments(row.payload)
    except Unreadable:
        args = kwargs = None
    late = None if row.next_run is None else now - row.next_run
    columns = Spec.of(row).columns()
    columns.pop("payload")
    return Schedule(
        using=using,
        name=row.name,
        source=row.source,
        task=columns.pop("task_path"),
        args=args,
        kwargs=kwargs,
        enabled=row.enabled,
        edited=tuple(row.edited),
        ended_at=row.ended_at,
        next_run=row.next_run,
        last_run=row.last_run,
        last_job_id=row.last_job_id,
        missed=row.missed,
        skipped=row.skipped,
        late=late if late is not None and late > PUNCTUAL else None,
        problem=row.problem,
        **columns,
    )
