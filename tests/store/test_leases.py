"""The rows of leases: one for each claim, there as long as a job may run under it."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from aftercommit.models import Lease
from aftercommit.store.table import held_jobs
from aftercommit.values import Failed, Position, Retry, Succeeded
from tests.store.callers import Held, answer
from tests.store.given import (
    ALREADY_OVER,
    ERROR,
    LEASE,
    MOST_CRASHES,
    claim_all,
    claim_one,
    job,
    lease_of,
    locked_lease,
    ready_job,
    ready_jobs,
)

EARLY = datetime(2020, 1, 1, tzinfo=UTC)


def tokens_of(claims):
    return {claim.job_id: claim.token for claim in claims}


def test_a_claim_writes_one_lease_that_names_each_job_with_its_token(store):
    ready_job(store, priority=3)
    ready_job(store, backend="mail", priority=1)
    store.finish(claim_one(store), Retry(ERROR))
    ready_jobs(store, 3)
    Lease.objects.all().delete()

    claims = claim_all(store)

    lease = Lease.objects.get()
    assert {claim.lease_id for claim in claims} == {lease.id}
    assert {claim.worker_id for claim in claims} == {lease.worker_id}
    assert held_jobs(lease) == tokens_of(claims)
    assert sorted(claim.token for claim in claims) == [1, 1, 1, 1, 2]
    assert {job(store, claim.job_id).lease_until for claim in claims} == {None}


@pytest.mark.parametrize("how", ["only", "after"])
def test_claims_of_named_jobs_and_from_a_position_are_leased_as_well(store, how):
    first, second, third = sorted(ready_jobs(store, 3, run_after=EARLY))
    before = Position("default", 0, EARLY, first)
    given = {"only": [second, third]} if how == "only" else {"after": before}

    claims = claim_all(store, **given)

    assert {second, third} <= {claim.job_id for claim in claims}
    assert held_jobs(Lease.objects.get()) == tokens_of(claims)


def test_each_claim_has_a_lease_of_its_own(store):
    ready_jobs(store, 2)
    worker_id = uuid4()

    first, second = (claim_one(store, worker_id=worker_id) for _ in range(2))

    assert first.lease_id != second.lease_id
    assert held_jobs(lease_of(second)) == tokens_of([second])


def test_a_claim_of_nothing_leaves_no_lease(store):
    ready_job(store, task_path="app.tasks.new")

    assert claim_all(store, queue="empty") == []
    assert claim_all(store, unknown=["app.tasks.new"]) == []

    assert not Lease.objects.exists()


def test_a_run_that_ends_leaves_its_lease_alone(store):
    ready_jobs(store, 2)
    claims = claim_all(store)
    before = Lease.objects.values().get()

    store.finish(claims[0], Succeeded())
    store.finish_many([(claims[1], Failed(ERROR))])

    assert Lease.objects.values().get() == before


# ---- their end ----------------------------------------------------------------------


def ended_claims(store, count, **given):
    """Return claims whose runs have ended, each with a lease of its own."""
    ready_jobs(store, count)
    claims = [claim_one(store, **given) for _ in range(count)]
    store.finish_many([(claim, Succeeded()) for claim in claims])
    return claims


def test_leases_that_ended_are_deleted_with_the_next_claim(store):
    first, second, other = ended_claims(store, 3)
    ready_job(store)

    current = claim_one(store, ended=[first.lease_id, second.lease_id])

    assert {lease.id for lease in Lease.objects.all()} == {other.lease_id, current.lease_id}


@pytest.mark.parametrize(
    "given", [{}, {"only": []}, {"unknown": ["app.tasks.new"]}, {"queue": "empty"}], ids=str
)
def test_leases_that_ended_are_deleted_although_nothing_is_claimed(store, given):
    ended, other = ended_claims(store, 2)
    ready_job(store, queue="another")
    if given:
        ready_job(store, task_path="app.tasks.new")
    given = given if "queue" in given or "only" in given else {"queue": "default", **given}

    claims = claim_all(store, ended=[ended.lease_id], **given)

    assert [claim.task_path for claim in claims] == []
    assert Lease.objects.get().id == other.lease_id


def test_a_claim_that_is_rolled_back_deletes_no_lease(store, new_caller):
    (ended,) = ended_claims(store, 1)
    ready_job(store)
    caller = new_caller()

    Held(caller, lambda: claim_one(store, ended=[ended.lease_id])).roll_back()

    assert Lease.objects.get().id == ended.lease_id


def test_leases_can_be_ended_without_a_claim(store):
    first, second, other = ended_claims(store, 3)

    store.end_leases([first.lease_id, second.lease_id, uuid4()])
    store.end_leases([])

    assert Lease.objects.get().id == other.lease_id


@pytest.mark.parametrize("how", ["end_leases", "claim"])
def test_a_lease_that_someone_holds_is_left_and_not_waited_for(store, new_caller, vendor, how):
    if vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    held, *free = ended_claims(store, 5)
    ids = [claim.lease_id for claim in (held, *free)]
    rescuing = Held(new_caller(), lambda: locked_lease(held))
    worker = new_caller()

    if how == "claim":
        begun = worker.start(claim_all, store, ended=ids)
    else:
        begun = worker.start(store.end_leases, ids)

    assert not worker.must_wait(begun)
    answer(begun)
    rescuing.commit()
    assert [lease.id for lease in Lease.objects.all()] == [held.lease_id]


@pytest.mark.parametrize("how", ["renew", "end_leases", "rescue"])
def test_leases_of_others_are_not_waited_for(store, new_caller, vendor, how):
    """However few rows there are: a server that reads all of them would lock all of them."""
    if vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    ready_jobs(store, 4)
    theirs, *ours = [claim_one(store, lease=ALREADY_OVER) for _ in range(4)]
    rescuing = Held(new_caller(), lambda: locked_lease(theirs))
    worker = new_caller()

    if how == "renew":
        begun = worker.start(store.renew, ours, lease=LEASE)
    elif how == "rescue":
        begun = worker.start(store.rescue, max_crashes=MOST_CRASHES)
    else:
        begun = worker.start(store.end_leases, [claim.lease_id for claim in ours])

    assert not worker.must_wait(begun)
    answer(begun)
    rescuing.commit()
    left = {lease.id for lease in Lease.objects.all()}
    kept = {claim.lease_id for claim in ours} if how == "renew" else set()
    assert left == {theirs.lease_id} | kept


def test_a_lease_that_was_not_ended_is_deleted_when_it_is_over(store):
    """Its worker has died after the last of its runs."""
    ended_claims(store, 2, lease=timedelta(seconds=-5))
    (lasting,) = ended_claims(store, 1)

    assert store.rescue(max_crashes=MOST_CRASHES) == []

    assert Lease.objects.get().id == lasting.lease_id
