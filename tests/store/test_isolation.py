"""The caller's isolation: a snapshot may be old, but a write is never about the past."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import OperationalError, connection, transaction

from aftercommit.values import Ended, Succeeded
from tests.store.callers import at_statement
from tests.store.given import (
    ALREADY_OVER,
    LEASE,
    MOST_CRASHES,
    claim_all,
    claim_one,
    job,
    ready_job,
    state,
)

LATER = timedelta(hours=1)


@pytest.fixture
def repeatable_read(vendor):
    """Give sessions REPEATABLE READ, as their users may."""
    if vendor == "sqlite":
        pytest.skip("SQLite knows one isolation")
    set_isolation("REPEATABLE READ")
    yield
    connection.close()


def set_isolation(level):
    connection.ensure_connection()
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(f"SET default_transaction_isolation = '{level.lower()}'")
        else:
            cursor.execute(f"SET SESSION TRANSACTION ISOLATION LEVEL {level}")
            connection.isolation_level = level.lower()


def change_hands(store):
    """Rescue a job, and run it elsewhere."""
    store.rescue(max_crashes=MOST_CRASHES)
    return claim_one(store)


def test_a_snapshot_in_which_a_claim_still_holds_does_not_make_it_hold(
    store, other, repeatable_read, vendor
):
    job_id = ready_job(store)
    late = claim_one(store, lease=ALREADY_OVER)

    with transaction.atomic():
        before = job(store, job_id)
        current = other.do(change_hands, store)
        again = job(store, job_id)
        try:
            finished = store.finish(late, Succeeded())
        except OperationalError:
            finished = "refused"
            transaction.set_rollback(True)

    assert before.token == again.token == late.token
    assert finished == ("refused" if vendor == "postgresql" else None)
    assert store.finish(current, Succeeded())


def test_a_lease_renewed_behind_a_snapshot_is_no_reason_to_lose_the_claim(
    store, other, repeatable_read
):
    job_id = ready_job(store)
    claim = claim_one(store)

    with transaction.atomic():
        assert state(store, job_id) == "running"
        other.do(store.renew, [claim], lease=LATER)
        finished = store.finish(claim, Succeeded())

    assert finished == Ended(job_id, "succeeded")
    assert state(store, job_id) == "succeeded"


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
def test_all_that_a_worker_does_works_in_sessions_of_any_isolation(
    store, other, vendor, isolation
):
    if vendor == "sqlite":
        pytest.skip("SQLite knows one isolation")
    set_isolation(isolation)
    job_id, dead = ready_job(store), uuid4()

    claim_one(store, worker_id=dead)
    rescued = store.rescue(max_crashes=MOST_CRASHES, dead_workers=[dead])
    claim = claim_one(store)
    with at_statement(1, lambda: other.do(ready_job, store)):
        renewed = store.renew([claim], lease=LEASE)
    requested = store.cancel([job_id]).requested
    finished = store.finish_many([(claim, Succeeded())])
    pruned = store.prune(older_than=ALREADY_OVER)

    connection.close()
    assert [one.job_id for one in rescued] == [job_id]
    assert (renewed, requested) == ({job_id: False}, {job_id})
    assert (finished, pruned) == ([Ended(job_id, "succeeded")], 1)


def test_a_rescue_looks_again_at_a_row_that_changed_meanwhile(store, other, repeatable_read):
    _healthy, lost = ready_job(store, priority=1), ready_job(store)
    owner = claim_one(store, lease=ALREADY_OVER)
    claim_one(store, lease=ALREADY_OVER)

    def renew():
        other.do(store.renew, [owner], lease=LATER)

    with at_statement(1, renew):
        rescued = store.rescue(max_crashes=MOST_CRASHES)

    assert [one.job_id for one in rescued] == [lost]


def test_the_isolation_of_the_session_is_as_it_was(store, repeatable_read, vendor):
    store.cancel([ready_job(store)])
    claim_all(store)

    question = "SHOW transaction_isolation" if vendor == "postgresql" else "SELECT @@tx_isolation"
    with transaction.atomic(), connection.cursor() as cursor:
        if vendor == "mysql" and not connection.mysql_is_mariadb:
            question = "SELECT @@transaction_isolation"
        cursor.execute(question)
        (found,) = cursor.fetchone()

    assert found.lower().replace("-", " ") == "repeatable read"


def test_a_transaction_begun_in_sql_is_a_transaction(store, vendor):
    if vendor != "postgresql":
        pytest.skip("only PostgreSQL's driver says so")
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        job_id = ready_job(store)
        cursor.execute("ROLLBACK")

    assert state(store, job_id) == "gone"
    assert state(store, ready_job(store)) == "ready"
