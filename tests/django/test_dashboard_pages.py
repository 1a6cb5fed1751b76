"""The pages of the dashboard that are not about one job: queues, schedules, groups and more."""

import json
from datetime import timedelta
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from aftercommit import group, queues, schedules
from aftercommit.models import AuditRecord, Job, Schedule, WorkerPresence
from aftercommit.relay.outbox import PUBLISH
from aftercommit.store import store_for
from aftercommit.store.clock import DatabaseNow
from aftercommit.store.statistics import Counted
from aftercommit.tallies import Key, Tally
from tests.app.tasks import add
from tests.django.conftest import ours
from tests.django.dashboard import ALL, HOSTILE, add_job, tags_of, text_of, url

pytestmark = pytest.mark.django_db(databases=["default", "other"])

PAGES = (
    "overview",
    "jobs",
    "tasks",
    "queues",
    "schedules",
    "groups",
    "workers",
    "messages",
    "races",
    "audit",
)
SAFE = HOSTILE.replace("\x00", "").replace("\x1b", "")  # as every database stores it


def count(outcome, jobs, *, task="shop.tasks.charge", queue="default", seconds=0.1):
    """Write what a worker has counted."""
    tally = Tally(jobs=jobs)
    for _ in range(jobs):
        tally.waits.add(seconds)
        tally.runs.add(seconds)
    counted = Counted(id=uuid4(), key=Key(task, queue, outcome), tally=tally)
    store_for("default").write_statistics([counted])


def worker(**given):
    given = {"host": "web-1", "pid": 4711, "version": "0.2.0", **given}
    times = dict.fromkeys(("started_at", "seen_at"), DatabaseNow())
    return WorkerPresence.objects.create(id=uuid4(), **{**times, **given})


# Who.


def test_of_many_queues_the_overview_shows_those_that_wait_for_longest(staff, monkeypatch):
    monkeypatch.setattr("aftercommit.dashboard.views.overview.SHOWN", 2)
    for number in range(4):
        add_job(queue=f"queue{number}", run_after=timezone.now() - timedelta(hours=number))

    shown = text_of(staff("view").get(url("overview")))

    assert "queue3" in shown
    assert "queue0" not in shown  # which no sentence names either
    assert "2 more queues" in shown


@pytest.mark.parametrize("page", PAGES)
def test_each_page_is_for_staff_who_may_view(staff, page):
    client = staff(*(one for one in ALL if one != "view"))

    assert client.get(url(page)).status_code == 403
    client.logout()
    assert client.get(url(page))["Location"].startswith("/admin/login/")


@pytest.mark.parametrize("page", PAGES)
def test_each_page_is_shown_of_an_empty_database_with_a_strict_policy(staff, page):
    response = staff(*ALL).get(url(page, using="other"))

    assert response.status_code == 200
    assert "default-src 'none'" in response["Content-Security-Policy"]
    assert [attrs for tag, attrs in tags_of(response) if "aria-current" in attrs]
    for tag, attrs in tags_of(response):
        assert tag != "style"
        assert not [name for name in attrs if name == "style" or name.startswith("on")]


def test_the_audit_needs_a_permission_of_its_own(staff):
    client = staff(*(one for one in ALL if one != "audit"))

    assert client.get(url("audit")).status_code == 403
    assert url("audit") not in client.get(url("jobs")).content.decode()


@pytest.mark.parametrize("page", PAGES)
def test_a_page_about_hostile_names_is_shown(staff, page):
    add_job("failed", task_path=SAFE, queue=SAFE, errors=json.dumps([SAFE]))
    add_job(task_path=SAFE, queue=f"relay.{SAFE}"[:100])
    count("failed", 9, task=SAFE[:255], queue=SAFE[:100])
    worker(host=SAFE)
    group([add.bind(1, 2)], name=SAFE).enqueue()
    store_for("default").record_action(SAFE[:50], by=HOSTILE, user_id="1", subject=HOSTILE)

    response = staff(*ALL).get(url(page))

    scripts = [attrs for tag, attrs in tags_of(response) if tag == "script"]
    assert scripts == [{"src": "/static/aftercommit/dashboard.js", "defer": None}]
    assert "\u202e" not in text_of(response)


