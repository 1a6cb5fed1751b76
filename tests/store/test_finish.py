"""T3, T4, T5, T7, T8': the owner says how its run ended, and only the owner."""

import json
from datetime import timedelta
from itertools import pairwise

import pytest
from django.db import connection, transaction

from aftercommit.models import State
from aftercommit.store.finish import TRACEBACKS_KEPT
from aftercommit.values import Cancelled, Ended, Failed, Released, Retry, RunError, Succeeded
from tests.store.callers import Held, answer
from tests.store.given import (
    ALREADY_OVER,
    ERROR,
    LEASE,
    MOST_CRASHES,
    claim_all,
    claim_one,
    job,
    lost_claim,
    new_job,
    ready_job,
    ready_jobs,
    state,
)

LATER = timedelta(hours=1)
OUTCOMES = [
    Succeeded('"done"'),
    Retry(ERROR),
    Retry(ERROR, LATER),
    Failed(ERROR),
    Cancelled(ERROR),
    Released(),
    Released(LATER),
    Released(conflict=True),
]
each_outcome = pytest.mark.parametrize("outcome", OUTCOMES, ids=str)
ONE_BY_ONE = "one by one"
TOGETHER = "together"


@pytest.fixture(params=[ONE_BY_ONE, TOGETHER])
def finish(request, store):
    """Finish by either of the two ways, which must not differ."""

    def together(claim, outcome):
        return next(iter(store.finish_many([(claim, outcome)])), None)

    return store.finish if request.param == ONE_BY_ONE else together


def test_a_successful_run_leaves_its_result(store, finish):
    ready_job(store)
    claim = claim_one(store)

    assert finish(claim, Succeeded('{"total":3}'))

    row = job(store, claim.job_id)
    assert (row.state, row.return_value) == (State.SUCCEEDED, {"total": 3})
    assert (row.worker_id, row.lease_until) == (claim.worker_id, None)
    assert row.finished_at >= claim.claimed_at
    assert (row.attempts, row.error_list) == (1, [])


def test_a_failed_run_with_attempts_left_is_ready_again_with_its_error(store, finish):
    ready_job(store)
    claim = claim_one(store)

    assert finish(claim, Retry(ERROR))

    row = job(store, claim.job_id)
    assert (row.state, row.attempts, row.finished_at) == (State.READY, 1, None)
    assert (row.worker_id, row.lease_until, row.result) == (None, None, None)
    assert row.error_list == [
        {
            "exception_class_path": "builtins.ValueError",
            "traceback": "ValueError: no",
            "worker_id": str(claim.worker_id),
            "claimed_at": claim.claimed_at.isoformat(),
        }
    ]
    assert claim_one(store).attempt == 2


def test_a_retry_waits_for_its_delay_by_the_databases_clock(store, finish):
    ready_job(store)
    claim = claim_one(store)

    finish(claim, Retry(ERROR, LATER))

    assert job(store, claim.job_id).run_after >= claim.claimed_at + LATER
    assert claim_all(store) == []


def test_a_run_that_failed_for_good_is_failed(store, finish):
    ready_job(store)
    claim = claim_one(store)

    assert finish(claim, Failed(ERROR))

    row = job(store, claim.job_id)
    assert (row.state, len(row.error_list), row.worker_id) == (State.FAILED, 1, None)
    assert row.finished_at >= claim.claimed_at


def test_a_run_that_was_ended_on_request_is_cancelled(store, finish):
    ready_job(store)

    assert finish(claim := claim_one(store), Cancelled(ERROR))

    assert state(store, claim.job_id) == State.CANCELLED


def test_a_released_run_does_not_count_and_keeps_its_place(store, finish):
    first = ready_job(store)
    ready_job(store)
    claim = claim_one(store)

    assert finish(claim, Released())

    row = job(store, first)
    assert (row.state, row.attempts, row.run_after) == (State.READY, 0, claim.run_after)
    assert (row.worker_id, row.lease_until, row.error_list) == (None, None, [])
    assert claim_one(store).job_id == first


def test_a_snoozed_run_does_not_count_and_waits(store, finish):
    ready_job(store)
    claim = claim_one(store)

    finish(claim, Released(LATER))

    row = job(store, claim.job_id)
    assert row.run_after >= claim.claimed_at + LATER
    assert (row.attempts, row.conflicts) == (0, 0)


def test_a_run_that_the_database_broke_off_is_counted_apart(store, finish):
    ready_job(store)

    finish(claim_one(store), Released(conflict=True))

    again = claim_one(store)
    assert (again.attempt, again.conflicts) == (1, 1)


@each_outcome
def test_a_late_worker_cannot_overwrite_the_one_that_took_over(store, finish, outcome):
    job_id = ready_job(store)
    late, current = lost_claim(store)
    before = vars_of(job(store, job_id))

    assert not finish(late, outcome)

    assert vars_of(job(store, job_id)) == before
    assert finish(current, Succeeded("42"))
    assert job(store, job_id).return_value == 42


