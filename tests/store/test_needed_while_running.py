"""A call that waits for a running job whose row goes with its success."""

from contextlib import nullcontext
from datetime import timedelta

import pytest
from django.db import connection, transaction

from aftercommit.errors import NeededJobMissing
from aftercommit.models import Job
from aftercommit.places import place_of, with_limit
from aftercommit.store.criteria import Criteria
from aftercommit.store.held_up import EndsHeldUp
from aftercommit.values import (
    Cancelled,
    Edge,
    Failed,
    OnConflict,
    Retry,
    Succeeded,
    SucceededAndGone,
)
from tests.store.callers import Held, answer, at_statement
from tests.store.given import (
    ERROR,
    claim_all,
    claim_one,
    job,
    new_job,
    ready_job,
    ready_jobs,
    state,
)
from tests.store.graphs import is_free, sweep, waits

GONE = SucceededAndGone("7")
PAYLOAD = with_limit('{"args":[null],"kwargs":{}}', 1_000)
servers = pytest.mark.usefixtures("server")


def that_takes_the_result_of(store, *needed):
    """Enqueue a job that waits for others, and takes the result of the first."""
    one = new_job(waits=True, payload=PAYLOAD)
    where = place_of([("args", 0)])
    edges = [
        Edge(one.id, needs, "cancel", None if at else where) for at, needs in enumerate(needed)
    ]
    store.insert_graph([one], edges)
    return one.id


def has_got_the_result(store, job_id):
    return is_free(job_id) and job(store, job_id).args == [7]


@pytest.fixture
def server():
    """Skip on SQLite: one transaction writes at a time there."""
    if connection.vendor == "sqlite":
        pytest.skip("one transaction writes at a time")


@pytest.fixture
def taken(store):
    """Return the claim of a job that runs."""
    ready_job(store)
    return claim_one(store)


@servers
@pytest.mark.parametrize("of_the_task", [False, True])
def test_one_that_ends_before_the_commit_of_the_caller_frees_it(of_the_task, taken, store, other):
    def end():
        with transaction.atomic() if of_the_task else nullcontext():
            return store.finish(taken, GONE)

    with transaction.atomic():
        late = that_takes_the_result_of(store, taken.job_id)
        assert other.do(end) == (taken.job_id, "succeeded")

    assert has_got_the_result(store, late)


@servers
def test_of_a_batch_only_the_needed_ones_stay(store, other):
    ready_jobs(store, 4)
    claims = claim_all(store)

    with transaction.atomic():
        late = that_takes_the_result_of(store, claims[1].job_id, claims[2].job_id)
        ended = other.do(store.finish_many, [(one, GONE) for one in claims])

    assert sorted(ended) == sorted((one.job_id, "succeeded") for one in claims)
    found = [state(store, one.job_id) for one in claims]
    assert found == ["gone", "succeeded", "succeeded", "gone"]
    assert has_got_the_result(store, late)


@pytest.mark.parametrize("together", [False, True])
def test_one_that_ends_right_after_the_commit_stays(together, store, monkeypatch):
    ready_jobs(store, 1 + together)
    claims = claim_all(store)
    monkeypatch.setattr(type(store), "_need", lambda *_given: None)  # the process has died
    late = that_takes_the_result_of(store, claims[0].job_id)

    store.finish_many([(one, GONE) for one in claims])

    sweep(store)
    assert has_got_the_result(store, late)
    assert state(store, claims[-1].job_id) == ("gone" if together else "succeeded")


@servers
def test_one_whose_row_is_being_deleted_is_waited_for_and_is_missing_then(
    taken, store, other, new_caller
):
    held = Held(other, lambda: store.finish(taken, GONE))
    late = new_caller()

    begun = late.start(that_takes_the_result_of, store, taken.job_id)
    assert late.must_wait(begun)
    held.commit()

    with pytest.raises(NeededJobMissing):
        answer(begun)
    assert not Job.objects.exists()


