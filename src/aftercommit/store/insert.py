"""T0: a job comes into being in the transaction of whoever enqueues it."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from django.db import InterfaceError, OperationalError

from aftercommit.errors import EnqueueFailed
from aftercommit.store.table import Table
from aftercommit.values import NewJob, NewJobs

TRIES_AT_UNIQUE_KEY = 3
Answer = TypeVar("Answer")


class Enqueue(Table, ABC):
    """The way in."""

    inserts_in_one_statement = True

    def insert(self, jobs: Sequence[NewJob]) -> list[UUID]:
        """Enqueue jobs in the caller's transaction; return their ids in order.

        Inside a transaction they exist when it commits and never if it rolls back.
        Outside one, they are a transaction of their own; if the connection breaks
        there, the same ids are inserted once more on a new one, which cannot double
        them.

        A job whose ``unique_key`` a ready or running job holds is not inserted: the id
        returned in its place is the holder's. A holder that is ready starts after the
        caller's commit, as the job itself would have. This waits for other transactions
        that are about to take the same key.

        Raises ``EnqueueFailed`` if holders came and went, and ``OperationalError`` if the
        database is away. With a key it may also refuse the caller's whole transaction:
        PostgreSQL under REPEATABLE READ with a serialization failure, MySQL with a
        deadlock if the first of three who want the key rolls back.
        """
        if not jobs:
            return []
        return self._once_more_if_broken(partial(self._insert, jobs))

    def insert_alike(self, jobs: NewJobs) -> None:
        """Do as ``insert`` does with many jobs that differ only in ids and arguments.

        All or none. Faster than ``insert`` where the database can be told once what
        they share.
        """
        self._once_more_if_broken(partial(self._insert_alike, jobs))

    def _once_more_if_broken(self, write: Callable[..., Answer]) -> Answer:
        """Call ``write(repeated=False)``; in autocommit again if nobody knows how it ended."""
        if self._in_transaction():
            return write(repeated=False)
        raw = self.connection.connection
        try:
            return write(repeated=False)
        except (OperationalError, InterfaceError) as error:
            if not self._broke(raw, error):
                raise
            self.connection.close()
            return write(repeated=True)

    def _insert(self, jobs: Sequence[NewJob], *, repeated: bool) -> list[UUID]:
        free = [job for job in jobs if job.unique_key is None]
        keyed = [(lock, job) for job in jobs if (lock := unique_lock(job.unique_key))]
        one_statement = not keyed and (self.inserts_in_one_statement or len(free) == 1)
        with nullcontext() if one_statement else self._write():
            if free:
                self._insert_rows(free, or_skip=repeated)
            # Two callers with the same keys take them in the same order.
            in_order = sorted(keyed, key=lambda one: one[0])
            holders = {job.id: self._insert_unique(job, lock) for lock, job in in_order}
        return [holders.get(job.id, job.id) for job in jobs]

    def _insert_alike(self, jobs: NewJobs, *, repeated: bool) -> None:
        self._insert(jobs.each(), repeated=repeated)

    @abstractmethod
    def _insert_rows(self, jobs: Sequence[NewJob], *, or_skip: bool) -> None:
        """Insert jobs; ``or_skip`` those whose id is there or whose key is held."""

    def _insert_unique(self, job: NewJob, lock: str) -> UUID:
        for _try in range(TRIES_AT_UNIQUE_KEY):
            self._insert_rows([job], or_skip=True)
            holder = self._holder(lock)
            if holder is not None:
                return holder
        raise EnqueueFailed(unique_key=str(job.unique_key))

    def _holder(self, lock: str) -> UUID | None:
        """Return the job that holds a unique key now; a ready one cannot start before we commit.

        A running one is not locked: its worker could neither renew nor finish it.
        """
        return self._jobs.filter(unique_lock=lock).values_list("id", flat=True).first()

    @abstractmethod
    def _broke(self, raw: Any, error: Exception) -> bool:
        """Tell whether the driver's connection ``raw`` is gone, so that nobody knows.

        Django may have opened a new one by now, to leave its block in order.
        """


def unique_lock(key: str | None) -> str | None:
    """Return what stands in ``unique_lock`` for a key: its SHA-256, in hexadecimal."""
    return None if key is None else hashlib.sha256(key.encode()).hexdigest()
