"""Celery's messages: each way to send one is part of the transaction."""

import json
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from uuid import uuid4

import pytest
from celery import chain, chord, group
from celery.app.trace import build_tracer
from celery.beat import ScheduleEntry, Scheduler
from celery.exceptions import Reject, Retry
from celery.schedules import schedule
from django.db import transaction
from django.utils import timezone
from kombu.exceptions import OperationalError

from aftercommit.models import Job
from aftercommit.stored import read_headers
from aftercommit.worker.claiming import broker_backoff
from tests.app.models import Effect
from tests.brokers.addresses import broker_url, is_there, queue_name
from tests.brokers.conftest import kept, run_relay
from tests.brokers.shop import (
    app,
    at_once,
    from_rabbit,
    note,
    rabbit,
    to_nobody,
    tries_again,
    unreachable,
)
from tests.brokers.shop import kept as always_kept


def by_beat(task=note):
    """Send a task as Celery's beat does, with a producer of its own."""
    entry = ScheduleEntry(
        name="nightly", task=task.name, args=["a"], schedule=schedule(10), app=task.app
    )
    with task.app.connection_for_write() as connection:
        producer = task.app.amqp.Producer(connection, auto_declare=False)
        return Scheduler(app=task.app, lazy=True).apply_async(entry, producer, advance=False)


@contextmanager
def running(task, task_id="the-task"):
    """Be inside a task that a worker runs."""
    task.push_request(id=task_id, retries=0, called_directly=False, args=["a"], kwargs={})
    try:
        yield task
    finally:
        task.pop_request()


def retried():
    """Ask for another run, and go on; return the result to come."""
    task_id = str(uuid4())
    with running(note, task_id):
        note.retry(countdown=1, throw=False)
    return note.AsyncResult(task_id)


WAYS = {
    "delay": lambda: note.delay("a"),
    "apply_async": lambda: note.apply_async(args=["a"], countdown=10),
    "send_task": lambda: app.send_task("shop.note", ["a"]),
    "signature": lambda: note.s("a").delay(),
    "signature by name": lambda: app.signature("shop.note", ["a"]).apply_async(),
    "set": lambda: note.s("a").set(priority=3).apply_async(),
    "chain": lambda: chain(note.si("a"), note.si("b")).apply_async(),
    "group": lambda: group(note.s("a"), note.s("b")).apply_async(),
    "chord": lambda: chord([note.si("a"), note.si("b")], note.si("c")).apply_async(),
    "chunks": lambda: note.chunks([("a",), ("b",)], 1).apply_async(),
    "map": lambda: note.map(["a", "b"]).apply_async(),
    "retry(throw=False)": retried,
    "beat": by_beat,
}


@pytest.fixture
def queue(redis):
    """Return a function that reads the messages in the broker."""

    def messages():
        lists = redis.keys(f"{queue_name('celery')}*")  # one for each priority
        return [json.loads(one) for name in lists for one in reversed(redis.lrange(name, 0, -1))]

    return messages


def ids(messages):
    return sorted(one["headers"]["id"] for one in messages)


@pytest.mark.parametrize("way", WAYS)
def test_a_message_is_published_after_the_commit(way, queue, relayed):
    relayed("celery")
    with transaction.atomic():
        result = WAYS[way]()
        assert queue() == []
    assert queue() == []
    messages = [job.meta["message_id"] for job in kept()]
    assert result.id in messages or result.children or result.parent
    assert {job.queue for job in kept()} == {"relay.celery"}
    run_relay()

    assert ids(queue()) == sorted(messages)
    assert kept() == []


@pytest.mark.parametrize("way", WAYS)
def test_after_a_rollback_there_is_none(way, queue, relayed):
    relayed("celery")
    with transaction.atomic():
        WAYS[way]()
        transaction.set_rollback(True)
    run_relay()

    assert queue() == []


def test_what_is_published_is_what_celery_itself_would_have_sent(queue, relayed):
    relayed("celery")
    options = {"countdown": 30, "expires": 600, "priority": 4, "headers": {"tenant": "x"}}
    note.apply_async(["é"], {}, **options)
    with transaction.atomic():
        note.apply_async(["é"], {}, **options)
    run_relay()
    direct, relayed_one = queue()

    for message in (direct, relayed_one):
        for name in ("id", "root_id", "eta", "expires"):
            assert message["headers"].pop(name)
        for name in ("correlation_id", "delivery_tag", "expiration"):
            assert message["properties"].pop(name)
    assert relayed_one == direct


def test_the_moment_is_that_of_the_call(queue, relayed, redis):
    relayed("celery")
    with transaction.atomic():
        note.apply_async(["a"], countdown=60)
    (job,) = kept()
    run_relay()

    (message,) = queue()
    assert message["headers"]["eta"] == job.kwargs["content"]["publishes"][0]["headers"]["eta"]


