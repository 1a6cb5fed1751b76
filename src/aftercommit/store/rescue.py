"""T6: jobs are taken from workers that died or fell silent."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from types import MappingProxyType
from uuid import UUID

from django.db.models import Q, QuerySet

from aftercommit.models import Job, Lease, State
from aftercommit.store.blame import WORKER_DIED, is_given_up, process_crashed
from aftercommit.store.clock import DatabaseNow
from aftercommit.store.columns import LARGEST_COUNT
from aftercommit.store.finish import RELEASED, Ending, changes, with_error
from aftercommit.store.table import Table, held_jobs
from aftercommit.tallies import CANCELLED, RESCUED
from aftercommit.values import Claim, Ended

# Not the payload, which may be large; "errors" may be as well.
READ = (
    "token",
    "queue",
    "backend",
    "task_path",
    "attempts",
    "crashes",
    "cancel_requested",
    "worker_id",
    "needed",
)
AT_A_TIME = 10  # rows in memory
NONE: Mapping[UUID, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescued:
    """A job that was taken from a dead or silent worker."""

    job_id: UUID
    worker_id: UUID
    task_path: str
    queue: str
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
        many. The leases that have been over for longest come first. Rows that another rescuer
        or a run holds are skipped; a lease is deleted when none of its jobs is left.
        """
        lost = Q(worker_id__in=list(dead_workers))
        if silent:
            lost |= Q(lease_until__lt=DatabaseNow())
        rescued: list[Rescued] = []
        # Read before: on SQLite each look would lock the database, on MySQL the rows.
        leases = self._leases.filter(lost).order_by("lease_until")
        for lease_id in list(leases.values_list("id", flat=True)):
            if len(rescued) < limit:
                with self._write():
                    rescued += self._rescue_lease(
                        lease_id, lost, max_crashes, blamed, limit=limit - len(rescued)
                    )
        if len(rescued) < limit:
            rescued += self._rescue_without_lease(
                lost, max_crashes, blamed, limit=limit - len(rescued)
            )
        return rescued

    def _rescue_lease(
        self,
        lease_id: UUID,
        lost: Q,
        max_crashes: int,
        blamed: Mapping[UUID, str],
        *,
        limit: int,
    ) -> list[Rescued]:
        # The lease stays locked until the end, so that it cannot be renewed meanwhile.
        lease = self._locked(self._leases.filter(lost, id=lease_id), skip=True).first()
        if lease is None:
            return []
        held = held_jobs(lease) or self._not_listed(lease)
        rows = self._jobs.filter(id__in=self.running_under(held))
        rescued = self._rescue_jobs(rows, max_crashes, blamed, limit=limit, held=held)
        if not self.running_under(held):
            self._leases.filter(id=lease_id).delete()
        return rescued

    def _not_listed(self, lease: Lease) -> dict[UUID, int]:
        """Return the running jobs of a worker that none of its other leases lists.

        For a lease whose own list cannot be read.
        """
        running = self._jobs.filter(worker_id=lease.worker_id, state=State.RUNNING)
        held = dict(running.values_list("id", "token"))
        for other in self._leases.filter(worker_id=lease.worker_id).exclude(id=lease.id):
            for job_id in held_jobs(other):
                held.pop(job_id, None)
        return held

    def held_by(self, worker_ids: Collection[UUID]) -> int:
        """Return how many jobs are running under leases of these workers."""
        leases = self._leases.filter(worker_id__in=worker_ids)
        return sum(len(self.running_under(held_jobs(lease))) for lease in leases)

    def running_under(self, held: Mapping[UUID, int]) -> set[UUID]:
        """Return those of these jobs that run under these tokens."""
        running = self._jobs.filter(id__in=held, state=State.RUNNING)
        found = running.values_list("id", "token")
        return {job_id for job_id, token in found if token == held[job_id]}

    def _rescue_without_lease(
        self, lost: Q, max_crashes: int, blamed: Mapping[UUID, str], *, limit: int
    ) -> list[Rescued]:
        """Rescue jobs that workers of version 0.1 have claimed."""
        rows = self._jobs.filter(lost, state=State.RUNNING, lease_until__isnull=False)
        found = list(rows.values_list("id", flat=True))
        if not found:
            return []
        with self._write():
            rows = self._jobs.filter(lost, id__in=found)
            return self._rescue_jobs(rows, max_crashes, blamed, limit=limit)

    def _rescue_jobs(
        self,
        chosen: QuerySet[Job],
        max_crashes: int,
        blamed: Mapping[UUID, str],
        *,
        limit: int,
        held: Mapping[UUID, int] | None = None,
    ) -> list[Rescued]:
        chosen = chosen.filter(state=State.RUNNING).only(*READ, "errors").order_by("id")
        rescued: list[Rescued] = []
        last: UUID | None = None
        # The limit counts rows that are not skipped: a hundred rows in hanging transactions
        # must not hide all others.
        while left := limit - len(rescued):
            rest = chosen if last is None else chosen.filter(id__gt=last)
            found = list(self._locked(rest, skip=True)[: min(left, AT_A_TIME)])
            rows = found
            if held is not None:  # not a job that another worker has claimed in the meantime
                rows = [row for row in found if held[row.id] == row.token]
            rescued += self._rescue_rows(rows, max_crashes, blamed)
            if len(found) < min(left, AT_A_TIME):
                break
            last = found[-1].id
        return rescued

    def _rescue_rows(
        self, rows: Collection[Job], max_crashes: int, blamed: Mapping[UUID, str]
    ) -> list[Rescued]:
        tried = [self._rescue_one(row, max_crashes, blamed.get(row.id)) for row in rows]
        rescued = [one for one in tried if one is not None]
        ready = {one.job_id for one in rescued if one.state == State.READY}
        states = {one.job_id: one.state for one in rescued}
        counted = [(row, states[row.id]) for row in rows if row.id in states]
        self._count((row, RESCUED) for row, _state in counted)
        self._count((row, state) for row, state in counted if state != State.READY)
        self._ended(
            [Ended(one.job_id, one.state) for one in rescued],
            due={row.queue for row in rows if row.id in ready},
            needed=[row.id for row in rows if row.needed],
        )
        return rescued

    def release_unstarted(self, worker_id: UUID, *, begun: Collection[UUID]) -> list[Ended]:
        """Give back what a worker had claimed but not ``begun``; return what was written.

        Only for a worker that is known to be dead. These jobs lose neither an attempt nor
        a crash, unlike rescued ones. One whose cancellation was requested is cancelled.
        Its leases stay until they are rescued.
        """
        held = {
            job_id
            for lease in self._leases.filter(worker_id=worker_id)
            for job_id in self.running_under(held_jobs(lease))
        }
        unstarted = held.difference(begun)
        return self._give_back(self._jobs.filter(worker_id=worker_id, id__in=unstarted))

    def release_forgotten(self, claims: Iterable[Claim], delay: timedelta) -> list[Ended]:
        """Give back claims of the caller that it neither runs nor could end, after ``delay``.

        Never waits for a lock: locked rows are left out. One whose cancellation was requested
        is cancelled.
        """
        held = {claim.job_id: claim.token for claim in claims}
        rows = self._jobs.filter(id__in=self.running_under(held))
        return self._give_back(rows, replace(RELEASED, delay=delay), held=held)

    def _give_back(
        self,
        chosen: QuerySet[Job],
        end: Ending = RELEASED,
        *,
        held: Mapping[UUID, int] | None = None,
    ) -> list[Ended]:
        if not chosen.exists():
            return []
        with self._write():
            running = chosen.filter(state=State.RUNNING).only(*READ).order_by("id")
            rows = list(self._locked(running, skip=True))
            if held is not None:
                rows = [row for row in rows if row.token == held[row.id]]
            ended = [one for row in rows if (one := self._give_one_back(row, end))]
            ready = {one.job_id for one in ended if one.state == State.READY}
            over = {one.job_id for one in ended} - ready
            self._count((row, CANCELLED) for row in rows if row.id in over)
            return self._ended(
                ended,
                due={row.queue for row in rows if row.id in ready},
                needed=[row.id for row in rows if row.needed],
            )

    def _give_one_back(self, row: Job, end: Ending) -> Ended | None:
        """Release a row that is locked, so that its ``cancel_requested`` stays as it is."""
        end = end.cancelled() if row.cancel_requested else end
        mine = self._mine(row.id, row.token).filter(worker_id=row.worker_id)
        if end.state != State.READY and self._kept([row.id]):
            return None
        return Ended(row.id, end.state) if mine.update(**changes(end)) else None

    def _rescue_one(self, row: Job, max_crashes: int, death: str | None) -> Rescued | None:
        crashes = min(row.crashes + 1, LARGEST_COUNT)
        error = WORKER_DIED if death is None else process_crashed(death)
        errors = with_error(row.errors, error, worker_id=row.worker_id, claimed_at=row.claimed_at)
        state = State.READY
        if row.cancel_requested:
            state = State.CANCELLED
        elif is_given_up(errors, runs=row.attempts, crashes=crashes, max_crashes=max_crashes):
            state = State.FAILED
        if state != State.READY and self._kept([row.id]):
            return None  # a later call does it
        update = changes(Ending(state=state, errors=errors)) | {"crashes": crashes}
        if not self._mine(row.id, row.token).update(**update) or row.worker_id is None:
            return None
        return Rescued(
            job_id=row.id,
            worker_id=row.worker_id,
            task_path=row.task_path,
            queue=row.queue,
            crashes=crashes,
            state=str(state),
        )
