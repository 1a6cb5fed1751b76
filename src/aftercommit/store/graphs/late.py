"""A job that was enqueued before waits for others as well: the last job of a group."""

from collections.abc import Collection, Sequence
from uuid import UUID

from aftercommit.errors import GraphError
from aftercommit.models import UNSUCCESSFUL, Blocked, State
from aftercommit.store.graphs.edges import ONE_STATEMENT
from aftercommit.store.graphs.inserting import GraphInserting
from aftercommit.values import RUN, Edge

# Several callers may add edges to the same job at once. Whoever frees it passes it over
# meanwhile, and so does a claim. Who is to change the row locks it for itself at once: two that
# share the lock could not.
SHARED = {"postgresql": " FOR SHARE", "mysql": " LOCK IN SHARE MODE", "sqlite": ""}

MOST_SEEN = 100_000  # jobs, in the search for circles
Held = tuple[str, int | None, int]  # the state of a job, why it is not claimable, its attempts


class LateEdges(GraphInserting):
    """Adds edges to a job that waits, or could be claimed."""

    def let_wait(
        self, job_id: UUID, needs: Collection[UUID], *, on_failure: str | None = None
    ) -> bool:
        """Let a job that has not begun wait for others; return False if it has begun.

        ``on_failure``: what becomes of it if one of them does not succeed; None: as its other
        edges say, and ``run`` without any. A job that has ended because of another one gets the
        edges as well: they count when it is retried by hand. Raises ``GraphError`` if one of the
        others waits for this job.
        """
        with self._write():
            found = self._held(job_id)
            if found is None:
                return False
            state, blocked, attempts = found
            if state not in (State.READY, *UNSUCCESSFUL) or attempts:
                return False  # it has begun, and may wait for its retry
            if state == State.READY and blocked != Blocked.JOBS:
                self._keep_back(job_id)
            how = on_failure or self._usual(job_id)
            edges = self._edges.filter(job_id=job_id)
            if len(needs) <= ONE_STATEMENT:
                edges = edges.filter(needs_id__in=needs)
            known = edges.values_list("needs_id", flat=True)
            new = sorted(set(needs).difference(known, [job_id]))
            self._check_no_circle(job_id, new)
            met = self._hold(new)
            self._insert_edges([Edge(job_id, one, how) for one in new])
            self._meet(met)
        return True

    def _held(self, job_id: UUID) -> Held | None:
        """Lock a job until the transaction ends; return what it is, None if it has no row."""
        waits = self._that_wait.filter(id=job_id).exists()
        found = self._held_shared(job_id) if waits else None
        if found is None or found[:2] != (State.READY, Blocked.JOBS):
            found = self._held_alone(job_id)
        return found

    def _held_shared(self, job_id: UUID) -> Held | None:
        lock = SHARED[self.connection.vendor]
        pk = self._jobs.model._meta.pk.get_db_prep_value(job_id, self.connection)
        with self.connection.cursor() as cursor:
            sql = f"SELECT state, blocked, attempts FROM aftercommit_job WHERE id = %s{lock}"  # noqa: S608
            cursor.execute(sql, [pk])
            found: Held | None = cursor.fetchone()
        return found

    def _held_alone(self, job_id: UUID) -> Held | None:
        rows = self._locked(self._jobs.filter(id=job_id))
        return next(iter(rows.values_list("state", "blocked", "attempts")), None)

    def _keep_back(self, job_id: UUID) -> None:
        """Take a job that is locked out of the claim's index."""
        ready = self._jobs.filter(id=job_id, state=State.READY)
        ready.update(blocked=Blocked.JOBS, claimable=False, line=None, waits_for=1)

    def _check_no_circle(self, job_id: UUID, needs: Sequence[UUID]) -> None:
        """Look at what these jobs wait for, and those in turn, up to a number of jobs."""
        seen, left = set(needs), list(needs)
        while left and len(seen) < MOST_SEEN:
            some, left = left[:ONE_STATEMENT], left[ONE_STATEMENT:]
            found = set(self._open.filter(job_id__in=some).values_list("needs_id", flat=True))
            if job_id in found:
                raise GraphError(
                    f"job {job_id} would wait for jobs that wait for it, as the last job of a "
                    "group does for each that is added",
                    fix="let none of them wait for that job, or enqueue them outside the group.",
                )
            left += found - seen
            seen |= found

    def _usual(self, job_id: UUID) -> str:
        found = self._edges.filter(job_id=job_id).values_list("on_failure", flat=True).first()
        return found or RUN
