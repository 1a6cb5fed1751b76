"""Dramatiq's messages: each way to send one is part of the transaction."""

import json
import time
from datetime import UTC, datetime, timedelta

import dramatiq
import pika
import pytest
from django.db import transaction
from dramatiq import group, pipeline

from aftercommit.models import Job
from aftercommit.relay.brokers.rabbitmq.publisher import Publisher
from tests.brokers.addresses import broker_url, is_there, queue_name
from tests.brokers.conftest import kept, run_relay
from tests.brokers.yard import actor, client, on_rabbitmq, on_redis

WAYS = {
    "send": lambda: [actor.send("a")],
    "send_with_options": lambda: [actor.send_with_options(args=("a",), delay=60_000)],
    "enqueue": lambda: [dramatiq.get_broker().enqueue(actor.message("a"))],
    "pipeline": lambda: pipeline([actor.message("a"), actor.message("b")]).run().messages[:1],
    "group": lambda: group([actor.message("a"), actor.message("b")]).run().children,
}


@pytest.fixture
def redis_queue(redis):
    """Return a function that reads the messages in Redis."""

    def messages():
        keys = client.keys(f"{on_redis.namespace}:*.msgs")
        return [json.loads(one) for key in keys for one in client.hgetall(key).values()]

    return messages


def ids(messages):
    return sorted(one["message_id"] for one in messages)


@pytest.mark.parametrize("way", WAYS)
def test_a_message_is_sent_after_the_commit(way, redis_queue, relayed):
    relayed("dramatiq")
    with transaction.atomic():
        sent = WAYS[way]()
        assert redis_queue() == []
    assert redis_queue() == []
    assert sorted(one.meta["message_id"] for one in kept()) == sorted(m.message_id for m in sent)
    run_relay()

    assert ids(redis_queue()) == sorted(one.message_id for one in sent)
    assert kept() == []


@pytest.mark.parametrize("way", WAYS)
def test_after_a_rollback_there_is_none(way, redis_queue, relayed):
    relayed("dramatiq")
    with transaction.atomic():
        WAYS[way]()
        transaction.set_rollback(True)
    run_relay()

    assert redis_queue() == []


def test_the_moment_is_that_of_the_call(redis_queue, relayed):
    relayed("dramatiq")
    before = time.time() * 1000
    with transaction.atomic():
        actor.send_with_options(args=("a",), delay=60_000)
    after = time.time() * 1000
    run_relay()

    (message,) = redis_queue()
    assert before + 59_999 <= message["options"]["eta"] <= after + 60_000
    assert message["queue_name"] == f"{queue_name('actors')}.DQ"


def test_what_is_sent_is_what_dramatiq_itself_would_have_sent(redis_queue, relayed):
    relayed("dramatiq")
    direct = actor.send("é")
    with transaction.atomic():
        relayed_one = actor.send("é")
    run_relay()

    one, other = sorted(redis_queue(), key=lambda m: m["message_id"] != direct.message_id)
    assert other["message_id"] == relayed_one.message_id
    for message in (one, other):
        assert message["options"].pop("redis_message_id")
        for name in ("message_id", "message_timestamp"):
            message.pop(name)
    assert one == other


def test_a_message_whose_broker_is_away_waits(redis_queue, relayed, monkeypatch):
    relayed("dramatiq")

    def away(*_):
        raise ConnectionRefusedError

    monkeypatch.setattr(on_redis, "do_enqueue", away, raising=False)
    sent = actor.send("a")
    assert [one.meta["message_id"] for one in kept()] == [sent.message_id]
    monkeypatch.undo()
    run_relay()

    assert ids(redis_queue()) == [sent.message_id]


@pytest.fixture
def rabbitmq(relayed, monkeypatch):
    """Return a channel to RabbitMQ, where the actor sends its messages now."""
    if not is_there("rabbitmq"):
        pytest.skip("no RabbitMQ answers")
    relayed("dramatiq")
    monkeypatch.setattr(actor, "broker", on_rabbitmq)
    dramatiq.set_broker(on_rabbitmq)
    connection = pika.BlockingConnection(pika.URLParameters(broker_url("rabbitmq")))
    channel = connection.channel()
    yield channel
    dramatiq.set_broker(on_redis)
    for ending in ("", ".DQ", ".XQ"):
        channel.queue_delete(queue_name("actors") + ending)
    on_rabbitmq.queues_pending.add(queue_name("actors"))
    connection.close()
    on_rabbitmq.close()


def send(words):
    with transaction.atomic():
        return [actor.send(word) for word in words]


