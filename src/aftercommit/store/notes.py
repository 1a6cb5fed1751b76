"""What runs note: progress, log lines, checkpoints, and answers of calls that are made once.

None of it is in the row of the job. Each write is fenced by the token of its run: progress and
checkpoint of a later run are never overwritten by an earlier one.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Model, QuerySet

from aftercommit.models import Job, LogLine, Progress, Saved, State
from aftercommit.notes import JobProgress, LogEntry, NewLine, NewProgress
from aftercommit.store.clock import DatabaseNow
from aftercommit.store.table import Table
from aftercommit.values import Claim

ONE_WRITE = 500  # rows
ONE_READ = 500  # log lines
CHECKPOINT, ANSWER = Saved.Kind.CHECKPOINT, Saved.Kind.ONCE
TABLES: tuple[type[Model], ...] = (Progress, LogLine, Saved)
NOTED = """
SELECT EXISTS (SELECT 1 FROM aftercommit_progress), EXISTS (SELECT 1 FROM aftercommit_logline),
    EXISTS (SELECT 1 FROM aftercommit_saved)
"""

PROGRESS = """
INSERT INTO aftercommit_progress (job_id, token, done, total, message, changed_at)
VALUES {rows}
"""
LATER_PROGRESS = """
ON CONFLICT (job_id) DO UPDATE
SET token = excluded.token, done = excluded.done, total = excluded.total,
    message = excluded.message, changed_at = excluded.changed_at
