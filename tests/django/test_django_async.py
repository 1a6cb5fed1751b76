"""The names of Django Async: what its documents and its code say holds here as well."""

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth.models import Permission, User
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import transaction
from django.utils import timezone

from aftercommit import django_async
from aftercommit.django_async import (
    Group,
    deschedule,
    health,
    removal,
    remove_old_jobs,
    schedule,
    views,
)
from aftercommit.errors import GroupHasEnded
from aftercommit.models import Group as GroupRow
from aftercommit.models import Job, Member
from aftercommit.store import store_for
from aftercommit.store.clock import ago
from aftercommit.values import Cancelled, Failed, Succeeded
from tests.app.chores import scheduled, scheduled_and_broken
from tests.store.given import ERROR, claim_one

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.urls("tests.django.async_urls"),
]

FUNCTION = "tests.app.chores.scheduled"


def end(outcome=None):
    store = store_for("default")
    claim = claim_one(store)
    store.finish(claim, outcome or Succeeded("1"))
    return claim.job_id


# ---- its documents, line by line ----------------------------------------------------


def test_to_run_a_job_just_use_the_schedule_function():
    # schedule('my.function', args=(1, 2, 3), kwargs=dict(key='value'))
    result = schedule(FUNCTION, args=(), kwargs=dict(key="value"))  # noqa: C408

    call_command("flush_queue")

    result.refresh()
    assert result.return_value == "value"


def test_the_arguments_may_be_given_by_position_in_its_order():
    later = timezone.now() + timedelta(hours=1)

    schedule(scheduled, ["one"], {}, 7, later, "import", {"by": "ann"})

    job = Job.objects.get()
    assert (job.priority, job.run_after, job.meta["by"]) == (7, later, "ann")
    assert GroupRow.objects.get().name == "import"


def test_the_priority_is_5_if_it_is_not_given():
    schedule(scheduled, ["one"])

    assert Job.objects.get().priority == 5


def test_a_failed_task_is_scheduled_again_for_ever():
    schedule(scheduled_and_broken, ["one"])
    assert Job.objects.get().max_attempts == django_async.ENDLESS
    before = Job.objects.get().run_after

    call_command("flush_queue")

    job = Job.objects.get()
    assert (job.state, job.attempts) == ("ready", 1)
    assert timedelta(seconds=60) <= job.run_after - before < timedelta(seconds=120)


def test_a_task_and_its_completion_are_one_transaction():
    with transaction.atomic():
        schedule(scheduled, ["one"])
        transaction.set_rollback(True)

    assert not Job.objects.exists()


def test_deschedule_takes_back_what_has_not_run():
    schedule(scheduled, ["one"])
    schedule(scheduled, ["two"])

    assert deschedule(scheduled, ["one"]) == 1
    assert Job.objects.filter(state="cancelled").count() == 1


# ---- Group --------------------------------------------------------------------------


def test_a_group_has_a_reference_and_a_description():
    made = Group.create("import", "of May")

    assert (made.reference, made.description, str(made)) == ("import", "of May", "import")
    assert abs(made.created - timezone.now()) < timedelta(minutes=5)
    assert made.final is None
    assert list(made.jobs) == []
    assert not made.has_completed()
    assert made.latest_executed_job() is None
    assert made.estimate_execution_duration() == (None, None, None)


def test_no_second_group_while_the_first_has_jobs_left():
    schedule(scheduled, ["one"], group=Group.create("import"))

    with pytest.raises(ValidationError, match=r"\[import\] still has unexecuted jobs"):
        Group.create("import")

    end()
    assert Group.create("import").id != Group.create("import").id


def test_the_latest_group_by_reference():
    made = Group.latest_group_by_reference("import")
    assert Group.latest_group_by_reference("import").id == made.id

    schedule(scheduled, ["one"], group="import")
    assert Group.latest_group_by_reference("import").id == made.id

    end()
    assert made.has_completed()
    assert Group.latest_group_by_reference("import").id != made.id


def test_no_new_job_once_the_group_has_begun():
    made = Group.create("import")
    schedule(scheduled, ["one"], group=made)
    schedule(scheduled, ["two"], group=made)
    end()

    with pytest.raises(GroupHasEnded):
        schedule(scheduled, ["three"], group=made)


