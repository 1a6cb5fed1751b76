"""The pages in Django's admin: who sees them, what they show, what they change."""

import json
import re
from datetime import timedelta
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from aftercommit._compat import task_finished
from aftercommit.ids import new_job_id
from aftercommit.models import Job, Saved
from aftercommit.store import store_for
from aftercommit.values import Failed, NewJob, RunError
from aftercommit.windows.admin import acting, bounded
from aftercommit.windows.admin.content import LONGEST_TEXT
from tests.django.conftest import claim_only_job, ours

pytestmark = pytest.mark.django_db(databases=["default", "other"])

LIST = reverse("admin:aftercommit_job_changelist")
WHO = {
    "viewer": ["view_job"],
    "reader": ["view_job", "view_job_arguments"],
    "retrier": ["view_job", "retry_job"],
    "canceller": ["view_job", "cancel_job"],
    "editor": ["view_job", "add_job", "change_job", "delete_job"],
    "adder": ["add_job"],
    "changer": ["change_job", "retry_job", "cancel_job"],
    "only a retrier": ["retry_job", "cancel_job"],
    "staff": [],
}
SEE = {"viewer", "reader", "retrier", "canceller", "editor", "superuser"}
RETRY = {"retrier", "superuser"}
CANCEL = {"canceller", "superuser"}
EVERYBODY = [*WHO, "superuser", "user", "anonymous"]
HOSTILE = "<script>alert('x')</script>{{ 7 }}%s\x1b[31m"


@pytest.fixture
def as_(client):
    """Return a function that logs somebody in and returns the client."""

    def log_in(who):
        if who == "anonymous":
            return client
        user = User.objects.create_user(
            who, is_staff=who != "user", is_superuser=who == "superuser"
        )
        user.user_permissions.set(Permission.objects.filter(codename__in=WHO.get(who, ())))
        client.force_login(user)
        return client

    return log_in


def page_of(job_id):
    return reverse("admin:aftercommit_job_change", args=[job_id])


def ready_job(using="default", **given):
    given = {"task_path": "tests.app.tasks.add", "payload": '{"args":[1,2],"kwargs":{}}', **given}
    (job_id,) = store_for(using).insert([NewJob(**given)])
    return job_id


def cancelled_job(using="default", **given):
    job_id = ready_job(using, **given)
    store_for(using).cancel([job_id])
    return job_id


def failed_job(traceback):
    job_id = ready_job()
    claim = claim_only_job()
    error = RunError(exception_class_path="builtins.ValueError", traceback=traceback)
    assert store_for("default").finish(claim, Failed(error))
    return job_id


def states(using="default"):
    return dict(Job.objects.using(using).values_list("id", "state"))


def act(client, action, *job_ids, address=LIST, **more):
    data = {"action": action, "_selected_action": [str(one) for one in job_ids], **more}
    return client.post(address, data, follow=True)


# ---- who ----------------------------------------------------------------------------


@pytest.mark.parametrize(("who", "reads"), [("viewer", False), ("reader", True)])
def test_arguments_results_and_kept_values_have_a_permission_of_their_own(who, reads, as_):
    job_id = ready_job(payload='{"args":["an argument"],"kwargs":{}}')
    Job.objects.filter(pk=job_id).update(result='"a result"')
    Saved.objects.create(
        job_id=job_id,
        kind=Saved.Kind.CHECKPOINT,
        token=1,
        value='"a checkpoint"',
        saved_at=timezone.now(),
    )
    client = as_(who)

    page, listed = client.get(page_of(job_id)).text, client.get(LIST).text

    private = ["an argument", "a result", "a checkpoint"]
    assert [one in page for one in private] == [reads] * len(private)
    assert ("an argument" in listed) is reads
    assert ("needs a permission of its own" in page) is not reads
    assert not any(one in listed for one in private[1:])


