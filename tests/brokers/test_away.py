"""Outside a transaction, too, nobody waits for a broker that cannot be reached."""

import socket
import threading
from contextlib import ExitStack

import celery
import dramatiq
import pytest
import redis as redis_client
from django.db import connection, transaction
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.redis import RedisBroker
from huey import RedisHuey
from rq import Queue

from aftercommit.relay.brokers import broker_for
from aftercommit.relay.brokers.celery.link import servers
from tests.brokers import shop, yard
from tests.brokers.addresses import broker_url, queue_name
from tests.brokers.conftest import kept

SECONDS = 6  # the libraries alone take 19, or for ever


@pytest.fixture(params=["nobody listens", "packets are dropped"])
def port(request):
    """Return a port where no connection is made, at once or ever."""
    if request.param == "nobody listens":
        yield 1
        return
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        for _number in range(3):  # the system answers no more of them than it can queue
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(address)
        with pytest.raises(OSError, match="timed out"):
            socket.create_connection(address, 0.2)
        yield address[1]


def by_celery(url, results=None):
    app = globals()["app"] = celery.Celery(
        "away", broker=url, backend=results, set_as_current=False
    )
    return lambda: app.send_task("shop.note", ["a"])


def by_rq(url):
    queue = Queue(queue_name("away"), connection=redis_client.Redis.from_url(url))
    return lambda: queue.enqueue(yard.note, "a")


def by_huey(url):
    instance = globals()["instance"] = RedisHuey(queue_name("away"), url=url)
    return instance.task(name="away_note")(yard.note)


def by_dramatiq(broker, monkeypatch):
    monkeypatch.setattr(dramatiq.broker, "global_broker", broker)
    return dramatiq.actor(yard.note, actor_name="away.note", broker=broker, queue_name="q").send


WAYS = {
    "Celery on Redis": lambda port, _: by_celery(f"redis://127.0.0.1:{port}/0"),
    "Celery on RabbitMQ": lambda port, _: by_celery(f"amqp://127.0.0.1:{port}//"),
    "Celery, its results on the same": lambda port, _: by_celery(
        f"redis://127.0.0.1:{port}/0", f"redis://127.0.0.1:{port}/1"
    ),
    "Celery, only its results": lambda port, _: by_celery(
        broker_url("redis"), f"redis://127.0.0.1:{port}/1"
    ),
    "RQ": lambda port, _: by_rq(f"redis://127.0.0.1:{port}/0"),
    "Huey": lambda port, _: by_huey(f"redis://127.0.0.1:{port}/0"),
    "Dramatiq on Redis": lambda port, patch: by_dramatiq(
        RedisBroker(url=f"redis://127.0.0.1:{port}/0"), patch
    ),
    "Dramatiq on RabbitMQ": lambda port, patch: by_dramatiq(
        RabbitmqBroker(url=f"amqp://127.0.0.1:{port}"), patch
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_message_is_kept_soon(way, port, redis, relayed, monkeypatch):
    names = {"celery": {}, "dramatiq": {}, "huey": {}}
    relayed(libraries={**names, "rq": {"url": f"redis://127.0.0.1:{port}/0"}})
    broker_for("rq").close()
    send = WAYS[way](port, monkeypatch)
    ends = []

    def run():
        try:
            ends.append(send())
        except Exception as error:
            ends.append(error)
        connection.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(SECONDS)

    assert not thread.is_alive()
    assert len(kept()) == 1, ends
    broker_for("rq").close()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://a/0", [[("a", 6379)]]),
        ("redis://:secret@a:1/0;redis://b/0", [[("a", 1), ("b", 6379)]]),
        ("amqp://a:1//;amqp://b//", [[("a", 1), ("b", 5672)]]),
        ("redis+socket:///tmp/redis.sock", []),
        ("memory://", []),
    ],
)
def test_the_addresses_of_a_broker(url, expected):
    assert servers(celery.Celery("any", broker=url, set_as_current=False)) == expected


# ---- what libraries do on commit ---------------------------------------------------------


@pytest.mark.parametrize("way", ["delay_on_commit", "apply_async_on_commit"])
@pytest.mark.parametrize("goes_wrong", [False, True])
def test_celery_s_calls_on_commit_are_kept(way, goes_wrong, redis, relayed):
    """A callback is lost if the process dies after the commit; a message is not."""
    relayed("celery")
    arguments = ("a",) if way == "delay_on_commit" else (["a"],)
    with transaction.atomic():
        assert getattr(shop.note, way)(*arguments) is None
        assert len(kept()) == 1
        transaction.set_rollback(goes_wrong)
    assert len(kept()) == (0 if goes_wrong else 1)


def test_celery_s_calls_on_commit_are_the_library_s_if_a_task_says_never(redis, relayed):
    relayed("celery")
    with transaction.atomic():
        shop.at_once.delay_on_commit("a")
        assert len(connection.run_on_commit) == 1
        transaction.set_rollback(True)
    assert kept() == []


def test_celery_s_calls_on_commit_wait_for_it_in_the_eager_mode(redis, relayed):
    relayed("celery")
    shop.app.conf.task_always_eager = True
    try:
        with transaction.atomic():
            shop.note.delay_on_commit("a")
            assert len(connection.run_on_commit) == 1
            transaction.set_rollback(True)
    finally:
        shop.app.conf.task_always_eager = False


@pytest.mark.parametrize("mode", ["on_db_commit", "request_finished", "auto"])
def test_django_rq_keeps_the_job_whatever_its_commit_mode(mode, redis, relayed, settings):
    settings.RQ_QUEUES = {yard.rq_queue.name: {"URL": broker_url("redis")}}
    from django_rq.queues import DjangoRQ  # noqa: PLC0415 - fails without its settings

    broker_for("rq").close()
    relayed(libraries={"rq": {"url": broker_url("redis")}})
    queue = DjangoRQ(yard.rq_queue.name, connection=redis, commit_mode=mode)
    with transaction.atomic():
        job = queue.enqueue(yard.note, "a")
    assert [one.meta["message_id"] for one in kept()] == [job.id]
    outside = queue.enqueue(yard.note, "b")

    assert redis.exists(f"rq:job:{outside.id}")  # not only when the request is finished
    outside.delete()


@pytest.mark.parametrize("mode", ["on_db_commit", "request_finished"])
def test_django_rq_waits_as_ever_for_a_function_that_says_never(
    mode, redis, relayed, settings, monkeypatch
):
    settings.RQ_QUEUES = {yard.rq_queue.name: {"URL": broker_url("redis")}}
    from django_rq.queues import DjangoRQ  # noqa: PLC0415 - fails without its settings

    relayed(libraries={"rq": {"url": broker_url("redis")}})
    monkeypatch.setattr(yard.note, "aftercommit", "never", raising=False)
    queue = DjangoRQ(yard.rq_queue.name, connection=redis, commit_mode=mode)
    with transaction.atomic():
        assert queue.enqueue(yard.note, "a") is None
        transaction.set_rollback(True)
    assert kept() == []
    assert queue.job_ids == []