def test_the_final_job_runs_after_all_others_however_they_end():
    made = Group.create("import")
    final = schedule(scheduled, ["last"], priority=50)
    made.on_completion(final)
    first = schedule(scheduled, ["one"], group=made)
    schedule(scheduled, ["two"], group="import")
    assert made.final.id == final.id

    assert str(end(Failed(ERROR))) == first.id
    end(Cancelled(None))
    assert not made.has_completed()
    assert made.has_completed(exclude=final)
    assert str(end()) == final.id

    assert made.has_completed()
    assert made.latest_executed_job().id == final.id


def test_the_final_job_may_be_one_of_the_group():
    made = Group.create("import")
    final = schedule(scheduled, ["last"], group=made)
    other = schedule(scheduled, ["one"], group=made)
    made.on_completion(final)
    made.on_completion(final)  # says nothing new

    assert str(end()) == other.id
    assert str(end()) == final.id
    assert made.has_completed()


def test_a_group_has_one_final_job_that_has_not_begun():
    made = Group.create("import")
    schedule(scheduled, ["one"], group=made)
    begun = schedule(scheduled, ["last"], priority=50)
    end()

    with pytest.raises(GroupHasEnded):
        made.on_completion(begun)
    assert made.final is None
    made.on_completion(schedule(scheduled, ["last"]))
    with pytest.raises(ValidationError, match="has a final job already"):
        made.on_completion(schedule(scheduled, ["another"]))


def test_how_long_a_group_takes():
    made = Group.create("import")
    for key in ("one", "two", "three", "four"):
        schedule(scheduled, [key], group=made)
    GroupRow.objects.update(created_at=ago(timedelta(seconds=100)))
    end()

    estimated, remaining, consumed = Group.latest_group_by_reference(
        "import"
    ).estimate_execution_duration()

    assert timedelta(seconds=100) <= consumed < timedelta(seconds=150)
    assert estimated == consumed * 4
    assert remaining == consumed * 3
    for _ in range(3):
        end()
    assert made.estimate_execution_duration()[1] == timedelta(0)


# ---- estimates and health -----------------------------------------------------------


def test_the_estimates_of_an_empty_queue_are_nothing():
    assert django_async.estimate_rough_queue_completion() == 0
    assert django_async.estimate_queue_completion() == 0
    assert django_async.estimate_current_job_completion() == 0


def lasted(job_id, seconds, *, waited=0):
    """Let a job have run for so long, and have been due before."""
    end_at = Job.objects.get(id=job_id).finished_at
    began = end_at - timedelta(seconds=seconds)
    due = began - timedelta(seconds=waited)
    Job.objects.filter(id=job_id).update(claimed_at=began, run_after=due)


def test_the_rough_estimate_counts_waiting():
    for key in ("one", "two", "three"):
        schedule(scheduled, [key])
    lasted(end(), 10, waited=5)

    assert django_async.estimate_rough_queue_completion() == 30


def test_the_precise_estimate_knows_functions_and_groups():
    for key in ("one", "two", "three"):
        schedule(scheduled, [key])
    schedule(scheduled_and_broken, ["one"], priority=-1)
    lasted(end(), 10)

    assert django_async.estimate_queue_completion() == 20


def test_the_estimate_of_the_present_job():
    for key in ("one", "two"):
        schedule(scheduled, [key])
    lasted(end(), 100)
    claim_one(store_for("default"))

    assert 90 < django_async.estimate_current_job_completion() <= 100


def test_health_says_what_is_in_the_queue():
    for key in ("one", "two", "three", "four"):
        schedule(scheduled, [key])
    executed, cancelled = end(), end(Cancelled(ERROR))
    call_command("flush_queue", jobs=1)

    found = health()

    queue = found["queue"]
    assert (queue["all-jobs"], queue["executed"], queue["remaining"]) == (4, 2, 1)
    assert queue["executed-details"] == {FUNCTION: {"count": 2}}
    assert queue["not-executed-details"] == {FUNCTION: {"count": 1}}
    assert (queue["cancelled"], queue["oldest-cancelled"]) == (1, str(cancelled))
    assert queue["oldest-executed"] == str(executed)
    assert found["errors"] == {"number": 1}
    assert set(queue) == {
        *("all-jobs", "executed", "executed-details", "oldest-executed"),
        *("most-recent-executed", "remaining", "not-executed", "not-executed-details"),
        *("cancelled", "oldest-cancelled", "most-recent-cancelled", "cancelled-details"),
        *("estimated-completion-current-job", "estimated-completion"),
    }


@pytest.mark.parametrize("words", [(), ("--algorithm", "rough"), ("-a", "precise")])
def test_queue_health_prints_json(words):
    schedule(scheduled, ["one"])
    out = StringIO()

    call_command("queue_health", *words, stdout=out)

    assert json.loads(out.getvalue())["queue"]["not-executed"] == 1