WHERE aftercommit_progress.token <= excluded.token
"""
# The SELECT finds the job only while the claim is valid; the row of an answer is written
# whatever became of the claim, because the call was made.
SAVE = """
INSERT INTO aftercommit_saved (job_id, kind, name, token, value, saved_at)
SELECT id, %(kind)s, %(name)s, %(token)s, %(value)s, {now}
FROM aftercommit_job WHERE id = %(job_id)s {mine}
"""
MINE = "AND token = %(token)s AND state = 'running'"
ON_SAVED = "ON CONFLICT (job_id, kind, name) DO UPDATE SET "
OVERWRITE = """
value = excluded.value, token = excluded.token, saved_at = excluded.saved_at
WHERE aftercommit_saved.token <= excluded.token
RETURNING value
"""
TAKE = """
token = excluded.token
WHERE aftercommit_saved.token <= excluded.token
RETURNING value
"""
FIRST_ONE = """
value = COALESCE(aftercommit_saved.value, excluded.value)
RETURNING value
"""


class Kept(NamedTuple):
    """What is in a row of ``Saved`` after a write."""

    value: str | None  # JSON; None: nothing was saved


class Notes(Table):
    """Writes and reads what runs note, and deletes it with the jobs."""

    saved_at_sql = "statement_timestamp()"

    # ---- progress and log -------------------------------------------------------

    def write_notes(self, progress: Sequence[NewProgress], lines: Sequence[NewLine]) -> None:
        """Write the progress and log lines of several runs.

        Nothing is written for a job that has no row any more, and no progress for a job that
        another run has claimed meanwhile.
        """
        ids = {one.job_id for one in progress} | {one.job_id for one in lines}
        if not ids:
            return
        rows = self._jobs.filter(id__in=ids).values_list("id", "token", DatabaseNow())
        tokens, now = {}, None
        for job_id, token, now in rows:  # noqa: B007 - the moment is the same in all rows
            tokens[job_id] = token
        if now is None:
            return
        valid = [one for one in progress if tokens.get(one.job_id) == one.token]
        self._write_progress(sorted(valid, key=lambda one: one.job_id.int), now)
        self._write_lines([one for one in lines if one.job_id in tokens], now)

    def _write_progress(self, progress: Sequence[NewProgress], now: datetime) -> None:
        for start in range(0, len(progress), ONE_WRITE):
            some = progress[start : start + ONE_WRITE]
            values = [self._as_columns(Progress, row) for row in _dated(some, now)]
            rows = ", ".join(f"({', '.join(['%s'] * len(row))})" for row in values)
            with self.connection.cursor() as cursor:
                sql = PROGRESS.format(rows=rows) + self._later_progress()
                cursor.execute(sql, [value for row in values for value in row])

    def _write_lines(self, lines: Sequence[NewLine], now: datetime) -> None:
        names = [field.attname for field in LogLine._meta.concrete_fields[1:]]
        made = [LogLine(**dict(zip(names, row, strict=True))) for row in _dated(lines, now)]
        if made:
            self._log_lines.bulk_create(made, batch_size=ONE_WRITE)

    def forget_lines(self, job_id: UUID, *, before: int) -> None:
        """Delete the log lines of the runs of a job before the one with this token."""
        self._raw_delete(self._log_lines.filter(job_id=job_id, token__lt=before))

    def progress_of(self, job_ids: Collection[UUID]) -> dict[UUID, JobProgress]:
        """Return how far jobs are, as far as their tasks have said so."""
        rows = self._progress_rows.filter(job_id__in=job_ids)
        return {
            row.job_id: JobProgress(
                done=row.done, total=row.total, message=row.message, changed_at=row.changed_at
            )
            for row in rows
        }

    def lines_of(
        self, job_id: UUID, *, after: int = 0, limit: int = ONE_READ
    ) -> list[tuple[int, LogEntry]]:
        """Return the next log lines of a job, each with its place, the oldest first."""
        rows = self._log_lines.filter(job_id=job_id, id__gt=after).order_by("id")[:limit]
        return [(row.id, _entry(row)) for row in rows]

    def last_lines_of(self, job_id: UUID, *, limit: int) -> list[LogEntry]:
        """Return the last log lines of a job, the oldest first."""
        rows = self._log_lines.filter(job_id=job_id).order_by("-id")[:limit]
        return [_entry(row) for row in rows][::-1]

    def count_lines(self, job_id: UUID) -> int:
        """Return how many log lines a job has."""
        return self._log_lines.filter(job_id=job_id).count()

    # ---- checkpoints ------------------------------------------------------------

    def save(self, claim: Claim, value: str) -> bool:
        """Write the checkpoint of a claimed job; False if the claim was lost.

        In a transaction of the caller, the write is part of it. It waits for another
        transaction that has written or read the checkpoint of the job.
        """
        save = partial(self._save, OVERWRITE, claim, CHECKPOINT, "", value)
        return self._after_deadlock(save) is not None

    def take_saved(self, claim: Claim) -> Kept | None:
        """Return the checkpoint of a claimed job, and fence earlier runs; None: claim lost.

        What an earlier run saves from now on is refused. One that has saved in a transaction
        that is open is waited for: either its checkpoint and its effects are there, or neither.
        """
        return self._after_deadlock(partial(self._save, TAKE, claim, CHECKPOINT, "", None))

    def saved_of(self, job_id: UUID) -> list[Saved]:
        """Return the checkpoint of a job and the answers of its calls, for people."""
        return list(self._saved_rows.filter(job_id=job_id, value__isnull=False).order_by("id"))

    # ---- calls that are made once -----------------------------------------------

    def answers_of(self, job_id: UUID) -> dict[str, str]:
        """Return the recorded answers of a job's calls as JSON, by their names."""
        rows = self._saved_rows.filter(job_id=job_id, kind=ANSWER, value__isnull=False)
        return {row.name: str(row.value) for row in rows}

    def record_answer(self, claim: Claim, name: str, value: str) -> Kept | None:
        """Record the answer of a call, unless one is recorded; return what is recorded now.

        Also if the claim was lost: the call was made. None if the job has no row any more.
        """
        return self._after_deadlock(partial(self._save, FIRST_ONE, claim, ANSWER, name, value))

    # ---- with the job -----------------------------------------------------------

    def delete_notes(self, job_ids: Collection[UUID]) -> None:
        """Delete what runs of these jobs have noted. Without any notes: one statement."""
        if not job_ids:
            return
        with self.connection.cursor() as cursor:
            cursor.execute(NOTED)
            noted = cursor.fetchone()
        for model, some in zip(TABLES, noted, strict=True):
            if some:
                self._raw_delete(self._rows_of(model).filter(job_id__in=job_ids))

    def delete_notes_of_gone(self, job_ids: Collection[UUID]) -> set[UUID]:
        """Delete the notes of those jobs that have no row; return which are running still."""
        states = dict(self._jobs.filter(id__in=job_ids).values_list("id", "state"))
        self.delete_notes([one for one in job_ids if one not in states])
        return {one for one, state in states.items() if state == State.RUNNING}

    def delete_lost_notes(self, model: type[Model], *, after: UUID, limit: int) -> UUID | None:
        """Delete notes of jobs that have no row, in a part of a table, in the order of job ids.

        A zombie may write after its job was deleted, and so may SQL that deletes jobs. Returns
        where the next part begins; None at the end of the table.
        """
        rows = self._rows_of(model).filter(job_id__gt=after).order_by("job_id")
        ids = list(rows.values_list("job_id", flat=True).distinct()[:limit])
        known = [one for one in ids if one is not None]
        there = set(self._jobs.filter(id__in=known).values_list("id", flat=True))
        if lost := [one for one in known if one not in there]:
            self._raw_delete(self._rows_of(model).filter(job_id__in=lost))
        return known[-1] if len(ids) == limit and known else None

    # ---- statements -------------------------------------------------------------

    @property
    def _progress_rows(self) -> QuerySet[Progress]:
        return Progress.objects.using(self.alias)

    @property
    def _log_lines(self) -> QuerySet[LogLine]:
        return LogLine.objects.using(self.alias)

    @property
    def _saved_rows(self) -> QuerySet[Saved]:
        return Saved.objects.using(self.alias)

    def _rows_of(self, model: type[Model]) -> QuerySet[Any]:
        return model._default_manager.using(self.alias)

    def _raw_delete(self, rows: QuerySet[Any]) -> None:
        rows._raw_delete(self.alias)  # no row refers to these

    def _as_columns(self, model: type[Model], row: Sequence[Any]) -> list[Any]:
        fields = model._meta.concrete_fields
        pairs = zip(fields, row, strict=True)
        return [field.get_db_prep_save(value, self.connection) for field, value in pairs]

    def _later_progress(self) -> str:
        return LATER_PROGRESS

    def _save(
        self, change: str, claim: Claim, kind: str, name: str, value: str | None
    ) -> Kept | None:
        sql = SAVE.format(now=self.saved_at_sql, mine="" if change is FIRST_ONE else MINE)
        given = {
            "job_id": Job._meta.pk.get_db_prep_value(claim.job_id, self.connection),
            "kind": str(kind),
            "name": name,
            "token": claim.token,
            "value": value,
        }
        with self.connection.cursor() as cursor:
            cursor.execute(sql + ON_SAVED + change, given)
            row = cursor.fetchone()
        return None if row is None else Kept(row[0])


def _dated(rows: Iterable[NewProgress | NewLine], now: datetime) -> Iterable[tuple[Any, ...]]:
    """Yield rows with a moment by the database's clock in the place of an age."""
    for row in rows:
        yield (*row[:-1], now - timedelta(seconds=row.age))


def _entry(row: LogLine) -> LogEntry:
    return LogEntry(
        attempt=row.attempt,
        run=row.token,
        level=row.level,
        logger=row.logger,
        message=row.message,
        logged_at=row.logged_at,
    )
