"""What code written for ``django.tasks`` may expect of any backend."""

import pickle
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.utils import timezone
from django.utils.module_loading import import_string

from aftercommit import enqueue_many, task
from aftercommit._compat import BaseTask, InvalidTask, task_backends, task_finished, task_started
from aftercommit.enqueue.results import finished_result, running_result
from aftercommit.models import Job
from aftercommit.store import store_for
from aftercommit.values import Succeeded
from aftercommit.worker.inline import InlineWorker
from tests.django import tasks
from tests.django.conftest import DUMMY, FIELDS, IMMEDIATE, claim_only_job, only_job, ours

MOMENT = datetime(2100, 1, 1, 12, tzinfo=UTC)
on_the_table = pytest.mark.django_db
with_commits = pytest.mark.django_db(transaction=True)
djangos = import_string(f"{BaseTask.__module__}.task")
WITH_ENQUEUED_AT = {"sqlite", "postgresql"}  # and MariaDB: these databases return it


def plain(*args, **kwargs):
    """Return the arguments."""
    return [list(args), kwargs]


# ---- what a result says of the call ------------------------------------------------------

CALLS = [
    {},
    {"priority": 5},
    {"priority": -100, "queue_name": "mail"},
    {"run_after": MOMENT},
    {"run_after": MOMENT.astimezone(timezone.get_fixed_timezone(-330)), "max_attempts": 2},
    {"backend": "other"},
]


@pytest.mark.django_db(databases=["default", "other"])
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_the_result_of_enqueue_is_that_of_get_result(call):
    variant = tasks.note.using(**call)
    backend = task_backends[variant.backend]

    result = variant.enqueue(1, key="value")
    found = backend.get_result(result.id)

    assert result.task == found.task == variant
    assert found.backend == variant.backend
    mariadb = connection.vendor == "mysql" and connection.mysql_is_mariadb
    if connection.vendor in WITH_ENQUEUED_AT or mariadb:
        assert result == found
    else:
        assert replace(result, enqueued_at=found.enqueued_at) == found


@on_the_table
def test_an_awaited_enqueue_has_the_same_result():
    result = async_to_sync(tasks.note.using(priority=3).aenqueue)(1)

    assert async_to_sync(tasks.note.aget_result)(result.id).task.priority == 3


@on_the_table
def test_a_task_that_the_backend_itself_enqueues_has_its_alias(backends):
    backends(default=ours(), second=ours())

    result = task_backends["second"].enqueue(tasks.note, [1], {})

    assert result.task.backend == result.backend == "second"
    assert task_backends["second"].get_result(result.id).task == result.task


@on_the_table
def test_many_calls_keep_what_belongs_to_them():
    many = tasks.note.using(priority=7, run_after=MOMENT).enqueue_many([(1,), {"a": "b"}])

    found = [task_backends["default"].get_result(one).task for one in many]

    assert [(one.priority, one.run_after) for one in found] == [(7, MOMENT)] * 2


@on_the_table
def test_a_run_sees_the_call_also_after_a_retry():
    tasks.note.using(priority=7, run_after=timezone.now() - timedelta(1)).enqueue(1)
    given = load_run_after()
    Job.objects.update(run_after=timezone.now() - timedelta(minutes=1))  # as a retry does
    claim = claim_only_job()

    running = running_result(claim, tasks.note)
    ended = finished_result(claim, tasks.note, Succeeded("1"), duration=None)

    for result in (running, ended):
        assert (result.task.priority, result.task.run_after) == (7, given)
        assert result.task.func is tasks.note.func
        assert pickle.loads(pickle.dumps(result.task)) == result.task  # noqa: S301


def load_run_after():
    """Return the ``run_after`` of the call of the only job."""
    return task_backends["default"].get_result(str(only_job().id)).task.run_after


@on_the_table
def test_a_retry_of_a_plain_job_does_not_look_like_a_delay():
    tasks.note.enqueue()
    Job.objects.update(run_after=MOMENT)

    assert load_run_after() is None


@on_the_table
def test_a_row_without_the_moment_of_its_call_is_read():
    """Version 0.1 did not store it."""
    tasks.note.using(run_after=MOMENT).enqueue("}", a='"}')
    Job.objects.update(payload='{"args":["}"],"kwargs":{"a":"\\"}"}}')

    assert load_run_after() is None


