"""A message goes to the server that its sender means, or is refused where it is sent."""

import json
import re
import sys
from datetime import timedelta
from types import ModuleType

import celery
import dramatiq
import pytest
import redis as redis_client
from django.db import transaction
from dramatiq.brokers.redis import RedisBroker
from huey import RedisHuey
from redis.sentinel import SentinelConnectionPool
from rq import Queue

from aftercommit.errors import ConfigurationError
from aftercommit.models import Job
from aftercommit.relay.brokers import broker_for
from aftercommit.relay.brokers.celery.broker import _same_server
from aftercommit.relay.brokers.servers import Places, same_redis
from tests.brokers import shop, yard
from tests.brokers.addresses import broker_url, queue_name
from tests.brokers.conftest import kept, run_relay

ELSEWHERE = broker_url("redis").rsplit("/", 1)[0] + "/1"  # another database of the same server


class Thing:
    """Something that has a place."""


REFUSED = pytest.raises(ConfigurationError, match="Nothing was sent")

# Two apps without a name, and two with the same.
one_unnamed = celery.Celery(broker=broker_url("redis"), set_as_current=False)
other_unnamed = celery.Celery(broker=ELSEWHERE, set_as_current=False)
one_twin = celery.Celery("twin", broker=broker_url("redis"), set_as_current=False)
other_twin = celery.Celery("twin", broker=ELSEWHERE, set_as_current=False)
for app in (one_unnamed, other_unnamed, one_twin, other_twin):
    app.conf.task_default_queue = queue_name("celery")
other_huey = RedisHuey(queue_name("huey"), url=ELSEWHERE)
other_dramatiq = RedisBroker(url=ELSEWHERE, namespace=queue_name("dramatiq"))


@pytest.fixture
def elsewhere(redis):
    """Return a client of the other server; what this run leaves there is removed."""
    client = redis_client.Redis.from_url(ELSEWHERE)
    yield client
    for key in client.scan_iter(f"*{queue_name('')}*", count=1000):
        client.delete(key)
    client.close()


def celery_ids(client):
    return [
        json.loads(one)["headers"]["id"] for one in client.lrange(queue_name("celery"), 0, -1)
    ]


@pytest.mark.parametrize("apps", [(one_unnamed, other_unnamed), (one_twin, other_twin)])
def test_apps_without_a_name_of_their_own_have_their_own_servers(apps, redis, elsewhere, relayed):
    relayed("celery")
    with transaction.atomic():
        here, there = (app.send_task("shop.note", ["a"]).id for app in apps)
    run_relay()

    assert celery_ids(redis) == [here]
    assert celery_ids(elsewhere) == [there]


def test_an_app_that_the_settings_name_is_imported_by_the_relay(redis, relayed):
    relayed(libraries={"celery": {"apps": ["tests.brokers.shop.app"]}})
    with transaction.atomic():
        result = shop.note.delay("a")
    run_relay()
    assert celery_ids(redis) == [result.id]


def test_an_app_that_a_function_has_made_is_refused_in_a_transaction(redis, elsewhere, relayed):
    relayed("celery")
    lazy = celery.Celery("lazy", broker=ELSEWHERE, set_as_current=False)
    lazy.conf.task_default_queue = queue_name("celery")
    with transaction.atomic(), REFUSED:
        lazy.send_task("shop.note", ["a"])
    outside = lazy.send_task("shop.note", ["a"])  # reaches its server

    assert kept() == []
    assert celery_ids(elsewhere) == [outside.id]


@pytest.mark.parametrize(
    ("own", "given", "same"),
    [
        ("redis://localhost/0", "redis://127.0.0.1/0", True),
        ("redis://localhost", "redis://127.0.0.1:6379/0", True),
        ("redis://localhost/0", "redis://:secret@127.0.0.1/0", True),
        ("redis://localhost/0", "redis://127.0.0.1/1", False),
        ("redis://localhost/0", "redis://127.0.0.1:6380/0", False),
        ("redis://localhost/0", "redis://192.0.2.1/0", False),
        ("amqp://localhost", "amqp://127.0.0.1:5672//", True),
        ("amqp://localhost//", "pyamqp://guest:guest@127.0.0.1//", True),
        ("amqp://localhost//", "amqp://127.0.0.1/other", False),
        ("amqp://localhost:6379//", "redis://127.0.0.1/0", False),
        ("redis://localhost/0;redis://192.0.2.1/0", "redis://127.0.0.1/0", False),
        ("memory://one", "memory://other", False),
        ("redis+socket:///one.sock", "redis+socket:///other.sock", False),
    ],
)
def test_which_servers_of_celery_are_the_same(own, given, same):
    app = celery.Celery("any", broker=own, set_as_current=False)
    with celery.Celery(broker=given, set_as_current=False).connection_for_write() as connection:
        assert _same_server(connection, app) == same