@each_outcome
def test_a_worker_that_was_rescued_cannot_write_although_nobody_took_over(store, finish, outcome):
    job_id = ready_job(store)
    late = claim_one(store, lease=ALREADY_OVER)
    store.rescue(max_crashes=MOST_CRASHES)
    before = vars_of(job(store, job_id))

    assert not finish(late, outcome)

    assert vars_of(job(store, job_id)) == before


@each_outcome
def test_a_run_ends_once(store, finish, outcome):
    job_id = ready_job(store)
    claim = claim_one(store)
    finish(claim, Failed(ERROR))
    before = vars_of(job(store, job_id))

    assert not finish(claim, outcome)

    assert vars_of(job(store, job_id)) == before


def vars_of(row):
    return {name: value for name, value in vars(row).items() if name != "_state"}


@pytest.mark.parametrize("outcome", [Retry(ERROR), Released()], ids=str)
def test_a_job_that_shall_end_is_not_ready_again(store, finish, outcome):
    job_id = ready_job(store, unique_key="key")
    claim = claim_one(store)
    store.cancel([job_id])

    assert finish(claim, outcome)

    row = job(store, job_id)
    assert row.state == State.CANCELLED
    assert (row.unique_lock, row.lease_until) == (None, None)
    assert row.finished_at >= claim.claimed_at


@each_outcome
@pytest.mark.parametrize("requested", [False, True])
def test_the_answer_is_the_state_that_was_written(store, finish, outcome, requested):
    job_id = ready_job(store)
    claim = claim_one(store)
    if requested:
        store.cancel([job_id])

    ended = finish(claim, outcome)

    assert ended == Ended(job_id, state(store, job_id))


def test_of_many_runs_those_are_answered_that_were_written_each_with_its_state(store):
    ids = ready_jobs(store, len(OUTCOMES))
    claims = claim_all(store)
    lost, _successor = lost_claim(store) if ready_job(store) else None
    store.cancel(ids)

    ended = store.finish_many([*zip(claims, OUTCOMES, strict=True), (lost, Succeeded())])

    assert sorted(ended) == sorted(Ended(one, state(store, one)) for one in ids)


def test_a_job_that_succeeds_although_it_should_end_has_succeeded(store, finish):
    job_id = ready_job(store)
    claim = claim_one(store)
    store.cancel([job_id])

    assert finish(claim, Succeeded())

    assert state(store, job_id) == State.SUCCEEDED


def test_a_request_that_commits_while_the_owner_waits_is_honoured(store, new_caller, vendor):
    if vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    job_id = ready_job(store)
    claim = claim_one(store)
    asking = Held(new_caller(), lambda: store.cancel([job_id]))
    owner = new_caller()
    begun = owner.start(store.finish, claim, Retry(ERROR))
    assert owner.must_wait(begun)

    asking.commit()

    assert answer(begun)
    assert state(store, job_id) == State.CANCELLED


@pytest.mark.parametrize("asked", [False, True], ids=["not asked", "asked to end"])
def test_a_write_says_in_which_state_each_job_is_now(store, asked):
    ready_jobs(store, len(OUTCOMES))
    claims = claim_all(store)
    if asked:
        store.cancel([claim.job_id for claim in claims])

    one_by_one = [store.finish(*pair) for pair in zip(claims[:3], OUTCOMES[:3], strict=True)]
    together = store.finish_many(list(zip(claims[3:], OUTCOMES[3:], strict=True)))

    written = dict(one_by_one + together)
    assert written == {claim.job_id: state(store, claim.job_id) for claim in claims}
    assert ("ready" in written.values()) is not asked


def test_several_runs_end_in_one_batch_each_in_its_own_way(store):
    ready_jobs(store, len(OUTCOMES))
    claims = claim_all(store)
    ended = list(zip(claims, OUTCOMES, strict=True))

    written = dict(store.finish_many(ended))

    states = [state(store, claim.job_id) for claim in claims]
    assert written == dict(zip([claim.job_id for claim in claims], states, strict=True))
    assert states == [
        "succeeded", "ready", "ready", "failed", "cancelled", "ready", "ready", "ready",
    ]  # fmt: skip


def test_a_batch_names_those_that_were_still_ours(store):
    ready_job(store)
    late, current = lost_claim(store)
    ready_jobs(store, 2)
    ours, finished = claim_all(store)
    store.finish(finished, Succeeded())

    ended = [(late, Failed(ERROR)), (ours, Succeeded()), (finished, Retry(ERROR))]

    assert store.finish_many(ended) == [(ours.job_id, "succeeded")]
    assert state(store, current.job_id) == "running"


