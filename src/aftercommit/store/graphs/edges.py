"""The edges of the graph, and the jobs that wait."""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple
from uuid import UUID

from django.db.models import Case, Exists, OuterRef, Q, QuerySet, Subquery, Value, When

from aftercommit.models import FINISHED, Blocked, Dependency, Job, State
from aftercommit.store.rules import Rules
from aftercommit.values import RUN

GONE = "gone"  # the outcome of a job whose row was deleted before its end was noticed
# So many ends may be written at once without knowing of each other. Whoever sees so few open
# edges looks again after its commit; see ``Freeing``.
FEW = 50
ONE_STATEMENT = 500  # ids that it names


class Marked(NamedTuple):
    """An edge whose needed job has ended."""

    job_id: UUID  # the job that waits
    needs_id: UUID
    on_failure: str
    outcome: str

    @property
    def allows(self) -> bool:
        """Whether the job that waits may run, as far as this edge is concerned."""
        return self.outcome == State.SUCCEEDED or self.on_failure == RUN


class Edges(Rules):
    """Reads and marks edges. Those of pauses, see ``Aside``, are no edges here."""

    @property
    def _edges(self) -> QuerySet[Dependency]:
        return self._dependencies.filter(on_failure__isnull=False)

    @property
    def _open(self) -> QuerySet[Dependency]:
        return self._edges.filter(outcome__isnull=True)

    @property
    def _that_wait(self) -> QuerySet[Job]:
        return self._jobs.filter(state=State.READY, blocked=Blocked.JOBS)

    def _mark(self, needs: Sequence[UUID], *, most: int) -> tuple[list[Marked], bool]:
        """Write to open edges how the jobs have ended that they need.

        Returns them, and whether there are more. A job that has not ended, because somebody has
        retried it meanwhile, leaves its edges open.
        """
        which = self._open.filter(needs_id__in=needs).order_by("job_id", "needs_id")
        found = list(which.values_list("id", flat=True)[: most + 1])
        marked: list[Marked] = []
        for first in range(0, min(len(found), most), ONE_STATEMENT):
            some = self._edges.filter(id__in=found[first : min(first + ONE_STATEMENT, most)])
            needed = self._jobs.filter(id=OuterRef("needs_id"), state__in=FINISHED)
            some.filter(outcome__isnull=True).update(
                outcome=Case(
                    When(~Exists(self._jobs.filter(id=OuterRef("needs_id"))), then=Value(GONE)),
                    default=Subquery(needed.values("state")),
                ),
                result=Case(
                    When(place__isnull=False, then=Subquery(needed.values("result"))),
                    default=Value(None),
                ),
            )
            rows = some.filter(outcome__isnull=False).order_by("job_id", "needs_id")
            marked += map(
                Marked._make, rows.values_list("job_id", "needs_id", "on_failure", "outcome")
            )
        return marked, len(found) > most

    def _with_open(self, job_ids: Collection[UUID]) -> tuple[list[UUID], list[UUID]]:
        """Return which of these jobs wait for nothing more, and which for a few."""
        own = self._open.filter(job_id=OuterRef("id")).order_by()
        rows = self._that_wait.filter(id__in=job_ids).annotate(
            waits=Exists(own), waits_long=Subquery(own.values("id")[FEW : FEW + 1])
        )
        found = list(rows.order_by("id").values_list("id", "waits", "waits_long"))
        free = [job_id for job_id, waits, _long in found if not waits]
        few = [job_id for job_id, waits, waits_long in found if waits and waits_long is None]
        return free, few

    def _lock_waiting(self, job_ids: Collection[UUID], *names: str) -> list[Job]:
        """Lock those of these jobs that still wait, but for those that others have locked.

        Never waits: the end of a run, which may be part of the user's transaction, must not wait
        for somebody who has locked another job. The sweep finds those that were left.
        """
        rows = self._that_wait.filter(id__in=job_ids).only("id", "queue", *names)
        return list(self._locked(rows, skip=True).order_by("id"))

    def _forget_edges(self, job_ids: Sequence[UUID]) -> None:
        for first in range(0, len(job_ids), ONE_STATEMENT):
            self._edges.filter(job_id__in=job_ids[first : first + ONE_STATEMENT]).delete()

    def waiting_for(self, job_ids: Collection[UUID]) -> QuerySet[Dependency]:
        """Return the edges of these jobs."""
        return self._edges.filter(Q(job_id__in=job_ids))


def parts(job_ids: Sequence[UUID]) -> Iterator[Sequence[UUID]]:
    """Yield as many ids at a time as one statement names."""
    for first in range(0, len(job_ids), ONE_STATEMENT):
        yield job_ids[first : first + ONE_STATEMENT]