def test_queue_health_knows_two_algorithms():
    with pytest.raises(CommandError, match="invalid choice"):
        call_command("queue_health", "--algorithm", "none")


# ---- remove_old_jobs ----------------------------------------------------------------


def test_old_jobs_are_removed_and_the_next_removal_is_scheduled():
    schedule(scheduled, ["old"])
    old = end()
    schedule(scheduled, ["new"])
    new = end()
    Job.objects.filter(id=old).update(finished_at=ago(timedelta(days=31)))
    age(old, timedelta(days=31))

    remove_old_jobs()

    left = set(Job.objects.values_list("id", flat=True))
    assert old not in left
    assert new in left
    following = Job.objects.get(state="ready")
    assert following.args[:2] == [django_async.removal.PATH, [30, 8]]
    assert following.run_after > timezone.now() + timedelta(hours=7)


def test_a_group_is_removed_when_all_of_its_jobs_are_old():
    done, going_on = Group.create("done"), Group.create("going on")
    for made in (done, done, going_on, going_on):
        schedule(scheduled, ["old"], group=made)
    ended = [end() for _ in range(3)]
    Job.objects.filter(id__in=ended).update(finished_at=ago(timedelta(days=31)))
    for one in ended:
        age(one, timedelta(days=31))
    GroupRow.objects.update(created_at=ago(timedelta(days=31)))

    remove_old_jobs(30, 8)

    assert [one.name for one in GroupRow.objects.all()] == ["going on"]
    assert Member.objects.count() == 2


def test_one_removal_deletes_a_part_and_the_next_one_follows_at_once(monkeypatch):
    monkeypatch.setattr(removal, "ONE_PAGE", 2)
    monkeypatch.setattr(removal, "MOST_AT_ONCE", 2)
    for key in ("one", "two", "three"):
        schedule(scheduled, [key])
    ended = [end() for _ in range(3)]
    Job.objects.filter(id__in=ended).update(finished_at=ago(timedelta(days=31)))
    for one in ended:
        age(one, timedelta(days=31))
    schedule(removal.PATH, [30, 8])

    call_command("flush_queue", jobs=1)

    assert Job.objects.filter(finished_at__lt=ago(timedelta(days=30))).count() == 1
    following = Job.objects.get(state="ready")
    assert following.run_after < timezone.now() + timedelta(hours=1)

    call_command("flush_queue", jobs=1)

    assert not Job.objects.filter(finished_at__lt=ago(timedelta(days=30))).exists()
    following = Job.objects.get(state="ready")
    assert following.args[:2] == [removal.PATH, [30, 8]]
    assert following.run_after > timezone.now() + timedelta(hours=7)


def test_a_group_that_has_no_jobs_yet_is_not_removed():
    made = Group.create("import")

    remove_old_jobs()

    schedule(scheduled, ["one"], group=made)
    remove_old_jobs()
    assert [one.name for one in GroupRow.objects.all()] == ["import"]
    assert Member.objects.count() == 1


def test_the_removal_runs_as_a_scheduled_function():
    result = schedule("aftercommit.django_async.removal.remove_old_jobs", [30, 8])

    call_command("flush_queue")

    result.refresh()
    assert result.state == "succeeded"
    assert Job.objects.filter(state="ready").count() == 1


def age(job_id, span):
    """Let a job have been made so long ago; its id says when."""
    from aftercommit.ids import first_id_of  # noqa: PLC0415

    new = first_id_of(timezone.now() - span)
    while Job.objects.filter(id=new).exists():
        new = type(new)(int=new.int + 1)
    Job.objects.filter(id=job_id).update(id=new)
    Member.objects.filter(job_id=job_id).update(job_id=new)


# ---- views --------------------------------------------------------------------------


@pytest.fixture
def ann(client):
    """Return a user who is logged in."""
    user = User.objects.create_user("ann", password="ann")
    client.force_login(user)
    return user


def let(user, codename):
    """Give a user a permission of ours."""
    user.user_permissions.add(
        Permission.objects.get(codename=codename, content_type__app_label="aftercommit")
    )


@pytest.mark.parametrize("path", ["health/", "progress/import/"])
def test_what_is_shown_needs_a_user(client, path):
    assert client.get(f"/async/{path}").status_code == 403


