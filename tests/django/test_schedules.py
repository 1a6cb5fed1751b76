"""The public operations on schedules, and what @task and the settings accept."""

from datetime import timedelta
from uuid import UUID

import pytest
from django.db import transaction

from aftercommit import schedules, task
from aftercommit.enqueue import registry
from aftercommit.enqueue.payload import load_schedule
from aftercommit.errors import ConfigurationError, NoSuchSchedule, ScheduleExists
from aftercommit.models import Job, Schedule, Tick
from aftercommit.options.conf import BackendOptions
from aftercommit.schedules.declared import declared_in

pytestmark = pytest.mark.django_db(databases=["default", "other"])
ADD = "tests.app.tasks.add"
HOUR = timedelta(hours=1)


def make(name="mine", **given):
    """Make a schedule, as people do."""
    return schedules.create(name, **{"task": ADD, "args": [1, 2], "every": HOUR} | given)


@pytest.fixture
def forgetful(monkeypatch):
    """Forget the tasks that a test declares."""
    monkeypatch.setattr(registry, "_declared", dict(registry._declared))


# ---- operations --------------------------------------------------------------------------


def test_a_schedule_that_people_have_made_is_found():
    made = make(queue="slow", priority=5)

    assert schedules.find() == [made]
    assert schedules.get("mine", using="default") == made
    assert (made.task, made.args, made.kwargs) == (ADD, [1, 2], {})
    assert (made.source, made.when, made.state) == ("people", "every 1 h", "enabled")
    assert made.next_run is not None


def test_an_unknown_name_is_refused_with_those_that_are_alike():
    make("nightly")

    with pytest.raises(NoSuchSchedule, match="one of these: 'nightly'"):
        schedules.get("nigthly")
    with pytest.raises(NoSuchSchedule, match="aftercommit schedules"):
        schedules.run_now("something else")


def test_a_taken_name_is_refused():
    make()

    with pytest.raises(ScheduleExists):
        make()


def test_a_disabled_schedule_has_no_next_moment_and_makes_up_for_nothing():
    made = make()

    disabled = schedules.disable("mine")
    assert (disabled.enabled, disabled.next_run, disabled.state) == (False, None, "disabled")
    assert schedules.upcoming("mine") == []
    assert schedules.disable("mine") == disabled

    enabled = schedules.enable("mine")
    assert enabled.next_run == made.next_run
    assert schedules.enable("mine") == enabled


def test_run_now_makes_a_job_that_knows_its_schedule_and_moves_no_moment():
    made = make(queue="slow", priority=5)

    result = schedules.run_now("mine")

    job = Job.objects.get()
    assert result.id == str(job.id)
    assert (job.queue, job.priority, job.args) == ("slow", 5, [1, 2])
    assert load_schedule(job.payload).name == "mine"
    assert schedules.get("mine").next_run == made.next_run
    assert schedules.get("mine").last_job_id == UUID(result.id)
    assert not Tick.objects.exists()


def test_a_change_is_part_of_the_callers_transaction():
    make()

    with pytest.raises(LookupError), transaction.atomic():
        schedules.disable("mine")
        schedules.run_now("mine")
        raise LookupError

    assert schedules.get("mine").enabled
    assert not Job.objects.exists()


def test_an_edit_of_the_time_moves_the_next_moment():
    make()

    found = schedules.edit("mine", cron="0 4 * * *", timezone="Europe/Athens")

    assert (found.every, found.when) == (None, "0 4 * * * Europe/Athens")
    assert found.local(found.next_run).hour == 4
    found = schedules.edit("mine", every=HOUR)
    assert (found.cron, found.timezone, found.every) == ("", "", HOUR)


def test_the_next_moments_are_listed():
    first = make().next_run

    assert schedules.upcoming("mine", 3) == [first, first + HOUR, first + 2 * HOUR]
    assert schedules.upcoming("mine", 0) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cron": "every day"}, "expected 5 fields"),
        ({"cron": "0 4 * * *", "every": HOUR}, "one of them"),
        ({"every": timedelta(milliseconds=1)}, "at least 1 s"),
        ({"args": [1]}, "does not take"),
        ({"args": "12"}, "expected a list"),
        ({"catch_up": "some"}, "none, last, all"),
        ({"overlap": "maybe"}, "skip, queue"),
        ({"jitter": timedelta(0)}, "jitter"),
        ({"priority": 101}, "-100 to 100"),
        ({"timezone": "UTC"}, "every counts time"),
        ({"colour": "red"}, "unknown option"),
        ({"task": "other"}, "cannot be changed"),
        ({"queue": "\n"}, "queue"),
    ],
)
def test_an_edit_that_is_not_possible_changes_nothing(changes, words):
    make()
    before = Schedule.objects.values().get()

    with pytest.raises(ConfigurationError, match=words):
        schedules.edit("mine", **changes)

    assert Schedule.objects.values().get() == before


