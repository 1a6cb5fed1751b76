"""What the tests of the store are given: jobs and claims, without what does not matter."""

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db.models import F

from aftercommit.models import Job, Lease
from aftercommit.store.base import Store
from aftercommit.store.clock import DatabaseNow, in_future
from aftercommit.values import Claim, ClaimQuery, NewJob, NewJobs, RunError

LEASE = timedelta(minutes=1)
ALREADY_OVER = timedelta(minutes=-1)
LONG_AGO = timedelta(days=-1)
ERROR = RunError(exception_class_path="builtins.ValueError", traceback="ValueError: no")
MOST_CRASHES = 3


def new_job(**given: Any) -> NewJob:
    """Return a job that nobody has enqueued yet."""
    return NewJob(
        **{"task_path": "tests.app.tasks.add", "payload": '{"args":[],"kwargs":{}}', **given}
    )


def ready_job(store: Store, **given: Any) -> UUID:
    """Return the id of an enqueued job."""
    (job_id,) = store.insert([new_job(**given)])
    return job_id


def ready_jobs(store: Store, count: int, **given: Any) -> list[UUID]:
    """Return the ids of several enqueued jobs."""
    return store.insert([new_job(**given) for _ in range(count)])


def insert_alike(store: Store, jobs: list[NewJob]) -> list[UUID]:
    """Insert jobs that differ only in id and payload, told so; return their ids."""
    store.insert_alike(
        NewJobs(
            ids=[str(one.id) for one in jobs],
            payloads=[one.payload for one in jobs],
            like=replace(jobs[0], payload=""),
        )
    )
    return [one.id for one in jobs]


def claim_all(
    store: Store, *, limit: int = 100, queue: str = "default", **given: Any
) -> list[Claim]:
    """Claim whatever is due."""
    given = {"worker_id": uuid4(), "lease": LEASE, **given}
    return store.claim(ClaimQuery(queue=queue, limit=limit, **given))


def claim_one(store: Store, **given: Any) -> Claim:
    """Claim one job, which must be there."""
    (claim,) = claim_all(store, limit=1, **given)
    return claim


def old_claim(store: Store, job_id: UUID, *, lease: timedelta, worker_id: UUID) -> None:
    """Claim a job as a worker of version 0.1 does, which knows neither flag nor Lease."""
    Job.objects.filter(id=job_id).update(
        state=Job.State.RUNNING,
        token=F("token") + 1,
        attempts=F("attempts") + 1,
        worker_id=worker_id,
        lease_until=in_future(lease),
        claimed_at=DatabaseNow(),
        started_at=DatabaseNow(),
    )


def lost_claim(store: Store) -> tuple[Claim, Claim]:
    """Return a claim that was lost, and the present one on the same job."""
    late = claim_one(store, lease=ALREADY_OVER)
    store.rescue(max_crashes=MOST_CRASHES)
    return late, claim_one(store)


def job(store: Store, job_id: UUID) -> Job:
    """Return a job that must be there, as it is now."""
    found = store.job(job_id)
    assert found is not None
    return found


def state(store: Store, job_id: UUID) -> str:
    """Return a job's state; "gone" without a row."""
    found = store.job(job_id)
    return "gone" if found is None else str(found.state)


def lease_of(claim: Claim) -> Lease | None:
    """Return the lease of a claim as it is now, or None."""
    return Lease.objects.filter(id=claim.lease_id).first()


def locked(*job_ids: UUID) -> list[Job]:
    """Lock jobs, as anyone may who has them in a transaction."""
    return list(Job.objects.select_for_update().filter(id__in=job_ids))


def locked_lease(claim: Claim) -> list[Lease]:
    """Lock the lease of a claim, as a rescuer does."""
    return list(Lease.objects.select_for_update().filter(id=claim.lease_id))
