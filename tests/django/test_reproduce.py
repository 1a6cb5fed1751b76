"""The reproducer shows each of the five stories, and finds nothing where nothing is wrong."""

import re
from copy import deepcopy
from functools import partial
from uuid import uuid4

import pytest
from celery import chain
from django.contrib.auth.models import User
from django.core import mail
from django.db import connection, transaction
from huey.api import Huey

from aftercommit._compat import BaseTask as Task
from aftercommit.errors import ConfigurationError
from aftercommit.relay import publish
from aftercommit.reproduce import assert_no_race, drop_copies, find_races, prepare_copies
from tests.app.models import Account, Effect
from tests.django import race_stories
from tests.django.conftest import FIELDS, IMMEDIATE
from tests.django.race_stories import STORIES, on_commit

pytestmark = pytest.mark.django_db(databases=["default", "other"])
LAGGING = {"other": "default"}


@pytest.fixture(autouse=True, scope="module")
def copies(django_db_setup, django_db_blocker):
    """Make the copies while no transaction of a test is open."""
    with django_db_blocker.unblock():
        prepare_copies()
    yield
    drop_copies()


@pytest.fixture(autouse=True)
def no_jobs_on_the_replica(settings):
    """Let the other database be one that may stand for a replica."""
    tasks = {"default": deepcopy(settings.TASKS["default"])}
    tasks["default"]["OPTIONS"]["allowed_functions"] = [race_stories.__name__]
    settings.TASKS = tasks


@pytest.fixture
def relay(settings):
    """Let the relay keep the messages of Celery and RQ."""
    tasks = deepcopy(settings.TASKS)
    tasks["default"]["OPTIONS"]["relay"] = race_stories.RELAY
    settings.TASKS = tasks
    publish.install()


def schedules_of(name, send, schedules=("all",)):
    view, _work = STORIES[name]
    account = Account.objects.create(balance=10)
    Effect.objects.create(key=f"account {account.pk}", value=10)
    found = find_races(lambda: view(send), schedules=schedules, replicas=LAGGING)
    assert found.expected.error is None
    assert found.dispatched
    return {race.schedule.value for race in found.races}, str(found)


@pytest.mark.parametrize("name", STORIES)
def test_a_naive_dispatch_fails_when_the_worker_is_quick_and_when_the_commit_fails(name):
    found, report = schedules_of(name, race_stories.naive(name), ["early", "rollback", "crash"])

    assert {"early", "rollback"} <= found, report
    if name != "admin":  # the row was there before
        assert "rolled back: DoesNotExist" in report
    assert "crash" not in found


@pytest.mark.parametrize("name", STORIES)
def test_on_commit_fails_only_when_the_process_dies(name):
    found, report = schedules_of(name, race_stories.on_commit(name))

    assert found - {"twice"} == {"crash"}, report


@pytest.mark.parametrize("name", STORIES)
def test_what_the_relay_sends_passes(name, relay):
    found, report = schedules_of(name, race_stories.relayed(name))

    assert found == set(), report


@pytest.mark.parametrize("name", STORIES)
def test_our_queue_passes(name):
    found, report = schedules_of(name, race_stories.own(name))

    assert found == set(), report


SENT_BY_THE_WORKER = {
    "chain": lambda pk: chain(race_stories.nothing.si(pk), race_stories.insert.si("a")).delay(),
    "link": lambda pk: race_stories.nothing.apply_async([pk], link=race_stories.insert.si("a")),
    "a task": lambda _pk: race_stories.sends_another.delay("a"),
    "a job": race_stories.enqueues_another.delay,
}


@pytest.mark.parametrize("name", SENT_BY_THE_WORKER)
def test_what_the_worker_sends_after_the_death_of_the_codes_process_runs(name, relay):
    found = find_races(
        lambda: race_stories.create_row(SENT_BY_THE_WORKER[name]), schedules=["crash"]
    )

    assert len(found.expected.ran) == 2
    assert found.races == (), str(found)


def test_what_the_code_sends_in_its_end_after_its_death_is_lost():
    def body():
        try:
            with transaction.atomic():
                pk = Effect.objects.create(key="row").pk
        finally:
            race_stories.nothing.delay(pk)

    (race,) = find_races(body, schedules=["crash"]).races

    assert race.differences[0] == "race_stories.nothing does not run"


def test_the_report_shows_the_difference_both_stacks_and_the_schedule():
    def body():
        race_stories.create_row(race_stories.naive("create"))

    with pytest.raises(AssertionError) as raised:
        assert_no_race(body, schedules=["early"])

    report = str(raised.value)
    assert "race_stories.create raises DoesNotExist: Effect matching" in report
    assert "app_effect: 1 row with other values (+ found, - expected)" in report
    assert re.search(r"Dispatch of race_stories.create\(\d+\):\n +tests/django/race_st", report)
    assert re.search(r"opened here:\n +tests/django/race_stories.py:\d+ in create_row", report)
    lines = [line.strip() for line in report.splitlines()]
    order = ["BEGIN", "dispatch", "run", "COMMIT"]
    found = [line.split()[0] for line in lines if line.startswith(tuple(order))]
    assert found == order


def test_the_rows_and_the_transaction_of_the_test_are_not_touched():
    Effect.objects.create(key="mine")
    sent = len(mail.outbox)
    find_races(lambda: race_stories.sign_up(race_stories.naive("mail")))

    assert [one.key for one in Effect.objects.all()] == ["mine"]
    assert not User.objects.exists()
    assert len(mail.outbox) == sent