@pytest.mark.parametrize("name", ["", " a", "a\nb", "n" * 256, None])
def test_a_name_that_no_schedule_can_have_is_refused(name):
    with pytest.raises(ConfigurationError, match="1 to 255"):
        make(name)


def test_a_task_that_nothing_declares_is_refused():
    with pytest.raises(ConfigurationError, match="no task that this process knows"):
        make(task="nowhere.at_all")


def test_what_people_have_made_can_be_removed_and_what_is_declared_cannot():
    make()
    make("declared")
    Schedule.objects.filter(name="declared").update(source="code")

    schedules.remove("mine")
    with pytest.raises(ConfigurationError, match="declared in code"):
        schedules.remove("declared")

    assert [one.name for one in schedules.find()] == ["declared"]


def test_there_is_nothing_to_reset_of_what_people_have_made():
    make()

    with pytest.raises(ConfigurationError, match="no declaration"):
        schedules.reset("mine")


# ---- the task and the settings -----------------------------------------------------------


def report(): ...
def with_an_argument(day, *rest, **more): ...
def with_a_default(context, day=None, *rest, **more): ...


def test_a_task_declares_a_schedule(forgetful, settings):
    settings.TIME_ZONE = "Asia/Tokyo"

    declared = task(cron="0 4 * * *", catch_up="all", jitter=HOUR)(report)

    found = declared_in("default")[declared.module_path]
    assert (found.name, found.source) == (f"{__name__}.report", "code")
    spec = found.spec
    assert (spec.cron, spec.timezone, spec.catch_up, spec.jitter) == (
        "0 4 * * *",
        "Asia/Tokyo",
        "all",
        HOUR,
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cron": "0 4 * * *", "every": HOUR}, "one of them"),
        ({"cron": "often"}, "expected 5 fields"),
        ({"cron": "0 4 * * *", "timezone": "Athens"}, "no time zone"),
        ({"every": 5}, "expected a timedelta"),
        ({"every": HOUR, "timezone": "UTC"}, "every counts time"),
        ({"every": HOUR, "catch_up": "first"}, "none, last, all"),
        ({"timezone": "UTC"}, "belongs to a task that is due by itself"),
        ({"overlap": "skip"}, "belongs to a task that is due by itself"),
    ],
)
def test_a_declaration_that_is_not_possible_is_refused(forgetful, options, words):
    with pytest.raises(ConfigurationError, match=words):
        task(**options)(report)


def test_a_periodic_task_takes_no_required_arguments(forgetful):
    with pytest.raises(ConfigurationError, match=r"needs 'day'.\nFix: .*OPTIONS\['schedules'\]"):
        task(every=HOUR)(with_an_argument)

    assert task(every=HOUR, takes_context=True)(with_a_default).every == HOUR


def test_when_a_task_is_due_belongs_to_its_declaration(forgetful):
    declared = task(every=HOUR)(report)

    with pytest.raises(TypeError, match="cannot vary from call to call"):
        declared.using(every=HOUR)


def test_schedules_in_the_settings_are_checked():
    good = {"task": ADD, "args": [1, 2], "cron": "0 4 * * *"}
    found = BackendOptions(schedules={"nightly": good})
    assert found.schedules["nightly"].cron == "0 4 * * *"
    assert BackendOptions(schedules=found.schedules).schedules == found.schedules

    for wrong, words in [
        ({"nightly": {**good, "corn": "0 4 * * *"}}, "Did you mean 'cron'"),
        ({"nightly": {"task": ADD}}, "one of them"),
        ({"nightly": ADD}, "expected a dict with a task"),
        ({"nightly": {**good, "args": [object()]}}, "values of JSON"),
        ({" ": good}, "1 to 255"),
        ([good], "expected a dict"),
    ]:
        with pytest.raises(ConfigurationError, match=words):
            BackendOptions(schedules=wrong)
