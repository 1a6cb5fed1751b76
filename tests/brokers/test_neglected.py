"""Messages that nobody publishes are noticed by who can do something about it."""

import logging
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.core import checks
from django.db import OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from aftercommit.errors import PayloadTooLarge
from aftercommit.models import Job
from aftercommit.relay import neglected, outbox
from aftercommit.windows.doctor import examine
from tests.brokers.conftest import kept, run_relay
from tests.brokers.shop import note

LONG = timedelta(minutes=2)
SAID = "Messages for celery have waited in database 'default' for more than 60 s"
PAGE = "/admin/aftercommit/job/"


def keep(*, due_for=LONG, words=("a",)):
    """Keep a message that has been due for a while."""
    with transaction.atomic():
        note.delay(*words)
    Job.objects.update(run_after=timezone.now() - due_for)


def warnings():
    found = checks.run_checks(tags=["aftercommit"], include_deployment_checks=True)
    return [one for one in found if one.id == "aftercommit.W011"]


@pytest.fixture
def reminder(monkeypatch):
    """Let the next message be the one at which the process looks."""
    found = neglected.Reminder()
    found._next_look = 0
    monkeypatch.setattr(outbox, "_reminder", found)
    return found


def test_check_deploy_says_so(relayed, redis):
    relayed("celery")
    assert warnings() == []
    keep()
    (found,) = warnings()
    assert found.msg.startswith(SAID)
    assert "aftercommit relay" in found.hint
    without = checks.run_checks(tags=["aftercommit"])
    assert [one for one in without if one.id == "aftercommit.W011"] == []


def test_doctor_says_so(relayed, redis):
    relayed("celery")
    keep()
    (found,) = [one for one in examine("default") if "Messages" in one.text]
    assert found.is_problem
    assert SAID in found.text
    run_relay()
    assert not [one for one in examine("default") if "Messages" in one.text]


def test_a_message_of_the_last_minute_is_nothing_to_say(relayed, redis):
    relayed("celery")
    keep(due_for=timedelta(seconds=20))
    assert warnings() == []
    keep()
    assert warnings() != []
    run_relay()
    assert warnings() == []


def test_a_broker_that_is_away_is_another_matter(relayed, redis):
    """Its messages are due in a moment, again and again."""
    relayed("celery")
    keep(due_for=-timedelta(seconds=5))
    assert warnings() == []


def test_a_database_that_does_not_answer_says_nothing(relayed, redis, monkeypatch):
    relayed("celery")

    def away(*_args, **_options):
        raise OperationalError

    monkeypatch.setattr("aftercommit.store.reading.Reading.neglected", away)
    assert warnings() == []


def test_the_log_of_a_process_that_keeps_messages_says_it_once(relayed, redis, reminder, caplog):
    relayed("celery")
    keep()
    for _turn in range(3):
        reminder._next_look = 0
        keep()
    assert [one.message for one in caplog.records if one.levelno == logging.WARNING] == [
        f"{SAID}, and nobody publishes them. {neglected.FIX}"
    ]


def test_a_message_costs_no_look_but_once_a_minute(relayed, redis, reminder):
    relayed("celery")
    keep()
    with CaptureQueriesContext(connection) as found:
        keep()
    assert not [one for one in found.captured_queries if "SELECT" in one["sql"][:8]]


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_the_admin_says_it_and_shows_a_published_message_as_published(relayed, redis, client):
    relayed("celery")
    keep()
    client.force_login(User.objects.create_superuser("admin"))
    assert SAID in client.get(PAGE).content.decode().replace("&#x27;", "'")
    (job,) = kept()
    run_relay()

    page = client.get(PAGE).content.decode()
    assert SAID.partition(" in ")[0] not in page
    assert '<td class="field-shown_state">published</td>' in page
    assert "published" in client.get(f"{PAGE}{job.id}/change/").content.decode()


@pytest.mark.parametrize("size", [900_000, 1_100_000])
def test_a_message_may_be_as_large_as_arguments(size, relayed, redis):
    relayed("celery")
    if size < 1024 * 1024:
        keep(words=("a" * size,))
        assert len(kept()) == 1
        return
    with transaction.atomic(), pytest.raises(PayloadTooLarge, match=r"shop\.note: the arguments"):
        note.delay("a" * size)
    assert kept() == []


def test_the_limit_of_messages_is_an_option(relayed, redis):
    relayed("celery", max_payload=2000)
    with transaction.atomic(), pytest.raises(PayloadTooLarge):
        note.delay("é" * 1500)
    keep()
    assert len(kept()) == 1
