"""Every statement of the store finds its rows by an index, however full the table is."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection, transaction

from aftercommit.models import FINISHED
from aftercommit.values import Failed, Retry, Succeeded
from tests.store.callers import Held, answer
from tests.store.given import (
    ALREADY_OVER,
    ERROR,
    LEASE,
    MOST_CRASHES,
    claim_all,
    new_job,
    ready_jobs,
)

# Without apps no table is emptied after a test.
pytestmark = pytest.mark.django_db(transaction=True, available_apps=[])

ROWS = 300_000  # a third each: finished, for later, due
PRIMARY = {
    "postgresql": "aftercommit_job_pkey",
    "mysql": "PRIMARY",
    "sqlite": "sqlite_autoindex_aftercommit_job_1",
}
DUE, LEASES = "aftercommit_job_due", "aftercommit_job_lease"
OLD, KEYS = "aftercommit_job_finished", "aftercommit_job_unique"

FILL = """
INSERT INTO aftercommit_job (
    id, task_path, payload, meta, backend, queue, priority, state, run_after, enqueued_at,
    finished_at, token, attempts, crashes, conflicts, max_attempts, cancel_requested,
    unique_until_started, errors
)
{recursive}
SELECT
    {id}, 'tests.app.tasks.add', '{{"args":[],"kwargs":{{}}}}', '{{}}', 'default',
    CASE WHEN i % 10 = 0 THEN 'mail' ELSE 'default' END, i % 5 - 2,
    CASE i % 6 WHEN 0 THEN 'succeeded' WHEN 3 THEN 'failed' ELSE 'ready' END,
    CASE WHEN i % 3 = 1 THEN {later} ELSE {earlier} END, {earlier},
    CASE WHEN i % 3 = 0 THEN {earlier} END,
    1, 1, 0, 0, 5, FALSE, FALSE, '[]'
FROM {numbers}
"""
RECURSIVE = """
WITH RECURSIVE numbers (i) AS (
    SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i < 300000
)
"""
STATISTICS = {
    "postgresql": "VACUUM ANALYZE aftercommit_job",
    "mysql": "ANALYZE TABLE aftercommit_job",
    "sqlite": "SELECT 'most databases are never analysed'",
}
VENDORS = {
    "postgresql": {
        "recursive": "",
        "id": "md5(i::text)::uuid",
        "later": "now() + i * interval '1 second'",
        "earlier": "now() - i * interval '1 second'",
        "numbers": "generate_series(1, 300000) AS i",
    },
    "mysql": {
        "recursive": RECURSIVE,
        "id": "LPAD(HEX(i), 32, '0')",
        "later": "UTC_TIMESTAMP(6) + INTERVAL i SECOND",
        "earlier": "UTC_TIMESTAMP(6) - INTERVAL i SECOND",
        "numbers": "numbers",
    },
    "sqlite": {
        "recursive": RECURSIVE,
        "id": "lower(hex(randomblob(16)))",
        "later": "strftime('%Y-%m-%d %H:%M:%f000', 'now', '+' || i || ' seconds')",
        "earlier": "strftime('%Y-%m-%d %H:%M:%f000', 'now', '-' || i || ' seconds')",
        "numbers": "numbers",
    },
}


def run(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)


@pytest.fixture(scope="module")
def full_table(django_db_setup, django_db_blocker):
    """Fill the table once for all tests of this file, which leave it as it is."""
    vendor = connection.vendor
    with django_db_blocker.unblock():
        if vendor == "mysql":
            run(
                f"SET max_recursive_iterations = {ROWS + 1}"
                if connection.mysql_is_mariadb
                else f"SET cte_max_recursion_depth = {ROWS + 1}"
            )
        run(FILL.format(**VENDORS[vendor]))
        run(STATISTICS[vendor])
        connection.close()
    yield
    with django_db_blocker.unblock():
        run("DELETE FROM aftercommit_job" if vendor == "sqlite" else "TRUNCATE aftercommit_job")
        connection.close()


@pytest.fixture(autouse=True)
def empty_tables(full_table, transactional_db):
    """Undo what a test has written, instead of emptying the table."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


class Plans:
    """How the database means to carry out the statements of a call."""

    def __init__(self):
        self._found = []
        self._explaining = False

    def __call__(self, execute, sql, params, many, context):
        """Explain every statement on our table before it is carried out."""
        if "aftercommit_job" in sql and not self._explaining and "INSERT" not in sql:
            self._explaining = True
            explain = "EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN "
            with connection.cursor() as cursor:
                cursor.execute(explain + sql, params)
                rows = cursor.fetchall()
            self._found.append((sql, "\n".join(str(row) for row in rows)))
            self._explaining = False
        return execute(sql, params, many, context)

    @property
    def texts(self):
        """The plans, without their statements."""
        assert self._found
        return [text for _sql, text in self._found]

    def must_not_read_all(self):
        """Require that no statement reads the whole table."""
        for sql, text in self._found:
            assert not reads_all(text), f"{sql}\n{text}"


def reads_all(plan):
    if connection.vendor == "postgresql":
        return "Seq Scan on aftercommit_job" in plan
    if connection.vendor == "mysql":
        return any("aftercommit_job'" in line and "'ALL'" in line for line in plan.splitlines())
    return any(
        line
        for line in plan.splitlines()
        if "SCAN" in line and "aftercommit_job" in line and "INDEX" not in line
    )


def sorts(plan):
    return any(word in plan for word in ("Sort", "filesort", "TEMP B-TREE"))