@pytest.mark.parametrize("who", EVERYBODY)
def test_who_may_look(who, as_):
    job_id = ready_job()
    client = as_(who)
    answers = [client.get(address).status_code for address in (LIST, page_of(job_id))]

    allowed, refused = {200}, {302} if who in {"anonymous", "user"} else {403}
    assert set(answers) == (allowed if who in SEE else refused)


@pytest.mark.parametrize("who", EVERYBODY)
@pytest.mark.parametrize(
    ("action", "make", "after", "allowed"),
    [
        ("retry_selected", cancelled_job, "ready", RETRY),
        ("cancel_selected", ready_job, "cancelled", CANCEL),
        ("delete_selected", cancelled_job, "gone", set()),
    ],
)
def test_who_may_change_what(who, action, make, after, allowed, as_):
    job_id = make()
    before = states()[job_id]
    act(as_(who), action, job_id, post="yes")

    assert states().get(job_id, "gone") == (after if who in allowed else before)
    assert LogEntry.objects.count() == (1 if who in allowed else 0)


@pytest.mark.parametrize("who", EVERYBODY)
def test_nobody_adds_edits_or_deletes_a_job(who, as_):
    job_id = ready_job()
    client = as_(who)
    add_page = reverse("admin:aftercommit_job_add")
    delete_page = reverse("admin:aftercommit_job_delete", args=[job_id])
    for address in (add_page, page_of(job_id), delete_page):
        answer = client.post(address, {"state": "failed", "post": "yes"})
        assert answer.status_code in {302, 403}

    assert states() == {job_id: "ready"}


def test_the_end_of_a_cancelled_job_is_told_once(as_, django_capture_on_commit_callbacks):
    waiting, running = ready_job(), ready_job(queue="running")
    claim_only_job(queue="running")
    told = []

    def hear(task_result, **_):
        told.append((task_result.id, task_result.state, task_result.duration))

    task_finished.connect(hear)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            act(as_("superuser"), "cancel_selected", waiting, running)
            assert told == []
    finally:
        task_finished.disconnect(hear)

    assert told == [(str(waiting), "cancelled", None)]


def test_a_get_changes_nothing(as_):
    ready, ended = ready_job(), cancelled_job()
    client = as_("superuser")
    for action in ("retry_selected", "cancel_selected"):
        for one in (ready, ended):
            client.get(LIST, {"action": action, "_selected_action": str(one)})

    assert states() == {ready: "ready", ended: "cancelled"}


def test_a_post_without_the_token_changes_nothing(as_):
    job_id = ready_job()
    client = as_("superuser")
    client.handler.enforce_csrf_checks = True

    assert act(client, "cancel_selected", job_id).status_code == 403
    assert states() == {job_id: "ready"}


# ---- what it does -------------------------------------------------------------------


def test_a_job_that_is_retried_runs_again(as_):
    failed = failed_job("ValueError: no")
    cancelled, ready = cancelled_job(), ready_job()
    answer = act(as_("superuser"), "retry_selected", failed, cancelled, ready)

    assert set(states().values()) == {"ready"}
    assert "2 of 3 jobs will run again" in answer.text
    logged = LogEntry.objects.get()
    assert (logged.object_id, logged.object_repr) == (None, "2 jobs")
    assert logged.change_message.startswith("Retried. ")
    assert {str(failed), str(cancelled)} < set(re.findall(r"[-\w]+", logged.change_message))


def test_a_job_whose_key_is_taken_stays_as_it_is_and_the_page_says_so(as_):
    first = cancelled_job(unique_key="k")
    ready_job(unique_key="k")
    answer = act(as_("superuser"), "retry_selected", first)

    assert states()[first] == "cancelled"
    assert "0 of 1 jobs will run again" in answer.text
    assert "1 of them: another job has its unique key." in answer.text


