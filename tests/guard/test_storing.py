"""Findings in the guard's own table: written, listed, shown, sent on."""

import json
from datetime import timedelta
from io import StringIO

import pytest
import sentry_sdk
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import OperationalError, transaction
from django.urls import reverse

from aftercommit.errors import ConfigurationError
from aftercommit.guard import storing
from aftercommit.guard.conf import options_from
from aftercommit.guard.models import StoredFinding

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def at_once(monkeypatch):
    """Write after each transaction."""
    monkeypatch.setattr(storing, "PAUSE", timedelta(0))


def dispatch(send, times=1, **more):
    for _ in range(times):
        with transaction.atomic():
            send(**more)


def report(*options):
    out = StringIO()
    call_command("aftercommit_guard", *options, stdout=out)
    return out.getvalue()


@pytest.fixture
def stored(watch, send, at_once):
    """Store two places."""
    watch(mode="log", store=True)
    dispatch(send, times=3)
    dispatch(send, adapter="http", subject="A GET request to x")


def test_a_place_is_a_row_with_a_count(stored):
    first, second = StoredFinding.objects.all()

    assert (first.rule, first.adapter, first.count) == ("AC101", "celery", 3)
    assert first.path == "tests/guard/conftest.py"
    assert first.function.endswith("dispatch")
    assert first.first_seen < first.last_seen
    assert "The transaction on 'default' was opened at" in first.report
    assert (second.rule, second.count) == ("AC401", 1)


def test_nothing_is_written_in_the_transaction_that_is_open(watch, send, at_once):
    watch(mode="log", store=True)
    with transaction.atomic():
        send()
        transaction.set_rollback(True)

    assert StoredFinding.objects.get().count == 1


def test_a_process_writes_only_now_and_then(watch, send):
    watch(mode="log", store=True)
    dispatch(send, times=3)

    assert StoredFinding.objects.get().count == 1


def test_a_row_that_another_process_has_just_written_is_counted(stored, watch, send, monkeypatch):
    StoredFinding.objects.filter(rule="AC101").update(count=10)
    dispatch(send, times=2)

    assert StoredFinding.objects.get(rule="AC101").count == 12


def test_a_database_that_is_away_changes_nothing(watch, send, at_once, monkeypatch, caplog):
    def away(waiting):
        raise OperationalError("away")

    monkeypatch.setattr(storing, "_write", away)
    watch(mode="log", store=True)
    dispatch(send)

    assert "were not stored" in caplog.text
    assert send.sent


def test_the_report_lists_places_with_counts(stored):
    text = report("report")

    first, second, last = text.splitlines()
    assert first.split()[:2] == ["3", "tests/guard/conftest.py:49"]
    assert first.endswith("AC101 shop.tasks.send_receipt")
    assert second.endswith("AC401 A GET request to x")
    assert last == "2 places."
    assert "was opened at" in report("report", "--full")
    assert report("report", "--rule", "AC401").endswith("1 place.\n")


def test_the_report_as_json(stored):
    rows = json.loads(report("report", "--format", "json"))

    assert [(row["rule"], row["count"]) for row in rows] == [("AC101", 3), ("AC401", 1)]


def test_what_is_stored_becomes_a_baseline(stored, watch, send, tmp_path, found):
    file = tmp_path / "baseline.json"
    assert report("report", "--write-baseline", str(file)) == f"2 places written to {file}.\n"

    watch(mode="raise", baseline=str(file))
    dispatch(send)
    assert found == []


def test_what_is_mended_is_forgotten(stored):
    assert report("clear") == "2 places forgotten.\n"
    assert not StoredFinding.objects.exists()


def test_the_admin_lists_them_and_writes_none(stored, client):
    client.force_login(User.objects.create_superuser("admin"))
    page = client.get(reverse("admin:aftercommit_guard_storedfinding_changelist"))
    row = StoredFinding.objects.get(rule="AC101")
    one = client.get(reverse("admin:aftercommit_guard_storedfinding_change", args=[row.pk]))

    assert "tests/guard/conftest.py:49" in page.content.decode()
    assert "was opened at" in one.content.decode()
    assert "_save" not in one.content.decode()
    assert client.get(reverse("admin:aftercommit_guard_storedfinding_add")).status_code == 403


def test_sentry_has_an_issue_for_each_place(watch, send, monkeypatch):
    events = []

    class Kept(sentry_sdk.Transport):
        """Keeps what would be sent."""

        def capture_envelope(self, envelope):
            events.append(envelope.get_event())

    with sentry_sdk.isolation_scope() as scope:
        client = sentry_sdk.Client(
            dsn="https://key@example.org/1",
            transport=Kept,
            default_integrations=False,
        )
        scope.set_client(client)
        watch(mode="log", sentry=True)
        dispatch(send, times=2)
        client.close()

    assert len(events) == 2
    assert events[0]["fingerprint"] == events[1]["fingerprint"]
    assert events[0]["fingerprint"][:2] == ["aftercommit.guard", "AC101"]
    assert events[0]["tags"]["aftercommit.adapter"] == "celery"
    assert events[0]["level"] == "warning"


def test_what_is_missing_for_a_window_is_said(monkeypatch):
    monkeypatch.setattr("aftercommit.guard.conf.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match="sentry_sdk is not installed"):
        options_from({"sentry": True})
    monkeypatch.setattr("aftercommit.guard.conf.apps.is_installed", lambda name: False)
    with pytest.raises(ConfigurationError, match="no table without its app"):
        options_from({"store": True})
