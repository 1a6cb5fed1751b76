"""T0: a job is inserted in the transaction of the code that enqueues it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from datetime import datetime
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from django.db import InterfaceError, OperationalError

from aftercommit.store.columns import moment_from
from aftercommit.store.unique import Placed, UniqueKeys
from aftercommit.values import NewJob, NewJobs, OnConflict, Together

IS_FINE = OnConflict()
MOST_TOGETHER = 10_000  # jobs of a statement
LARGEST_TOGETHER = 16 * 1024 * 1024  # bytes of their arguments
Answer = TypeVar("Answer")


class Inserting(UniqueKeys, ABC):
    """Inserts jobs."""

    inserts_in_one_statement = True

    def insert(self, jobs: Sequence[NewJob]) -> list[UUID]:
        """Enqueue jobs in the caller's transaction; return their ids in order.

        Inside a transaction the jobs exist once it commits, and never if it rolls back.
        Outside a transaction they are inserted in one of their own. If the connection breaks
        there, the same ids are inserted once more on a new connection: no job is doubled. That
        is not done for jobs whose rows go with their success: they may have run by then.

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
        return self._once_more_if_broken(partial(self._insert, jobs), jobs)

    def insert_one(self, job: NewJob) -> datetime | None:
        """Insert a job without a unique key, see ``insert``; return the row's ``enqueued_at``.

        None where the statement does not return it: on MySQL, and if the row was there already
        because the connection had broken after the insert.
        """
        rows = self._once_more_if_broken(partial(self._insert_one, job), [job])
        return moment_from(rows[0][0]) if rows else None

    def _insert_one(self, job: NewJob, *, repeated: bool) -> list[Any]:
        return self._insert_rows([job], or_skip=repeated)

    def insert_alike(self, jobs: NewJobs) -> None:
        """Insert many jobs, all or none, that differ only in ids and arguments; see ``insert``.

        On PostgreSQL faster than ``insert``, because the values that the jobs share are sent
        once.
        """
        self._once_more_if_broken(partial(self._insert_alike, jobs), [jobs.like])

    def insert_together(self, given: Sequence[Together]) -> None:
        """Insert jobs without unique keys, all or none, in their order; see ``insert``.

        One statement for all, where ``insert_alike`` needs one; one for each ``MOST_TOGETHER``
        jobs or ``LARGEST_TOGETHER`` bytes of arguments.
        """
        if len(given) == 1 and isinstance(given[0], NewJobs):
            self.insert_alike(given[0])
            return
        jobs = [job for one in given for job in _each(one)]
        parts = list(_parts(jobs))
        if len(parts) == 1:
            self.insert(jobs)
        elif parts:
            self._once_more_if_broken(partial(self._insert_parts, parts), jobs)

    def insert_unique(self, jobs: Sequence[NewJob], rule: OnConflict) -> list[Placed]:
        """Enqueue jobs with unique keys in the caller's transaction, all or none.

        As ``insert`` does, but ``rule`` says what is done about a holder of a key, and the
        answer has the holder's row. A holder that has not started is locked for the caller alone
        if the rule changes it: others that enqueue with the key wait for the caller's end.

        Raises as ``insert`` does, and ``JobExists`` if the rule says so.
        """
        return self._once_more_if_broken(partial(self._insert_unique, jobs, rule), jobs)

    def _once_more_if_broken(
        self, write: Callable[..., Answer], jobs: Sequence[NewJob]
    ) -> Answer:
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
            if any(job.goes_with_success for job in jobs):
                raise  # without its row, one that has run would be inserted and run again
            return write(repeated=True)

    def _insert(self, jobs: Sequence[NewJob], *, repeated: bool) -> list[UUID]:
        if len(jobs) == 1 and jobs[0].unique_key is None:  # as most are
            self._insert_rows(jobs, or_skip=repeated)
            return [jobs[0].id]
        free = [job for job in jobs if job.unique_key is None]
        keyed = [job for job in jobs if job.unique_key is not None]
        if keyed:
            return self._after_deadlock(partial(self._insert_both, jobs, free, keyed, repeated))
        one_statement = self.inserts_in_one_statement or len(free) == 1
        with nullcontext() if one_statement else self._write():
            self._insert_rows(free, or_skip=repeated)
        return [job.id for job in jobs]

    def _insert_parts(self, parts: Sequence[Sequence[NewJob]], *, repeated: bool) -> None:
        with self._write():
            for part in parts:
                self._insert_rows(part, or_skip=repeated)

    def _insert_both(
        self, jobs: Sequence[NewJob], free: list[NewJob], keyed: list[NewJob], repeated: bool
    ) -> list[UUID]:
        with self._write():
            if free:
                self._insert_rows(free, or_skip=repeated)
            placed = zip(keyed, self._place(keyed, IS_FINE), strict=True)
            ids = {job.id: one.job_id for job, one in placed}
        return [ids.get(job.id, job.id) for job in jobs]

    def _insert_unique(
        self, jobs: Sequence[NewJob], rule: OnConflict, *, repeated: bool
    ) -> list[Placed]:
        def write() -> list[Placed]:
            with self._write():
                return self._place(jobs, rule)

        # InnoDB reports a deadlock to a transaction that waits for a unique key beside another
        # one when the transaction that had inserted the key rolls back.
        return self._after_deadlock(write)

    def _insert_alike(self, jobs: NewJobs, *, repeated: bool) -> None:
        self._insert(jobs.each(), repeated=repeated)

    @abstractmethod
    def _broke(self, raw: Any, error: Exception) -> bool:
        """Return whether the driver's connection ``raw`` is lost: the write may be committed.

        ``raw`` and not the present connection, because Django may have opened a new one to
        leave its atomic block.
        """


def _each(jobs: Together) -> Sequence[NewJob]:
    return jobs.each() if isinstance(jobs, NewJobs) else jobs


def _parts(jobs: Sequence[NewJob]) -> Iterator[list[NewJob]]:
    part: list[NewJob] = []
    size = 0
    for job in jobs:
        if part and (len(part) == MOST_TOGETHER or size + len(job.payload) > LARGEST_TOGETHER):
            yield part
            part, size = [], 0
        part.append(job)
        size += len(job.payload)
    if part:
        yield part
