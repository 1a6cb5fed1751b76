"""SQLite: one writer at a time, who must say so from the start."""

from contextlib import suppress
from uuid import uuid4

import pytest
from django.db import OperationalError, connection, transaction

from aftercommit.store.sqlite.store import FEW
from aftercommit.values import ClaimQuery
from tests.store.callers import Held, answer, at_statement
from tests.store.given import (
    ALREADY_OVER,
    LEASE,
    MOST_CRASHES,
    claim_one,
    ready_job,
    ready_jobs,
    state,
)

pytestmark = pytest.mark.skipif("connection.vendor != 'sqlite'")


@pytest.fixture
def plain_begin():
    """Let the user's settings say nothing of transactions, as most do."""
    connection.ensure_connection()
    before, connection.transaction_mode = connection.transaction_mode, None
    yield
    connection.transaction_mode = before


def test_a_transaction_of_ours_that_reads_first_is_not_refused_when_others_write(
    store, new_caller, plain_begin
):
    lost, ready = ready_jobs(store, 2)
    claim_one(store, only=[lost], lease=ALREADY_OVER)
    writer = new_caller()
    before_our_write = 3

    with at_statement(before_our_write, lambda: writer.do(write_if_nobody_does, store)):
        rescued = store.rescue(max_crashes=MOST_CRASHES)

    assert [one.job_id for one in rescued] == [lost]
    assert state(store, ready) == "ready"


def write_if_nobody_does(store):
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout = 0")
    with suppress(OperationalError):
        ready_job(store)


def test_the_users_own_transactions_stay_as_the_user_wants_them(store, plain_begin):
    store.cancel([ready_job(store)])

    assert connection.transaction_mode is None
    with transaction.atomic():
        assert state(store, ready_job(store)) == "ready"


def test_a_worker_waits_for_a_writer_instead_of_failing(store, new_caller):
    job_id = ready_job(store)
    writing = Held(new_caller(), lambda: ready_job(store, queue="another"))
    worker = new_caller()
    begun = worker.start(claim_one, store)
    assert worker.must_wait(begun)

    writing.commit()

    assert answer(begun).job_id == job_id


def test_readers_do_not_wait_for_a_writer(store, other):
    job_id = ready_job(store)
    writing = Held(other, lambda: store.cancel([job_id]))

    seen = state(store, job_id)

    writing.commit()
    assert seen == "ready"
    assert state(store, job_id) == "cancelled"


# ---- how many due jobs are read before a claim -------------------------------------------


def limits_met(store, limit):
    """Claim without regard to limits; return how many jobs, and whether limits were met."""
    query = ClaimQuery(queue="default", limit=limit, worker_id=uuid4(), lease=LEASE)
    claims, met = store._claim_free(query)
    return len(claims), met


@pytest.mark.parametrize("free", [1, FEW - 1, FEW, FEW + 1, 3 * FEW])
def test_a_limit_behind_free_jobs_is_met_when_there_is_room_for_it(store, free):
    ready_jobs(store, free)
    ready_jobs(store, 1, limit_key="key")

    assert limits_met(store, limit=free) == (free, False)  # no room

    ready_jobs(store, free, priority=1)
    assert limits_met(store, limit=free + 5) == (free, True)


@pytest.mark.parametrize("held", [1, FEW, 3 * FEW])
def test_free_jobs_behind_a_limit_are_found(store, held):
    ready_jobs(store, held, limit_key="key")
    ready_jobs(store, 2)

    assert limits_met(store, limit=held + 2) == (2, True)
    assert limits_met(store, limit=held + 2) == (0, True)


def test_without_limits_none_is_met(store):
    ready_jobs(store, 3 * FEW)

    assert limits_met(store, limit=2 * FEW) == (2 * FEW, False)
    assert limits_met(store, limit=2 * FEW) == (FEW, False)
    assert limits_met(store, limit=2 * FEW) == (0, False)
