"""The store on SQLite: one writer at a time, so each write locks the database at its start."""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar
from uuid import UUID, uuid4

from django.db import OperationalError, transaction
from django.db.models import BooleanField, QuerySet
from django.db.models.expressions import RawSQL

from aftercommit.models import Job, State
from aftercommit.store.base import Rescued
from aftercommit.store.claim import chosen, jobs_of_lease, left_out, marks
from aftercommit.store.columns import (
    claim_from,
    columns_of,
    id_from,
    values_from,
)
from aftercommit.store.finish import without_gone
from aftercommit.store.groups import HEADS
from aftercommit.store.presence import Presence
from aftercommit.store.sqlite.fair import SQLiteFair
from aftercommit.store.sqlite.limits import Part
from aftercommit.store.sqlite.presence import SQLitePresence, lock_is_free, remove_lock
from aftercommit.store.sqlite.references import check_no_row_refers_to
from aftercommit.store.sqlite.sql import (
    CLAIM,
    CLAIMABLE,
    DEPTHS,
    DUE,
    DUE_HEAD,
    HELD,
    LEASE,
    NAMED,
    NOW,
    SUCCEED,
    WITHOUT_LIMIT,
    insert,
)
from aftercommit.values import Claim, ClaimQuery, Ended, NewJob, Outcome, Succeeded

FEW = 10  # due jobs that are read before a claim: to read all would take as long as to claim them
NOT_UTF_8 = "Could not decode to UTF-8"
Answer = TypeVar("Answer")


