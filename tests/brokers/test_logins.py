"""Who uses a broker on another host with a password that everybody knows is told by doctor."""

from types import SimpleNamespace

import pytest
from celery import Celery as App

from aftercommit.relay.brokers import broker_for, logins
from aftercommit.relay.brokers.celery import link
from aftercommit.relay.brokers.logins import Login, amqp_login, redis_login
from aftercommit.windows.doctor import Ailment, examine

redis = pytest.importorskip("redis")


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("amqp://", [Login("RabbitMQ", "localhost", True)]),
        ("amqp://mq.example//", [Login("RabbitMQ", "mq.example", True)]),
        ("amqp://guest:guest@mq.example//", [Login("RabbitMQ", "mq.example", True)]),
        ("amqp://guest:other@mq.example//", [Login("RabbitMQ", "mq.example", False)]),
        ("amqp://shop:guest@mq.example//", [Login("RabbitMQ", "mq.example", False)]),
        (
            "amqp://a:b@one.example;amqp://two.example",
            [Login("RabbitMQ", "one.example", False), Login("RabbitMQ", "two.example", True)],
        ),
        ("redis://r.example/1", [Login("Redis", "r.example", True)]),
        ("redis://:secret@r.example/1", [Login("Redis", "r.example", False)]),
        ("redis+socket:///run/redis.sock", []),
        ("sentinel://s.example:26379", []),
        ("memory://", []),
    ],
)
def test_celery(url, found):
    app = App(broker=url, set_as_current=False)
    if url.startswith("sentinel"):
        app.conf.broker_transport_options = {"master_name": "main"}

    assert link.logins(app) == found


@pytest.mark.parametrize(
    ("url", "open_to_all"),
    [
        ("redis://r.example:6379/0", [True]),
        ("redis://:secret@r.example:6379/0", [False]),
        ("redis://localhost:6379/0", [True]),
        ("unix:///run/redis.sock", []),
    ],
)
def test_a_client_of_redis(url, open_to_all):
    assert [one.by_default for one in redis_login(redis.Redis.from_url(url))] == open_to_all


def test_a_client_with_a_certificate_is_known():
    client = redis.Redis(host="r.example", ssl=True, ssl_certfile="mine.pem")

    assert not redis_login(client)[0].by_default
    assert redis_login(None) == []


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_on_the_same_host_everybody_may_use_it(host):
    assert not Login("Redis", host, True).is_open


def test_on_another_host_nobody_should(monkeypatch):
    monkeypatch.setattr(logins, "same_host", lambda one, other: one == other)

    assert amqp_login("mq.example", None, None).is_open
    assert not amqp_login("mq.example", "shop", "secret").is_open


LIBRARIES = ["celery", "dramatiq", "huey", "rq"]


@pytest.mark.parametrize("library", LIBRARIES)
def test_each_library_names_the_server_that_it_has(library, relayed, monkeypatch):
    """Those of the tests are on this host."""
    options = {"rq": {"rq": {"url": "redis://localhost:6379/0"}}}.get(library)
    relayed(library, libraries=options)

    assert all(not one.is_open for one in broker_for(library).logins())


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://r.invalid:6379/0", "rq sends its messages to Redis on r.invalid without a"),
        ("redis://:secret@r.invalid:6379/0", None),
    ],
)
def test_doctor_says_so_and_never_the_password(url, said, relayed):
    relayed(libraries={"rq": {"url": url}})
    broker_for("rq").close()

    found = [one for one in examine("default") if one.check == "default-password"]
    broker_for("rq").close()

    assert [one.ailment for one in found] == [Ailment.SECURITY] * bool(said)
    assert all(said in str(one) and "secret" not in str(one) for one in found)


def test_dramatiq_on_rabbitmq():
    pytest.importorskip("pika")
    dramatiq = pytest.importorskip("dramatiq")
    rabbitmq = pytest.importorskip("dramatiq.brokers.rabbitmq")
    before = dramatiq.get_broker()
    dramatiq.set_broker(
        rabbitmq.RabbitmqBroker(
            url="amqp://one.example;amqp://shop:secret@two.example", middleware=[]
        )
    )
    try:
        assert broker_for("dramatiq").logins() == [
            Login("RabbitMQ", "one.example", True),
            Login("RabbitMQ", "two.example", False),
        ]
    finally:
        dramatiq.set_broker(before)


def test_huey_and_django_q(monkeypatch):
    client = redis.Redis.from_url("redis://r.example:6379/0")
    huey = broker_for("huey")
    instance = SimpleNamespace(storage=SimpleNamespace(conn=client))
    monkeypatch.setattr(type(huey), "_usual", lambda _self, _name: instance)

    assert huey.logins() == [Login("Redis", "r.example", True)]
    monkeypatch.setattr(type(huey), "_usual", lambda _self, _name: None)
    assert huey.logins() == []
