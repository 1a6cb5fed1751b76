"""Limits on PostgreSQL: keys are locked by advisory locks, which end with the transaction."""

import json
import threading
from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

from aftercommit.models import Blocked
from aftercommit.models.readable import bounded
from aftercommit.store.limits import claims
from aftercommit.store.limits.claims import LockKeys
from aftercommit.store.limits.lines import Known, Slot
from aftercommit.store.limits.rounds import Look
from aftercommit.store.postgresql.limits_sql import (
    FIRST_IN_LINE,
    FIRST_PARKED,
    GIVEN_SLOTS,
    KNOWN,
    LOOK,
    MOVE,
    NOBODY_PARKS,
    TRY_KEYS,
    UNLOCKED_KEYS,
    UPDATE_SLOTS,
    WITH_PARKED,
    WITH_SLOT,
    WITHOUT_LOCKS,
)
from aftercommit.store.postgresql.replication import PostgreSQLReplication
from aftercommit.store.postgresql.sql import CLAIM, array
from aftercommit.values import Claim, ClaimQuery

HOLDS = Blocked.HOLDS.value


class PostgreSQLLimits(PostgreSQLReplication):
    """What the store of PostgreSQL does for limits."""

    most_keys = 500

    waiting_columns = (
        "id, limit_key, task_path, queue, state, priority, "
        + bounded("run_after", "postgresql")
        + " AS due"
    )

    due_column = bounded("run_after", "postgresql")

    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        self._locking = threading.local()  # .longest: in the transaction that locks keys

    @abstractmethod
    def _selection(self, query: ClaimQuery) -> tuple[str, dict[str, Any]]:
        """Return the selection of due jobs, and its values."""

    @abstractmethod
    def _run_native(self, sql: str, given: dict[str, Any]) -> list[Any]:
        """Return the rows of a statement, with the driver's loader of timestamps."""

    @abstractmethod
    def _run(self, sql: str, given: dict[str, Any] | Sequence[Any]) -> list[Any]:
        """Return the rows of a statement."""

    def _look(self, query: ClaimQuery, most: int, lock: LockKeys) -> Look:
        """Read the first due jobs and lock their keys by one statement; see ``Limits._look``."""
        due, given = self._selection(query)
        due = without_locks(due)
        given |= {"limit": most, "most_keys": self.most_keys, "longest": self._longest}
        rows = self._run_native(LOOK.format(due=due), given)
        tried = {row[1]: row[-1] for row in rows if row[-1] is not None}
        keys = {row[1] for row in rows if row[1] is not None}
        return Look(
            due=[self._as_waiting(row[:-1]) for row in rows],
            held={key for key, held in tried.items() if held},
            busy=[key for key, held in tried.items() if not held],
            full=len(rows) == most,
            capped=len(keys) > len(tried),
        )

    def _take(self, query: ClaimQuery, slots: Mapping[UUID, Slot]) -> list[Claim]:
        given = _with_keys({one: slot.key for one, slot in slots.items()}) | {
            "slots": array(
                "NULL" if slot.number is None else slot.number for slot in slots.values()
            ),
            "blocked": array(HOLDS if slot.holds else "NULL" for slot in slots.values()),
        }
        sql = CLAIM.format(due=GIVEN_SLOTS, ended="", taken=WITH_SLOT)
        rows, lease_id = self._run_claim(sql, query, given)
        last = query.worker_id, lease_id
        return [Claim._make((*row, *last, slots[row[0]].key)) for row in rows]

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
        def lock(keys: Collection[str]) -> set[str]:
            given = {"keys": json.dumps(list(keys)), "longest": longest}
            rows = self._run(TRY_KEYS, given)
            return {row[0] for row in rows}

        # In a transaction of the caller, the settings would outlast what is done here.
        outer = self._longest
        longest = outer if self._in_transaction() else f"{claims.STANDING_STILL}s"
        with self._write():
            self._locking.longest = longest
            try:
                yield lock
            finally:
                self._locking.longest = outer

    @property
    def _longest(self) -> str | None:
        """How long the session may stand still while it holds keys; None: as it was set."""
        return getattr(self._locking, "longest", None)

    def _nobody_parks(self) -> bool:
        # In a transaction of the caller, the lock would outlast the look.
        return not self._in_transaction() and bool(self._run(NOBODY_PARKS, [])[0][0])

    def _unlocked(self, keys: Sequence[str]) -> list[str]:
        return [row[0] for row in self._run(UNLOCKED_KEYS, {"keys": json.dumps(list(keys))})]

    def _with_parked(self, keys: Sequence[str]) -> list[str]:
        return [row[0] for row in self._run(WITH_PARKED, {"keys": json.dumps(list(keys))})]

    def _known(self, keys: Sequence[str], ids: Sequence[UUID]) -> Iterable[Known]:
        given = {"keys": json.dumps(list(keys)), "ids": array(one.hex for one in ids)}
        return map(Known._make, self._run(KNOWN, given))

    def _first_rows(self, rooms: Mapping[str, int]) -> list[Any]:
        sql = FIRST_PARKED.format(columns=self.waiting_columns)
        given = {"keys": json.dumps(list(rooms)), "rooms": array(rooms.values())}
        return self._run_native(sql, given)

    def _rows_in_line(self, numbers: Mapping[str, int], below: Mapping[str, int]) -> list[Any]:
        sql = FIRST_IN_LINE.format(due=self.due_column)
        given = {
            "keys": json.dumps(list(numbers)),
            "numbers": array(numbers.values()),
            "below": array(below[key] for key in numbers),
        }
        return self._run(sql, given)

    def _move(
        self, jobs: Mapping[UUID, str], *, to: Blocked, parked: bool = False
    ) -> Collection[UUID]:
        claimable = to != Blocked.LIMIT
        given = _with_keys(jobs) | {
            "slots": "{}",
            "blocked": "{}",
            "parked": parked,
            "claimable": claimable,
            "waits_for": int(not claimable),
            "to": to.value,
        }
        return [row[0] for row in self._run(MOVE, given)]

    def _update_slots(self, rows: Sequence[tuple[int, UUID, int]]) -> None:
        ids, jobs, tokens = map(list, zip(*rows, strict=True))
        with self.connection.cursor() as cursor:
            cursor.execute(UPDATE_SLOTS, {"ids": ids, "jobs": jobs, "tokens": tokens})

    def _rows(self, sql: str, given: Sequence[Any]) -> list[Any]:
        return self._run(sql, given)


def without_locks(due: str) -> str:
    """Return a selection of due jobs that locks none, and reads what decisions need."""
    for locking, reading in WITHOUT_LOCKS:
        due = due.replace(locking, reading)
    return due


def _with_keys(jobs: Mapping[UUID, str]) -> dict[str, Any]:
    """Return ids with the numbers of their keys."""
    numbers = {key: number for number, key in enumerate(dict.fromkeys(jobs.values()), 1)}
    return {
        "ids": array(one.hex for one in jobs),
        "numbers": array(numbers[key] for key in jobs.values()),
        "keys": json.dumps(list(numbers)),
    }


def claims_from(rows: list[Any], query: ClaimQuery, lease_id: UUID) -> list[Claim]:
    """Return the claims of rows that were claimed under one lease."""
    return [Claim._make((*row, query.worker_id, lease_id, None)) for row in rows]
