"""The page of queues and tasks in Django's admin: who pauses, resumes and limits them."""

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.urls import reverse

from aftercommit import queues
from aftercommit.models import Rule
from tests.app.tasks import add
from tests.django.conftest import ours
from tests.django.test_admin import HOSTILE
from tests.django.test_jobs import ready_job

pytestmark = pytest.mark.django_db(databases=["default", "other"])

PAGE = reverse("admin:aftercommit_rule_changelist")
WHO = {
    "viewer": ["view_rule"],
    "operator": ["pause_rule"],
    "of jobs": ["view_job", "retry_job", "cancel_job"],
    "editor": ["view_rule", "add_rule", "change_rule", "delete_rule"],
    "staff": [],
}
SEE, MAY = {"viewer", "operator", "editor", "superuser"}, {"operator", "superuser"}
EVERYBODY = [*WHO, "superuser", "user", "anonymous"]
PAUSE_MAIL = {"action": "pause", "kind": "queue", "name": "mail", "using": "default"}
ACTIONS = [
    PAUSE_MAIL,
    {**PAUSE_MAIL, "action": "resume", "name": "slow"},
    {**PAUSE_MAIL, "action": "limit", "limit": "3"},
    {**PAUSE_MAIL, "action": "unlimit", "name": "narrow"},
    {**PAUSE_MAIL, "action": "rate", "rate": "60/m"},
    {**PAUSE_MAIL, "action": "unrate", "name": "seldom"},
]


@pytest.fixture
def as_(client):
    """Return a function that logs somebody in and returns the client."""

    def log_in(who):
        if who == "anonymous":
            return client
        user = User.objects.create_user(
            who, is_staff=who != "user", is_superuser=who == "superuser"
        )
        wanted = Permission.objects.filter(codename__in=WHO.get(who, ()))
        user.user_permissions.set(wanted)
        client.force_login(user)
        return client

    return log_in


@pytest.fixture(autouse=True)
def some_rules():
    """Let one queue be paused, one have a limit, and one a rate."""
    queues.pause("slow", using="default")
    queues.limit("narrow", 2, using="default")
    queues.rate("seldom", "1/h", using="default")


def rules(using="default"):
    found = Rule.objects.using(using).order_by("name")
    return {one.name: (one.paused_since is not None, one.limit, one.rate) for one in found}


BEFORE = {
    "narrow": (False, 2, None),
    "seldom": (False, None, "1/h 1"),
    "slow": (True, None, None),
}


@pytest.mark.parametrize("who", EVERYBODY)
def test_who_may_look(who, as_):
    answer = as_(who).get(PAGE)

    refused = 302 if who in {"anonymous", "user"} else 403
    assert answer.status_code == (200 if who in SEE else refused)
    assert ('name="action"' in answer.text) == (who in MAY)


@pytest.mark.parametrize("who", EVERYBODY)
@pytest.mark.parametrize("data", ACTIONS, ids=lambda one: one["action"])
def test_who_may_change_what(who, data, as_):
    answer = as_(who).post(PAGE, data)

    assert (rules() != BEFORE) == (who in MAY)
    assert LogEntry.objects.count() == (1 if who in MAY else 0)
    assert answer.status_code == (302 if who in MAY | {"anonymous", "user"} else 403)


@pytest.mark.parametrize("data", ACTIONS, ids=lambda one: one["action"])
def test_a_get_changes_nothing(data, as_):
    as_("superuser").get(PAGE, data)

    assert rules() == BEFORE


def test_a_post_without_the_token_changes_nothing(as_):
    client = as_("superuser")
    client.handler.enforce_csrf_checks = True

    assert client.post(PAGE, PAUSE_MAIL).status_code == 403
    assert rules() == BEFORE