def test_a_prefix_of_keys_is_another_place():
    app = celery.Celery("any", broker="redis://localhost/0", set_as_current=False)
    app.conf.broker_transport_options = {"global_keyprefix": "mine"}
    with celery.Celery(broker="redis://127.0.0.1/0", set_as_current=False) as other:
        assert not _same_server(other.connection_for_write(), app)


@pytest.fixture
def default_app(monkeypatch):
    """Make an app as a function does, and set it as Celery's default."""
    monkeypatch.setattr(celery._state, "default_app", None)
    lazy = celery.Celery("lazy default", broker=ELSEWHERE, set_as_current=False)
    lazy.conf.task_default_queue = queue_name("celery")
    lazy.set_default()
    return lazy


def test_celery_s_default_is_another_app_in_another_process(
    default_app, redis, elsewhere, relayed
):
    relayed("celery")
    assert celery._state.default_app is default_app
    with transaction.atomic(), REFUSED:
        default_app.send_task("shop.note", ["a"])
    assert kept() == []


def test_a_row_that_names_celery_s_default_goes_nowhere(default_app, redis, elsewhere, relayed):
    relayed("celery")
    with transaction.atomic():
        other_twin.send_task("shop.note", ["a"])
    (job,) = kept()
    names = '"paths": ["celery._state.default_app"]'
    payload, count = re.subn(r'"paths": \[[^]]*\]', names, job.payload)
    assert count == 1
    Job.objects.filter(id=job.id).update(payload=payload, max_attempts=1)
    run_relay()

    assert {job.state for job in Job.objects.all()} == {"failed"}
    assert celery_ids(redis) + celery_ids(elsewhere) == []


def test_the_app_that_celery_makes_for_a_project_without_one_is_kept(redis, relayed, monkeypatch):
    relayed("celery")
    monkeypatch.setattr(celery._state, "default_app", None)
    monkeypatch.setattr(celery._state._tls, "current_app", None)
    with transaction.atomic():
        celery.current_app.send_task("shop.note", ["a"])
    assert len(kept()) == 1


@pytest.mark.parametrize("name", ["__main__", "__mp_main__"])
def test_the_script_is_another_one_in_another_process(name, monkeypatch):
    script = ModuleType(name)
    script.thing = Thing()
    for alias in ("__main__", name):
        monkeypatch.setitem(sys.modules, alias, script)
    assert Places(Thing).of(script.thing) == []
    assert Places(Thing).find([f"{name}.thing"]) is None


def test_the_huey_of_the_settings_is_found(monkeypatch):
    module = ModuleType("huey.contrib.djhuey")
    module.HUEY = Thing()
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert Places(Thing).of(module.HUEY) == ["huey.contrib.djhuey.HUEY"]
    assert Places(Thing).find(["huey.contrib.djhuey.HUEY"]) is module.HUEY


@pytest.mark.parametrize("given", ["connection", "producer", "publisher"])
def test_celery_s_connection_to_another_server(given, redis, elsewhere, relayed):
    relayed("celery")
    with celery.Celery(broker=ELSEWHERE, set_as_current=False).connection_for_write() as other:
        options = {given: other if given == "connection" else shop.app.amqp.Producer(other)}
        with transaction.atomic(), REFUSED:
            shop.note.apply_async(["a"], **options)
        outside = shop.note.apply_async(["a"], **options)

    assert kept() == []
    assert celery_ids(elsewhere) == [outside.id]
    assert celery_ids(redis) == []


def test_celery_s_connection_to_the_app_s_own_server_is_kept(redis, relayed):
    relayed("celery")
    with shop.app.connection_for_write() as own, transaction.atomic():
        result = shop.note.apply_async(["a"], connection=own)
    assert [job.meta["message_id"] for job in kept()] == [result.id]


def test_away_and_meant_for_another_server_raises_as_the_library_does(redis, relayed):
    relayed("celery")
    nobody = celery.Celery("nobody", broker=yard.NOWHERE, set_as_current=False)
    nobody.conf.task_publish_retry = False
    with pytest.raises(celery.exceptions.OperationalError):
        nobody.send_task("shop.note", ["a"])
    assert kept() == []


def test_a_row_whose_app_is_not_known_fails_and_goes_nowhere(redis, elsewhere, relayed):
    relayed("celery")
    with transaction.atomic():
        other_unnamed.send_task("shop.note", ["a"])
        other_twin.send_task("shop.note", ["a"])
    for job in kept():
        payload = job.payload.replace("tests.brokers.test_servers", "tests.brokers.not_loaded")
        assert payload != job.payload
        Job.objects.filter(id=job.id).update(payload=payload, max_attempts=1)
    run_relay()

    assert {job.state for job in Job.objects.all()} == {"failed"}
    assert "is not known in this process" in Job.objects.first().errors
    assert celery_ids(redis) + celery_ids(elsewhere) == []


