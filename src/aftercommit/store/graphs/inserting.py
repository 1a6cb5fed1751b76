"""T0 of graphs: jobs and their edges are inserted in one transaction."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import NamedTuple
from uuid import UUID

from aftercommit.errors import NeededJobMissing
from aftercommit.models import LIVE, Dependency, State
from aftercommit.store.graphs.freeing import Freeing
from aftercommit.store.insert import IS_FINE, Inserting
from aftercommit.store.unique import Placed
from aftercommit.values import Edge, NewJob, OnConflict

Rules = Mapping[UUID, OnConflict]  # by the id of a new job
NO_RULES: Rules = MappingProxyType({})
TRIES_AT_HOLDER = 4  # each of so many would have ended just after it was met
EDGES_AT_ONCE = 500  # in one statement, where there is no better one


class Met(NamedTuple):
    """Jobs that others are going to wait for, and that existed before."""

    ended: list[UUID]
    live: list[UUID]  # but for those that are marked as needed
    missing: list[UUID]  # without a row


class GraphInserting(Inserting, Freeing):
    """Inserts graphs."""

    def insert_graph(
        self,
        jobs: Sequence[NewJob],
        edges: Sequence[Edge],
        *,
        rules: Rules = NO_RULES,
    ) -> list[Placed]:
        """Enqueue jobs that wait for each other, or for jobs that exist; all or none.

        A job comes after those that it needs, and so does its id. Those that others wait for are
        ``needed``, those that wait are ``waits``. ``rules`` says of those with a unique
        key what is done if it has a holder: whoever waits for that job waits for the holder then.
        What a job needs may have ended already; then that has its effect at once.

        Part of the caller's transaction, or of one of its own; raises as ``insert`` does,
        ``NeededJobMissing`` for a job that does not exist, and ``JobExists`` if a rule says so.
        """
        write = partial(self._insert_graph_once, jobs, edges, rules)
        return self._once_more_if_broken(write, jobs)

    def _insert_graph_once(
        self,
        jobs: Sequence[NewJob],
        edges: Sequence[Edge],
        rules: Rules,
        *,
        repeated: bool,
    ) -> list[Placed]:
        if repeated and self._jobs.filter(id__in=[one.id for one in jobs[:1]]).exists():
            return [Placed(one.id) for one in jobs]  # only the answer to COMMIT was lost
        return self._after_deadlock(partial(self._insert_graph, jobs, edges, rules))

    def _insert_graph(
        self, jobs: Sequence[NewJob], edges: Sequence[Edge], rules: Rules
    ) -> list[Placed]:
        new = {one.id for one in jobs}
        before = {one.needs_id for one in edges}.difference(new)
        with self._write():
            met = self._hold(before)
            for missing in met.missing:
                raise NeededJobMissing(job_id=missing)
            placed, others = self._place_and_hold(jobs, rules, before)
            holders = _holders(jobs, placed)
            self._insert_edges(_through(edges, holders) if holders else edges)
            self._meet(met)
            self._meet(others)
        return placed

    def _place_and_hold(
        self, jobs: Sequence[NewJob], rules: Rules, before: Collection[UUID]
    ) -> tuple[list[Placed], Met]:
        """Insert jobs, and keep the holders of their keys; ``before`` are kept already.

        The row of a holder that runs may go with its success before it is kept. Its key is free
        then, so the job is inserted after all.
        """
        placed = self._place_all(jobs, rules)
        for _try in range(TRIES_AT_HOLDER):
            others = self._hold({*_holders(jobs, placed).values()}.difference(before))
            if not others.missing:
                return placed, others
            gone = {*others.missing}
            again = [job for job, one in zip(jobs, placed, strict=True) if one.job_id in gone]
            new = dict(zip([job.id for job in again], self._place_all(again, rules), strict=True))
            placed = [new.get(job.id, one) for job, one in zip(jobs, placed, strict=True)]
        raise NeededJobMissing(job_id=others.missing[0])

    def _place_all(self, jobs: Sequence[NewJob], rules: Rules) -> list[Placed]:
        placed = {one.id: Placed(one.id) for one in jobs}
        if free := [one for one in jobs if one.unique_key is None]:
            self._insert_free(free)
        keyed: dict[tuple[str, OnConflict], list[NewJob]] = {}
        for one in jobs:
            if one.unique_key is not None:
                rule = rules.get(one.id, IS_FINE)
                keyed.setdefault((one.task_path, rule), []).append(one)
        # The keys begin with the path: two callers lock them in the same order.
        for path, rule in sorted(keyed, key=lambda one: one[0]):
            alike = keyed[path, rule]
            found = self._place(alike, rule)
            placed |= zip((one.id for one in alike), found, strict=True)
        return list(placed.values())

    def _insert_free(self, jobs: Sequence[NewJob]) -> None:
        """Insert jobs without unique keys."""
        self._insert_rows(jobs, or_skip=False)

    def _insert_edges(self, edges: Sequence[Edge]) -> None:
        rows = [Dependency(**one._asdict()) for one in edges]
        self._dependencies.bulk_create(rows, batch_size=EDGES_AT_ONCE)

    # ---- jobs that existed before -------------------------------------------------------

    def _hold(self, job_ids: Collection[UUID]) -> Met:
        """Keep the rows of these jobs until the caller's commit; before the edges are written.

        A row that goes with its success would be gone by then. The ready ones are marked as
        needed, and no worker claims them before the commit. The end of a running one can be
        written meanwhile, see ``_keep``.
        """
        met = Met([], [], [])
        in_order = sorted(job_ids)
        for first in range(0, len(in_order), EDGES_AT_ONCE):
            self._hold_some(in_order[first : first + EDGES_AT_ONCE], met)
        return met

    def _hold_some(self, job_ids: Sequence[UUID], met: Met) -> None:
        rows = self._jobs.filter(id__in=job_ids).values_list("id", "state", "needed")
        found = {job_id: (state, needed) for job_id, state, needed in rows}
        unmarked = [one for one, (state, needed) in found.items() if state in LIVE and not needed]
        ready = [one for one in unmarked if found[one][0] == State.READY]
        marked = {*self._mark_needed(ready, State.READY)}
        left = sorted({*unmarked} - marked)
        lost = {*left}.difference(self._keep(left)) if left else set()
        there = {*self._jobs.filter(id__in=lost).values_list("id", flat=True)} if lost else lost
        for job_id in job_ids:
            if job_id not in found or job_id in lost - there:
                met.missing.append(job_id)
            elif found[job_id][0] not in LIVE or job_id in there:
                met.ended.append(job_id)
            elif job_id not in marked:
                met.live.append(job_id)

    def _keep(self, job_ids: Sequence[UUID]) -> set[UUID]:
        """Let nobody delete these live jobs before the caller's commit.

        Returns those that are still live; waits for a deletion that is not committed. Their
        ends can be written meanwhile. Here one transaction writes at a time, and to mark them at
        once holds up nobody.
        """
        return {*self._mark_needed(job_ids, *LIVE)}

    def _meet(self, met: Met) -> None:
        """Let jobs that have edges now wait for these, which may have ended, or end meanwhile."""
        if over := {*met.ended, *met.missing}:
            self._pass_on(over)
        for first in range(0, len(met.live), EDGES_AT_ONCE):
            some = met.live[first : first + EDGES_AT_ONCE]
            self._after_commit(partial(self._need, some))

    def _need(self, job_ids: Sequence[UUID]) -> None:
        """Mark live jobs as needed, now that whoever ends them can see the edges.

        Never waits: for a row that is locked, its worker is writing its end, say, the sweep
        does what is to be done.
        """
        with self._write():
            self._mark_needed(job_ids, *LIVE)
            if ended := set(job_ids).difference(self._live(job_ids)):
                self._pass_on(ended)

    def _mark_needed(self, job_ids: Sequence[UUID], *states: str) -> list[UUID]:
        """Mark those of these jobs that are not, but for those that others have locked."""
        if not job_ids:
            return []
        unmarked = self._jobs.filter(id__in=job_ids, state__in=states, needed__isnull=True)
        rows = self._locked(unmarked, skip=True).order_by("id")
        free = list(rows.values_list("id", flat=True))
        self._jobs.filter(id__in=free).update(needed=True)
        return free

    def _live(self, job_ids: Sequence[UUID]) -> list[UUID]:
        rows = self._jobs.filter(id__in=job_ids, state__in=LIVE)
        return list(rows.values_list("id", flat=True))


def _holders(jobs: Sequence[NewJob], placed: Sequence[Placed]) -> dict[UUID, UUID]:
    """Return the jobs that were met instead of new ones, by the ids of these."""
    return {job.id: one.job_id for job, one in zip(jobs, placed, strict=True) if one.holder}


def _through(edges: Iterable[Edge], holders: Mapping[UUID, UUID]) -> list[Edge]:
    """Return the edges with the jobs that hold the unique keys of new ones.

    Whoever meets a holder does not wait: it was not inserted. Two jobs may have the same holder;
    a job that waits for both has one edge.
    """
    found: dict[tuple[UUID, UUID], Edge] = {}
    for one in edges:
        if one.job_id in holders:
            continue
        edge = one._replace(needs_id=holders.get(one.needs_id, one.needs_id))
        key = (edge.job_id, edge.needs_id)
        found[key] = _joined(found[key], edge) if key in found else edge
    return list(found.values())


def _joined(one: Edge, other: Edge) -> Edge:
    places = [*json.loads(one.place or "[]"), *json.loads(other.place or "[]")]
    return one._replace(place=json.dumps(places) if places else None)
