"""get_result(), refresh(): a job as Django shows it."""

import copy
import dataclasses
import pickle
from datetime import timedelta
from uuid import uuid4

import pytest
from asgiref.sync import async_to_sync

from aftercommit._compat import (
    TaskResultDoesNotExist,
    TaskResultMismatch,
    TaskResultStatus,
    task_backends,
)
from aftercommit.enqueue import results
from aftercommit.models import Job
from aftercommit.values import Cancelled, Failed, Released, Retry, RunError, Succeeded
from tests.django import tasks
from tests.django.conftest import claim_only_job, ours

pytestmark = pytest.mark.django_db(databases=["default", "other"])

FAILURE = RunError(exception_class_path="builtins.ValueError", traceback="Traceback: no\0such")
ALREADY_OVER = timedelta(seconds=-1)
WHEN = {"enqueued_at"}  # by the clock of this process, until it is read from the database


def ways_to_get(job_id):
    """Return a job's result by every road there is."""
    backend = task_backends["default"]
    return [
        tasks.note.get_result(job_id),
        async_to_sync(tasks.note.aget_result)(job_id),
        backend.get_result(job_id),
        async_to_sync(backend.aget_result)(job_id),
    ]


def without(result, names=WHEN):
    """Return a result's fields but some."""
    return {
        name: value for name, value in dataclasses.asdict(result).items() if name not in names
    }


def test_a_result_is_found_by_its_id():
    result = tasks.note.enqueue(1, two=(2,))

    for found in ways_to_get(result.id):
        assert without(found) == without(result)
        assert found.task == tasks.note
        assert abs(found.enqueued_at - result.enqueued_at) < timedelta(minutes=5)


@pytest.mark.parametrize(
    "job_id", ["", "123", "not-an-id", "x" * 10_000, "\0", None, 5, uuid4(), str(uuid4())]
)
def test_an_id_that_no_job_has_does_not_exist(job_id):
    backend = task_backends["default"]

    for get in (tasks.note.get_result, backend.get_result):
        with pytest.raises(TaskResultDoesNotExist):
            get(job_id)
    for aget in (tasks.note.aget_result, backend.aget_result):
        with pytest.raises(TaskResultDoesNotExist):
            async_to_sync(aget)(job_id)


@pytest.mark.parametrize("job_id", ["123", "\ud800", b"\0", object()])
def test_a_malformed_id_is_no_query(job_id, django_assert_num_queries):
    with django_assert_num_queries(0), pytest.raises(TaskResultDoesNotExist):
        tasks.note.get_result(job_id)


def test_a_job_of_another_backend_does_not_exist_here():
    there = tasks.elsewhere.enqueue()
    Job.objects.bulk_create(Job.objects.using("other").all())  # the same row, even in our table

    with pytest.raises(TaskResultDoesNotExist):
        task_backends["default"].get_result(there.id)
    assert tasks.elsewhere.get_result(there.id).id == there.id


def test_a_job_of_a_task_that_nobody_declares_does_not_exist():
    result = tasks.note.enqueue()
    Job.objects.update(task_path="os.system")

    with pytest.raises(TaskResultDoesNotExist):
        tasks.note.get_result(result.id)


def test_a_job_of_another_task_is_a_mismatch():
    result = tasks.anote.enqueue()

    with pytest.raises(TaskResultMismatch, match=r"received 'tests\.django\.tasks\.anote'"):
        tasks.note.get_result(result.id)
    with pytest.raises(TaskResultMismatch):
        async_to_sync(tasks.note.aget_result)(result.id)
    assert task_backends["default"].get_result(result.id).task == tasks.anote


@pytest.fixture(params=["refresh", "arefresh"])
def refresh(request):
    """Return the sync and the async way to read a result again."""
    if request.param == "refresh":
        return lambda result: result.refresh()
    return lambda result: async_to_sync(result.arefresh)()


def test_a_refresh_is_one_query(refresh, django_assert_num_queries):
    result = tasks.note.enqueue()

    with django_assert_num_queries(1):
        refresh(result)


def test_a_refresh_of_an_unchanged_job_changes_nothing(refresh):
    result = tasks.note.get_result(tasks.note.enqueue(1).id)
    before = dataclasses.asdict(result)

    refresh(result)

    assert dataclasses.asdict(result) == before


def test_a_running_job_has_a_worker_and_a_beginning(refresh):
    result = tasks.note.enqueue()
    claim = claim_only_job()

    refresh(result)

    assert (result.status, result.state) == (TaskResultStatus.RUNNING, "running")
    assert result.worker_ids == [str(claim.worker_id)]
    assert (result.attempts, result.is_finished) == (1, False)
    assert result.started_at == result.last_attempted_at
    assert result.finished_at is None
    with pytest.raises(ValueError, match="not finished yet"):
        _ = result.return_value


def test_a_job_that_succeeded_has_its_value(refresh, store):
    result = tasks.answer.enqueue()
    claim = claim_only_job()
    store.finish(claim, Succeeded('{"value": [42, null, "a\\u0000b"]}'))

    refresh(result)

    assert (result.status, result.state) == (TaskResultStatus.SUCCESSFUL, "succeeded")
    assert result.is_finished
    assert result.return_value == {"value": [42, None, "a\0b"]}
    assert result.worker_ids == [str(claim.worker_id)]
    assert result.errors == []
    assert result.enqueued_at <= result.started_at <= result.finished_at


