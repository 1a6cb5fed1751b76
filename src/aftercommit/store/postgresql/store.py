"""The store on PostgreSQL: one statement for each transition."""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from psycopg import IsolationLevel
from psycopg.pq import TransactionStatus
from psycopg.types.datetime import TimestamptzLoader

from aftercommit.models import Job, State
from aftercommit.models.readable import bounded
from aftercommit.options.backoff import LONGEST_WAIT
from aftercommit.store.claim import WITHOUT_FAIR
from aftercommit.store.finish import ending, without_gone
from aftercommit.store.groups import HEADS
from aftercommit.store.postgresql.fair import PostgreSQLFair
from aftercommit.store.postgresql.inserts import PostgreSQLInserts
from aftercommit.store.postgresql.limits import claims_from
from aftercommit.store.postgresql.listener import PostgreSQLListener
from aftercommit.store.postgresql.locks import FREE_LOCKS, LOOK
from aftercommit.store.postgresql.presence import PostgreSQLPresence, lock_key
from aftercommit.store.postgresql.savepoint import PostgreSQLSavepoint
from aftercommit.store.postgresql.sql import (
    AWAIT,
    BUSY,
    CLAIM,
    CRASHED,
    DEPTHS,
    ENDED,
    FINISH,
    FROM_POSITION,
    HELD,
    IN_GROUPS,
    LIMIT_MET,
    LIMITED_TOO,
    NAMED,
    NOT_NEEDED,
    READY_HOLDER,
    RENEW,
    RULES_CHANGED,
    SUCCEED,
    TELL,
    TO_CHANGE,
    TO_READ,
    WAKE,
    WITHOUT_LIMIT,
    array,
)
from aftercommit.store.presence import REQUESTS, Presence
from aftercommit.store.reading import Look
from aftercommit.store.savepoint import Savepoint
from aftercommit.store.waiting import Listener
from aftercommit.values import (
    Claim,
    ClaimQuery,
    Ended,
    Outcome,
    Renewed,
    Succeeded,
)

IN_TRANSACTION = {TransactionStatus.INTRANS, TransactionStatus.INERROR}
# Until the end of the transaction.
WAIT_BRIEFLY = "SELECT set_config('lock_timeout', '500ms', true)"