# Queues.


@pytest.mark.parametrize(
    ("given", "does"),
    [
        ({"action": "pause", "kind": "queue", "name": "mail", "why": "<b>"}, "queue mail"),
        ({"action": "pause", "kind": "task", "name": "tests.app.tasks.add"}, None),
        ({"action": "limit", "kind": "queue", "name": "mail", "limit": "4"}, "queue mail"),
    ],
)
def test_a_queue_or_a_task_is_paused_or_limited_with_the_permission(staff, given, does):
    client = staff(*(one for one in ALL if one != "pause"))
    assert client.post(url("queue-act"), given).status_code == 403
    assert not queues.paused("default")
    assert 'name="action"' not in client.get(url("queues")).content.decode()

    User.objects.all().delete()
    client = staff("view", "pause")
    client.post(url("queue-act"), given)

    record = AuditRecord.objects.get()
    subject = does or "task tests.app.tasks.add"
    assert (record.action, record.subject) == (given["action"], subject)
    found = (queues.paused if given["action"] == "pause" else queues.limits)("default")
    assert [f"{one.kind} {one.name}" for one in found] == [subject]
    assert not queues.paused("other")
    seen = client.get(url("queues"))
    assert "ann" in text_of(seen) or given["action"] == "limit"

    undo = {"pause": "resume", "limit": "unlimit"}[given["action"]]
    client.post(url("queue-act"), {**given, "action": undo})
    assert not (queues.paused if undo == "resume" else queues.limits)("default")


@pytest.mark.parametrize(
    "given",
    [
        {"action": "pause", "kind": "queue", "name": ""},
        {"action": "pause", "kind": "broker", "name": "celery"},
        {"action": "pause", "kind": "queue", "name": "x" * 1000},
        {"action": "pause", "kind": "task", "name": "shop.nowhere"},
        {"action": "limit", "kind": "queue", "name": "mail", "limit": "many"},
        {"action": "limit", "kind": "queue", "name": "mail", "limit": "0"},
        {"action": "burn", "kind": "queue", "name": "mail"},
        {"action": "resume", "kind": "queue", "name": "mail"},
    ],
)
def test_what_cannot_be_done_to_a_queue_is_told(staff, given):
    answer = staff("view", "pause").post(url("queue-act"), given, follow=True)

    assert 'class="warning"' in answer.content.decode()
    assert not AuditRecord.objects.exists()


def test_queues_are_shown_with_their_depth_and_age(staff):
    for _ in range(2):
        add_job(queue="mail")
    Job.objects.update(run_after=timezone.now() - timedelta(minutes=5))
    add_job(queue="mail", run_after=timezone.now() + timedelta(hours=1))

    seen = text_of(staff("view").get(url("queues")))

    assert "mail 2 3 0 0 5 min" in seen


# Schedules.


@pytest.fixture
def schedule():
    schedules.create("prices", task=add.module_path, args=[1, 2], every=timedelta(minutes=5))
    return {"name": "prices"}


@pytest.mark.parametrize(("action", "needs"), [("run", "run"), ("disable", "schedules")])
def test_a_schedule_is_run_or_disabled_with_the_permission(staff, schedule, action, needs):
    client = staff(*(one for one in ALL if one != needs))
    given = {**schedule, "action": action}
    assert f'value="{action}"' not in client.get(url("schedules")).content.decode()
    assert client.post(url("schedule-act"), given).status_code == 403

    User.objects.all().delete()
    client = staff("view", needs)
    client.post(url("schedule-act"), given)

    assert Job.objects.count() == (1 if action == "run" else 0)
    assert Schedule.objects.get().enabled is (action != "disable")
    record = AuditRecord.objects.get()
    assert (record.action, record.subject) == (f"{action} schedule", "prices")


