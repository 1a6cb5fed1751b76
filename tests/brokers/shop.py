"""A site that uses other people's queues: its apps and tasks, as their documentation says."""

import os
from contextlib import nullcontext, suppress

import redis
from celery import Celery
from celery.exceptions import Retry
from django.db import transaction

from aftercommit import once
from tests.brokers.addresses import broker_url, queue_name

app = Celery(
    "shop",
    broker=broker_url(os.environ.get("AFTERCOMMIT_TEST_BROKER", "redis")),
    backend=broker_url("redis"),
)
app.conf.update(
    task_default_queue=queue_name("celery"),
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    broker_connection_timeout=1,
    result_expires=60,
)


@app.task(name="shop.note")
def note(*words):
    """Leave one effect for each word."""
    from tests.app.models import Effect  # noqa: PLC0415 - apps are loaded by then

    for word in words:
        Effect.objects.create(key=str(word))


@app.task(name="shop.at_once", aftercommit="never")
def at_once(*words):
    """Do as ``note``, whatever transaction is open."""


@app.task(name="shop.kept", aftercommit="always")
def kept(*words):
    """Do as ``note``, always by way of the table."""


@app.task(name="shop.note_once")
@once
def note_once(*words):
    """Do as ``note``, once for each message."""
    note(*words)


counter = redis.Redis.from_url(broker_url("redis"))
rabbit = Celery("rabbit", broker=broker_url("rabbitmq"))
rabbit.conf.update(
    task_default_queue=queue_name("rabbit"),
    worker_prefetch_multiplier=4,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)


@rabbit.task(name="rabbit.note")
def from_rabbit(*words):
    """Do nothing: the test reads the queue itself."""


@rabbit.task(name="rabbit.note_once", acks_late=True)
def from_rabbit_once(*words):
    """Do as ``note``, once for each message; count how often it is delivered."""
    counter.incr(queue_name("deliveries"))
    once(note)(*words)


unreachable = Celery("unreachable", broker="redis://127.0.0.1:1/0")  # nobody listens there
unreachable.conf.update(
    task_default_queue=queue_name("celery"),
    task_publish_retry=False,
    broker_transport_options={"max_retries": 1, "interval_start": 0, "interval_step": 0},
)


@unreachable.task(name="unreachable.tries_again", bind=True)
def tries_again(self, swallowed):
    """Ask for another run inside a transaction, which that rolls back unless it is swallowed."""
    from tests.app.models import Effect  # noqa: PLC0415 - apps are loaded by then

    with transaction.atomic():
        Effect.objects.create(key="a")
        with suppress(Retry) if swallowed else nullcontext():
            self.retry(countdown=1)


@unreachable.task(name="unreachable.note")
def to_nobody(*words):
    """Do nothing: the test reads the queue itself."""
