"""T8 to T10: what users and their code do with jobs: cancel, retry, prune."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.db import IntegrityError
from django.db.models import Q, QuerySet
from django.utils import timezone

from aftercommit.ids import first_id_of
from aftercommit.models import FINISHED, UNSUCCESSFUL, Blocked, Job, State
from aftercommit.options.backoff import LONGEST_WAIT
from aftercommit.store.clock import DatabaseNow, ago
from aftercommit.store.columns import unique_lock
from aftercommit.store.deleted_members import DeletedMembers
from aftercommit.store.graphs.again import Again
from aftercommit.store.notes import Notes
from aftercommit.store.requests import Requests
from aftercommit.tallies import CANCELLED
from aftercommit.values import Ended

ONE_WRITE = 500  # rows that one statement names
ANY = Q()
TO_CANCEL = ("id", "state", "worker_id", "needed", "backend", "task_path", "queue")


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAnswer:
    """What ``cancel()`` did: jobs that ended at once, running jobs that were asked to end."""

    ended: Sequence[Ended]
    requested: frozenset[UUID]

    @property
    def cancelled(self) -> frozenset[UUID]:
        """The jobs that ended at once."""
        return frozenset(one.job_id for one in self.ended)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried:
    """What ``retry()`` did."""

    ready: frozenset[UUID]  # again; they may wait for others, which are live
    clashed: frozenset[UUID]  # left as they are: another job has their unique key
    unmet: frozenset[UUID]  # left as they are: a job that they need has not succeeded


class Operations(Requests, DeletedMembers, Notes, Again):
    """Changes jobs from outside their worker."""

    # ---- T8 cancel --------------------------------------------------------------

    def cancel(self, job_ids: Iterable[UUID], *, among: Q = ANY) -> CancelAnswer:
        """Cancel ready jobs at once; ask the workers of running jobs to stop.

        A job that has finished, or does not meet ``among``, stays as it is. In a transaction of
        the caller, the change is part of it, and until the transaction ends no other
        transaction can change the jobs.
        """
        wanted = sorted(set(job_ids))
        ended: list[Ended] = []
        requested: set[UUID] = set()
        for start in range(0, len(wanted), ONE_WRITE):
            some = wanted[start : start + ONE_WRITE]
            ended += self._after_deadlock(partial(self._cancel, some, among, requested))
        return CancelAnswer(ended=ended, requested=frozenset(requested))

    def _cancel(self, job_ids: list[UUID], among: Q, requested: set[UUID]) -> list[Ended]:
        with self._write():
            return self._cancel_locked(job_ids, among, requested)

    def _cancel_locked(self, job_ids: list[UUID], among: Q, requested: set[UUID]) -> list[Ended]:
        # Lock first: the two updates would miss a job that changes from ready to running and
        # back between them. In the order of ids, as in every statement that locks many jobs.
        rows = self._locked(self._jobs.filter(among, id__in=job_ids)).order_by("id")
        found = list(rows.values_list(*TO_CANCEL, named=True))
        ready = [row.id for row in found if row.state == State.READY]
        running = [row.id for row in found if row.state == State.RUNNING]
        self._jobs.filter(id__in=ready, state=State.READY).update(
            state=State.CANCELLED,
            claimable=False,
            unsuccessful=True,
            finished_at=DatabaseNow(),
            unique_lock=None,
            blocked=None,
            line=None,
            waits_for=0,
        )
        self._jobs.filter(id__in=running, state=State.RUNNING).update(cancel_requested=True)
        requested.update(running)
        if running:
            self._tell({row.worker_id for row in found if row.state == State.RUNNING})
        self._count((row, CANCELLED) for row in found if row.state == State.READY)
        ended = [Ended(job_id, State.CANCELLED) for job_id in ready]
        return self._ended(ended, needed=[row.id for row in found if row.needed])

    def cancel_members(self, group_id: UUID) -> CancelAnswer:
        """Cancel the jobs of a group that have not ended; see ``cancel``.

        Its last job only if it alone is left: else the ends of the others decide about it.
        """
        ended: list[Ended] = []
        requested: set[UUID] = set()
        after = None
        while live := self.live_members(group_id, after=after, limit=ONE_WRITE):
            answer = self.cancel(live)
            ended += answer.ended
            requested |= answer.requested
            after = live[-1]
        if not ended and not requested and (last := self.last_of(group_id)) is not None:
            return self.cancel([last])
        return CancelAnswer(ended=ended, requested=frozenset(requested))

    def cancel_equal(
        self, *, task_path: str, payload: str, begins: bool = False
    ) -> Sequence[Ended]:
        """Cancel jobs that have not begun with exactly these arguments; return what was written.

        ``begins``: whose arguments begin like that.
        """
        waits = Q(claimable=True) | Q(blocked=Blocked.JOBS)
        alike = self._jobs.filter(waits, state=State.READY, task_path=task_path)
        alike = alike.filter(**{"payload__startswith" if begins else "payload": payload})
        # Compare again: MySQL and SQLite also find texts that differ in case only.
        equal = [
            row.id
            for row in alike.only("id", "payload")
            if row.payload == payload or (begins and row.payload.startswith(payload))
        ]
        return self.cancel(equal).ended

    # ---- T9 retry ---------------------------------------------------------------

    def retry(self, job_ids: Iterable[UUID], *, among: Q = ANY) -> Retried:
        """Make failed and cancelled jobs ready again, with all their attempts.

        The token is not reset, so zombies of the earlier runs stay fenced. A job that does not
        meet ``among`` is left as it is. Two others are left and reported: one that has waited
        for a job that did not succeed, unless that one is retried before or by this call; and
        one whose unique key is held by another job now. The call waits for other transactions
        that have inserted the same key and have not ended.
        """
        wanted = sorted(set(job_ids))
        unmet = self._unmet(wanted, among=among)
        wanted = [one for one in wanted if one not in unmet]
        ready: set[UUID] = set()
        clashed: set[UUID] = set()
        waits: set[UUID] = set()
        for start in range(0, len(wanted), ONE_WRITE):
            some = wanted[start : start + ONE_WRITE]
            done, keyed = self._after_deadlock(partial(self._retry_some, some, among, waits))
            ready.update(done)
            # Each in a transaction of its own: one that held several keys could deadlock with
            # a caller that enqueues the same ones, whose transaction might be the victim.
            for job_id in keyed:
                try:
                    if self._after_deadlock(partial(self._retry_one, job_id, among, waits)):
                        ready.add(job_id)
                except IntegrityError:
                    clashed.add(job_id)
        # When all are ready: what a job needs may have been in a later batch, or have a key.
        again = [sorted(waits)[at : at + ONE_WRITE] for at in range(0, len(waits), ONE_WRITE)]
        for some in again:
            self._after_deadlock(partial(self._meet_again, some))
        for some in again:
            over = self._jobs.filter(id__in=some, state__in=UNSUCCESSFUL)
            ready.difference_update(over.values_list("id", flat=True))
        return Retried(ready=frozenset(ready), clashed=frozenset(clashed), unmet=frozenset(unmet))

    def _retry_some(
        self, job_ids: list[UUID], among: Q, waits: set[UUID]
    ) -> tuple[list[UUID], list[UUID]]:
        """Retry the jobs without a unique key; return their ids, and those with a key."""
        with self._write():
            bad = self._jobs.filter(among, id__in=job_ids, state__in=UNSUCCESSFUL)
            rows = self._locked(bad).order_by("id").only("id", "queue", "unique_key")
            queues = {row.id: row.queue for row in rows if row.unique_key is None}
            keyed = [row.id for row in rows if row.unique_key is not None]
            free = self._jobs.filter(id__in=list(queues), state__in=UNSUCCESSFUL)
            free.update(**_second_life(None))
            waits |= self._wait_again(list(queues))
            self._wake(set(queues.values()))
            return list(queues), keyed

    def _retry_one(self, job_id: UUID, among: Q, waits: set[UUID]) -> bool:
        with self._write():
            # The key never changes, and a sleeping worker of another queue may be woken.
            job = self._jobs.filter(id=job_id).only("queue", "unique_key").first()
            if job is None:
                return False
            ended = self._jobs.filter(among, id=job_id, state__in=UNSUCCESSFUL)
            retried = ended.update(**_second_life(job.unique_key))
            if retried:
                self._wake({job.queue})
                waits |= self._wait_again([job_id])
            return bool(retried)

    # ---- T10 prune --------------------------------------------------------------

    def prune(
        self,
        *,
        older_than: timedelta,
        states: Sequence[str] = FINISHED,
        limit: int = 1000,
    ) -> int:
        """Delete up to ``limit`` jobs that finished longer ago than ``older_than``.

        Jobs of other than finished states are never deleted, and ids are never used again.
        Locked rows are skipped. Returns how many jobs were deleted; call again while it
        returns ``limit``.

        Rows of the user's models that point at a job follow their ``on_delete``.
        """
        found: dict[UUID, datetime | None] = {}
        for rows in self._finished(states, older_than):
            if len(found) < limit:
                found |= {row.id: row.finished_at for row in rows[: limit - len(found)]}
        return self._after_deadlock(partial(self._prune, found)) if found else 0

    def _prune(self, found: Mapping[UUID, datetime | None]) -> int:
        with self._write():
            chosen = self._jobs.filter(id__in=found, state__in=FINISHED).order_by("id")
            locked = self._locked_to_delete(chosen)
            rows = list(locked.values_list("id", "finished_at", "needed", "state"))
            # Not a job that was retried and has finished again in the meantime.
            rows = [row for row in rows if row[1] == found[row[0]]]
            kept = self._kept([row[0] for row in rows if row[3] == State.SUCCEEDED])
            rows = [row for row in rows if row[0] not in kept]
            gone = [job_id for job_id, *_others in rows]
            self._deleting({job_id: state for job_id, _at, needed, state in rows if needed})
            _all, by_model = self._jobs.filter(id__in=gone, state__in=FINISHED).delete()
            self.delete_notes(gone)
            return by_model.get(Job._meta.label, 0)

    def _finished(self, states: Sequence[str], older_than: timedelta) -> Iterator[QuerySet[Job]]:
        """Yield the jobs to delete, the oldest first.

        Ids begin with the time at which they were made, so the primary key is walked up to
        ``older_than``, and no index of finished jobs is needed. Only the walk over succeeded
        jobs meets others; failed and cancelled ones have an index of their own.
        """
        end = first_id_of(timezone.now() - min(older_than, LONGEST_WAIT))
        old = self._jobs.filter(finished_at__lt=ago(older_than), id__lt=end)
        bad = [state for state in states if state in UNSUCCESSFUL]
        if bad:
            yield _by_id(old.filter(unsuccessful=True, state__in=bad))
        if State.SUCCEEDED in states:
            yield _by_id(old.filter(state=State.SUCCEEDED))


def _second_life(unique_key: str | None) -> dict[str, Any]:
    """Return what a job is when it is ready again with all its attempts."""
    return {
        "state": State.READY,
        "claimable": True,
        "waits_for": 0,
        "line": None,
        "blocked": None,  # it is new to its limit key: others may have started since
        "unsuccessful": False,
        "attempts": 0,
        "crashes": 0,
        "conflicts": 0,
        "run_after": DatabaseNow(),
        "finished_at": None,
        "result": None,
        "cancel_requested": False,
        "unique_lock": unique_lock(unique_key),
    }


def _by_id(rows: QuerySet[Job]) -> QuerySet[Job]:
    # Not values_list(): it would be ordered by the checked value that SQLite is asked for,
    # which no index has.
    return rows.order_by("id").only("id", "finished_at")
