"""Schedules in Django's admin: who may edit, enable and run them, and what is kept."""

import pytest
from django.contrib import messages
from django.contrib.auth.models import Permission, User
from django.urls import reverse
from django.utils import timezone

from aftercommit import schedules
from aftercommit.errors import NoSuchSchedule
from aftercommit.models import Job, Schedule
from aftercommit.schedules.spec import Spec

pytestmark = pytest.mark.django_db(databases=["default", "other"])
ADD = "tests.app.tasks.add"
LIST = reverse("admin:aftercommit_schedule_changelist")
NEW = reverse("admin:aftercommit_schedule_add")
WHO = {
    "viewer": ["view_schedule"],
    "editor": ["view_schedule", "change_schedule"],
    "runner": ["view_schedule", "run_schedule"],
    "maker": ["view_schedule", "add_schedule", "delete_schedule"],
    "of jobs": ["view_job", "retry_job", "cancel_job"],
}
MAY = {
    "enable_selected": {"editor", "superuser"},
    "disable_selected": {"editor", "superuser"},
    "reset_selected": {"editor", "superuser"},
    "run_selected": {"runner", "superuser"},
}
EVERYBODY = [*WHO, "superuser"]
HOSTILE = "<script>alert('{{ 1 }}')</script>"
FORM = {
    "name": "mine",
    "task_path": ADD,
    "backend": "default",
    "enabled": "on",
    "cron": "0 4 * * *",
    "timezone": "Europe/Athens",
    "every": "",
    "catch_up": "last",
    "catch_up_within": "",
    "overlap": "queue",
    "jitter": "",
    "args": "[1, 2]",
    "kwargs": "{}",
    "queue": "",
    "priority": "",
}


@pytest.fixture
def as_(client):
    """Return a function that logs somebody in and returns the client."""

    def log_in(who):
        user = User.objects.create_user(who, is_staff=True, is_superuser=who == "superuser")
        user.user_permissions.set(Permission.objects.filter(codename__in=WHO.get(who, ())))
        client.force_login(user)
        return client

    return log_in


@pytest.fixture
def nightly():
    """Make a schedule that the settings declare."""
    schedules.create("nightly", task=ADD, args=[1, 2], cron="0 4 * * *", timezone="UTC")
    row = Schedule.objects.get()
    declared = Spec.of(row).as_json()
    Schedule.objects.update(source="settings", digest="d", declared=declared)
    row.refresh_from_db()
    return row


def page(row):
    """Return the address of a schedule."""
    return reverse("admin:aftercommit_schedule_change", args=[row.pk])


def act(client, action, *rows):
    """Carry out an action of the list."""
    data = {"action": action, "_selected_action": [row.pk for row in rows]}
    return client.post(LIST, data, follow=True)


@pytest.mark.parametrize("who", EVERYBODY)
def test_who_may_look(who, as_, nightly):
    client = as_(who)

    expected = 403 if who == "of jobs" else 200
    assert client.get(LIST).status_code == expected
    assert client.get(page(nightly)).status_code == expected


@pytest.mark.parametrize("action", MAY)
@pytest.mark.parametrize("who", EVERYBODY)
def test_who_may_do_what(who, action, as_, nightly):
    if action == "enable_selected":
        schedules.disable("nightly")
    before = Schedule.objects.values().get()

    act(as_(who), action, nightly)

    changed = Schedule.objects.values().get() != before or Job.objects.exists()
    assert changed == (who in MAY[action])


@pytest.mark.parametrize("who", EVERYBODY)
def test_who_may_edit(who, as_, nightly):
    as_(who).post(page(nightly), {**FORM, "timezone": "UTC", "queue": "slow"})

    assert (schedules.get("nightly").queue == "slow") == (who in ("editor", "superuser"))


def test_the_list_and_the_page_say_when_it_runs_next(as_, nightly):
    client = as_("viewer")

    assert "04:00:00 UTC" in client.get(LIST).text
    assert client.get(page(nightly)).text.count("04:00:00 UTC") == 5