def there(channel):
    found = []
    while (body := channel.basic_get(queue_name("actors"), auto_ack=True)[2]) is not None:
        found.append(json.loads(body))
    return found


def test_messages_reach_rabbitmq(rabbitmq):
    sent = send("abc")
    run_relay()

    found = {one["message_id"]: one for one in there(rabbitmq)}
    assert found == {one.message_id: json.loads(one.encode()) for one in sent}
    assert kept() == []


def test_a_message_that_rabbitmq_does_not_confirm_is_kept(rabbitmq):
    """A full queue refuses; without confirms nobody would hear of it."""
    full = {"x-max-length": 1, "x-overflow": "reject-publish"}
    rabbitmq.queue_declare(queue_name("actors"), durable=True, arguments=full)
    on_rabbitmq.queues.add(queue_name("actors"))
    on_rabbitmq.queues_pending.discard(queue_name("actors"))
    sent = send("abc")
    run_relay()

    assert len(kept()) == 2
    (found,) = ids(there(rabbitmq))
    assert found in {one.message_id for one in sent}


def test_a_queue_that_somebody_has_deleted_is_declared_again(rabbitmq):
    send("a")
    run_relay()
    assert len(there(rabbitmq)) == 1
    rabbitmq.queue_delete(queue_name("actors"))
    sent = send("bc")
    run_relay()
    assert [set(one.errors) != set("[]") for one in kept()] == [True, True]  # UnroutableError
    Job.objects.update(run_after=datetime.now(UTC) - timedelta(hours=1))
    run_relay()

    assert ids(there(rabbitmq)) == sorted(one.message_id for one in sent)


def made_unreadable(_monkeypatch, message):
    payload = message.payload.replace('"text"', '"test"')
    Job.objects.filter(id=message.id).update(payload=payload)


def made_unacceptable(monkeypatch, _message):
    """RabbitMQ closes the channel of all because of it."""
    usual = Publisher.publish

    def publish(self, *, body, properties, **more):
        properties.expiration = "soon" if b'"b"' in body else None
        usual(self, body=body, properties=properties, **more)

    monkeypatch.setattr(Publisher, "publish", publish)


@pytest.mark.parametrize(
    ("spoil", "error"),
    [(made_unreadable, "KeyError"), (made_unacceptable, "PRECONDITION_FAILED")],
    ids=["unreadable", "unacceptable"],
)
def test_one_message_at_fault_does_not_hold_up_the_others(rabbitmq, monkeypatch, spoil, error):
    sent = send("abc")
    wrong = kept()[1]
    spoil(monkeypatch, wrong)
    run_relay()

    # A copy, if the channel was closed before the first was confirmed.
    assert set(ids(there(rabbitmq))) == {sent[0].message_id, sent[2].message_id}
    (left,) = kept()
    assert (left.id, left.attempts) == (wrong.id, 1)
    assert error in left.errors


def test_what_nobody_waits_for_is_not_sent_when_the_connection_is_closed(rabbitmq):
    rabbitmq.queue_declare(queue_name("actors"), durable=True)
    publisher = Publisher(on_rabbitmq.parameters)
    publisher.publish(
        routing_key=queue_name("actors"), body=b"{}", properties=None, ended=pytest.fail
    )

    publisher.close()

    assert publisher._connection.is_closed
    assert there(rabbitmq) == []


def test_one_queue_that_cannot_be_declared_does_not_hold_up_the_others(rabbitmq):
    """It is there with other arguments, so RabbitMQ closes the channel of whoever declares it."""
    name = queue_name("elsewhere")
    other = dramatiq.actor(lambda _word: None, actor_name=name, queue_name=name)
    other.broker = on_rabbitmq
    rabbitmq.queue_declare(name, durable=True, arguments={"x-max-length": 7})
    with transaction.atomic():
        refused = other.send("x")
        sent = [actor.send(word) for word in "ab"]
    run_relay()
    rabbitmq.queue_delete(name)

    assert ids(there(rabbitmq)) == sorted(one.message_id for one in sent)
    (left,) = kept()
    assert (left.meta["message_id"], left.attempts) == (refused.message_id, 1)
    assert "PRECONDITION_FAILED" in left.errors


def test_while_rabbitmq_is_away_messages_wait(rabbitmq, monkeypatch):
    sent = send("ab")
    monkeypatch.setattr(
        on_rabbitmq, "parameters", [pika.URLParameters("amqp://guest:guest@127.0.0.1:1/%2F")]
    )
    on_rabbitmq.queues_pending.discard(queue_name("actors"))
    run_relay()
    monkeypatch.undo()

    assert [one.errors for one in kept()] == ["[]"] * len(sent)
