"""Schedules in the dashboard: made, changed and removed by a form."""

from datetime import timedelta
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User

from aftercommit import schedules
from aftercommit.enqueue.functions import RUN_FUNCTION
from aftercommit.errors import NoSuchSchedule
from aftercommit.models import AuditRecord, Schedule
from tests.app.tasks import add
from tests.django.dashboard import ALL, HOSTILE, tags_of, url
from tests.django.test_admin_schedules import FORM

pytestmark = pytest.mark.django_db(databases=["default", "other"])

ADD = add.module_path


@pytest.fixture
def prices():
    schedules.create("prices", task=ADD, args=[1, 2], every=timedelta(minutes=5))


def edit_url(name="prices"):
    return f"{url('schedule-edit')}?{urlencode({'name': name})}"


def given(**changes):
    return {**FORM, "cron": "", "timezone": "", "every": "00:05:00", **changes}


@pytest.mark.parametrize("lacking", ["add_schedule", "arguments", "view"])
def test_to_make_one_needs_three_permissions(staff, lacking):
    client = staff(*(one for one in ALL if one != lacking))

    assert client.post(url("schedule-new"), FORM).status_code == 403
    assert client.get(url("schedule-new")).status_code == 403
    assert not Schedule.objects.exists()


@pytest.mark.parametrize("lacking", ["schedules", "arguments", "view"])
def test_to_change_one_needs_three_permissions(staff, prices, lacking):
    client = staff(*(one for one in ALL if one != lacking))

    assert client.post(edit_url(), given(queue="slow")).status_code == 403
    assert client.get(edit_url()).status_code == 403
    assert schedules.get("prices").queue == ""


def test_the_list_offers_what_somebody_may_do(staff, prices):
    links = {edit_url(), url("schedule-new")}

    def offered(client):
        tags = tags_of(client.get(url("schedules")))
        return links & {given.get("href") for _tag, given in tags}

    assert offered(staff("view", "arguments", "add_schedule", "schedules")) == links
    User.objects.all().delete()
    client = staff("view", "schedules", "run")
    assert offered(client) == set()


def test_one_is_made_with_its_record(staff):
    answer = staff("view", "arguments", "add_schedule").post(url("schedule-new"), FORM)

    assert answer.headers["Location"] == url("schedules")
    made = schedules.get("mine")
    assert (made.source, made.args, made.when) == ("people", [1, 2], "0 4 * * * Europe/Athens")
    record = AuditRecord.objects.get()
    assert (record.action, record.subject) == ("create schedule", "mine")
    assert "Athens" not in str(record.details)


def test_one_is_changed_and_paused(staff, prices):
    client = staff("view", "arguments", "schedules")
    assert 'value="00:05:00"' in client.get(edit_url()).text

    off = given(args="[3, 4]", queue="slow")
    del off["enabled"]
    client.post(edit_url(), off)

    found = schedules.get("prices")
    assert (found.args, found.queue, found.enabled) == ([3, 4], "slow", False)
    record = AuditRecord.objects.get()
    assert set(record.details["changed"].split(", ")) == {"args", "enabled", "queue"}


def test_the_name_and_the_task_stay(staff, prices):
    staff(*ALL).post(edit_url(), given(name="other", task_path="tests.app.tasks.slow"))

    assert [(one.name, one.task) for one in schedules.find()] == [("prices", ADD)]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"cron": "often"}, "expected 5 fields"),
        ({"args": "[1]"}, "does not take"),
        ({"args": "{"}, "valid JSON"),
        ({"task_path": RUN_FUNCTION}, "set by code"),
        ({"backend": "nowhere"}, "Select a valid choice"),
    ],
)
def test_a_mistake_is_said_in_the_form(staff, wrong, words):
    answer = staff(*ALL).post(url("schedule-new"), {**FORM, **wrong})

    assert answer.status_code == 200
    assert words in answer.text
    assert not Schedule.objects.exists()
    assert not AuditRecord.objects.exists()


def test_arguments_that_name_a_function_stay_as_they_are(staff, prices):
    """Whoever changes them chooses what code is run, which is more than to change a schedule."""
    Schedule.objects.update(task_path=RUN_FUNCTION)

    answer = staff(*ALL).post(edit_url(), given(args='["os.system"]'))

    assert "set by code" in answer.text
    assert schedules.get("prices").args == [1, 2]


def test_what_happened_meanwhile_is_said_and_no_error(staff, prices, monkeypatch):
    def taken(*_args, **_changes):
        raise NoSuchSchedule(name="prices")

    monkeypatch.setattr(schedules, "edit", taken)
    answer = staff(*ALL).post(edit_url(), given())

    assert answer.status_code == 200
    assert "and no database of jobs has one" in answer.text
    assert not AuditRecord.objects.exists()


def test_only_what_people_have_made_is_removed(staff, prices):
    remove = {"name": "prices", "action": "remove"}
    client = staff(*(one for one in ALL if one != "delete_schedule"))
    assert client.post(url("schedule-act"), remove).status_code == 403
    assert 'value="remove"' not in client.get(edit_url()).text

    User.objects.all().delete()
    client = staff(*ALL)
    Schedule.objects.update(source="settings")
    client.post(url("schedule-act"), remove)
    assert Schedule.objects.exists()
    assert 'value="remove"' not in client.get(edit_url()).text

    Schedule.objects.update(source="people")
    assert 'value="remove"' in client.get(edit_url()).text
    client.post(url("schedule-act"), remove)
    assert not Schedule.objects.exists()
    assert AuditRecord.objects.get().action == "remove schedule"


@pytest.mark.parametrize("name", ["nothing", "", "\0"])
def test_one_that_is_not_there_has_no_page(staff, name):
    assert staff(*ALL).get(edit_url(name)).status_code == 404


def test_what_a_row_says_is_only_text(staff, prices):
    hostile = HOSTILE.replace("\x00", "")
    Schedule.objects.update(name=hostile, timezone=hostile[:60], task_path=hostile)

    answer = staff(*ALL).get(edit_url(hostile))

    assert answer.status_code == 200
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
    assert "<script>alert" not in answer.text
