"""Who publishes messages, and who leaves them alone."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from aftercommit import queues
from aftercommit.enqueue.batches import BatchCall
from aftercommit.enqueue.outcomes import Snooze
from aftercommit.errors import ClaimLost, ConfigurationError, TimedOut
from aftercommit.models import Job
from aftercommit.options.worker import NO_MESSAGES, RELAY_ONLY, RELAY_TOO, WorkerConfig
from aftercommit.relay import publish as relay_module
from aftercommit.relay.brokers import broker_for
from aftercommit.relay.brokers.base import Away
from aftercommit.relay.publish import publish
from aftercommit.values import NewJob
from aftercommit.worker.claiming import broker_backoff
from aftercommit.worker.quota import RunQuota
from aftercommit.worker.worker import Worker
from tests.app.tasks import add
from tests.brokers.conftest import run_relay
from tests.brokers.shop import note


@pytest.mark.parametrize(
    ("relay", "done"),
    [
        (NO_MESSAGES, {"default"}),
        (RELAY_TOO, {"default", "relay.celery"}),
        (RELAY_ONLY, {"relay.celery"}),
    ],
)
@pytest.mark.parametrize("queues", [[], ["default"]])
def test_a_worker_publishes_messages_if_it_is_told_to(relay, done, queues, redis, relayed):
    relayed("celery", queues=queues)
    with transaction.atomic():
        note.delay("a")
        add.enqueue(1, 2)
    config = WorkerConfig(backends=("default",), relay=relay, drain=True)
    Worker(config, quota=RunQuota(None)).run()

    assert set(Job.objects.filter(state="succeeded").values_list("queue", flat=True)) == done


def test_messages_that_0_1_0_has_kept_are_published_and_new_ones_name_the_same_task(
    relayed, monkeypatch, store
):
    relayed("celery")
    published = []

    def publish_many(contents, ended):
        for number, content in contents.items():
            published.append(content.get("old", "new"))
            ended(number, None)

    monkeypatch.setattr(broker_for("celery"), "publish_many", publish_many)
    arguments = {"broker": "celery", "message_id": "m1", "content": {"old": "old"}}
    payload = json.dumps({"args": [], "kwargs": arguments})
    path = "aftercommit.relay.publish"
    store.insert([NewJob(task_path=path, queue="relay.celery", payload=payload)])
    with transaction.atomic():
        note.delay("a")

    assert run_relay() == 2

    assert sorted(published) == ["new", "old"]
    assert set(Job.objects.values_list("task_path", "state")) == {(path, "succeeded")}


@pytest.mark.parametrize("at_run_time", [True, False])
def test_so_many_messages_are_published_at_once_as_their_broker_takes(
    relayed, monkeypatch, at_run_time
):
    relayed("celery", **({} if at_run_time else {"queue_limits": {"relay.celery": 3}}))
    if at_run_time:
        queues.limit(broker="celery", limit=3, using="default")
    running = []

    def publish_many(contents, ended):
        running.append(Job.objects.filter(queue="relay.celery", state="running").count())
        for number in contents:
            ended(number, None)

    monkeypatch.setattr(broker_for("celery"), "publish_many", publish_many)
    with transaction.atomic():
        for number in range(10):
            note.delay(str(number))

    assert run_relay() == 10

    assert max(running) <= 3


def test_without_the_option_there_is_nothing_to_relay(transactional_db):
    with pytest.raises(CommandError, match=r"no backend of TASKS has OPTIONS\['relay'\]"):
        call_command("aftercommit", "relay", "--drain")


def test_a_worker_is_told_in_one_of_three_words():
    with pytest.raises(ConfigurationError, match="expected only, too or no, got 'perhaps'"):
        WorkerConfig(relay="perhaps")


@pytest.mark.parametrize(("flags", "said"), [([], True), (["--relay"], False)])
def test_a_worker_says_that_somebody_else_must_publish(flags, said, redis, relayed):
    relayed("celery")
    heard = StringIO()
    call_command("aftercommit", "worker", "--backend", "default", "--drain", *flags, stderr=heard)

    assert ("Messages for celery are not published by this worker" in heard.getvalue()) == said


def publish_one(broker):
    """Publish a message as the relay does; raise what it ends with."""
    call = BatchCall([], {"broker": broker, "message_id": "m1", "content": {}})
    publish([call])
    if call.end.error is not None:
        raise call.end.error


@pytest.mark.parametrize("error", [Away("refused"), TimedOut()])
def test_a_broker_that_does_not_answer_costs_no_attempt(relayed, monkeypatch, error):
    relayed("celery")

    def refuse(_content):
        raise error

    monkeypatch.setattr(broker_for("celery"), "publish", refuse)
    try:
        with pytest.raises(Snooze):
            publish_one("celery")
        assert broker_backoff.is_backing_off("relay.celery")
    finally:
        broker_backoff.resume("relay.celery")
        relay_module._in_vain.clear()


@pytest.mark.parametrize("broker", ["huey", "elsewhere", "os.path"])
def test_a_row_for_a_library_that_is_not_named_fails_and_imports_nothing(relayed, broker):
    relayed("celery")
    with pytest.raises(ConfigurationError, match="which no OPTIONS"):
        publish_one(broker)


@pytest.mark.parametrize(
    "row",
    [{}, {"broker": ["celery"]}, {"content": "text"}, {"message_id": None}, {"ordering_key": {}}],
)
def test_a_row_that_cannot_be_read_does_not_hold_up_the_others(relayed, monkeypatch, row):
    relayed("celery")
    good = {"broker": "celery", "message_id": "m1", "content": {}}
    bad = {**good, **row} if row else {}
    published, ends = [], {}
    monkeypatch.setattr(broker_for("celery"), "publish", published.append)
    monkeypatch.setattr(broker_for("celery"), "publish_many", broker_for("celery").publish_each)
    relay_module.publish_many(
        [bad, good], lambda number, error, value=None: ends.update({number: error})
    )

    assert (type(ends[0]), ends[1]) == (ValueError, None)
    assert published == [{}]


def test_a_worker_that_has_lost_its_messages_does_not_publish_them_one_by_one(
    redis, relayed, monkeypatch
):
    relayed("celery")
    with transaction.atomic():
        for word in "abc":
            note.delay(word)
    published, ends = [], {}

    def lost(_contents, _told):
        raise ClaimLost

    monkeypatch.setattr(broker_for("celery"), "publish_many", lost)
    monkeypatch.setattr(broker_for("celery"), "publish", published.append)
    calls = [row.kwargs for row in Job.objects.all()]
    relay_module.publish_many(
        calls, lambda number, error, value=None: ends.update({number: error})
    )

    assert published == []
    assert [type(error) for error in ends.values()] == [ClaimLost] * 3
