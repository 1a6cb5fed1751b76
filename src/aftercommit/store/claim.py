"""T1, T2: a worker claims a job, and keeps it."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from datetime import timedelta
from uuid import UUID

from aftercommit.models import State
from aftercommit.store.clock import in_future
from aftercommit.store.table import Table
from aftercommit.values import Claim, ClaimQuery


class Claims(Table, ABC):
    """How a worker gets jobs."""

    @abstractmethod
    def claim(self, query: ClaimQuery) -> list[Claim]:
        """Take up to ``limit`` due jobs for ``worker_id`` and start their lease.

        A job is due when it is ready and its ``run_after`` is not in the future by the
        *database's* clock. The most urgent are taken: highest priority, then earliest
        ``run_after``, then lowest id; the list itself has no order. Fewer than
        ``limit`` means that nothing else was due and unlocked at this moment, not that
        the queue is empty.

        ``backends``, ``only`` and ``crashed`` bound the choice. Jobs of ``unknown`` tasks are
        left for a worker that knows them. ``after`` is a hint: a store that can begin there
        does; the others look at all.

        Once the lease is over, ``rescue()`` gives the job to another worker. Each claim
        counts as one attempt, even if the worker dies before the task's first line.

        Call it outside a transaction. Raises ``django.db.OperationalError`` when the
        database is away. A lost answer costs one lease and nothing else, so the caller
        may simply try again.
        """

    def renew(self, claims: Iterable[tuple[UUID, int]], *, lease: timedelta) -> dict[UUID, bool]:
        """Extend the leases of claims, given as ``(job_id, token)``.

        Returns the jobs that are still ours, each with whether someone asked for its
        cancellation. A job that does not come back is lost: its run should stop.

        Never waits for a lock. A row that someone else holds at this moment (a view that
        asks for its cancellation and has not committed yet) comes back as ours but keeps
        its old lease, which costs nothing if it is extended the next time; waiting would
        cost the leases of all others.
        """
        wanted = dict(claims)
        if not wanted:
            return {}
        with self._write():
            ours = self._jobs.filter(state=State.RUNNING, id__in=wanted).order_by("id")
            for job_id in self._locked(ours, skip=True).values_list("id", flat=True):
                self._mine(job_id, wanted[job_id]).update(lease_until=in_future(lease))
            rows = ours.values_list("id", "token", "cancel_requested")
            return {
                job_id: cancel_requested
                for job_id, token, cancel_requested in rows
                if token == wanted[job_id]
            }


def chosen(query: ClaimQuery, *, path: str) -> str:
    """Return the conditions of a query for a statement with ``%s`` in place of values.

    The values are, in this order, those of ``backends``, ``unknown`` and ``only``. ``path``
    is how the statement compares ``task_path`` letter by letter.
    """
    conditions = []
    if query.backends:
        conditions.append(f"backend IN ({marks(query.backends)})")
    if query.unknown:
        conditions.append(f"{path} NOT IN ({marks(query.unknown)})")
    if query.only is not None:
        conditions.append(f"id IN ({marks(query.only)})")
    if query.crashed is not None:
        conditions.append("crashes > 0" if query.crashed else "crashes = 0")
    return "".join(f" AND {one}" for one in conditions)


def marks(values: Sequence[object]) -> str:
    """Return a placeholder for each value."""
    return ", ".join(["%s"] * len(values))
