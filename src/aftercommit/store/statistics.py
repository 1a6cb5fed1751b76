"""Statistics of runs: what workers have counted, and its way to minutes, hours and totals."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.db.models import Q, QuerySet, Sum

from aftercommit._compat import task_backends
from aftercommit.ids import new_job_id
from aftercommit.models import Statistic
from aftercommit.store.clock import DatabaseNow, ago
from aftercommit.store.table import OfTask, Table
from aftercommit.stored import without_version
from aftercommit.tallies import OTHER, Key, Tally, Times

Span = Statistic.Span
FOLDED_AFTER = timedelta(seconds=60)
# A worker that has lost the answer of a flush sends the same rows again, for so long as
# RESENT_FOR. What was folded meanwhile stays, as a row that nobody reads, for much longer: the
# statement of a process that is stopped, or of a slow network, may arrive late.
RESENT_FOR = timedelta(minutes=10)
FOLDED_KEPT = 3 * RESENT_FOR
FOLDED = "folded"  # the span of these rows
MINUTES_KEPT = timedelta(hours=3)
HOURS_KEPT = timedelta(days=8)
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)  # of all time: ``began_at`` of totals
MOST_KEYS = 5_000  # of totals; the runs of further tasks and queues are counted as OTHER
ONE_WRITE = 200  # rows; SQLite takes 32,766 parameters of a statement


class Counted(NamedTuple):
    """What a worker process has counted of one key since its last flush."""

    id: UUID  # of the row: written again, it is the same row
    key: Key
    tally: Tally


class Kept(NamedTuple):
    """What is kept of one key, in one span of time."""

    began_at: datetime
    key: Key
    tally: Tally


class Stored(NamedTuple):
    """What is read of a row; a model for each of them would take several times as long."""

    span: str
    began_at: datetime
    task_path: str
    queue: str
    outcome: str
    jobs: int
    waited: timedelta
    ran: timedelta
    waits: str
    runs: str


class Statistics(Table):
    """Writes and reads statistics. No row is ever changed, and nobody waits for another one."""

    def write_statistics(self, counted: Sequence[Counted]) -> None:
        """Write what was counted; what is written already is left as it is. One statement."""
        rows = [_row(one.id, Span.FLUSH, DatabaseNow(), one.key, one.tally) for one in counted]
        self._statistics.bulk_create(rows, ignore_conflicts=True, batch_size=ONE_WRITE)

    def _count(self, ends: Iterable[tuple[OfTask, str]]) -> None:
        numbers = Counter(
            Key(without_version(job.task_path), job.queue, outcome)
            for job, outcome in ends
            if keeps_statistics(job.backend)
        )
        if numbers:
            self.write_statistics(
                [Counted(new_job_id(), key, Tally(number)) for key, number in numbers.items()]
            )

    def statistics(
        self,
        span: str,
        *,
        over: timedelta | None = None,
        task_paths: Sequence[str] | None = None,
        queues: Sequence[str] | None = None,
    ) -> tuple[datetime, list[Kept]]:
        """Return the present moment by the database's clock, and what is kept.

        ``span``: minutes, hours or totals. ``over``: since the beginning of the span that was
        the present one so long ago. What is not folded yet is part of it, with the moment of
        its flush. What is kept of a key may be in several parts. Of all time, what will be added
        to ``OTHER``, because there are ``MOST_KEYS`` without it, is there already.
        """
        now = self._clock()
        rows = self._since(span, BEGINNING if over is None else floor(now - over, span))
        if task_paths is not None:
            rows = rows.filter(task_path__in=task_paths)
        if queues is not None:
            rows = rows.filter(queue__in=queues)
        found = [Stored._make(row) for row in rows.values_list(*Stored._fields)]
        known = {_key(row) for row in found if row.span == Span.TOTAL}
        if span != Span.TOTAL or known.issuperset(map(_key, found)):
            return now, [_kept(row) for row in found]
        is_whole = task_paths is None and queues is None
        number = len(known if is_whole else self._names_of_totals())
        return now, [_kept(row, known if number >= MOST_KEYS else None) for row in found]

    def ends(
        self, span: str, *, over: timedelta, column: str | None
    ) -> tuple[datetime, list[Kept]]:
        """Return the same without times, and with ``queue`` or ``task_path`` as the only name.

        The database adds the numbers up, so this is quick however many names there are.
        """
        now = self._clock()
        names = ("outcome",) if column is None else ("outcome", column)
        rows = self._since(span, floor(now - over, span)).values_list("began_at", *names)
        nobody = Key("", "", "")
        return now, [
            Kept(
                began_at,
                nobody._replace(**dict(zip(names, key, strict=True))),
                Tally(int(number)),
            )
            for began_at, *key, number in rows.annotate(number=Sum("jobs")).order_by()
        ]

    def _since(self, span: str, moment: datetime) -> QuerySet[Statistic]:
        return self._statistics.filter(span__in=[span, Span.FLUSH], began_at__gte=moment)

    def _names_of_totals(self) -> set[Key]:
        """Return the keys of totals."""
        names = self._at(Span.TOTAL, {BEGINNING}).values_list(*Key._fields).distinct()
        return {Key._make(row) for row in names}

    def fold_statistics(self, *, limit: int) -> int:
        """Add flushes to their minutes, hours and totals; return how many flushes.

        One transaction. What others have locked is left to them: the parts of a key that they
        write are merged by a later call.
        """
        return self._after_deadlock(partial(self._fold, limit))

    def prune_statistics(self, *, limit: int) -> int:
        """Delete rows whose time is over, but for totals; return how many."""
        minutes = Q(span=Span.MINUTE, began_at__lt=ago(MINUTES_KEPT))
        hours = Q(span=Span.HOUR, began_at__lt=ago(HOURS_KEPT))
        folded = Q(span=FOLDED, began_at__lt=ago(FOLDED_KEPT))
        deleted = 0
        for old in (minutes, hours, folded):  # one by one: each is a range of the index
            ids = list(self._statistics.filter(old).values_list("id", flat=True)[:limit])
            deleted += self._delete_statistics(ids)
        return deleted

    def _fold(self, limit: int) -> int:
        with self._write():
            old = self._statistics.filter(span=Span.FLUSH, began_at__lt=ago(FOLDED_AFTER))
            flushes = list(self._not_locked(old.order_by("began_at", "id"))[:limit])
            if not flushes:
                return 0
            totals = list(self._not_locked(self._at(Span.TOTAL, {BEGINNING})))
            known = self._names_of_totals()  # also those that another one has locked
            found = [_kept(row, known if len(known) >= MOST_KEYS else None) for row in flushes]
            self._add_to(Span.TOTAL, totals, found)
            for span in (Span.MINUTE, Span.HOUR):
                moments = {floor(one.began_at, span) for one in found}
                self._add_to(span, self._not_locked(self._at(span, moments)), found)
            self._mark_folded([row.id for row in flushes])
            return len(flushes)

    def _add_to(self, span: str, rows: Iterable[Statistic], found: Iterable[Kept]) -> None:
        """Write the sums of these rows and what is found anew, in the place of the rows."""
        replaced: dict[tuple[datetime, Key], list[Statistic]] = {}
        for row in rows:
            replaced.setdefault((row.began_at, _key(row)), []).append(row)
        sums: dict[tuple[datetime, Key], Tally] = {}
        for one in found:
            place = (floor(one.began_at, span), one.key)
            sums.setdefault(place, Tally()).merge(one.tally)
        gone = []
        for place, tally in sums.items():
            for row in replaced.get(place, ()):
                tally.merge(_kept(row).tally)
                gone.append(row.id)
        new = [
            _row(new_job_id(), span, began_at, key, tally)
            for (began_at, key), tally in sums.items()
        ]
        self._statistics.bulk_create(new, batch_size=ONE_WRITE)
        self._delete_statistics(gone)

    def _mark_folded(self, ids: Sequence[UUID]) -> None:
        for start in range(0, len(ids), ONE_WRITE):
            rows = self._statistics.filter(id__in=ids[start : start + ONE_WRITE])
            rows.update(span=FOLDED, waits="", runs="")

    def _at(self, span: str, moments: Iterable[datetime]) -> QuerySet[Statistic]:
        return self._statistics.filter(span=span, began_at__in=list(moments))

    def _not_locked(self, rows: QuerySet[Statistic]) -> QuerySet[Statistic]:
        return rows.select_for_update(skip_locked=True)

    def _delete_statistics(self, ids: Sequence[UUID]) -> int:
        deleted = 0
        for start in range(0, len(ids), ONE_WRITE):
            rows: Any = self._statistics.filter(id__in=ids[start : start + ONE_WRITE])
            deleted += rows._raw_delete(self.alias)  # no row refers to these
        return deleted

    @property
    def _statistics(self) -> QuerySet[Statistic]:
        return Statistic.objects.using(self.alias)


def keeps_statistics(backend: str) -> bool:
    """Return whether runs of a backend in TASKS are counted; those of an unknown one are."""
    try:
        config = getattr(task_backends[backend], "config", None)
    except ImproperlyConfigured:
        return True
    return bool(getattr(config, "statistics", True))


def floor(moment: datetime, span: str) -> datetime:
    """Return the beginning of the minute or hour that a moment is in, or of all time."""
    if span == Span.TOTAL:
        return BEGINNING
    begun = moment.astimezone(UTC).replace(second=0, microsecond=0)
    return begun.replace(minute=0) if span == Span.HOUR else begun


def _row(row_id: UUID, span: str, began_at: Any, key: Key, tally: Tally) -> Statistic:
    return Statistic(
        id=row_id,
        span=span,
        began_at=began_at,
        **key._asdict(),
        jobs=tally.jobs,
        waited=timedelta(seconds=tally.waits.seconds),
        ran=timedelta(seconds=tally.runs.seconds),
        waits=tally.waits.text,
        runs=tally.runs.text,
    )


def _key(row: Statistic | Stored) -> Key:
    return Key(row.task_path, row.queue, row.outcome)


def _kept(row: Statistic | Stored, known: Mapping[Key, Any] | set[Key] | None = None) -> Kept:
    """Return what a row says; if it is of none of the ``known`` keys, as one of all others."""
    key = _key(row)
    if known is not None and key not in known:
        key = Key(OTHER * bool(key.task_path), OTHER * bool(key.queue), key.outcome)
    waits, runs = Times.read(row.waits, row.waited), Times.read(row.runs, row.ran)
    return Kept(row.began_at, key, Tally(row.jobs, waits, runs))
