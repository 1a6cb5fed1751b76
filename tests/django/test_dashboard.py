"""The dashboard: who may see and do what, what the pages show, and what their headers say."""

import json

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from aftercommit.enqueue.functions import RUN_FUNCTION, RUN_WITH_BACKOFF
from aftercommit.mail.messages import TASK as MAIL
from aftercommit.models import AuditRecord, Job
from aftercommit.relay.outbox import PUBLISH
from tests.django.dashboard import (
    ALL,
    HOSTILE,
    add_job,
    tags_of,
    text_of,
    url,
)

pytestmark = pytest.mark.django_db(databases=["default", "other"])

ERROR = [
    {
        "exception_class_path": "shop.errors.Refused",
        "traceback": 'Traceback:\n  File "x"\nshop.errors.Refused: card \\ "7" expired\n',
        "worker_id": "None",
    }
]


@pytest.fixture
def failed_job():
    return add_job("failed", errors=json.dumps(ERROR), payload='{"args":[41],"kwargs":{}}')


def pages(job_id):
    """Return the addresses of the pages that only show something."""
    return [url("overview"), url("jobs"), url("job", job_id=job_id)]


# Who.


def test_who_is_not_logged_in_is_sent_to_the_login(client, failed_job):
    for address in [*pages(failed_job), url("jobs", using="nowhere")]:
        response = client.get(address)

        assert response.status_code == 302
        assert response["Location"].startswith("/admin/login/?next=/jobs/")


@pytest.mark.parametrize(
    "who", [{"is_staff": False}, {"may": [one for one in ALL if one != "view"]}]
)
def test_nobody_comes_in_without_being_staff_and_the_permission_to_view(staff, failed_job, who):
    may = who.pop("may", ALL)
    client = staff(*may, **who)

    for address in [*pages(failed_job), url("job-copy", job_id=failed_job)]:
        assert client.get(address).status_code == 403
    for action in ("retry", "run", "cancel", "delete"):
        posted = client.post(url("job-act", job_id=failed_job), {"action": action})
        assert posted.status_code == 403
    assert Job.objects.get().state == "failed"


def test_a_user_who_is_switched_off_does_not_come_in(staff, failed_job):
    client = staff(*ALL, is_active=False)

    assert client.get(url("jobs")).status_code == 302  # Django gives such a user no session


def test_a_database_without_jobs_has_no_page(staff):
    assert staff("view").get(url("jobs", using="nowhere")).status_code == 404


def test_the_root_leads_to_the_usual_database(staff):
    assert staff("view").get("/jobs/")["Location"] == url("overview")


@pytest.mark.parametrize(
    ("action", "state", "needs", "becomes"),
    [
        ("retry", "failed", "retry", "ready"),
        ("cancel", "ready", "cancel", "cancelled"),
        ("delete", "succeeded", "delete", None),
    ],
)
def test_each_action_needs_its_permission_and_is_recorded(staff, action, state, needs, becomes):
    job_id = add_job(state)
    client = staff(*(one for one in ALL if one != needs))
    address = url("job-act", job_id=job_id)

    assert client.post(address, {"action": action}).status_code == 403
    assert client.post(url("act"), {"action": action, "id": job_id}).status_code == 403
    assert Job.objects.get().state == state
    assert f'value="{action}"' not in client.get(url("job", job_id=job_id)).content.decode()
    assert f'value="{action}"' not in client.get(url("jobs")).content.decode()
    assert not AuditRecord.objects.exists()

    User.objects.all().delete()
    client = staff("view", needs)
    assert f'value="{action}"' in client.get(url("job", job_id=job_id)).content.decode()
    assert client.post(address, {"action": action}).status_code == 302

    found = Job.objects.first()
    assert (None if found is None else found.state) == becomes
    record = AuditRecord.objects.get()
    assert (record.by, record.action, record.subject) == ("ann", action, str(job_id))
    assert (record.found, record.changed) == (1, 1)


def test_an_action_needs_a_token_against_forged_requests(staff, failed_job):
    staff("view", "retry")
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.get())

    answer = client.post(url("job-act", job_id=failed_job), {"action": "retry"})

    assert answer.status_code == 403
    assert Job.objects.get().state == "failed"


def test_an_action_is_no_get(staff, failed_job):
    client = staff(*ALL)

    for address in (url("job-act", job_id=failed_job), url("act")):
        assert client.get(address, {"action": "retry"}).status_code == 405
    assert Job.objects.get().state == "failed"