@pytest.mark.parametrize("who", EVERYBODY)
def test_no_rule_is_added_edited_or_deleted_by_hand(who, as_):
    client, pk = as_(who), Rule.objects.first().pk
    for address in (
        reverse("admin:aftercommit_rule_add"),
        reverse("admin:aftercommit_rule_change", args=[pk]),
        reverse("admin:aftercommit_rule_delete", args=[pk]),
    ):
        assert client.post(address, {"name": "x", "post": "yes"}).status_code in {302, 403}

    assert rules() == BEFORE


def test_a_queue_is_paused_limited_and_let_go_and_the_page_and_the_history_say_who(as_):
    client = as_("operator")
    answer = client.post(PAGE, {**PAUSE_MAIL, "why": "503"}, follow=True)
    assert "The queue mail is paused in the database default." in answer.text
    assert " by operator: 503" in answer.text
    assert rules()["mail"] == (True, None, None)

    answer = client.post(PAGE, {**PAUSE_MAIL, "action": "limit", "limit": "7"}, follow=True)
    assert "7 jobs at once, set at run time" in answer.text
    client.post(PAGE, {**PAUSE_MAIL, "action": "resume"})
    client.post(PAGE, {**PAUSE_MAIL, "action": "unlimit"})
    given = {**PAUSE_MAIL, "action": "rate", "rate": "60/m", "burst": "9"}
    answer = client.post(PAGE, given, follow=True)
    assert "60/m started, 9 at once, set at run time" in answer.text
    client.post(PAGE, {**PAUSE_MAIL, "action": "unrate"})

    assert rules() == BEFORE
    logged = list(LogEntry.objects.order_by("id").values_list("object_id", flat=True))
    assert logged == ["queue mail"] * 6
    answer = client.post(PAGE, {**PAUSE_MAIL, "action": "resume"}, follow=True)
    assert "Nothing has changed" in answer.text


def test_a_task_and_every_database(as_):
    data = {"action": "pause", "kind": "task", "name": add.module_path, "using": ""}
    answer = as_("operator").post(PAGE, data, follow=True)

    assert rules("other") == {add.module_path: (True, None, None)}
    assert answer.text.count(add.module_path) > 2
    assert [(one.using, one.kind) for one in queues.paused() if one.name != "slow"] == [
        ("default", "task"),
        ("other", "task"),
    ]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"kind": "task", "name": "no.such.task"}, "no task"),
        ({"kind": "broker", "name": "celery"}, "no relay to"),
        ({"name": ""}, "This field is required."),
        ({"name": "x" * 101}, "A queue cannot be called"),
        ({"action": "limit"}, "Say how many jobs may run at once."),
        ({"action": "limit", "limit": "0"}, "greater than or equal to 1"),
        ({"action": "limit", "limit": "many"}, "Enter a whole number."),
        ({"action": "rate"}, "Say how many jobs may start"),
        ({"action": "rate", "rate": "often"}, "expected how many may start"),
        ({"action": "rate", "rate": "x" * 41}, "at most 40 characters"),
        ({"action": "delete"}, "Select a valid choice."),
        ({"kind": "job"}, "Select a valid choice."),
        ({"using": "replica"}, "Select a valid choice."),
        ({"why": "x" * 256}, "at most 255 characters"),
        ({"name": HOSTILE, "kind": "task"}, "&lt;script&gt;"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_said_and_nothing_is_changed(data, said, as_):
    answer = as_("superuser").post(PAGE, {**PAUSE_MAIL, **data})

    assert answer.status_code == 200
    assert said in answer.text
    assert HOSTILE not in answer.text
    assert rules() == BEFORE


def test_a_queue_that_no_backend_has_is_refused(as_, backends):
    backends(default=ours(queues=["default", "mail"]))

    answer = as_("superuser").post(PAGE, {**PAUSE_MAIL, "name": "mial"})

    assert "no queue" in answer.text
    assert "mial" not in rules()


def test_queues_with_jobs_are_listed_and_what_they_are_called_is_escaped(as_):
    ready_job(queue=HOSTILE)

    text = as_("viewer").get(PAGE).text

    assert "&lt;script&gt;" in text
    assert HOSTILE not in text
    assert "slow" in text
    assert "2 jobs at once" in text
