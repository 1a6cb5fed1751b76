"""While a message is kept nobody waits for it, and nobody hears that it has been published."""

import asyncio
from contextlib import suppress

import dramatiq
import pytest
from celery import chain, chord, group
from celery.signals import after_task_publish
from celery.signals import before_task_publish as before
from django.db import connection, transaction
from dramatiq.results import Results
from dramatiq.results.backends import StubBackend
from huey.signals import SIGNAL_ENQUEUED
from rq.exceptions import DuplicateJobError
from rq.job import JobStatus

from aftercommit import ordering_key
from aftercommit.errors import NotPublishedYet
from aftercommit.models import Job
from aftercommit.relay.brokers.unsent import is_unsent
from tests.brokers.addresses import broker_url, queue_name
from tests.brokers.conftest import kept, run_relay
from tests.brokers.shop import app, note
from tests.brokers.yard import actor, client, huey, huey_task, on_redis, rq_queue
from tests.brokers.yard import note as plain

AT_ONCE = pytest.raises(NotPublishedYet, match="after its commit")


@pytest.fixture
def all_on(relayed, redis):
    names = {"celery": {}, "dramatiq": {}, "huey": {}, "rq": {"url": broker_url("redis")}}
    relayed(libraries=names)


def s(word="a"):
    return note.si(word)


@pytest.fixture
def results(monkeypatch):
    """Give Dramatiq's broker a place for results."""
    middleware = Results(backend=StubBackend())
    monkeypatch.setattr(on_redis, "middleware", [*on_redis.middleware, middleware])
    return middleware.backend


WAITS = {
    "Celery": lambda: note.delay("a").get(timeout=9),
    "Celery, wait": lambda: note.delay("a").wait(timeout=9),
    "Celery, chain": lambda: chain(s(), s()).apply_async().get(timeout=9),
    "Celery, group": lambda: group(s(), s()).apply_async().get(timeout=9),
    "Celery, join": lambda: group(s(), s()).apply_async().join(timeout=9),
    "Celery, chord": lambda: chord([s(), s()], s()).apply_async().get(timeout=9),
    "Celery, another result": lambda: app.AsyncResult(note.delay("a").id).get(timeout=9),
    "RQ": lambda: rq_queue.enqueue(plain, "a").latest_result(timeout=9),
    "RQ, cancel": lambda: rq_queue.enqueue(plain, "a").cancel(),
    "RQ, delete": lambda: rq_queue.enqueue(plain, "a").delete(),
    "RQ, save_meta": lambda: rq_queue.enqueue(plain, "a").save_meta(),
    "RQ, refresh": lambda: rq_queue.enqueue(plain, "a").refresh(),
    "Dramatiq": lambda: actor.send("a").get_result(block=True, timeout=9000),
    "Dramatiq, group": lambda: dramatiq.group([actor.message("a")]).run().wait(timeout=9000),
    "Dramatiq, pipeline": lambda: (
        (actor.message("a") | actor.message("b")).run().get_result(block=True, timeout=9000)
    ),
    "Huey": lambda: huey_task("a").get(blocking=True, timeout=9),
    "Huey, call": lambda: huey_task("a")(blocking=True, timeout=9),
    "Huey, group": lambda: huey_task.map(["a", "b"]).get(blocking=True, timeout=9),
}


@pytest.mark.filterwarnings("ignore:Call to deprecated:DeprecationWarning")
@pytest.mark.parametrize("way", WAITS)
def test_waiting_inside_the_transaction_that_keeps_the_message_raises_at_once(
    way, all_on, results
):
    with transaction.atomic(), AT_ONCE:
        with transaction.atomic():
            pass  # a savepoint that ends does not matter
        WAITS[way]()
    assert kept()


def test_the_end_of_the_transaction_ends_it(all_on):
    """In the next one the message may be waited for: the relay may have published it."""
    for goes_wrong in (False, True):
        with transaction.atomic():
            message_id = note.delay("a").id
            assert is_unsent(message_id)
            transaction.set_rollback(goes_wrong)
        with transaction.atomic():
            assert not is_unsent(message_id)
            assert is_unsent(note.delay("b").id)


