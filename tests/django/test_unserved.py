"""W021: jobs are due, and nobody was ever there to run them."""

from datetime import timedelta

import pytest
from django.core.checks import run_checks
from django.core.management import call_command

from aftercommit.models import Job, WorkerPresence
from aftercommit.store import store_for
from aftercommit.store.clock import ago
from aftercommit.windows.checks import TAG
from tests.django import tasks
from tests.django.conftest import claim_only_job
from tests.worker.rig import commits

pytestmark = commits


@pytest.fixture(autouse=True)
def _one_backend(settings):
    settings.TASKS = {"default": settings.TASKS["default"]}
    WorkerPresence.objects.all().delete()


def enqueue(*, due=timedelta(minutes=5)):
    """Enqueue a job that has been due for so long."""
    job_id = tasks.note.enqueue(1).id
    Job.objects.filter(pk=job_id).update(run_after=ago(due))


def warnings(*, deploy=True):
    found = run_checks(tags=[TAG], include_deployment_checks=deploy)
    return [one.msg for one in found if one.id == "aftercommit.W021"]


def test_w021_jobs_that_nobody_runs_are_told_of():
    enqueue()

    (said,) = warnings()

    assert "in database 'default' for 5 min, and no worker was ever seen" in said
    assert warnings(deploy=False) == []


def test_nothing_is_said_without_jobs_or_of_those_that_became_due_just_now():
    assert warnings() == []

    enqueue(due=timedelta(seconds=5))

    assert warnings() == []


def test_a_worker_that_is_there_or_was_is_enough():
    enqueue()
    claim_only_job()
    enqueue()
    assert warnings() == []

    Job.objects.all().delete()
    enqueue()
    assert warnings() != []
    store_for("default").workers.announce(claim_only_job().worker_id, locked=False)
    Job.objects.update(claimed_at=None, state="ready", claimable=True)
    assert warnings() == []


def test_flush_queue_is_one_too():
    tasks.note.enqueue(1)
    call_command("flush_queue")
    enqueue()

    assert warnings() == []
