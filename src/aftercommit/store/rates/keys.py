"""What is remembered of each rate key: one row, read and written under the lock of the key."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from aftercommit.gcra import NO_TIME, Rate
from aftercommit.models import Rate as RateRow
from aftercommit.store.clock import DatabaseNow, in_future
from aftercommit.store.table import Table


@dataclass(slots=True)
class KeyNow:
    """A rate key at one moment of the database's clock."""

    rate: Rate
    now: datetime
    tat: datetime | None = None
    paused_until: datetime | None = None
    may_have_line: bool = True

    @property
    def pause(self) -> timedelta:
        """How long nothing may start, because a task has said so."""
        end = self.paused_until or self.now
        return max(end - self.now, NO_TIME)

    def is_too_far_ahead(self) -> bool:
        """Return whether more was used up than there is, and take it as all from now on."""
        latest = self.now + self.rate.span
        if self.tat is None or self.tat <= latest:
            return False
        self.tat = latest
        return True

    @property
    def allowed(self) -> int:
        """How many jobs may start now."""
        return 0 if self.pause else self.rate.allowed(self.now, self.tat)

    def started(self, number: int, *, at: datetime) -> None:
        """Note so many starts; ``at``: the latest of their moments.

        By the moment of the claims and not of this look: two starts are never nearer than the
        rate says, however long the claim took.
        """
        self.now = max(self.now, at)
        self.tat = self.rate.after(self.now, self.tat, number)

    def wait(self, starting: int = 0) -> timedelta:
        """Return when the next may start, once so many more have."""
        tat = self.rate.after(self.now, self.tat, starting) if starting else self.tat
        return max(self.pause, self.rate.wait(self.now, tat))


class RateKeys(Table):
    """Reads and writes these rows."""

    def pause_rate(self, job_id: UUID, until: datetime | timedelta) -> bool:
        """Let no job with the rate key of this job start before a moment.

        A span begins now, by the database's clock. An earlier end than one that was set before
        changes nothing. Returns False if the job has no rate key.
        """
        key = self._jobs.filter(id=job_id).values_list("rate_key", flat=True).first()
        if key is None:
            return False
        end: Any = in_future(until) if isinstance(until, timedelta) else until
        rows = self._rates.filter(key=key)
        earlier = rows.filter(Q(paused_until=None) | Q(paused_until__lt=end))
        if not earlier.update(paused_until=end) and not rows.exists():
            try:
                with transaction.atomic(using=self.alias):
                    self._rates.create(key=key, tat=DatabaseNow(), paused_until=end)
            except IntegrityError:  # somebody was faster
                earlier.update(paused_until=end)
        return True

    def forget_rates(self, *, limit: int) -> int:
        """Delete rows that say nothing any more; return how many. Locked ones are skipped."""
        over = self._rates.filter(tat__lt=DatabaseNow()).filter(
            Q(paused_until=None) | Q(paused_until__lt=DatabaseNow())
        )
        with self._write():
            skips = self.connection.features.has_select_for_update_skip_locked
            rows = over.select_for_update(skip_locked=skips).values_list("key", flat=True)
            return self._rates.filter(key__in=list(rows[:limit])).delete()[0]

    def _keys_now(self, rates: Mapping[str, Rate]) -> dict[str, KeyNow]:
        """Return what is known of these keys, which are locked."""
        now = self._clock()  # after the locks: no start of somebody else is later
        found = {key: KeyNow(rate, now) for key, rate in rates.items()}
        has_line = Exists(self._jobs.filter(line=OuterRef("key")))
        rows = self._rates.filter(key__in=list(found)).annotate(has_line=has_line)
        for row in rows.values_list("key", "tat", "paused_until", "has_line"):
            found[row[0]] = KeyNow(rates[row[0]], now, *row[1:])
        # Written, or the key would be used up until the moment that is too far ahead.
        if ahead := [(key, one) for key, one in found.items() if one.is_too_far_ahead()]:
            self._write_keys(ahead)
        return found

    def _write_keys(self, keys: Iterable[tuple[str, KeyNow]]) -> None:
        """Write how far these keys are used up; ``paused_until`` is written by others."""
        rows = [RateRow(key=key, tat=one.tat or one.now) for key, one in sorted(keys)]
        by_key = self.connection.features.supports_update_conflicts_with_target
        self._rates.bulk_create(
            rows,
            update_conflicts=True,
            update_fields=["tat"],
            unique_fields=["key"] if by_key else None,
        )

    @property
    def _rates(self) -> QuerySet[RateRow]:
        return RateRow.objects.using(self.alias)
