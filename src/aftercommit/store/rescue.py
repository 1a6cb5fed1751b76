"""T6: jobs are taken from workers that died or fell silent."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from uuid import UUID

from django.db.models import Q

from aftercommit.models import Job, State
from aftercommit.store.blame import WORKER_DIED, is_given_up, process_crashed
from aftercommit.store.clock import DatabaseNow
from aftercommit.store.finish import RELEASED, changes, with_error
from aftercommit.store.table import Table
from aftercommit.values import Ended

NONE: Mapping[UUID, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescued:
    """A job that was taken from a dead or silent worker."""

    job_id: UUID
    worker_id: UUID
    task_path: str
    crashes: int
    state: str  # ready again, or failed for good, or cancelled


class Rescue(Table):
    """The way back."""

    def rescue(
        self,
        *,
        max_crashes: int,
        dead_workers: Iterable[UUID] = (),
        silent: bool = True,
        blamed: Mapping[UUID, str] = NONE,
        limit: int = 100,
    ) -> list[Rescued]:
        """Take jobs from ``dead_workers`` and, if ``silent``, all whose lease is over.

        Each counts one crash and is ready again at its old place in the queue. ``blamed``
        are those that were the cause of the death, with how their process ended: after
        ``max_crashes`` of such, or ``DEATHS_FOR_EACH_BLAME`` times as many crashes in all,
        a job is failed. One whose cancellation was requested is cancelled. The token stays
        as it is: the claim of the dead worker is worth nothing once someone else
        claims, and until then the state guards.

        ``limit`` bounds one call (default 100 jobs); call again while it returns that
        many. Rows that another rescuer holds are skipped.
        """
        lost = Q(worker_id__in=list(dead_workers))
        if silent:
            lost |= Q(lease_until__lt=DatabaseNow())
        # Not limited: a hundred rows in hanging transactions must not hide all others.
        found = list(self._running().filter(lost).values_list("id", flat=True))
        if not found:
            return []
        with self._write():
            chosen = self._jobs.filter(id__in=found).order_by("lease_until", "id")
            rows = list(self._locked(chosen, skip=True)[:limit])
            tried = [self._rescue_one(row, lost, max_crashes, blamed.get(row.id)) for row in rows]
            rescued = [one for one in tried if one is not None]
            ready = {one.job_id for one in rescued if one.state == State.READY}
            self._ended(
                [Ended(one.job_id, one.state) for one in rescued],
                due={row.queue for row in rows if row.id in ready},
            )
            return rescued

    def release_unstarted(self, worker_id: UUID, *, begun: Collection[UUID]) -> list[Ended]:
        """Give back what a worker had claimed but not ``begun``; return what was written.

        Only for a worker that is known to be dead. These jobs lose neither an attempt nor
        a crash, unlike rescued ones. One whose cancellation was requested is cancelled.
        """
        claimed = self._running().filter(worker_id=worker_id).exclude(id__in=begun)
        if not claimed.exists():
            return []
        with self._write():
            rows = list(self._locked(claimed.order_by("id"), skip=True))
            ended = [one for row in rows if (one := self._give_back(row))]
            ready = {one.job_id for one in ended if one.state == State.READY}
            return self._ended(ended, due={row.queue for row in rows if row.id in ready})

    def _give_back(self, row: Job) -> Ended | None:
        """Release a row that is locked, so that its ``cancel_requested`` stays as it is."""
        end = RELEASED.cancelled() if row.cancel_requested else RELEASED
        mine = self._mine(row.id, row.token).filter(worker_id=row.worker_id)
        return Ended(row.id, end.state) if mine.update(**changes(end)) else None

    def _rescue_one(
        self, row: Job, lost: Q, max_crashes: int, death: str | None
    ) -> Rescued | None:
        crashes = row.crashes + 1
        error = WORKER_DIED if death is None else process_crashed(death)
        errors = with_error(row.errors, error, worker_id=row.worker_id)
        state = State.READY
        if row.cancel_requested:
            state = State.CANCELLED
        elif is_given_up(errors, runs=row.attempts, crashes=crashes, max_crashes=max_crashes):
            state = State.FAILED
        finished = state != State.READY
        still_lost = self._mine(row.id, row.token).filter(lost)
        applied = still_lost.update(
            state=state,
            crashes=crashes,
            errors=errors,
            worker_id=None,
            lease_until=None,
            slot=None,
            finished_at=DatabaseNow() if finished else None,
            **({"unique_lock": None} if finished else {}),
        )
        if not applied or row.worker_id is None:
            return None
        return Rescued(
            job_id=row.id,
            worker_id=row.worker_id,
            task_path=row.task_path,
            crashes=crashes,
            state=str(state),
        )
