"""Messages with an ordering key reach the broker in the order in which they were kept."""

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import uuid4

import pytest
from django.db import transaction

from aftercommit import Snooze, ordering_key
from aftercommit.enqueue.registry import registered
from aftercommit.models import Job
from aftercommit.options.queues import queue_in_order
from aftercommit.relay.brokers import broker_for
from aftercommit.relay.brokers.base import Away
from aftercommit.relay.outbox import PUBLISH
from aftercommit.relay.publish import LONGEST_PAUSE, publish, publish_many
from aftercommit.store import store_for
from aftercommit.store.reading import Reading
from aftercommit.values import ClaimQuery, Failed, Retry, RunError, Succeeded
from tests.brokers.conftest import kept, run_relay
from tests.brokers.shop import note

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def broker(relayed, redis, monkeypatch):
    """Return Celery's broker, which only notes what it is given; some words it refuses."""
    relayed("celery")
    broker = broker_for("celery")
    broker.published, broker.refused = [], {}

    def take(content):
        word = content["publishes"][0]["headers"]["argsrepr"][2:-3]
        if error := broker.refused.get(word):
            raise error
        broker.published.append(word)

    monkeypatch.setattr(broker, "publish", take)
    monkeypatch.setattr(
        broker, "publish_many", partial(broker.__class__.__mro__[1].publish_many, broker)
    )
    return broker


def send(words, key=None):
    with ordering_key(key) if key else nullcontext():
        for word in words:
            note.delay(word)


def calls(*words):
    """Return the arguments of publish_many() for those messages, in that order."""
    found = {
        row.kwargs["content"]["publishes"][0]["headers"]["argsrepr"][2:-3]: row for row in kept()
    }
    return [found[word].kwargs for word in words]


def publish_words(*words):
    ends = {}
    publish_many(
        calls(*words), lambda number, error, value=None: ends.update({words[number]: error})
    )
    return {word: type(error).__name__ for word, error in ends.items() if error is not None}


def claim(word):
    """Let another relay have a message."""
    found = Job.objects.get(meta__message_id=calls(word)[0]["message_id"])
    options = {"worker_id": uuid4(), "lease": timedelta(minutes=1), "only": [found.id]}
    (claim,) = store_for("default").claim(ClaimQuery(queue=found.queue, limit=1, **options))
    return claim


def end(word, outcome):
    assert store_for("default").finish(claim(word), outcome)


def test_a_message_waits_for_those_before_it(broker):
    send("abc", key="k")

    assert publish_words("c", "b") == {"c": "Snooze", "b": "Snooze"}
    assert broker.published == []
    assert publish_words("a") == {}
    end("a", Succeeded())
    assert publish_words("c") == {"c": "Snooze"}
    assert publish_words("c", "b") == {}
    assert broker.published == ["a", "b", "c"]


def test_other_keys_and_messages_without_one_do_not_wait(broker):
    send("ab", key="k")
    send("xy", key="other")
    with transaction.atomic():
        send("1")

    assert publish_words("b", "1", "x") == {"b": "Snooze"}
    assert sorted(broker.published) == ["1", "x"]


def test_behind_one_that_is_refused_the_others_wait_until_it_has_failed(broker):
    send("abc", key="k")
    broker.refused["a"] = ValueError("no")

    assert publish_words("a", "b", "c") == {"a": "ValueError", "b": "Snooze", "c": "Snooze"}
    assert broker.published == []
    end("a", Failed(RunError(exception_class_path="ValueError", traceback="")))
    assert publish_words("b", "c") == {}
    assert broker.published == ["b", "c"]


def test_while_the_broker_is_away_none_goes_ahead(broker):
    send("abc", key="k")
    broker.refused["a"] = Away("gone")

    assert set(publish_words("a", "b", "c").values()) == {"Snooze"}
    assert broker.published == []


def test_one_that_is_running_elsewhere_is_waited_for(broker):
    send("ab", key="k")
    claim("a")

    assert publish_words("b") == {"b": "Snooze"}


def test_with_a_key_it_is_kept_outside_a_transaction_too(broker):
    send("a", key="k")

    assert [one.queue for one in kept()] == [queue_in_order("celery")]
    assert kept()[0].meta["ordering_key"] == "k"


def test_a_relay_publishes_all_of_them_in_order(broker):
    words = [f"{number:03}" for number in range(60)]
    with transaction.atomic():
        for word in words:
            send([word], key=f"key {int(word) % 3}")
    for _turn in range(60):
        if not kept():
            break
        run_relay()
        Job.objects.filter(state="ready").update(run_after=datetime.now(UTC) - timedelta(hours=1))

    assert kept() == []
    for rest in range(3):
        of_key = [word for word in broker.published if int(word) % 3 == rest]
        assert of_key == [word for word in words if int(word) % 3 == rest]


def test_behind_one_that_is_retried_later_they_wait_until_it_is_due(broker):
    """Otherwise a long backlog of one key would be claimed in vain again and again."""
    send("ab", key="k")
    end("a", Retry(RunError(exception_class_path="ValueError", traceback=""), timedelta(hours=1)))
    spans = []

    publish_many(calls("b"), lambda _number, error, _value=None: spans.append(error.delay))

    assert spans == [LONGEST_PAUSE]
    assert broker.published == []


@pytest.fixture
def claims_in_vain(broker, monkeypatch):
    """Count the messages that the relay is given and cannot publish yet."""
    early = []
    released = Snooze.__init__

    def note_it(self, delay):
        early.append(delay)
        released(self, delay)

    monkeypatch.setattr(Snooze, "__init__", note_it)
    return early


@pytest.mark.parametrize("keys", [1, 7, 200])
def test_a_backlog_is_published_without_a_claim_in_vain(keys, broker, claims_in_vain):
    words = [f"{number:04}" for number in range(200)]
    with transaction.atomic():
        for word in words:
            send([word], key=f"key {int(word) % keys}")

    run_relay()

    assert kept() == []
    assert claims_in_vain == []
    for rest in range(keys):
        of_key = [word for word in broker.published if int(word) % keys == rest]
        assert of_key == [word for word in words if int(word) % keys == rest]


def test_of_a_backlog_only_the_oldest_are_read(broker, monkeypatch):
    read = []
    found = Reading.messages_in_order

    def note_it(self, *given, **options):
        read.append(len(rows := found(self, *given, **options)))
        return rows

    monkeypatch.setattr(Reading, "messages_in_order", note_it)
    words = [f"{number:03}" for number in range(100)]
    send(words, key="k")

    assert publish_words(*words[:5]) == {}
    assert read == [5]
    assert publish_words(words[50]) == {words[50]: "Snooze"}
    assert sum(read) < 5 + 2 * 100


def test_messages_that_come_meanwhile_are_published_in_order_too(broker):
    """Also while one is refused at first, and without a new worker."""
    send("ab", key="k")
    take, more = broker.publish, iter("cdef")

    def publish_and_send(content):
        take(content)
        for word in more:
            send(word, key="k")
            break

    broker.publish = publish_and_send

    run_relay()

    assert broker.published == list("abcdef")


@pytest.mark.parametrize("wrong", ["", "x" * 256, None, 7])
def test_a_key_must_be_a_text_that_fits(wrong):
    with pytest.raises(ValueError, match="ordering_key: expected a text"), ordering_key(wrong):
        pass


def test_the_task_that_publishes_is_found_by_its_path(broker):
    assert registered(PUBLISH).func is publish
