"""What every part of a store stands on: the jobs' table in one database alias."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from uuid import UUID

from django.db import Error, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import QuerySet

from aftercommit.models import Job, State
from aftercommit.values import Ended


class Table:
    """The rows, the fence, and how they are locked. The connection is the calling thread's."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def answers(self) -> bool:
        """Tell whether the calling thread's connection can be used, or made."""
        try:
            self.connection.ensure_connection()
        except Error:
            return False
        return bool(self.connection.is_usable())

    @property
    def connection(self) -> BaseDatabaseWrapper:
        """The calling thread's connection to this alias."""
        return connections[self.alias]

    @property
    def _jobs(self) -> QuerySet[Job]:
        return Job.objects.using(self.alias)

    def _running(self) -> QuerySet[Job]:
        # lease_until as well, so that the small index of running jobs is used.
        return self._jobs.filter(state=State.RUNNING, lease_until__isnull=False)

    def _mine(self, job_id: UUID, token: int) -> QuerySet[Job]:
        """Fence a run: every write about a claimed one goes through here."""
        return self._jobs.filter(id=job_id, token=token, state=State.RUNNING)

    def _locked(self, rows: QuerySet[Job], *, skip: bool = False) -> QuerySet[Job]:
        # NO KEY where there is such a thing: a row that some open transaction
        # references by a foreign key would be invisible to plain FOR UPDATE.
        no_key = self.connection.features.has_select_for_no_key_update
        return rows.select_for_update(skip_locked=skip, no_key=no_key)

    def _in_transaction(self) -> bool:
        """Tell whether the caller has a transaction of its own, to which a write belongs."""
        return self.connection.in_atomic_block or not self.connection.get_autocommit()

    def _write(self) -> AbstractContextManager[None]:
        """Open one short transaction of our own, or join the one that is open.

        Our own are READ COMMITTED, whatever the user's sessions are: see each store.
        """
        return transaction.atomic(using=self.alias)

    def _ended(self, ended: list[Ended], *, due: Iterable[str] = ()) -> list[Ended]:
        """Let everything that ends a run or a job pass here, and return it.

        Called by each such write, in its transaction if it has opened one. ``due``: queues
        in which a job is due again at once; sleeping workers are told. What has to happen
        together with the end of a job is added here, and nowhere else.
        """
        self._wake(due)
        return ended

    def _wake(self, queues: Iterable[str]) -> None:
        """Tell sleeping workers that these queues hold due jobs, where that is possible."""