def test_a_running_job_is_asked_to_stop(as_):
    running = ready_job()
    claim_only_job()
    ready, ended = ready_job(), cancelled_job()
    answer = act(as_("superuser"), "cancel_selected", running, ready, ended)

    assert states() == {running: "running", ready: "cancelled", ended: "cancelled"}
    assert Job.objects.get(pk=running).cancel_requested
    assert "1 of 3 jobs are cancelled, 1 more are asked to stop" in answer.text


def test_all_that_match_are_changed_not_only_a_page_of_them(as_):
    store_for("default").insert(
        [NewJob(task_path="t.t", payload='{"args":[],"kwargs":{}}') for _ in range(1200)]
    )
    other = ready_job(queue="slow")
    one = next(key for key in states() if key != other)
    answer = act(
        as_("superuser"),
        "cancel_selected",
        one,
        select_across="1",
        address=f"{LIST}?queue=default",
    )

    assert "1200 of 1200 jobs are cancelled" in answer.text
    assert [key for key, state in states().items() if state == "ready"] == [other]
    logged = LogEntry.objects.get()
    assert (logged.object_repr, logged.user.username) == ("1200 jobs", "superuser")
    assert logged.change_message.startswith("Cancelled. (queue=default) ")


# ---- several databases --------------------------------------------------------------


def test_each_database_has_its_jobs(as_):
    here, there = ready_job(), cancelled_job("other")
    client = as_("superuser")

    assert found(client.get(LIST)) == {here}
    assert found(client.get(LIST, {"database": "other"})) == {there}
    assert found(client.get(LIST, {"database": "unknown"})) == {here}
    assert chosen_database(client.get(LIST)) == {"default": True, "other": False}
    there_page = client.get(LIST, {"database": "other", "state": "cancelled"})
    assert chosen_database(there_page) == {"default": False, "other": True}
    assert str(there) in client.get(page_of(there)).text
    act(client, "retry_selected", there, address=f"{LIST}?database=other")
    assert states("other") == {there: "ready"}


def chosen_database(answer):
    changelist = answer.context["cl"]
    offered = changelist.filter_specs[0].choices(changelist)
    return {one["display"]: one["selected"] for one in offered}


def test_the_only_database_with_jobs_is_the_one_that_is_shown(as_, backends):
    backends(default=ours(using="other"))
    there = ready_job("other")

    answer = as_("superuser").get(LIST)
    assert found(answer) == {there}
    assert "By database" not in answer.text


# ---- what it shows ------------------------------------------------------------------


def found(answer):
    return {job.pk for job in answer.context["cl"].result_list}


def test_jobs_are_found_by_id_and_path_state_and_queue(as_):
    one, two = ready_job(), cancelled_job(task_path="shop.tasks.pay", queue="slow")
    client = as_("viewer")

    for query, jobs in [
        ({"q": str(one)}, {one}),
        ({"q": "PAY"}, {two}),
        ({"q": str(uuid4())}, set()),
        ({"state": "cancelled"}, {two}),
        ({"queue": "default"}, {one}),
    ]:
        assert found(client.get(LIST, query)) == jobs


def test_tags_are_shown_with_links_to_the_jobs_that_have_them(as_):
    tagged, other = ready_job(tags='["a b", "<i>"]'), ready_job(tags='["a"]')
    there = ready_job("other", tags='["a b"]')
    client = as_("viewer")

    for page in (client.get(LIST), client.get(page_of(tagged))):
        assert f'<a href="{LIST}?database=default&amp;tag=a+b">a b</a>' in page.text
        assert "&lt;i&gt;" in page.text
    assert found(client.get(LIST, {"tag": "a b"})) == {tagged}
    assert found(client.get(LIST, {"tag": "a b", "database": "other"})) == {there}
    assert found(client.get(LIST, {"tag": "a"})) == {other}
    assert "By tag" not in client.get(LIST).text