@pytest.fixture
def plans():
    """Explain what the test asks the store to do."""
    plans = Plans()
    with connection.execute_wrapper(plans):
        yield plans


@pytest.fixture
def primary(vendor):
    """Return the name of the primary key's index."""
    return PRIMARY[vendor]


@pytest.fixture
def claimed(store):
    """Claim jobs, before anything is explained."""
    return claim_all(store, limit=50)


@pytest.mark.parametrize("limit", [1, 10, 100])
def test_a_claim_walks_the_index_of_due_jobs_and_sorts_nothing(store, plans, limit):
    claims = claim_all(store, limit=limit, unknown=["app.tasks.new"], backends=["default"])

    assert len(claims) == limit
    plans.must_not_read_all()
    assert DUE in plans.texts[0]
    assert not any(sorts(text) for text in plans.texts)


def test_named_jobs_are_claimed_without_a_look_at_the_others(store, plans):
    named = ready_jobs(store, 3)

    assert len(claim_all(store, only=named)) == 3

    plans.must_not_read_all()


def test_a_lease_is_renewed_by_primary_key(store, claimed, plans, primary):
    held = store.renew(claimed, lease=LEASE)

    assert len(held) == 50
    assert all(primary in text for text in plans.texts)
    plans.must_not_read_all()


def test_outcomes_are_written_by_primary_key(store, claimed, plans, primary):
    outcomes = [Succeeded(), Retry(ERROR), Failed(ERROR)] * 17

    assert len(store.finish_many(list(zip(claimed, outcomes[:50], strict=True)))) == 50

    assert all(primary in text for text in plans.texts)
    assert not any(LEASES in text for text in plans.texts)
    plans.must_not_read_all()


def test_one_outcome_is_written_by_primary_key(store, claimed, plans, primary):
    assert store.finish(claimed[0], Succeeded())

    assert primary in plans.texts[0]
    plans.must_not_read_all()


@pytest.fixture
def dead_entries(store, vendor):
    """Leave entries of jobs that ran and ended in the index of leases."""
    if vendor != "postgresql":
        pytest.skip("only PostgreSQL keeps them until it is vacuumed")
    for _batch in range(4):
        claims = claim_all(store, limit=500, queue="mail")
        store.finish_many([(claim, Succeeded()) for claim in claims])


def test_many_dead_entries_do_not_lead_outcomes_astray(
    store, dead_entries, claimed, plans, primary
):
    assert len(store.finish_many([(claim, Succeeded()) for claim in claimed])) == 50

    assert all(primary in text for text in plans.texts)
    assert not any(LEASES in text for text in plans.texts)


def test_silent_workers_are_found_by_the_index_of_leases(store, plans, primary):
    claim_all(store, limit=5, lease=ALREADY_OVER)
    plans._found.clear()

    assert len(store.rescue(max_crashes=MOST_CRASHES, dead_workers=[uuid4()])) == 5

    assert LEASES in plans.texts[0]
    assert all(primary in text for text in plans.texts[1:])
    plans.must_not_read_all()


def test_old_jobs_are_found_by_the_index_of_finished_ones(store, plans, primary):
    assert store.prune(older_than=timedelta(hours=1), limit=100) == 100

    *looks, lock, delete = plans.texts
    assert 1 <= len(looks) <= len(FINISHED)
    assert all(OLD in text and not sorts(text) for text in looks)
    assert primary in lock
    assert primary in delete, delete
    plans.must_not_read_all()


def test_jobs_are_read_cancelled_and_retried_by_primary_key(store, plans, primary):
    job_id, other_id = ready_jobs(store, 2)

    store.job(job_id)
    store.cancel([job_id, other_id])
    store.retry([job_id])

    assert all(primary in text for text in plans.texts)
    plans.must_not_read_all()


def test_the_holder_of_a_key_is_found_by_the_index_of_keys(store, plans):
    first, second = new_job(unique_key="key"), new_job(unique_key="key")

    assert store.insert([first, second]) == [first.id, first.id]

    # MySQL looks while it plans: where there is no such key, there is nothing to plan.
    assert all(KEYS in text or "const table" in text for text in plans.texts)
    plans.must_not_read_all()


def test_queues_are_found_without_reading_all_their_jobs(store, plans):
    assert store.queues() == ["default", "mail"]

    assert DUE in plans.texts[0]
    plans.must_not_read_all()


def test_what_is_asked_often_can_do_without_the_finished_jobs(store, plans, vendor):
    if vendor == "postgresql":
        run("SET LOCAL enable_seqscan = off")  # as good where most jobs are ready, as here
    store.workers.announce(uuid4(), locked=True)

    assert store.counts() == {"ready": 200_000, "running": 0}
    assert store.oldest_due_age() > timedelta(hours=1)
    assert len(store.due(limit=10)) == 10
    store.look(uuid4())

    plans.must_not_read_all()


def test_a_claim_locks_no_more_than_it_takes(store, new_caller, vendor):
    if vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    first, second = new_caller(), new_caller()
    claiming = Held(first, lambda: claim_all(store, limit=10))

    begun = second.start(undone, lambda: claim_all(store, limit=10))

    assert not second.must_wait(begun)
    taken = {claim.job_id for claim in claiming.result}
    assert len(taken | {claim.job_id for claim in answer(begun)}) == 20
    claiming.roll_back()


def undone(call):
    with transaction.atomic():
        result = call()
        transaction.set_rollback(True)
    return result
