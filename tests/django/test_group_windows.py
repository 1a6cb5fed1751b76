"""Groups in Django's admin and in ``aftercommit groups``."""

import json
import re
from io import StringIO

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.urls import reverse

from aftercommit import group, groups
from aftercommit.models import Job
from aftercommit.store import store_for
from aftercommit.values import Failed, Succeeded
from tests.app.tasks import add
from tests.store.given import ERROR, claim_all

pytestmark = pytest.mark.django_db(databases=["default", "other"])

PAGE = reverse("admin:aftercommit_group_changelist")


@pytest.fixture
def made():
    """Return a group of which two jobs have ended."""
    found = group([add.bind(1, one) for one in range(4)], name="<b>import").enqueue()
    store = store_for("default")
    claims = claim_all(store, limit=2)
    store.finish_many(list(zip(claims, [Succeeded("1"), Failed(ERROR)], strict=True)))
    return found


@pytest.fixture
def as_(client):
    """Return a function that logs somebody in."""

    def log_in(*permissions):
        user = User.objects.create_user("ann", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client.force_login(user)
        return client

    return log_in


def test_the_page_shows_how_far_groups_are(made, as_):
    text = as_("view_group").get(PAGE).content.decode()

    assert "&lt;b&gt;import" in text
    assert "2 of 4 (50 %)" in text
    assert "goes on" in text


def test_a_group_has_a_page(made, as_):
    address = reverse("admin:aftercommit_group_change", args=[made.id])

    text = as_("view_group").get(address).content.decode()

    assert "2 of 4 (50 %)" in text
    assert 'name="name"' not in text  # nothing can be written


def test_a_page_of_no_group_is_none(as_):
    client = as_("view_group")

    assert client.get(reverse("admin:aftercommit_group_change", args=["x"])).status_code == 302


@pytest.mark.parametrize("permissions", [(), ("view_job", "cancel_job")])
def test_without_a_permission_there_is_no_page(permissions, made, as_):
    assert as_(*permissions).get(PAGE).status_code == 403


def cancel(client, made):
    form = {"action": "cancel_selected", "_selected_action": [made.id]}
    return client.post(PAGE, form, follow=True)


def test_groups_are_cancelled_by_who_may(made, as_):
    answer = cancel(as_("cancel_group"), made)

    assert "2 jobs are cancelled, 0 more are asked to stop." in answer.content.decode()
    assert groups.get(made.id).is_cancelled
    assert LogEntry.objects.get().object_id == made.id


def test_who_may_only_view_cancels_nothing(made, as_):
    cancel(as_("view_group"), made)

    assert Job.objects.filter(state="cancelled").count() == 0


def test_the_command_lists_groups(made):
    out = StringIO()

    call_command("aftercommit", "groups", stdout=out)

    said = out.getvalue()
    assert re.match(r"default: <b>import: 2 of 4, 1 failed, about \d[\d.]* s left\n", said), said


def test_the_command_writes_json(made):
    group([], name="nothing").enqueue()
    out = StringIO()

    call_command("aftercommit", "groups", "<b>import", "--json", stdout=out)

    (found,) = json.loads(out.getvalue())
    assert (found["id"], found["total"], found["done"], found["failed"]) == (made.id, 4, 2, 1)
    assert found["estimate"] >= 0