def test_an_edit_is_shown_and_can_be_taken_back(as_, nightly):
    client = as_("editor")

    client.post(page(nightly), {**FORM, "cron": "30 5 * * *", "timezone": "UTC"})

    assert schedules.get("nightly").edited == ("cron",)
    assert "05:30:00 UTC" in client.get(LIST).text
    act(client, "reset_selected", nightly)
    assert schedules.get("nightly").edited == ()


def test_it_is_paused_on_its_page(as_, nightly):
    off = {name: value for name, value in FORM.items() if name != "enabled"}

    as_("editor").post(page(nightly), {**off, "timezone": "UTC"})

    assert not schedules.get("nightly").enabled


def test_an_ended_schedule_can_be_edited_and_not_enabled(as_, nightly):
    Schedule.objects.update(ended_at=timezone.now(), next_run=None)
    client = as_("editor")

    assert (
        client.post(page(nightly), {**FORM, "timezone": "UTC", "queue": "a"}).status_code == 302
    )
    assert schedules.get("nightly").queue == "a"
    Schedule.objects.update(enabled=False)
    answer = client.post(page(nightly), {**FORM, "timezone": "UTC", "queue": "b"})
    assert "has ended" in answer.text
    assert schedules.get("nightly").queue == "a"


def test_what_is_not_possible_any_more_is_said_and_no_error(as_, nightly, monkeypatch):
    def gone(name, **_changes):
        raise NoSuchSchedule(name=name)

    monkeypatch.setattr(schedules, "edit", gone)
    answer = as_("editor").post(page(nightly), {**FORM, "timezone": "UTC"}, follow=True)

    assert answer.status_code == 200
    assert [one.level for one in answer.context["messages"]] == [messages.ERROR]


def test_a_schedule_is_made_and_deleted(as_):
    client = as_("maker")

    answer = client.post(NEW, FORM)

    assert answer.status_code == 302
    made = schedules.get("mine")
    assert (made.source, made.args, made.when) == ("people", [1, 2], "0 4 * * * Europe/Athens")
    row = Schedule.objects.get()
    delete = reverse("admin:aftercommit_schedule_delete", args=[row.pk])
    client.post(delete, {"post": "yes"})
    assert not Schedule.objects.exists()


def test_what_is_declared_cannot_be_deleted(as_, nightly):
    delete = reverse("admin:aftercommit_schedule_delete", args=[nightly.pk])

    assert as_("superuser").post(delete, {"post": "yes"}).status_code == 403
    assert Schedule.objects.exists()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"cron": "often"}, "expected 5 fields"),
        ({"every": "00:05:00"}, "one of them"),
        ({"task_path": "nowhere.at_all"}, "no task that this process knows"),
        ({"args": "[1]"}, "does not take"),
        ({"args": "{"}, "valid JSON"),
        ({"name": "nightly"}, "already"),
        ({"timezone": "Athens"}, "no time zone"),
    ],
)
def test_a_mistake_is_said_in_the_form(as_, nightly, wrong, words):
    answer = as_("superuser").post(NEW, {**FORM, **wrong})

    assert answer.status_code == 200
    assert words in answer.text
    assert Schedule.objects.count() == 1


def test_what_rows_say_is_escaped(as_, nightly):
    Schedule.objects.update(name=HOSTILE, problem=HOSTILE, timezone=HOSTILE, cron=HOSTILE)
    client = as_("superuser")

    for address in (LIST, page(nightly)):
        answer = client.get(address)
        assert answer.status_code == 200
        assert "<script>alert" not in answer.text


def test_a_get_changes_nothing(as_, nightly):
    before = Schedule.objects.values().get()

    as_("superuser").get(LIST, {"action": "disable_selected", "_selected_action": nightly.pk})

    assert Schedule.objects.values().get() == before
