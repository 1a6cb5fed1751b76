"""Limits on MySQL and MariaDB: keys are locked by named locks, around the transaction."""

import hashlib
import json
import threading
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import compress
from types import MappingProxyType
from typing import Any
from uuid import UUID

from django.db import Error

from aftercommit.store.claim import marks
from aftercommit.store.limits import claims
from aftercommit.store.limits.claims import LockKeys, with_keys
from aftercommit.store.limits.lines import Slot
from aftercommit.store.limits.rounds import Look
from aftercommit.store.mysql.notes import MySQLNotes
from aftercommit.store.mysql.sql import (
    GIVEN_SLOT,
    HAS_PARKED,
    KEY_IS_FREE,
    LOCKED_IDS,
    PARKED_KEYS,
    PATIENCE,
    RATE_LINES,
    RELEASE_KEY,
    SET_PATIENCE,
    TRY_KEY,
    UPDATE_SLOTS,
    WITHOUT_LOCK,
)
from aftercommit.values import Claim, ClaimQuery

AS_IT_IS: Mapping[str, str] = MappingProxyType({})


class MySQLLimits(MySQLNotes):
    """What the store of MySQL and MariaDB does for limits."""

    slots_index = "FORCE INDEX (aftercommit_job_slot)"
    lines_index = "FORCE INDEX (aftercommit_job_limited)"
    parked_keys_sql = PARKED_KEYS
    rate_lines_sql = RATE_LINES
    lines_of_rates_index = "FORCE INDEX (aftercommit_job_line)"

    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        self._locking = threading.local()  # .lock: of the calling thread, while it holds keys

    @abstractmethod
    def _due_in(
        self,
        groups: Sequence[tuple[str, int]],
        query: ClaimQuery,
        changes: Mapping[str, str] = AS_IT_IS,
    ) -> list[Any]:
        """Return the due jobs of these groups; ``changes`` to the text of the statement."""

    @abstractmethod
    def _named(self, query: ClaimQuery, changes: Mapping[str, str] = AS_IT_IS) -> list[Any]:
        """Return the due ones of the named jobs."""

    @abstractmethod
    def _claim_ids(
        self, query: ClaimQuery, ids: Sequence[str], *, slot: str = "", slots: Sequence[Any] = ()
    ) -> list[Claim]:
        """Claim locked rows."""

    @abstractmethod
    def _uuid(self, value: UUID) -> str:
        """Return an id as the database has it."""

    @abstractmethod
    def _run(self, sql: str, given: Sequence[Any]) -> list[Any]:
        """Return the rows of a statement."""

    def _look(self, query: ClaimQuery, most: int, lock: LockKeys) -> Look:
        groups = [] if query.only is not None else self._groups(query)
        query = replace(query, limit=most)
        what = {LOCKED_IDS: f"SELECT {self.waiting_columns}", WITHOUT_LOCK: ""}
        rows = self._named(query, what) if query.only else self._due_in(groups, query, what)
        return self._look_at(rows, most, lock)

    def _take(self, query: ClaimQuery, slots: Mapping[UUID, Slot]) -> list[Claim]:
        free = self._free_rows({one: slot.key for one, slot in slots.items()})
        if not free:
            return []
        ids = list(map(self._uuid, free))
        held = [self._uuid(one) for one in free if slots[one].holds]
        slot = GIVEN_SLOT.format(
            slots=" ".join(["WHEN %s THEN %s"] * len(ids)), holders=marks(held) or "NULL"
        )
        numbers = [slots[one].number for one in free]
        given = [value for pair in zip(ids, numbers, strict=True) for value in pair]
        claims = self._claim_ids(query, ids, slot=slot, slots=[*given, *held])
        return with_keys(claims, slots)

    def _unlocked(self, keys: Sequence[str]) -> list[str]:
        asked = ", ".join([KEY_IS_FREE] * len(keys))
        (free,) = self._run(f"SELECT {asked}", list(map(self._name_of, keys)))
        return list(compress(keys, free))

    def _with_parked(self, keys: Sequence[str]) -> list[str]:
        asked = ", ".join([HAS_PARKED] * len(keys))
        (found,) = self._run(f"SELECT {asked}", keys)
        return list(compress(keys, found))

    @contextmanager
    def _with_keys(self) -> Iterator[LockKeys]:
        outer: LockKeys | None = getattr(self._locking, "lock", None)
        if outer is None:
            with self._releasing_keys() as lock:
                yield lock
        else:  # within such a transaction: its keys are released at the end of that one
            with self._write():
                yield outer

    @contextmanager
    def _releasing_keys(self) -> Iterator[LockKeys]:
        names: list[str] = []
        patience: list[int] = []

        def lock(keys: Collection[str]) -> set[str]:
            named = {self._name_of(key): key for key in keys}
            tried = ", ".join([TRY_KEY] * len(named))
            ((before, *got),) = self._run(f"SELECT {PATIENCE}, {tried}", list(named))
            patience.append(before)
            self._run(SET_PATIENCE, [claims.STANDING_STILL])
            locked = list(compress(named, got))
            names.extend(locked)
            return {named[name] for name in locked}

        self._locking.lock = lock
        try:
            with self._write():
                yield lock
        finally:  # after the COMMIT, or whoever locks next would not see it
            self._locking.lock = None
            if names:
                with suppress(Error):  # the connection is lost, and its locks with it
                    self._run(f"DO {', '.join([RELEASE_KEY] * len(names))}", names)
            if patience:
                with suppress(Error):
                    self._run(SET_PATIENCE, [patience[0]])

    def _name_of(self, key: str) -> str:
        """Return the name of a key's lock: one on the whole server, at most 64 letters."""
        text = f"{self.connection.settings_dict['NAME']}:{key}"
        return f"aftercommit:{hashlib.sha256(text.encode()).hexdigest()[:48]}"

    def _update_slots(self, rows: Sequence[tuple[int, UUID, int]]) -> None:
        given = [(row_id, self._uuid(job_id), token) for row_id, job_id, token in rows]
        self._run(UPDATE_SLOTS, [json.dumps(given)])

    def _rows(self, sql: str, given: Sequence[Any]) -> list[Any]:
        return self._run(sql, given)
