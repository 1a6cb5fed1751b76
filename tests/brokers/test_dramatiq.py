"""Dramatiq's messages: each way to send one is part of the transaction."""

import json
import time

import dramatiq
import pika
import pytest
from django.db import transaction
from dramatiq import group, pipeline

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


def test_messages_reach_rabbitmq(relayed, monkeypatch):
    if not is_there("rabbitmq"):
        pytest.skip("no RabbitMQ answers")
    relayed("dramatiq")
    monkeypatch.setattr(actor, "broker", on_rabbitmq)
    dramatiq.set_broker(on_rabbitmq)
    connection = pika.BlockingConnection(pika.URLParameters(broker_url("rabbitmq")))
    channel = connection.channel()
    try:
        with transaction.atomic():
            sent = [actor.send(word) for word in "abc"]
        run_relay()
        bodies = [channel.basic_get(queue_name("actors"))[2] for _one in sent]

        assert ids(json.loads(one) for one in bodies) == ids(m.asdict() for m in sent)
    finally:
        dramatiq.set_broker(on_redis)
        for ending in ("", ".DQ", ".XQ"):
            channel.queue_delete(queue_name("actors") + ending)
        connection.close()
        on_rabbitmq.close()
