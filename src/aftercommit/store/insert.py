"""T0: a job is inserted in the transaction of the code that enqueues it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import datetime
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from django.db import InterfaceError, OperationalError

from aftercommit.errors import EnqueueFailed
from aftercommit.store.columns import moment_from, unique_lock
from aftercommit.store.table import Table
from aftercommit.values import NewJob, NewJobs

TRIES_AT_UNIQUE_KEY = 3
Answer = TypeVar("Answer")


class Inserting(Table, ABC):
    """Inserts jobs."""

    inserts_in_one_statement = True

    def insert(self, jobs: Sequence[NewJob]) -> list[UUID]:
        """Enqueue jobs in the caller's transaction; return their ids in order.

        Inside a transaction the jobs exist once it commits, and never if it rolls back.
        Outside a transaction they are inserted in one of their own. If the connection breaks
        there, the same ids are inserted once more on a new connection: no job is doubled.

        A job whose ``unique_key`` belongs to a ready or running job is not inserted: the id
        of that job, the holder of the key, is returned instead. A ready holder does not start
        before the caller commits, as the new job would not have. The insert of a key waits
        for other transactions that have inserted the same key and have not ended.

        Raises ``EnqueueFailed`` if each of three holders ended before it could be read, and
        ``OperationalError`` if the database does not answer. With a key the database may also
        refuse the caller's whole transaction: PostgreSQL under REPEATABLE READ with a
        serialization failure, MySQL with a deadlock if three transactions insert the same
        key and the first of them rolls back.
        """
        if not jobs:
            return []
        return self._once_more_if_broken(partial(self._insert, jobs))

    def insert_one(self, job: NewJob) -> datetime | None:
        """Insert a job without a unique key, see ``insert``; return the row's ``enqueued_at``.

        None where the statement does not return it: on MySQL, and if the row was there already
        because the connection had broken after the insert.
        """
        rows = self._once_more_if_broken(partial(self._insert_one, job))
        return moment_from(rows[0][0]) if rows else None

    def _insert_one(self, job: NewJob, *, repeated: bool) -> list[Any]:
        return self._insert_rows([job], or_skip=repeated)

    def insert_alike(self, jobs: NewJobs) -> None:
        """Insert many jobs, all or none, that differ only in ids and arguments; see ``insert``.

        On PostgreSQL faster than ``insert``, because the values that the jobs share are sent
        once.
        """
        self._once_more_if_broken(partial(self._insert_alike, jobs))

    def _once_more_if_broken(self, write: Callable[..., Answer]) -> Answer:
        """Call ``write``; in autocommit call it again if the connection broke meanwhile."""
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
        if len(jobs) == 1 and jobs[0].unique_key is None:  # as most are
            self._insert_rows(jobs, or_skip=repeated)
            return [jobs[0].id]
        free = [job for job in jobs if job.unique_key is None]
        keyed = [(lock, job) for job in jobs if (lock := unique_lock(job.unique_key))]
        one_statement = not keyed and (self.inserts_in_one_statement or len(free) == 1)
        with nullcontext() if one_statement else self._write():
            if free:
                self._insert_rows(free, or_skip=repeated)
            # In the order of the keys: two callers with the same keys cannot deadlock.
            in_order = sorted(keyed, key=lambda one: one[0])
            holders = {job.id: self._insert_unique(job, lock) for lock, job in in_order}
        return [holders.get(job.id, job.id) for job in jobs]

    def _insert_alike(self, jobs: NewJobs, *, repeated: bool) -> None:
        self._insert(jobs.each(), repeated=repeated)

    @abstractmethod
    def _insert_rows(self, jobs: Sequence[NewJob], *, or_skip: bool) -> list[Any]:
        """Insert jobs; ``or_skip`` leaves out those whose id exists or whose key is held.

        Returns what the database returns of the rows; of a single job ``enqueued_at`` is first.
        """

    def _insert_unique(self, job: NewJob, lock: str) -> UUID:
        for _try in range(TRIES_AT_UNIQUE_KEY):
            self._insert_rows([job], or_skip=True)
            holder = self._holder(lock)
            if holder is not None:
                return holder
        raise EnqueueFailed(unique_key=str(job.unique_key))

    def _holder(self, lock: str) -> UUID | None:
        """Return the job that holds a unique key now; a ready one waits for the caller's commit.

        The row of a running job is not locked: its worker could not renew or finish the job.
        """
        return self._jobs.filter(unique_lock=lock).values_list("id", flat=True).first()

    @abstractmethod
    def _broke(self, raw: Any, error: Exception) -> bool:
        """Return whether the driver's connection ``raw`` is lost: the write may be committed.

        ``raw`` and not the present connection, because Django may have opened a new one to
        leave its atomic block.
        """
