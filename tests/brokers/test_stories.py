"""The stories with real relays and workers: the task begins after the commit, or never."""

import signal
from datetime import timedelta

import pytest
from django.db import transaction

from tests.brokers import stories
from tests.brokers.addresses import broker_url
from tests.process.conftest import rig  # noqa: F401 - a fixture
from tests.waiting import wait_until

LONG = timedelta(seconds=60)
pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])
WORKERS = {
    "mail": (
        *("celery", "-A", "tests.brokers.stories:app", "worker", "-P", "threads"),
        *("-l", "warning", "--without-mingle"),
    ),
    "length": (
        *("rq.cli", "worker", "-w", "rq.worker.SimpleWorker", "-u", broker_url("redis")),
        stories.queue.name,
    ),
}


@pytest.fixture(params=stories.STORIES)
def story(request, rig, relayed, redis):  # noqa: F811
    """Return the name of a story whose relay and worker run."""
    rig.ledger.remove()  # its triggers are for processes that it has prepared
    libraries = {"celery": {}, "rq": {"url": broker_url("redis")}}
    relayed(libraries=libraries)
    rig.settings_module(f"TASKS['default']['OPTIONS']['relay'] = {libraries!r}")
    rig.settings(modules="tests.brokers.stories", lease=3, heartbeat=1)
    rig.run("-m", *WORKERS[request.param])
    rig.wait_started(rig.django("aftercommit", "relay", "--backend", "default"))
    return request.param


def seen(story):
    lines = (line.decode().split() for line in stories.client.lrange(stories.SEEN, 0, -1))
    return [(pk, found) for name, pk, found in lines if name == story]


def wait_for(story, pk):
    wait_until(
        lambda: str(pk) in dict(seen(story)), deadline=LONG, why=f"the worker has seen {pk}"
    )


def let_the_worker_begin(story):
    """Send something at once, and wait until the worker has done it."""
    _view, now = stories.STORIES[story]
    before = len([pk for pk, _found in seen(story) if pk == "now"])
    now()
    wait_until(
        lambda: len([pk for pk, _found in seen(story) if pk == "now"]) > before,
        deadline=LONG,
        why="the worker does what is sent at once",
    )


def test_the_task_begins_after_the_commit_and_finds_its_row(story):
    view, _now = stories.STORIES[story]
    with transaction.atomic():
        pk = view()
        let_the_worker_begin(story)
        assert str(pk) not in dict(seen(story))
    wait_for(story, pk)

    assert seen(story)[-1] == (str(pk), "found")


def test_after_a_rollback_it_never_begins(story):
    view, _now = stories.STORIES[story]
    with transaction.atomic():
        view()
        transaction.set_rollback(True)
    with transaction.atomic():
        with transaction.atomic():
            view()
            transaction.set_rollback(True)
        kept = view()
    wait_for(story, kept)
    let_the_worker_begin(story)

    begun = [pk for pk, found in seen(story) if pk != "now"]
    assert begun == [str(kept)]
    assert {found for _pk, found in seen(story)} == {"found"}


def test_it_is_not_lost_when_the_web_process_dies_right_after_its_commit(story, rig):  # noqa: F811
    web = rig.run("-m", "tests.brokers.web", story)
    assert web.wait() == -signal.SIGKILL, web.last_words
    wait_until(
        lambda: [found for pk, found in seen(story) if pk != "now"] == ["found"],
        deadline=LONG,
        why="the task has begun, and found its row",
    )