@pytest.mark.parametrize("given", [{"name": "nothing", "action": "run"}, {"action": "enable"}])
def test_what_cannot_be_done_to_a_schedule_is_told(staff, schedule, given):
    answer = staff(*ALL).post(url("schedule-act"), {"name": "", **given}, follow=True)

    assert 'class="warning"' in answer.content.decode()
    assert not AuditRecord.objects.exists()


def test_a_late_schedule_says_so(staff, schedule):
    Schedule.objects.update(next_run=timezone.now() - timedelta(minutes=9))
    worker()
    client = staff(*ALL)

    assert "prices tests.app.tasks.add late 9 min" in text_of(client.get(url("schedules")))
    assert "The schedule 'prices' is late" in text_of(client.get(url("overview")))


# Workers.


def test_a_worker_is_shown_with_what_it_runs(staff):
    job_id = add_job("running", task_path="shop.tasks.charge")
    here = worker()
    Job.objects.filter(pk=job_id).update(worker_id=here.id)
    gone = add_job("running", task_path="shop.tasks.lost")
    silent = worker(host="web-2", seen_at=timezone.now() - timedelta(minutes=9))

    response = staff("view").get(url("workers"))

    seen = text_of(response)
    assert "web-1 :4711 alive" in seen
    assert "web-2 :4711 silent" in seen
    by_host = {line.host: [row.id for row in line.jobs] for line in response.context["workers"]}
    assert by_host == {"web-1": [job_id], "web-2": []}
    assert [row.id for row in response.context["others"]] == [gone]
    assert silent.pk != here.pk


def test_a_worker_says_its_threads_and_its_memory(staff):
    worker(threads=4, memory=300 * 1024**2)
    worker(host="web-2")  # of an earlier version

    seen = text_of(staff("view").get(url("workers")))

    assert "0 jobs on 4 threads Memory 300 MiB" in seen
    assert seen.count("Memory") == 1


# Tasks and the overview.


def test_tasks_are_shown_with_their_rate_and_times(staff):
    count("succeeded", 95, seconds=0.1)
    count("failed", 5)
    count("succeeded", 1, task="shop.tasks.mail", seconds=40)
    client = staff("view")

    by_number = client.get(url("tasks")).context["lines"]
    assert [one.name for one in by_number] == ["shop.tasks.charge", "shop.tasks.mail"]
    assert (by_number[0].ended, by_number[0].failed, by_number[0].share) == ("100", "5", "5.0 %")
    by_time = client.get(url("tasks"), {"order": "p95", "over": "1d"}).context["lines"]
    assert [one.name for one in by_time] == ["shop.tasks.mail", "shop.tasks.charge"]
    assert client.get(url("tasks"), {"order": "x", "over": "x"}).status_code == 200


def test_the_overview_says_which_task_fails(staff):
    count("succeeded", 6)
    count("failed", 4)
    client = staff("view")

    response = client.get(url("overview"))

    seen = text_of(response)
    assert "shop.tasks.charge fails: 40 % of 10 jobs since " in seen
    assert "6 succeeded, 4 failed." in seen
    assert "Failed of these 40.0 %" in seen
    kinds = {attrs.get("class") for tag, attrs in tags_of(response) if tag == "rect"}
    assert kinds == {"succeeded", "failed"}


def test_the_overview_says_that_nobody_works(staff):
    add_job()
    Job.objects.update(run_after=timezone.now() - timedelta(hours=1))

    seen = text_of(staff("view").get(url("overview")))

    assert "and no worker runs any of them. Run 'manage.py aftercommit worker'." in seen


# Groups and graphs.


