"""Records for Kafka, up to where the real producers take them over: there is no broker."""

import asyncio
import gc
import socket
import sys
from types import ModuleType

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction

from aftercommit.errors import DispatchInTransaction

pytestmark = pytest.mark.django_db(transaction=True)

NOBODY = "127.0.0.1:1"
CONFLUENT = {"bootstrap.servers": NOBODY, "log_level": 0}
TOPIC = "shop.orders"
SUBJECT = f"A record for the topic {TOPIC} of Kafka"


def by_kafka_python():
    kafka = pytest.importorskip("kafka")
    producer = kafka.KafkaProducer(
        bootstrap_servers=NOBODY, api_version=(2, 6), max_block_ms=0, retries=0
    )
    try:
        producer.send(TOPIC, b"secret")
    except kafka.errors.KafkaError:  # what a cluster would have to answer first
        return 1
    finally:
        producer.close()
        close_refused_sockets()
    raise AssertionError("somebody has answered")


def close_refused_sockets():
    """Close what kafka-python leaves open, though a reference may still hold it."""
    sockets = [one for one in gc.get_objects() if type(one) is socket.socket]
    for one in sockets:
        known = one.fileno() >= 0 and one.family == socket.AF_INET
        if known and one.getsockname()[0] == "0.0.0.0":  # noqa: S104 - it is bound to none
            one.close()


def by_confluent(kind="Producer", way="produce", *args, **options):
    producer = getattr(pytest.importorskip("confluent_kafka"), kind)(CONFLUENT)
    if not hasattr(producer, way):
        pytest.skip("this version has no batches")
    return records_taken(producer, way, *args, **options)


def records_taken(producer, way, *args, **options):
    """Return of how many records the producer reports that it has forgotten them, as told."""
    reported = []
    try:
        getattr(producer, way)(*args, on_delivery=lambda *one: reported.append(one), **options)
    finally:
        producer.purge()
        producer.flush()
        taken = len(reported)
    return taken


def by_confluent_aio():
    pytest.importorskip("confluent_kafka")
    aio = pytest.importorskip("confluent_kafka.aio")

    async def produce():
        producer = aio.AIOProducer(CONFLUENT)
        try:
            future = await producer.produce(TOPIC, value=b"secret")
            assert not future.done()
            return 1
        finally:
            await producer.purge()
            await producer.close()

    return async_to_sync(produce)()


def by_aiokafka(name="send"):
    aiokafka = pytest.importorskip("aiokafka")

    async def send():
        producer = aiokafka.AIOKafkaProducer(bootstrap_servers=NOBODY)
        given = (TOPIC, b"secret")
        if name == "send_batch":
            given = (producer.create_batch(), TOPIC)
        options = {"partition": 0} if name == "send_batch" else {}
        task = asyncio.ensure_future(getattr(producer, name)(*given, **options))
        try:
            done, waits_for_a_cluster = await asyncio.wait([task], timeout=0)
            if done:
                task.result()
            return len(waits_for_a_cluster)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await producer.stop()

    return async_to_sync(send)()


WAYS = {
    "kafka-python": by_kafka_python,
    "confluent": lambda: by_confluent("Producer", "produce", TOPIC, value=b"secret"),
    "confluent, topic by name": lambda: by_confluent(topic=TOPIC, value=b"secret"),
    "confluent, batch": lambda: by_confluent(
        "Producer", "produce_batch", TOPIC, [{"value": b"secret"}]
    ),
    "confluent, serializing": lambda: by_confluent(
        "SerializingProducer", topic=TOPIC, value=b"secret"
    ),
    "confluent, aio": by_confluent_aio,
    "aiokafka": by_aiokafka,
    "aiokafka, and wait": lambda: by_aiokafka("send_and_wait"),
    "aiokafka, batch": lambda: by_aiokafka("send_batch"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_record_is_refused_without_its_contents(way, watch):
    watch(mode="log", adapters={"kafka": "raise"})
    with transaction.atomic(), pytest.raises(DispatchInTransaction) as caught:
        WAYS[way]()

    finding = caught.value.finding
    assert (finding.rule, finding.adapter, finding.subject) == ("AC401", "kafka", SUBJECT)
    assert "tests/guard/test_kafka.py" in str(finding.place)
    assert "secret" not in str(finding)


@pytest.mark.parametrize("way", WAYS)
def test_a_record_that_is_logged_is_one_finding_and_taken(way, watch, found):
    watch(mode="raise", adapters={"kafka": "log"})
    with transaction.atomic():
        taken = WAYS[way]()

    assert taken == 1
    assert [(one.subject, mode) for one, mode in found] == [(SUBJECT, "log")]


@pytest.mark.parametrize("way", WAYS)
def test_after_the_commit_a_record_is_right(way, watch, found):
    watch(mode="raise", adapters={"kafka": "raise"})
    with transaction.atomic():
        transaction.on_commit(WAYS[way])

    assert found == []


def test_nothing_is_noticed_until_the_settings_name_a_mode(watch, found):
    watch(mode="raise")
    with transaction.atomic():
        WAYS["confluent"]()

    assert found == []


@pytest.fixture
def project(monkeypatch):
    """Return a module that has imported the producer, by another name, and extends it."""
    confluent = pytest.importorskip("confluent_kafka")

    class Own(confluent.Producer):
        """A producer of the project."""

    module = ModuleType("shop_kafka")
    module.Kafka, module.Own = confluent.Producer, Own
    module.early = confluent.Producer(CONFLUENT)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


@pytest.mark.parametrize("name", ["Kafka", "Own"])
def test_producers_that_were_imported_before_the_guard_are_noticed(name, project, watch):
    watch(mode="raise", adapters={"kafka": "raise"})
    producer = getattr(project, name)(CONFLUENT)
    with transaction.atomic(), pytest.raises(DispatchInTransaction):
        producer.produce(TOPIC)

    assert records_taken(producer, "produce", TOPIC) == 1  # not the one that was refused


def test_the_type_of_c_is_extended_and_comes_back(project, watch):
    import confluent_kafka  # noqa: PLC0415 - it is optional

    original = confluent_kafka.Producer
    watch(mode="raise", adapters={"kafka": "raise"})
    ours = confluent_kafka.Producer
    watch(mode="raise", adapters={"kafka": "raise"})  # once more, as by other settings

    assert confluent_kafka.Producer is ours
    assert ours is not original
    assert project.Kafka is ours
    serializing = confluent_kafka.SerializingProducer(CONFLUENT)
    assert isinstance(project.early, ours) and isinstance(serializing, ours)
    assert not isinstance(1, ours)
    assert issubclass(project.Own, ours) and not issubclass(int, ours)
    assert (ours.__name__, ours.__module__) == (original.__name__, original.__module__)

    class Later(ours):
        """A class that is declared while the guard watches."""

    assert not isinstance(project.early, Later)
    assert not issubclass(project.Own, Later)
    from aftercommit.guard import uninstall  # noqa: PLC0415 - beside its only use

    uninstall()
    assert confluent_kafka.Producer is original
    assert project.Kafka is original
