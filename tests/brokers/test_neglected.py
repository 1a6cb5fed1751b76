"""Messages that nobody publishes are noticed by who can do something about it."""

import logging
from copy import deepcopy
from datetime import timedelta
from functools import partial
from inspect import unwrap
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission, User
from django.core import checks
from django.db import OperationalError, connection, transaction
from django.test import TestCase
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from aftercommit import queues
from aftercommit.errors import PayloadTooLarge
from aftercommit.models import Job, WorkerPresence
from aftercommit.options.queues import queues_of
from aftercommit.relay import neglected, outbox
from aftercommit.relay import publish as relay
from aftercommit.store import store_for
from aftercommit.store.reading import Reading
from aftercommit.windows.checks.relay import check_relay
from aftercommit.windows.doctor import Ailment, examine
from tests.brokers.conftest import kept, run_relay
from tests.brokers.shop import note

LONG = timedelta(minutes=2)
SAID = "Messages for celery have waited in database 'default' for more than 60 s"
NOBODY = "No process of a worker or a relay has been seen here for 2 minutes."
SOMEBODY = "No relay for them runs, or it is behind, or the broker does not answer it."
PAGE = "/admin/aftercommit/job/"


def keep(*, due_for=LONG, words=("a",)):
    """Keep a message that has been due for a while."""
    with transaction.atomic():
        note.delay(*words)
    Job.objects.update(run_after=timezone.now() - due_for)


def warnings():
    assert check_relay in map(unwrap, checks.registry.registry.deployment_checks)
    return check_relay()


def selects(found):
    return [one for one in found.captured_queries if "SELECT" in one["sql"][:8]]


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


def test_messages_of_a_paused_broker_are_meant_to_wait(relayed, redis, reminder, caplog):
    relayed("celery")
    queues.pause(broker="celery", using="default")
    keep()
    reminder._next_look = 0
    keep()

    assert warnings() == []
    assert not [one for one in examine("default") if one.ailment & Ailment.NOBODY]
    assert not [one for one in caplog.records if one.levelno == logging.WARNING]

    queues.resume(broker="celery", using="default")
    assert [one.msg for one in warnings()] == [f"{SAID}. {NOBODY}"]


def test_one_paused_queue_of_a_broker_hides_no_message_of_the_other(relayed, redis):
    relayed("celery")
    keep()
    for name in queues_of("celery"):
        store_for("default").pause("queue", name, by="", why="")
    assert warnings() == []
    store_for("default").resume("queue", queues_of("celery")[0])

    assert len(warnings()) == 1


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
        f"{SAID}. {NOBODY} {neglected.FIX}"
    ]


@pytest.mark.parametrize("alive", [True, False])
def test_what_is_not_known_is_not_said(alive, relayed, redis):
    """A worker's row does not hold which queues it serves."""
    relayed("celery")
    keep()
    store_for("default").workers.announce(uuid4(), locked=False)
    if not alive:
        WorkerPresence.objects.update(seen_at=timezone.now() - timedelta(minutes=3))
    (found,) = warnings()
    assert found.msg == f"{SAID}. {SOMEBODY if alive else NOBODY}"
    assert ("log" in found.hint) == alive


def test_the_look_comes_after_the_commit(relayed, redis, reminder):
    relayed("celery")
    keep()
    reminder._next_look = 0
    with CaptureQueriesContext(connection) as found, transaction.atomic():
        note.delay("a")
        assert not selects(found)
    assert selects(found)


def test_an_error_of_the_look_breaks_no_transaction(relayed, redis, reminder, monkeypatch):
    asked = []

    def breaks(*_args, **_options):
        asked.append(True)
        with connection.cursor() as cursor:
            cursor.execute("SELECT no_such_column FROM aftercommit_job")

    monkeypatch.setattr("aftercommit.store.reading.Reading.neglected", breaks)
    relayed("celery", relay_when="always")
    with transaction.atomic():
        note.delay("a")
        User.objects.create_user("committed")
    reminder._next_look = 0
    note.delay("b")

    assert len(asked) == 2
    assert len(kept()) == 2
    assert User.objects.filter(username="committed").exists()


def test_no_look_where_nothing_tells_of_the_commit(relayed, redis, reminder):
    relayed("celery")
    connection.set_autocommit(False)
    try:
        with CaptureQueriesContext(connection) as found:
            note.delay("a")
        assert not selects(found)
        connection.rollback()
    finally:
        connection.set_autocommit(True)


@pytest.mark.django_db
def test_a_test_case_gets_no_callback_of_ours(settings, redis, reminder):
    tasks = deepcopy(settings.TASKS)
    tasks["default"]["OPTIONS"] |= {"relay": ["celery"]}
    settings.TASKS = tasks
    relay.install()
    with TestCase.captureOnCommitCallbacks() as callbacks, transaction.atomic():
        note.delay("a")
    assert not [one for one in callbacks if isinstance(one, partial)]


def test_messages_of_another_backend_are_not_its(relayed, redis):
    relayed("celery")
    keep()
    Job.objects.update(backend="another")
    assert warnings() == []


def test_a_message_costs_no_look_but_once_a_minute(relayed, redis, reminder):
    relayed("celery")
    keep()
    with CaptureQueriesContext(connection) as found:
        keep()
    assert not selects(found)


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
    assert '<td class="field-listed_state">published<' in page
    assert "published" in client.get(f"{PAGE}{job.id}/change/").content.decode()


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_the_admin_is_shown_while_another_database_of_messages_is_away(
    relayed, redis, client, monkeypatch
):
    relayed("celery", backends=("default", "other"))
    keep()
    client.force_login(User.objects.create_superuser("admin"))
    known, asked = Reading.neglected, []

    def away(self, *args, **options):
        asked.append(self.alias)
        if self.alias == "other":
            raise OperationalError
        return known(self, *args, **options)

    monkeypatch.setattr(Reading, "neglected", away)
    page = client.get(PAGE)
    assert (page.status_code, set(asked)) == (200, {"default", "other"})
    assert SAID in page.content.decode().replace("&#x27;", "'")


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
@pytest.mark.parametrize("may", [True, False])
def test_only_who_may_see_jobs_is_told_of_messages(may, relayed, redis, client):
    relayed("celery")
    keep()
    user = User.objects.create_user("staff", is_staff=True)
    names = ["view_job"] if may else ["retry_job"]
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    client.force_login(user)

    assert client.get(PAGE).status_code == (200 if may else 403)
    said = [str(one) for one in client.get("/admin/").context["messages"]]
    assert said == []
    if not may:
        assert not client.session.get("_messages") and "messages" not in client.cookies


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
