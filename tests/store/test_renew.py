"""T2: the owner of a claim extends its lease, and hears when it is the owner no more."""

from datetime import timedelta

import pytest

from aftercommit.values import Succeeded
from tests.store.callers import Held, answer
from tests.store.given import (
    ALREADY_OVER,
    LEASE,
    MOST_CRASHES,
    claim_all,
    claim_one,
    job,
    lost_claim,
    ready_job,
    ready_jobs,
)

LONGER = timedelta(hours=1)


def renew(store, *claims, lease=LONGER):
    return store.renew(claims, lease=lease)


def test_a_renewed_lease_counts_from_now(store):
    job_id = ready_job(store)
    claim = claim_one(store)

    assert renew(store, claim) == {job_id: False}

    assert job(store, job_id).lease_until >= claim.claimed_at + LONGER
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

    assert job(store, claim.job_id).lease_until is None


def test_a_late_worker_does_not_extend_the_lease_of_the_one_that_took_over(store):
    ready_job(store)
    late, current = lost_claim(store)
    before = job(store, current.job_id).lease_until

    assert renew(store, late) == {}

    assert job(store, current.job_id).lease_until == before
    assert renew(store, current) == {current.job_id: False}


def test_what_is_lost_and_what_is_held_are_told_apart(store):
    ready_job(store)
    late, current = lost_claim(store)
    ready_jobs(store, 2)
    held, finished = claim_all(store)
    store.finish(finished, Succeeded())

    assert renew(store, late, held, finished) == {held.job_id: False}
    assert renew(store, current, held) == {current.job_id: False, held.job_id: False}


def test_one_row_in_someones_transaction_does_not_cost_the_other_leases(
    store, new_caller, vendor
):
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
    rescued = store.rescue(max_crashes=MOST_CRASHES)
    assert [one.job_id for one in rescued] == [unlucky]
