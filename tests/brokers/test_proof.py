"""With real relays, brokers and consumers, and with harm done to each of them.

Every committed message reaches the broker, with the same id in every copy, and none of those
that were rolled back; with ``@once`` its effects are there once, whatever has died in between.
"""

import json
import os
import re
import shutil
import socket
import subprocess
from collections import Counter
from datetime import timedelta

import pytest
import redis as redis_client
from django.db import transaction

from aftercommit.models import Job
from tests.app.models import Effect
from tests.brokers.addresses import URL_VARIABLES, broker_url, is_there, queue_name
from tests.brokers.shop import app, from_rabbit_once, note
from tests.process.conftest import rig  # noqa: F401 - a fixture
from tests.tiers import size
from tests.torture.cutproxy import CutProxy, Rule
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])
MESSAGES = int(os.environ.get("AFTERCOMMIT_TEST_MESSAGES", "600"))
KILLS = int(os.environ.get("AFTERCOMMIT_TEST_KILLS", size(change=3, full=6)))
CUTS = size(change=4, full=10)
LONG = timedelta(seconds=90)
THREADS = 4  # of a relay; each may be at one message when its connection breaks


@pytest.fixture
def relay(rig, relayed, redis):  # noqa: F811
    """Return a function that starts a relay of its own, which knows the shop."""
    relayed("celery")
    rig.settings_module("TASKS['default']['OPTIONS']['relay'] = ['celery']")
    rig.settings(modules="tests.brokers.shop", lease=3, heartbeat=1, max_crashes=1000)

    def start():
        tree = rig.django("aftercommit", "relay", "--backend", "default")
        rig.wait_started(tree)
        return tree

    return start


@pytest.fixture
def published(redis):
    """Return a function that counts the copies of each message in Redis, by id."""

    def count():
        raw = redis.lrange(queue_name("celery"), 0, -1)
        return Counter(json.loads(one)["headers"]["id"] for one in raw)

    return count


def send(number, task=note, *, every=10):
    """Send messages in transactions, of which each third is rolled back; return the others."""
    committed = []
    for start in range(0, number, every):
        with transaction.atomic():
            ids = [task.delay(f"e{one}").id for one in range(start, start + every)]
            if start // every % 3 == 2:
                transaction.set_rollback(True)
            else:
                committed += ids
    return committed


def waiting():
    return Job.objects.filter(queue="relay.celery", state__in=["ready", "running"]).count()


def test_kill_9_of_the_relay_loses_no_message(relay, published):
    committed = send(MESSAGES)
    assert published() == {}  # whatever happens to this process now: they are in the table
    for kill in range(1, KILLS + 1):
        goal = len(committed) * kill // (KILLS + 1)
        tree = relay()
        wait_until(lambda: len(published()) >= goal, deadline=LONG, why=f"{goal} are published")  # noqa: B023
        tree.kill()
    assert waiting() > 0
    relay()
    wait_until(lambda: not waiting(), deadline=LONG, why="all are published")

    copies = published()
    assert set(copies) == set(committed)
    print(f"{KILLS} kills, {copies.total() - len(copies)} copies of {len(copies)} messages")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_connection_that_is_cut_in_the_middle_of_a_publish_loses_no_message(
    rig,  # noqa: F811
    relay,
    published,
    when,
):
    committed = send(MESSAGES)
    proxy = CutProxy(("127.0.0.1", 6379))
    rig.environment[URL_VARIABLES["redis"]] = f"redis://127.0.0.1:{proxy.port}/0"
    with proxy.cutting(Rule(statement=re.compile(rb"shop\.note"), when=when), most=CUTS):
        relay()
        wait_until(lambda: not waiting(), deadline=LONG, why="all are published")
    proxy.close()

    copies = published()
    assert proxy.cuts == CUTS
    assert set(copies) == set(committed)
    assert copies.total() - len(copies) <= (CUTS * THREADS if when == "after" else 0)
    assert not Job.objects.filter(state="failed").exists()


