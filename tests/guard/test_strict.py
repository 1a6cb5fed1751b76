"""Strict mode: transactions that ``atomic()`` has not opened."""

import pytest
from django.db import connection, transaction

from aftercommit.errors import DispatchInTransaction

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def begun():
    """Be in a transaction that was begun by hand."""
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
    yield
    with connection.cursor() as cursor:
        cursor.execute("ROLLBACK")


@pytest.fixture
def manual():
    """Be without autocommit."""
    transaction.set_autocommit(False)
    yield
    transaction.rollback()
    transaction.set_autocommit(True)


@pytest.mark.parametrize("state", ["begun", "manual"])
def test_it_is_found_in_strict_mode_only(state, request, watch, send):
    request.getfixturevalue(state)
    watch(mode="raise")
    send()
    watch(mode="raise", strict=True)
    with pytest.raises(DispatchInTransaction) as caught:
        send()

    assert [one.alias for one in caught.value.finding.transactions] == ["default"]


@pytest.mark.parametrize("state", ["begun", "manual"])
def test_nothing_can_wait_for_its_end(state, request, watch, send, found):
    request.getfixturevalue(state)
    watch(mode="defer", strict=True)

    assert send() == "sent"
    assert [mode for _finding, mode in found] == ["log"]


def test_autocommit_is_right(watch, send):
    watch(mode="raise", strict=True)
    connection.ensure_connection()

    assert send() == "sent"
