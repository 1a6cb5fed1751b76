"""Jobs that wait for what will never end. Nothing in here is written."""

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

from aftercommit.models import LIVE
from aftercommit.store.graphs.edges import Edges, parts


class Stuck(NamedTuple):
    """Jobs that wait in vain."""

    without_edges: list[UUID]  # nothing says what they wait for
    in_circles: list[UUID]  # they wait for each other, or for such jobs
    for_ended: list[UUID]  # what they wait for has ended or is gone, and no worker has seen it


class StuckJobs(Edges):
    """Finds jobs that nobody will free."""

    def stuck_jobs(self, *, most: int) -> Stuck:
        """Look at the first ``most`` jobs that wait for others."""
        # Not values_list(): see ``operations.prune``.
        waiting = [row.id for row in self._that_wait.order_by("id").only("id")[:most]]
        needs: defaultdict[UUID, set[UUID]] = defaultdict(set)
        known: set[UUID] = set()
        for some in parts(waiting):
            edges = self._edges.filter(job_id__in=some)
            for job_id, needs_id, outcome in edges.values_list("job_id", "needs_id", "outcome"):
                known.add(job_id)
                if outcome is None:
                    needs[job_id].add(needs_id)
        ended = self._ended_of({one for some in needs.values() for one in some})
        return Stuck(
            without_edges=[one for one in waiting if one not in known],
            in_circles=sorted(_in_circles(needs)),
            for_ended=[one for one in waiting if needs.get(one, set()) & ended],
        )

    def _ended_of(self, job_ids: set[UUID]) -> set[UUID]:
        live: set[UUID] = set()
        for some in parts(sorted(job_ids)):
            rows = self._jobs.filter(id__in=some, state__in=LIVE)
            live.update(rows.values_list("id", flat=True))
        return job_ids - live


def _in_circles(needs: Mapping[UUID, set[UUID]]) -> set[UUID]:
    """Return the jobs that wait for each other, and those that wait for one of these."""
    left = {job_id: some & needs.keys() for job_id, some in needs.items()}
    needed_by: defaultdict[UUID, list[UUID]] = defaultdict(list)
    for job_id, some in left.items():
        for one in some:
            needed_by[one].append(job_id)
    free = [job_id for job_id, some in left.items() if not some]
    while free:
        one = free.pop()
        del left[one]
        for job_id in needed_by[one]:
            left[job_id].discard(one)
            if not left[job_id]:
                free.append(job_id)
    return set(left)
