"""The id of a request goes on into the jobs of that request: the two libraries, and our own."""

import django_guid
import log_request_id
import pytest
from django.http import HttpResponse
from django.test import RequestFactory
from log_request_id.middleware import RequestIDMiddleware

from aftercommit import task
from aftercommit.integrations import request_id
from aftercommit.integrations.request_id import middleware
from aftercommit.models import Job
from aftercommit.stored import read_headers
from tests.worker.rig import commits, work

pytestmark = [commits, pytest.mark.usefixtures("one_backend")]


def present():
    """Return what each library takes for the id of the request."""
    return {
        "guid": django_guid.get_guid(),
        "log": getattr(log_request_id.local, "request_id", None),
        "ours": request_id.request_id.get(),
    }


@task(max_attempts=1)
def look(then=""):
    if then == "enqueue":
        look.enqueue()
    if then == "fail":
        raise ValueError
    return present()


@task(max_attempts=1)
async def alook():
    return present()


@pytest.fixture(autouse=True)
def _around(settings):
    before = settings.TASKS["default"]
    options = {**before["OPTIONS"], "middleware": [middleware]}
    settings.TASKS = {"default": {**before, "OPTIONS": options}}
    nobody = present()
    yield
    assert present() == nobody


def enqueue(_request=None):
    look.enqueue()
    alook.enqueue()
    return HttpResponse()


def by_guid():
    django_guid.set_guid("a" * 32)  # what its middleware does
    enqueue()
    django_guid.clear_guid()


def by_log_request_id():
    RequestIDMiddleware(enqueue)(RequestFactory().get("/"))
    found = log_request_id.local.request_id
    del log_request_id.local.request_id
    return found


def by_ours():
    token = request_id.request_id.set("mine")
    enqueue()
    request_id.request_id.reset(token)


def ids():
    return [read_headers(one.headers).get("request-id") for one in Job.objects.order_by("id")]


@pytest.mark.parametrize("request_", [by_guid, by_log_request_id, by_ours])
def test_a_run_has_the_id_of_the_request(request_):
    request_()

    work(threads=1)

    (value,) = set(ids())
    assert value
    for job in Job.objects.all():
        assert set(job.return_value.values()) == {value}


def test_a_job_of_no_request_has_none():
    enqueue()

    work(threads=1)

    assert ids() == [None, None]


def test_the_next_run_of_a_thread_has_its_own():
    token = request_id.request_id.set("first")
    look.enqueue("fail")
    request_id.request_id.reset(token)
    look.enqueue()

    work(threads=1)

    last = Job.objects.order_by("id").last()
    assert last.return_value == {"guid": None, "log": None, "ours": ""}


def test_a_job_that_is_enqueued_in_a_run_has_the_id_of_the_run():
    token = request_id.request_id.set("first")
    look.enqueue("enqueue")
    request_id.request_id.reset(token)

    work(threads=1)

    assert ids() == ["first", "first"]