def test_a_savepoint_that_is_rolled_back_does_not_matter(all_on):
    with transaction.atomic():
        with suppress(ZeroDivisionError), transaction.atomic():
            note.delay("a")
            raise ZeroDivisionError
        assert is_unsent(note.delay("b").id)


def test_the_status_of_a_kept_job_of_rq_is_known(all_on):
    with transaction.atomic():
        job = rq_queue.enqueue(plain, "a")
        assert job.get_status() == JobStatus.QUEUED
    run_relay()
    assert job.get_status() == JobStatus.QUEUED
    job.cancel()
    job.delete()


@pytest.mark.parametrize("where", ["in the table", "in Redis"])
def test_a_unique_job_of_rq_is_refused_at_the_call(where, all_on):
    def send():
        return rq_queue.enqueue(plain, "a", job_id=queue_name("unique"), unique=True)

    with transaction.atomic():
        send()
    if where == "in Redis":
        run_relay()
    with pytest.raises(DuplicateJobError), transaction.atomic():
        send()
    Job.objects.all().delete()
    client.delete(f"rq:job:{queue_name('unique')}")
    client.delete(rq_queue.key)


@pytest.fixture
def heard():
    """Return what receivers of the libraries' signals hear."""
    found = []

    def published(sender, headers, body, routing_key, **_more):
        found.append(("after", sender, headers["id"], body[0]))

    def prepared(sender, headers, **_more):
        headers["tenant"] = "x"
        found.append(("before", sender, headers["id"]))

    class Middleware(dramatiq.Middleware):
        def after_enqueue(self, broker, message, delay):
            found.append(("after", message.message_id))

    def enqueued(_signal, task):
        found.append(("after", task.id))

    after_task_publish.connect(published, weak=False)
    before.connect(prepared, weak=False)
    middleware = Middleware()
    on_redis.middleware.append(middleware)
    huey.signal(SIGNAL_ENQUEUED)(enqueued)
    yield found
    huey.disconnect_signal(enqueued, SIGNAL_ENQUEUED)
    on_redis.middleware.remove(middleware)
    before.disconnect(prepared)
    after_task_publish.disconnect(published)


SENDS = {
    "Celery": lambda: ("after", "shop.note", note.delay("a").id, ("a",)),
    "Dramatiq": lambda: ("after", actor.send("a").message_id),
    "Huey": lambda: ("after", huey_task("a").id),
}


@pytest.mark.parametrize("library", SENDS)
def test_a_library_says_that_a_message_is_published_after_the_commit_only(library, all_on, heard):
    with transaction.atomic():
        SENDS[library]()
        transaction.set_rollback(True)
    assert [one for one in heard if one[0] == "after"] == []
    with transaction.atomic():
        expected = SENDS[library]()
        assert [one for one in heard if one[0] == "after"] == []
    run_relay()

    assert [one for one in heard if one[0] == "after"] == [expected]


def test_celery_s_receivers_may_still_change_a_message(all_on, heard):
    with transaction.atomic():
        message_id = note.delay("a").id
    assert ("before", "shop.note", message_id) in heard
    (job,) = kept()
    assert job.kwargs["content"]["publishes"][0]["headers"]["tenant"] == "x"


@pytest.mark.parametrize("library", SENDS)
@pytest.mark.parametrize("why", ["always", "ordering key"])
def test_in_a_coroutine_a_message_is_kept_as_well(library, why, relayed, redis):
    names = {"celery": {}, "dramatiq": {}, "huey": {}}
    options = {"relay_when": "always"} if why == "always" else {}
    relayed(libraries=names, **options)

    async def send():
        if why == "always":
            return SENDS[library]()
        with ordering_key("k"):
            return SENDS[library]()

    expected = asyncio.run(send())
    (job,) = kept()
    assert job.meta["message_id"] in expected
    assert job.meta.get("ordering_key") == (None if why == "always" else "k")
    assert connection.in_atomic_block is False
