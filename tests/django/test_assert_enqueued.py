"""What tests assert about jobs, and what a failure says."""

from datetime import timedelta
from unittest.mock import ANY

import pytest
from django.db import transaction
from django.test import TestCase
from django.utils import timezone

from aftercommit import chain, enqueue_many, schedule, task
from aftercommit.models import Job
from aftercommit.relay.brokers.base import Message
from aftercommit.relay.outbox import Outbox
from aftercommit.testing import (
    assert_enqueued,
    capture_jobs,
    refute_enqueued,
    run_jobs,
    travel,
)
from tests.app.elsewhere import not_a_task
from tests.app.tasks import add, echo, fail, plain_effect

pytestmark = pytest.mark.django_db


def message(call, *args, **kwargs):
    """Return what an assertion says that fails."""
    with pytest.raises(AssertionError) as raised:
        call(*args, **kwargs)
    return str(raised.value)


@task(
    name="assertions.charge",
    aliases=("assertions.pay",),
    version=2,
    upgrade=lambda *call: call[1:],
)
def renamed():
    """Have several names."""


def test_a_job_that_was_enqueued_is_found_and_returned():
    made = add.enqueue(1, 2)

    (job,) = assert_enqueued(add)

    assert str(job.id) == made.id
    assert assert_enqueued() == [job]


@pytest.mark.parametrize(
    ("asked", "there"),
    [
        ({"args": [1, 2]}, True),
        ({"args": (1, 2)}, True),
        ({"args": [1, ANY]}, True),
        ({"args": [1]}, False),
        ({"args": [2, 1]}, False),
        ({"args": []}, False),
        ({"kwargs": {"plus": (3, 4), "who": {"a": 1}}}, True),
        ({"kwargs": {"plus": ANY, "who": ANY}}, True),
        ({"kwargs": {"plus": [3, 4]}}, False),
        ({"kwargs": {"plus": [3, 4], "who": {"a": 2}}}, False),
        ({"kwargs": {}}, False),
        ({"args": [1, 2], "kwargs": {}}, False),
        ({"queue": "mail"}, True),
        ({"queue": "default"}, False),
        ({"run_after": timedelta(hours=2)}, True),
        ({"run_after": timedelta(hours=1)}, False),
        ({"run_after": None}, False),
    ],
    ids=str,
)
def test_all_that_is_asked_for_counts(asked, there):
    later = timezone.now() + timedelta(hours=2)
    called = echo.using(queue_name="mail", run_after=later)
    called.enqueue(1, 2, plus=[3, 4], who={"a": 1})

    if there:
        assert_enqueued(echo, **asked)
        assert message(refute_enqueued, echo, **asked)
    else:
        refute_enqueued(echo, **asked)
        assert message(assert_enqueued, echo, **asked)


def test_a_moment_is_compared_exactly():
    later = timezone.now() + timedelta(hours=2)
    add.using(run_after=later).enqueue(1, 2)

    assert_enqueued(add, run_after=later)
    refute_enqueued(add, run_after=later + timedelta(seconds=1))
    with pytest.raises(TypeError, match="aware"):
        assert_enqueued(add, run_after=later.replace(tzinfo=None))


def test_the_number_is_exact():
    enqueue_many(add, [(1, 2), (1, 2), (3, 4)])

    assert len(assert_enqueued(add, args=[1, 2], count=2)) == 2
    assert_enqueued(fail, count=0)
    for wrong in (0, 1, 3):
        said = message(assert_enqueued, add, args=[1, 2], count=wrong)
        assert "found 2" in said


def test_a_failure_lists_what_was_enqueued_instead():
    add.enqueue(1, 2)
    add.using(queue_name="mail", run_after=timezone.now() + timedelta(days=1)).enqueue(
        1, second=3
    )
    fail.enqueue("text")

    said = message(assert_enqueued, add, args=[7], kwargs={"by": "name"}, queue="mail")

    first, *lines = said.splitlines()
    assert first == (
        "Expected a job of tests.app.tasks.add with args=[7] with kwargs={'by': 'name'} "
        "in queue 'mail', found none."
    )
    assert lines[0] == "Enqueued:"
    assert lines[1] == "  tests.app.tasks.add(1, 2)  (queue default, ready)"
    assert lines[2].startswith(
        "  tests.app.tasks.add(1, second=3)  (queue mail, ready, run_after 2"
    )
    assert lines[3:] == [
        "Of other tasks:",
        "  tests.app.tasks.fail('text')  (queue default, ready)",
    ]