@pytest.mark.parametrize(
    "name", ["q", "queue", "tag", "database", "state", "o", "p", "_to_field"][:]
)
@pytest.mark.parametrize("value", [HOSTILE, "' OR 1=1 --", "\0", "", "😀" * 500])
def test_nothing_in_the_address_breaks_the_page(name, value, as_):
    ready_job()
    answer = as_("viewer").get(LIST, {name: value}, follow=True)

    assert answer.status_code in {200, 400}
    assert HOSTILE not in answer.text


@pytest.mark.parametrize("job_id", ["nonsense", HOSTILE, uuid4(), "_5F"])
def test_a_job_that_does_not_exist_has_no_page(job_id, as_):
    answer = as_("viewer").get(page_of(job_id), follow=True)

    assert answer.redirect_chain[-1][0] == reverse("admin:index")


def test_what_a_job_holds_is_shown_and_escaped(as_):
    claimed = failed_job(f"Traceback: {HOSTILE}\0")
    payload = json.dumps({"args": [HOSTILE, "\0 \ud800"], "kwargs": {"word": "grün"}})
    given = ready_job(payload=payload, task_path=HOSTILE, queue=HOSTILE, meta={"name": HOSTILE})
    client = as_("reader")

    for job_id in (claimed, given):
        text = client.get(page_of(job_id)).text
        assert HOSTILE not in text
        assert "&lt;script&gt;" in text
    assert "grün" in text
    listed = client.get(LIST).text
    assert HOSTILE not in listed
    assert "&lt;script&gt;" in listed


def test_a_job_in_a_queue_that_is_called_like_one_of_messages_is_a_job(as_):
    job_id = ready_job(queue="relay.mine", payload='{"args":["mine"],"kwargs":{}}')
    client = as_("reader")

    assert "tests.app.tasks.add" in client.get(LIST).text
    assert "mine" in client.get(page_of(job_id)).text


def test_long_arguments_are_cut(as_):
    job_id = ready_job(payload=json.dumps({"args": ["x" * 2 * LONGEST_TEXT], "kwargs": {}}))
    text = as_("reader").get(page_of(job_id)).text

    assert "x" * (LONGEST_TEXT // 2) in text
    assert "x" * LONGEST_TEXT not in text


def test_a_list_asks_as_much_for_many_jobs_as_for_one_and_for_nothing_large(as_):
    client = as_("viewer")
    ready_job()
    client.get(LIST)
    with CaptureQueriesContext(connection) as for_one:
        client.get(LIST)
    for _ in range(20):
        ready_job()
    with CaptureQueriesContext(connection) as for_many:
        client.get(LIST)

    assert len(for_many) == len(for_one)
    read = " ".join(one["sql"] for one in for_many)
    assert "task_path" in read
    table, quote = connection.ops.quote_name("aftercommit_job"), connection.ops.quote_name
    for large in ("payload", "result", "errors"):  # but for parts: LEFT(payload, 400)
        assert not re.search(rf"(?<![(]){table}\.{quote(large)}", read)


# ---- the whole filter ---------------------------------------------------------------


def many(number, **given):
    return store_for("default").insert(
        [
            NewJob(**{"task_path": "t.t", "payload": '{"args":[],"kwargs":{}}', **given})
            for _ in range(number)
        ]
    )


def act_on_all(client, action, query):
    one = Job.objects.order_by("id").first().pk
    return act(client, action, one, select_across="1", address=f"{LIST}?{query}")


def test_no_batch_of_an_action_is_larger_than_another(as_, monkeypatch):
    monkeypatch.setattr(acting, "ONE_BATCH", 4)
    many(10, queue="mail")
    client = as_("superuser")
    with CaptureQueriesContext(connection) as found:
        answer = act_on_all(client, "cancel_selected", "queue=mail")

    assert "10 of 10 jobs are cancelled" in answer.text
    written = [one["sql"] for one in found if one["sql"].startswith("UPDATE")]
    assert len([one for one in written if "'cancelled'" in one]) == 3
    assert LogEntry.objects.count() == 1


@pytest.mark.parametrize(
    ("query", "cancelled"),
    [("queue=mail", 2), ("tag=eu", 1), ("state=ready", 4), ("state=failed", 0), ("q=t.t", 4)],
)
def test_an_action_is_about_what_the_filters_say(query, cancelled, as_):
    many(1, queue="mail", tags='["eu"]')
    many(1, queue="mail")
    many(2)

    act_on_all(as_("superuser"), "cancel_selected", query)

    assert list(states().values()).count("cancelled") == cancelled


def test_a_job_that_starts_meanwhile_is_not_stopped_if_the_page_was_about_ready_ones(
    as_, monkeypatch
):
    (job_id,) = many(1)
    batches = acting._batches

    def slowly(queryset):
        for job_ids in batches(queryset):
            claim_only_job()
            yield job_ids

    monkeypatch.setattr(acting, "_batches", slowly)

    answer = act(as_("superuser"), "cancel_selected", job_id, address=f"{LIST}?state=ready")

    assert "0 of 1 jobs are cancelled, 0 more are asked" in answer.text
    assert not Job.objects.get(pk=job_id).cancel_requested


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        ({"blocked": 1, "waits_for": 1}, "waits for a limit"),
        ({"blocked": 3, "waits_for": 1}, "waits for its rate"),
        ({"blocked": 4, "waits_for": 1}, "waits for its turn"),
        ({"waits_for": 1}, "its task is paused"),
    ],
    ids=str,
)
def test_a_job_that_no_worker_may_claim_says_why(columns, shown, as_):
    job_id = ready_job()
    Job.objects.filter(pk=job_id).update(claimable=False, **columns)
    client = as_("viewer")

    assert f'<td class="field-listed_state">{shown}<' in client.get(LIST).text
    assert shown in client.get(page_of(job_id)).text


