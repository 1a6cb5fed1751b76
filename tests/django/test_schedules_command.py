"""``aftercommit schedules``, and what ``status``, ``doctor`` and the checks say of schedules."""

import json
from datetime import timedelta
from io import StringIO
from uuid import uuid4

import pytest
from django.core.checks import run_checks
from django.core.management import CommandError, call_command

from aftercommit import schedules
from aftercommit.models import Job, Schedule
from aftercommit.schedules.spec import Spec
from aftercommit.store import store_for
from aftercommit.store.clock import ago
from aftercommit.windows.doctor import Ailment, examine

pytestmark = pytest.mark.django_db(databases=["default", "other"])
ADD = "tests.app.tasks.add"
HOUR = timedelta(hours=1)


def run(*words):
    """Return what the command writes."""
    stdout = StringIO()
    call_command("aftercommit", *words, skip_checks=True, stdout=stdout)
    return stdout.getvalue()


@pytest.fixture(autouse=True)
def nightly():
    """Make a schedule."""
    return schedules.create(
        "nightly", task=ADD, args=[1, 2], cron="0 4 * * *", timezone="Europe/Athens"
    )


def test_schedules_are_listed_with_their_next_runs():
    text = run("schedules")

    assert text.startswith("default: nightly (0 4 * * * Europe/Athens), next run ")
    assert " 04:00:00 EE" in text


def test_they_are_listed_for_programs(nightly):
    (found,) = json.loads(run("schedules", "--json"))

    assert found["name"] == "nightly"
    assert found["next_run"] == nightly.next_run.isoformat()
    assert (found["database"], found["state"], found["args"]) == ("default", "enabled", [1, 2])
    assert json.loads(run("schedules", "--json", "--database", "other")) == []
    assert "no schedules" in run("schedules", "--database", "other")


@pytest.mark.parametrize("action", ["enable", "disable"])
def test_a_schedule_is_enabled_and_disabled(action):
    schedules.disable("nightly")

    said = run("schedules", action, "nightly", "--dry-run")
    assert f"would be {action}d" in said
    assert not schedules.get("nightly").enabled

    assert f"is {action}d" in run("schedules", action, "nightly")
    assert schedules.get("nightly").enabled == (action == "enable")


def test_a_schedule_is_run_now():
    assert "would be enqueued" in run("schedules", "run-now", "nightly", "--dry-run")
    assert not Job.objects.exists()

    said = json.loads(run("schedules", "run-now", "nightly", "--json"))

    assert said["job_id"] == str(Job.objects.get().id)


def test_edits_are_listed_and_taken_back():
    spec = Spec.of(Schedule.objects.get()).as_json()
    Schedule.objects.update(source="settings", declared=spec, digest="d")
    schedules.edit("nightly", queue="slow")

    assert "edited: queue" in run("schedules")
    run("schedules", "reset", "nightly")
    assert "edited" not in run("schedules")


def test_a_wrong_name_is_a_sentence():
    with pytest.raises(CommandError, match="'nightly'"):
        run("schedules", "enable", "nigtly")
    with pytest.raises(CommandError, match="name a schedule"):
        run("schedules", "enable")


def test_status_says_when_schedules_run_next(nightly):
    Schedule.objects.update(missed=3, last_run=nightly.next_run)

    text = run("status", "--database", "default")
    assert "  schedule nightly: enabled, next run " in text
    assert "last run " in text
    assert "3 moments missed" in text
    (found,) = json.loads(run("status", "--json", "--database", "default"))
    assert found["schedules"]["nightly"]["next_run"] == nightly.next_run.isoformat()


# ---- doctor ------------------------------------------------------------------------------


def findings():
    """Return what doctor says about schedules."""
    found = {one.check: one for one in examine("default")}
    names = ("no-scheduler", "unknown-task-of-schedule", "schedule-problem", "late-schedule")
    return {name: found[name] for name in (*names, "never-due") if name in found}


@pytest.fixture
def a_worker():
    """Let a worker be alive."""
    store_for("default").workers.announce(uuid4(), locked=False)


def test_doctor_says_that_nobody_makes_the_jobs_of_schedules():
    (found,) = findings().values()

    assert (found.check, found.ailment) == ("no-scheduler", Ailment.NOBODY)


@pytest.mark.usefixtures("a_worker")
@pytest.mark.parametrize(
    ("columns", "check"),
    [
        ({"next_run": ago(HOUR)}, "late-schedule"),
        ({"task_path": "nowhere.at_all"}, "unknown-task-of-schedule"),
        ({"problem": "TypeError: no"}, "schedule-problem"),
        ({"next_run": None}, "never-due"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_doctor_says_what_is_wrong_with_a_schedule(columns, check):
    assert findings() == {}
    Schedule.objects.update(**columns)

    (found,) = findings().values()
    assert found.check == check
    assert "'nightly'" in found.text


@pytest.mark.usefixtures("a_worker")
def test_doctor_says_nothing_of_a_schedule_that_is_disabled():
    Schedule.objects.update(next_run=None, enabled=False)

    assert findings() == {}


# ---- checks ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"task": "nowhere.at_all"}, "nothing declares"),
        ({"args": [1, 2, 3, 4]}, "does not take"),
        ({"queue": "none such"}, "no queue of this backend"),
        ({}, None),
    ],
)
def test_e017_schedules_of_the_settings_that_could_make_no_job(settings, wrong, words):
    usual = settings.TASKS["default"]
    given = {"task": ADD, "args": [1, 2], "every": HOUR, **wrong}
    options = {**usual.get("OPTIONS", {}), "schedules": {"mine": given}}
    settings.TASKS = {"default": {**usual, "QUEUES": ["default"], "OPTIONS": options}}

    found = [one for one in run_checks() if one.id == "aftercommit.E017"]

    assert len(found) == (words is not None)
    assert all(words in one.msg and "['mine']" in one.msg for one in found)
