"""The page of what the guard has stored."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from aftercommit.guard.models import StoredFinding
from tests.django.dashboard import ALL, HOSTILE, text_of, url

pytestmark = pytest.mark.django_db(databases=["default", "other"])
SAFE = HOSTILE.replace("\x00", "")  # as every database stores it


def stored(number, count=1, **given):
    now = timezone.now()
    given = {
        "rule": "AC101",
        "adapter": "celery",
        "subject": "shop.tasks.send_receipt",
        "path": "shop/services.py",
        "function": "place_order",
        "report": f"report {number}\n    The transaction on 'default' was opened",
        **given,
    }
    return StoredFinding.objects.create(
        key=str(number),
        line=number,
        count=count,
        first_seen=now - timedelta(days=1),
        last_seen=now,
        **given,
    )


def test_places_are_listed_with_counts_the_most_frequent_first(staff):
    stored(1, count=3)
    stored(2, count=1234)
    page = staff(*ALL).get(url("races"))

    assert [one.place for one in page.context["lines"]] == [
        "shop/services.py:2 in place_order",
        "shop/services.py:1 in place_order",
    ]
    assert [one.count for one in page.context["lines"]] == ["1,234", "3"]
    assert "report 2 The transaction on 'default' was opened" in text_of(page)


def test_a_page_is_about_one_rule_if_asked_and_goes_on(staff, monkeypatch):
    monkeypatch.setattr("aftercommit.dashboard.views.races.SIZE", 2)
    for number in range(5):
        stored(number, count=number + 1)
    stored(9, rule="AC401")
    client = staff(*ALL)
    seen, query = [], "?rule=AC101"
    while query:
        page = client.get(url("races") + query)
        seen += [one.count for one in page.context["lines"]]
        query = page.context["next_url"]

    assert seen == ["5", "4", "3", "2", "1"]
    assert "AC401" not in text_of(page)


@pytest.mark.parametrize("query", ["?begin=-1", "?begin=²", "?begin=99999999999", "?rule=%00x"])
def test_odd_addresses_are_answered(staff, query):
    stored(1)

    assert staff(*ALL).get(url("races") + query).status_code == 200


def test_who_may_read_them_in_the_admin_may_do_so_here(staff):
    client = staff(*(one for one in ALL if one != "findings"))

    assert client.get(url("races")).status_code == 403
    assert url("races") not in client.get(url("jobs")).content.decode()
    User.objects.get().user_permissions.add(
        Permission.objects.get(
            content_type__app_label="aftercommit_guard", codename="view_storedfinding"
        )
    )
    assert client.get(url("races")).status_code == 200
    assert url("races") in client.get(url("jobs")).content.decode()


def test_without_the_guard_there_is_no_such_page(staff, settings):
    settings.INSTALLED_APPS = [one for one in settings.INSTALLED_APPS if "guard" not in one]
    client = staff(*ALL)
    user = User.objects.get()
    user.is_superuser = True  # has every permission, there or not
    user.save()

    assert client.get(url("races")).status_code == 404
    assert url("races") not in client.get(url("jobs")).content.decode()


def test_without_its_table_the_page_says_what_to_do(staff, monkeypatch):
    monkeypatch.setattr(StoredFinding._meta, "db_table", "aftercommit_nowhere")
    page = staff(*ALL).get(url("races"))

    assert "Run manage.py migrate" in text_of(page)


def test_what_was_found_may_be_hostile(staff):
    stored(
        1,
        **dict.fromkeys(("subject", "path", "function", "report"), SAFE),
        rule="<b>",
    )
    page = staff(*ALL).get(url("races"))

    assert "<script>alert" not in page.content.decode()
    assert "<b>" not in page.content.decode()
    assert "\x1b" not in page.content.decode()
    assert "alert('x')" in text_of(page)


def test_more_places_take_no_more_statements(staff):
    client = staff(*ALL)
    client.get(url("races"))
    for number in range(20):
        stored(number)

    with CaptureQueriesContext(connection) as queries:
        client.get(url("races"))

    assert len([one for one in queries if "aftercommit_guard" in one["sql"]]) == 1