@pytest.mark.parametrize("path", ["health/", "progress/import/"])
def test_what_is_shown_needs_a_permission(client, ann, path):
    schedule(scheduled, ["one"], group="import")

    answer = client.get(f"/async/{path}")

    assert answer.status_code == 403
    assert "needs the permission aftercommit.view_" in answer.json()["error"]


def test_a_project_may_show_them_to_whom_it_likes(rf):
    schedule(scheduled, ["one"], group="import")

    assert views.show_health(rf.get("/")).status_code == 200
    assert views.show_progress(rf.get("/"), "import").status_code == 200


def test_scheduling_needs_a_permission(client, ann):
    assert client.post("/async/schedule/", {"name": FUNCTION}).status_code == 403
    assert not Job.objects.exists()


def test_nothing_is_scheduled_by_a_get(client, ann):
    assert client.get("/async/schedule/").status_code == 405


def test_the_health_view(client, ann):
    let(ann, "view_job")
    schedule(scheduled, ["one"])

    answer = client.get("/async/health/").json()

    assert answer["health"]["queue"]["remaining"] == 1


@pytest.fixture
def may_schedule(ann):
    let(ann, "add_job")


def test_a_function_is_scheduled_by_a_form(client, may_schedule):
    form = {"name": FUNCTION, "args": ["one"], "meta": '{"by": "ann"}', "group": "import"}

    answer = client.post("/async/schedule/", form).json()

    job = Job.objects.get(id=answer["job"]["id"])
    assert (job.args[1], job.meta["by"], job.priority) == (["one"], "ann", 5)
    assert GroupRow.objects.get().name == "import"


def test_a_function_is_scheduled_by_json(client, may_schedule):
    body = {
        "name": FUNCTION,
        "kwargs": {"key": "one"},
        "run_after": "2030-05-01T12:00:00",
        "priority": 1,
    }

    answer = client.post("/async/schedule/", json.dumps(body), "application/json").json()

    job = Job.objects.get(id=answer["job"]["id"])
    assert (job.args[2], job.run_after.year, job.priority) == ({"key": "one"}, 2030, 1)


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"name": "os.system", "args": ["true"]},
        {"name": FUNCTION, "run_after": "soon"},
        {"name": FUNCTION, "kwargs": "{"},
        {"name": FUNCTION, "priority": "high"},
        {"name": FUNCTION, "priority": "1000"},
    ],
    ids=str,
)
def test_what_cannot_be_scheduled_is_a_sentence(client, may_schedule, form):
    answer = client.post("/async/schedule/", form)

    assert answer.status_code == 400
    assert answer.json()["error"]
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    "field",
    [
        *({"name": 5}, {"name": ["x"]}, {"args": "abc"}, {"args": 5}, {"args": {"key": "x"}}),
        *({"kwargs": [1]}, {"kwargs": "x"}, {"meta": [1]}, {"priority": "x"}, {"priority": 1.5}),
        *({"priority": True}, {"priority": None}, {"group": 5}, {"group": {"a": 1}}),
        *({"group": "x" * 300}, {"group": "a\0b"}, {"run_after": 5}),
    ],
    ids=lambda field: str(field)[:30].replace("\0", "0"),
)
def test_json_of_a_wrong_type_is_a_sentence(client, may_schedule, field):
    body = json.dumps({"name": FUNCTION, **field})

    answer = client.post("/async/schedule/", body, "application/json")

    assert answer.status_code == 400
    assert next(iter(field)) in answer.json()["error"]
    assert not Job.objects.exists()


@pytest.mark.parametrize("name", ["kwargs", "meta"])
def test_a_form_with_a_list_for_an_object_is_a_sentence(client, may_schedule, name):
    answer = client.post("/async/schedule/", {"name": FUNCTION, name: "[1]"})

    assert answer.status_code == 400
    assert "expected an object" in answer.json()["error"]


def test_the_progress_of_a_group(client, ann):
    let(ann, "view_group")
    for key in ("one", "two"):
        schedule(scheduled, [key], group="import/may")
    end()

    found = client.get("/async/progress/import/may/").json()["progress"]

    assert (found["reference"], found["total_jobs"]) == ("import/may", 2)
    assert (found["total_executed_jobs"], found["total_unexecuted_jobs"]) == (1, 1)
    assert (found["total_error_jobs"], found["current_errors"]) == (0, 0)
    assert found["latest_job_completed"]
    assert found["consumed_seconds"] >= 0
    assert found["remaining_seconds"] >= 0
    assert client.get("/async/progress/nope/").status_code == 404