def test_of_many_good_ends_those_that_come_too_late_change_nothing(store):
    ready_job(store)
    late, current = lost_claim(store)
    ready_jobs(store, 3)
    one, failed, other = claim_all(store)
    store.finish(failed, Failed(ERROR))

    ended = [(claim, Succeeded('"good"')) for claim in (late, one, failed)]
    ended.append((other, Succeeded('"better"')))

    assert dict(store.finish_many(ended)).keys() == {one.job_id, other.job_id}
    assert state(store, current.job_id) == "running"
    assert state(store, failed.job_id) == "failed"
    results = [job(store, claim.job_id).return_value for claim in (late, one, failed, other)]
    assert results == [None, "good", None, "better"]


def test_an_empty_batch_is_nothing(store):
    assert store.finish_many([]) == []


def test_two_batches_in_different_orders_do_not_deadlock(store, new_caller):
    claims = [claim_one(store) for _id in ready_jobs(store, 30)]
    ended = [(claim, Succeeded()) for claim in claims]
    first, second = new_caller(), new_caller()

    begun = [
        first.start(store.finish_many, ended),
        second.start(store.finish_many, ended[::-1]),
    ]

    finished = [answer(one) for one in begun]
    assert sorted(len(one) for one in finished) in ([0, 30], [30, 0])


def test_a_completion_is_undone_with_the_transaction_that_holds_it(store):
    job_id = ready_job(store)
    claim = claim_one(store)

    with transaction.atomic():
        assert store.finish(claim, Succeeded())
        transaction.set_rollback(True)

    assert state(store, job_id) == "running"
    assert store.finish(claim, Retry(ERROR))


@pytest.mark.parametrize("commits", [True, False])
def test_after_a_lost_answer_to_commit_the_next_write_returns_the_verdict(
    store, new_caller, commits
):
    job_id = ready_job(store)
    claim = claim_one(store)
    in_doubt = Held(new_caller(), lambda: store.finish(claim, Succeeded()))
    resolver = new_caller()
    begun = resolver.start(store.finish, claim, Retry(ERROR))
    assert resolver.must_wait(begun)

    in_doubt.commit() if commits else in_doubt.roll_back()

    assert answer(begun) is not commits
    assert state(store, job_id) == ("succeeded" if commits else "ready")


def test_errors_of_all_runs_are_kept_the_oldest_without_their_traceback(store):
    job_id = ready_job(store, max_attempts=20)
    for number in range(TRACEBACKS_KEPT + 2):
        error = RunError(exception_class_path="builtins.OSError", traceback=f"run {number}")
        store.finish(claim_one(store), Retry(error))

    entries = job(store, job_id).error_list

    assert len(entries) == TRACEBACKS_KEPT + 2
    assert [entry["traceback"] for entry in entries[:3]] == ["", "", "run 2"]
    assert entries[-1]["traceback"] == f"run {TRACEBACKS_KEPT + 1}"
    assert {entry["exception_class_path"] for entry in entries} == {"builtins.OSError"}


NASTY = "NUL \x00, a lone \ud800, 😀, a \\u0000 that is text, 'quotes', 100%, %s and ;--"


def test_any_text_comes_back_as_it_was(store, finish):
    payload = json.dumps({"args": [NASTY], "kwargs": {"of": NASTY}})
    failing, succeeding = store.insert([new_job(payload=payload), new_job(payload=payload)])
    claims = {claim.job_id: claim for claim in claim_all(store)}

    finish(claims[failing], Failed(RunError(exception_class_path=NASTY, traceback=NASTY)))
    finish(claims[succeeding], Succeeded(json.dumps(NASTY)))

    assert job(store, failing).args == [NASTY]
    assert job(store, failing).kwargs == {"of": NASTY}
    assert job(store, failing).error_list[0]["traceback"] == NASTY
    assert job(store, failing).error_list[0]["exception_class_path"] == NASTY
    assert job(store, succeeding).return_value == NASTY


@pytest.mark.parametrize("what", ["finish", "renew"])
def test_many_rows_are_looked_up_one_by_one_although_nothing_seems_to_run(store, vendor, what):
    """By its statistics the table has no running job, and a join would compare all with all."""
    if vendor != "postgresql":
        pytest.skip("a trap of PostgreSQL's planner")
    ready_jobs(store, 8_000)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE aftercommit_job")
    claims = claim_all(store, limit=500)
    plans = []

    def explain(execute, sql, params, many, context):
        if sql.startswith("EXPLAIN"):
            return execute(sql, params, many, context)
        with connection.cursor() as cursor:
            cursor.execute("EXPLAIN " + sql, params)
            plans.extend(row[0] for row in cursor.fetchall())
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explain):
        if what == "finish":
            done = store.finish_many([(claim, Succeeded()) for claim in claims])
        else:
            done = store.renew(claims, lease=LEASE).held

    assert len(done) == 500
    walks = [line for line, below in pairwise(plans) if "Seq Scan" in line and "running" in below]
    assert walks == []