def test_a_broker_that_was_away_gets_all_messages_when_it_is_back(rig, relay, published):  # noqa: F811
    committed = send(60)
    proxy = CutProxy(("127.0.0.1", 6379))
    port = proxy.port
    proxy.close()
    rig.environment[URL_VARIABLES["redis"]] = f"redis://127.0.0.1:{port}/0"
    tree = relay()
    wait_until(
        lambda: "celery does not answer" in tree.output, deadline=LONG, why="the relay says so"
    )
    assert published() == {}

    proxy = CutProxy(("127.0.0.1", 6379), port=port)
    wait_until(lambda: not waiting(), deadline=LONG, why="all are published")
    proxy.close()

    assert published() == dict.fromkeys(committed, 1)
    assert "celery answers again" in tree.output
    assert tree.output.count("celery does not answer") == 1  # said once
    assert set(Job.objects.values_list("attempts", "errors")) == {(1, "[]")}


def wait_for_effects(number):
    wait_until(
        lambda: Effect.objects.count() >= number, deadline=LONG, why=f"{number} effects are there"
    )


def test_from_the_request_to_the_effect_once_whatever_dies(rig, relay, redis):  # noqa: F811
    """Relay and consumer are killed in turn; RabbitMQ gives back what was not acknowledged."""
    if not is_there("rabbitmq"):
        pytest.skip("no RabbitMQ answers")
    committed = send(150, from_rabbit_once, every=5)
    consumer = ("-m", "celery", "-A", "tests.brokers.consumer:rabbit", "worker", "-P", "solo")
    try:
        for kill in range(1, 4):
            goal = len(committed) * kill // 4
            trees = [relay(), rig.run(*consumer, "-l", "warning", "--without-mingle")]
            wait_for_effects(goal)
            for tree in trees:
                tree.kill()
        relay()
        rig.run(*consumer, "-l", "warning", "--without-mingle")
        wait_until(lambda: not waiting(), deadline=LONG, why="all are published")
        wait_for_effects(len(committed))
    finally:
        rig.close()
        with app.connection_for_write(url=broker_url("rabbitmq")) as connection:
            connection.default_channel.queue_delete(queue_name("rabbit"))

    deliveries = int(redis.get(queue_name("deliveries")))
    print(f"{deliveries} deliveries of {len(committed)} messages")
    assert deliveries > len(committed)  # else nothing was shown
    assert Counter(Effect.objects.values_list("key", flat=True)).most_common(1)[0][1] == 1
    assert Effect.objects.count() == len(committed)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class OwnRedis:
    """A Redis of this test alone, which writes each command to its disk before it answers."""

    def __init__(self, folder):
        self.folder, self.port = folder, free_port()
        self.client = redis_client.Redis(port=self.port)
        self.start()

    def start(self):
        """Start it with what it had on its disk."""
        command = ["redis-server", "--port", str(self.port), "--dir", str(self.folder)]
        command += ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_until(self.answers, deadline=LONG, why="Redis answers")

    def answers(self):
        """Tell whether it does."""
        try:
            return self.client.ping()
        except redis_client.exceptions.ConnectionError:
            return False

    def kill(self):
        """Kill it with -9."""
        self.process.kill()
        self.process.wait()

    def ids(self):
        """Return the ids of the messages it has."""
        raw = self.client.lrange(queue_name("celery"), 0, -1)
        return Counter(json.loads(one)["headers"]["id"] for one in raw)


@pytest.fixture
def own_redis(tmp_path):
    """Return a Redis that may be killed."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    server = OwnRedis(tmp_path)
    yield server
    server.kill()
    server.client.close()


def test_a_broker_that_is_killed_again_and_again_gets_all_messages(rig, relay, own_redis):  # noqa: F811
    rig.environment[URL_VARIABLES["redis"]] = f"redis://127.0.0.1:{own_redis.port}/0"
    tree = relay()
    committed = []
    for _kill in range(3):
        there, told = len(own_redis.ids()), tree.output.count("celery does not answer")
        committed += send(MESSAGES // 3)
        wait_until(lambda: len(own_redis.ids()) > there, deadline=LONG, why="some are there")  # noqa: B023
        own_redis.kill()
        committed += send(10)
        wait_until(
            lambda: tree.output.count("celery does not answer") > told,  # noqa: B023
            deadline=LONG,
            why="the relay says so",
        )
        own_redis.start()
        wait_until(lambda: not waiting(), deadline=LONG, why="all are published")

    found = own_redis.ids()
    assert set(found) == set(committed)
    assert found.total() - len(found) <= 3 * THREADS
    assert not Job.objects.filter(state="failed").exists()