def test_a_job_that_failed_says_why(refresh, store):
    result = tasks.answer.enqueue()
    store.finish(claim_only_job(), Failed(FAILURE))

    refresh(result)

    assert (result.status, result.state) == (TaskResultStatus.FAILED, "failed")
    (error,) = result.errors
    assert error.exception_class is ValueError
    assert error.traceback == FAILURE.traceback
    with pytest.raises(ValueError, match="Task failed"):
        _ = result.return_value


def test_a_job_that_waits_for_its_next_attempt_is_ready_again(refresh, store):
    result = tasks.answer.enqueue()
    store.finish(claim_only_job(), Retry(FAILURE, timedelta(hours=1)))

    refresh(result)

    assert (result.status, result.state) == (TaskResultStatus.READY, "ready")
    assert (len(result.errors), result.attempts) == (1, 1)
    assert result.finished_at is None


def test_a_cancelled_job_has_failed_for_django_and_is_cancelled_for_us(refresh, store):
    result = tasks.answer.enqueue()
    store.finish(claim_only_job(), Cancelled(FAILURE))

    refresh(result)

    assert (result.status, result.state) == (TaskResultStatus.FAILED, "cancelled")


def test_a_released_run_was_no_attempt(refresh, store):
    result = tasks.answer.enqueue()
    store.finish(claim_only_job(), Released())

    refresh(result)

    assert (result.status, result.attempts) == (TaskResultStatus.READY, 0)


def test_each_attempt_has_its_worker_and_each_failure_its_error(refresh, store):
    result = tasks.answer.enqueue()
    workers = [uuid4() for _ in range(3)]
    for worker_id in workers[:2]:
        store.finish(claim_only_job(worker_id=worker_id), Retry(FAILURE, ALREADY_OVER))
    last = claim_only_job(worker_id=workers[2])

    refresh(result)
    assert (result.attempts, len(result.errors)) == (3, 2)
    assert result.worker_ids == [str(worker_id) for worker_id in workers]

    store.finish(last, Succeeded())
    refresh(result)
    assert (result.attempts, len(result.errors)) == (3, 2)
    assert result.return_value is None
    assert result.started_at <= result.last_attempted_at


def test_a_manual_retry_counts_anew_and_forgets_no_error(refresh, store):
    result = tasks.answer.enqueue()
    store.finish(claim_only_job(), Failed(FAILURE))
    store.retry([Job.objects.get().id])

    refresh(result)

    assert (result.status, result.attempts, len(result.errors)) == (TaskResultStatus.READY, 0, 1)


def test_a_result_can_be_pickled_before_and_after_its_run(store):
    result = tasks.note.using(priority=3).enqueue(1, two=[2])
    store.finish(claim_only_job(), Succeeded("42"))
    finished = tasks.note.get_result(result.id)

    for one in (result, finished):
        assert pickle.loads(pickle.dumps(one)) == one  # noqa: S301
    assert pickle.loads(pickle.dumps(finished)).return_value == 42  # noqa: S301


def test_the_arguments_in_a_result_are_those_of_the_job_whatever_becomes_of_the_callers():
    given = [1]
    result = tasks.note.enqueue(given, two=(given,))
    given.append(2)

    assert (result.args, result.kwargs) == ([[1]], {"two": [[1]]})
    assert result.args is result.args
    assert result.kwargs is result.kwargs


def test_the_arguments_in_a_result_are_read_by_who_looks(monkeypatch):
    read = []
    monkeypatch.setattr(results, "load_arguments", lambda text: read.append(text) or ([], {}))

    result = tasks.note.enqueue(1)
    assert (result.id, result.status, read) == (result.id, TaskResultStatus.READY, [])

    assert (result.kwargs, result.args) == ({}, [])
    assert read == ['{"args":[1],"kwargs":{}}']


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, dataclasses.replace, lambda one: pickle.loads(pickle.dumps(one))],  # noqa: S301
)
def test_a_result_that_nobody_has_looked_at_can_be_copied(copied):
    result = tasks.note.enqueue(1, two=(2,))

    assert copied(result) == result
    assert (copied(result).args, copied(result).kwargs) == ([1], {"two": [2]})
    assert dataclasses.replace(result, args=[(3,)]).args == [[3]]
    assert "args=[1], kwargs={'two': [2]}" in repr(result)


def test_a_result_has_no_other_attributes():
    result = tasks.note.enqueue()

    with pytest.raises(AttributeError, match="'JobResult' object has no attribute 'argument'"):
        _ = result.argument
    assert not hasattr(dataclasses.replace(result), "_payload")


def test_a_result_cannot_be_changed():
    result = tasks.answer.enqueue()

    with pytest.raises(dataclasses.FrozenInstanceError):
        result.status = TaskResultStatus.FAILED


def test_the_jobs_of_a_module_that_is_not_imported_yet_are_found(backends):
    result = tasks.note.enqueue()
    Job.objects.update(task_path="tests.django.more_tasks.rare")
    backends(default=ours(task_modules=["tests.django.more_tasks"]))

    assert task_backends["default"].get_result(result.id).task.name == "rare"
