"""How many jobs are in each state, and which of those that are ready no claim can see."""

import pytest
from django.db import connection
from django.db.models.query import ModelIterable

from aftercommit.models import Blocked, Job, State
from aftercommit.store import estimates
from aftercommit.store.states import Tally
from aftercommit.values import TASK, Failed, Succeeded
from tests.store.given import ERROR, claim_all, ready_job, ready_jobs

CHARGE, MAIL = "shop.tasks.charge", "shop.tasks.mail"
NOBODY = {"paused": {}, "limited": {}, "rated": {}, "waiting": {}}


def jobs_in_each_state(store, *, ready=3, running=2, succeeded=5, failed=4):
    ready_jobs(store, running + succeeded + failed)
    claims = iter(claim_all(store, limit=running + succeeded + failed))
    for _ in range(succeeded):
        store.finish(next(claims), Succeeded())
    for _ in range(failed):
        store.finish(next(claims), Failed(ERROR))
    ready_jobs(store, ready)


def set_aside(store, count, **given):
    store.pause(TASK, CHARGE, by="", why="")
    ids = ready_jobs(store, count, task_path=CHARGE, **given)
    store.set_aside(given.get("queue", "default"), [("default", 0)], {CHARGE})
    return ids


def park(store, count, **given):
    ids = ready_jobs(store, count, limit_key="k", **given)
    Job.objects.filter(id__in=ids).update(blocked=Blocked.LIMIT, claimable=False, waits_for=1)
    return ids


@pytest.fixture(autouse=True)
def new_table(transactional_db):
    """Give back the pages that other tests have filled: the size of the table counts here."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE aftercommit_job CASCADE")


@pytest.fixture
def seems_large(monkeypatch):
    """Let a table look as if it had too many rows to count them."""
    for one in set(estimates.ESTIMATES.values()):
        monkeypatch.setattr(one, "size", lambda _self: 10_000_000)


def test_a_small_table_is_counted(store):
    jobs_in_each_state(store)

    assert store.states(most=10_000) == {
        "ready": Tally(3),
        "running": Tally(2),
        "succeeded": Tally(5),
        "failed": Tally(4),
        "cancelled": Tally(0),
    }


def test_an_empty_table_has_none_of_any_state(store):
    assert set(store.states(most=10_000).values()) == {Tally(0)}


@pytest.mark.usefixtures("seems_large")
def test_of_a_large_table_only_what_is_beyond_the_limit_is_an_estimate(store):
    jobs_in_each_state(store)

    found = store.states(most=10)

    assert {one: found[one] for one in ("ready", "running", "failed", "cancelled")} == {
        "ready": Tally(3),
        "running": Tally(2),
        "failed": Tally(4),
        "cancelled": Tally(0),
    }
    assert found["succeeded"].is_estimate
    beyond = store.states(most=3)
    assert beyond["ready"].is_estimate and beyond["ready"].jobs >= 3
    assert beyond["failed"].is_estimate and beyond["cancelled"].is_estimate
    assert beyond["running"] == Tally(2)


@pytest.mark.usefixtures("seems_large")
def test_jobs_are_counted_where_they_are_and_none_is_read(store, monkeypatch):
    jobs_in_each_state(store)
    monkeypatch.setattr(ModelIterable, "__iter__", lambda _self: pytest.fail("jobs are read"))
    seen, _beyond = store._seen(10)
    assert (seen["ready"], seen["running"], seen["failed"]) == (3, 2, 4)


@pytest.mark.usefixtures("seems_large")
def test_jobs_that_no_claim_sees_are_ready_all_the_same(store):
    ready_job(store)
    set_aside(store, 2)
    park(store, 3)

    assert store.states(most=10)["ready"] == Tally(6)
    assert store.states(most=3)["ready"].is_estimate
    assert store.states(most=10)["succeeded"].is_estimate


def test_an_estimate_reads_a_sample_only(store, monkeypatch):
    if connection.vendor == "mysql":
        pytest.skip("the optimizer's expectation reads no rows")
    monkeypatch.setattr(estimates, "ROWIDS", 20)
    monkeypatch.setattr(estimates, "PAGES", 1)
    jobs_in_each_state(store, ready=400, running=0, succeeded=0, failed=0)
    estimate = estimates.ESTIMATES[connection.vendor](connection)
    seen = []

    def watch(execute, sql, params, many, context):
        seen.append(params)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(watch):
        found = estimate.states()

    assert set(found) == {"ready"}
    assert len(seen[-1]) == (20 if connection.vendor == "sqlite" else 1)
    assert 100 <= found["ready"] <= 4_000


def test_set_aside_and_parked_jobs_are_counted_by_queue_and_by_task(store):
    set_aside(store, 2, queue="mail")
    park(store, 3, task_path=MAIL)
    park(store, 1, task_path=CHARGE, queue="mail")
    rated = ready_jobs(store, 2, task_path=CHARGE, queue="mail", limit_key="r", rate_key="r")
    Job.objects.filter(id__in=rated).update(
        blocked=Blocked.RATE, line="r", claimable=False, waits_for=1
    )
    ready_job(store)

    assert store.held_back("queue", most=100)._asdict() == {
        "paused": {"mail": 2},
        "limited": {"default": 3, "mail": 1},
        "rated": {"mail": 2},
        "waiting": {},
    }
    assert store.held_back("task_path", most=100)._asdict() == {
        "paused": {CHARGE: 2},
        "limited": {MAIL: 3, CHARGE: 1},
        "rated": {CHARGE: 2},
        "waiting": {},
    }


def test_no_more_than_the_limit_are_counted_for_each_reason(store):
    set_aside(store, 4)
    park(store, 5)

    found = store.held_back("queue", most=3)

    assert found._asdict() == {
        "paused": {"default": 3},
        "limited": {"default": 3},
        "rated": {},
        "waiting": {},
    }


def test_a_job_that_was_cancelled_while_its_task_is_paused_is_not_held_back(store):
    first, second = set_aside(store, 2)
    store.cancel([first])

    assert store.held_back("queue", most=10).paused == {"default": 1}
    store.retry([first])  # it may be claimed again, until a worker meets it
    assert store.held_back("queue", most=10).paused == {"default": 1}
    assert store.job(second).state == State.READY


def test_a_job_that_waits_for_both_is_counted_once(store):
    (job_id,) = set_aside(store, 1)
    Job.objects.filter(id=job_id).update(blocked=Blocked.LIMIT, limit_key="k")

    assert store.held_back("queue", most=10)._asdict() == {
        "paused": {},
        "limited": {"default": 1},
        "rated": {},
        "waiting": {},
    }


def test_a_task_whose_jobs_are_being_brought_back_counts_as_paused_until_they_are(store):
    set_aside(store, 2)
    store.resume(TASK, CHARGE)
    assert store.held_back("queue", most=10).paused == {"default": 2}

    while store.bring_back(CHARGE):
        continue
    assert store.held_back("queue", most=10)._asdict() == NOBODY
