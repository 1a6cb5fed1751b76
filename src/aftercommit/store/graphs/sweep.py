"""Finds what the ends of jobs have left undone: by a walk over the edges, in bounded steps.

An end that was written by a program that knows no edges, or by SQL; two ends at the same time
whose processes have died before they looked again; a lock that somebody held meanwhile.
"""

from collections.abc import Collection, Sequence
from functools import partial
from typing import NamedTuple
from uuid import UUID

from aftercommit.models import LIVE, Blocked, State
from aftercommit.store.graphs.edges import Marked
from aftercommit.store.graphs.freeing import Freeing

FIRST = 0


class Swept(NamedTuple):
    """What one step has read."""

    after: int  # where the next step goes on; ``FIRST``: at the beginning
    waiting: bool  # jobs wait for others


class EdgeRow(NamedTuple):
    """An edge, as it was read."""

    id: int
    job_id: UUID
    needs_id: UUID
    on_failure: str
    outcome: str | None


OF_EDGES = EdgeRow._fields.index("on_failure")


class Sweeping(Freeing):
    """Sweeps edges."""

    def sweep_edges(self, *, after: int, most: int) -> Swept:
        """Look at the next ``most`` edges behind ``after``, and do what was left undone.

        Rows of pauses are read with them and passed over: a step reads no more than ``most``
        rows, by the primary key, however many jobs are set aside.
        """
        rows = self._dependencies.filter(id__gt=after).order_by("id")
        read = list(rows.values_list(*EdgeRow._fields)[:most])
        edges = [EdgeRow._make(row) for row in read if row[OF_EDGES] is not None]
        waiting = self._after_deadlock(partial(self._sweep, edges)) if edges else False
        return Swept(read[-1][0] if len(read) == most else FIRST, waiting)

    def _sweep(self, edges: Sequence[EdgeRow]) -> bool:
        ids = {one.job_id for one in edges}.union(one.needs_id for one in edges)
        rows = self._jobs.filter(id__in=ids).values_list("id", "state", "blocked")
        states = {job_id: (state, blocked) for job_id, state, blocked in rows}
        waits = [one for one in edges if states.get(one.job_id) == (State.READY, Blocked.JOBS)]
        unseen = {
            one.needs_id
            for one in waits
            if one.outcome is None and states.get(one.needs_id, ("",))[0] not in LIVE
        }
        marked = [
            Marked(one.job_id, one.needs_id, one.on_failure, one.outcome)
            for one in waits
            if one.outcome is not None
        ]
        self._forget([one.id for one in edges if one.job_id not in states])
        if unseen or marked:
            with self._write():
                followed = self._act_on(marked)
                self._pass_on(unseen.union(followed))
        return bool(waits)

    def _forget(self, edge_ids: Collection[int]) -> None:
        """Delete edges of jobs that have no row any more."""
        if edge_ids:
            self._edges.filter(id__in=edge_ids).delete()
