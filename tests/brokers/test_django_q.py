"""django-q2's tasks: each way to send one is part of the transaction."""

import pytest

from tests.apart import seen_by

WAYS = ("async_task", "chain")


@pytest.fixture(scope="module")
def seen():
    """Return what a site with django-q2 has seen, on a SQLite database of its own."""
    return seen_by("tests.brokers.cluster")


@pytest.mark.parametrize("way", WAYS)
def test_a_task_is_enqueued_after_the_commit_and_never_after_a_rollback(way, redis, seen):
    found = seen[way]

    assert found["before"] == 0
    assert len(found["kept"]) == 1
    assert found["there"] == found["kept"]


@pytest.mark.parametrize("way", WAYS)
def test_the_guard_finds_it_unless_the_relay_keeps_it(way, redis, seen):
    assert seen["guard"][way] == ["", "AC101", "math.copysign", 0]


def test_the_orm_broker_is_right_on_the_database_of_the_transaction(redis, seen):
    assert seen["guard"]["orm"] == ["", "AC405"]


def test_what_would_run_at_once_in_a_test_is_found(redis, seen):
    assert seen["guard"]["sync"] == "AC101"
