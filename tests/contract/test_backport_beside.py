"""The backport ``django_tasks`` beside Django's own tasks, as on every site with Wagtail."""

import logging
import pickle
import sys
from importlib import import_module

import django
import pytest
from django.test.signals import setting_changed

from aftercommit import DatabaseBackend, Task
from aftercommit._compat import (
    InvalidTask,
    TaskResultDoesNotExist,
    TaskResultMismatch,
    for_both,
    task_enqueued,
    task_finished,
    task_started,
)
from aftercommit.worker.inline import InlineWorker
from tests.django import tasks
from tests.django.conftest import DUMMY, ours

NAMES = ("task_enqueued", "task_started", "task_finished")
THEIR_DUMMY = {"BACKEND": "django_tasks.backends.dummy.DummyBackend", "QUEUES": []}

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(django.VERSION < (6,), reason="without tasks of Django's own"),
]


@pytest.fixture
def backport(settings):
    """Return the backport, loaded for this test only."""
    backport = pytest.importorskip("django_tasks")
    for name in ("base", "exceptions", "signals"):
        import_module(f"django_tasks.{name}")
    settings.TASKS = {"default": ours(), "theirs": THEIR_DUMMY, "dummy": DUMMY}
    yield backport
    setting_changed.disconnect(backport.signals.clear_tasks_handlers)
    for name in [one for one in sys.modules if one.partition(".")[0] == "django_tasks"]:
        del sys.modules[name]


@pytest.fixture
def heard(backport):
    """Collect what the signals of both carry."""
    heard = []
    receivers = []
    both = {"django": (task_enqueued, task_started, task_finished)}
    both["backport"] = tuple(getattr(backport.signals, name) for name in NAMES)
    for whose, signals in both.items():
        for name, signal in zip(NAMES, signals, strict=True):

            def receiver(sender, task_result, _said=(whose, name), **_):
                heard.append((*_said, sender, task_result.task.name))

            receivers.append((signal, receiver))
            signal.connect(receiver)
    yield heard
    for signal, receiver in receivers:
        signal.disconnect(receiver)


def by_theirs():
    """Be declared with the decorator of the backport."""
    return "by theirs"


def of_theirs(context):
    """Be a task of the backport's own class, which takes the context."""
    return [type(context).__name__, context.attempt]


def failing():
    """Fail."""
    raise ValueError("on purpose")


def test_its_decorator_declares_a_task_of_ours(backport):
    declared = backport.task(by_theirs)

    result = declared.enqueue()
    InlineWorker().run()
    result.refresh()

    assert type(declared) is Task
    assert result.return_value == "by theirs"
    assert result.status == backport.TaskResultStatus.SUCCESSFUL


def test_a_task_of_its_own_class_is_taken(backport, monkeypatch):
    declared = backport.task(backend="theirs", takes_context=True)(of_theirs)
    monkeypatch.setitem(globals(), "of_theirs", declared)
    backend = backport.task_backends["default"]
    assert isinstance(backend, DatabaseBackend)
    moved = declared.using(backend="default", priority=3)
    assert type(moved) is backport.base.Task

    result = moved.enqueue()
    found = backend.get_result(result.id)

    assert found.task == moved == result.task


def test_receivers_of_both_hear_each_moment_once(backport, heard):
    backport.task(by_theirs).enqueue()
    InlineWorker().run()

    told = {(whose, name): (sender, task) for whose, name, sender, task in heard}
    assert len(heard) == len(told) == 6
    assert set(told.values()) == {(DatabaseBackend, "by_theirs")}


def test_its_log_does_not_repeat_what_is_in_djangos(backport, heard, caplog):
    with caplog.at_level(logging.DEBUG):
        backport.task(failing).using(max_attempts=1).enqueue()
        InlineWorker().run()

    names = [one.name for one in caplog.records if one.name.startswith("django")]
    assert names.count("django.tasks") == 2  # it has started, it has failed
    assert "django_tasks" not in names
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("django_tasks").info("its own line")
    assert caplog.messages[-1] == "its own line"


def test_nothing_is_built_for_its_log_alone(backport):
    from aftercommit.enqueue.signals import started  # noqa: PLC0415

    assert backport.signals.task_started.receivers  # its own log
    assert started._backports() is None


@pytest.mark.parametrize("name", ["InvalidTaskError", "InvalidTask"])
def test_its_exceptions_are_raised_too(backport, monkeypatch, name):
    theirs = backport.exceptions.InvalidTaskError
    if name != "InvalidTaskError":  # its next release
        monkeypatch.delattr(backport.exceptions, "InvalidTaskError")
        monkeypatch.setattr(backport.exceptions, name, theirs, raising=False)
    for wrong in ({"queue_name": ""}, {"priority": 101}, {"run_after": "tomorrow"}):
        with pytest.raises(theirs) as refused:
            tasks.note.using(**wrong)
        assert isinstance(refused.value, InvalidTask)
        assert "task" in str(refused.value) or "priority" in str(refused.value)


def test_a_missing_result_is_missing_for_both(backport):
    with pytest.raises(backport.exceptions.TaskResultDoesNotExist) as missing:
        tasks.note.get_result("123")
    assert isinstance(missing.value, TaskResultDoesNotExist)

    other = tasks.answer.enqueue()
    with pytest.raises(backport.exceptions.TaskResultMismatch) as mistaken:
        tasks.note.get_result(other.id)
    assert isinstance(mistaken.value, TaskResultMismatch)


def test_an_exception_of_both_travels(backport):
    raised = for_both(InvalidTask("refused"))

    copied = pickle.loads(pickle.dumps(raised))  # noqa: S301

    assert for_both(raised) is raised
    assert (type(copied), copied.args) == (InvalidTask, ("refused",))
    assert type(raised).__qualname__ == "InvalidTask"


def test_an_exception_of_the_backport_may_be_one_of_djangos_as_well(backport, monkeypatch):
    class Theirs(InvalidTask):
        """The exception of a backport that builds upon Django's."""

    for name in ("InvalidTask", "InvalidTaskError"):
        monkeypatch.setattr(backport.exceptions, name, Theirs, raising=False)

    raised = for_both(InvalidTask("refused"))

    assert isinstance(raised, Theirs)
    assert type(pickle.loads(pickle.dumps(raised))) is InvalidTask  # noqa: S301
    with pytest.raises(Theirs):
        tasks.note.using(queue_name="")


def test_without_it_the_exceptions_are_djangos():
    error = InvalidTask("refused")

    assert for_both(error) is error