class PostgreSQLStore(PostgreSQLInserts, PostgreSQLFair):
    """Jobs on PostgreSQL 15 or newer."""

    now_sql = "SELECT clock_timestamp()"
    heads_sql = HEADS.format(claimable="job.claimable")
    head_due_sql = bounded("head.run_after", "postgresql")
    due_sql = "WHERE head.run_after <= statement_timestamp()"
    held_sql = HELD
    claimable_sql = "aftercommit_job AS job WHERE job.claimable"
    depths_sql = DEPTHS
    wakes_workers = True
    tells_inserted = True
    share_sql = "FOR SHARE SKIP LOCKED"

    @contextmanager
    def writing_briefly(self) -> Iterator[None]:
        """See ``Schedules.writing_briefly``."""
        joins = self._in_transaction()
        with self._write():
            if not joins:
                self._run(WAIT_BRIEFLY, [])
            yield

    def _holder(self, lock: str, *, change: bool) -> Job | None:
        sql = READY_HOLDER.format(lock=TO_CHANGE if change else TO_READ)
        ready = self._jobs.raw(sql, {"unique_lock": lock})
        return next(iter(ready), None) or self._running_holder(lock)

    def _broke(self, raw: Any, error: Exception) -> bool:
        return bool(raw.closed)

    def _claim_free(self, query: ClaimQuery) -> tuple[list[Claim], bool]:
        """Claim by one statement in autocommit; see ``Store.claim``."""
        due, given = self._selection(query)
        if query.limited:
            for columns in ("SELECT id, run_after, ", "SELECT id, "):
                due = due.replace(f"{columns}limit_key\n", columns + LIMITED_TOO)
            given["limited"] = list(query.limited)
        ended = ENDED if query.ended else ""
        sql = CLAIM.format(due=due, ended=ended, taken=WITHOUT_LIMIT) + LIMIT_MET
        rows, lease_id = self._run_claim(sql, query, given)
        if met := bool(rows) and rows[-1][1] is None:
            rows.pop()
        return claims_from(rows, query, lease_id), met

    def _selection(self, query: ClaimQuery) -> tuple[str, dict[str, Any]]:
        """Return the selection of due jobs, and its values."""
        given: dict[str, Any] = {
            "queue": query.queue,
            "limit": query.limit,
            "unknown": list(query.unknown),
        }
        if query.only is not None:
            due = NAMED
            given |= {"only": list(query.only), "backends": list(query.backends)}
        elif query.after is not None:
            due = FROM_POSITION
            given |= query.after._asdict()
        else:
            due = IN_GROUPS
            groups = self._groups(query)
            given["backends"] = [backend for backend, _priority in groups]
            given["priorities"] = [priority for _backend, priority in groups]
        which = "" if query.crashed is None else CRASHED[query.crashed]
        if query.busy:
            which += BUSY
            given["busy"] = list(query.busy)
        which += f" AND {WITHOUT_FAIR}" * query.without_fair
        if query.until is not None:
            which += " AND run_after <= %(until)s"
            given["until"] = query.until
        return due.format(which=which), given

    def renew(self, claims: Iterable[Claim], *, lease: timedelta) -> Renewed:
        """Renew by one statement; see ``Store.renew``."""
        held = list(claims)
        given = {
            "ids": [claim.job_id for claim in held],
            "tokens": [claim.token for claim in held],
            "lease_of": [claim.lease_id for claim in held],
            "leases": list({claim.lease_id for claim in held}),
            "lease": lease,
        }
        rows = self._run(RENEW, given) if held else []
        return Renewed(
            {job_id: cancel for job_id, cancel, _lease_id, _extended in rows},
            frozenset(lease_id for *_, lease_id, extended in rows if extended),
        )

    def savepoint(self, name: str) -> Savepoint:
        """See ``Store.savepoint``."""
        return PostgreSQLSavepoint(self.connection, name)

    def finish(self, claim: Claim, outcome: Outcome) -> Ended | None:
        """Finish by one statement; see ``Store.finish``."""
        return next(iter(self.finish_many([(claim, outcome)])), None)

    def finish_many(self, ended: Sequence[tuple[Claim, Outcome]]) -> list[Ended]:
        """Finish by one statement; see ``Store.finish_many``.

        A second statement follows a batch of successes if a row of it was not updated.
        """
        if not ended:
            return []
        in_order = sorted(ended, key=_by_id)
        if any(type(outcome) is not Succeeded for _claim, outcome in ended):
            gone, others = without_gone(in_order)
            return self._finish_and_delete(gone) + self._finish_in_order(others)
        written = self._succeed(in_order)
        if not (left := _without(in_order, written)):
            return written
        return written + self._finish_rest(left)

    def _succeed(self, in_order: Sequence[tuple[Claim, Any]]) -> list[Ended]:
        given = {
            "ids": array([claim.job_id.hex for claim, _outcome in in_order]),
            "tokens": array([claim.token for claim, _outcome in in_order]),
            "results": json.dumps([outcome.result for _claim, outcome in in_order]),
        }
        return self._ended([Ended(row[0], State.SUCCEEDED) for row in self._run(SUCCEED, given)])

    def _finish_in_order(self, in_order: Sequence[tuple[Claim, Outcome]]) -> list[Ended]:
        written = self._finish_which(in_order, NOT_NEEDED)
        left = _without(in_order, written)
        return written + self._finish_rest(left) if left else written

    def _finish_rest(self, in_order: Sequence[tuple[Claim, Outcome]]) -> list[Ended]:
        with self._write():
            return self._finish_which(in_order, which="")

    def _finish_which(self, in_order: Sequence[tuple[Claim, Outcome]], which: str) -> list[Ended]:
        if not in_order:
            return []
        ends = [(claim, ending(claim, outcome)) for claim, outcome in in_order]
        given = {
            "ids": array([claim.job_id.hex for claim, _end in ends]),
            "tokens": array([claim.token for claim, _end in ends]),
            "states": array([end.state for _claim, end in ends]),
            "delays": array([_seconds(end.delay) for _claim, end in ends]),
            "refunds": array([end.refund for _claim, end in ends]),
            "conflicts": array([end.conflicts for _claim, end in ends]),
            "keeps": array([end.keeps_worker for _claim, end in ends]),
            "results": json.dumps([end.result for _claim, end in ends]),
            "errors": json.dumps([end.errors for _claim, end in ends]),
        }
        rows = self._run(FINISH.format(which=which), given)
        ended = [Ended._make(row[:2]) for row in rows]
        ready = {one.job_id for one in ended if one.state == State.READY}
        at_once = (claim for claim, end in ends if end.delay is None)
        return self._ended(
            ended,
            due={one.queue for one in at_once if one.job_id in ready},
            needed=[job_id for job_id, _state, needed, _told in rows if needed],
        )

    def _check_no_row_refers_to(self, deleted: Sequence[UUID]) -> None:
        with self.connection.cursor() as cursor:  # what Django makes is checked at COMMIT
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")

    def ask_for_end(self, job_ids: Collection[UUID]) -> set[UUID]:
        """See ``Store.ask_for_end``."""
        return {row[0] for row in self._run(AWAIT, {"ids": list(job_ids)})}

    def open_listener(self, *, listens: bool) -> Listener:
        """Listen to the ends of jobs; see ``Store.open_listener``."""
        return PostgreSQLListener(self.alias) if listens else super().open_listener(listens=False)

    def open_presence(self, worker_id: UUID, *, session_locks: bool) -> Presence:
        """Open a presence with an advisory lock and LISTEN, on a separate connection."""
        return PostgreSQLPresence(self.connection, worker_id, session_locks=session_locks)

    def look(self, worker_id: UUID) -> Look:
        """Ask for all of it at once; see ``Store.look``."""
        rows = self._run(LOOK, {"worker_id": worker_id})
        others = {row[1]: row[2] for row in rows if row[1] is not None}
        return Look(rows[0][0], set(others), {one for one, free in others.items() if free})

    def free_locks(self, worker_ids: set[UUID]) -> set[UUID]:
        """See ``Store.free_locks``. In shared mode: two rescuers do not block each other."""
        given = {"ids": list(worker_ids), "keys": [lock_key(one) for one in worker_ids]}
        return {row[0] for row in self._run(FREE_LOCKS, given)} if worker_ids else set()

    def _in_transaction(self) -> bool:
        # Also a transaction that was begun by a BEGIN in SQL, which Django does not know.
        raw: Any = self.connection.connection
        begun = raw is not None and raw.pgconn.transaction_status in IN_TRANSACTION
        return begun or super()._in_transaction()

    def _wake(self, queues: Iterable[str]) -> None:
        if names := sorted(queues):
            self._run(WAKE, {"queues": names})

    def _tell(self, worker_ids: Iterable[UUID | None]) -> None:
        names = sorted(str(one) for one in worker_ids if one is not None)
        self._run(TELL, {"channel": REQUESTS, "workers": names})

    def _tell_workers(self) -> None:
        self._run(RULES_CHANGED, {})

    @contextmanager
    def _write(self) -> Iterator[None]:
        """Write in READ COMMITTED, whatever isolation level the session has.

        In REPEATABLE READ an update of a row that changed after the snapshot is an error; in
        READ COMMITTED the database checks the condition again.
        """
        with self._read_committed(), transaction.atomic(using=self.alias):
            yield

    @contextmanager
    def _read_committed(self) -> Iterator[None]:
        if self._in_transaction():
            yield
            return
        raw: Any = self.connection.connection
        before = raw.isolation_level
        raw.isolation_level = IsolationLevel.READ_COMMITTED  # for the next BEGIN
        try:
            yield
        finally:
            if raw.info.transaction_status == TransactionStatus.IDLE:
                raw.isolation_level = before

    def _run(self, sql: str, given: dict[str, Any] | Sequence[Any]) -> list[Any]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, given)
            return list(cursor.fetchall())

    def _run_native(self, sql: str, given: dict[str, Any]) -> list[Any]:
        """Do the same with the driver's loader of timestamps, which is faster than Django's."""
        with self.connection.cursor() as cursor:
            cursor.cursor.adapters.register_loader("timestamptz", TimestamptzLoader)
            cursor.execute(sql, given)
            return list(cursor.fetchall())


def _without(
    ends: Sequence[tuple[Claim, Any]], written: Sequence[Ended]
) -> Sequence[tuple[Claim, Any]]:
    if len(written) == len(ends):
        return ()
    done = {one.job_id for one in written}
    return [one for one in ends if one[0].job_id not in done]


def _by_id(ended: tuple[Claim, Outcome]) -> int:
    return ended[0].job_id.int  # an int is compared faster than a UUID


def _seconds(delay: timedelta | None) -> float | str:
    return "NULL" if delay is None else min(delay, LONGEST_WAIT).total_seconds()
