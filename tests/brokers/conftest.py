"""Brokers that answer, and a site whose messages are relayed."""

from copy import deepcopy

import pytest
import redis as redis_client

from aftercommit.models import Job
from aftercommit.options.queues import queues_of
from aftercommit.options.worker import WorkerConfig
from aftercommit.relay import publish as relay
from aftercommit.relay.brokers import BROKERS
from aftercommit.worker.claiming import broker_backoff
from aftercommit.worker.quota import RunQuota
from aftercommit.worker.worker import Worker
from tests.brokers.addresses import broker_url, is_there, queue_name
from tests.brokers.rabbit_senders import SENDERS


@pytest.fixture
def redis():
    """Return a client of the Redis of the tests; what this run leaves there is removed."""
    if not is_there("redis"):
        pytest.skip("no Redis answers")
    client = redis_client.Redis.from_url(broker_url("redis"))
    yield client
    for key in client.scan_iter(f"*{queue_name('')}*", count=1000):
        client.delete(key)
    client.close()


@pytest.fixture
def relayed(settings, transactional_db):
    """Return a function that switches the relay on, with options for the backend."""

    def switch_on(*names, libraries=None, backends=("default",), queues=(), **options):
        tasks = deepcopy(settings.TASKS)
        for alias in backends:
            tasks[alias]["QUEUES"] = list(queues)
            tasks[alias]["OPTIONS"] |= {"relay": libraries or list(names), **options}
        settings.TASKS = tasks
        relay.install()

    yield switch_on
    relay._in_vain.clear()
    for name in BROKERS:  # a broker that was away in this test is there in the next
        for queue in queues_of(name):
            broker_backoff.resume(queue)


def kept(**which):
    """Return the messages that are kept and not published yet, the oldest first."""
    rows = Job.objects.filter(queue__startswith="relay.", state="ready", **which)
    return list(rows.order_by("id"))


def run_relay():
    """Publish what is there with a worker in this process; return what it says it has done."""
    config = WorkerConfig(backends=("default",), relay="only", drain=True)
    worker = Worker(config, quota=RunQuota(None))
    assert worker.run() == 0
    return worker.done


@pytest.fixture
def rabbit_senders():
    """Return a function that makes a sender to RabbitMQ, whose queues are deleted in the end."""
    if not is_there("rabbitmq"):
        pytest.skip("no RabbitMQ answers")
    opened = []

    def make(name):
        opened.append(SENDERS[name]())
        return opened[-1]

    yield make
    for one in opened:
        one.close()