def test_arguments_results_and_a_search_in_them_need_a_permission(staff):
    job_id = add_job("succeeded", payload='{"args":["card 4711"],"kwargs":{}}', result='"9876"')
    client = staff(*(one for one in ALL if one != "arguments"))

    seen = [
        client.get(url("jobs")),
        client.get(url("job", job_id=job_id)),
        client.get(url("jobs"), {"arguments": "no such text"}),
    ]

    for response in seen:
        assert "4711" not in text_of(response)
        assert "9876" not in text_of(response)
    assert "tests.app.tasks.add" in text_of(seen[2])  # the filter was not obeyed
    assert client.get(url("job-copy", job_id=job_id)).status_code == 403


# What is shown.


def test_a_line_shows_the_call_and_the_last_line_of_the_error(staff, failed_job):
    seen = text_of(staff("view", "arguments").get(url("jobs")))

    assert 'tests.app.tasks.add 41 shop.errors.Refused: card \\ "7" expired Failed' in seen


def test_a_job_shows_its_attempts_with_their_tracebacks(staff, failed_job):
    seen = text_of(staff("view").get(url("job", job_id=failed_job)))

    assert 'File "x" shop.errors.Refused: card \\ "7" expired' in seen


def test_an_attempt_says_when_it_began_and_how_long_it_took(staff):
    known = {**ERROR[0], "claimed_at": "2026-11-30T10:20:30+00:00", "took": 1.5}
    odd = {**ERROR[0], "claimed_at": "2026-11-30", "took": 1e300}
    job_id = add_job("failed", errors=json.dumps([*ERROR, known, odd]))

    response = staff("view").get(url("job", job_id=job_id))

    odd, known, old = response.context["details"].attempts
    assert (known.at.isoformat(), known.took) == ("2026-11-30T10:20:30+00:00", "1.5 s")
    assert {(one.at, one.took) for one in (odd, old)} == {(None, "")}
    assert "2026-11-30 10:20:30" in text_of(response)


@pytest.mark.parametrize("state", ["ready", "running", "succeeded", "failed", "cancelled"])
def test_nothing_in_a_row_becomes_part_of_a_page(staff, state):
    without_nul = HOSTILE.replace("\x00", "")
    errors = [{"exception_class_path": HOSTILE, "traceback": HOSTILE, "worker_id": HOSTILE}]
    job_id = add_job(
        state,
        task_path=f"shop.{without_nul}",
        queue=without_nul,
        payload=json.dumps({"args": [HOSTILE], "kwargs": {HOSTILE: HOSTILE}}),
        errors=json.dumps(errors),
        result=json.dumps(HOSTILE) if state == "succeeded" else None,
        tags=[HOSTILE],
    )
    client = staff(*ALL)

    for address in (url("jobs"), url("job", job_id=job_id), url("job-copy", job_id=job_id)):
        response = client.get(address)

        assert response.status_code == 200
        assert [attrs for tag, attrs in tags_of(response) if tag == "script"] == [
            {"src": "/static/aftercommit/dashboard.js", "defer": None}
        ]
        body = response.content.decode()
        assert "\x1b" not in body
        assert "\x00" not in body


def test_a_page_has_nothing_inline_and_its_policy_says_so(staff, failed_job):
    client = staff(*ALL)

    for address in pages(failed_job)[1:]:
        response = client.get(address)

        assert response["Content-Security-Policy"] == (
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
            "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
        )
        for tag, attrs in tags_of(response):
            assert tag != "style"
            assert not [name for name in attrs if name == "style" or name.startswith("on")]


def test_static_files_on_another_host_are_allowed(staff, settings):
    settings.STATIC_URL = "https://cdn.example.org/static/"

    policy = staff("view").get(url("jobs"))["Content-Security-Policy"]

    assert "style-src https://cdn.example.org; script-src https://cdn.example.org;" in policy


def test_a_secret_is_not_shown_and_cannot_be_copied(staff):
    payload = {"args": ["[secret]"], "kwargs": {}, "secrets": "1.key.ciphertext"}
    job_id = add_job(payload=json.dumps(payload))
    client = staff(*ALL)

    for address in (url("jobs"), url("job", job_id=job_id)):
        assert "ciphertext" not in client.get(address).content.decode()
    given = {"args": '["[secret]"]', "kwargs": "{}", "queue": "default", "priority": 0}
    answer = client.post(url("job-copy", job_id=job_id), given)

    assert "Some of its arguments are secrets" in text_of(answer)
    assert Job.objects.count() == 1


