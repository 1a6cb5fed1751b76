"""In which database a message is kept, whatever library it is of."""

import asyncio
import logging
import threading
from contextlib import suppress

import pytest
from django.db import connection, connections, transaction
from django.test import TestCase

from aftercommit import gather
from aftercommit.errors import ConfigurationError
from aftercommit.models import Job
from aftercommit.relay.outbox import Outbox
from tests.brokers.shop import note
from tests.worker.rig import sql

two_databases = pytest.mark.django_db(transaction=True, databases=["default", "other"])


def where():
    return {alias: Job.objects.using(alias).count() for alias in ("default", "other")}


@two_databases
@pytest.mark.parametrize("alias", ["default", "other"])
def test_a_message_is_kept_where_the_transaction_is_open(alias, redis, relayed):
    relayed("celery", backends=("default", "other"))
    with transaction.atomic(using=alias):
        note.delay("a")

    assert where() == {"default": 0, "other": 0} | {alias: 1}


@two_databases
def test_with_two_open_it_is_the_one_of_the_jobs_and_the_log_says_so(redis, relayed, caplog):
    relayed("celery", backends=("default", "other"))
    with (
        caplog.at_level(logging.WARNING, "aftercommit"),
        transaction.atomic(using="other"),
        transaction.atomic(),
    ):
        note.delay("a")

    assert where() == {"default": 1, "other": 0}
    assert "Transactions are open on default and other" in caplog.text


@two_databases
def test_a_transaction_that_keeps_no_messages_is_named_in_the_log(redis, relayed, caplog):
    relayed("celery")
    with caplog.at_level(logging.WARNING, "aftercommit"), transaction.atomic(using="other"):
        note.delay("a")

    assert where() == {"default": 0, "other": 0}
    assert "inside a transaction on other" in caplog.text


def test_a_savepoint_that_is_rolled_back_takes_its_messages_along(redis, relayed):
    relayed("celery")
    with transaction.atomic():
        note.delay("outer")
        with transaction.atomic():
            note.delay("inner")
            transaction.set_rollback(True)

    assert where_names() == ["outer"]


def where_names():
    rows = Job.objects.order_by("id")
    return [row.kwargs["content"]["publishes"][0]["headers"]["argsrepr"][2:-3] for row in rows]


def test_without_autocommit_a_transaction_is_open(redis, relayed):
    relayed("celery")
    transaction.set_autocommit(False)
    try:
        note.delay("rolled back")
        transaction.rollback()
        note.delay("committed")
        transaction.commit()
    finally:
        transaction.set_autocommit(True)

    assert where_names() == ["committed"]


def test_a_transaction_that_sql_has_opened_counts(redis, relayed):
    if connection.vendor == "mysql":
        pytest.skip("its driver does not tell")
    relayed("celery")
    sql("BEGIN")
    note.delay("rolled back")
    sql("ROLLBACK")
    sql("BEGIN")
    note.delay("committed")
    sql("COMMIT")

    assert where_names() == ["committed"]


def test_another_thread_has_a_transaction_of_its_own(redis, relayed):
    relayed("celery")
    found = []

    def ask():
        found.append(Outbox().alias("celery", when=None))
        connections.close_all()

    with transaction.atomic():
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        assert Outbox().alias("celery", when=None) == "default"

    assert found == [None]


def test_what_a_task_says_must_make_sense(redis, relayed):
    relayed("celery")
    with pytest.raises(ConfigurationError, match="'sometimes'"):
        Outbox().alias("celery", when="sometimes")


def test_in_a_coroutine_nothing_is_written_and_the_library_raises_as_ever(redis, relayed):
    relayed("celery")

    async def ask():
        return Outbox().alias_if_away("celery", when=None)

    assert asyncio.run(ask()) is None
    assert Outbox().alias_if_away("celery", when=None) == "default"


class InATestCase(TestCase):
    """What Django opens around a test is no transaction of the site."""

    @pytest.fixture(autouse=True)
    def switched_on(self, settings):
        """Switch the relay on."""
        tasks = {"default": {**settings.TASKS["default"], "OPTIONS": {"relay": ["celery"]}}}
        settings.TASKS = tasks

    def test_messages_are_published_as_in_production(self):
        assert Outbox().alias("celery", when=None) is None
        with transaction.atomic():
            assert Outbox().alias("celery", when=None) == "default"


def test_messages_of_a_gather_block_are_kept_together_at_its_end(redis, relayed):
    relayed("celery")
    with transaction.atomic(), gather():
        note.delay("a")
        note.delay("b")
        with suppress(ValueError), transaction.atomic():
            note.delay("c")
            raise ValueError
        assert not Job.objects.exists()

    assert Job.objects.count() == 2
