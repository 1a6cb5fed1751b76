"""Connections that break while a whole batch is under way: none is lost, copies are bounded.

RabbitMQ's confirms are waited for together, and RQ's jobs go in one transaction of Redis; so
what may come twice after a cut is what one thread had handed over and heard nothing of.
"""

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

import dramatiq
import pika
import pytest
from django.db import transaction

from aftercommit.models import Job
from aftercommit.worker.in_flight import MOST
from tests.brokers.addresses import URL_VARIABLES, broker_url, is_there, queue_name
from tests.brokers.shop import from_rabbit
from tests.brokers.yard import actor, client, on_rabbitmq, on_redis, rq_queue
from tests.brokers.yard import note as function
from tests.process.conftest import rig  # noqa: F401 - a fixture
from tests.torture.cutproxy import CutProxy, Rule
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])
MESSAGES, CUTS = 400, 3
LONG = timedelta(seconds=90)
YARD = "from tests.brokers import yard\n\nyard.dramatiq.set_broker(yard.on_rabbitmq)\n"


@dataclass(frozen=True, kw_only=True)
class Library:
    """How one library is used here."""

    service: str
    module: str  # that a relay has to import
    send: Callable[[str], str]  # returns the id
    there: Callable[[], list[str]]  # ids of what is in the broker
    seen: bytes  # in each of its messages


def taken_from(queue):
    """Take the messages out of a queue of RabbitMQ; return their properties and bodies."""
    connection = pika.BlockingConnection(pika.URLParameters(broker_url("rabbitmq")))
    with connection.channel() as channel:
        found = []
        while (message := channel.basic_get(queue, auto_ack=True))[0] is not None:
            found.append(message[1:])
        for ending in ("", ".DQ", ".XQ"):  # Dramatiq declares all three
            channel.queue_delete(queue + ending)
    connection.close()
    return found


LIBRARIES = {
    "celery": Library(
        service="rabbitmq",
        module="tests.brokers.shop",
        send=lambda word: from_rabbit.delay(word).id,
        there=lambda: [one.headers["id"] for one, _body in taken_from(queue_name("rabbit"))],
        seen=b"rabbit.note",
    ),
    "dramatiq": Library(
        service="rabbitmq",
        module="yard_on_rabbitmq",
        send=lambda word: actor.send(word).message_id,
        there=lambda: [
            json.loads(body)["message_id"] for _one, body in taken_from(queue_name("actors"))
        ],
        seen=b"yard.note",
    ),
    "rq": Library(
        service="redis",
        module="tests.brokers.yard",
        send=lambda word: rq_queue.enqueue(function, word).id,
        there=lambda: rq_queue.job_ids,
        seen=b"tests.brokers.yard.note",
    ),
}


@pytest.fixture
def yard(relayed, redis, monkeypatch):
    """Let messages be kept; Dramatiq's are for RabbitMQ."""
    if not is_there("rabbitmq"):
        pytest.skip("no RabbitMQ answers")
    relayed(libraries={"celery": {}, "dramatiq": {}, "rq": {"url": broker_url("redis")}})
    monkeypatch.setattr(actor, "broker", on_rabbitmq)
    dramatiq.set_broker(on_rabbitmq)
    yield
    dramatiq.set_broker(on_redis)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", LIBRARIES)
def test_a_connection_that_is_cut_in_a_batch_leaves_its_batch_twice_at_most(
    name,
    when,
    yard,
    rig,  # noqa: F811
):
    library = LIBRARIES[name]
    with transaction.atomic():
        committed = [library.send(f"e{one}") for one in range(MESSAGES)]
    real = urlsplit(broker_url(library.service))
    proxy = CutProxy((real.hostname, real.port))
    address = real._replace(netloc=real.netloc.replace(str(real.port), str(proxy.port))).geturl()
    rig.environment[URL_VARIABLES[library.service]] = address
    options = {"url": address} if name == "rq" else {}
    rig.settings_module(f"TASKS['default']['OPTIONS']['relay'] = { {name: options} }")
    (rig.folder / "yard_on_rabbitmq.py").write_text(YARD)
    rig.settings(modules=library.module)

    rule = Rule(statement=re.compile(re.escape(library.seen)), when=when)
    with proxy.cutting(rule, most=CUTS):
        rig.django("aftercommit", "relay", "--backend", "default")
        wait_until(lambda: not unpublished(), deadline=LONG, why="all are published")
    proxy.close()
    rig.close()

    there = Counter(library.there())
    client.delete(*(f"rq:job:{one}" for one in committed))
    copies = there.total() - len(there)
    print(f"{name}, {when}: {CUTS} cuts, {copies} copies of {len(there)} messages")
    assert proxy.cuts == CUTS
    assert set(there) == set(committed)
    assert (when == "after") <= copies <= (0 if (name, when) == ("rq", "before") else CUTS * MOST)
    assert not Job.objects.filter(state="failed").exists()


def unpublished():
    return Job.objects.filter(queue__startswith="relay.", state__in=["ready", "running"]).count()
