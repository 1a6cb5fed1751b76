"""The reproducer with procrastinate, with django-q2, and in async code."""

from datetime import timedelta
from functools import partial

import procrastinate
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import transaction
from procrastinate.testing import InMemoryConnector

from aftercommit import task
from aftercommit.errors import ConfigurationError
from aftercommit.reproduce import drop_copies, find_races, play, prepare_copies
from aftercommit.reproduce.play import MOST_REPEATS
from tests.apart import seen_by
from tests.app.models import Effect
from tests.django import race_stories
from tests.django.conftest import IMMEDIATE

pytestmark = pytest.mark.django_db(databases=["default", "other"])
NAIVE, ON_COMMIT = {"early", "rollback"}, {"crash"}
jobs = procrastinate.App(connector=InMemoryConnector())


@pytest.fixture(autouse=True, scope="module")
def copies(django_db_setup, django_db_blocker):
    """Make the copies while no transaction of a test is open."""
    with django_db_blocker.unblock():
        prepare_copies()
    yield
    drop_copies()


@jobs.task(name="complete")
def complete(pk):
    race_stories.complete(pk)


@jobs.task(name="complete_async", pass_context=True)
async def complete_async(context, pk):
    assert context.job.task_kwargs == {"pk": pk}
    await sync_to_async(race_stories.complete)(pk)


PROCRASTINATE = {
    "defer": lambda pk: complete.defer(pk=pk),
    "defer_async": lambda pk: async_to_sync(complete.defer_async)(pk=pk),
    "batch": lambda pk: complete.batch_defer({"pk": pk}),
    "batch_async": lambda pk: async_to_sync(complete.batch_defer_async)({"pk": pk}),
    "configured": lambda pk: complete.configure(priority=3).defer(pk=pk),
    "by name": lambda pk: jobs.configure_task("complete").defer(pk=pk),
    "async task": lambda pk: complete_async.defer(pk=pk),
}


def races(send, schedules=("early", "rollback", "crash")):
    found = find_races(partial(race_stories.create_row, send), schedules=schedules)
    assert [one.error for one in found.expected.ran] == [None], str(found)
    return {one.schedule.value for one in found.races}


@pytest.mark.parametrize("way", PROCRASTINATE)
def test_procrastinate_on_a_connection_of_its_own(way):
    send = PROCRASTINATE[way]

    with jobs.open():
        assert races(send) == NAIVE
        assert races(lambda pk: transaction.on_commit(partial(send, pk))) == ON_COMMIT
        assert jobs.connector.jobs == {}


def test_procrastinate_in_the_transaction(monkeypatch):
    django_connector = pytest.importorskip("procrastinate.contrib.django.django_connector")
    app = procrastinate.App(connector=django_connector.DjangoConnector(alias="default"))
    by_django = app.task(name="complete")(race_stories.complete)

    assert races(lambda pk: by_django.defer(pk=pk)) == set()


def test_procrastinate_refuses_what_is_no_json():
    body = partial(race_stories.create_row, lambda _pk: complete.defer(pk=object()))

    assert "not JSON serializable" in str(find_races(body, schedules=["early"]).expected.error)


def test_a_project_whose_tasks_are_none_of_ours(settings):
    settings.TASKS = {"default": IMMEDIATE}

    assert races(by_delay) == NAIVE


# Tasks that dispatch themselves again, as recurring jobs do.

ENDLESS = 50  # runs: here they end, if nothing else ends them
celery = race_stories.app


@celery.task(name="race_stories.recur")
def recur(pk, number=0):
    Effect.objects.create(key=f"recurred {number}")
    if number < ENDLESS:
        recur.apply_async((pk, number + 1), countdown=3600)


def recur_by_rq(pk, number=0):
    Effect.objects.create(key=f"recurred {number}")
    if number < ENDLESS:
        race_stories.queue.enqueue_in(timedelta(hours=1), recur_by_rq, pk, number + 1)