def test_a_group_is_shown_with_its_graph_and_cancelled_with_the_permission(staff):
    first, second = add.bind(1, 2), add.bind(3, 4)
    found = group([first, second, add.bind(first, second)], name="import").enqueue()
    client = staff(*(one for one in ALL if one != "groups"))
    assert "import" in text_of(client.get(url("groups")))
    address = url("group", group_id=found.id)

    response = client.get(address)
    assert len(response.context["drawing"].paths) == 2
    assert len(response.context["boxes"]) == 3
    assert client.post(url("group-act", group_id=found.id)).status_code == 403
    assert Job.objects.filter(state="cancelled").count() == 0

    User.objects.all().delete()
    client = staff("view", "groups")
    client.post(url("group-act", group_id=found.id))
    assert Job.objects.filter(state="cancelled").count() == 3
    record = AuditRecord.objects.get()
    assert (record.action, record.subject, record.changed) == ("cancel group", found.id, 3)
    assert client.get(url("group", group_id=uuid4())).status_code == 404


def test_the_graph_of_a_job_has_both_directions(staff):
    needed, alone = add.bind(1, 2), add_job()
    middle = add.bind(needed, 1)
    last = add.bind(middle, 1).enqueue()
    client = staff("view")
    ids = list(Job.objects.exclude(pk=alone).values_list("pk", flat=True))

    for job_id in ids:
        response = client.get(url("graph", job_id=job_id))
        assert {box.is_this for box in response.context["boxes"]} == {True, False}
        assert len(response.context["boxes"]) == 3
    assert str(last.id) in map(str, ids)
    assert "needs no job" in text_of(client.get(url("graph", job_id=alone)))


def refresh_of(response):
    return next(given for tag, given in tags_of(response) if tag == "body").get("data-refresh")


def test_pages_that_count_many_jobs_refresh_rarely_or_not_at_all(staff, monkeypatch):
    small = group([add.bind(1, 2)], name="small").enqueue()
    large = group([add.bind(1, 2), add.bind(3, 4)], name="large").enqueue()
    monkeypatch.setattr("aftercommit.dashboard.views.groups.LARGE", 1)
    client = staff("view")

    assert refresh_of(client.get(url("groups"))) is None
    assert refresh_of(client.get(url("group", group_id=small.id))) == "5"
    assert refresh_of(client.get(url("group", group_id=large.id))) == "60"


# Messages.


def test_messages_are_shown_by_broker(staff, backends):
    backends(default=ours(relay=["celery"]))
    meta = {"name": "shop.tasks.charge", "message_id": "m1"}
    kept = add_job(task_path=PUBLISH, queue="relay.celery", meta=meta)
    Job.objects.update(run_after=timezone.now() - timedelta(minutes=5))
    refused = add_job("failed", task_path=PUBLISH, queue="relay.celery", meta=meta)
    count("succeeded", 7, task=PUBLISH, queue="relay.celery")

    response = staff("view").get(url("messages"))

    (line, in_order) = response.context["lines"]
    assert (line.broker, line.in_order, in_order.in_order) == ("celery", False, True)
    assert [row.id for row in line.kept] == [kept]
    assert [row.id for row in line.failed] == [refused]
    assert (line.queue.ready, line.published) == ("1", "7")
    assert "Messages for celery have waited in database 'default'" in text_of(response)


# The audit.


def test_the_audit_is_read_page_by_page_and_by_person(staff, monkeypatch):
    monkeypatch.setattr("aftercommit.dashboard.views.audit.SIZE", 2)
    job_id = add_job()
    store = store_for("default")
    for by in ("ann", "bob", "ann"):
        store.record_action("retry", by=by, user_id="1", subject=str(job_id), found=1)
    client = staff("view", "audit")

    first = client.get(url("audit"))
    assert [one.by for one in first.context["lines"]] == ["ann", "bob"]
    assert first.context["lines"][0].url == url("job", job_id=job_id)
    second = client.get(url("audit") + first.context["next_url"])
    assert [one.by for one in second.context["lines"]] == ["ann"]
    assert second.context["next_url"] == ""
    of_one = client.get(url("audit"), {"by": "bob"})
    assert [one.by for one in of_one.context["lines"]] == ["bob"]
    for before in ("x", "9" * 100, "-1"):
        assert client.get(url("audit"), {"before": before, "by": "\x00"}).status_code == 200


