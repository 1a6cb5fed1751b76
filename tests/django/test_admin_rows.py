"""The pages in the admin for rows that nobody would write: by hand, by SQL, by an attacker."""

import json
from dataclasses import replace
from itertools import product

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.urls import reverse

from aftercommit.ids import new_job_id
from aftercommit.models import Job
from aftercommit.relay.outbox import PUBLISH
from aftercommit.store import store_for
from aftercommit.values import NewJob

pytestmark = pytest.mark.django_db(databases=["default", "other"])

LIST = reverse("admin:aftercommit_job_changelist")
TASK = "tests.app.tasks.add"
DEEP = "[" * 25 + "]" * 25  # MariaDB knows 32 levels at most
TOO_DEEP = "[" * 100_000 + "]" * 100_000
TOO_LONG = "9" * 5_000  # digits: Python reads 4,300
VALUES = ["null", "1", '"text"', "[]", "[1]", "{}", "true", TOO_LONG, DEEP]
TEXTS = [*VALUES, "", "no JSON", "{", TOO_DEEP, "NaN", '"\\ud800"', "\x1b[31m\u202e"]
NESTED = [
    '{"args": %s}',
    '{"kwargs": %s}',
    '{"args": [], "kwargs": %s}',
    '{"args": [], "kwargs": {"content": %s}}',
    '{"args": [], "kwargs": {"content": {"args": %s}}}',
    '{"args": [], "kwargs": {"content": {"publishes": %s}}}',
    '{"args": [], "kwargs": {"content": {"publishes": [{"body": %s}]}}}',
    '{"args": [], "kwargs": {"content": {"publishes": [%s]}}}',
    '{"args": [], "kwargs": {"content": {"body": %s}}}',
    '{"args": [], "kwargs": {"content": {"task": {"text": %s}}}}',
]
METAS = [
    *VALUES,
    *(f'{{"{name}": {value}}}' for name, value in product(["name", "message_id"], VALUES)),
    *(f'{{"name": "n", "message_id": "m", "ordering_key": {value}}}' for value in VALUES),
]
ENTRIES = [
    *(f"[{value}]" for value in VALUES),
    *(f'[{{"traceback": {value}}}]' for value in VALUES),
    *(f'[{{"exception_class_path": {value}, "traceback": ""}}]' for value in VALUES),
]
FUZZED = {
    "meta": METAS,
    "payload": [*TEXTS, *(shape % value for shape, value in product(NESTED, VALUES))],
    "errors": [*TEXTS, *ENTRIES],
    "result": TEXTS,
    "headers": TEXTS,
    "tags": TEXTS,
    "queue": ["", " ", "\x1b[31m\n", "%s", "{{ 7 }}"],
    "task_path": ["", "\n", "%s", "\u202e"],
}


@pytest.fixture
def browser(client):
    user = User.objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="aftercommit"))
    client.force_login(user)
    return client


def write(job_id, **columns):
    """Write a row as somebody with SQL would."""
    names = ", ".join(f"{connection.ops.quote_name(name)} = %s" for name in columns)
    key = job_id if connection.vendor == "postgresql" else job_id.hex
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE aftercommit_job SET {names} WHERE id = %s", [*columns.values(), key]
        )
        assert cursor.rowcount == 1


def cancelled(task_path, count=1):
    new = NewJob(task_path=task_path, payload='{"args":[],"kwargs":{}}', meta={"name": "known"})
    job_ids = store_for("default").insert([replace(new, id=new_job_id()) for _ in range(count)])
    store_for("default").cancel(job_ids)
    return job_ids


def odd_rows(column, task_path):
    """Make a row for each value of a column; return their ids, and that of a usual row."""
    values = FUZZED[column]
    odd = dict(zip(cancelled(task_path, len(values)), values, strict=True))
    for job_id, value in odd.items():
        write(job_id, **{column: value})
    return odd, *cancelled(TASK)


@pytest.mark.parametrize("task_path", [TASK, PUBLISH], ids=["task", "message"])
@pytest.mark.parametrize("column", FUZZED)
def test_a_row_with_any_value_is_shown_beside_the_others(column, task_path, browser):
    odd, usual = odd_rows(column, task_path)
    pages = -(-(len(odd) + 1) // 100)
    listed = [browser.get(LIST, {"state": "cancelled", "p": page + 1}) for page in range(pages)]

    assert {page.status_code for page in listed} == {200}
    for job_id in (*odd, usual):
        assert any(str(job_id) in page.text for page in listed)
    for job_id, value in odd.items():
        page = browser.get(reverse("admin:aftercommit_job_change", args=[job_id]))
        assert page.status_code == 200, value[:80]
        assert str(job_id) in page.text


@pytest.mark.parametrize("task_path", [TASK, PUBLISH], ids=["task", "message"])
@pytest.mark.parametrize("column", ["meta", "payload", "errors", "result"])
def test_a_row_with_any_value_is_retried_and_cancelled(column, task_path, browser):
    odd, usual = odd_rows(column, task_path)
    for action, state in (("retry_selected", "ready"), ("cancel_selected", "cancelled")):
        data = {"action": action, "_selected_action": [str(one) for one in (*odd, usual)]}

        assert browser.post(LIST, data, follow=True).status_code == 200
        assert set(Job.objects.values_list("state", flat=True)) == {state}


@pytest.mark.parametrize("text", ["[" * 100_000 + "]" * 100_000, TOO_LONG])
def test_json_that_python_cannot_read_is_read_as_text(text):
    assert Job._meta.get_field("meta").from_db_value(text, None, connection) == text


def test_what_is_readable_of_an_odd_row_is_shown(browser):
    (odd,) = cancelled(TASK)
    errors = [{"traceback": 3}, {"exception_class_path": "a.B"}, "a word", {"traceback": "told"}]
    write(odd, errors=json.dumps(errors), payload="no { JSON", result="none [ either")

    text = browser.get(reverse("admin:aftercommit_job_change", args=[odd])).text

    for shown in ("a.B", "a word", "told", "no { JSON", "none [ either"):
        assert shown in text


def test_a_message_without_a_name_is_listed_by_its_task(browser):
    (odd,) = cancelled(PUBLISH)
    write(odd, meta="{}")

    assert PUBLISH in browser.get(LIST).text


def test_a_name_cannot_turn_the_direction_of_a_line_or_break_it(browser):
    (odd,) = cancelled(PUBLISH)
    write(odd, meta=json.dumps({"name": "a\u202eb\nc"}))

    assert "a\\u202eb\\nc" in browser.get(LIST).text


def test_of_a_message_that_cannot_be_read_nothing_is_shown(browser):
    (odd,) = cancelled(PUBLISH)
    write(odd, payload="gASVCgAAAAAAAAB9 canary")

    text = browser.get(reverse("admin:aftercommit_job_change", args=[odd])).text

    assert "canary" not in text
    assert "Not JSON, so it is not shown." in text
