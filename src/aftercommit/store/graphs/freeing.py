"""The end of a job frees those that waited for it, in the transaction that writes the end.

Each end marks its own edges and nothing else, so that 10,000 ends that one job waits for write
10,000 rows and not 10,000 times the same. Whoever finds no open edge of a job frees it. Two ends
that are written at the same time do not see each other's marks, so both look once more after
their commit: the later one sees all. If its process dies in between, the sweep of any worker
finds what is left: see ``sweep``.
"""

from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any
from uuid import UUID

from django.db import Error, transaction
from django.db.models import BooleanField, ExpressionWrapper, Q, Sum
from django.db.models.functions import Length

from aftercommit import events
from aftercommit.errors import PayloadTooLarge, Unreadable
from aftercommit.models import Job, State
from aftercommit.places import WHAT, filled, limit_of
from aftercommit.store.clock import DatabaseNow
from aftercommit.store.finish import with_error
from aftercommit.store.graphs.edges import GONE, ONE_STATEMENT, Edges, Marked
from aftercommit.values import CANCEL, Ended, RunError

MOST_EDGES = 2_000  # in one transaction; the rest follows after its commit
FEW_PAYLOADS = 50  # in one statement
NEEDED_JOB_FAILED = "aftercommit.errors.NeededJobFailed"
NEVER_RAN = "[]"  # the errors of most jobs that wait
STATES = {CANCEL: State.CANCELLED}  # the others: failed
HOW = {GONE: "is gone: its row was deleted", State.CANCELLED: "was cancelled"}