@pytest.mark.parametrize("libraries", [{"rq": {"url": broker_url("redis")}}, {"rq": {}}])
@pytest.mark.parametrize("way", ["enqueue", "enqueue_many", "schedule"])
def test_rq_s_connection_to_another_server(
    libraries, way, redis, elsewhere, relayed, settings, monkeypatch
):
    settings.RQ_QUEUES = {yard.rq_queue.name: {"URL": broker_url("redis")}}
    from django_rq import settings as rq_settings  # noqa: PLC0415 - fails without its settings

    monkeypatch.setattr(rq_settings, "QUEUES", settings.RQ_QUEUES)
    broker_for("rq").close()
    relayed(libraries=libraries)
    queue = Queue(yard.rq_queue.name, connection=elsewhere)
    ways = {
        "enqueue": lambda: queue.enqueue(yard.note, "a"),
        "enqueue_many": lambda: queue.enqueue_many([queue.prepare_data(yard.note, ("a",))])[0],
        "schedule": lambda: queue.enqueue_in(timedelta(1), yard.note, "a"),
    }
    with transaction.atomic(), REFUSED:
        ways[way]()
    outside = ways[way]()

    assert kept() == []
    assert elsewhere.exists(f"rq:job:{outside.id}")
    assert not redis.exists(f"rq:job:{outside.id}")
    outside.delete()
    broker_for("rq").close()


def test_a_queue_of_rq_that_no_setting_knows_is_refused(redis, relayed, settings):
    settings.RQ_QUEUES = {}
    relayed(libraries={"rq": {}})
    with (
        transaction.atomic(),
        pytest.raises(ConfigurationError, match="is not known: it is not in RQ_QUEUES"),
    ):
        Queue(queue_name("unknown"), connection=redis).enqueue(yard.note, "a")
    assert kept() == []


def test_dramatiq_s_second_broker(redis, elsewhere, relayed):
    relayed("dramatiq")
    actor = dramatiq.actor(
        yard.note, actor_name="elsewhere.note", broker=other_dramatiq, queue_name="q"
    )
    with transaction.atomic(), REFUSED:
        actor.send("a")
    outside = actor.send("a")

    assert kept() == []
    assert elsewhere.hlen(f"{queue_name('dramatiq')}:q.msgs") == 1
    assert outside.message_id
    with transaction.atomic():
        yard.actor.send("a")
    assert len(kept()) == 1


def test_dramatiq_s_second_broker_of_the_same_server_is_kept(redis, relayed):
    relayed("dramatiq")
    twin = RedisBroker(url=broker_url("redis"), namespace=queue_name("dramatiq"))
    actor = dramatiq.actor(yard.note, actor_name="twin.note", broker=twin, queue_name="q")
    with transaction.atomic():
        actor.send("a")
    assert len(kept()) == 1


def test_huey_s_second_instance_has_its_own_server(redis, elsewhere, relayed):
    relayed(libraries={"huey": {"instance": "tests.brokers.yard.huey"}})
    task = other_huey.task(name="other_note")(yard.note)
    with transaction.atomic():
        task("a")
        yard.huey_task("b")
    run_relay()

    assert [one.args for one in other_huey.pending()] == [("a",)]
    assert [one.args for one in yard.huey.pending()] == [("b",)]


def test_an_instance_of_huey_that_a_function_has_made_is_refused(redis, elsewhere, relayed):
    relayed("huey")
    lazy = RedisHuey(queue_name("lazy"), url=ELSEWHERE)
    task = lazy.task(name="lazy_note")(yard.note)
    with transaction.atomic(), REFUSED:
        task("a")
    task("a")

    assert kept() == []
    assert len(lazy) == 1


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("redis://localhost:6379/0", True),
        ("redis://127.0.0.1/0", True),
        ("redis://:secret@127.0.0.1:6379", True),
        ("redis://127.0.0.1:6380/0", False),
        ("redis://127.0.0.1:6379/1", False),
        ("redis://192.0.2.1:6379/0", False),
        ("unix:///tmp/redis.sock?db=0", False),
    ],
)
def test_which_servers_of_redis_are_the_same(url, same):
    usual = redis_client.Redis.from_url("redis://127.0.0.1:6379/0")
    assert same_redis(usual, redis_client.Redis.from_url(url)) == same
    assert same_redis(redis_client.Redis.from_url(url), usual) == same


def test_a_sentinel_is_known_by_the_name_of_its_service():
    pools = [SentinelConnectionPool(name, None) for name in ("one", "one", "other")]
    first, second, third = (redis_client.Redis(connection_pool=pool) for pool in pools)

    assert same_redis(first, second)
    assert not same_redis(first, third)
