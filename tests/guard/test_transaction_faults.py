"""Faults of transactions themselves."""

import pytest
from django.db import connection, connections, transaction
from django.test import TestCase

from aftercommit.errors import DispatchInTransaction
from tests.app.models import Effect

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@pytest.fixture(autouse=True)
def _on(watch):
    watch(mode="raise")


def test_a_second_transaction_is_refused_before_it_is_opened():
    with transaction.atomic():
        with pytest.raises(DispatchInTransaction) as caught, transaction.atomic("other"):
            pass
        assert not connections["other"].in_atomic_block
        Effect.objects.create(key="a")

    assert caught.value.finding.rule == "AC402"
    assert caught.value.finding.subject == "'other'"
    assert [one.alias for one in caught.value.finding.transactions] == ["default"]
    assert Effect.objects.count() == 1


def test_one_after_the_other_is_right():
    with transaction.atomic():
        pass
    with transaction.atomic("other"):
        pass


def test_a_callback_for_another_database_is_refused():
    with transaction.atomic("other"), pytest.raises(DispatchInTransaction) as caught:
        transaction.on_commit(print)

    assert caught.value.finding.rule == "AC111"


def test_a_callback_for_the_database_of_the_transaction_is_right():
    ran = []
    with transaction.atomic("other"):
        transaction.on_commit(lambda: ran.append(1), using="other")
    transaction.on_commit(lambda: ran.append(2))

    assert ran == [1, 2]


def test_callbacks_that_close_would_drop_are_reported(found, watch):
    watch(mode="log")
    block = transaction.atomic()
    block.__enter__()
    transaction.on_commit(print)
    connection.close()
    block.__exit__(None, None, None)

    assert [one.rule for one, _mode in found] == ["AC403"]


def test_close_without_callbacks_is_not(found, watch):
    watch(mode="log")
    block = transaction.atomic()
    block.__enter__()
    connection.close()
    block.__exit__(None, None, None)
    connection.close()

    assert found == []


def test_all_of_it_can_be_switched_off(found, watch):
    watch(mode="log", adapters={"transactions": "off"})
    with transaction.atomic("other"), transaction.atomic():
        pass

    assert found == []


class InTestCase(TestCase):
    """The transactions around a test, one for each database, are nobody's fault."""

    databases = ("default", "other")

    def test_the_blocks_of_the_test_do_not_count(self):
        with transaction.atomic():
            pass
        with transaction.atomic("other"):
            pass
        transaction.on_commit(print)