@servers
def test_one_whose_deletion_is_rolled_back_is_waited_for(taken, store, other, new_caller):
    held = Held(other, lambda: store.finish(taken, GONE))
    late = new_caller()

    begun = late.start(that_takes_the_result_of, store, taken.job_id)
    assert late.must_wait(begun)
    held.roll_back()

    assert waits(answer(begun))
    store.finish(taken, GONE)
    assert has_got_the_result(store, answer(begun))


@servers
@pytest.mark.parametrize("statement", range(6))
def test_whenever_somebody_begins_to_need_it_nothing_is_lost(statement, taken, store, other):
    """Before a statement of the end a caller enqueues what needs the job, and commits."""
    begun = []

    def need_it():
        begun.append(other.start(that_takes_the_result_of, store, taken.job_id))
        other.must_wait(begun[0])  # or it is done

    with at_statement(statement, need_it):
        assert store.finish(taken, GONE) == (taken.job_id, "succeeded")
    if not begun:
        pytest.skip("the end has no more statements")

    try:
        late = answer(begun[0])
    except NeededJobMissing:
        assert state(store, taken.job_id) == "gone"
    else:
        sweep(store)
        assert has_got_the_result(store, late)


@servers
def test_the_caller_holds_up_no_end_but_a_deletion(store, other):
    ready_jobs(store, 2)
    claims = claim_all(store)

    with transaction.atomic():
        late = that_takes_the_result_of(store, claims[0].job_id)
        assert other.do(store.finish, claims[0], Succeeded("7"))
        assert other.do(store.finish, claims[1], Failed(ERROR))

    assert has_got_the_result(store, late)


@servers
def test_a_holder_of_a_unique_key_is_kept_as_well(store, other):
    first = ready_job(store, unique_key="once", task_path="tests.app.tasks.add")
    claim = claim_one(store)
    with transaction.atomic():
        again = new_job(unique_key="once", needed=True)
        late = new_job(waits=True, payload=PAYLOAD)
        edge = Edge(late.id, again.id, place=place_of([("args", 0)]))
        store.insert_graph([again, late], [edge], rules={again.id: OnConflict()})
        assert other.do(store.finish, claim, GONE) == (first, "succeeded")

    assert has_got_the_result(store, late.id)


@servers
@pytest.mark.parametrize("of_the_caller", [False, True])
def test_a_holder_that_goes_before_it_is_kept_is_replaced_by_the_call(
    of_the_caller, store, other, monkeypatch
):
    ready_job(store, unique_key="once", task_path="tests.app.tasks.add")
    claim = claim_one(store)
    goes_before(monkeypatch, store, other, [claim])
    again = new_job(unique_key="once", needed=True)
    late = new_job(waits=True, payload=PAYLOAD)
    edge = Edge(late.id, again.id, place=place_of([("args", 0)]))

    with transaction.atomic() if of_the_caller else nullcontext():
        placed = store.insert_graph([again, late], [edge], rules={again.id: OnConflict()})

    assert [one.job_id for one in placed] == [again.id, late.id]
    assert state(store, claim.job_id) == "gone"
    assert waits(late.id)
    store.finish(claim_one(store), GONE)
    assert has_got_the_result(store, late.id)


@servers
def test_a_holder_that_the_caller_has_named_itself_is_missing(taken, store, other, monkeypatch):
    goes_before(monkeypatch, store, other, [taken])

    with pytest.raises(NeededJobMissing):
        that_takes_the_result_of(store, taken.job_id)


def goes_before(monkeypatch, store, other, claims):
    """Let another write the successes of jobs whose rows go, just before they would be kept."""
    hold = type(store)._hold

    def goes_first(self, job_ids):
        for claim in claims:
            if claim.job_id in job_ids:
                other.do(store.finish, claim, GONE)
        return hold(self, job_ids)

    monkeypatch.setattr(type(store), "_hold", goes_first)


@servers
def test_so_is_what_a_job_waits_for_that_was_enqueued_before(taken, store, other):
    late = ready_job(store)
    with transaction.atomic():
        assert store.let_wait(late, [taken.job_id], on_failure="cancel")
        assert other.do(store.finish, taken, GONE)

    assert is_free(late)