def test_after_a_crash_only_what_was_to_follow_that_commit_is_missed():
    def body():
        with transaction.atomic():
            on_commit("create")(Effect.objects.create(key="row").pk)
        with transaction.atomic():
            Account.objects.create(balance=1)

    found = find_races(body, schedules=["crash"])

    assert [race.found.plan.at for race in found.races] == [1]
    assert found.races[0].differences[0] == "race_stories.create does not run"
    assert not any("account" in line for line in found.races[0].differences)
    assert "Dispatch of race_stories.create(" in str(found)  # which did not happen


def test_a_task_that_is_delivered_twice():
    def body():
        with transaction.atomic():
            on_commit("mail")(User.objects.create_user("john", "john@example.org").pk)

    (race,) = find_races(body, schedules=["twice"]).races

    assert race.differences[0] == "mail: 2 instead of 1"


def test_a_task_that_reads_a_replica_that_lags():
    def body():
        with transaction.atomic():
            pk = Effect.objects.create(key="row").pk
            transaction.on_commit(partial(race_stories.read_replica.delay, pk))

    assert not find_races(body, schedules=["twice"], replicas=LAGGING).races
    (race,) = find_races(body, schedules=["stale"], replicas=LAGGING).races

    assert "DoesNotExist" in race.differences[0]


def test_a_task_that_waits_for_the_rows_lock_goes_on_after_the_commit():
    Account.objects.create(balance=10)

    def body():
        with transaction.atomic():
            account = Account.objects.select_for_update().get()
            Account.objects.update(balance=20)
            race_stories.add_one.delay(account.pk)

    found = find_races(body, schedules=["early"])

    assert found.races == ()


@pytest.mark.skipif(connection.vendor == "sqlite", reason="a session has no locks of its own")
@pytest.mark.parametrize("schedule", ["early", "crash"])
def test_a_task_that_waits_for_a_lock_of_the_session_goes_on_when_it_is_free(schedule):
    pk = Account.objects.create(balance=10).pk

    def body():
        with race_stories.session_lock(), transaction.atomic():
            race_stories.add_one_alone.delay(pk)
            transaction.on_commit(lambda: None)

    found = find_races(body, schedules=[schedule])

    assert found.expected.error is None
    assert found.expected.callbacks == {1: 1}  # after that commit it dies
    assert any("waits for a lock" in one.text for one in found.expected.events)
    assert found.races == ()


def test_columns_that_differ_by_themselves_are_not_compared():
    def body():
        with transaction.atomic():
            pk = Effect.objects.create(key=str(uuid4()), job_id=uuid4()).pk
            transaction.on_commit(partial(race_stories.nothing.delay, pk))

    assert find_races(body, schedules=["early", "rollback", "twice"]).races == ()


def test_models_columns_and_effects_that_are_compared_are_chosen():
    calls = []

    def body():
        with transaction.atomic():
            transaction.on_commit(partial(race_stories.insert.delay, "row"))
            calls.append("once")

    def differs(**options):
        return bool(find_races(body, schedules=["twice"], **options).races)

    assert differs()
    assert differs(models=[Effect])
    assert not differs(models=["app.Account"])
    assert not differs(ignore=["app_effect"])
    assert (race := find_races(body, schedules=["crash"], effects={"calls": calls}))
    assert not any("calls" in line for line in race.races[0].differences)
    assert calls.count("once") and len(calls) > 1


def test_what_cannot_be_tried_is_said():
    with pytest.raises(AssertionError, match="dispatched no task"):
        assert_no_race(Account.objects.count)
    with pytest.raises(ConfigurationError, match="There is no schedule 'erly'"):
        assert_no_race(Account.objects.count, schedules=["erly"])
    with pytest.raises(ConfigurationError, match="models"):
        assert_no_race(Account.objects.count, models=["app.Nothing"])
    with pytest.raises(ZeroDivisionError):
        assert_no_race(lambda: 1 / 0)


@pytest.mark.parametrize("name", ["dramatiq", "huey"])
def test_other_libraries(name):
    send = {"dramatiq": race_stories.actor.send, "huey": race_stories.by_huey}[name]
    enqueue = vars(type(race_stories.stub))["enqueue"], vars(Huey)["enqueue"]

    def naive_body():
        race_stories.create_row(send)

    def right_body():
        race_stories.create_row(lambda pk: transaction.on_commit(partial(send, pk)))

    naive_races = find_races(naive_body, schedules=["early", "rollback"]).races
    right = find_races(right_body)

    assert {race.schedule.value for race in naive_races} == {"early", "rollback"}
    assert {race.schedule.value for race in right.races} == {"crash"}
    assert [ran.error for ran in right.expected.ran] == [None]
    assert enqueue == (vars(type(race_stories.stub))["enqueue"], vars(Huey)["enqueue"])


def test_tasks_of_another_backend_of_django(settings):
    settings.TASKS |= {"immediate": {"BACKEND": IMMEDIATE["BACKEND"]}}
    complete = Task(
        func=race_stories.complete,
        **FIELDS | {"backend": "immediate", "queue_name": "default"},
        takes_context=False,
    )

    def body():
        race_stories.create_row(complete.enqueue)

    (early, rollback) = find_races(body, schedules=["early", "rollback"]).races

    assert "complete raises" in early.differences[0]
    assert "rolled back" in rollback.differences[0]
