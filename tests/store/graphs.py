"""Graphs for the tests of the store: jobs named by letters, and who waits for whom."""

import json
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from aftercommit.models import Dependency, Job
from aftercommit.places import place_of, with_limit
from aftercommit.store.base import Store
from aftercommit.values import Edge, NewJob, Succeeded
from tests.store.given import claim_all, new_job, state

LARGE = 1_000_000
Needs = Mapping[str, Iterable[str]]
EMPTY = '{"args":[],"kwargs":{}}'


def graph(
    store: Store, needs: Needs, *, on_failure: str = "cancel", given: Mapping[str, Any] = {}
) -> dict[str, UUID]:
    """Insert a graph; return the ids by the names. ``needs``: in the order of the jobs."""
    wanted = {one for some in needs.values() for one in some}
    jobs: dict[str, NewJob] = {}
    for name, some in needs.items():
        more = given.get(name, {})
        jobs[name] = new_job(needed=name in wanted, waits=bool(list(some)), **more)
    edges = [
        Edge(jobs[name].id, jobs[one].id, on_failure)
        for name, some in needs.items()
        for one in some
    ]
    store.insert_graph(list(jobs.values()), edges)
    return {name: one.id for name, one in jobs.items()}


def with_results(store: Store, count: int, *, limit: int = LARGE, **given: Any) -> list[UUID]:
    """Insert a job whose first argument is a list of the results of others; it is the last."""
    needed = [new_job(needed=True) for _number in range(count)]
    payload = json.dumps({"args": [[None] * count], "kwargs": {}}, separators=(",", ":"))
    total = new_job(waits=True, payload=with_limit(payload, limit), **given)
    edges = [
        Edge(total.id, one.id, place=place_of([("args", 0, index)]))
        for index, one in enumerate(needed)
    ]
    store.insert_graph([*needed, total], edges)
    return [*(one.id for one in needed), total.id]


def waits(job_id: UUID) -> bool:
    """Return whether a job waits for others."""
    job = Job.objects.get(id=job_id)
    return job.waits_because == "jobs"


def is_free(job_id: UUID) -> bool:
    """Return whether a job can be claimed as any other, and has left nothing behind."""
    job = Job.objects.get(id=job_id)
    plain = job.claimable and job.waits_for == 0 and job.blocked is None
    return plain and job.state == "ready" and not edges_of(job_id)


def edges_of(job_id: UUID) -> list[Dependency]:
    """Return what a job waits for, and has waited for."""
    return list(Dependency.objects.filter(job_id=job_id).order_by("needs_id"))


def succeed(store: Store, *job_ids: UUID, result: str = "null") -> None:
    """Let jobs run, each to its good end, in one batch."""
    claims = [one for one in claim_all(store) if one.job_id in job_ids]
    assert len(claims) == len(job_ids)
    assert len(store.finish_many([(one, Succeeded(result)) for one in claims])) == len(claims)


def drain(store: Store) -> list[UUID]:
    """Let all jobs run that can; return them in the order of their runs."""
    order: list[UUID] = []
    while claims := claim_all(store):
        store.finish_many([(one, Succeeded(json.dumps(str(one.job_id)))) for one in claims])
        order += [one.job_id for one in claims]
    return order


def sweep(store: Store) -> bool:
    """Walk over all edges once; return whether jobs wait."""
    after, waiting = 0, False
    while True:
        swept = store.sweep_edges(after=after, most=3)
        waiting, after = waiting or swept.waiting, swept.after
        if not after:
            return waiting


def states(store: Store, jobs: Mapping[str, UUID]) -> dict[str, str]:
    """Return the states of a graph by the names."""
    return {name: state(store, job_id) for name, job_id in jobs.items()}
