"""Jobs of tasks that nothing declares: listed by the check, shown by the admin, left alone."""

import pytest
from django.core.checks import run_checks

from aftercommit import jobs
from aftercommit.enqueue import undeclared as undeclared_module
from aftercommit.enqueue.functions import RUN_FUNCTION
from aftercommit.errors import ConfigurationError
from aftercommit.models import Job
from aftercommit.relay.outbox import PUBLISH
from aftercommit.store import store_for
from aftercommit.windows.admin import content
from aftercommit.windows.checks import TAG
from tests.django import tasks
from tests.worker.rig import commits

pytestmark = commits
GONE = "shop.gone.charge"


@pytest.fixture(autouse=True)
def _one_backend(settings):
    settings.TASKS = {"default": settings.TASKS["default"]}


def enqueue(name):
    """Enqueue a job, and let its row name a task."""
    job_id = tasks.note.enqueue(1).id
    Job.objects.filter(pk=job_id).update(task_path=name)
    return Job.objects.get(pk=job_id)


def cancelled(name):
    """Return a job that was cancelled."""
    job = enqueue(name)
    jobs.cancel([job.pk], using="default")
    return Job.objects.get(pk=job.pk)


def warnings(*, deploy=True):
    found = run_checks(tags=[TAG], include_deployment_checks=deploy)
    return [one.msg for one in found if one.id == "aftercommit.W015"]


def test_w015_names_that_nothing_declares_are_listed():
    enqueue(tasks.note.module_path)
    enqueue(GONE)
    enqueue(GONE)
    enqueue("shop.also.gone")

    (said,) = warnings()
    assert "in database 'default'" in said
    assert "declares: 'shop.also.gone', 'shop.gone.charge'." in said
    assert warnings(deploy=False) == []


def test_jobs_of_this_package_and_jobs_that_have_ended_are_no_matter():
    enqueue(RUN_FUNCTION)
    enqueue(PUBLISH)
    cancelled(GONE)

    assert warnings() == []


def test_many_names_are_not_all_said():
    for number in range(12):
        enqueue(f"shop.gone.number{number:02}")

    (said,) = warnings()
    assert "'shop.gone.number09' and 2 more." in said


def test_the_admin_shows_a_job_that_waits_for_an_unknown_task():
    assert content.is_of_unknown_task(enqueue(GONE))
    assert not content.is_of_unknown_task(enqueue(tasks.note.module_path))
    assert not content.is_of_unknown_task(cancelled(GONE))


def test_a_module_that_cannot_be_imported_is_no_error_here(monkeypatch):
    def discover(_modules):
        raise ConfigurationError("it cannot be imported")

    monkeypatch.setattr(undeclared_module, "discover", discover)

    assert undeclared_module.undeclared([GONE]) == [GONE]


def test_a_bounded_number_of_jobs_is_looked_at(monkeypatch):
    monkeypatch.setattr("aftercommit.store.reading.MOST_LOOKED_AT", 1)
    enqueue(GONE)
    enqueue("shop.also.gone")

    assert len(store_for("default").queued_names()) == 1
