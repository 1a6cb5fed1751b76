"""Processes that a test or a program starts have its settings and its databases."""

import contextlib

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from aftercommit.enqueue.registry import registered
from aftercommit.management.subcommands import worker as worker_command
from aftercommit.models import Job, State
from aftercommit.worker.processes.forking import forking
from tests.app.models import Effect
from tests.app.routing import EffectsElsewhere, Unpicklable
from tests.app.tasks import plain_effect
from tests.databases import ALIASES

pytestmark = pytest.mark.django_db(transaction=True, databases=ALIASES)
WORKER = ["aftercommit", "worker", "--drain"]
MOVED = {
    "default": {
        "BACKEND": "aftercommit.DatabaseBackend",
        "QUEUES": [],
        "OPTIONS": {"using": "third"},
    }
}


@pytest.fixture(autouse=True)
def _spawned(monkeypatch):
    """Start new Pythons: a fork has everything anyway."""
    monkeypatch.setattr(forking, "is_safe", lambda: False)


@pytest.fixture
def third():
    """Add a database while the program runs: the other one under a name nobody else knows."""
    connections.settings["third"] = {**connections.settings["other"]}
    yield "third"
    connections["third"].close()
    del connections["third"]
    del connections.settings["third"]


@contextlib.contextmanager
def name_of_default(name):
    """Change the name of a database in place, as a test runner does."""
    found = connections["default"].settings_dict
    before = found["NAME"]
    connections["default"].close()
    found["NAME"] = name
    try:
        yield
    finally:
        connections["default"].close()
        found["NAME"] = before


def test_they_serve_the_backends_of_the_program(settings):
    settings.TASKS = {"default": {**settings.TASKS["other"]}}
    job_id = plain_effect.enqueue("there").id

    call_command(*WORKER)

    assert Job.objects.using("other").get(pk=job_id).state == State.SUCCEEDED


def test_they_serve_a_database_that_the_program_has_added(third, settings, monkeypatch):
    settings.TASKS = {"default": {**settings.TASKS["other"]}}
    job_id = plain_effect.enqueue("there").id
    settings.TASKS = MOVED
    # Django allows this process no connections to a database that the test has added.
    monkeypatch.setattr(worker_command.Worker, "_look_ahead", lambda *_, **__: 0)
    monkeypatch.setattr(worker_command.Worker, "_unfinished", lambda *_: 0)

    call_command(*WORKER)

    assert Job.objects.using("other").get(pk=job_id).state == State.SUCCEEDED


def test_they_serve_the_database_whose_name_was_changed(settings):
    settings.TASKS = {"default": settings.TASKS["default"]}
    with name_of_default(connections["other"].settings_dict["NAME"]):
        job_id = plain_effect.enqueue("there").id

        call_command(*WORKER)

        assert Effect.objects.filter(key="there").exists()
    assert Job.objects.using("other").get(pk=job_id).state == State.SUCCEEDED
    assert not Job.objects.exists()


def test_they_have_the_routers_of_the_program(settings):
    settings.TASKS = {"default": settings.TASKS["default"]}
    plain_effect.enqueue("routed")
    settings.DATABASE_ROUTERS = [EffectsElsewhere()]

    call_command(*WORKER)

    settings.DATABASE_ROUTERS = []
    assert not Effect.objects.exists()
    assert Effect.objects.using("other").count() == 1


class Local:
    """A class that a new Python could import, of which it may not."""

    __reduce__ = Unpicklable.__reduce__


@pytest.mark.parametrize("where", ["DATABASE_ROUTERS", "TASKS", "DATABASES"])
def test_what_cannot_be_handed_over_is_refused_before_anything_is_claimed(
    settings, monkeypatch, where
):
    job_id = plain_effect.enqueue("not run").id
    if where == "DATABASE_ROUTERS":
        settings.DATABASE_ROUTERS = [Unpicklable()]
    elif where == "TASKS":
        settings.TASKS = {"default": {**settings.TASKS["default"], "LOCAL": Local()}}
    else:
        options = {**connections["default"].settings_dict.get("OPTIONS", {}), "local": Local()}
        monkeypatch.setitem(connections["default"].settings_dict, "OPTIONS", options)

    with pytest.raises(CommandError, match=where):
        call_command(*WORKER)

    monkeypatch.undo()
    settings.DATABASE_ROUTERS = []
    assert Job.objects.get(pk=job_id).state == State.READY
    assert registered(plain_effect.module_path) is not None


@pytest.mark.parametrize("name", [":memory:", "file:memorydb_default?mode=memory&cache=shared"])
def test_a_database_in_memory_is_refused(settings, monkeypatch, name):
    in_memory = {**connections["default"].settings_dict, "NAME": name}
    in_memory |= {"ENGINE": "django.db.backends.sqlite3", "OPTIONS": {}}
    connections.settings["third"] = in_memory
    settings.TASKS = MOVED
    try:
        with pytest.raises(CommandError, match="flush_queue"):
            call_command(*WORKER)
        with pytest.raises(CommandError, match="in the memory of this process"):
            call_command(*WORKER, "--fork")
    finally:
        connections["third"].close()
        del connections["third"]
        del connections.settings["third"]


def test_a_database_in_memory_that_nobody_serves_is_no_obstacle(settings):
    in_memory = {**connections["default"].settings_dict, "NAME": ":memory:"}
    in_memory |= {"ENGINE": "django.db.backends.sqlite3", "OPTIONS": {}}
    connections.settings["third"] = in_memory
    settings.TASKS = {"default": settings.TASKS["default"]}
    job_id = plain_effect.enqueue("here").id
    try:
        call_command(*WORKER)
    finally:
        connections["third"].close()
        del connections["third"]
        del connections.settings["third"]

    assert Job.objects.get(pk=job_id).state == State.SUCCEEDED
