"""T1, T2: a worker claims jobs and renews its leases."""

import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, timedelta
from uuid import UUID

from aftercommit.models import State
from aftercommit.store.clock import in_future
from aftercommit.store.groups import Groups
from aftercommit.values import Claim, ClaimQuery, Renewed

AS_STORED = "%Y-%m-%d %H:%M:%S.%f"  # a moment on SQLite and MySQL, in UTC
# But for those that a limit has let through, and those that run alone: see store.fair.
WITHOUT_FAIR = "(fair_key IS NULL OR blocked = 0 OR crashes > 0)"


class Claims(Groups, ABC):
    """Claims jobs and renews leases."""

    @abstractmethod
    def claim(self, query: ClaimQuery) -> list[Claim]:
        """Claim up to ``limit`` due jobs for ``worker_id``, all under one new lease.

        A job is due when it is claimable and its ``run_after`` is not in the future by the
        *database's* clock. The most urgent jobs are claimed: highest priority, then in the
        order of ``backends``, then earliest ``run_after``, then lowest id; the returned list
        has no order. Fewer than ``limit`` claims mean that no other job was due and unlocked
        at this moment, not that the queue is empty.

        ``groups`` spares the look for them, and says the order instead of priority and
        ``backends``; jobs of other groups are not claimed. ``backends`` (without ``groups``),
        ``only`` and ``crashed`` restrict the choice. With ``only`` the order of ``backends``
        does not count. Jobs of ``unknown`` tasks
        are left for a worker that has these tasks. ``after`` is a hint: PostgreSQL begins
        there, the other databases begin at the front of the queue. Jobs that are due later,
        and jobs of other backends, cost nothing, however many there are.

        When the lease ends without a renewal, ``rescue()`` makes the jobs ready for another
        worker. Each claim counts as one attempt, even if the worker dies before the task's
        first line. The leases ``ended`` are deleted, also if nothing is claimed.

        Call it outside a transaction. Raises ``django.db.OperationalError`` if the database
        does not answer. The caller may call again. If only the answer was lost, the claimed
        jobs wait until their lease ends and are rescued, which counts a crash for each.
        """

    def renew(self, claims: Iterable[Claim], *, lease: timedelta) -> Renewed:
        """Extend the leases of claims.

        Returns the jobs whose claims are valid, each with whether its cancellation was
        requested. If a job is not among them, its claim is lost and its run should stop.

        Never waits for a lock. A lease whose row is locked by another transaction, as a
        rescue does, is not extended until the next renewal; its jobs are ``held`` until that
        transaction commits. Waiting could cost the leases of all other jobs.
        """
        wanted = {claim.job_id: claim for claim in claims}
        if not wanted:
            return Renewed({}, frozenset())
        with self._write():
            leases = self._leases.filter(id__in={claim.lease_id for claim in wanted.values()})
            free = list(self._locked(leases, skip=True).values_list("id", flat=True))
            self._leases.filter(id__in=free).update(lease_until=in_future(lease))
            held = set(leases.values_list("id", flat=True))
            running = self._jobs.filter(state=State.RUNNING, id__in=wanted)
            rows = running.values_list("id", "token", "cancel_requested")
            valid = {
                job_id: cancel_requested
                for job_id, token, cancel_requested in rows
                if token == wanted[job_id].token and wanted[job_id].lease_id in held
            }
            return Renewed(valid, frozenset(free))

    def end_leases(self, lease_ids: Collection[UUID]) -> None:
        """Delete leases of which no job is running any more; locked ones stay.

        Only the worker that holds them may call this, and only if the database has answered
        for each of their jobs that it does not run under its token: a job that runs without
        a lease is never rescued.
        """
        if not lease_ids:
            return
        with self._write():
            rows = self._locked(self._leases.filter(id__in=lease_ids), skip=True)
            self._leases.filter(id__in=list(rows.values_list("id", flat=True))).delete()


def jobs_of_lease(claims: Iterable[tuple[str, int]]) -> str:
    """Return the value of the column ``jobs`` of a lease: job ids with their tokens."""
    return json.dumps(dict(claims), separators=(",", ":"))


def chosen(query: ClaimQuery) -> str:
    """Return the conditions of a query as SQL with ``%s`` placeholders.

    Their values are, in this order, those of ``backends`` (if ``only`` is given; else each
    backend is walked by itself), ``left_out(query)`` and ``only``.
    """
    conditions = []
    if query.only is not None and query.backends:
        conditions.append(f"backend IN ({marks(query.backends)})")
    if query.unknown:
        conditions.append(f"task_path NOT IN ({marks(query.unknown)})")
    if query.busy:
        conditions.append(f"(limit_key IS NULL OR limit_key NOT IN ({marks(query.busy)}))")
    if query.until is not None:
        conditions.append("run_after <= %s")
    if query.only is not None:
        conditions.append(f"id IN ({marks(query.only)})")
    if query.crashed is not None:
        conditions.append("crashes > 0" if query.crashed else "crashes = 0")
    if query.without_fair:
        conditions.append(WITHOUT_FAIR)
    return "".join(f" AND {one}" for one in conditions)


def left_out(query: ClaimQuery) -> list[str]:
    """Return the values of the conditions that leave jobs out."""
    until = [] if query.until is None else [f"{query.until.astimezone(UTC):{AS_STORED}}"]
    return [*query.unknown, *query.busy, *until]


def marks(values: Sequence[object]) -> str:
    """Return a placeholder for each value."""
    return ", ".join(["%s"] * len(values))