def test_a_failure_says_that_there_is_nothing():
    assert message(assert_enqueued, add).endswith("found none.\nNothing was enqueued.")


def test_a_failure_names_callbacks_that_no_test_calls():
    class Test(TestCase):
        def runTest(self):
            transaction.on_commit(lambda: add.enqueue(1, 2))
            said = message(assert_enqueued, add)
            assert "1 callback of on_commit() wait on 'default'" in said
            assert "captureOnCommitCallbacks" in said

    result = Test().run()
    assert result.wasSuccessful(), result.errors + result.failures


def test_a_long_list_is_cut():
    enqueue_many(add, [(number, 0) for number in range(30)])

    said = message(assert_enqueued, fail)

    assert said.count("add(") == 20
    assert "… and 10 more" in said


def test_a_failed_refutation_lists_the_jobs():
    add.enqueue(1, 2)

    assert message(refute_enqueued, add) == (
        "Expected no job of tests.app.tasks.add, found 1:\n"
        "  tests.app.tasks.add(1, 2)  (queue default, ready)"
    )
    assert message(refute_enqueued).startswith("Expected no job, found 1")


def test_a_job_counts_whatever_has_become_of_it():
    plain_effect.enqueue("one")
    fail.enqueue("on purpose")
    run_jobs(raise_errors=False)

    (job,) = assert_enqueued(plain_effect)
    assert job.state == "succeeded"
    assert_enqueued(fail, run_after=None)
    with travel(timedelta(hours=1)):
        run_jobs(raise_errors=False)
    assert_enqueued(fail, run_after=None)


def test_a_task_is_found_under_each_of_its_names():
    renamed.enqueue()
    Job.objects.filter(task_path__contains="charge").update(task_path="assertions.pay")
    renamed.enqueue()

    assert_enqueued(renamed, count=2)
    assert_enqueued("assertions.charge", count=2)


def test_jobs_of_a_graph_and_of_plain_functions_are_found():
    chain(add.bind(1, 2), echo.bind("then")).enqueue()
    schedule(not_a_task, args=["a"], kwargs={"b": 1})

    assert_enqueued(echo, args=["then"])
    assert_enqueued(not_a_task, args=["a"], kwargs={"b": 1})
    assert_enqueued("tests.app.elsewhere.not_a_task")
    refute_enqueued(not_a_task, args=["a"], kwargs={"b": 2})


@pytest.mark.parametrize(
    ("content", "arguments"),
    [
        ({"publishes": [{"body": {"text": '[[7], {"by": "x"}, {}]'}}]}, ([7], {"by": "x"})),
        ({"body": {"text": '{"args": [7], "kwargs": {"by": "x"}}'}}, ([7], {"by": "x"})),
        ({"args": [7], "kwargs": {"by": "x"}}, ([7], {"by": "x"})),
        ({"body": {"base64": "gASVCg=="}}, None),
    ],
    ids=["celery", "dramatiq", "django.tasks", "pickle"],
)
def test_messages_for_brokers_are_found_by_their_task(settings, content, arguments):
    settings.TASKS = {
        "default": {
            "BACKEND": "aftercommit.DatabaseBackend",
            "QUEUES": [],
            "OPTIONS": {"relay": ["celery"]},
        }
    }
    Outbox().keep(
        Message(broker="celery", message_id="1", name="assertions.charge_card", content=content),
        using="default",
    )

    class Theirs:
        name = "assertions.charge_card"

    assert_enqueued(Theirs(), queue="relay.celery")
    if arguments:
        assert_enqueued(Theirs(), args=arguments[0], kwargs=arguments[1])
        refute_enqueued(Theirs(), args=[8])
        assert "charge_card(7, by='x')  (message for celery, ready)" in message(
            assert_enqueued, add
        )
    else:
        said = message(assert_enqueued, Theirs(), args=[7])
        assert "its arguments are not JSON and cannot be compared" in said
    assert run_jobs() == []  # nobody publishes it without being asked


def test_what_is_no_task_is_refused():
    with pytest.raises(TypeError, match="expected a task"):
        assert_enqueued(7)


def test_jobs_of_a_block_are_captured():
    add.enqueue(0, 0)
    with capture_jobs() as jobs:
        assert list(jobs) == []
        add.enqueue(1, 2)
        assert [job.args for job in jobs] == [[1, 2]]
        add.enqueue(3, 4)
        run_jobs()
    add.enqueue(5, 6)

    assert len(jobs) == 2
    assert [job.args for job in jobs] == [[1, 2], [3, 4]]
    assert jobs[0].state == "succeeded"
    assert "tests.app.tasks.add" in repr(jobs)
