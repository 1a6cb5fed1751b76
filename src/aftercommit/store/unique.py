"""T0 with a unique key: at most one ready or running job has it.

The key is held by the column ``unique_lock``, which has a unique index. A claim clears it if the
key is to be free once the job has started, every end of the job clears it otherwise.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Case, Exists, OuterRef, QuerySet, Value, When

from aftercommit.errors import EnqueueFailed, JobExists
from aftercommit.models import Blocked, Dependency, Job, State
from aftercommit.store.clock import DatabaseNow
from aftercommit.store.columns import moment_from, unique_lock
from aftercommit.store.table import Table
from aftercommit.values import NewJob, OnConflict

TRIES_AT_UNIQUE_KEY = 3


class Placed(NamedTuple):
    """What became of a job with a unique key: inserted, or the key has another holder."""

    job_id: UUID  # of the job that has the key
    holder: Job | None = None  # the other job, as it is now; None: the job was inserted
    enqueued_at: datetime | None = None  # of the inserted row, where the statement returns it


class UniqueKeys(Table, ABC):
    """Inserts jobs with unique keys."""

    tells_inserted = False  # whether an INSERT returns only a row that it has inserted

    @abstractmethod
    def _insert_rows(self, jobs: Sequence[NewJob], *, or_skip: bool) -> list[Any]:
        """Insert jobs; ``or_skip`` leaves out those whose id exists or whose key is held.

        Returns what the database returns of the rows; of a single job ``enqueued_at`` is first.
        """

    def _place(self, jobs: Sequence[NewJob], rule: OnConflict) -> list[Placed]:
        """Insert jobs with keys, or meet the holders of the keys; needs an open transaction."""
        if rule.debounce is not None:
            due = self._clock() + rule.debounce
            jobs = [replace(job, run_after=due) for job in jobs]
        keyed = [(unique_lock(job.unique_key) or "", place) for place, job in enumerate(jobs)]
        if rule.refuses and len({lock for lock, _place in keyed}) < len(jobs):
            raise JobExists(task_path=jobs[0].task_path, job_id=None)
        placed = [Placed(job.id) for job in jobs]
        # In the order of the keys: two callers with the same keys cannot deadlock.
        for lock, place in sorted(keyed):
            placed[place] = self._place_one(jobs[place], lock, rule)
        return placed

    def _place_one(self, job: NewJob, lock: str, rule: OnConflict) -> Placed:
        for _try in range(TRIES_AT_UNIQUE_KEY):
            rows = self._insert_rows([job], or_skip=True)
            if rows and self.tells_inserted:
                return Placed(job.id, enqueued_at=moment_from(rows[0][0]))
            holder = self._holder(lock, change=rule.changes_holder)
            if holder is not None and (placed := self._met(holder, job, rule)):
                return placed
        mine = self._jobs.filter(id=job.id).first()
        if mine is not None:  # inserted before the answer was lost, and without its key by now
            return Placed(job.id, enqueued_at=mine.enqueued_at)
        raise EnqueueFailed(unique_key=str(job.unique_key))

    def _holder(self, lock: str, *, change: bool) -> Job | None:
        """Return the job that holds a unique key now; a ready one waits for the caller's commit.

        ``change``: lock a ready one for the caller alone. The row of a running job is not
        locked: its worker could not renew or finish the job.
        """
        return self._jobs.filter(unique_lock=lock).first()

    def _running_holder(self, lock: str) -> Job | None:
        # Not one that is ready by now: nothing would hold it back.
        return self._jobs.filter(unique_lock=lock, state=State.RUNNING).first()

    def _met(self, holder: Job, job: NewJob, rule: OnConflict) -> Placed | None:
        """Do what ``rule`` says about a holder; None if it has started in the meantime."""
        if holder.id == job.id:  # inserted, by this statement or before its answer was lost
            return Placed(job.id, enqueued_at=holder.enqueued_at)
        if rule.refuses:
            raise JobExists(task_path=holder.task_path, job_id=holder.id)
        waits = holder.state == State.READY and holder.started_at is None
        if rule.changes_holder and waits and not self._change_holder(holder, job, rule):
            return None
        return Placed(holder.id, holder)

    def _change_holder(self, holder: Job, job: NewJob, rule: OnConflict) -> bool:
        """Give a holder that has not started what the new call says; False if it has started."""
        changes = _replaced_by(job, holder.id) if rule.replaces else {}
        if rule.debounce is not None:
            changes["run_after"] = _pushed(holder, job, rule)
        elif rule.replaces:
            changes["run_after"] = job.run_after or DatabaseNow()
        limited = job.limit_key is not None or holder.limit_key is not None
        # It is new to its line, which may be another one; a time to come must not keep a slot.
        # Not if it waits for others: whoever ends those looks at it by that.
        place = Case(When(blocked=Blocked.JOBS, then=Value(Blocked.JOBS)), default=None)
        changes |= {"blocked": place, "line": None} if limited else {}
        waiting = self._jobs.filter(id=holder.id, state=State.READY, started_at__isnull=True)
        if not waiting.update(**changes):
            return False
        if limited:
            self._unless_aside(waiting).update(waits_for=0, claimable=True)
        if rule.replaces:
            self._forget_places(holder)
        for name in changes.keys() - {"run_after", "blocked"}:
            setattr(holder, name, changes[name])
        if rule.debounce is None and job.run_after is None:
            self._wake({holder.queue})
        return True

    def _forget_places(self, holder: Job) -> None:
        if holder.blocked == Blocked.JOBS:  # results have no place in other arguments
            Dependency.objects.using(self.alias).filter(job_id=holder.id).update(place=None)

    def _unless_aside(self, jobs: QuerySet[Job]) -> QuerySet[Job]:
        """Leave out jobs that wait for more than a slot: for the end of a pause, for others."""
        needs = Dependency.objects.using(self.alias).filter(job_id=OuterRef("id"))
        return jobs.exclude(Exists(needs))


def _replaced_by(job: NewJob, holder_id: UUID) -> dict[str, Any]:
    return {
        "task_path": job.task_path,  # which has the version of the arguments
        "payload": job.payload_under(holder_id),
        "headers": job.headers,  # of the call whose arguments these are
        "priority": job.priority,
        "limit_key": job.limit_key,  # other arguments may mean another one
        "rate_key": job.rate_key,
        "fair_key": job.fair_key,
    }


def _pushed(holder: Job, job: NewJob, rule: OnConflict) -> datetime:
    """Return when a debounced job is due after one more call.

    Never earlier than before: of two calls the earlier one may commit later.
    """
    before: datetime = holder.run_after
    due = job.run_after or before
    if rule.debounce_max is not None:
        due = min(due, holder.enqueued_at + rule.debounce_max)
    return max(due, before)
