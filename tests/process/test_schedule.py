"""``schedule()`` and ``deschedule()``, from a call to a worker's run."""

import json
import os
from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from aftercommit import deschedule, schedule
from aftercommit.errors import FunctionNotAllowed, NotAFunction
from tests.app.chores import scheduled, scheduled_and_broken
from tests.app.models import Effect
from tests.process.rig import Job


def test_a_function_runs_with_its_arguments(rig):
    schedule(scheduled, ["given itself"])
    schedule("tests.app.chores.scheduled", kwargs={"key": "given by name"})

    assert rig.worker("--drain").wait() == 0

    assert {effect.key for effect in Effect.objects.all()} == {"given itself", "given by name"}
    assert {job.return_value for job in Job.objects.all()} == {"given itself", "given by name"}


def test_what_a_rolled_back_transaction_has_scheduled_never_existed(rig):
    with transaction.atomic():
        schedule(scheduled, ["never"])
        transaction.set_rollback(True)

    assert rig.worker("--drain").wait() == 0

    assert (Job.objects.count(), Effect.objects.count()) == (0, 0)


def test_a_function_that_fails_leaves_nothing_behind(rig):
    job_id = schedule(scheduled_and_broken, ["gone"]).id
    rig.change_job(job_id, max_attempts=1)

    assert rig.worker("--drain").wait() == 0

    assert rig.job(job_id).state == "failed"
    assert not Effect.objects.exists()


def test_a_descheduled_call_does_not_run_and_another_one_does(rig):
    for key in ("one", "one", "other"):
        schedule(scheduled, [key])

    descheduled = deschedule(scheduled, ["one"])
    assert rig.worker("--drain").wait() == 0

    assert descheduled == 2
    assert [effect.key for effect in Effect.objects.all()] == ["other"]


def test_a_later_moment_is_waited_for(rig):
    schedule(scheduled, ["later"], run_after=timezone.now() + timedelta(hours=1))
    schedule(scheduled, ["now"], priority=5)

    assert rig.worker("--drain").wait() == 0

    assert [effect.key for effect in Effect.objects.all()] == ["now"]


@pytest.mark.parametrize(
    ("function", "error"),
    [
        ("os.system", FunctionNotAllowed),
        (os.system, NotAFunction),
        ("tests.app.chores.os.system", NotAFunction),
        ("subprocess.run", FunctionNotAllowed),
        ("tests.app.nowhere.function", NotAFunction),
        ("tests.app.chores.SOON", NotAFunction),
        (lambda: None, NotAFunction),
        (Effect.objects.create, NotAFunction),
        ("", FunctionNotAllowed),
    ],
)
def test_what_may_not_be_named_is_not_scheduled(function, error):
    with pytest.raises(error):
        schedule(function)

    assert not Job.objects.exists()


def test_a_nested_function_has_no_path_of_its_own():
    def nested() -> None:
        """Stand for any function inside another."""

    with pytest.raises(NotAFunction):
        schedule(nested)


def test_a_name_that_was_put_into_a_row_is_refused_by_the_worker(rig):
    witness = rig.folder / "witness"
    job_id = schedule(scheduled, ["one"]).id
    call = {"args": ["os.system", [f"touch {witness}"], {}, "default"], "kwargs": {}}
    rig.change_job(job_id, payload=json.dumps(call), max_attempts=1)

    assert rig.worker("--drain").wait() == 0

    (error,) = rig.job(job_id).error_list
    assert error["exception_class_path"] == "aftercommit.errors.FunctionNotAllowed"
    assert not witness.exists()


@pytest.mark.parametrize("named", ["other", "nowhere", None, ["default"], {}])
def test_a_backend_that_was_put_into_a_row_is_refused_by_the_worker(named, rig):
    job_id = schedule(scheduled, ["one"]).id
    call = {"args": ["tests.app.chores.scheduled", ["one"], {}, named], "kwargs": {}}
    rig.change_job(job_id, payload=json.dumps(call), max_attempts=1)

    assert rig.worker("--drain").wait() == 0

    (error,) = rig.job(job_id).error_list
    assert error["exception_class_path"] == "aftercommit.errors.ConfigurationError"
    assert "asks for the functions that the backend" in error["traceback"]
    assert not Effect.objects.exists()
