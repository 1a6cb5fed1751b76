"""Backends of ``django.tasks`` that are not ours become part of the transaction, too."""

import sys
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from importlib import import_module

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction

import tests.app
from aftercommit._compat import TaskResultDoesNotExist, TaskResultStatus, task_backends
from aftercommit.enqueue.registry import _declared
from aftercommit.models import Job
from aftercommit.relay import publish as relay
from tests.brokers.conftest import kept, run_relay
from tests.brokers.elsewhere import LIST

SOON = timedelta(hours=1)
WAYS = {
    "enqueue": lambda note: note.enqueue("a", b=1),
    "using": lambda note: note.using(
        priority=7, run_after=datetime(2100, 1, 1, tzinfo=UTC)
    ).enqueue("a"),
    "aenqueue": lambda note: async_to_sync(note.aenqueue)("a"),
}


@pytest.fixture(params=["mail", "derived"])
def mail(request, settings, redis, transactional_db):
    """Return a task of a backend that is wrapped, and its backend."""
    tasks = deepcopy(settings.TASKS)
    for alias in ("mail", "other mail"):
        tasks[alias] = {"BACKEND": "tests.brokers.elsewhere.RedisBackend"}
    tasks["derived"] = {"BACKEND": "tests.brokers.elsewhere.Derived"}
    tasks["default"]["OPTIONS"] |= {"relay": {"tasks": {"backends": ["mail", "derived"]}}}
    settings.TASKS = tasks
    relay.install()
    from tests.brokers.elsewhere_tasks import note  # noqa: PLC0415 - its alias is there now

    yield note.using(backend=request.param)
    redis.delete(LIST)


def there():
    return task_backends["mail"].entries()


@pytest.mark.parametrize("way", WAYS)
def test_a_task_is_enqueued_after_the_commit(way, mail):
    direct = WAYS[way](mail)
    (as_ever,) = there()
    with transaction.atomic():
        result = WAYS[way](mail)
        assert len(there()) == 1
    assert [one.meta["message_id"] for one in kept()] == [result.id]
    run_relay()

    _direct, relayed = there()
    assert {**relayed, "id": None} == {**as_ever, "id": None}
    assert result.args == direct.args
    assert kept() == []


@pytest.mark.parametrize("way", WAYS)
def test_after_a_rollback_there_is_none(way, mail):
    with transaction.atomic():
        WAYS[way](mail)
        transaction.set_rollback(True)
    run_relay()

    assert there() == []


def test_the_id_leads_to_the_result_before_and_after_the_backend_has_it(mail):
    with transaction.atomic():
        result = mail.enqueue("a")
    assert mail.get_result(result.id).status == TaskResultStatus.READY
    run_relay()

    found = mail.get_result(result.id)
    assert (found.id, found.status) == (result.id, TaskResultStatus.RUNNING)
    result.refresh()
    assert result.status == TaskResultStatus.RUNNING


def test_other_ids_are_asked_of_the_backend(mail):
    direct = mail.enqueue("a")

    assert mail.get_result(direct.id).id == direct.id
    with pytest.raises(TaskResultDoesNotExist):
        mail.get_result("nobody knows")


def test_an_alias_that_is_not_named_is_left_alone(mail):
    with transaction.atomic():
        mail.using(backend="other mail").enqueue("a")
        assert len(there()) == 1


def test_a_task_may_say_never(mail):
    from tests.brokers.elsewhere_tasks import at_once  # noqa: PLC0415

    with transaction.atomic():
        at_once.enqueue("a")
        assert len(there()) == 1


@pytest.mark.parametrize("opened", [True, False])
def test_while_the_server_is_away_the_task_waits(opened, mail, settings):
    tasks = deepcopy(settings.TASKS)
    tasks[mail.backend]["OPTIONS"] = {"url": "redis://127.0.0.1:1/0"}
    there_again, settings.TASKS = settings.TASKS, tasks
    if opened:
        with transaction.atomic():
            mail.enqueue("a")
        run_relay()
    else:
        mail.enqueue("a")
    assert [one.errors for one in kept()] == ["[]"]
    settings.TASKS = there_again
    relay._in_vain.clear()
    relay.resume("relay.tasks")
    Job.objects.update(run_after=datetime.now(UTC) - SOON)
    run_relay()

    assert [one["args"] for one in there()] == [["a"]]


def test_a_name_in_a_row_is_not_imported(mail):
    with transaction.atomic():
        result = mail.enqueue("a")
    (message,) = kept()
    payload = message.payload.replace("tests.brokers.elsewhere_tasks.note", "antigravity.geohash")
    Job.objects.filter(id=message.id).update(payload=payload, max_attempts=1)
    run_relay()

    job = Job.objects.get(id=result.id)
    assert job.state == "failed"
    assert "No task antigravity.geohash is known here" in job.errors
    assert there() == []


DECLARED_LATER = """
try:
    from django.tasks import task
except ImportError:
    from django_tasks import task

@task(backend="mail")
def note(*words):
    pass
"""


@pytest.fixture
def later(mail, tmp_path, monkeypatch):
    """Return a task of a module of an app that is named otherwise than ``tasks.py``."""
    (tmp_path / "declared_later.py").write_text(DECLARED_LATER)
    monkeypatch.setattr(tests.app, "__path__", [*tests.app.__path__, str(tmp_path)])
    yield import_module("tests.app.declared_later").note
    forget_later()


def forget_later():
    """Be a process that has not imported the module."""
    sys.modules.pop("tests.app.declared_later", None)
    vars(tests.app).pop("declared_later", None)
    _declared.pop("tests.app.declared_later.note", None)


def test_a_task_of_an_app_is_published_by_a_relay_that_has_not_loaded_it(later):
    with transaction.atomic():
        result = later.enqueue("a")
    forget_later()
    assert task_backends["mail"].get_result(result.id).status == TaskResultStatus.READY
    forget_later()
    run_relay()

    assert [one["args"] for one in there()] == [["a"]]


@pytest.mark.parametrize("name", ["tests.app.declared_later.json", "tests.app.models.Effect"])
def test_what_is_no_task_is_not_called(name, mail):
    with transaction.atomic():
        mail.enqueue("a")
    (message,) = kept()
    payload = message.payload.replace("tests.brokers.elsewhere_tasks.note", name)
    assert payload != message.payload
    Job.objects.filter(id=message.id).update(payload=payload, max_attempts=1)
    run_relay()

    job = Job.objects.get(id=message.id)
    assert (job.state, there()) == ("failed", [])
    assert f"No task {name} is known here" in job.errors


def test_what_the_backend_refuses_is_refused_at_the_call(mail):
    with transaction.atomic(), pytest.raises(Exception, match="JSON"):
        mail.enqueue(object())
    assert kept() == []
