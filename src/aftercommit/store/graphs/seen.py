"""What a job waits for, and what waits for it, for people."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from django.db.models import QuerySet

from aftercommit.models import Dependency
from aftercommit.store.table import Table


class Edge(NamedTuple):
    """One of two jobs waits for the other one."""

    other: UUID
    outcome: str | None  # the state in which the one that is waited for has ended


class SeenEdges(Table):
    """Reads the table of what waits; each question is one step in an index."""

    def needs_of(self, job_id: UUID, *, limit: int) -> list[Edge]:
        """Return what a job waits for, or has waited for."""
        rows = self._seen_edges.filter(job_id=job_id).order_by("outcome", "id")
        return [Edge._make(row) for row in rows.values_list("needs_id", "outcome")[:limit]]

    def needed_by(self, job_id: UUID, *, limit: int) -> list[Edge]:
        """Return the jobs that wait for a job, or have waited for it."""
        rows = self._seen_edges.filter(needs_id=job_id).order_by("needs_id", "id")
        return [Edge._make(row) for row in rows.values_list("job_id", "outcome")[:limit]]

    def edges_among(self, job_ids: Sequence[UUID]) -> list[tuple[UUID, UUID]]:
        """Return which of some jobs need which other ones: first what is needed."""
        rows = self._seen_edges.filter(job_id__in=job_ids, needs_id__in=job_ids)
        return list(rows.values_list("needs_id", "job_id"))

    def connected(self, job_id: UUID, *, limit: int) -> list[UUID]:
        """Return up to ``limit`` jobs that a job is connected with, the nearest first.

        Pauses, which jobs of a paused task need as well, connect nothing.
        """
        found: dict[UUID, None] = {job_id: None}
        fresh = [job_id]
        while fresh and len(found) < limit:
            most = limit - len(found)
            near = self._seen_edges.filter(job_id__in=fresh, on_failure__isnull=False)
            up = near.values_list("needs_id", flat=True)[: limit * 2]
            down = self._seen_edges.filter(needs_id__in=fresh).values_list("job_id", flat=True)
            both = dict.fromkeys([*up, *down[: limit * 2]])
            fresh = [one for one in both if one not in found][:most]
            found |= dict.fromkeys(fresh)
        return list(found)

    @property
    def _seen_edges(self) -> QuerySet[Dependency]:
        return Dependency.objects.using(self.alias)
