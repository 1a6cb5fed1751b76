"""Tasks that may run here or in a worker of Celery; imported when the alias is in TASKS."""

from datetime import timedelta
from threading import Event

import redis
from celery.exceptions import SoftTimeLimitExceeded
from django.db import IntegrityError, transaction

from aftercommit import Cancel, Discard, Snooze, task
from aftercommit.errors import TimedOut
from tests.app.models import Effect
from tests.brokers.addresses import broker_url, queue_name

counter = redis.Redis.from_url(broker_url("redis"))
SOON, LONG = timedelta(milliseconds=10), timedelta(minutes=5)


def count(key):
    """Return how often this was called with a key."""
    return counter.incr(queue_name(f"runs_{key}"))


@task(backend="far", max_attempts=3, backoff=SOON)
def effect(key):
    """Leave an effect."""
    count(key)
    Effect.objects.create(key=key)
    return key


@task(backend="far", atomic=True, max_attempts=3, backoff=SOON)
def fails_twice(key):
    """Leave an effect that is rolled back twice."""
    Effect.objects.create(key=key)
    if count(key) < 3:
        raise ValueError(key)
    return key


@task(backend="far", max_attempts=2, backoff=SOON)
def fails(key, error):
    """Raise what it is told to."""
    count(key)
    raise {"value": ValueError, "discard": Discard, "cancel": Cancel}[error](key)


@task(
    backend="far", max_attempts=2, backoff=SOON, retry_on=TimedOut, timeout=timedelta(minutes=5)
)
def takes_too_long(key):
    """End as Celery ends it after its soft time limit."""
    count(key)
    raise SoftTimeLimitExceeded


@task(
    backend="far",
    max_attempts=2,
    backoff=SOON,
    retry_on=TimedOut,
    timeout=timedelta(milliseconds=200),
)
def never_ends(key):
    """Take more time than there is."""
    count(key)
    while True:  # an exception that is raised in a thread comes between two waits
        Event().wait(0.05)


@task(backend="far", max_attempts=1)
def snoozes(key):
    """Sleep three times, which costs no attempt."""
    if count(key) <= 3:
        raise Snooze(SOON)
    Effect.objects.create(key=key)


@task(backend="far", takes_context=True, max_attempts=3, backoff=SOON)
def by_hand(context, key):
    """Commit the effect in its own place, and say which attempt it is."""
    attempt = context.attempt
    if attempt == 1:
        raise IntegrityError
    with context.commit() as finish:
        Effect.objects.create(key=f"{key} {attempt}")
        finish.return_value = context.job_id
    assert not transaction.get_connection().in_atomic_block


@task(backend="far")
async def asynchronous(key):
    """Return a key, slowly."""
    return key