@celery.task(name="race_stories.ping")
def ping(pk, number=0):
    Effect.objects.create(key=f"recurred {number}")
    if number < ENDLESS:
        pong.delay(pk, number + 1)


@celery.task(name="race_stories.pong")
def pong(pk, number):
    ping.delay(pk, number)


RECURRING = {
    "celery": recur.delay,
    "rq": lambda pk: race_stories.queue.enqueue(recur_by_rq, pk),
    "two in turn": ping.delay,
}


@pytest.mark.parametrize("way", RECURRING)
def test_a_task_that_dispatches_itself_again_ends(way):
    send = RECURRING[way]

    def later(pk):
        transaction.on_commit(partial(send, pk))

    found = find_races(partial(race_stories.create_row, later), schedules=["early", "rollback"])

    assert len([one for one in found.expected.ran if "pong" not in one.name]) == MOST_REPEATS
    assert any("not run" in one.text for one in found.expected.events)
    assert found.races == ()


def test_twice_ends_as_well():
    found = find_races(partial(race_stories.create_row, recur.delay), schedules=["twice"])

    (race,) = found.races
    assert len(race.found.ran) == sum(2**number for number in range(1, MOST_REPEATS + 1))


def test_tasks_that_dispatch_others_without_end_are_an_error(monkeypatch):
    monkeypatch.setattr(play, "MOST_RUNS", 3)

    with pytest.raises(ConfigurationError, match="More than 3 runs"):
        find_races(partial(race_stories.create_row, recur.delay), schedules=["early"])


# Async code.


def by_delay(pk):
    race_stories.CELERY["create"].delay(pk)


async def service(send):
    """Create a row as async code does: a transaction is a matter of one synchronous function."""
    await sync_to_async(race_stories.create_row)(send)


async def send_from_a_coroutine(pk):
    by_delay(pk)


ASYNC = {
    "in the synchronous part": by_delay,
    "by a coroutine inside": async_to_sync(send_from_a_coroutine),
    "by sync_to_async inside": async_to_sync(sync_to_async(by_delay)),
}


@pytest.mark.parametrize("way", ASYNC)
def test_async_code(way):
    send = ASYNC[way]

    def of(send):
        found = find_races(partial(service, send), schedules=["early", "rollback", "crash"])
        return {one.schedule.value for one in found.races}

    assert of(send) == NAIVE
    assert of(lambda pk: transaction.on_commit(partial(send, pk))) == ON_COMMIT


def test_a_coroutine_that_dispatches_after_the_transaction_loses_it_with_its_process():
    async def body():
        row = await Effect.objects.acreate(key="row")
        by_delay(row.pk)

    assert find_races(body, schedules=["early", "rollback", "crash"]).races == ()

    async def in_transactions():
        @sync_to_async
        def create():
            with transaction.atomic():
                return Effect.objects.create(key="row").pk

        by_delay(await create())

    found = find_races(in_transactions, schedules=["early", "rollback", "crash"])
    assert {one.schedule.value for one in found.races} == ON_COMMIT


@task(name="tests.race.complete_by_aenqueue", atomic=True)
def complete_ours(pk):
    race_stories.complete(pk)


async def aenqueue(pk):
    await complete_ours.aenqueue(pk)


def test_aenqueue_is_part_of_the_transaction():
    found = find_races(partial(service, async_to_sync(aenqueue)), schedules=["all"])

    assert [one.error for one in found.expected.ran] == [None]
    assert found.races == (), str(found)


# django-q2, in a process of its own: its app is not among those of the tests.


@pytest.fixture(scope="module")
def of_django_q():
    """Return which schedules lead to another result, by how a task is sent."""
    return seen_by("tests.django.race_cluster")


@pytest.mark.parametrize("way", ["function", "path", "chain", "sync setting"])
def test_django_q(way, of_django_q):
    assert set(of_django_q[way]["naive"]) == NAIVE
    assert set(of_django_q[way]["on_commit"]) == ON_COMMIT


def test_django_q_in_the_transaction(of_django_q):
    assert of_django_q["orm"]["naive"] == []