def test_a_text_that_was_searched_in_arguments_is_shown_to_who_may_read_them(staff):
    store = store_for("default")
    details = {"filter": "state=failed&arguments=4711", "until": None, "is_over": True}
    number = store.record_action("retry", by="ann", user_id="1", details=details)
    pages = (url("audit"), url("bulk", number=number))

    client = staff("view", "audit")
    for page in pages:
        seen = client.get(page)
        assert "failed" in seen.content.decode()
        assert "4711" not in seen.content.decode()
        assert "[hidden]" in text_of(seen)
    client.force_login(User.objects.create_superuser("bob"))
    for page in pages:
        assert "4711" in client.get(page).content.decode()


@pytest.mark.parametrize(
    "kept", ["\x00%ff&arguments=4711", ["arguments=4711"], {"a": 4711}, None]
)
def test_a_filter_that_somebody_has_changed_breaks_no_page(staff, kept):
    number = store_for("default").record_action(
        "retry", by="ann", user_id="1", details={"filter": kept, "is_over": True}
    )
    client = staff("view", "audit")

    for page in (url("audit"), url("bulk", number=number)):
        seen = client.get(page)
        assert seen.status_code == 200
        assert "4711" not in seen.content.decode()


# The admin.


def test_the_admin_has_a_link_to_the_dashboard(staff):
    client = staff("view")

    for address in ("/admin/aftercommit/job/", "/admin/aftercommit/"):
        assert '<a href="/jobs/">Dashboard</a>' in client.get(address).content.decode()


# Actions are about what was asked, or about nothing.


@pytest.mark.parametrize(
    "given", ["arguments=4711", "state=gone", "order=magic", "task=" + "x" * 1000]
)
def test_an_action_is_refused_if_a_part_of_its_filter_is_left_out(staff, given):
    add_job("failed")
    client = staff("view", "retry", "cancel")  # not "arguments"
    asked = {"action": "retry", "scope": "filter", "filter": given, "sure": "yes"}

    answer = client.post(url("act"), asked, follow=True)

    assert 'class="warning"' in answer.content.decode()
    assert not AuditRecord.objects.exists()
    assert Job.objects.get().state == "failed"


def test_a_step_ends_if_its_filter_is_forbidden_meanwhile(staff):
    add_job("failed", payload='{"args":[1],"kwargs":{}}')
    client = staff("view", "retry", "arguments")
    asked = {"action": "retry", "scope": "filter", "filter": "arguments=4711", "sure": "yes"}
    client.post(url("act"), asked)
    user = User.objects.get()
    user.user_permissions.remove(user.user_permissions.get(codename="view_job_arguments"))

    answer = client.post(url("bulk", number=AuditRecord.objects.get().pk), follow=True)

    assert 'class="warning"' in answer.content.decode()
    assert Job.objects.get().state == "failed"


# What it costs.

MOST = {"overview": 45, "tasks": 4, "queues": 20, "schedules": 5, "workers": 8, "audit": 4}


@pytest.mark.parametrize("page", MOST)
def test_a_page_asks_no_more_statements_for_more_rows(staff, page):
    for number in range(20):
        add_job("failed" if number % 2 else "running", task_path=f"shop.tasks.t{number % 5}")
        count("succeeded", 3, task=f"shop.tasks.t{number % 5}")
        worker(pid=number + 1)
        store_for("default").record_action("retry", by="ann", user_id="1")
    client = staff(*ALL)
    client.get(url(page))

    with CaptureQueriesContext(connection) as queries:
        client.get(url(page))

    found = [one["sql"] for one in queries if "aftercommit_" in one["sql"]]
    assert len(found) <= MOST[page], "\n".join(found)