# ---- buttons of a page --------------------------------------------------------------


def act_url(job_id):
    return reverse("admin:aftercommit_job_act", args=[job_id])


def offered(client, job_id):
    return set(re.findall(r'name="action" value="(\w+)"', client.get(page_of(job_id)).text))


@pytest.mark.parametrize(
    ("make", "is_later", "buttons"),
    [
        (ready_job, False, {"cancel"}),
        (ready_job, True, {"cancel", "run_now"}),
        (cancelled_job, False, {"retry"}),
    ],
    ids=["due", "later", "cancelled"],
)
def test_a_page_offers_what_can_be_done_to_the_job(make, is_later, buttons, as_):
    job_id = make()
    if is_later:
        Job.objects.filter(pk=job_id).update(run_after=timezone.now() + timedelta(hours=1))

    assert offered(as_("superuser"), job_id) == buttons


def test_a_page_offers_a_viewer_nothing(as_):
    assert offered(as_("viewer"), ready_job()) == set()


@pytest.mark.parametrize(
    ("action", "make", "state"),
    [("retry", cancelled_job, "ready"), ("cancel", ready_job, "cancelled")],
)
def test_a_button_changes_the_job_with_a_line_of_history(action, make, state, as_):
    job_id = make()

    answer = as_("superuser").post(act_url(job_id), {"action": action}, follow=True)

    assert states() == {job_id: state}
    assert "Done: " in answer.text
    assert [one.object_id for one in LogEntry.objects.all()] == [str(job_id)]


def test_a_button_lets_a_job_run_now(as_):
    job_id = ready_job()
    Job.objects.update(run_after=timezone.now() + timedelta(hours=1))

    as_("superuser").post(act_url(job_id), {"action": "run_now"})

    assert Job.objects.get().run_after < timezone.now() + timedelta(minutes=30)


@pytest.mark.parametrize("who", ["anonymous", "user", "viewer"])
def test_a_button_needs_its_permission(who, as_):
    job_id = ready_job()

    assert as_(who).post(act_url(job_id), {"action": "cancel"}).status_code in (302, 403)

    assert states() == {job_id: "ready"}


