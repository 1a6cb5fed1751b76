"""The store on MySQL and MariaDB: short transactions with row locks, as there is no RETURNING."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from itertools import compress
from typing import Any
from uuid import UUID, uuid4

from django.db import Error, InterfaceError, transaction

from aftercommit.models import Job, State
from aftercommit.store.claim import chosen, jobs_of_lease, left_out, marks
from aftercommit.store.columns import claim_from, columns_of, values_from
from aftercommit.store.finish import ending
from aftercommit.store.mysql.finishing import MySQLFinishing
from aftercommit.store.mysql.limits import AS_IT_IS
from aftercommit.store.mysql.packet import SMALL_TOGETHER, Packets
from aftercommit.store.mysql.presence import MySQLPresence, lock_name
from aftercommit.store.mysql.sql import (
    CLAIM,
    CLAIMABLE_JOBS,
    CLAIMED_ROWS,
    DUE,
    FORCED,
    HEADS,
    HELD_JOBS,
    HOLDER,
    INSERT,
    LEASE,
    LOCK_IS_FREE,
    LOCKED_IDS,
    NAMED,
    OR_SKIP,
    READY,
    RETURNING,
    TO_CHANGE,
    TO_READ,
    row_of,
)
from aftercommit.store.presence import Presence
from aftercommit.store.unique import Placed
from aftercommit.values import (
    Claim,
    ClaimQuery,
    NewJob,
    OnConflict,
    Outcome,
    Succeeded,
)

# A statement must fit into max_allowed_packet, which is usually at least 16 MiB.
MOST_ROWS = 500
MOST_BYTES = 4 * 1024 * 1024
SHARE_OF_PACKET = 4  # the payloads of a statement, because they grow when they are escaped
LOCK_WAITS = "SET SESSION innodb_lock_wait_timeout = %s"
SHORTEST_WAIT = 1  # in whole seconds
# Server gone, lost during the query, killed, shut down, idle for too long.
LOST_CONNECTION = {2006, 2013, 2055, 1927, 1053, 4031}


class MySQLStore(MySQLFinishing):
    """Jobs on MySQL 8.4 or MariaDB 10.6, or newer.

    A claim names the priority, so that the rest of the index is in the order of time.
    """

    inserts_in_one_statement = False
    now_sql = "SELECT UTC_TIMESTAMP(6)"
    heads_sql = HEADS
    heads_columns = "backend, queue, priority"
    head_due_sql = "MIN(run_after)"
    due_sql = "HAVING MIN(run_after) <= UTC_TIMESTAMP(6)"
    held_sql = HELD_JOBS
    claimable_sql = CLAIMABLE_JOBS

    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        self._packets = Packets()

    @property
    def share_sql(self) -> str:  # type: ignore[override]
        """See ``Aside``."""
        share = "LOCK IN SHARE MODE" if self.connection.mysql_is_mariadb else "FOR SHARE"  # type: ignore[attr-defined]
        return f"{share} SKIP LOCKED"

    def _insert_rows(self, jobs: Sequence[NewJob], *, or_skip: bool) -> list[Any]:
        rows: list[Any] = []
        ending = OR_SKIP * or_skip
        if len(jobs) == 1 and self.connection.mysql_is_mariadb:  # type: ignore[attr-defined]
            ending += RETURNING
        for chunk in _chunks(jobs, most=self._most_bytes(jobs)):
            columns = columns_of(chunk)
            chunk_rows = ", ".join([row_of(columns)] * len(chunk))
            sql = INSERT.format(columns=", ".join(columns), rows=chunk_rows, ending=ending)
            given = [value for job in chunk for value in self._values(job, columns)]
            rows += self._run(sql, given)
        return rows

    def _most_bytes(self, jobs: Sequence[NewJob]) -> int:
        """Return how many bytes of payloads go into a statement; refuse one that never fits."""
        if sum(len(job.payload) for job in jobs) < SMALL_TOGETHER:
            return MOST_BYTES
        for job in jobs:
            self._check(job.payload, what="arguments", task_path=job.task_path)
        return min(MOST_BYTES, self._packets.limit(self.connection) // SHARE_OF_PACKET)

    def _check_size(self, text: str, *, what: str, task_path: str) -> None:
        self._check(text, what=what, task_path=task_path)

    def _check(self, text: str | None, *, what: str, task_path: str) -> None:
        self._packets.check(self.connection, text, what=what, task_path=task_path)

    def _check_outcome(self, claim: Claim, outcome: Outcome) -> None:
        path = claim.task_path
        if isinstance(outcome, Succeeded):
            self._check(outcome.result, what="the result", task_path=path)
        else:
            self._check(ending(claim, outcome).errors, what="the errors", task_path=path)

    def _values(self, job: NewJob, columns: Sequence[str]) -> list[Any]:
        adapt = self.connection.ops.adapt_datetimefield_value
        row = values_from(job, columns)
        row |= {"id": self._uuid(job.id), "run_after": adapt(job.run_after)}
        return list(row.values())

    def _place_one(self, job: NewJob, lock: str, rule: OnConflict) -> Placed:
        # A refused INSERT locks the holder's row until the caller commits, and the holder's
        # worker could not finish it. READ COMMITTED sees the present holder, so read first.
        change = rule.changes_holder
        holder = self._holder(lock, change=change) if self._reads_committed() else None
        placed = self._met(holder, job, rule) if holder else None
        return placed or super()._place_one(job, lock, rule)

    def _holder(self, lock: str, *, change: bool) -> Job | None:
        to_lock = TO_CHANGE if change else TO_READ
        if not self._reads_committed():  # only a locking read sees the present rows
            return next(iter(self._jobs.raw(HOLDER.format(ready="", lock=to_lock), [lock])), None)
        holder = super()._holder(lock, change=change)
        if holder is not None and holder.state == State.READY:
            ready = self._jobs.raw(HOLDER.format(ready=READY, lock=to_lock), [lock])
            return next(iter(ready), None) or self._running_holder(lock)
        return holder

    def _broke(self, raw: Any, error: Exception) -> bool:
        # By number: some drivers reconnect when they are asked whether they are connected.
        number = error.args[0] if error.args else None
        return isinstance(error, InterfaceError) or number in LOST_CONNECTION

    def _claim_free(self, query: ClaimQuery) -> tuple[list[Claim], bool]:
        """Lock due rows, then mark them, in one short transaction; see ``Store.claim``."""
        groups = [] if query.only is not None else self._groups(query)
        if not groups and not query.only:
            self.end_leases(query.ended)
            return [], False
        with self._write():
            self.end_leases(query.ended)
            what = {LOCKED_IDS: f"{LOCKED_IDS}, task_path"} if query.limited else AS_IT_IS
            due = self._named(query, what) if query.only else self._due_in(groups, query, what)
            ids = [
                job_id
                for job_id, limit_key, *path in due
                if limit_key is None and not (path and path[0] in query.limited)
            ]
            claims = self._claim_ids(query, ids) if ids else []
        return claims, len(ids) < len(due)

    def _claim_ids(
        self, query: ClaimQuery, ids: Sequence[str], *, slot: str = "", slots: Sequence[Any] = ()
    ) -> list[Claim]:
        """Mark locked rows, and write their lease; ``slot`` with ``slots`` sets more columns."""
        lease_id = uuid4()
        worker = self._uuid(query.worker_id)
        self._run(CLAIM.format(ids=marks(ids), slot=slot), [worker, *slots, *ids])
        rows = self._run(CLAIMED_ROWS.format(ids=marks(ids)), ids)
        microseconds = query.lease // timedelta(microseconds=1)
        jobs = jobs_of_lease((str(row[0]), row[1]) for row in rows)
        self._run(LEASE, [self._uuid(lease_id), worker, microseconds, jobs])
        return [claim_from(row, worker_id=query.worker_id, lease_id=lease_id) for row in rows]

    def _due_in(
        self,
        groups: Sequence[tuple[str, int]],
        query: ClaimQuery,
        changes: Mapping[str, str] = AS_IT_IS,
    ) -> list[Any]:
        due = _changed(DUE.format(chosen=chosen(query)), changes)
        rows: list[Any] = []
        for backend, priority in groups:
            if len(rows) < query.limit:
                given = [backend, query.queue, priority, *left_out(query)]
                rows += self._run(due, [*given, query.limit - len(rows)])
        return rows

    def _named(self, query: ClaimQuery, changes: Mapping[str, str] = AS_IT_IS) -> list[Any]:
        only = map(self._uuid, query.only or ())
        named = _changed(NAMED.format(chosen=chosen(query)), changes)
        given = [query.queue, *query.backends, *left_out(query), *only, query.limit]
        return self._run(named, given)

    def end_leases(self, lease_ids: Collection[UUID]) -> None:
        """Delete one after the other; see ``Store.end_leases``.

        A DELETE of several rows reads the whole of a small table, also with FORCE INDEX, and
        would wait for the leases of other workers.
        """
        for lease_id in lease_ids:
            super().end_leases([lease_id])

    def open_presence(self, worker_id: UUID, *, session_locks: bool) -> Presence:
        """Open a presence with a named lock on a separate connection."""
        return MySQLPresence(self.connection, worker_id, session_locks=session_locks)

    def free_locks(self, worker_ids: set[UUID]) -> set[UUID]:
        """See ``Store.free_locks``."""
        if not worker_ids:
            return set()
        asked = ", ".join([LOCK_IS_FREE] * len(worker_ids))
        (free,) = self._run(f"SELECT {asked}", [lock_name(one) for one in worker_ids])
        return set(compress(worker_ids, free))

    @contextmanager
    def _write(self) -> Iterator[None]:
        """Write in READ COMMITTED, whatever isolation level the session has.

        In REPEATABLE READ a locking read and a plain read would see different rows, and
        InnoDB would lock the gaps between rows as well.
        """
        if not self._in_transaction() and not self._reads_committed():
            self._run("SET TRANSACTION ISOLATION LEVEL READ COMMITTED", [])
        with self._by_id(), transaction.atomic(using=self.alias):
            yield

    @contextmanager
    def writing_briefly(self) -> Iterator[None]:
        """See ``Schedules.writing_briefly``."""
        if self._in_transaction():
            yield
            return
        ((before,),) = self._run("SELECT @@SESSION.innodb_lock_wait_timeout", [])
        self._run(LOCK_WAITS, [SHORTEST_WAIT])
        raw = self.connection.connection
        try:
            with self._write():
                yield
        finally:
            if self.connection.connection is raw:  # else the session is gone
                self._wait_for_locks(before)

    def _wait_for_locks(self, seconds: int) -> None:
        try:
            self._run(LOCK_WAITS, [seconds])
        except Error:  # nobody may go on with it
            self.connection.close()

    def _by_id(self) -> AbstractContextManager[None]:
        """Force statements to find rows by the primary key.

        InnoDB locks every row that a statement reads. By another index, or if it reads the
        whole of a small table, it would wait for rows of other workers, and deadlock.
        """
        return self.connection.execute_wrapper(_force_primary_key)

    def _reads_committed(self) -> bool:
        connection: Any = self.connection
        connection.ensure_connection()  # which sets isolation_level
        return bool(connection.isolation_level == "read committed")

    def _uuid(self, value: UUID) -> str:
        native = self.connection.features.has_native_uuid_field
        return str(value) if native else value.hex

    def _run(self, sql: str, given: Sequence[Any]) -> list[Any]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, given)
            return list(cursor.fetchall()) if cursor.description else []


def _changed(sql: str, changes: Mapping[str, str]) -> str:
    for old, new in changes.items():
        sql = sql.replace(old, new)
    return sql


def _chunks(jobs: Sequence[NewJob], *, most: int) -> Iterator[list[NewJob]]:
    chunk: list[NewJob] = []
    size = 0
    for job in jobs:
        if chunk and (len(chunk) == MOST_ROWS or size + len(job.payload) > most):
            yield chunk
            chunk, size = [], 0
        chunk.append(job)
        size += len(job.payload)
    yield chunk


def _force_primary_key(
    execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
) -> Any:
    for plain, forced in FORCED:
        sql = plain.sub(forced, sql, count=1)
    return execute(sql, params, many, context)
