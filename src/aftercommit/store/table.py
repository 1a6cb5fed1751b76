"""The base of every part of a store: the table of jobs in one database alias."""

import json
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager, suppress
from datetime import datetime
from typing import Protocol, TypeVar
from uuid import UUID

from django.db import Error, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import QuerySet

from aftercommit.models import Job, Lease, State
from aftercommit.store.columns import moment_from
from aftercommit.transient_errors import is_deadlock
from aftercommit.values import Ended

Row = TypeVar("Row", Job, Lease)
Answer = TypeVar("Answer")
TRIES_AFTER_DEADLOCK = 3


class OfTask(Protocol):
    """A row of a job, with what its statistics are kept by."""

    backend: str
    task_path: str
    queue: str


class Table:
    """The rows, the fence and the row locks. The connection is the calling thread's."""

    now_sql: str

    def __init__(self, alias: str) -> None:
        self.alias = alias
        # Is called after a commit by which jobs are due that have waited for others; a worker
        # sets it.
        self.freed: Callable[[], None] = lambda: None

    def answers(self) -> bool:
        """Return whether the calling thread's connection works, or a new one can be made."""
        try:
            self.connection.ensure_connection()
        except Error:
            return False
        return bool(self.connection.is_usable())

    def answers_anew(self) -> bool:
        """Return whether a new connection works; that of the calling thread is closed first."""
        with suppress(Error):  # it is dropped either way
            self.connection.close()
        return self.answers()

    @property
    def connection(self) -> BaseDatabaseWrapper:
        """The calling thread's connection to this alias."""
        return connections[self.alias]

    def _clock(self) -> datetime:
        """Return the present moment by the database's clock."""
        with self.connection.cursor() as cursor:
            cursor.execute(self.now_sql, [])
            return moment_from(cursor.fetchone()[0])

    @property
    def _jobs(self) -> QuerySet[Job]:
        return Job.objects.using(self.alias)

    @property
    def _leases(self) -> QuerySet[Lease]:
        return Lease.objects.using(self.alias)

    def _claimable(self) -> QuerySet[Job]:
        # The state as well: a program of version 0.1 may not have written the flag yet.
        return self._jobs.filter(claimable=True, state=State.READY)

    def _mine(self, job_id: UUID, token: int) -> QuerySet[Job]:
        """Fence a run: every write to a claimed job has this condition."""
        return self._jobs.filter(id=job_id, token=token, state=State.RUNNING)

    def _locked(self, rows: QuerySet[Row], *, skip: bool = False) -> QuerySet[Row]:
        # NO KEY where the database has it: plain FOR UPDATE would skip, or wait for, a row
        # that an open transaction references by a foreign key.
        no_key = self.connection.features.has_select_for_no_key_update
        return rows.select_for_update(skip_locked=skip, no_key=no_key)

    def _locked_to_delete(self, rows: QuerySet[Row]) -> QuerySet[Row]:
        """Lock rows that are about to be deleted, but for those that others have locked.

        Plain FOR UPDATE also leaves out a row that an open transaction references, or keeps for
        a job that is going to wait for it: the DELETE would wait for its commit.
        """
        return rows.select_for_update(skip_locked=True)

    def _kept(self, job_ids: Collection[UUID]) -> set[UUID]:
        """Return those of these rows, locked by the caller, that others keep until their commit.

        Such a row can be neither deleted nor failed before that; none of them is unsuccessful
        yet. Never waits. Here whoever keeps a row has locked it, or leaves it free to be failed.
        """
        return set()

    def _in_transaction(self) -> bool:
        """Return whether the caller has an open transaction, of which a write becomes a part."""
        return self.connection.in_atomic_block or not self.connection.get_autocommit()

    def _write(self) -> AbstractContextManager[None]:
        """Open a short transaction, or join the caller's transaction if one is open.

        A transaction that is opened here is READ COMMITTED, whatever the isolation level of
        the session is: see each store.
        """
        return transaction.atomic(using=self.alias)

    def writing(self) -> AbstractContextManager[None]:
        """Open such a transaction, in which a caller writes to other tables as well."""
        return self._write()

    def _after_deadlock(self, write: Callable[[], Answer]) -> Answer:
        """Call ``write``; call it again after a deadlock, unless the caller has a transaction."""
        for _try in range(0 if self._in_transaction() else TRIES_AFTER_DEADLOCK):
            try:
                return write()
            except Error as error:
                if not is_deadlock(error):
                    raise
        return write()

    def _ended(
        self, ended: list[Ended], *, due: Iterable[str] = (), needed: Collection[UUID] = ()
    ) -> list[Ended]:
        """Do what belongs to each end of a run or a job; return ``ended``.

        Every write that ends runs or jobs calls this, in its transaction if it has opened
        one. ``due``: queues in which a job is due again at once; sleeping workers are
        notified. ``needed``: those of the jobs whose rows say so; only for them a transaction
        must be open. What must happen together with the end of a job is added here only.
        """
        if needed:
            over = {job_id for job_id, state in ended if state != State.READY}
            self._pass_on(over.intersection(needed))
        self._wake(due)
        return ended

    def _pass_on(self, needed: Collection[UUID]) -> None:
        """Free the jobs that wait for these, which have ended, or end them as well."""

    def _count(self, ends: Iterable[tuple[OfTask, str]]) -> None:
        """Count ends of jobs by their outcomes that no worker counts: there was no run.

        In the transaction that writes the ends.
        """

    def _wake(self, queues: Iterable[str]) -> None:
        """Notify sleeping workers of due jobs in these queues, where the database can."""


def held_jobs(lease: Lease) -> dict[UUID, int]:
    """Return the jobs of a lease and the tokens under which it holds them.

    Empty if somebody else has written what cannot be read: a claim writes at least one.
    """
    with suppress(AttributeError, TypeError, ValueError, RecursionError):
        given = json.loads(lease.jobs).items()
        return {UUID(one): token for one, token in given if isinstance(token, int)}
    return {}
