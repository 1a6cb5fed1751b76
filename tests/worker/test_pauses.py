"""Paused queues: no worker claims from them, a new one knows, and nobody pays who pauses none."""

import logging
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from aftercommit import queues
from aftercommit.models import Job, Rule, State
from aftercommit.worker import rules as rules_module
from aftercommit.worker.inline import InlineWorker
from aftercommit.worker.rules import IDLE, KNOWN_FOR, WITHOUT_TABLE
from aftercommit.worker.runs import now
from tests.worker.rig import commits
from tests.worker.room import Room, enqueue

pytestmark = commits

A_MOMENT = timedelta(milliseconds=1)


@pytest.fixture(autouse=True)
def one_database(settings):
    """Let there be one backend only."""
    settings.TASKS = {"default": settings.TASKS["default"]}


@pytest.fixture
def clock(monkeypatch):
    """Return a function that moves the clock of what is known about pauses."""
    at = [now()]
    monkeypatch.setattr(rules_module, "now", lambda: at[0])

    def go_on(span):
        at[0] += span.total_seconds()

    return go_on


@contextmanager
def reads_of_rules():
    """Return the statements that read rules, among those of a block."""
    found = []
    with CaptureQueriesContext(connection) as asked:
        yield found
    found += [one["sql"] for one in asked if "aftercommit_rule" in one["sql"]]


def test_a_paused_queue_is_not_asked_and_the_others_are(store):
    enqueue("mail", 3)
    enqueue("reports", 2)
    queues.pause("mail")
    room = Room(store)

    with CaptureQueriesContext(connection) as asked:
        assert room.fetch() == ["reports", "reports"]
    assert not [one for one in asked if "'mail'" in one["sql"]]
    assert Job.objects.filter(queue="mail", state=State.READY, token=0).count() == 3

    queues.resume("mail")
    room.rules.expire()
    assert room.fetch() == ["mail"] * 3


def test_a_worker_follows_within_half_a_second_without_being_notified(store, clock):
    room = Room(store)
    enqueue("mail", 3)
    assert room.fetch(limit=1) == ["mail"]
    queues.pause("mail")

    clock(KNOWN_FOR)
    assert room.fetch(limit=1) == []
    queues.resume("mail")
    clock(KNOWN_FOR - A_MOMENT)
    assert room.fetch(limit=1) == []
    clock(A_MOMENT)

    assert room.fetch(limit=1) == ["mail"]
    assert timedelta(seconds=0.2) + KNOWN_FOR < timedelta(seconds=1)  # with the next poll


def test_a_busy_worker_reads_the_rules_twice_a_second_and_an_idle_one_hardly(store, clock):
    room = Room(store)
    with reads_of_rules() as idle:
        for _number in range(2 * (IDLE // KNOWN_FOR) - 1):
            clock(KNOWN_FOR)
            assert room.fetch() == []
    assert len(idle) == 1

    enqueue("mail", 10)
    with reads_of_rules() as busy:
        for _number in range(5):
            assert room.fetch(limit=1) == ["mail"]
    assert len(busy) == 1


def test_a_worker_that_cannot_read_the_rules_claims_nothing(store, monkeypatch):
    enqueue("mail")
    queues.pause("mail")
    room, real = Room(store), store.rules
    monkeypatch.setattr(store, "rules", lambda: (_ for _ in ()).throw(OperationalError("away")))
    for _number in range(2):
        with pytest.raises(OperationalError):
            room.fetch()
    monkeypatch.setattr(store, "rules", real)

    assert room.fetch() == []


def test_a_worker_without_the_table_goes_on_and_looks_for_it_now_and_then(
    store, clock, monkeypatch
):
    enqueue("mail", 3)
    room = Room(store)
    with monkeypatch.context() as not_migrated:
        not_migrated.setattr(Rule._meta, "db_table", "aftercommit_not_migrated_yet")
        assert room.fetch(limit=1) == ["mail"]
    queues.pause("mail")
    clock(WITHOUT_TABLE - A_MOMENT)
    assert room.fetch(limit=1) == ["mail"]
    clock(A_MOMENT)

    assert room.fetch(limit=1) == []


def test_jobs_with_crashes_wait_too_and_hide_no_others(store):
    enqueue("mail", 2, crashes=1)
    enqueue("reports", crashes=1)
    queues.pause("mail")
    room = Room(store, crashed=True)
    assert room.fetch() == ["reports"]
    room.crashed.look(at_once=True)
    assert not room.crashed.are_near  # no process is started for them

    queues.resume("mail")
    room.rules.expire()
    room.crashed.look(at_once=True)
    assert room.fetch() == ["mail"] * 2


def test_one_with_crashes_that_was_found_before_the_pause_waits(store):
    enqueue("mail", crashes=1)
    room = Room(store, crashed=True)
    room.crashed.look(at_once=True)
    queues.pause("mail")
    room.rules.expire()

    assert room.fetch() == []


def test_messages_with_keys_wait_with_those_without_and_stay_in_order(store, settings):
    options = {"relay": ["rq"]}
    settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": options}}
    for queue in ("relay.rq", "relay.rq.in_order"):
        enqueue(queue, 3)
    before = list(Job.objects.order_by("queue", "run_after", "id").values_list("id", flat=True))

    queues.pause(broker="rq")
    assert Room(store, relays=True).fetch() == []
    queues.resume("relay.rq")  # the same

    after = Job.objects.order_by("queue", "run_after", "id").values_list("id", flat=True)
    assert list(after) == before
    assert len(Room(store, relays=True).fetch()) == 6


def test_the_log_says_who_has_paused_what_and_that_it_is_over(store, caplog):
    caplog.set_level(logging.INFO, "aftercommit")
    enqueue("mail")
    queues.pause("mail", by="ann", why="the provider is down")
    room = Room(store)
    room.fetch()
    queues.resume("mail")
    room.rules.expire()
    room.fetch()

    said = [one.getMessage() for one in caplog.records if "the queue 'mail'" in one.getMessage()]
    assert len(said) == 2
    assert "'default': the queue 'mail' is paused since " in said[0]
    assert said[0].endswith("UTC by ann: the provider is down")
    assert said[1].endswith("the queue 'mail' is resumed")


def test_flush_queue_leaves_what_is_paused_and_says_so(transactional_db):
    enqueue("mail", 2)
    enqueue("reports")
    queues.pause("mail", by="ann")
    queues.pause("empty")
    worker = InlineWorker()

    assert worker.run() == 1

    (left,) = worker.left_paused
    assert str(left).startswith(
        "2 due jobs were left in database 'default': the queue 'mail' is paused since "
    )
    queues.resume("mail")
    assert InlineWorker().run() == 2
