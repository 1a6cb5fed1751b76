"""keep_result=None: the row goes with the success, in whatever way the task is run."""

import asyncio

import pytest
from django.db import IntegrityError, OperationalError

from aftercommit import DatabaseBackend
from aftercommit.models import Job
from aftercommit.options.conf import BackendOptions
from aftercommit.values import Released, RunResult, Succeeded, SucceededAndGone
from aftercommit.worker.facts import facts_for
from tests.app.tasks import add
from tests.worker.rig import Rig, commits, effects, leave

pytestmark = commits


def done(rig, body, **options):
    """Run a job of a task whose rows go; return its id."""
    job_id = rig.enqueue(body, keep_result=None, **options)
    claim = rig.claim(job_id)
    rig.finish(claim, rig.execute(claim))
    return job_id


async def nothing(context):
    await asyncio.sleep(0)


@pytest.mark.parametrize("value", [None, {"a": 1}], ids=str)
@pytest.mark.parametrize("atomic", [False, True])
def test_the_row_goes_and_the_effects_stay(rig: Rig, atomic, value):
    def body(context):
        leave("done")
        return value

    done(rig, body, atomic=atomic)

    assert Job.objects.count() == 0
    assert effects("done") == 1
    ((_claim, result),) = rig.written
    assert result.outcome.value == value
    assert rig.lost == []


def test_the_row_of_an_async_task_and_of_a_commit_block_goes(rig: Rig):
    done(rig, nothing)

    def body(context):
        with context.commit():
            leave("committed")

    done(rig, body)

    assert Job.objects.count() == 0
    assert effects("committed") == 1


@pytest.mark.parametrize("alone_and_in_company", ["in company"], indirect=True)
def test_the_row_goes_in_a_transaction_that_several_jobs_share(alone_and_in_company, rig: Rig):
    job_id = done(rig, lambda context: leave("mine"), atomic=True)

    assert not Job.objects.filter(id=job_id).exists()
    assert effects("mine") == 1


def test_a_failure_keeps_its_row(rig: Rig):
    def body(context):
        raise ValueError

    job_id = done(rig, body, max_attempts=1)

    assert rig.job(job_id).state == "failed"


def test_the_task_says_it_or_the_backend():
    plain = BackendOptions()
    none = BackendOptions(keep_result=None)
    assert facts_for(add, plain).success is Succeeded
    assert facts_for(add, none).success is SucceededAndGone


def test_the_job_says_so_when_it_is_enqueued():
    plain = DatabaseBackend("default", {})
    none = DatabaseBackend("default", {"OPTIONS": {"keep_result": None}})

    assert not plain.new_job(add, [1, 2], {}).goes_with_success
    assert none.new_job(add, [1, 2], {}).goes_with_success


def test_a_body_that_is_cancelled_or_fails_undoes_its_effects_and_keeps_the_row(rig: Rig):
    def body(context):
        leave("undone")
        raise ValueError

    job_id = done(rig, body, atomic=True, max_attempts=2)

    assert rig.job(job_id).state == "ready"
    assert effects("undone") == 0


def test_a_success_whose_answer_was_lost_is_told_as_one(rig: Rig, monkeypatch):
    """The row is gone: only this claim can have deleted it, for it was held until then."""
    job_id = rig.enqueue(lambda context: 1, keep_result=None)
    claim = rig.claim(job_id)
    result = rig.execute(claim)
    finish_many = rig.store.finish_many

    def loses_the_answer(ended):
        monkeypatch.undo()
        finish_many(ended)
        raise OperationalError("the connection broke")

    rig.put(claim, result)
    monkeypatch.setattr(rig.store, "finish_many", loses_the_answer)
    rig.finish_whatever_happens()

    assert rig.lost == []
    assert [one for _claim, one in rig.written] == [result]
    assert Job.objects.count() == 0


def test_a_success_whose_row_cannot_be_deleted_is_no_failure(rig: Rig, monkeypatch):
    job_id = rig.enqueue(lambda context: 1, keep_result=None)
    claim = rig.claim(job_id)
    result = rig.execute(claim)

    def refuses(claims):
        if claims:
            raise IntegrityError("somebody refers to it, says the COMMIT")
        return []

    monkeypatch.setattr(rig.store, "_finish_and_delete", refuses)
    rig.finish(claim, result)

    assert rig.job(job_id).state == "succeeded"
    ((_claim, told),) = rig.written
    assert told.outcome == result.outcome


def test_a_commit_whose_answer_was_lost_is_told_as_a_success(rig: Rig):
    job_id = rig.enqueue(lambda context: 1, keep_result=None)
    claim = rig.claim(job_id)
    result = rig.execute(claim)
    rig.store.finish(claim, result.outcome)
    rig.finish(claim, RunResult(outcome=Released(), in_doubt=result.outcome))

    assert rig.lost == []
    ((_claim, told),) = rig.written
    assert told.outcome == result.outcome
