"""What can be asked without changing anything."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from django.db import connection

from aftercommit.ids import new_job_id
from aftercommit.models import Job, WorkerPresence
from aftercommit.store.clock import in_future
from aftercommit.values import Succeeded
from aftercommit.version import VERSION
from tests.store.callers import statements
from tests.store.given import claim_all, claim_one, ready_job, ready_jobs

EARLY = datetime(2020, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def in_an_hour():
    return datetime.now(UTC) + timedelta(hours=1)


def test_a_job_that_nobody_enqueued_is_none(store):
    assert store.job(new_job_id()) is None


def test_due_jobs_come_in_the_order_of_their_claims(store):
    ready_job(store, run_after=in_an_hour())
    third, second = ready_job(store, priority=-1), ready_job(store)
    first = ready_job(store, priority=5, queue="mail")

    assert store.due(limit=10) == [first, second, third]
    assert store.due(limit=2) == [first, second]


def test_due_jobs_are_found_by_the_beginning_of_a_tasks_path(store):
    mail = ready_job(store, task_path="shop.tasks.mail")
    scheduled = ready_job(store, meta={"function": "shop.tasks.clean"})
    ready_job(store, task_path="blog.tasks.mail")

    assert set(store.due(limit=9, name="shop.")) == {mail, scheduled}
    assert store.due(limit=9, name="shop.tasks.cl") == [scheduled]
    assert store.due(limit=9, name="100%") == []


def test_queues_are_those_with_ready_jobs(store):
    for queue in ("mail", "export", "mail", "pošta", "a queue, with ' and %"):
        ready_job(store, queue=queue)
    ready_job(store, queue="later", run_after=in_an_hour())
    ready_job(store, queue="busy")
    claim_one(store, queue="busy")

    assert store.queues() == sorted(["a queue, with ' and %", "export", "later", "mail", "pošta"])


def test_due_groups_are_the_backends_queues_and_priorities_with_due_jobs(store):
    for priority in (-1, 0, 2):
        ready_jobs(store, 2, queue="mail", priority=priority)
        ready_job(store, queue="later", priority=priority, run_after=in_an_hour())
    ready_job(store, queue="mail", backend="slow", run_after=in_an_hour())
    ready_job(store, queue="export", backend="slow")
    ready_job(store, queue="export", backend="slow", priority=5, run_after=in_an_hour())
    ready_job(store, queue="busy")
    claim_one(store, queue="busy")

    with statements() as found:
        due = store.due_groups()

    mail = [("default", "mail", priority) for priority in (-1, 0, 2)]
    assert sorted(due) == [*mail, ("slow", "export", 0)]
    assert len(found) == 1


def test_without_due_jobs_no_group_is_due(store):
    assert store.due_groups() == []

    ready_job(store, run_after=in_an_hour())
    assert store.due_groups() == []


def crashed_jobs(store, **given):
    every = {"due_within": DAY, "queues": None, "backends": [], "unknown": [], "limit": 9}
    return store.crashed_jobs(**every | given)


def test_crashed_jobs_are_those_that_were_on_a_dead_worker(store):
    calm, due, later, low, mail, slow, new = (
        ready_job(store),
        ready_job(store, priority=1),
        ready_job(store, priority=2, run_after=in_an_hour()),
        ready_job(store, priority=-1),
        ready_job(store, queue="mail"),
        ready_job(store, backend="slow"),
        ready_job(store, task_path="app.tasks.new"),
    )
    Job.objects.exclude(id=calm).update(crashes=1)

    found = crashed_jobs(
        store, queues=["default"], backends=["default"], unknown=["app.tasks.new"]
    )

    assert [(one.job_id, one.is_due) for one in found] == [
        (later, False),
        (due, True),
        (low, True),
    ]
    assert {one.job_id for one in crashed_jobs(store)} == {due, later, low, mail, slow, new}
    soon = crashed_jobs(store, due_within=timedelta(minutes=1))
    assert later not in {one.job_id for one in soon}
    assert len(crashed_jobs(store, limit=2)) == 2


def test_without_ready_jobs_there_are_no_queues(store):
    assert store.queues() == []


def test_the_number_of_jobs_does_not_change_how_queues_are_found(store):
    ready_jobs(store, 50, queue="a")

    with statements() as found:
        assert store.queues() == ["a"]

    assert len(found) == 2  # of those that are claimable, and of those that take turns


def test_counts_tell_ready_and_running_jobs(store):
    ready_jobs(store, 5)
    running, finished = claim_all(store, limit=2)
    store.finish(finished, Succeeded())

    assert store.counts() == {"ready": 3, "running": 1}
    assert running.token == 1


def kept_message(store, message_id):
    queue, meta = "relay.celery", {"message_id": message_id, "ordering_key": "k"}
    return ready_job(store, queue=queue, meta=meta)


def test_messages_that_wait_are_found_wherever_they_stand(store):
    for message_id in ("published", "at work", "ready"):
        kept_message(store, message_id)
    published, _at_work = claim_all(store, limit=2, queue="relay.celery")
    store.finish(published, Succeeded())

    found = store.messages_in_order("relay.celery", ["k", "another"], limit=9)
    kept = {
        one: store.has_message("relay.celery", one) for one in ("published", "at work", "ready")
    }

    assert [one[:2] for one in found] == [("k", "at work"), ("k", "ready")]
    assert all(abs(due - datetime.now(UTC)) < timedelta(minutes=10) for *_, due in found)
    assert store.messages_in_order("relay.celery", ["k"], limit=1) == found[:1]
    assert kept == {"published": False, "at work": True, "ready": True}
    assert store.messages_in_order("relay.rq", ["k"], limit=9) == []
    assert not store.has_message("relay.rq", "ready")


@pytest.mark.parametrize(
    "look",
    [
        lambda store: store.messages_in_order("relay.celery", ["k"], limit=9),
        lambda store: store.has_message("relay.celery", "a"),
    ],
    ids=["in order", "one"],
)
def test_a_message_that_is_claimed_or_put_back_meanwhile_is_not_missed(store, look):
    """Between two statements it would be ready in neither, or running in neither."""
    kept_message(store, "a")
    claim_one(store, queue="relay.celery")

    with statements() as found:
        assert look(store)

    assert len(found) == 1


def test_the_age_of_the_oldest_due_job_is_measured_by_the_database(store):
    assert store.oldest_due_age() is None

    ready_job(store, run_after=in_an_hour())
    assert store.oldest_due_age() is None

    ready_job(store, run_after=EARLY)
    ready_job(store, priority=9)
    assert store.oldest_due_age() > datetime.now(UTC) - EARLY - DAY


def test_the_pulse_is_the_databases_clock_and_the_others_with_locks(store):
    ours, locked, without = uuid4(), uuid4(), uuid4()
    store.workers.announce(ours, locked=True)
    store.workers.announce(locked, locked=True)
    store.workers.announce(without, locked=False)

    first, others = store.clock_and_workers(ours)
    second, _others = store.clock_and_workers(ours)

    assert others == {locked}
    assert first.utcoffset() == timedelta(0)
    assert first <= second


def test_a_worker_is_announced_seen_and_forgotten(store):
    worker_id = uuid4()
    store.workers.announce(worker_id, locked=False)
    first = WorkerPresence.objects.get()
    store.workers.announce(worker_id, locked=True)
    store.workers.seen(worker_id)
    last = WorkerPresence.objects.get()

    store.workers.forget({worker_id})
    store.workers.forget(set())

    assert (first.id, first.locked, last.locked) == (worker_id, False, True)
    assert first.pid > 0
    assert first.started_at == last.started_at <= first.seen_at <= last.seen_at
    assert not WorkerPresence.objects.exists()


def test_a_worker_says_its_version_and_its_clock(store):
    new, old = uuid4(), uuid4()
    for worker_id in (new, old):
        store.workers.announce(worker_id, locked=False)
    WorkerPresence.objects.filter(id=old).update(clock=None, version=None)
    store.workers.seen(new)

    found = store.workers.seen_lately(within=DAY)

    assert sorted((one.version, one.ahead is None) for one in found if one.version) == [
        (VERSION, False)
    ]
    assert [one.ahead for one in found if one.version is None] == [None]
    assert abs(next(one.ahead for one in found if one.ahead is not None)) < DAY / 24
    assert store.workers.seen_lately(within=-DAY) == []


def test_workers_that_nobody_has_seen_for_long_are_forgotten(store):
    silent, lively = uuid4(), uuid4()
    for worker_id in (silent, lively):
        store.workers.announce(worker_id, locked=True)
    WorkerPresence.objects.filter(id=silent).update(seen_at=in_future(-2 * DAY))

    store.workers.forget_silent(DAY)

    assert WorkerPresence.objects.get().id == lively


def test_seen_of_a_worker_that_was_forgotten_brings_nothing_back(store):
    store.workers.seen(uuid4())

    assert not WorkerPresence.objects.exists()
    assert not connection.in_atomic_block


ALIKE = ["mail", "Mail", "mäil", "ma\u0308il", "MAIL", "mail😀", "mail😁"]


@pytest.mark.parametrize("name", ALIKE, ids=ascii)
def test_names_are_compared_by_their_bytes(name, store):
    """Whatever the collation of the database is."""
    for one in ALIKE:
        meta = {"message_id": one, "ordering_key": one, "function": f"{one}.tasks.clean"}
        ready_job(store, queue=one, backend=one, task_path=f"{one}.tasks.add", meta=meta)
        ready_job(store, queue="relay.rq", meta=meta)
    (own,) = Job.objects.filter(queue=name).values_list("id", flat=True)

    assert set(store.queues()) == {*ALIKE, "relay.rq"}
    assert [group for group in store.due_groups() if group.queue == name] == [(name, name, 0)]
    assert own in store.due(limit=99, name=f"{name}.")
    assert len(store.due(limit=99, name=f"{name}.tasks.c")) == 2  # that one, and its message
    assert len(store.due(limit=99, name=f"{name}.tasks.a")) == 1
    assert store.due(limit=99, backends=[name]) == [own]
    assert own not in store.due(limit=99, unknown=[f"{name}.tasks.add"])
    found = store.messages_in_order("relay.rq", [name], limit=99)
    assert [one[:2] for one in found if one[0] == name] == [(name, name)]
    assert store.has_message("relay.rq", name)
    Job.objects.filter(queue="relay.rq", meta__message_id=name).delete()
    assert not store.has_message("relay.rq", name)
    assert [claim.job_id for claim in claim_all(store, queue=name)] == [own]
