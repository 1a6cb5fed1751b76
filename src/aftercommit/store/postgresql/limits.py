"""Limits on PostgreSQL: keys are locked by advisory locks, which end with the transaction."""

from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

from aftercommit.models import Blocked
from aftercommit.models.readable import bounded
from aftercommit.store.base import Store
from aftercommit.store.limits import claims
from aftercommit.store.limits.claims import LockKeys
from aftercommit.store.postgresql.sql import CLAIM
from aftercommit.values import Claim, ClaimQuery

RUN_AFTER = bounded("job.run_after", "postgresql")
GIVEN_SLOTS = """
WITH due AS MATERIALIZED (
    SELECT * FROM unnest(%(ids)s::uuid[], %(slots)s::int[], %(blocked)s::smallint[])
        AS given (id, slot, blocked)
)
"""
WITH_SLOT = """, slot = due.slot, blocked = due.blocked
    FROM due WHERE job.id = due.id AND job.state = 'ready'"""
UNLOCKED = """{due}
SELECT job.id, job.limit_key, job.task_path, job.queue, job.state, job.priority, {run_after}
FROM due JOIN aftercommit_job AS job ON job.id = due.id
ORDER BY job.priority DESC, job.run_after, job.id
"""
TRY_KEYS = """
SELECT key FROM unnest(%(keys)s::text[]) AS key, set_config(
    'idle_in_transaction_session_timeout',
    COALESCE(%(longest)s::text, current_setting('idle_in_transaction_session_timeout')), true
)
WHERE pg_try_advisory_xact_lock(hashtextextended('aftercommit:' || key, 0))
"""


class PostgreSQLLimits(Store):
    """What the store of PostgreSQL does for limits."""

    waiting_columns = (
        "id, limit_key, task_path, queue, state, priority, "
        + bounded("run_after", "postgresql")
        + " AS due"
    )

    @abstractmethod
    def _selection(self, query: ClaimQuery) -> tuple[str, dict[str, Any]]:
        """Return the selection of due jobs, and its values."""

    @abstractmethod
    def _run_native(self, sql: str, given: dict[str, Any]) -> list[Any]:
        """Return the rows of a statement, with the driver's loader of timestamps."""

    @abstractmethod
    def _run(self, sql: str, given: dict[str, Any] | Sequence[Any]) -> list[Any]:
        """Return the rows of a statement."""

    def _due_under_limits(self, query: ClaimQuery, limit: int) -> list[Any]:
        due, given = self._selection(query)
        due = due.replace("FOR NO KEY UPDATE SKIP LOCKED", "")
        sql = UNLOCKED.format(due=due, run_after=RUN_AFTER)
        return self._run(sql, {**given, "limit": limit})

    def _take(
        self, query: ClaimQuery, slots: Mapping[UUID, int | None], holders: Collection[UUID]
    ) -> list[Claim]:
        given: dict[str, Any] = {
            "ids": list(slots),
            "slots": list(slots.values()),
            "blocked": [Blocked.HOLDS.value if one in holders else None for one in slots],
        }
        sql = CLAIM.format(due=GIVEN_SLOTS, ended="", taken=WITH_SLOT)
        rows, lease_id = self._run_claim(sql, query, given)
        return claims_from(rows, query, lease_id)

    def _run_claim(
        self, sql: str, query: ClaimQuery, given: dict[str, Any]
    ) -> tuple[list[Any], UUID]:
        lease_id = uuid4()
        given |= {
            "worker_id": query.worker_id,
            "lease": query.lease,
            "lease_id": lease_id,
            "ended": list(query.ended),
        }
        return self._run_native(sql, given), lease_id

    @contextmanager
    def _with_keys(self) -> Iterator[LockKeys]:
        # In a transaction of the caller, the setting would outlast ours.
        longest = None if self._in_transaction() else f"{claims.STANDING_STILL}s"

        def lock(keys: Collection[str]) -> set[str]:
            rows = self._run(TRY_KEYS, {"keys": list(keys), "longest": longest})
            return {row[0] for row in rows}

        with self._write():
            yield lock

    def _rows(self, sql: str, given: Sequence[Any]) -> list[Any]:
        return self._run(sql, given)


def claims_from(rows: list[Any], query: ClaimQuery, lease_id: UUID) -> list[Claim]:
    """Return the claims of rows that were claimed under one lease."""
    return [Claim._make((*row, query.worker_id, lease_id, None)) for row in rows]
