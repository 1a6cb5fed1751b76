"""task_enqueued: once for each job, and no receiver can undo an enqueue."""

import logging

import pytest

from aftercommit import DatabaseBackend
from aftercommit._compat import BaseTaskBackend, TaskResultStatus, task_enqueued
from aftercommit.models import Job
from tests.django import tasks

pytestmark = pytest.mark.django_db

DJANGOS_LOG = BaseTaskBackend.__module__.partition(".backends")[0]


@pytest.fixture
def heard():
    """Collect what ``task_enqueued`` carries."""
    heard = []

    def receiver(sender, task_result, **_kwargs):
        heard.append((sender, task_result))

    task_enqueued.connect(receiver)
    yield heard
    task_enqueued.disconnect(receiver)


@pytest.fixture
def broken_receiver():
    """Let a receiver fail."""

    def receiver(**_kwargs):
        raise RuntimeError("this receiver is broken")

    task_enqueued.connect(receiver)
    yield
    task_enqueued.disconnect(receiver)


def test_an_enqueue_is_announced_once(heard):
    result = tasks.note.enqueue(1)

    ((sender, announced),) = heard
    assert sender is DatabaseBackend
    assert announced is result
    assert announced.status == TaskResultStatus.READY


def test_each_of_many_is_announced_once_in_order(heard):
    ids = tasks.note.enqueue_many([(number,) for number in range(5)])

    assert [result.id for _, result in heard] == ids
    assert [result.args for _, result in heard] == [[number] for number in range(5)]


def test_what_is_refused_is_not_announced(heard):
    with pytest.raises(TypeError):
        tasks.note.enqueue(object())

    assert heard == []


def test_a_receiver_that_fails_changes_nothing(broken_receiver, heard, caplog):
    result = tasks.note.enqueue()
    ids = tasks.note.enqueue_many([()])

    assert {str(job.id) for job in Job.objects.all()} == {result.id, *ids}
    assert len(heard) == 2
    assert "this receiver is broken" in caplog.text


def test_django_writes_its_own_log(caplog):
    with caplog.at_level(logging.DEBUG, logger=DJANGOS_LOG):
        result = tasks.note.enqueue()
        (other_id,) = tasks.note.enqueue_many([()])

    lines = [record.getMessage() for record in caplog.records if record.name == DJANGOS_LOG]
    assert len(lines) == 2
    assert result.id in lines[0]
    assert other_id in lines[1]


def test_without_receivers_many_jobs_cost_no_results(monkeypatch):
    def announce(*_args):
        raise AssertionError("nobody listens")

    monkeypatch.setattr(DatabaseBackend, "_result", announce)

    assert len(tasks.note.enqueue_many([(), ()])) == 2