def test_a_message_is_not_decoded(staff):
    job_id = add_job(
        task_path=PUBLISH,
        queue="relay.rq",
        payload=json.dumps({"args": [], "kwargs": {"content": {"data": "gASVDAAAAAAAAACMBw=="}}}),
        meta={"name": "shop.tasks.charge", "message_id": "m1"},
    )
    client = staff(*ALL)

    seen = text_of(client.get(url("job", job_id=job_id)))

    assert "shop.tasks.charge" in seen
    assert "Not JSON, so it is not shown." in seen
    for address in (url("jobs"), url("job", job_id=job_id)):
        assert "gASV" not in client.get(address).content.decode()
    assert client.get(url("job-copy", job_id=job_id)).status_code == 404


# The filter.


def shown(response):
    return {str(row.id) for row in response.context["rows"]}


def test_each_filter_narrows_the_list(staff):
    wanted = {
        "state": (add_job("failed"), "failed"),
        "queue": (add_job(queue="mail"), "mail"),
        "tag": (add_job(tags=["eu"]), "eu"),
        "task": (add_job(task_path="tests.app.tasks.greet"), "tests.app.tasks.greet"),
        "arguments": (add_job(payload='{"args":["ä7\\u00fc"],"kwargs":{}}'), "ü"),
        "error": (add_job(errors=json.dumps(ERROR)), "expired"),
    }
    client = staff("view", "arguments")

    for name, (job_id, value) in wanted.items():
        assert shown(client.get(url("jobs"), {name: value})) == {str(job_id)}, name
    everything = {str(job_id) for job_id, _value in wanted.values()}
    assert shown(client.get(url("jobs"), {"since": "1h"})) == everything
    assert shown(client.get(url("jobs"), {"end": "2001-01-01T00:00"})) == set()
    assert shown(client.get(url("jobs"), {"begin": "2001-01-01T00:00"})) == everything


@pytest.mark.parametrize(
    "asked",
    [
        {"end": "yesterday"},
        {"begin": "2001-99-99T00:00"},
        {"queue": "\x00"},
        {"tag": "\x00"},
        {"state": "gone"},
        {"order": "by magic"},
        {"behind": "nowhere"},
        {"arguments": "\x00'\"\\%"},
        {"error": "\x00'\"\\%"},
        {"task": "\x00" + "x" * 10_000},
    ],
)
def test_a_filter_that_cannot_be_is_told_and_breaks_nothing(staff, failed_job, asked):
    assert staff("view", "arguments").get(url("jobs"), asked).status_code == 200


@pytest.mark.parametrize(
    "asked",
    [
        {"begin": "0001-01-01T00:00"},
        {"begin": "0001-01-01T00:00+14:00"},
        {"end": "9999-12-31T23:59"},
        {"end": "9999-12-31T23:59-10:00"},
    ],
)
def test_a_moment_at_the_ends_of_the_calendar_is_told(staff, failed_job, asked):
    answer = staff("view").get(url("jobs"), asked)

    assert answer.status_code == 200
    assert "a moment such as 2026-11-30T17:30" in text_of(answer)


def test_a_second_database_has_pages_of_its_own(staff):
    here, there = add_job(), add_job(using="other")
    client = staff(*ALL)

    assert shown(client.get(url("jobs"))) == {str(here)}
    assert shown(client.get(url("jobs", using="other"))) == {str(there)}
    assert client.get(url("job", job_id=there)).status_code == 404
    client.post(url("job-act", using="other", job_id=there), {"action": "cancel"})

    assert Job.objects.using("other").get().state == "cancelled"
    assert AuditRecord.objects.using("other").get().subject == str(there)


# Many jobs.


def test_chosen_jobs_are_changed_if_they_still_meet_the_filter(staff):
    failed, other = add_job("failed"), add_job("cancelled")
    client = staff("view", "retry")

    answer = client.post(
        url("act"),
        {"action": "retry", "id": [failed, other], "filter": "state=failed"},
        follow=True,
    )

    assert Job.objects.get(pk=failed).state == "ready"
    assert Job.objects.get(pk=other).state == "cancelled"
    assert "1 of 2 jobs are changed." in text_of(answer)
    record = AuditRecord.objects.get()
    assert (record.found, record.changed) == (2, 1)


