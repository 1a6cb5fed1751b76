"""Arguments that do not fit the function: refused at the call, and not tried again."""

from uuid import UUID

import pytest

from aftercommit import task
from aftercommit.models import Job, State
from tests.worker.rig import QUEUE, commits

pytestmark = commits
MISSING = "missing 1 required positional argument: 'user_id'"


@task(queue_name=QUEUE, max_attempts=5)
def greet(user_id, *, politely=True):
    if user_id == "inside":
        plainly()
    return user_id


@task(queue_name=QUEUE, max_attempts=5, takes_context=True)
def greet_with_context(context, user_id):
    return context.attempt, user_id


@task(queue_name=QUEUE, max_attempts=5, atomic=True)
def greet_atomic(user_id):
    return user_id


@task(queue_name=QUEUE, max_attempts=5)
async def greet_later(user_id):
    return user_id


TASKS = [greet, greet_with_context, greet_atomic, greet_later]


def plainly(must):
    """Take an argument that the caller has forgotten."""


@pytest.mark.parametrize("called", TASKS, ids=lambda one: one.func.__name__)
def test_wrong_arguments_are_refused_at_the_call(called):
    with pytest.raises(TypeError, match=MISSING) as raised:
        called.enqueue()
    with pytest.raises(TypeError, match="unexpected keyword argument 'user'"):
        called.enqueue(1, user=1)

    assert str(raised.value) == f"{called.func.__qualname__}() {MISSING}"
    assert not Job.objects.exists()


@pytest.mark.parametrize("called", TASKS, ids=lambda one: one.func.__name__)
def test_one_wrong_call_of_many_refuses_all(called):
    with pytest.raises(TypeError, match=MISSING):
        called.enqueue_many([(1,), (), (2,)])

    assert not Job.objects.exists()


@pytest.mark.parametrize("called", TASKS, ids=lambda one: one.func.__name__)
def test_a_queued_call_that_does_not_fit_any_more_fails_at_once(rig, called):
    """As after a change of the function, while the job waited."""
    job_id = called.enqueue(1).id
    Job.objects.filter(pk=job_id).update(payload='{"args": [], "kwargs": {}}')

    rig.run_again(UUID(job_id))

    job = Job.objects.get(pk=job_id)
    assert (job.state, job.attempts) == (State.FAILED, 1)
    (error,) = job.error_list
    assert error["exception_class_path"] == "builtins.TypeError"
    assert error["traceback"] == f"TypeError: {called.func.__qualname__}() {MISSING}\n"


def test_an_error_from_inside_the_function_is_tried_again(rig):
    job_id = greet.enqueue("inside").id

    rig.run_again(UUID(job_id))

    job = Job.objects.get(pk=job_id)
    assert (job.state, job.attempts) == (State.READY, 1)
    assert "plainly() missing 1 required" in job.error_list[0]["traceback"]