@on_the_table
def test_a_call_is_shown_though_the_settings_have_changed(backends):
    backends(default=ours(queues=["mail"]))
    result = tasks.note.using(queue_name="mail", priority=3).enqueue()
    backends(default=ours(queues=["default"]))

    found = task_backends["default"].get_result(result.id)

    assert (found.task.queue_name, found.task.priority) == ("mail", 3)


def test_the_store_tells_when_a_job_was_enqueued(db, store):
    job = task_backends["default"].new_job(tasks.note, [], {})

    enqueued_at = store.insert_one(job)

    if enqueued_at is not None:  # MySQL returns nothing
        assert enqueued_at == only_job().enqueued_at
        assert enqueued_at.tzinfo is not None
    else:
        assert connection.vendor == "mysql"


# ---- any task of django.tasks ------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledTask(BaseTask):
    """Another package's task, with a field of its own."""

    label: str = "none"
    max_attempts: str = "as many as you like"  # which is not our option


class LooseTask(BaseTask):
    """Another package's task, with attributes beside its fields."""


def labelled():
    """Be a task of another class."""
    return "labelled"


def loose():
    """Be a task of another class."""
    return "loose"


def kept():
    """Be declared for another backend."""
    return "kept"


def bare():
    """Be declared while another backend is the default."""
    return "bare"


a_labelled_task = LabelledTask(**FIELDS, func=labelled, label="blue")
a_loose_task = LooseTask(**{**FIELDS, "priority": 3}, func=loose)


def _declared_while_another_is_the_default(settings):
    settings.TASKS = {"default": DUMMY}
    return djangos(bare), djangos(kept)


@with_commits
def test_tasks_of_other_classes_are_enqueued_and_run(settings, monkeypatch):
    before = settings.TASKS
    a_bare_task, a_kept_task = _declared_while_another_is_the_default(settings)
    assert type(a_bare_task) is BaseTask
    monkeypatch.setitem(globals(), "bare", a_bare_task)
    monkeypatch.setitem(globals(), "kept", a_kept_task)
    settings.TASKS = {
        "default": {**before["default"], "OPTIONS": {"task_packages": ["tests"]}},
        "at_once": IMMEDIATE,
    }
    given = [a_labelled_task, a_loose_task, a_bare_task, a_kept_task.using(priority=-3)]

    results = [one.enqueue() for one in given]
    InlineWorker().run()

    for one, result in zip(given, results, strict=True):
        result.refresh()
        assert result.return_value == one.func.__name__
        found = one.get_result(result.id)
        assert found.task == result.task == one
        assert type(found.task) is type(one)


@on_the_table
def test_many_calls_of_a_task_of_another_class():
    ids = enqueue_many(a_labelled_task, [(), ()])

    assert [job.task_path for job in Job.objects.all()] == [f"{__name__}.labelled"] * 2
    assert len(ids) == 2


@on_the_table
@pytest.mark.parametrize("other", [DUMMY, IMMEDIATE])
def test_a_task_moves_from_another_backend_to_ours(backends, other):
    backends(default=ours(), another=other)

    moved = djangos(backend="another")(plain).using(backend="default")

    assert type(moved) is BaseTask
    assert moved.enqueue(1).status.name == "READY"
    assert only_job().task_path == f"{__name__}.plain"


def test_what_is_no_task_is_refused():
    with pytest.raises(Exception, match=r"Expected a task of django\.tasks, got") as refused:
        task_backends["default"].validate_task(_NoTask())

    assert isinstance(refused.value, InvalidTask)


class _NoTask:
    """Have what Django's own validation looks at."""

    func = staticmethod(plain)
    takes_context = False
    priority = 0
    run_after = None
    queue_name = "default"


# ---- signals -----------------------------------------------------------------------------


@with_commits
def test_receivers_of_a_run_see_the_task_of_the_call(backends):
    backends(default=ours())
    heard = []

    def receiver(task_result, **_):
        heard.append(task_result.task)

    task_started.connect(receiver)
    task_finished.connect(receiver)
    variant = tasks.answer.using(priority=9)
    try:
        variant.enqueue()
        InlineWorker().run()
    finally:
        task_started.disconnect(receiver)
        task_finished.disconnect(receiver)

    assert heard == [variant, variant]


def test_the_plain_declaration_is_not_copied(db):
    result = task(plain).enqueue()

    assert store_for("default").job(result.id).priority == 0
    assert task_backends["default"].get_result(result.id).task.func is plain