def test_all_jobs_of_a_filter_are_changed_step_by_step_after_a_question(staff, monkeypatch):
    monkeypatch.setattr("aftercommit.dashboard.bulk.STEP", 0.0)  # one look at the clock: no batch
    failed = [add_job("failed") for _ in range(3)]
    other = add_job("failed", queue="mail")
    client = staff("view", "retry")
    asked = {"action": "retry", "scope": "filter", "filter": "state=failed&queue=default"}

    question = client.post(url("act"), asked)
    assert "3 jobs meet this filter now." in text_of(question)
    assert not AuditRecord.objects.exists()
    progress = client.post(url("act"), {**asked, "sure": "yes"}, follow=True)
    assert "0 jobs changed, of 0 jobs found so far. There may be more." in text_of(progress)
    late = add_job("failed")  # enqueued since: nobody has seen it
    record = AuditRecord.objects.get()
    client.post(url("bulk", number=record.pk))
    assert Job.objects.filter(state="failed").count() == 5
    monkeypatch.setattr("aftercommit.dashboard.bulk.STEP", 60.0)
    done = client.post(url("bulk", number=record.pk), follow=True)

    assert "3 jobs changed, of 3 jobs found so far. That was all." in text_of(done)
    assert {job.pk for job in Job.objects.filter(state="ready")} == set(failed)
    assert {job.pk for job in Job.objects.filter(state="failed")} == {other, late}
    record.refresh_from_db()
    assert (record.found, record.changed, record.details["is_over"]) == (3, 3, True)


