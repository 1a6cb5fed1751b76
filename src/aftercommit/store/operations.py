"""T8 to T10: what people and their code ask for: cancel, retry, prune."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import IntegrityError

from aftercommit.models import FINISHED, Job, State
from aftercommit.store.clock import DatabaseNow, in_future
from aftercommit.store.insert import unique_lock
from aftercommit.store.table import Table
from aftercommit.values import Ended

ONE_CANCEL = 500  # rows that one statement names


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAnswer:
    """What became of ``cancel()``: ended at once, or asked to end while running."""

    ended: Sequence[Ended]
    requested: frozenset[UUID]

    @property
    def cancelled(self) -> frozenset[UUID]:
        """The jobs that ended at once."""
        return frozenset(one.job_id for one in self.ended)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried:
    """What became of ``retry()``: ids that are ready again, ids whose unique key is taken."""

    ready: frozenset[UUID]
    clashed: frozenset[UUID]


class Operations(Table):
    """What changes a job from outside."""

    # ---- T8 cancel --------------------------------------------------------------

    def cancel(self, job_ids: Iterable[UUID]) -> CancelAnswer:
        """Cancel ready jobs at once; ask the workers of running ones to stop.

        Who commits first wins: a job that has finished stays as it is. In a transaction
        of the caller's it belongs to it, and until that ends nobody else can change
        these jobs.
        """
        wanted = sorted(set(job_ids))
        ended: list[Ended] = []
        requested: set[UUID] = set()
        for start in range(0, len(wanted), ONE_CANCEL):
            with self._write():
                ended += self._cancel(wanted[start : start + ONE_CANCEL], requested)
        return CancelAnswer(ended=ended, requested=frozenset(requested))

    def _cancel(self, job_ids: list[UUID], requested: set[UUID]) -> list[Ended]:
        # Locked first: a job that goes from ready to running and back between two
        # statements would slip through both. In the order of ids, as everywhere.
        rows = self._locked(self._jobs.filter(id__in=job_ids)).order_by("id")
        states = dict(rows.values_list("id", "state"))
        ready = [job_id for job_id, state in states.items() if state == State.READY]
        running = [job_id for job_id, state in states.items() if state == State.RUNNING]
        self._jobs.filter(id__in=ready, state=State.READY).update(
            state=State.CANCELLED, finished_at=DatabaseNow(), unique_lock=None
        )
        self._jobs.filter(id__in=running, state=State.RUNNING).update(cancel_requested=True)
        requested.update(running)
        return self._ended([Ended(job_id, State.CANCELLED) for job_id in ready])

    def cancel_equal(self, *, task_path: str, payload: str) -> Sequence[Ended]:
        """Cancel ready jobs with just these arguments; return what was written."""
        alike = self._jobs.filter(task_path=task_path, payload=payload, state=State.READY)
        # Compared again: MySQL finds texts that differ in case only.
        equal = [row.id for row in alike.only("id", "payload") if row.payload == payload]
        return self.cancel(equal).ended

    # ---- T9 retry ---------------------------------------------------------------

    def retry(self, job_ids: Iterable[UUID]) -> Retried:
        """Make failed and cancelled jobs ready again, with all their attempts.

        The token goes on counting, so zombies of the first life stay fenced. A job
        whose unique key another job holds by now is left as it is and reported; this
        waits for other transactions that are about to take the same key.
        """
        ready, clashed = set(), set()
        for job_id in sorted(set(job_ids)):
            try:
                with self._write():
                    if self._retry_one(job_id):
                        ready.add(job_id)
            except IntegrityError:
                clashed.add(job_id)
        return Retried(ready=frozenset(ready), clashed=frozenset(clashed))

    def _retry_one(self, job_id: UUID) -> bool:
        # Neither of these two ever changes.
        job = self._jobs.filter(id=job_id).only("queue", "unique_key").first()
        if job is None:
            return False
        ended = self._jobs.filter(id=job_id, state__in=(State.FAILED, State.CANCELLED))
        retried = ended.update(
            state=State.READY,
            attempts=0,
            crashes=0,
            conflicts=0,
            run_after=DatabaseNow(),
            finished_at=None,
            result=None,
            cancel_requested=False,
            unique_lock=unique_lock(job.unique_key),
        )
        if retried:
            self._wake({job.queue})
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

        Only finished states can be named; ids never come back. Rows that someone
        holds are skipped. Returns how many were deleted; call again while it is
        ``limit``.

        Rows of the user's models that point at a job follow their ``on_delete``.
        """
        found: dict[UUID, datetime | None] = {}
        for state in FINISHED:
            if state in states and len(found) < limit:
                found |= self._finished(state, older_than, limit=limit - len(found))
        if not found:
            return 0
        with self._write():
            chosen = self._jobs.filter(id__in=found, state__in=FINISHED).order_by("id")
            rows = self._locked(chosen, skip=True).values_list("id", "finished_at")
            # Unless it has had another life meanwhile, and ended again.
            gone = [job_id for job_id, finished_at in rows if finished_at == found[job_id]]
            _all, by_model = self._jobs.filter(id__in=gone, state__in=FINISHED).delete()
            return by_model.get(Job._meta.label, 0)

    def _finished(
        self, state: str, older_than: timedelta, *, limit: int
    ) -> dict[UUID, datetime | None]:
        # One state, oldest first: the order of the index.
        old = self._jobs.filter(state=state, finished_at__lt=in_future(-older_than))
        return dict(old.order_by("finished_at").values_list("id", "finished_at")[:limit])
