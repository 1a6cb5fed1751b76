"""On PostgreSQL the end of a run writes no index: it is a HOT update."""

import pytest
from django.db import connection, transaction

from aftercommit.values import Failed, Succeeded
from tests.store.given import ERROR, claim_all, ready_jobs

# Of this session, and up to date within a transaction.
UPDATES = """
SELECT pg_stat_get_xact_tuples_updated(oid), pg_stat_get_xact_tuples_hot_updated(oid)
FROM pg_class WHERE oid = 'aftercommit_job'::regclass
"""
STORAGE = {
    "aftercommit_job": {
        "fillfactor=50",
        "autovacuum_vacuum_scale_factor=0.02",
        "autovacuum_vacuum_threshold=5000",
        "autovacuum_analyze_scale_factor=0.02",
    },
    "aftercommit_lease": {
        "fillfactor=50",
        "autovacuum_vacuum_scale_factor=0",
        "autovacuum_vacuum_threshold=1000",
    },
}


@pytest.fixture(autouse=True)
def empty_table(vendor, transactional_db):
    """Begin with an empty page, which has room for three versions of some rows.

    Dead versions cannot be removed while a transaction is open anywhere on the server.
    """
    if vendor != "postgresql":
        pytest.skip("only PostgreSQL has HOT updates")
    ask("TRUNCATE aftercommit_job")


def ask(sql, *given):
    with connection.cursor() as cursor:
        cursor.execute(sql, given)
        return cursor.fetchall() if cursor.description else []


def updates(act):
    """Return how many rows of jobs this updates, and how many of these updates are HOT."""
    with transaction.atomic():
        ((rows_before, hot_before),) = ask(UPDATES)
        act()
        ((rows, hot),) = ask(UPDATES)
    return rows - rows_before, hot - hot_before


def succeed(store, how, claims):
    ended = [(claim, Succeeded('{"total": 3}')) for claim in claims]
    if how == "together":
        assert len(store.finish_many(ended)) == len(claims)
        return
    assert None not in [store.finish(*one) for one in ended]


each_way = pytest.mark.parametrize("how", ["one by one", "together"])


@each_way
def test_the_end_of_a_successful_run_is_a_hot_update(store, how):
    ready_jobs(store, 10)
    claims = claim_all(store)

    assert updates(lambda: succeed(store, how, claims)) == (10, 10)


def test_successes_that_end_together_with_failures_are_hot_updates(store):
    ready_jobs(store, 10)
    first, *others = claim_all(store)

    ended = [(first, Failed(ERROR)), *((claim, Succeeded()) for claim in others)]

    assert updates(lambda: store.finish_many(ended)) == (10, 9)


@each_way
@pytest.mark.parametrize("column", ["state", "finished_at", "result", "errors", "claimed_at"])
def test_an_index_of_what_changes_would_be_noticed(store, column, how):
    """Of the last two columns nothing changes at the end of a run, so they may be indexed."""
    may_be = column in {"errors", "claimed_at"}
    ask(f"CREATE INDEX aftercommit_test_{column} ON aftercommit_job ({column})")
    try:
        ready_jobs(store, 5)
        claims = claim_all(store)

        assert updates(lambda: succeed(store, how, claims)) == (5, 5 if may_be else 0)
    finally:
        ask(f"DROP INDEX aftercommit_test_{column}")


def test_pages_have_room_for_the_next_version_of_each_row(store):
    """On a page that is full, an update is not HOT, whatever changes."""
    ready_jobs(store, 500)
    before = pages()

    assert len(claim_all(store, limit=500)) == 500

    assert before <= pages() < before * 1.3


def pages():
    ((size,),) = ask("SELECT pg_relation_size('aftercommit_job')")
    return size // 8192


@pytest.mark.parametrize("table", STORAGE)
def test_storage_parameters_are_those_of_the_migration(table):
    ((found,),) = ask("SELECT reloptions FROM pg_class WHERE oid = %s::regclass", table)

    assert set(found) == STORAGE[table]