def test_a_task_may_say_when_it_is_kept(queue, relayed):
    relayed("celery")
    always_kept.delay("a")
    assert [job.meta["name"] for job in kept()] == ["shop.kept"]
    with transaction.atomic():
        at_once.delay("a")
        assert len(queue()) == 1


def test_a_registry_of_tasks_need_not_be_a_dict(queue, relayed, monkeypatch):
    class Registry:
        def __getitem__(self, name):
            raise KeyError(name)

        def __contains__(self, name):
            return False

    relayed("celery")
    monkeypatch.setattr(app, "_tasks", Registry())
    with transaction.atomic():
        result = app.send_task("shop.elsewhere", ["a"])
    assert [job.meta["message_id"] for job in kept()] == [result.id]


@pytest.mark.parametrize(("when", "outside", "inside"), [("always", 1, 1), ("never", 0, 0)])
def test_the_settings_say_when_messages_are_kept(when, outside, inside, queue, relayed):
    relayed("celery", relay_when=when)
    note.delay("a")
    assert len(kept()) == outside
    with transaction.atomic():
        note.delay("b")
    assert len(kept()) == outside + inside


def test_outside_a_transaction_celery_publishes_as_ever(queue, relayed):
    relayed("celery")
    result = note.delay("a")

    assert ids(queue()) == [result.id]
    assert kept() == []


@pytest.mark.parametrize("when", ["in_transaction", "always"])
def test_the_message_of_a_retry_survives_the_rollback_that_it_causes(queue, relayed, when):
    """``raise self.retry()`` out of ``atomic()``: else the task would never run again."""
    relayed("celery", relay_when=when)
    with running(note), pytest.raises(Retry), transaction.atomic():
        raise note.retry(countdown=1)

    assert ids(queue()) == ["the-task"]


# ---- a broker that is away --------------------------------------------------------------


def back(monkeypatch):
    """Let the broker that is away come back, and the messages be due."""
    monkeypatch.setattr(unreachable.conf, "broker_url", broker_url("redis"))
    broker_backoff.resume("relay.celery")
    Job.objects.update(run_after=timezone_long_ago())


def timezone_long_ago():
    return timezone.now() - timedelta(hours=1)


def test_a_message_whose_broker_is_away_waits_and_spends_no_attempt(queue, relayed, monkeypatch):
    relayed("celery")
    result = to_nobody.delay("a")  # raises without us
    for _try in range(3):
        assert run_relay() == 0
        broker_backoff.resume("relay.celery")
        Job.objects.update(run_after=timezone_long_ago())
    (job,) = kept()
    assert (job.meta["message_id"], job.attempts, job.error_list) == (result.id, 0, [])

    back(monkeypatch)
    assert run_relay() == 1

    assert ids(queue()) == [result.id]


@pytest.mark.parametrize("throw", [True, False])
def test_a_retry_is_not_lost_because_the_broker_is_away(queue, relayed, monkeypatch, throw):
    """Celery rejects the message of the task otherwise."""
    relayed("celery")
    with running(to_nobody), pytest.raises(Retry) if throw else nullcontext():
        to_nobody.retry(countdown=1, throw=throw)
    assert [job.meta["message_id"] for job in kept()] == ["the-task"]

    back(monkeypatch)
    run_relay()

    (message,) = queue()
    assert (message["headers"]["id"], message["headers"]["retries"]) == ("the-task", 1)


@pytest.mark.parametrize("swallowed", [False, True], ids=["raised", "swallowed"])
def test_a_retry_out_of_a_transaction_is_not_lost_because_the_broker_is_away(
    queue, relayed, monkeypatch, swallowed
):
    """Kept when the rollback is over, as part of no transaction."""
    relayed("celery")
    request = {"id": "the-task", "retries": 0, "delivery_info": {}}
    trace = build_tracer(tries_again.name, tries_again, app=unreachable)
    trace("the-task", (swallowed,), {}, request)

    assert Effect.objects.count() == (1 if swallowed else 0)
    assert [job.meta["message_id"] for job in kept()] == ["the-task"]
    trace("another", (swallowed,), {}, request | {"id": "another"})
    assert [job.meta["message_id"] for job in kept()] == ["the-task", "another"]

    back(monkeypatch)
    run_relay()
    assert ids(queue()) == ["another", "the-task"]
    assert {message["headers"]["retries"] for message in queue()} == {1}


def test_a_retry_that_must_not_be_kept_is_rejected_by_celery(redis, relayed):
    relayed("celery", relay_when="never")
    with running(tries_again), pytest.raises(Reject), transaction.atomic():
        tries_again.retry(countdown=1)
    assert kept() == []


def test_what_beat_sends_is_not_lost_because_the_broker_is_away(queue, relayed, monkeypatch):
    relayed("celery")
    result = by_beat(to_nobody)
    assert queue() == []

    back(monkeypatch)
    run_relay()

    assert ids(queue()) == [result.id]


