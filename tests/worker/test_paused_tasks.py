"""Paused tasks: their jobs wait, are in nobody's way, and come back, whoever is there by then."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from aftercommit import queues
from aftercommit.models import Dependency, Job, Rule
from aftercommit.store import aside
from aftercommit.store.aside import Front
from aftercommit.store.rules import pause_of
from aftercommit.worker.claiming import paused_tasks
from aftercommit.worker.inline import InlineWorker
from tests.app.tasks import add, plain_effect
from tests.worker.rig import commits
from tests.worker.room import Room, enqueue

pytestmark = commits


@pytest.fixture(autouse=True)
def one_database(settings, monkeypatch):
    """Let there be one backend, and batches that are small and have time enough."""
    settings.TASKS = {"default": settings.TASKS["default"]}
    monkeypatch.setattr(aside, "FRONT", 4)
    monkeypatch.setattr(paused_tasks, "AT_A_TIME", timedelta(minutes=1))


def enqueue_others(number):
    """Enqueue jobs of another task in the same queue."""
    for one in range(number):
        plain_effect.using(queue_name="mail").enqueue(f"other {one}")


def paths(room, limit=100):
    """Return the paths of the tasks of which jobs are claimed, without those before."""
    claims = room.fetcher.fetch(limit=limit)
    return [claim.task_path.rpartition(".")[2] for claim, _facts in claims]


def test_jobs_of_a_paused_task_wait_and_others_behind_them_are_claimed(store):
    enqueue("mail", 10)
    enqueue_others(2)
    queues.pause(task=add)
    room = Room(store)

    assert paths(room) == ["plain_effect"] * 2
    assert Job.objects.filter(claimable=True).count() == 0
    assert not room.fetcher.aside.has_more

    queues.resume(task=add)
    room.rules.expire()
    assert paths(room) == ["add"] * 10
    assert not Dependency.objects.exists()
    assert not Rule.objects.exists()


def test_each_is_set_aside_once_and_then_costs_nothing(store):
    enqueue("mail", 9)
    queues.pause(task=add)
    room = Room(store)
    paths(room)

    with CaptureQueriesContext(connection) as asked:
        assert paths(room) == []
    assert [one["sql"] for one in asked if "aftercommit_dependency" in one["sql"]] == []
    assert len(asked) <= 8  # the first jobs of the queue that it knows, a claim, who has due jobs


def test_what_there_is_no_time_for_is_set_aside_by_the_next_fetch_at_once(store, monkeypatch):
    monkeypatch.setattr(paused_tasks, "AT_A_TIME", timedelta(0))
    enqueue("mail", 9)
    queues.pause(task=add)
    room = Room(store)
    assert paths(room) == []
    assert room.fetcher.aside.has_more
    monkeypatch.setattr(paused_tasks, "AT_A_TIME", timedelta(minutes=1))
    room.fetcher.fetch(limit=1)

    assert not room.fetcher.aside.has_more
    assert store.set_aside_of("tests.app.tasks.add") == 9


def test_a_worker_that_comes_when_all_are_set_aside_brings_them_back(store):
    enqueue("mail", 9)
    queues.pause(task=add)
    paths(Room(store))
    queues.resume(task=add)
    late = Room(store)
    late.rules.expire()  # five seconds later, or notified

    assert paths(late) == ["add"] * 9


def test_one_with_crashes_waits_too(store):
    enqueue("mail", crashes=1)
    queues.pause(task=add)
    room = Room(store, crashed=True)
    assert room.fetch() == []
    room.crashed.look(at_once=True)
    assert not room.crashed.are_near

    paths(Room(store))  # sets it aside
    queues.resume(task=add)
    paths(late := Room(store))
    late.rules.expire()
    paths(late)
    room.rules.expire()
    room.crashed.look(at_once=True)
    assert room.fetch() == ["mail"]


def test_flush_queue_leaves_them_says_so_and_brings_back_what_others_set_aside(store):
    enqueue("mail", 5)
    enqueue_others(1)
    queues.pause(task=add, by="ann")
    worker = InlineWorker()
    assert worker.run() == 1
    (left,) = worker.left_paused
    assert str(left).startswith(
        "5 due jobs were left in database 'default': the task 'tests.app.tasks.add' is paused"
    )

    paths(Room(store))
    worker = InlineWorker()
    assert worker.run() == 0
    assert [one.number for one in worker.left_paused] == [5]
    queues.resume(task=add)
    assert InlineWorker().run() == 5


def test_a_worker_without_pauses_pays_no_statement(store):
    enqueue("mail", 3)
    room = Room(store)
    assert paths(room, limit=1) == ["add"]

    with CaptureQueriesContext(connection) as asked:
        assert paths(room, limit=1) == ["add"]
    words = ("aftercommit_rule", "aftercommit_dependency")
    assert [one["sql"] for one in asked if any(word in one["sql"] for word in words)] == []
    assert pause_of("a") != pause_of("b")


def test_one_that_could_not_be_set_aside_is_not_claimed_either(store, monkeypatch):
    monkeypatch.setattr(store, "set_aside", lambda *_: Front.CLEAR)  # it becomes due just now
    enqueue("mail", 2)
    enqueue_others(1)
    queues.pause(task=add)

    assert paths(Room(store)) == ["plain_effect"]
