"""T2: the owner of a claim extends its lease, and hears when it is the owner no more."""

import re
from datetime import timedelta

import pytest

from aftercommit.models import Lease
from aftercommit.values import Succeeded
from tests.store.callers import Held, answer, statements
from tests.store.given import (
    ALREADY_OVER,
    LEASE,
    MOST_CRASHES,
    claim_all,
    claim_one,
    lease_of,
    locked,
    locked_lease,
    lost_claim,
    ready_job,
    ready_jobs,
    state,
)

LONGER = timedelta(hours=1)


def renew(store, *claims, lease=LONGER):
    return store.renew(claims, lease=lease)


def test_a_renewed_lease_counts_from_now(store):
    job_id = ready_job(store)
    claim = claim_one(store)

    assert renew(store, claim) == {job_id: False}

    assert lease_of(claim).lease_until >= claim.claimed_at + LONGER
    assert store.rescue(max_crashes=MOST_CRASHES) == []


def test_a_lease_that_was_over_lives_again_if_nobody_rescued_the_job(store):
    ready_job(store)
    claim = claim_one(store, lease=ALREADY_OVER)

    renew(store, claim)

    assert store.rescue(max_crashes=MOST_CRASHES) == []
    assert store.finish(claim, Succeeded())


def test_all_claims_of_a_process_are_renewed_at_once(store):
    ready_jobs(store, 20)
    claims = claim_all(store, lease=ALREADY_OVER)

    assert renew(store, *claims) == {claim.job_id: False for claim in claims}

    assert store.rescue(max_crashes=MOST_CRASHES) == []


def test_renewing_nothing_is_nothing(store):
    assert store.renew([], lease=LEASE) == {}


def test_the_owner_hears_that_someone_asked_for_the_end(store):
    wanted, unwanted = ready_jobs(store, 2)
    claims = claim_all(store)

    store.cancel([unwanted])

    assert renew(store, *claims) == {wanted: False, unwanted: True}


def test_a_rescued_claim_does_not_come_back(store):
    ready_job(store)
    claim = claim_one(store, lease=ALREADY_OVER)
    store.rescue(max_crashes=MOST_CRASHES)

    assert renew(store, claim) == {}

    assert lease_of(claim) is None


def test_a_late_worker_does_not_extend_the_lease_of_the_one_that_took_over(store):
    ready_job(store)
    late, current = lost_claim(store)
    before = lease_of(current).lease_until

    assert renew(store, late) == {}

    assert lease_of(current).lease_until == before
    assert renew(store, current) == {current.job_id: False}


def test_what_is_lost_and_what_is_held_are_told_apart(store):
    ready_job(store)
    late, current = lost_claim(store)
    ready_jobs(store, 2)
    held, finished = claim_all(store)
    store.finish(finished, Succeeded())

    assert renew(store, late, held, finished) == {held.job_id: False}
    assert renew(store, current, held) == {current.job_id: False, held.job_id: False}


def test_a_job_in_someones_transaction_does_not_cost_a_lease(store, new_caller, vendor):
    if vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    unlucky, lucky = ready_jobs(store, 2)
    claims = claim_all(store, lease=ALREADY_OVER)
    hesitating = Held(new_caller(), lambda: store.cancel([unlucky]))
    heart = new_caller()

    begun = heart.start(renew, store, *claims)

    assert not heart.must_wait(begun)
    assert answer(begun) == {unlucky: False, lucky: False}
    hesitating.commit()
    assert store.rescue(max_crashes=MOST_CRASHES) == []


def test_a_lease_in_someones_transaction_does_not_cost_the_other_leases(
    store, new_caller, vendor
):
    if vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    ready_jobs(store, 4)
    unlucky, *lucky = [claim_one(store, lease=ALREADY_OVER) for _ in range(4)]
    rescuing = Held(new_caller(), lambda: locked_lease(unlucky))
    heart = new_caller()

    begun = heart.start(renew, store, unlucky, *lucky)

    assert not heart.must_wait(begun)
    assert answer(begun) == {claim.job_id: False for claim in (unlucky, *lucky)}
    rescuing.commit()
    rescued = store.rescue(max_crashes=MOST_CRASHES)
    assert [one.job_id for one in rescued] == [unlucky.job_id]


def test_a_renewal_changes_one_row_and_what_it_holds_stays(store):
    ready_jobs(store, 5)
    claims = claim_all(store)
    before = lease_of(claims[0])

    with statements() as found:
        renew(store, *claims)

    after = lease_of(claims[0])
    assert Lease.objects.count() == 1
    assert (after.jobs, after.worker_id) == (before.jobs, before.worker_id)
    assert after.lease_until > before.lease_until
    written = [sql for sql, _values in found if "UPDATE" in sql]
    assert not any(re.search("UPDATE .?aftercommit_job", sql) for sql in written)


def test_only_leases_of_the_given_claims_are_renewed(store):
    ready_jobs(store, 2)
    ours, theirs = (claim_one(store, lease=ALREADY_OVER) for _ in range(2))

    renew(store, ours)

    rescued = store.rescue(max_crashes=MOST_CRASHES)
    assert [one.job_id for one in rescued] == [theirs.job_id]


def test_one_claim_that_is_left_renews_the_lease_of_all(store):
    ready_jobs(store, 3)
    last, *others = claim_all(store, lease=ALREADY_OVER)
    store.finish_many([(claim, Succeeded()) for claim in others])

    assert renew(store, last) == {last.job_id: False}

    assert store.rescue(max_crashes=MOST_CRASHES) == []


def test_the_jobs_of_a_lease_that_is_gone_are_lost(store):
    ready_jobs(store, 3)
    gone = [claim_one(store), claim_one(store)]
    held = claim_one(store)
    Lease.objects.exclude(id=held.lease_id).delete()

    assert renew(store, *gone, held) == {held.job_id: False}
    assert renew(store, *gone) == {}

    assert Lease.objects.count() == 1
    assert {state(store, claim.job_id) for claim in gone} == {"running"}


def test_a_job_that_was_rescued_is_lost_although_its_lease_goes_on(store):
    ready_jobs(store, 2)
    claims = claim_all(store, lease=ALREADY_OVER)
    (rescued,) = store.rescue(max_crashes=MOST_CRASHES, limit=1)
    (kept,) = {claim.job_id for claim in claims} - {rescued.job_id}

    assert renew(store, *claims) == {kept: False}
    current = claim_one(store)

    assert renew(store, *claims) == {kept: False}
    assert renew(store, current) == {rescued.job_id: False}


def test_a_renewal_does_not_overtake_a_rescuer(store, new_caller, vendor):
    """It has the lease to itself, also if a job of it is not free."""
    if vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    ready_jobs(store, 2)
    busy, free = claim_all(store, lease=ALREADY_OVER)
    running = Held(new_caller(), lambda: locked(busy.job_id))
    rescuing = Held(new_caller(), lambda: store.rescue(max_crashes=MOST_CRASHES))
    owner = new_caller()

    begun = owner.start(renew, store, busy, free)

    assert not owner.must_wait(begun)
    assert answer(begun) == {busy.job_id: False, free.job_id: False}
    rescuing.commit()
    running.commit()
    assert [one.job_id for one in rescuing.result] == [free.job_id]
    rescued = store.rescue(max_crashes=MOST_CRASHES)
    assert [one.job_id for one in rescued] == [busy.job_id]
    assert renew(store, busy, free) == {}
