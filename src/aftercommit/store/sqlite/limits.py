"""Limits on SQLite: a short transaction is the only writer, so no key has to be locked."""

import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from aftercommit.models import Blocked
from aftercommit.store.base import Store
from aftercommit.store.limits.claims import LockKeys, with_keys
from aftercommit.store.limits.lines import Slot
from aftercommit.store.limits.reading import in_parts
from aftercommit.store.limits.rounds import Look
from aftercommit.values import Claim, ClaimQuery

Part = tuple[str, list[Any]]  # a selection of due jobs, and its values but for the limit
OF_ROW = """json_extract(%s, '$."' || id || '"')"""
GIVEN_SLOT = f", slot = {OF_ROW}, blocked = {OF_ROW}"
GIVEN_IDS = "SELECT value FROM json_each(%s)"
WITH_PARKED = """
SELECT value FROM json_each(%s) AS given WHERE EXISTS (
    SELECT 1 FROM aftercommit_job WHERE blocked = 1 AND limit_key = given.value
)
"""
UPDATE_SLOTS = """
UPDATE aftercommit_slot
SET job_id = json_extract(given.value, '$[1]'), token = json_extract(given.value, '$[2]')
FROM json_each(%s) AS given WHERE aftercommit_slot.id = json_extract(given.value, '$[0]')
"""
HOLDS = Blocked.HOLDS.value
TAKEN_TOGETHER = 50  # each row looks its slot up in the text of all of these


class SQLiteLimits(Store):
    """What the store of SQLite does for limits."""

    most_keys = 1_000
    reads_alone = True

    @abstractmethod
    def _parts(self, query: ClaimQuery) -> list[Part]:
        """Return the selections of due jobs, the most urgent first."""

    @abstractmethod
    def _first(self, parts: list[Part], columns: str, limit: int) -> list[Any]:
        """Return columns of the first due jobs, without a lock."""

    @abstractmethod
    def _claim_part(
        self,
        query: ClaimQuery,
        due: str,
        given: Sequence[Any],
        *,
        slot: str = "",
        which: str = "",
    ) -> list[Any]:
        """Mark the rows of a selection; ``slot`` sets more columns, ``which`` restricts it."""

    @abstractmethod
    def _leased(self, rows: list[Any], query: ClaimQuery) -> list[Claim]:
        """Write the lease of rows that were just marked; return the claims."""

    @abstractmethod
    def _run(self, sql: str, given: Sequence[Any]) -> list[Any]:
        """Return the rows of a statement."""

    def _look(self, query: ClaimQuery, most: int, lock: LockKeys) -> Look:
        rows = self._first(self._parts(query), self.waiting_columns, most)
        return self._look_at(rows, most, lock)

    def _take(self, query: ClaimQuery, slots: Mapping[UUID, Slot]) -> list[Claim]:
        rows: list[Any] = []
        for some in in_parts(list(slots.items()), TAKEN_TOGETHER):
            ids = json.dumps([one.hex for one, _slot in some])
            given = json.dumps({one.hex: slot.number for one, slot in some})
            blocked = json.dumps({one.hex: HOLDS for one, slot in some if slot.holds})
            rows += self._claim_part(query, GIVEN_IDS, [given, blocked, ids], slot=GIVEN_SLOT)
        return with_keys(self._leased(rows, query), slots)

    @contextmanager
    def _with_keys(self) -> Iterator[LockKeys]:
        with self._write():
            yield set  # there is one writer at a time

    def _nobody_parks(self) -> bool:
        return True  # what the last writer has parked is to be seen

    def _unlocked(self, keys: Sequence[str]) -> list[str]:
        return list(keys)

    def _with_parked(self, keys: Sequence[str]) -> list[str]:
        return [row[0] for row in self._run(WITH_PARKED, [json.dumps(list(keys))])]

    def _free_rows(self, jobs: Mapping[UUID, str], *, parked: bool = False) -> list[UUID]:
        return list(jobs)  # nobody can have changed them since they were read

    def _update_slots(self, rows: Sequence[tuple[int, UUID, int]]) -> None:
        given = [(row_id, job_id.hex, token) for row_id, job_id, token in rows]
        self._run(UPDATE_SLOTS, [json.dumps(given)])

    def _rows(self, sql: str, given: Sequence[Any]) -> list[Any]:
        return self._run(sql, given)
