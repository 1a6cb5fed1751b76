"""T1, T2: a worker claims jobs and renews their leases."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from datetime import timedelta
from uuid import UUID

from aftercommit.models import State
from aftercommit.store.clock import in_future
from aftercommit.store.table import Table
from aftercommit.values import Claim, ClaimQuery


class Claims(Table, ABC):
    """Claims jobs and renews leases."""

    @abstractmethod
    def claim(self, query: ClaimQuery) -> list[Claim]:
        """Claim up to ``limit`` due jobs for ``worker_id`` and start their leases.

        A job is due when it is ready and its ``run_after`` is not in the future by the
        *database's* clock. The most urgent jobs are claimed: highest priority, then earliest
        ``run_after``, then lowest id; the returned list has no order. Fewer than ``limit``
        claims mean that no other job was due and unlocked at this moment, not that the
        queue is empty.

        ``backends``, ``only`` and ``crashed`` restrict the choice. Jobs of ``unknown`` tasks
        are left for a worker that has these tasks. ``after`` is a hint: PostgreSQL begins
        there, the other databases begin at the front of the queue.

        When a lease ends without a renewal, ``rescue()`` makes the job ready for another
        worker. Each claim counts as one attempt, even if the worker dies before the task's
        first line.

        Call it outside a transaction. Raises ``django.db.OperationalError`` if the database
        does not answer. The caller may call again. If only the answer was lost, the claimed
        jobs wait until their leases end and are rescued, which counts a crash for each.
        """

    def renew(self, claims: Iterable[tuple[UUID, int]], *, lease: timedelta) -> dict[UUID, bool]:
        """Extend the leases of claims, given as ``(job_id, token)``.

        Returns the jobs whose claims are valid, each with whether its cancellation was
        requested. If a job is not in the answer, its claim is lost and its run should stop.

        Never waits for a lock. A job whose row is locked by another transaction (a view that
        has requested its cancellation and has not committed yet) is returned, but keeps its
        old lease until the next renewal. Waiting could cost the leases of all other jobs.
        """
        wanted = dict(claims)
        if not wanted:
            return {}
        with self._write():
            running = self._jobs.filter(state=State.RUNNING, id__in=wanted).order_by("id")
            for job_id in self._locked(running, skip=True).values_list("id", flat=True):
                self._mine(job_id, wanted[job_id]).update(lease_until=in_future(lease))
            rows = running.values_list("id", "token", "cancel_requested")
            return {
                job_id: cancel_requested
                for job_id, token, cancel_requested in rows
                if token == wanted[job_id]
            }


def chosen(query: ClaimQuery, *, path: str) -> str:
    """Return the conditions of a query as SQL with ``%s`` placeholders.

    Their values are, in this order, those of ``backends``, ``unknown`` and ``only``. ``path``
    is the SQL expression for a ``task_path`` that is compared with regard to case.
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