def test_a_button_that_comes_too_late_changes_nothing_and_says_so(as_):
    job_id = cancelled_job()
    client = as_("superuser")

    answer = client.post(act_url(job_id), {"action": "cancel"}, follow=True)

    assert "Nothing was changed" in answer.text
    assert not LogEntry.objects.exists()
    assert client.post(act_url(job_id), {"action": "delete"}).status_code == 404
    assert client.post(act_url(new_job_id()), {"action": "cancel"}).status_code == 404
    assert client.get(act_url(job_id)).status_code == 405


# ---- a large table ------------------------------------------------------------------


def listed(client, query=""):
    return [one.pk for one in client.get(f"{LIST}?{query}").context["cl"].result_list]


def test_ready_jobs_are_due_for_later_or_retried(as_):
    due, later, again = ready_job(), ready_job(), ready_job()
    for job_id, attempts in ((later, 0), (again, 1)):
        at = timezone.now() + timedelta(hours=1)
        Job.objects.filter(pk=job_id).update(run_after=at, attempts=attempts)
    client = as_("viewer")

    found = {kind: listed(client, f"state={kind}") for kind in ("due", "later", "retrying")}

    assert found == {"due": [due], "later": [later], "retrying": [again]}
    assert listed(client, "state=ready") == [again, later, due]


def test_running_jobs_are_found_by_their_leases(as_):
    ready_job()
    job_id = claim_only_job().job_id
    ready_job()

    assert listed(as_("viewer"), "state=running") == [job_id]


def test_no_page_counts_more_than_so_many(as_, monkeypatch):
    monkeypatch.setattr(bounded, "MOST_COUNTED", 3)
    client = as_("viewer")
    many(5)

    answer = client.get(LIST)

    assert answer.context["cl"].result_count == 3
    assert "the first 3 are counted" in answer.text


@pytest.mark.parametrize(
    "query", ["q=t.t", "tag=eu", "queue=mail", "state=succeeded", "queue=mail&state=succeeded"]
)
def test_what_no_index_finds_is_looked_for_among_the_newest(query, as_, monkeypatch):
    monkeypatch.setattr(bounded, "MOST_SEARCHED", 3)
    many(6, queue="mail", tags='["eu"]')
    if "succeeded" in query:
        ended = {"finished_at": timezone.now(), "claimable": False}
        Job.objects.update(state="succeeded", **ended)
    client = as_("viewer")

    answer = client.get(f"{LIST}?{query}")

    assert len(answer.context["cl"].result_list) == 4
    assert "Only the newest" in answer.text


@pytest.mark.parametrize("query", ["", "state=ready", "state=later", "queue=mail&state=ready"])
def test_what_an_index_finds_is_found_however_old_it_is(query, as_, monkeypatch):
    monkeypatch.setattr(bounded, "MOST_SEARCHED", 3)
    made = many(6, queue="mail")
    if "later" in query:
        Job.objects.update(run_after=timezone.now() + timedelta(hours=1))
    client = as_("viewer")

    assert listed(client, query) == made[::-1]
    assert "Only the newest" not in client.get(f"{LIST}?{query}").text


def test_an_id_is_found_however_old_it_is(as_, monkeypatch):
    monkeypatch.setattr(bounded, "MOST_SEARCHED", 1)
    made = many(3)

    assert listed(as_("viewer"), f"q={made[0]}") == [made[0]]


def test_the_list_is_sorted_by_the_moment_of_enqueueing(as_):
    made = many(3)
    client = as_("viewer")
    column = list(client.get(LIST).context["cl"].list_display).index("enqueued")

    assert listed(client, f"o={column}") == made
    assert listed(client, f"o=-{column}") == made[::-1]


def test_a_list_shows_the_last_line_of_the_latest_error(as_):
    failed_job("Traceback:\n  File\nshop.CardDeclined: no money")

    assert "shop.CardDeclined: no money" in as_("viewer").get(LIST).text