class SQLiteStore(SQLiteFair):
    """Jobs on SQLite 3.37 or newer, in a file."""

    now_sql = f"SELECT {NOW}"
    heads_sql = HEADS.format(claimable=CLAIMABLE)
    due_sql = DUE_HEAD
    held_sql = HELD
    tells_inserted = True
    saved_at_sql = NOW
    claimable_sql = f"aftercommit_job AS job WHERE {CLAIMABLE}"
    depths_sql = DEPTHS

    def _insert_rows(self, jobs: Sequence[NewJob], *, or_skip: bool) -> list[Any]:
        columns = columns_of(jobs)
        sql = insert(columns, or_skip=or_skip)
        if len(jobs) == 1:
            sql += "RETURNING enqueued_at"
        return self._run(sql, [json.dumps([self._values(job, columns) for job in jobs])])

    def _values(self, job: NewJob, columns: Sequence[str]) -> list[Any]:
        adapt = self.connection.ops.adapt_datetimefield_value
        row = values_from(job, columns)
        row |= {"id": job.id.hex, "run_after": adapt(job.run_after)}
        return list(row.values())

    def _broke(self, raw: Any, error: Exception) -> bool:
        return False

    def claim(self, query: ClaimQuery) -> list[Claim]:
        """Claim in one transaction, if a read finds a due job; see ``Store.claim``."""
        return self._in_any_text(partial(super().claim, query))

    def job(self, job_id: UUID) -> Job | None:
        """See ``Store.job``."""
        return self._in_any_text(partial(super().job, job_id))

    def jobs(self, job_ids: Collection[UUID]) -> list[Job]:
        """See ``Store.jobs``."""
        return self._in_any_text(partial(super().jobs, job_ids))

    def rescue(self, **given: Any) -> list[Rescued]:
        """See ``Store.rescue``."""
        return self._in_any_text(partial(super().rescue, **given))

    def _in_any_text(self, read: Callable[[], Answer]) -> Answer:
        """Read; if a text is not UTF-8, which SQLite can store, read again and replace it."""
        try:
            return read()
        except OperationalError as error:
            if NOT_UTF_8 not in str(error) or self._in_transaction():
                raise
        raw: Any = self.connection.connection
        raw.text_factory = partial(str, encoding="utf-8", errors="replace")
        try:
            return read()
        finally:
            raw.text_factory = str

    def _claim_free(self, query: ClaimQuery) -> tuple[list[Claim], bool]:
        parts = self._parts(query)
        # Read before the write: an idle worker must not lock the database at every poll.
        under_limits = self._under_limits(parts, query, few := min(FEW, query.limit))
        if len(under_limits) == few and all(under_limits):
            under_limits = self._under_limits(parts, query, few := query.limit)
        if all(under_limits):
            self.end_leases(query.ended)
            return [], bool(under_limits)
        which = WITHOUT_LIMIT
        if query.limited:
            which += f" AND task_path NOT IN ({marks(list(query.limited))})"
        rows: list[Any] = []
        short = False  # a part had fewer free jobs than were asked for
        with self._write():
            for part, values in parts:
                if (left := query.limit - len(rows)) > 0:
                    given = [*values, left, *query.limited]
                    claimed = self._claim_part(query, part, given, which=which)
                    short = short or len(claimed) < left
                    rows += claimed
            claims = self._leased(rows, query)
            self.end_leases(query.ended)
        if short and len(under_limits) == few:  # not all were looked at
            under_limits += self._under_limits(parts, query, query.limit)
        return claims, any(under_limits)

    def _under_limits(self, parts: list[Part], query: ClaimQuery, number: int) -> list[bool]:
        """Return of so many due jobs, the first ones, whether a limit may hold them back."""
        found = self._first(parts, "limit_key, task_path", number)
        return [key is not None or path in query.limited for key, path in found]

    def _claim_part(
        self,
        query: ClaimQuery,
        due: str,
        given: Sequence[Any],
        *,
        slot: str = "",
        which: str = "",
    ) -> list[Any]:
        sql = CLAIM.format(due=due, slot=slot, which=which)
        return self._run(sql, [query.worker_id.hex, *given])

    def _leased(self, rows: list[Any], query: ClaimQuery) -> list[Claim]:
        """Write the lease of rows that were just claimed; return the claims."""
        lease_id = uuid4()
        if rows:
            span = f"{query.lease.total_seconds():+.3f} seconds"
            jobs = jobs_of_lease((row[0], row[1]) for row in rows)
            self._run(LEASE, [lease_id.hex, query.worker_id.hex, span, jobs])
        return [claim_from(row, worker_id=query.worker_id, lease_id=lease_id) for row in rows]

    def _first(self, parts: list[Part], columns: str, limit: int) -> list[Any]:
        """Return columns of the first due jobs, without a lock."""
        rows: list[Any] = []
        for due, given in parts:
            if (left := limit - len(rows)) > 0:
                rows += self._run(due.replace("SELECT id", f"SELECT {columns}"), [*given, left])
        return rows

    def _parts(self, query: ClaimQuery) -> list[Part]:
        return self._named(query) if query.only is not None else self._due_in_groups(query)

    def _due_in_groups(self, query: ClaimQuery) -> list[Part]:
        """Return a selection of due jobs for each backend and priority."""
        due = DUE.format(chosen=chosen(query))
        return [
            (due, [backend, query.queue, priority, *left_out(query)])
            for backend, priority in self._groups(query)
        ]

    def _named(self, query: ClaimQuery) -> list[Part]:
        """Return a selection of the due ones among those jobs that are named."""
        named = NAMED.format(chosen=chosen(query))
        only = [one.hex for one in query.only or ()]
        return [(named, [query.queue, *query.backends, *left_out(query), *only])]

    def finish_many(self, ended: Sequence[tuple[Claim, Outcome]]) -> list[Ended]:
        """Write all successes by one statement; see ``Store.finish_many``."""
        good = [
            (claim.job_id.hex, claim.token, outcome.result)
            for claim, outcome in ended
            if type(outcome) is Succeeded
        ]
        if len(good) <= 1:
            return super().finish_many(ended)
        gone, others = without_gone([one for one in ended if type(one[1]) is not Succeeded])
        document = json.dumps(good, ensure_ascii=False)  # a lone surrogate is refused
        with self._write():
            rows = self._run(SUCCEED, [document])
            written = self._ended(
                [Ended(id_from(job_id), State.SUCCEEDED) for job_id, _needed in rows],
                needed=[id_from(job_id) for job_id, needed in rows if needed],
            )
            return written + self._finish_and_delete(gone) + super().finish_many(others)

    def _check_no_row_refers_to(self, deleted: Sequence[UUID]) -> None:
        check_no_row_refers_to(self.connection, deleted)

    def open_presence(self, worker_id: UUID, *, session_locks: bool) -> Presence:
        """Open a presence with a lock file beside the database."""
        return SQLitePresence(self._file, worker_id, session_locks=session_locks)

    def free_locks(self, worker_ids: set[UUID]) -> set[UUID]:
        """See ``Store.free_locks``."""
        return {one for one in worker_ids if lock_is_free(self._file, one)}

    def forget(self, worker_ids: set[UUID]) -> None:
        """Delete the rows of dead workers, and their lock files."""
        super().forget(worker_ids)
        for worker_id in worker_ids:
            remove_lock(self._file, worker_id)

    @property
    def _file(self) -> str:
        return str(self.connection.settings_dict["NAME"])

    def _claimable(self) -> QuerySet[Job]:
        both = RawSQL(CLAIMABLE.replace("job.", "aftercommit_job."), [], BooleanField())  # noqa: S611 - no values
        return super()._claimable().filter(both)

    @contextmanager
    def _write(self) -> Iterator[None]:
        """Begin with BEGIN IMMEDIATE, which waits for the write lock.

        After a plain BEGIN and a read, SQLite refuses a write with "database is locked",
        without waiting, if another connection has written in the meantime.
        """
        self.connection.ensure_connection()  # which sets transaction_mode
        before = self.connection.transaction_mode  # type: ignore[attr-defined]
        self.connection.transaction_mode = "IMMEDIATE"  # type: ignore[attr-defined]
        try:
            with transaction.atomic(using=self.alias):
                yield
        finally:
            self.connection.transaction_mode = before  # type: ignore[attr-defined]

    def _run(self, sql: str, given: Sequence[Any]) -> list[Any]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, given)
            return list(cursor.fetchall())
