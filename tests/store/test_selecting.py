"""Jobs are found by what is true of them, and changed only while it is."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.utils import timezone

from aftercommit.ids import new_job_id
from aftercommit.models import Job, State
from aftercommit.store import selecting
from aftercommit.store.criteria import STATES, Criteria
from aftercommit.values import Failed, RunError, Succeeded
from tests.store.callers import statements
from tests.store.given import ERROR, claim_all, claim_one, job, ready_job, ready_jobs, state

FAILED, READY = Criteria(states=("failed",)), Criteria(states=("ready",))
LIVE = Criteria(states=("ready", "running"))


def found(store, wanted, **given):
    return [job_id for ids in store.find(wanted, **given) for job_id in ids]


def failed_jobs(store, count, *, error=ERROR, **given):
    ids = ready_jobs(store, count, queue="failing", **given)
    for claim in claim_all(store, limit=count, queue="failing"):
        store.finish(claim, Failed(error))
    return sorted(ids)


def one_of_each(store):
    ready_jobs(store, 4)
    running, done, bad, _cancelled = claim_all(store)
    store.finish(done, Succeeded())
    store.finish(bad, Failed(ERROR))
    Job.objects.filter(id=_cancelled.job_id).update(
        state="cancelled", unsuccessful=True, finished_at=timezone.now()
    )
    ids = {
        "running": running.job_id,
        "succeeded": done.job_id,
        "failed": bad.job_id,
        "cancelled": _cancelled.job_id,
        "ready": ready_job(store),
    }
    assert {name: state(store, job_id) for name, job_id in ids.items()} == {
        name: name for name in ids
    }
    return ids


def test_the_states_are_those_of_the_table():
    assert tuple(State.values) == STATES


@pytest.mark.parametrize("states", [(one,) for one in STATES] + [("failed", "ready"), STATES])
def test_by_state(store, states):
    ids = one_of_each(store)

    assert set(found(store, Criteria(states=states))) == {ids[one] for one in states}
    assert store.count(Criteria(states=states)) == len(states)


def test_a_ready_job_that_cannot_be_claimed_now_is_found_too(store):
    job_id = ready_job(store)
    Job.objects.update(claimable=False)

    assert found(store, READY) == [job_id]


@pytest.mark.parametrize(
    ("given", "criteria"),
    [
        ({"queue": "mail"}, {"queue": "mail"}),
        ({"task_path": "shop.tasks.send"}, {"task_paths": ("shop.tasks.send",)}),
    ],
    ids=str,
)
def test_by_queue_and_by_task_as_they_are_written(store, given, criteria):
    wanted = ready_job(store, **given)
    ready_job(store)
    ready_job(store, **{name: value.upper() for name, value in given.items()})

    assert found(store, Criteria(**criteria)) == [wanted]


def test_by_how_long_they_have_been_there(store):
    old, _new = ready_job(store), ready_job(store)
    Job.objects.filter(id=old).update(enqueued_at=timezone.now() - timedelta(hours=2))

    for before in (timedelta(hours=1), timezone.now() - timedelta(hours=1)):
        assert found(store, Criteria(enqueued_before=before)) == [old]


def test_by_how_long_ago_they_have_ended(store):
    old, new = failed_jobs(store, 2)
    Job.objects.filter(id=old).update(finished_at=timezone.now() - timedelta(hours=2))
    ready_job(store)

    for before in (timedelta(hours=1), timezone.now() - timedelta(hours=1)):
        assert found(store, Criteria(finished_before=before)) == [old]
    assert found(store, Criteria(finished_before=timedelta(0))) == [old, new]
    for never in (timedelta.max, datetime.min.replace(tzinfo=UTC)):
        assert found(store, Criteria(enqueued_before=never)) == []
    for_ever = Criteria(enqueued_before=datetime.max.replace(tzinfo=UTC) - timedelta(days=2))
    assert len(found(store, for_ever)) == 3


@pytest.mark.parametrize("text", ['No "such" card', "50 % of", "a_b", "Größe\nnull", "ABC"])
def test_by_a_part_of_an_error_as_it_is_written(store, text):
    trace = f"Traceback:\nValueError: {text}"
    error = RunError(exception_class_path="builtins.ValueError", traceback=trace)
    (wanted,) = failed_jobs(store, 1, error=error)
    failed_jobs(store, 1, error=RunError(exception_class_path="A", traceback=trace.swapcase()))
    failed_jobs(store, 1, error=RunError(exception_class_path="A", traceback="50 x of axb"))

    assert found(store, Criteria(error_contains=text)) == [wanted]


def test_no_statement_reads_more_than_a_window(store, monkeypatch):
    monkeypatch.setattr(selecting, "ONE_WINDOW", 10)
    monkeypatch.setattr(selecting, "ONE_BATCH", 4)
    ids = sorted(ready_jobs(store, 25))
    wanted = [ids[0], *ids[20:]]
    Job.objects.filter(id__in=wanted).update(queue="mail")

    batches = list(store.find(Criteria(queue="mail")))

    assert [job_id for some in batches for job_id in some] == wanted
    assert max(map(len, batches)) <= 4
    assert found(store, Criteria(queue="mail"), after=ids[20]) == ids[21:]
    assert store.count(Criteria(queue="mail")) == 6


def test_many_failed_jobs_are_ready_again_after_a_few_statements(store):
    ids = failed_jobs(store, 100)

    with statements() as sent:
        answered = store.retry_among(ids, FAILED)

    assert answered.ready == set(ids)
    assert len(sent) <= 6  # BEGIN, lock, update, notify, COMMIT


def test_a_job_that_somebody_else_retries_just_now_is_not_retried_twice(store, other):
    """It was ready again, and running, between the read and the write."""
    (job_id,) = failed_jobs(store, 1)

    def overtake():
        store.retry([job_id])
        return claim_one(store, queue="failing")

    (ids,) = store.find(FAILED)
    claim = other.do(overtake)
    answered = store.retry_among(ids, FAILED)

    assert answered.ready == set()
    assert (job(store, job_id).state, job(store, job_id).attempts) == ("running", 1)
    assert store.finish(claim, Succeeded())


def test_a_job_that_starts_just_now_is_not_cancelled_when_only_ready_ones_are_wanted(
    store, other
):
    job_id = ready_job(store)
    (ids,) = store.find(READY)
    claim = other.do(claim_one, store)

    answered = store.cancel_among(ids, READY)

    assert (answered.cancelled, answered.requested) == (set(), set())
    assert not job(store, job_id).cancel_requested
    assert store.finish(claim, Succeeded())


def test_a_running_job_is_asked_to_stop_once(store):
    job_id = ready_job(store)
    claim_one(store)

    assert store.cancel_among([job_id], LIVE).requested == {job_id}
    assert store.cancel_among([job_id], LIVE).requested == set()


def test_only_finished_jobs_are_deleted(store):
    ids = one_of_each(store)

    assert store.delete(list(ids.values()), Criteria()) == 3

    left = {name for name, job_id in ids.items() if state(store, job_id) != "gone"}
    assert left == {"ready", "running"}


def test_a_job_that_is_retried_just_now_is_not_deleted(store, other):
    (job_id,) = failed_jobs(store, 1)
    (ids,) = store.find(FAILED)
    other.do(store.retry, [job_id])

    assert store.delete(ids, FAILED) == 0
    assert state(store, job_id) == "ready"


@pytest.mark.parametrize("change", ["move", "reprioritise"])
def test_a_job_that_starts_just_now_stays_where_it_is(store, other, change):
    job_id = ready_job(store)
    (ids,) = store.find(Criteria())
    claim = other.do(claim_one, store)

    given = {"move": {"queue": "mail"}, "reprioritise": {"priority": 50}}[change]
    assert getattr(store, change)(ids, Criteria(), **given) == 0

    row = job(store, job_id)
    assert (row.queue, row.priority) == ("default", 0)
    assert store.finish(claim, Succeeded())


def test_moved_jobs_are_claimed_from_their_new_queue(store):
    ids = ready_jobs(store, 3)

    assert store.move(ids, Criteria(), queue="mail") == 3
    assert store.move(ids, Criteria(), queue="mail") == 0

    assert claim_all(store) == []
    assert {one.job_id for one in claim_all(store, queue="mail")} == set(ids)


def test_messages_for_brokers_are_not_moved(store):
    message = ready_job(store, queue="relay.celery")

    assert store.move([message], Criteria(), queue="mail") == 0
    assert job(store, message).queue == "relay.celery"


def test_reprioritised_jobs_are_claimed_in_their_new_order(store):
    first, second = ready_job(store), ready_job(store)

    assert store.reprioritise([second], Criteria(), priority=10) == 1

    assert [claim_one(store).job_id, claim_one(store).job_id] == [second, first]


def test_jobs_of_tasks_in_line_keep_their_place(store):
    limited = ready_job(store, limit_key="k")
    plain = ready_job(store)
    line = store.limited_tasks([limited, plain])

    assert line == [job(store, limited).task_path]
    assert store.limited_tasks([plain]) == []
    assert store.move([limited, plain], Criteria(), queue="mail", in_line=line) == 1
    assert store.reprioritise([limited, plain], Criteria(), priority=9, in_line=line) == 1
    assert (job(store, limited).queue, job(store, limited).priority) == ("default", 0)
    assert (job(store, plain).queue, job(store, plain).priority) == ("mail", 9)


def test_what_was_found_and_does_not_meet_the_criteria_any_more_is_not_shown(store):
    ids = failed_jobs(store, 2)
    store.retry(ids[:1])

    assert [one.id for one in store.jobs_among(ids, FAILED)] == ids[1:]


def test_a_row_without_an_id_that_can_be_read_is_left_out(store, vendor):
    if vendor != "sqlite":
        pytest.skip("only SQLite can store another text in the column of ids")
    wanted, odd = ready_job(store), ready_job(store)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE aftercommit_job SET id = 'zz' WHERE id = %s", [odd.hex])

    assert found(store, READY) == [wanted]


def test_no_statement_names_more_ids_than_a_batch(store):
    ids = failed_jobs(store, 3)
    given = (*(new_job_id() for _ in range(1200)), *ids)
    wanted = Criteria(ids=given, states=("failed",))

    with statements() as sent:
        assert found(store, wanted) == ids
        assert store.count(wanted) == 3
        assert found(store, wanted, after=ids[0]) == ids[1:]

    assert max(len(params or ()) for _sql, params in sent) <= selecting.ONE_BATCH + 10
    assert found(store, Criteria(ids=())) == []


def test_one_of_several_names(store):
    ids = [ready_job(store, task_path=f"shop.tasks.{name}") for name in ("old", "new", "other")]

    assert found(store, Criteria(task_paths=("shop.tasks.new", "shop.tasks.old"))) == ids[:2]
