"""T9: an operator gives failed and cancelled jobs a second life; their zombies stay fenced."""

import pytest
from django.db import transaction

from aftercommit.ids import new_job_id
from aftercommit.models import Job, State
from aftercommit.values import Failed, Retry, Succeeded
from tests.store.callers import Held, answer
from tests.store.given import (
    ALREADY_OVER,
    ERROR,
    MOST_CRASHES,
    claim_all,
    claim_one,
    job,
    ready_job,
    ready_jobs,
    state,
)


def failed_job(store, **given):
    job_id = ready_job(store, **given)
    store.finish(claim_one(store), Failed(ERROR))
    return job_id


def test_a_failed_job_is_ready_again_with_all_its_attempts(store):
    job_id = failed_job(store)
    before = job(store, job_id)

    answered = store.retry([job_id])

    assert (answered.ready, answered.clashed) == ({job_id}, set())
    row = job(store, job_id)
    assert (row.state, row.attempts, row.crashes, row.conflicts) == (State.READY, 0, 0, 0)
    assert (row.finished_at, row.result, row.cancel_requested) == (None, None, False)
    assert row.run_after >= before.run_after
    assert row.error_list == before.error_list
    assert claim_one(store).attempt == 1


def test_a_cancelled_job_is_ready_again(store):
    job_id = ready_job(store)
    store.cancel([job_id])

    assert store.retry([job_id]).ready == {job_id}
    assert claim_one(store).job_id == job_id


def test_a_job_in_quarantine_gets_all_its_crashes_back(store):
    job_id = ready_job(store)
    claim_one(store, lease=ALREADY_OVER)
    store.rescue(max_crashes=1, blamed={job_id: "exit status 1"})

    store.retry([job_id])

    assert claim_one(store).crashes == 0


def test_the_token_goes_on_counting_so_a_zombie_of_the_first_life_stays_fenced(store):
    job_id = ready_job(store)
    zombie = claim_one(store, lease=ALREADY_OVER)
    store.rescue(max_crashes=1, blamed={job_id: "exit status 1"})
    store.retry([job_id])
    current = claim_one(store)

    assert not store.finish(zombie, Succeeded())
    assert store.renew([zombie], lease=ALREADY_OVER).held == {}

    assert current.token == zombie.token + 1
    assert store.finish(current, Succeeded())


def test_jobs_that_are_ready_running_or_done_are_left_alone(store):
    ready_jobs(store, 2)
    running, done = claim_all(store)
    store.finish(done, Succeeded("1"))
    ready, unknown = ready_job(store), new_job_id()

    answered = store.retry([running.job_id, done.job_id, ready, unknown])

    assert (answered.ready, answered.clashed) == (set(), set())
    states = [state(store, one) for one in (running.job_id, done.job_id, ready)]
    assert states == ["running", "succeeded", "ready"]
    assert job(store, running.job_id).attempts == 1


def test_a_job_whose_key_is_taken_is_reported_and_the_others_are_ready(store):
    clashing, free = failed_job(store, unique_key="key"), failed_job(store)
    holder = ready_job(store, unique_key="key")

    answered = store.retry([clashing, free])

    assert (answered.ready, answered.clashed) == ({free}, {clashing})
    assert [state(store, one) for one in (clashing, free, holder)] == ["failed", "ready", "ready"]


def test_a_clash_costs_the_callers_transaction_nothing(store):
    clashing, free = failed_job(store, unique_key="key"), failed_job(store)
    ready_job(store, unique_key="key")

    with transaction.atomic():
        answered = store.retry([clashing, free])
        assert Job.objects.count() == 3

    assert answered.ready == {free}
    assert state(store, free) == "ready"


def test_of_two_failed_jobs_with_one_key_one_is_ready(store):
    first = failed_job(store, unique_key="key")
    second = failed_job(store, unique_key="key")

    answered = store.retry([first, second])

    assert len(answered.ready) == len(answered.clashed) == 1
    assert answered.ready | answered.clashed == {first, second}


@pytest.mark.parametrize("commits", [True, False])
def test_a_key_that_someone_is_about_to_take_is_waited_for(store, new_caller, commits):
    job_id = failed_job(store, unique_key="key")
    taking = Held(new_caller(), lambda: ready_job(store, unique_key="key"))
    operator = new_caller()
    begun = operator.start(store.retry, [job_id])
    assert operator.must_wait(begun)

    taking.commit() if commits else taking.roll_back()

    answered = answer(begun)
    assert (answered.clashed == {job_id}) is commits
    assert (answered.ready == {job_id}) is not commits


def test_two_operators_give_one_second_life(store, new_caller):
    job_id = failed_job(store)
    first = Held(new_caller(), lambda: store.retry([job_id]))
    second = new_caller()
    begun = second.start(store.retry, [job_id])
    assert second.must_wait(begun)

    first.commit()

    assert first.result.ready == {job_id}
    assert answer(begun).ready == set()


def test_a_second_life_is_undone_with_the_callers_transaction(store):
    job_id = failed_job(store)

    with transaction.atomic():
        store.retry([job_id])
        transaction.set_rollback(True)

    assert state(store, job_id) == "failed"
    assert claim_all(store) == []


def test_a_retried_job_can_crash_and_retry_like_any_other(store):
    job_id = failed_job(store)
    store.retry([job_id])
    claim_one(store, lease=ALREADY_OVER)
    store.rescue(max_crashes=MOST_CRASHES)

    store.finish(claim_one(store), Retry(ERROR))

    assert job(store, job_id).attempts == 2
