"""Huey's tasks: each way to enqueue one is part of the transaction."""

import pickle
from datetime import timedelta

import pytest
from django.db import transaction
from huey.api import group

from tests.brokers.conftest import kept, run_relay
from tests.brokers.yard import huey, huey_task

WAYS = {
    "call": lambda: huey_task("a"),
    "schedule": lambda: huey_task.schedule(("a",), delay=60),
    "enqueue": lambda: huey.enqueue(huey_task.s("a")),
    "pipeline": lambda: huey.enqueue(huey_task.s("a").then(huey_task, "b")),
    "map": lambda: huey_task.map(["a", "b"]),
    "group": lambda: huey.enqueue(group([huey_task.s("a"), huey_task.s("b")])),
}


def there():
    """Return the ids of the tasks in the storage."""
    return sorted(task.id for task in huey.pending())


@pytest.mark.parametrize("way", WAYS)
def test_a_task_is_enqueued_after_the_commit(way, redis, relayed):
    relayed("huey")
    with transaction.atomic():
        result = WAYS[way]()
        assert there() == []
    assert there() == []
    messages = sorted(one.meta["message_id"] for one in kept())
    assert result is not None
    run_relay()

    assert there() == messages
    assert kept() == []


@pytest.mark.parametrize("way", WAYS)
def test_after_a_rollback_there_is_none(way, redis, relayed):
    relayed("huey")
    with transaction.atomic():
        WAYS[way]()
        transaction.set_rollback(True)
    run_relay()

    assert there() == []


def test_the_result_of_a_kept_task_can_be_waited_for(redis, relayed):
    relayed("huey")
    with transaction.atomic():
        result = huey_task()
    run_relay()
    huey.execute(huey.dequeue())

    assert (result.id, result.get()) == (result.task.id, None)


def test_pickled_arguments_are_passed_on_and_never_loaded(redis, relayed, monkeypatch):
    relayed("huey")
    with transaction.atomic():
        huey_task("a", moment=timedelta(1))
    monkeypatch.setattr(pickle, "loads", forbidden)
    run_relay()
    monkeypatch.undo()

    (task,) = huey.pending()
    assert (task.args, task.kwargs) == (("a",), {"moment": timedelta(1)})


def forbidden(*_):
    raise AssertionError("a pickle was loaded")


def test_a_task_whose_storage_is_away_waits(redis, relayed, monkeypatch):
    relayed("huey")

    def away(*_):
        raise ConnectionRefusedError

    monkeypatch.setattr(huey.storage, "enqueue", away)
    result = huey_task("a")
    assert [one.meta["message_id"] for one in kept()] == [result.id]
    monkeypatch.undo()
    run_relay()

    assert there() == [result.id]