def test_whoever_says_never_hears_that_the_broker_is_away(redis, relayed):
    relayed("celery", relay_when="never")
    with pytest.raises(OperationalError):
        to_nobody.delay("a")
    assert kept() == []


def test_inside_a_transaction_nobody_notices_that_the_broker_is_away(queue, relayed, monkeypatch):
    relayed("celery")
    with transaction.atomic():
        results = [to_nobody.delay(word) for word in "abc"]
    back(monkeypatch)
    run_relay()

    assert ids(queue()) == sorted(one.id for one in results)


def test_one_that_cannot_be_published_fails_and_blocks_nobody(queue, relayed):
    relayed("celery")
    with transaction.atomic():
        note.delay("broken")
        note.delay("good")
    broken = kept()[0]
    broken.payload = broken.payload.replace('"routing_key": ', '"routing_keys": ')
    broken.attempts = broken.max_attempts - 1
    broken.save()
    run_relay()

    broken.refresh_from_db()
    assert broken.state == "failed"
    assert "routing_key" in broken.error_list[-1]["traceback"]
    assert len(queue()) == 1


# ---- RabbitMQ ---------------------------------------------------------------------------


def test_messages_reach_rabbitmq(rabbitmq, relayed):
    relayed("celery")
    with transaction.atomic():
        results = [from_rabbit.delay(word) for word in "abc"]
    assert rabbitmq.get() is None
    run_relay()

    published = [rabbitmq.get() for _one in results]
    assert sorted(one.headers["id"] for one in published) == sorted(one.id for one in results)
    assert {one.decode()[0][0] for one in published} == set("abc")
    assert rabbitmq.get() is None


def test_a_message_that_rabbitmq_does_not_confirm_is_kept(rabbitmq, relayed, monkeypatch):
    """A full queue refuses; without confirms nobody would hear of it."""
    relayed("celery")
    full = {"x-max-length": 1, "x-overflow": "reject-publish"}
    rabbitmq.delete()
    rabbitmq.queue_arguments = full
    rabbitmq.declare()
    queue = rabbit.amqp.queues[queue_name("rabbit")]
    monkeypatch.setattr(queue, "queue_arguments", full)
    with transaction.atomic():
        for word in "abc":
            from_rabbit.delay(word)
    run_relay()

    assert len(kept()) == 2
    assert rabbitmq.get() is not None
    assert rabbitmq.get() is None


def test_one_message_that_rabbitmq_refuses_does_not_hold_up_the_others(rabbitmq, relayed):
    """RabbitMQ closes the channel of all because of the one; each is asked for alone then."""
    relayed("celery")
    with transaction.atomic():
        results = [from_rabbit.delay(word) for word in "abcde"]
    wrong = kept()[2]
    payload = wrong.payload.replace('"exchange": ""', '"exchange": "nowhere"')
    assert payload != wrong.payload
    Job.objects.filter(id=wrong.id).update(payload=payload)
    run_relay()

    (left,) = kept()
    assert left.id == wrong.id
    assert "no exchange 'nowhere'" in left.errors
    found = set()
    while message := rabbitmq.get():
        found.add(message.headers["id"])
    assert found == {one.id for one in results} - {results[2].id}


def test_a_message_that_cannot_be_published_at_all_does_not_hold_up_the_others(rabbitmq, relayed):
    relayed("celery")
    with transaction.atomic():
        results = [from_rabbit.delay(word) for word in "abc"]
    wrong = kept()[1]
    Job.objects.filter(id=wrong.id).update(payload=wrong.payload.replace('"text"', '"test"'))
    run_relay()

    (left,) = kept()
    assert left.id == wrong.id
    assert "KeyError" in left.errors
    found = {rabbitmq.get().headers["id"] for _one in "ac"}
    assert found == {results[0].id, results[2].id}
    assert rabbitmq.get() is None


@pytest.fixture
def rabbitmq():
    """Return the queue of the app on RabbitMQ, which is removed afterwards."""
    if not is_there("rabbitmq"):
        pytest.skip("no RabbitMQ answers")
    with rabbit.connection_for_read() as connection:
        queue = rabbit.amqp.queues[queue_name("rabbit")](connection.default_channel)
        queue.declare()
        yield queue
        queue.delete()


def test_a_kept_message_has_the_headers_of_its_enqueuer(relayed, queue):
    def trace(enqueuing):
        assert (enqueuing.broker, enqueuing.task) == ("celery", None)
        return {"traceparent": f"of {enqueuing.name}", "id": "not of ours"}

    relayed("celery", headers=[trace])
    with transaction.atomic():
        result = note.delay("a")

    (job,) = kept()
    headers = job.kwargs["content"]["publishes"][0]["headers"]
    assert headers["traceparent"] == f"of {note.name}"
    assert headers["id"] == result.id  # what Celery has written stays
    assert read_headers(job.headers)["traceparent"] == headers["traceparent"]
    run_relay()
    (message,) = queue()
    assert message["headers"]["traceparent"] == headers["traceparent"]
