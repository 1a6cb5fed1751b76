"""What a probe reads: how many wait, for how long, and how fast they end."""

from datetime import timedelta

import pytest
from django.utils import timezone

from aftercommit.models import Job
from aftercommit.store import measuring
from aftercommit.store.clock import ago
from aftercommit.values import Succeeded
from tests.store.given import claim_all, claim_one, ready_job, ready_jobs

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def later():
    return timezone.now() + HOUR


def test_each_group_is_counted_up_to_a_limit(store):
    ready_jobs(store, 3, queue="mail")
    ready_jobs(store, 2, queue="mail", run_after=later())
    ready_jobs(store, 7, queue="mail", priority=5)

    found = {one.group.priority: (one.due, one.ready) for one in store.waiting(most=4)}

    assert found == {0: (3, 4), 5: (4, 4)}


def test_many_groups_take_several_statements(store, monkeypatch):
    monkeypatch.setattr(measuring, "GROUPS_AT_ONCE", 3)
    for number in range(7):
        ready_jobs(store, number + 1, queue=f"queue {number}")

    assert {one.group.queue: one.due for one in store.waiting(most=100)} == {
        f"queue {number}": number + 1 for number in range(7)
    }


def test_the_first_job_of_each_group_is_told_whether_it_is_due_or_not(store):
    ready_jobs(store, 2, queue="mail")
    ready_jobs(store, 2, queue="mail", priority=5)
    ready_jobs(store, 2, queue="late", run_after=later())

    heads = {one.group[1:]: one for one in store.heads()}

    assert heads.keys() == {("mail", 0), ("mail", 5), ("late", 0)}
    assert heads["late", 0].age is None
    assert heads["mail", 5].age >= timedelta(0)
    fronts = {one.group[1:]: (one.run_after, one.due, one.ready) for one in store.waiting(most=9)}
    assert {name: one.run_after for name, one in heads.items()} == {
        name: run_after for name, (run_after, _due, _ready) in fronts.items()
    }
    assert {name: numbers for name, (_at, *numbers) in fronts.items()} == {
        ("mail", 0): [2, 2],
        ("mail", 5): [2, 2],
        ("late", 0): [0, 2],
    }


def test_the_oldest_due_job_of_a_queue_and_of_all(store):
    old = ready_job(store, queue="mail")
    ready_job(store, queue="other")
    ready_job(store, queue="late", run_after=later())
    Job.objects.filter(id=old).update(run_after=ago(HOUR))

    assert HOUR <= store.oldest_due_age() < 2 * HOUR
    assert HOUR <= store.oldest_due_age("mail") < 2 * HOUR
    assert timedelta(0) <= store.oldest_due_age("other") < HOUR
    assert store.oldest_due_age("late") is None
    assert store.oldest_due_age("none") is None


def test_by_task_the_first_ones_are_counted(store):
    ready_jobs(store, 3)
    ready_jobs(store, 2, task_path="shop.tasks.send", run_after=later())

    found = {one.task_path: (one.ready, one.due) for one in store.waiting_by_task(most=100)}

    assert found == {"tests.app.tasks.add": (3, 3), "shop.tasks.send": (2, 0)}
    assert sum(one.ready for one in store.waiting_by_task(most=4)) == 4


def test_running_jobs_are_counted_by_what_they_are(store):
    ready_jobs(store, 3, queue="mail")
    claim_all(store, queue="mail", limit=2)

    assert store.running_by("queue") == {"mail": 2}
    assert store.running_by("task_path") == {"tests.app.tasks.add": 2}


def test_a_wait_is_the_time_between_due_and_claimed(store):
    waited, _retried = ready_jobs(store, 2)
    Job.objects.filter(id=waited).update(run_after=ago(HOUR), enqueued_at=ago(HOUR))
    first, second = claim_all(store)
    store.finish(first if first.job_id == waited else second, Succeeded())

    waits = store.recent_waits(within=MINUTE)

    assert len(waits) == 2
    assert waits[0] < MINUTE
    assert HOUR <= waits[1] < 2 * HOUR


def test_what_was_claimed_long_ago_is_no_sample(store):
    job_id = ready_job(store)
    store.finish(claim_one(store), Succeeded())
    Job.objects.filter(id=job_id).update(claimed_at=ago(HOUR), run_after=ago(HOUR))

    assert store.recent_waits(within=MINUTE) == []


@pytest.mark.parametrize("backlog", [0, 8])
def test_ends_are_found_before_a_backlog_too(store, monkeypatch, backlog):
    monkeypatch.setattr(measuring, "ONE_WALK", 5)
    ids = ready_jobs(store, 4)
    store.finish_many([(claim, Succeeded()) for claim in claim_all(store)])
    Job.objects.filter(id=ids[0]).update(finished_at=ago(HOUR))
    ready_jobs(store, backlog)

    ends, over = store.recent_ends(within=MINUTE)

    assert ({one.job_id for one in ends}, over) == (set(ids[1:]), MINUTE)


def test_if_there_are_more_ends_than_are_read_the_span_is_shorter(store, monkeypatch):
    monkeypatch.setattr(measuring, "ONE_WALK", 3)
    ids = ready_jobs(store, 5)
    store.finish_many([(claim, Succeeded()) for claim in claim_all(store)])
    for number, job_id in enumerate(sorted(ids)):
        Job.objects.filter(id=job_id).update(finished_at=ago(timedelta(seconds=50 - 10 * number)))

    ends, over = store.recent_ends(within=MINUTE)

    assert {one.job_id for one in ends} == set(sorted(ids)[2:])
    assert timedelta(seconds=30) <= over < MINUTE
