"""T8: a ready job is cancelled at once, a running one is asked to end."""

import pytest
from django.db import transaction

from aftercommit.ids import new_job_id
from aftercommit.models import State
from aftercommit.store.operations import ONE_WRITE
from aftercommit.values import Ended, Failed, Released, Succeeded
from tests.store.callers import Held, answer, at_statement
from tests.store.given import (
    ALREADY_OVER,
    ERROR,
    MOST_CRASHES,
    claim_all,
    claim_one,
    job,
    locked,
    ready_job,
    ready_jobs,
    state,
)


def test_a_ready_job_is_cancelled_at_once(store):
    job_id = ready_job(store, unique_key="key")

    answered = store.cancel([job_id])

    assert (answered.cancelled, answered.requested) == ({job_id}, set())
    row = job(store, job_id)
    assert (row.state, row.unique_lock, row.cancel_requested) == (State.CANCELLED, None, False)
    assert row.finished_at >= row.enqueued_at
    assert claim_all(store) == []


def test_a_running_job_is_asked_to_end_and_goes_on_until_it_does(store):
    job_id = ready_job(store)
    claim = claim_one(store)

    answered = store.cancel([job_id])

    assert (answered.cancelled, answered.requested) == (set(), {job_id})
    row = job(store, job_id)
    assert (row.state, row.cancel_requested, row.finished_at) == (State.RUNNING, True, None)
    assert (row.worker_id, row.token) == (claim.worker_id, claim.token)
    assert store.finish(claim, Succeeded())


@pytest.mark.parametrize("outcome", [Succeeded("1"), Failed(ERROR)], ids=str)
def test_a_finished_job_stays_as_it_is(store, outcome):
    job_id = ready_job(store)
    store.finish(claim_one(store), outcome)
    before = state(store, job_id)

    answered = store.cancel([job_id])

    assert (answered.cancelled, answered.requested) == (set(), set())
    assert state(store, job_id) == before
    assert not job(store, job_id).cancel_requested


def test_each_of_many_jobs_gets_its_own_answer(store):
    ready_jobs(store, 3)
    running, finished, _claimed = claim_all(store)
    store.finish(finished, Succeeded())
    ready, unknown = ready_job(store), new_job_id()

    answered = store.cancel([ready, running.job_id, finished.job_id, unknown, ready])

    assert answered.cancelled == {ready}
    assert answered.requested == {running.job_id}
    assert list(answered.ended) == [Ended(ready, "cancelled")]


def test_more_jobs_than_one_statement_names_are_all_cancelled(store):
    ids = ready_jobs(store, ONE_WRITE + 1)

    assert store.cancel(ids).cancelled == set(ids)


def test_cancelling_nothing_is_nothing(store):
    assert store.cancel([]).cancelled == set()


def test_a_job_that_starts_just_now_is_asked_to_end(store, other):
    job_id = ready_job(store)

    with at_statement(0, lambda: other.do(claim_one, store)):
        answered = store.cancel([job_id])

    assert (answered.cancelled, answered.requested) == (set(), {job_id})
    assert job(store, job_id).cancel_requested


def test_a_job_that_is_released_just_now_does_not_slip_through(store, new_caller, vendor):
    if vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    job_id = ready_job(store)
    claim = claim_one(store)
    owner = new_caller()
    begun = []

    def release():
        begun.append(owner.start(store.finish, claim, Released()))
        assert owner.must_wait(begun[0])

    with at_statement(1, release):
        answered = store.cancel([job_id])

    assert answer(begun[0])
    assert answered.requested == {job_id}
    assert state(store, job_id) == State.CANCELLED


def test_jobs_of_others_are_not_waited_for(store, new_caller, vendor):
    """InnoDB locks each row that it reads, so it must read no more than it is to change."""
    if vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    theirs, *others = ready_jobs(store, 300)
    holding = Held(new_caller(), lambda: locked(theirs))
    canceller = new_caller()

    begun = canceller.start(store.cancel, others[:3])

    assert not canceller.must_wait(begun)
    assert answer(begun).cancelled == set(others[:3])
    holding.commit()


def test_who_commits_first_wins(store, new_caller):
    job_id = ready_job(store)
    claim = claim_one(store)
    finishing = Held(new_caller(), lambda: store.finish(claim, Succeeded()))
    canceller = new_caller()
    begun = canceller.start(store.cancel, [job_id])
    assert canceller.must_wait(begun)

    finishing.commit()

    assert answer(begun).requested == set()
    assert state(store, job_id) == "succeeded"


def test_a_cancellation_is_undone_with_the_callers_transaction(store):
    ready_jobs(store, 2)
    running = claim_one(store)

    with transaction.atomic():
        store.cancel([*store.due(limit=5), running.job_id])
        transaction.set_rollback(True)

    assert not job(store, running.job_id).cancel_requested
    assert len(claim_all(store)) == 1


def test_a_request_is_forgotten_when_the_job_is_made_ready_again(store):
    job_id = ready_job(store)
    claim = claim_one(store)
    store.cancel([job_id])
    store.finish(claim, Failed(ERROR))

    store.retry([job_id])

    assert not job(store, job_id).cancel_requested


def test_a_request_outlives_the_worker(store):
    job_id = ready_job(store)
    claim_one(store, lease=ALREADY_OVER)
    store.cancel([job_id])

    store.rescue(max_crashes=MOST_CRASHES)

    assert state(store, job_id) == "cancelled"


def test_ready_jobs_with_equal_arguments_are_cancelled_together(store):
    payload, other_payload = '{"args":["a"],"kwargs":{}}', '{"args":["A"],"kwargs":{}}'
    alike = ready_jobs(store, 2, payload=payload)
    different = ready_job(store, payload=other_payload)
    elsewhere = ready_job(store, payload=payload, task_path="shop.tasks.other")

    assert len(store.cancel_equal(task_path="tests.app.tasks.add", payload=payload)) == 2

    assert [state(store, job_id) for job_id in alike] == ["cancelled", "cancelled"]
    assert [state(store, job_id) for job_id in (different, elsewhere)] == ["ready", "ready"]