def test_a_step_ends_between_two_batches_and_the_next_one_goes_on_there(staff, monkeypatch):
    monkeypatch.setattr("aftercommit.store.selecting.ONE_BATCH", 2)
    moments = iter([0.0, 0.0, 5.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    monkeypatch.setattr("aftercommit.dashboard.bulk.time.monotonic", lambda: next(moments))
    for _ in range(3):
        add_job("failed")
    client = staff("view", "retry")
    asked = {"action": "retry", "scope": "filter", "filter": "state=failed", "sure": "yes"}
    client.post(url("act"), asked)
    record = AuditRecord.objects.get()

    client.post(url("bulk", number=record.pk))
    assert Job.objects.filter(state="ready").count() == 2
    client.post(url("bulk", number=record.pk))

    assert Job.objects.filter(state="ready").count() == 3
    record.refresh_from_db()
    assert (record.found, record.changed) == (3, 3)


def test_only_who_began_goes_on_and_only_with_the_permission(staff):
    add_job("failed")
    client = staff("view", "retry")
    asked = {"action": "retry", "scope": "filter", "filter": "state=failed", "sure": "yes"}
    client.post(url("act"), asked)
    address = url("bulk", number=AuditRecord.objects.get().pk)
    User.objects.get().user_permissions.remove(
        User.objects.get().user_permissions.get(codename="retry_job")
    )

    assert client.post(address).status_code == 403

    client.force_login(User.objects.create_superuser("bob"))
    assert client.post(address).status_code == 403
    assert Job.objects.get().state == "failed"


def begun(client, **given):
    """Begin to retry all failed jobs; return the page that follows, and its address."""
    asked = {"action": "retry", "scope": "filter", "filter": "state=failed", "sure": "yes"}
    page = client.post(url("act"), {**asked, **given}, follow=True)
    return page, url("bulk", number=AuditRecord.objects.get().pk)


def goes_on_by_itself(page):
    return any(tag == "form" and "data-go-on" in given for tag, given in tags_of(page))


def test_the_next_step_follows_by_itself_only_behind_a_step(staff, monkeypatch):
    monkeypatch.setattr("aftercommit.dashboard.bulk.STEP", 0.0)
    add_job("failed")
    client = staff("view", "retry")

    page, address = begun(client)
    assert goes_on_by_itself(page)
    shown = page.redirect_chain[-1][0]
    for again in (shown, address, f"{address}?goes-on"):
        assert not goes_on_by_itself(client.get(again))
        assert "Go on" in text_of(client.get(again))
    assert goes_on_by_itself(client.post(address, follow=True))
    assert not goes_on_by_itself(client.get(address))


def test_an_action_that_is_stopped_is_never_gone_on_with(staff):
    add_job("failed")
    client = staff("view", "retry")
    _page, address = begun(client)

    stopped = client.post(address, {"stop": "yes"}, follow=True)
    later = client.post(address, follow=True)

    for page in (stopped, later):
        assert "It was stopped: the rest is left as it is." in text_of(page)
        assert not goes_on_by_itself(page)
    assert Job.objects.get().state == "failed"
    details = AuditRecord.objects.get().details
    assert (details["is_over"], details["stopped"]) == (True, True)


def test_a_stop_during_a_step_is_not_forgotten(staff, monkeypatch):
    add_job("failed")
    client = staff("view", "retry")
    _page, address = begun(client)

    def step_and_stop(*_given):
        client.post(address, {"stop": "yes"})  # in another tab
        return False

    monkeypatch.setattr("aftercommit.dashboard.bulk._run", step_and_stop)
    client.post(address)

    details = AuditRecord.objects.get().details
    assert (details["is_over"], details["stopped"]) == (True, True)


def test_an_action_without_any_job_is_over_at_once(staff):
    client = staff("view", "retry")
    page, address = begun(client)

    assert "That was all." in text_of(page)
    assert "That was all." in text_of(client.post(address, follow=True))


# A copy.


def test_a_copy_has_the_arguments_that_the_form_says(staff):
    job_id = add_job("succeeded", payload='{"args":[1,2],"kwargs":{}}')
    client = staff("view", "arguments", "enqueue")
    address = url("job-copy", job_id=job_id)

    form = client.get(address).context["form"]
    assert (form["args"].value(), form["queue"].value()) == ("[1, 2]", "default")
    given = {"args": "[1, 3]", "kwargs": "{}", "queue": "mail", "priority": 7, "minutes": 5}
    client.post(address, given)

    copy = Job.objects.exclude(pk=job_id).get()
    assert (copy.args, copy.queue, copy.priority, copy.state) == ([1, 3], "mail", 7, "ready")
    assert copy.run_after > copy.enqueued_at
    record = AuditRecord.objects.get()
    assert (record.action, record.subject) == ("enqueue", str(copy.pk))


@pytest.mark.parametrize(
    "wrong",
    [
        {"args": "{"},
        {"args": "{}"},
        {"kwargs": "[]"},
        {"args": "[1, 2, 3, 4]"},
        {"queue": " "},
        {"priority": 1000},
        {"minutes": -1},
    ],
)
def test_a_copy_that_cannot_be_enqueued_is_told(staff, wrong):
    job_id = add_job("succeeded", payload='{"args":[1,2],"kwargs":{}}')
    client = staff("view", "arguments", "enqueue")
    given = {"args": "[1, 2]", "kwargs": "{}", "queue": "default", "priority": 0, **wrong}

    answer = client.post(url("job-copy", job_id=job_id), given)

    assert answer.status_code == 200
    assert 'class="errorlist' in answer.content.decode()
    assert Job.objects.count() == 1
    assert not AuditRecord.objects.exists()


@pytest.mark.parametrize("task", [RUN_FUNCTION, RUN_WITH_BACKOFF, MAIL])
def test_a_call_of_a_task_of_this_package_offers_no_copy(staff, task):
    arguments = ["tests.app.tasks.add", [1, 2], {}, "default"]
    payload = json.dumps({"args": arguments, "kwargs": {}})
    job_id = add_job("failed", task_path=task, payload=payload)
    client = staff(*ALL)
    given = {"args": json.dumps(arguments), "kwargs": "{}", "queue": "default", "priority": 0}

    assert client.get(url("job", job_id=job_id)).context["copy_url"] == ""
    assert client.get(url("job-copy", job_id=job_id)).status_code == 404
    assert client.post(url("job-copy", job_id=job_id), given).status_code == 404
    assert Job.objects.count() == 1


def test_to_enqueue_a_copy_has_its_permission(staff, failed_job):
    client = staff(*(one for one in ALL if one != "enqueue"))

    assert client.get(url("job-copy", job_id=failed_job)).status_code == 403
    given = {"args": "[1, 2]", "kwargs": "{}", "queue": "default", "priority": 0}
    assert client.post(url("job-copy", job_id=failed_job), given).status_code == 403
    assert Job.objects.count() == 1


# Addresses.


def test_nobody_is_sent_to_another_site(staff, failed_job):
    client = staff("view", "retry")

    answer = client.post(
        url("act"), {"action": "retry", "id": failed_job, "next": "//evil.example/"}
    )

    assert answer["Location"].startswith(url("jobs"))


def test_the_search_finds_a_job_by_its_id_and_else_a_task(staff, failed_job):
    client = staff("view")

    found = client.get(url("find"), {"q": f" {failed_job} "})
    assert found["Location"] == url("job", job_id=failed_job)
    found = client.get(url("find"), {"q": "tasks.add"})
    assert found["Location"] == f"{url('jobs')}?task=tasks.add"
    assert shown(client.get(found["Location"])) == {str(failed_job)}


# What it costs.


@pytest.mark.parametrize(("page", "most"), [("jobs", 20), ("job", 20)])
def test_a_page_asks_few_statements_however_many_jobs_there_are(staff, page, most):
    for _ in range(30):
        job_id = add_job("failed", errors=json.dumps(ERROR))
    client = staff(*ALL)
    address = url("jobs") if page == "jobs" else url("job", job_id=job_id)
    client.get(address)

    with CaptureQueriesContext(connection) as queries:
        client.get(address)

    ours = [one["sql"] for one in queries if "aftercommit" in one["sql"]]
    assert len(ours) <= most, "\n".join(ours)