@servers
def test_an_end_that_fails_waits_for_no_caller_and_holds_up_no_other_end(store, other):
    ready_jobs(store, 4)
    claims = claim_all(store)
    ends = [Failed(ERROR), Failed(ERROR), Succeeded("7"), Retry(ERROR)]

    with transaction.atomic():
        late = that_takes_the_result_of(store, claims[0].job_id)
        written, held_up = write_ends(other, store, list(zip(claims, ends, strict=True)))
        found = [state(store, one.job_id) for one in claims[1:]]

    assert found == ["failed", "succeeded", "ready"]
    assert written | held_up == {one.job_id for one in claims}
    assert held_up == ({claims[0].job_id} if connection.vendor == "mysql" else set())
    assert write_ends(other, store, [(claims[0], ends[0])] * bool(held_up)) == (held_up, set())
    sweep(store)
    assert state(store, late) == "cancelled"


@servers
@pytest.mark.parametrize("outcome", [Failed(ERROR), Cancelled(None), Retry(ERROR)])
def test_so_does_one_that_is_written_alone(outcome, taken, store, other):
    if isinstance(outcome, Retry):
        store.cancel([taken.job_id])

    with transaction.atomic():
        that_takes_the_result_of(store, taken.job_id)
        written, held_up = write_ends(other, store, [(taken, outcome)])

    assert len(written | held_up) == 1
    assert bool(held_up) == (connection.vendor == "mysql")
    assert not held_up or store.finish(taken, outcome)
    assert state(store, taken.job_id) in {"failed", "cancelled"}


@servers
def test_a_rescue_that_fails_a_job_waits_for_no_caller(store, other):
    ready_jobs(store, 2)
    dead, also = claim_all(store)
    blamed = {dead.job_id: "killed", also.job_id: "killed"}

    def rescue():
        rescued = store.rescue(max_crashes=1, dead_workers=[dead.worker_id], blamed=blamed)
        return {one.job_id for one in rescued if one.state == "failed"}

    with transaction.atomic():
        that_takes_the_result_of(store, dead.job_id)
        begun = other.start(rescue)
        assert not other.must_wait(begun)
        found = answer(begun)

    assert also.job_id in found
    assert found | rescue() == {dead.job_id, also.job_id}


@servers
def test_a_cancelled_job_that_its_worker_has_not_begun_waits_for_no_caller(taken, store, other):
    store.cancel([taken.job_id])

    with transaction.atomic():
        that_takes_the_result_of(store, taken.job_id)
        begun = other.start(store.release_unstarted, taken.worker_id, begun=[])
        assert not other.must_wait(begun)

    assert answer(begun) or store.release_unstarted(taken.worker_id, begun=[])
    assert state(store, taken.job_id) == "cancelled"


def write_ends(other, store, ended):
    """Let another write ends, which must not wait; return what is written and what is held up."""
    begun = other.start(store.finish_many, ended)
    assert not other.must_wait(begun)
    try:
        return {one.job_id for one in answer(begun)}, set()
    except EndsHeldUp as error:
        return {one.job_id for one in error.written}, set(error.job_ids)


@servers
@pytest.mark.parametrize("way", ["prune", "delete_ended", "delete"])
def test_a_finished_row_that_a_caller_keeps_is_left_by_those_who_delete(way, taken, store, other):
    ways = {
        "prune": lambda: store.prune(older_than=timedelta(minutes=-1)),
        "delete_ended": lambda: store.delete_ended(ended).jobs,
        "delete": lambda: store.delete([taken.job_id], Criteria()),
    }
    with transaction.atomic():
        late = that_takes_the_result_of(store, taken.job_id)
        other.do(store.finish, taken, Succeeded("7"))
        ended = store.finished_among([taken.job_id], Criteria())
        assert len(ended) == 1

        begun = other.start(ways[way])
        assert not other.must_wait(begun)
        assert answer(begun) == 0

    assert has_got_the_result(store, late)
