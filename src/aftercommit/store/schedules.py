"""Schedules and their ticks: who may make the job of a moment, and what is known of a schedule.

A tick and its job are written in one transaction, under the lock of the schedule's row. The tick
is unique, and so a moment is one job also where no lock helps: when the clock of the database
goes back, or a row was deleted and made anew.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import Error
from django.db.models import F, Q, QuerySet

from aftercommit.models import LIVE, Schedule, Tick
from aftercommit.store.clock import DatabaseNow, ago
from aftercommit.store.rules import Rules

LATEST_TICKS = 100  # whose jobs may not have ended
DECLARED = (Schedule.Source.CODE, Schedule.Source.SETTINGS)


class Schedules(Rules):
    """Reads and writes these rows. In a transaction of the caller, a change is part of it."""

    def next_moment(self) -> tuple[datetime, datetime] | None:
        """Return the first moment of all schedules that is not decided, and the present one.

        None if there is none. One statement on one index.
        """
        rows = self._schedules.filter(next_run__isnull=False).annotate(now=DatabaseNow())
        # Not values_list(): it would be ordered by the checked moment that SQLite, MySQL and
        # MariaDB are asked for, and those of all schedules would be read.
        first: Any = rows.only("next_run").order_by("next_run").first()
        return None if first is None else (first.next_run, first.now)

    def has_schedules(self) -> bool:
        """Return whether the table is there: workers may be started before its migration."""
        try:
            self._schedules.exists()
        except Error:
            if self._in_transaction() or self._has_schedule_table():
                raise
            return False
        return True

    def writing(self) -> AbstractContextManager[None]:
        """Open a short transaction, or join the caller's."""
        return self._write()

    def writing_briefly(self) -> AbstractContextManager[None]:
        """Open a short transaction that does not wait long for locks of others.

        Or join the caller's, which waits as it does. SQLite has one lock, and one setting of it.
        """
        return self._write()

    def clock(self) -> datetime:
        """Return the present moment by the database's clock."""
        return self._clock()

    def lock_due_schedules(
        self, *, digests: Collection[str], but: Collection[str], limit: int
    ) -> list[Schedule]:
        """Return schedules that are due, for the caller's transaction alone.

        Those that others have locked are left out: they are made there. ``digests``: what the
        caller declares; schedules of people are returned whoever asks.
        """
        mine = Q(digest__in=list(digests)) | Q(source=Schedule.Source.PEOPLE)
        due = self._schedules.filter(mine, enabled=True, next_run__lte=DatabaseNow())
        rows = due.exclude(name__in=list(but)).order_by("next_run")
        return list(rows.select_for_update(skip_locked=self._skips)[:limit])

    def lock_schedule(self, name: str) -> Schedule | None:
        """Return a schedule, for the caller's transaction alone; wait for who has it."""
        return self._schedules.filter(name=name).select_for_update().first()

    def take_ticks(self, name: str, jobs: Mapping[datetime, UUID | None]) -> set[datetime]:
        """Write ticks with the jobs that they become; return the moments that were nobody's yet.

        Waits for a transaction that has written one of them and has not ended.
        """
        self._ticks.bulk_create(
            [Tick(schedule=name, moment=moment, job_id=one) for moment, one in jobs.items()],
            ignore_conflicts=True,
        )
        rows = self._ticks.filter(schedule=name, moment__in=list(jobs))
        found = dict(rows.values_list("moment", "job_id"))
        return {moment for moment, one in jobs.items() if found.get(moment) == one}

    def tick_became(self, name: str, moment: datetime, job_id: UUID) -> None:
        """Write another job beside a tick: one that was there already, of a unique task."""
        self._ticks.filter(schedule=name, moment=moment).update(job_id=job_id)

    def change_schedule(self, row: Schedule, **columns: Any) -> None:
        """Write columns of a schedule that the caller has locked."""
        self._schedules.filter(pk=row.pk).update(**columns)

    def has_live_job(self, row: Schedule) -> bool:
        """Return whether a job of the latest ticks, or of "run now", has not ended."""
        latest = self._ticks.filter(schedule=row.name, job_id__isnull=False)
        ids: list[Any] = list(
            latest.order_by("-moment").values_list("job_id", flat=True)[:LATEST_TICKS]
        )
        ids += [row.last_job_id] if row.last_job_id else []
        return self._jobs.filter(id__in=ids, state__in=LIVE).exists()

    # ---- reading -----------------------------------------------------------------

    def schedules(self, names: Sequence[str] | None = None) -> list[Schedule]:
        """Return schedules by name; None: all. Nothing where the table is not there yet."""
        rows = self._schedules.order_by("name")
        try:
            return list(rows if names is None else rows.filter(name__in=names))
        except Error:
            if self._in_transaction() or self._has_schedule_table():
                raise
            return []

    def late_schedules(self, *, after: timedelta) -> list[Schedule]:
        """Return those whose moment has passed for so long and is not decided."""
        return list(self._schedules.filter(next_run__lt=ago(after)).order_by("next_run"))

    def ticks(self, name: str, *, limit: int) -> list[Tick]:
        """Return the latest ticks of a schedule."""
        return list(self._ticks.filter(schedule=name).order_by("-moment")[:limit])

    # ---- declarations ------------------------------------------------------------

    def create_schedule(self, **columns: Any) -> bool:
        """Write a new schedule; False if one has this name by now."""
        now = DatabaseNow()
        made = Schedule(created_at=now, changed_at=now, **columns)
        self._schedules.bulk_create([made], ignore_conflicts=True)
        return self._schedules.filter(name=columns["name"], digest=made.digest).exists()

    def declared_schedules(self) -> list[tuple[Any, ...]]:
        """Return name, digest, former digests, and when it has ended, of all schedules."""
        return list(self._schedules.values_list("name", "digest", "former", "ended_at"))

    def saw_schedules(self, digests: Collection[str], *, unless_within: timedelta) -> int:
        """Write that a worker declares these; return how many rows that has changed."""
        rows = self._schedules.filter(digest__in=list(digests), ended_at__isnull=True)
        return rows.filter(seen_at__lt=ago(unless_within)).update(seen_at=DatabaseNow())

    def end_unseen_schedules(self, *, after: timedelta) -> int:
        """End those that no worker has declared for so long; return how many."""
        gone = self._schedules.filter(source__in=DECLARED, ended_at__isnull=True)
        return gone.filter(seen_at__lt=ago(after)).update(
            ended_at=DatabaseNow(), next_run=None, changed_at=DatabaseNow()
        )

    # ---- what is deleted ---------------------------------------------------------

    def prune_ticks(self, *, older_than: timedelta, limit: int) -> int:
        """Delete ticks, and schedules that ended so long ago; return how many of both.

        Never a tick that may be asked for: later than what its schedule has decided about.
        """
        ended = self._schedules.filter(ended_at__lt=ago(older_than)).values_list("pk", flat=True)
        gone = self._schedules.filter(pk__in=list(ended[:limit])).delete()[0]
        old = self._ticks.filter(moment__lt=ago(older_than)).order_by("id")
        ids = list(old.values_list("pk", flat=True)[:limit])
        return max(gone, self._ticks.filter(pk__in=ids).delete()[0] if ids else 0)

    def delete_schedule(self, name: str) -> bool:
        """Delete a schedule; False if there was none."""
        return bool(self._schedules.filter(name=name).delete()[0])

    def left_out(self, *, missed: int = 0, skipped: int = 0) -> dict[str, Any]:
        """Return the columns that count moments which became no job."""
        counts = {"missed": missed, "skipped": skipped}
        return {name: F(name) + number for name, number in counts.items() if number}

    def schedules_changed(self) -> None:
        """Notify workers, where the database can."""
        self._tell_workers()

    def _has_schedule_table(self) -> bool:
        return Schedule._meta.db_table in self.connection.introspection.table_names()

    @property
    def _schedules(self) -> QuerySet[Schedule]:
        return Schedule.objects.using(self.alias)

    @property
    def _ticks(self) -> QuerySet[Tick]:
        return Tick.objects.using(self.alias)
