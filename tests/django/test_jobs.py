"""``aftercommit.jobs``: what code may do about jobs, on whatever database they are."""

from uuid import UUID

import pytest
from django.db import transaction

from aftercommit import jobs
from aftercommit.errors import BadSelection
from aftercommit.ids import new_job_id
from aftercommit.models import Job
from aftercommit.store import store_for
from aftercommit.values import Ended, Failed, NewJob, RunError
from tests.django.conftest import claim_only_job

pytestmark = pytest.mark.django_db(databases=["default", "other"])

ALIASES = pytest.mark.parametrize("using", ["default", "other"])
ID = UUID("01a22b4d-547a-7eb7-8d4c-f9dcda6a8f59")
ERROR = RunError(exception_class_path="builtins.ValueError", traceback="ValueError: no")


def ready_job(using="default", **given):
    given = {"task_path": "tests.app.tasks.add", "payload": '{"args":[1,2],"kwargs":{}}', **given}
    (job_id,) = store_for(using).insert([NewJob(**given)])
    return job_id


def failed_job(using="default", **given):
    job_id = ready_job(using, queue="failing", **given)
    claim = claim_only_job(queue="failing", using=using)
    assert store_for(using).finish(claim, Failed(ERROR))
    return job_id


def job(job_id, using="default"):
    return Job.objects.using(using).get(pk=job_id)


@ALIASES
def test_a_ready_job_is_cancelled_and_a_running_one_asked_to_stop(using):
    running = ready_job(using, queue="running")
    claim_only_job(queue="running", using=using)
    ready, failed, unknown = ready_job(using), failed_job(using), new_job_id()

    answer = jobs.cancel([ready, running, failed, unknown], using=using)

    assert list(answer.ended) == [Ended(ready, "cancelled")]
    assert (answer.cancelled, answer.requested) == ({ready}, {running})
    assert job(ready, using).state == "cancelled"
    assert (job(running, using).state, job(running, using).cancel_requested) == ("running", True)
    assert job(failed, using).state == "failed"


def test_an_id_may_be_the_text_that_a_result_has():
    first, second = ready_job(), failed_job()

    assert jobs.cancel([str(first)], using="default").cancelled == {first}
    assert jobs.retry(iter([str(second)]), using="default").ready == {second}
    assert [one.pk for one in jobs.find(ids=[str(first)])] == [first]


@pytest.mark.parametrize("change", [jobs.cancel, jobs.retry])
@pytest.mark.parametrize("given", [str(ID), ID, ["abc"], [5], [["a"]], None])
def test_what_is_no_list_of_ids_is_refused_in_a_sentence(change, given):
    with pytest.raises(BadSelection, match=r"^job_ids: expected UUIDs of jobs, such as "):
        change(given, using="default")


def test_a_cancellation_is_part_of_the_callers_transaction():
    job_id = ready_job()

    with transaction.atomic():
        jobs.cancel([job_id], using="default")
        transaction.set_rollback(True)

    assert job(job_id).state == "ready"


@ALIASES
def test_failed_and_cancelled_jobs_get_a_second_life(using):
    failed, cancelled, ready = failed_job(using), ready_job(using), ready_job(using)
    jobs.cancel([cancelled], using=using)

    answer = jobs.retry([failed, cancelled, ready, new_job_id()], using=using)

    assert (answer.ready, answer.clashed) == ({failed, cancelled}, frozenset())
    again = job(failed, using)
    assert (again.state, again.attempts, again.finished_at) == ("ready", 0, None)
    assert len(again.error_list) == 1  # why it has failed stays readable


def test_a_job_whose_unique_key_is_taken_is_reported():
    failed = failed_job(unique_key="key")
    holder = ready_job(unique_key="key")

    answer = jobs.retry([failed], using="default")

    assert (answer.ready, answer.clashed) == (frozenset(), {failed})
    assert (job(failed).state, job(holder).state) == ("failed", "ready")


def test_ids_may_come_from_anywhere_that_can_be_iterated():
    first, second = ready_job(), ready_job()

    assert jobs.cancel((one for one in [first, second, first]), using="default").cancelled == {
        first,
        second,
    }
    assert jobs.retry(iter([first]), using="default").ready == {UUID(str(first))}