class Freeing(Edges):
    """Passes ends on to the jobs that wait for them."""

    def _pass_on(self, needed: Collection[UUID]) -> None:
        """See ``Table._pass_on``.

        Some jobs end in turn, because of that, and so on: that is done here as well, up to a
        number of edges. The rest is done after the commit, in transactions of their own.
        """
        left = sorted(set(needed))
        budget = MOST_EDGES
        with self._joined():
            while left and budget > 0:
                some, left = left[:ONE_STATEMENT], left[ONE_STATEMENT:]
                marked, more = self._mark(some, most=budget)
                budget -= len(marked)
                followed = self._act_on(marked)
                left = (some if more else []) + followed + left
            if left:
                self._after_commit(partial(self._pass_on, left))

    def _joined(self) -> AbstractContextManager[None]:
        """Join the transaction of whoever has ended the jobs, without a savepoint.

        Whoever has written the end has one, and an error leaves nothing of both.
        """
        if self.connection.in_atomic_block:
            return transaction.atomic(using=self.alias, savepoint=False)
        return self._write()

    def _act_on(self, marked: Sequence[Marked]) -> list[UUID]:
        """Free the jobs of marked edges, or end them; return those that others wait for."""
        followed: list[UUID] = []
        for (on_failure, needs_id, outcome), job_ids in _forbidden(marked).items():
            why = self._why(needs_id, outcome)
            state = STATES.get(on_failure, State.FAILED)
            followed += self._end_waiting(sorted(job_ids), str(state), why)
        allowed = sorted({one.job_id for one in marked if one.allows})
        return followed + self._free_complete(allowed)

    def _free_complete(self, job_ids: Sequence[UUID]) -> list[UUID]:
        """Free those of these jobs that wait for nothing more.

        Returns jobs that others wait for, and that have failed, because of their arguments.
        """
        followed: list[UUID] = []
        for first in range(0, len(job_ids), ONE_STATEMENT):
            free, few = self._with_open(job_ids[first : first + ONE_STATEMENT])
            if few:
                self._after_commit(partial(self._look_again, few))
            if free:
                followed += self._free(free)
        return followed

    def _look_again(self, job_ids: Sequence[UUID]) -> None:
        with self._write():
            free, _few = self._with_open(job_ids)
            if followed := self._free(free):
                self._pass_on(followed)

    def _free(self, job_ids: Collection[UUID]) -> list[UUID]:
        locked = self._lock_waiting(job_ids)
        # Once more under the lock: somebody may have added an edge, see ``LateEdges``.
        which = Q(place__isnull=False) | Q(outcome__isnull=True)
        edges = self._edges.filter(which, job_id__in=[row.id for row in locked])
        is_open = ExpressionWrapper(Q(outcome__isnull=True), output_field=BooleanField())
        seen = set(edges.annotate(is_open=is_open).values_list("job_id", "is_open").distinct())
        still_wait = {job_id for job_id, waits in seen if waits}
        to_fill = {job_id for job_id, _waits in seen} - still_wait
        rows = [row for row in locked if row.id not in still_wait]
        ids = [row.id for row in rows]
        unfit = self._fill(sorted(to_fill))
        free = [job_id for job_id in ids if job_id not in unfit]
        self._that_wait.filter(id__in=free).update(blocked=None, waits_for=0, claimable=True)
        self._forget_edges(free)
        queues = {row.queue for row in rows if row.id not in unfit}
        self._wake(queues)
        if queues:
            self._after_commit(self.freed)
        followed: list[UUID] = []
        for job_id, error in unfit.items():
            followed += self._end_waiting([job_id], State.FAILED, error)
        return followed

    # ---- results as arguments ---------------------------------------------------------

    def _fill(self, job_ids: Sequence[UUID]) -> dict[UUID, RunError]:
        """Put results into the arguments of jobs; return why that is impossible for some."""
        unfit: dict[UUID, RunError] = {}
        for first in range(0, len(job_ids), FEW_PAYLOADS):
            some = job_ids[first : first + FEW_PAYLOADS]
            changed: list[Job] = []
            for job in self._jobs.filter(id__in=some).only("id", "payload", "task_path"):
                try:
                    job.payload = self._filled(job)
                    changed.append(job)
                except (PayloadTooLarge, Unreadable) as error:
                    kind = f"{type(error).__module__}.{type(error).__qualname__}"
                    unfit[job.id] = RunError(exception_class_path=kind, traceback=str(error))
            if changed:
                self._jobs.bulk_update(changed, ["payload"])
        return unfit

    def _filled(self, job: Job) -> str:
        limit = limit_of(job.payload)
        given = self._edges.filter(job_id=job.id, place__isnull=False).order_by()
        # Before they are read: thousands of large ones do not fit into memory either.
        size = given.aggregate(size=Sum(Length("result")))["size"] or 0
        if size > limit:
            raise PayloadTooLarge(what=WHAT, size=size, limit=limit, task_path=job.task_path)
        results = ((str(place), result) for place, result in given.values_list("place", "result"))
        text = filled(job.payload, results, task_path=job.task_path)
        self._check_size(text, what=WHAT, task_path=job.task_path)
        return text

    def _check_size(self, text: str, *, what: str, task_path: str) -> None:
        """Raise ``PayloadTooLarge`` for what the server would not take."""

    # ---- jobs that end because of another one -----------------------------------------

    def _end_waiting(self, job_ids: Sequence[UUID], state: str, why: RunError) -> list[UUID]:
        """End jobs that wait; return those among them that others wait for.

        Their edges stay until their rows are deleted: a retry by hand waits again.
        """
        needed: list[UUID] = []
        for first in range(0, len(job_ids), ONE_STATEMENT):
            some = job_ids[first : first + ONE_STATEMENT]
            rows = self._lock_waiting(some, "errors", "needed", "backend", "task_path")
            by_errors: dict[str, list[UUID]] = {}
            for row in rows:
                by_errors.setdefault(row.errors, []).append(row.id)
            for errors, ids in by_errors.items():
                entries = with_error(errors, why, worker_id=None)
                self._that_wait.filter(id__in=ids).update(**_ended_as(state), errors=entries)
            needed += [row.id for row in rows if row.needed]
            self._count((row, state) for row in rows)
            if ended := self._ended([Ended(row.id, state) for row in rows]):
                self._after_commit(partial(self._send_ended, ended))
        return needed

    def _send_ended(self, ended: list[Ended]) -> None:
        events.send(events.waiting_ended, sender=type(self), using=self.alias, ended=ended)

    def _why(self, needs_id: UUID, outcome: str) -> RunError:
        path = self._jobs.filter(id=needs_id).values_list("task_path", flat=True).first()
        what = f"job {needs_id}" + f" of {path}" * (path is not None)
        text = f"This job waited for {what}, which {HOW.get(outcome, outcome)}."
        return RunError(exception_class_path=NEEDED_JOB_FAILED, traceback=text)

    # ---- after the commit -------------------------------------------------------------

    def _after_commit(self, do: Any) -> None:
        """Call a function after the commit; what it cannot do is left to the sweep."""

        def try_it() -> None:
            try:
                do()
            except Error:  # the connection is lost, say: the caller has committed
                self.connection.close_if_unusable_or_obsolete()

        transaction.on_commit(try_it, using=self.alias)


def _forbidden(marked: Iterable[Marked]) -> dict[tuple[str, UUID, str], set[UUID]]:
    """Return the jobs that may not run, each once, by why that is so."""
    found: dict[tuple[str, UUID, str], set[UUID]] = {}
    seen: set[UUID] = set()
    for one in marked:
        if not one.allows and one.job_id not in seen:
            seen.add(one.job_id)
            found.setdefault((one.on_failure, one.needs_id, one.outcome), set()).add(one.job_id)
    return found


def _ended_as(state: str) -> dict[str, Any]:
    return {
        "state": state,
        "claimable": False,
        "unsuccessful": True,
        "finished_at": DatabaseNow(),
        "unique_lock": None,
        "blocked": None,
        "line": None,
        "waits_for": 0,
    }
