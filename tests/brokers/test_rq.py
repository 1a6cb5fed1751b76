"""RQ's and django-rq's jobs: each way to enqueue one is part of the transaction."""

import pickle
from datetime import UTC, datetime, timedelta

import django_rq
import pytest
from django.db import transaction
from redis.exceptions import ConnectionError
from rq.job import Job as RQJob
from rq.job import JobStatus

from aftercommit.models import Job
from aftercommit.relay.brokers import broker_for
from tests.brokers.addresses import broker_url
from tests.brokers.conftest import kept, run_relay
from tests.brokers.yard import NOWHERE, client, note, rq_nowhere, rq_queue

SPAN = timedelta(hours=1)
WAYS = {
    "enqueue": lambda queue: queue.enqueue(note, "a"),
    "by name": lambda queue: queue.enqueue("tests.brokers.yard.note", "a"),
    "at front": lambda queue: queue.enqueue(note, "a", at_front=True),
    "enqueue_call": lambda queue: queue.enqueue_call(note, args=("a",), meta={"tenant": 3}),
    "enqueue_many": lambda queue: queue.enqueue_many([queue.prepare_data(note, ("a",))])[0],
    "enqueue_job": lambda queue: queue.enqueue_job(queue.create_job(note, args=("a",))),
    "enqueue_in": lambda queue: queue.enqueue_in(SPAN, note, "a"),
    "enqueue_at": lambda queue: queue.enqueue_at(datetime.now(UTC) + SPAN, note, "a"),
}


def there(queue=rq_queue):
    """Return the ids of the jobs in Redis, waiting or scheduled."""
    return [*queue.job_ids, *queue.scheduled_job_registry.get_job_ids()]


@pytest.fixture
def site(relayed, redis):
    relayed(libraries={"rq": {"url": broker_url("redis")}})
    yield
    for job_id in there():
        RQJob.fetch(job_id, connection=client).delete()


@pytest.mark.parametrize("way", WAYS)
def test_a_job_is_enqueued_after_the_commit(way, site):
    with transaction.atomic():
        job = WAYS[way](rq_queue)
        assert there() == []
    assert there() == []
    assert [one.meta["message_id"] for one in kept()] == [job.id]
    run_relay()

    assert there() == [job.id]
    assert kept() == []


@pytest.mark.parametrize("way", WAYS)
def test_after_a_rollback_there_is_none(way, site):
    with transaction.atomic():
        WAYS[way](rq_queue)
        transaction.set_rollback(True)
    run_relay()

    assert there() == []


@pytest.mark.parametrize("way", WAYS)
def test_what_is_in_redis_is_what_rq_itself_would_have_put_there(way, site):
    direct = WAYS[way](rq_queue)
    with transaction.atomic():
        relayed = WAYS[way](rq_queue)
    run_relay()

    one, other = (client.hgetall(f"rq:job:{job.id}") for job in (direct, relayed))
    for moment in (b"created_at", b"enqueued_at"):
        assert bool(one.pop(moment, None)) == bool(other.pop(moment, None))
    assert one == other
    assert set(there()) == {direct.id, relayed.id}


def test_pickled_arguments_are_passed_on_and_never_loaded(site, monkeypatch):
    with transaction.atomic():
        job = rq_queue.enqueue(note, "a", meta={"who": "me"})
    monkeypatch.setattr(pickle, "loads", forbidden)
    monkeypatch.setattr(job.serializer, "loads", forbidden)
    run_relay()
    monkeypatch.undo()

    found = RQJob.fetch(job.id, connection=client)
    assert (found.args, found.meta) == (("a",), {"who": "me"})


def forbidden(*_):
    raise AssertionError("a pickle was loaded")


def test_a_job_waits_for_those_it_depends_on(site):
    with transaction.atomic():
        first = rq_queue.enqueue(note, "a")
        second = rq_queue.enqueue(note, "b", depends_on=first)
    for _turn in range(2):
        run_relay()
        Job.objects.update(run_after=datetime.now(UTC) - SPAN)

    assert there() == [first.id]
    assert RQJob.fetch(second.id, connection=client).get_status() == JobStatus.DEFERRED


def test_neighbours_go_in_one_pipeline(site, monkeypatch):
    pipelines = []
    real = client.__class__.pipeline

    def counted(self, *args, **options):
        pipelines.append(real(self, *args, **options))
        return pipelines[-1]

    with transaction.atomic():
        jobs = [rq_queue.enqueue(note, str(number)) for number in range(20)]
    monkeypatch.setattr(client.__class__, "pipeline", counted)
    run_relay()

    assert set(there()) == {job.id for job in jobs}
    assert len(pipelines) < len(jobs)


def test_one_that_is_at_fault_does_not_hold_up_the_others(site):
    with transaction.atomic():
        jobs = [rq_queue.enqueue(note, str(number)) for number in range(5)]
    wrong = kept()[2]
    Job.objects.filter(id=wrong.id).update(payload=wrong.payload.replace('"at_front"', '"test"'))
    run_relay()

    assert [one.id for one in kept()] == [wrong.id]
    assert "KeyError" in kept()[0].errors
    assert set(there()) == {job.id for job in jobs} - {jobs[2].id}


def test_a_job_whose_redis_is_away_waits(site, relayed):
    relayed(libraries={"rq": {"url": NOWHERE}})
    broker_for("rq").close()
    job = rq_nowhere.enqueue(note, "a")  # raises without us
    assert [one.meta["message_id"] for one in kept()] == [job.id]
    relayed(libraries={"rq": {"url": broker_url("redis")}})  # it has come back
    broker_for("rq").close()
    run_relay()

    assert there() == [job.id]


def test_whoever_says_never_hears_that_redis_is_away(site, monkeypatch):
    monkeypatch.setattr(note, "aftercommit", "never", raising=False)
    with pytest.raises(ConnectionError), transaction.atomic():
        rq_nowhere.enqueue(note, "a")


def test_django_rq_returns_the_job_at_once(relayed, redis, settings):
    settings.RQ_QUEUES = {rq_queue.name: {"URL": broker_url("redis")}}
    relayed("rq")
    send = django_rq.job(rq_queue.name)(note)
    with transaction.atomic():
        job = send.delay("a")
        assert there() == []
    assert [one.meta["message_id"] for one in kept()] == [job.id]  # it would be None
    run_relay()

    assert there() == [job.id]
    RQJob.fetch(job.id, connection=client).delete()
