"""Whether a server answers is asked once, however many pools are made for it."""

import socket
from contextlib import closing

import pytest
import redis as redis_library
from rq import Queue

from aftercommit.relay.brokers import broker_for, reachable
from aftercommit.relay.brokers.reachable import is_reachable, redis_servers
from tests.brokers import yard
from tests.brokers.addresses import queue_name
from tests.brokers.conftest import kept

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
def opened(monkeypatch):
    """Return the addresses to which a connection was opened to know whether it is there."""
    found, known = [], socket.create_connection

    def connect(address, *args, **options):
        found.append(address)
        return known(address, *args, **options)

    monkeypatch.setattr(reachable, "_asked", {})
    monkeypatch.setattr(reachable.socket, "create_connection", connect)
    return found


def new_pool(url):
    return redis_library.ConnectionPool.from_url(url)


def ask(pool):
    return is_reachable(pool, lambda: redis_servers(pool))


def test_pools_for_one_server_share_the_answer(opened):
    pools = [new_pool(NOWHERE) for _turn in range(20)]
    assert {ask(pool) for pool in pools} == {False}
    assert opened == [("127.0.0.1", 1)]


def test_pools_for_different_servers_do_not(opened):
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        there, away = new_pool(f"redis://127.0.0.1:{port}/0"), new_pool(NOWHERE)
        for _turn in range(3):
            assert ask(there)
            assert not ask(away)
    assert opened == [("127.0.0.1", port), ("127.0.0.1", 1)]


def test_each_of_several_servers_must_answer_and_one_address_of_each(opened):
    class Owner:
        pass

    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        there, away = server.getsockname(), ("127.0.0.1", 1)
        first, second = Owner(), Owner()
        assert is_reachable(first, lambda: iter([[away, there]]))
        assert not is_reachable(second, lambda: iter([[there], [away]]))
        assert is_reachable(first, lambda: pytest.fail("is known"))


def test_what_is_remembered_does_not_grow(opened, monkeypatch):
    monkeypatch.setattr(reachable, "MOST_SERVERS", 3)
    for number in range(1, 9):
        ask(new_pool(f"redis://127.0.0.1:{number}/0"))
        assert len(reachable._asked) <= 3


def test_an_answer_does_not_hold_for_ever(opened, monkeypatch):
    pool = new_pool(NOWHERE)
    assert not ask(pool)
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        pool.connection_kwargs["port"] = server.getsockname()[1]
        assert not ask(pool)
        monkeypatch.setattr(reachable, "SECONDS_THAT_BAD_LASTS", 0)
        assert ask(pool)


def test_rq_s_queues_with_a_pool_each(opened, redis, relayed):
    relayed(libraries={"rq": {"url": NOWHERE}})
    broker_for("rq").close()
    for _turn in range(5):
        client = redis_library.Redis.from_url(NOWHERE)
        Queue(queue_name("away"), connection=client).enqueue(yard.note, "a")

    assert len(kept()) == 5
    assert opened.count(("127.0.0.1", 1)) == 1
    broker_for("rq").close()
