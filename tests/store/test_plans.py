"""Every statement of the store finds its rows by an index, however full the table is.

The table has as many succeeded and failed jobs as jobs for later and due ones, with ids in the
order of time. What is read is counted, where a plan does not tell.
"""

import json
from contextlib import contextmanager
from datetime import timedelta
from uuid import uuid4

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.http import HttpResponse
from django.test import RequestFactory
from django.urls import resolve, reverse
from django.utils import timezone

from aftercommit.dashboard.visit import Visit
from aftercommit.models import Job, Slot
from aftercommit.options.choice import QueueChoice
from aftercommit.options.conf import BackendOptions
from aftercommit.store.aside import FRONT, Front
from aftercommit.store.browsing import MOST_SORTED
from aftercommit.store.criteria import Criteria
from aftercommit.store.pruning import FIRST_ID
from aftercommit.store.selecting import ONE_BATCH, ONE_WINDOW
from aftercommit.values import Failed, Retry, Succeeded
from aftercommit.worker.claiming.fetcher import Fetcher
from aftercommit.worker.config import Served
from aftercommit.worker.crashed import CrashedJobs
from aftercommit.worker.leases import Leases
from aftercommit.worker.rules import RulesInForce
from tests import tiers
from tests.store.callers import Held, answer, statements
from tests.store.given import (
    ALREADY_OVER,
    ERROR,
    LEASE,
    MOST_CRASHES,
    claim_all,
    new_job,
    old_claim,
    ready_jobs,
)

# Without apps no table is emptied after a test.
pytestmark = pytest.mark.django_db(transaction=True, available_apps=[])

EACH = tiers.size(change=100_000, full=1_000_000)  # succeeded, failed, for later, due
ROWS = 4 * EACH
PRIMARY = {
    "postgresql": "aftercommit_job_pkey",
    "mysql": "PRIMARY",
    "sqlite": "sqlite_autoindex_aftercommit_job_1",
}
CLAIMABLE, OLD_LEASES = "aftercommit_job_claimable", "aftercommit_job_lease"
UNSUCCESSFUL, CRASHED = "aftercommit_job_unsuccessful", "aftercommit_job_crashed"
KEYS = "aftercommit_job_unique"
QUEUES = 1000  # with jobs for later only, beside "idle", where most of them are

# The numbers are made in steps, so that no server keeps a million of them in memory.
FILL = """
INSERT INTO aftercommit_job (
    id, task_path, payload, meta, backend, queue, priority, state, claimable, unsuccessful,
    run_after, enqueued_at, finished_at, token, attempts, crashes, conflicts, max_attempts,
    cancel_requested, unique_until_started, errors
)
{recursive}
SELECT
    {id}, 'tests.app.tasks.add', '{{"args":[],"kwargs":{{}}}}', '{{}}',
    CASE WHEN i % 48 = 2 THEN 'other' ELSE 'default' END,
    CASE
        WHEN i % 8 = 2 THEN 'idle'
        WHEN i % 16 = 6 THEN {name_of_queue}
        WHEN i % 40 = 3 THEN 'mail'
        ELSE 'default'
    END,
    CASE WHEN i % 16 = 6 THEN 0 ELSE i % 5 - 2 END,
    CASE i % 4 WHEN 0 THEN 'succeeded' WHEN 1 THEN 'failed' ELSE 'ready' END,
    i % 4 > 1, i % 4 = 1,
    CASE WHEN i % 4 = 2 THEN {later} ELSE {earlier} END, {earlier},
    CASE WHEN i % 4 < 2 THEN {earlier} END,
    1, 1, 0, 0, 5, FALSE, FALSE, '[]'
FROM {numbers}
"""
RECURSIVE = f"""
WITH RECURSIVE numbers (i) AS (
    SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i < {ROWS}
)
"""
STATISTICS = {
    "postgresql": "VACUUM ANALYZE aftercommit_job",
    "mysql": "ANALYZE TABLE aftercommit_job",
    "sqlite": "SELECT 'most databases are never analysed'",
}
# Seconds: all jobs were enqueued in the last 20 days, one after the other.
AGE = f"(20 * 86400.0 * ({ROWS} - i) / {ROWS} + 3600)"
VENDORS = {
    "postgresql": {
        "recursive": "",
        "id": f"(lpad(to_hex(floor(1000 * (extract(epoch FROM now()) - {AGE}))::bigint), 12, '0')"
        " || '70008' || lpad(to_hex(i), 15, '0'))::uuid",
        "name_of_queue": f"'queue ' || (i / 16 % {QUEUES})",
        "later": "now() + interval '1 day' + i * interval '1 second'",
        "earlier": f"now() - {AGE} * interval '1 second'",
        "numbers": f"generate_series(1, {ROWS}) AS i",
    },
    "mysql": {
        "recursive": RECURSIVE,
        "id": f"LOWER(CONCAT(LPAD(HEX(FLOOR(1000 * (UNIX_TIMESTAMP(NOW(3)) - {AGE}))), 12, '0'),"
        " '70008', LPAD(HEX(i), 15, '0')))",
        "name_of_queue": f"CONCAT('queue ', i DIV 16 % {QUEUES})",
        "later": "UTC_TIMESTAMP(6) + INTERVAL 86400 + i SECOND",
        "earlier": f"UTC_TIMESTAMP(6) - INTERVAL FLOOR(1000000 * {AGE}) MICROSECOND",
        "numbers": "numbers",
    },
    "sqlite": {
        "recursive": RECURSIVE,
        "id": "printf('%012x70008%015x',"
        f" CAST(1000 * (strftime('%s', 'now') - {AGE}) AS INTEGER), i)",
        "name_of_queue": f"'queue ' || (i / 16 % {QUEUES})",
        "later": "strftime('%Y-%m-%d %H:%M:%f000', 'now', '+1 day', '+' || i || ' seconds')",
        "earlier": f"strftime('%Y-%m-%d %H:%M:%f000', 'now', '-' || {AGE} || ' seconds')",
        "numbers": "numbers",
    },
}


def run(sql, given=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, given)
        return cursor.fetchall() if cursor.description else []


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


class Reads:
    """How much the database has read for the statements of a block.

    PostgreSQL: pages; MySQL and MariaDB: rows; SQLite: steps of its machine, some dozen for
    each row.
    """

    def __init__(self):
        self.count = 0
        self._explaining = False

    @contextmanager
    def of_postgresql(self):
        """Carry out each statement once for the count, and undo it."""
        with connection.execute_wrapper(self._explain):
            yield

    def _explain(self, execute, sql, params, many, context):
        if not self._explaining and "aftercommit" in sql and not sql.startswith("EXPLAIN"):
            self._explaining = True
            with transaction.atomic():
                plan = run(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", params)[0][0]
                transaction.set_rollback(True)
            (found,) = json.loads(plan) if isinstance(plan, str) else plan
            blocks = found["Plan"]
            self.count += blocks["Shared Hit Blocks"] + blocks["Shared Read Blocks"]
            self._explaining = False
        return execute(sql, params, many, context)

    @contextmanager
    def of_mysql(self):
        """Ask the session for its counters, less what the question itself reads."""
        first, second = self._handlers(), self._handlers()
        yield
        self.count = self._handlers() - second - (second - first)

    def _handlers(self):
        return sum(int(value) for _name, value in run("SHOW SESSION STATUS LIKE 'Handler_read%'"))

    @contextmanager
    def of_sqlite(self):
        """Count the steps by ten."""

        def ten_steps():
            self.count += 10
            return 0

        connection.connection.set_progress_handler(ten_steps, 10)
        yield
        connection.connection.set_progress_handler(None, 0)


@contextmanager
def reads():
    """Count what is read in the block."""
    found = Reads()
    with getattr(found, f"of_{connection.vendor}")():
        yield found


def at_most(*, pages, rows, steps):
    """Return the limit for this database."""
    return {"postgresql": pages, "mysql": rows, "sqlite": steps}[connection.vendor]


PRIORITIES = range(2, -3, -1)


class Plans:
    """How the database means to carry out the statements of a call."""

    def __init__(self):
        self._found = []
        self._explaining = False

    def __call__(self, execute, sql, params, many, context):
        """Explain every statement on our table before it is carried out."""
        if self._is_ours(sql) and not self._explaining:
            self._explaining = True
            explain = "EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN "
            with connection.cursor() as cursor:
                cursor.execute(explain + sql, params)
                rows = cursor.fetchall()
            self._found.append((sql, "\n".join(str(row) for row in rows)))
            self._explaining = False
        return execute(sql, params, many, context)

    def _is_ours(self, sql):
        ours = "aftercommit_job" in sql and "INSERT INTO aftercommit_job" not in sql
        return ours and not sql.startswith("EXPLAIN")

    @property
    def texts(self):
        """The plans, without their statements."""
        assert self._found
        return [text for _sql, text in self._found]

    def must_not_read_all(self, unless=" "):
        """Require that no statement reads the whole table; ``unless`` it ends like that."""
        for sql, text in self._found:
            assert sql.endswith(unless) or not reads_all(text), f"{sql}\n{text}"


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
def test_a_claim_walks_the_index_of_claimable_jobs(store, plans, limit):
    claims = claim_all(store, limit=limit, unknown=["app.tasks.new"], backends=["default"])

    assert len(claims) == limit
    plans.must_not_read_all()
    assert CLAIMABLE in plans.texts[0]


@pytest.mark.parametrize("limit", [1, 10, 100])
def test_a_claim_reads_little_more_than_it_takes(store, limit):
    """So nothing is sorted, although due jobs of five priorities stand among those for later."""
    groups = [(backend, priority) for priority in PRIORITIES for backend in ("default", "other")]
    with reads() as found:
        claims = claim_all(store, limit=limit, groups=groups)

    assert len(claims) == limit
    each = at_most(pages=40, rows=10, steps=1000)
    assert found.count <= at_most(pages=300, rows=100, steps=6000) + limit * each


@pytest.mark.parametrize("backends", [["default"], ["other", "default", "third"]], ids=str)
def test_an_idle_claim_reads_none_of_the_jobs_for_later(store, backends):
    assert Job.objects.filter(queue="idle").count() == EACH // 2

    groups = [(backend, priority) for priority in PRIORITIES for backend in backends]
    with reads() as found:
        claims = claim_all(store, queue="idle", groups=groups)

    assert claims == []
    assert found.count <= at_most(pages=150, rows=60, steps=3000)


def test_due_groups_are_found_by_one_look_at_each(store, plans):
    with reads() as found:
        due = store.due_groups()

    assert {group[:2] for group in due} == {("default", "default"), ("default", "mail")}
    looks = QUEUES + 20  # those with one priority, and the few with several
    assert found.count <= looks * at_most(pages=20, rows=2, steps=150)
    plans.must_not_read_all()


def test_a_poll_of_an_idle_worker_is_one_statement_whatever_lies_in_the_future(store):
    queues = ("idle", *(f"queue {number}" for number in range(QUEUES)))
    assert (
        Job.objects.filter(queue__in=queues, run_after__gt=timezone.now()).count()
        == EACH * 3 // 4
    )
    fetcher = fetcher_for(store, queues)
    assert fetcher.fetch(limit=4) == []  # the first one also looks for lines

    with reads() as read, statements() as asked:
        assert fetcher.fetch(limit=4) == []

    ours = [sql for sql, _given in asked if "aftercommit" in sql and "EXPLAIN" not in sql]
    assert len(ours) == 1
    assert read.count <= (QUEUES + 20) * at_most(pages=20, rows=2, steps=150)


def test_whether_messages_wait_is_one_step_in_the_index_of_each_queue(store, plans):
    given = {"backend": "default", "priority": 0, "after": timedelta(minutes=1)}
    with reads() as read:
        assert not store.neglected(("idle", "queue 1"), **given)

    assert read.count <= at_most(pages=50, rows=10, steps=500)
    plans.must_not_read_all()
    assert store.neglected(("idle", "mail"), **given | {"priority": 1})


def fetcher_for(store, queues):
    """Return the fetcher of a worker for queues."""
    served = Served(
        using=store.alias,
        queues=None if queues is None else QueueChoice.of(queues),
        backends=(),
        options=BackendOptions(),
        relays=False,
    )
    rules = RulesInForce(store)
    return Fetcher(
        store,
        served,
        CrashedJobs(store, served, rules),
        Leases(),
        rules,
        worker_id=uuid4(),
        facts_of=lambda _claim: None,
    )


def test_jobs_with_crashes_are_found_by_their_own_index(store, plans):
    crashed = ready_jobs(store, 3)
    Job.objects.filter(id__in=crashed).update(crashes=1)
    given = {"due_within": LEASE, "queues": None, "backends": ["default"], "unknown": []}
    # PostgreSQL's first look marks the entries of rolled back tests as dead; the next skip them.
    store.crashed_jobs(**given, limit=10)
    plans._found.clear()

    with reads() as read:
        found = store.crashed_jobs(**given, limit=10)

    assert {one.job_id for one in found} == set(crashed)
    assert CRASHED in plans.texts[0]
    assert read.count <= at_most(pages=50, rows=20, steps=1000)


def test_named_jobs_are_claimed_without_a_look_at_the_others(store, plans):
    named = ready_jobs(store, 3)

    assert len(claim_all(store, only=named)) == 3

    plans.must_not_read_all()


@pytest.mark.parametrize("beside", [0, 500], ids=lambda number: f"{number} other queues")
def test_a_claim_reads_the_slots_of_its_queue_only_and_their_jobs_by_id(store, plans, beside):
    others = [
        Slot(key=f"queue:{number}", number=1, job_id=uuid4(), token=1) for number in range(beside)
    ]
    Slot.objects.bulk_create(others)
    given = {"groups": [("default", priority) for priority in PRIORITIES]}
    for one in claim_all(store, limit=5, at_once=20, **given):
        store.finish(one, Succeeded())
    claim_all(store, limit=5, at_once=20, **given)
    with reads() as found:
        claims = claim_all(store, limit=10, at_once=12, **given)

    assert len(claims) == 7
    assert found.count <= at_most(pages=700, rows=250, steps=16_000)
    plans.must_not_read_all()


def test_a_lease_is_renewed_by_primary_key(store, claimed, plans, primary):
    held = store.renew(claimed, lease=LEASE).held

    assert len(held) == 50
    assert all(primary in text for text in plans.texts)
    plans.must_not_read_all()


def test_outcomes_are_written_by_primary_key(store, claimed, plans, primary):
    outcomes = [Succeeded(), Retry(ERROR), Failed(ERROR)] * 17

    assert len(store.finish_many(list(zip(claimed, outcomes[:50], strict=True)))) == 50

    assert all(primary in text for text in plans.texts)
    assert not any(OLD_LEASES in text for text in plans.texts)
    plans.must_not_read_all()


def test_one_outcome_is_written_by_primary_key(store, claimed, plans, primary):
    assert store.finish(claimed[0], Succeeded())

    assert primary in plans.texts[0]
    plans.must_not_read_all()


@pytest.fixture
def dead_entries(store, vendor):
    """Leave entries of jobs that ran and ended in the index of claimable jobs."""
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
    assert not any(OLD_LEASES in text for text in plans.texts)


def test_jobs_of_lost_leases_are_found_by_primary_key(store, plans, primary):
    claim_all(store, limit=5, lease=ALREADY_OVER)
    plans._found.clear()

    with reads() as found:
        rescued = store.rescue(max_crashes=MOST_CRASHES, dead_workers=[uuid4()])

    assert len(rescued) == 5
    assert all(primary in text for text in plans.texts[:-1])
    assert OLD_LEASES in plans.texts[-1]
    plans.must_not_read_all()
    assert found.count <= at_most(pages=1000, rows=200, steps=20_000)


def test_jobs_that_version_0_1_has_claimed_are_found_by_the_index_of_their_leases(store, plans):
    (job_id,) = ready_jobs(store, 1)
    old_claim(store, job_id, lease=ALREADY_OVER, worker_id=uuid4())
    plans._found.clear()

    assert len(store.rescue(max_crashes=MOST_CRASHES, dead_workers=[uuid4()])) == 1

    assert OLD_LEASES in plans.texts[0]
    plans.must_not_read_all()


def test_old_jobs_are_found_by_primary_key_or_among_the_unsuccessful(store, plans, primary):
    assert store.prune(older_than=timedelta(days=10), states=["succeeded"], limit=100) == 100
    assert store.prune(older_than=timedelta(days=10), states=["failed"], limit=100) == 100

    look, lock, *kept, delete, look_of_failed, _lock, _delete = plans.texts
    assert not sorts(look)
    assert not sorts(look_of_failed)
    assert UNSUCCESSFUL in look_of_failed
    assert all(primary in text for text in (look, lock, delete))
    assert all(UNSUCCESSFUL in text for text in kept)  # on MySQL, who keeps rows is asked there
    plans.must_not_read_all()


@pytest.mark.parametrize(("days", "deleted"), [(10, 100), (30, 0)])
def test_pruning_reads_neither_young_jobs_nor_many_more_than_it_deletes(store, days, deleted):
    with reads() as found:
        assert store.prune(older_than=timedelta(days=days), limit=100) == deleted
        store.prune(older_than=timedelta(days=days), states=["succeeded"], limit=100)

    assert found.count <= at_most(pages=20, rows=5, steps=300) * (2 * deleted + 10)


def test_a_page_of_old_jobs_is_read_by_primary_key_and_deleted_by_it(store, plans, primary):
    found = store.page(after=FIRST_ID, older_than=timedelta(days=10), limit=100)
    assert len(found.ended) == 50
    assert store.delete_ended(found.ended).jobs == 50

    look, lock, *kept, delete = plans.texts
    assert not sorts(look)
    assert all(primary in text for text in (look, lock, delete))
    assert all(UNSUCCESSFUL in text for text in kept)
    plans.must_not_read_all()


@pytest.mark.parametrize(("days", "rows"), [(10, 100), (30, 0)])
def test_a_page_of_old_jobs_reads_no_other_rows(store, days, rows):
    middle = store.page(after=FIRST_ID, older_than=timedelta(days=15), limit=100).last
    with reads() as found:
        page = store.page(after=middle, older_than=timedelta(days=days), limit=100)

    assert len(page.ended) * 2 == rows
    assert found.count <= at_most(pages=20, rows=2, steps=300) * (rows + 10)


def test_jobs_are_read_cancelled_and_retried_by_primary_key(store, plans, primary):
    job_id, other_id = ready_jobs(store, 2)

    store.job(job_id)
    store.cancel([job_id, other_id])
    store.retry([job_id])

    assert all(primary in text for text in plans.texts)
    plans.must_not_read_all()


@pytest.mark.parametrize("states", [("failed",), ("failed", "cancelled")], ids=str)
def test_failed_jobs_are_found_by_an_index_that_has_no_others(store, plans, states):
    first = next(store.find(Criteria(states=states, queue="default")))

    assert len(first) == ONE_BATCH
    assert all(UNSUCCESSFUL in text for text in plans.texts)


def test_other_jobs_are_found_by_primary_key_a_window_at_a_time(store, primary):
    with reads() as found:
        rare = next(store.find(Criteria(states=("ready",), queue="queue 7")))

    assert rare
    each = at_most(pages=1, rows=3, steps=40)
    assert found.count <= each * 3 * ONE_WINDOW


def test_what_a_probe_asks_for_reads_a_small_part_of_the_table(store, plans):
    """Most of it for the 1,000 queues that hold jobs for later only."""
    with reads() as found:
        waiting = store.waiting(most=100)
        store.oldest_due_age()
        store.recent_waits(within=timedelta(minutes=1))
        store.recent_ends(within=timedelta(minutes=1))
        store.held_back("queue", most=100)
        store.held_back("task_path", most=100)
        store.waiting_by_task(most=100)
        store.running_by("queue")

    assert max(one.due for one in waiting) == 100
    plans.must_not_read_all()
    groups, walked = 3 * (QUEUES + 30), 10_000
    each = at_most(pages=48, rows=60, steps=2500)
    assert found.count <= groups * each + walked * at_most(pages=1, rows=3, steps=60)


@pytest.mark.parametrize("ask", ["depths", "ages", "the oldest", "ends"])
def test_a_thousand_queues_are_looked_at_by_few_statements(store, plans, vendor, ask):
    asks = {
        "depths": lambda: store.waiting(most=100),
        "ages": store.heads,
        "the oldest": store.oldest_due_age,
        "ends": lambda: store.recent_ends(within=timedelta(minutes=1)),
    }
    with reads() as read, statements() as asked:
        assert asks[ask]()

    ours = [sql for sql, _given in asked if "aftercommit" in sql and "EXPLAIN" not in sql]
    many = ask == "depths" and vendor == "mysql"  # there by 50 groups a statement
    assert len(ours) <= (50 if many else 5)
    plans.must_not_read_all()
    groups = QUEUES + 30
    each = at_most(pages=20, rows=2, steps=150)
    counted = {"depths": at_most(pages=130, rows=130, steps=4000), "ends": each}.get(ask, 0)
    walked = at_most(pages=1, rows=3, steps=60) * 5_000 if ask == "ends" else 0
    assert read.count <= groups * (each + counted) + walked


def test_states_are_told_from_a_small_part_of_the_table_and_about_right(store):
    with reads() as found:
        told = store.states(most=100)

    truth = {"ready": 2 * EACH, "failed": EACH, "succeeded": EACH}
    assert {one for one, number in told.items() if number.is_estimate} == {*truth, "cancelled"}
    for one, number in truth.items():
        assert 0.6 * number <= told[one].jobs <= 1.4 * number, told
    groups, sampled = 3 * (QUEUES + 30), 1000
    each = at_most(pages=48, rows=60, steps=2500)
    assert found.count <= groups * each + sampled * at_most(pages=60, rows=1, steps=200)


def test_a_batch_is_changed_by_primary_key(store, plans, primary):
    failed = Criteria(states=("failed",))
    ids = next(store.find(failed))
    before = len(plans.texts)

    assert len(store.retry_among(ids, failed).ready) == ONE_BATCH
    assert store.move(ids, Criteria(), queue="moved") == ONE_BATCH
    assert store.reprioritise(ids, Criteria(), priority=99) == ONE_BATCH
    assert len(store.cancel_among(ids, Criteria()).cancelled) == ONE_BATCH
    assert store.delete(ids, Criteria()) == ONE_BATCH

    assert all(primary in text for text in plans.texts[before:])


def test_the_holder_of_a_key_is_found_by_the_index_of_keys(store, plans):
    first, second = new_job(unique_key="key"), new_job(unique_key="key")

    assert store.insert([first, second]) == [first.id, first.id]

    # MySQL looks while it plans: where there is no such key, there is nothing to plan.
    assert all(KEYS in text or "const table" in text for text in plans.texts)
    plans.must_not_read_all()


def test_queues_are_found_without_reading_all_their_jobs(store, plans):
    assert set(store.queues()) > {"default", "idle", "mail"}

    assert CLAIMABLE in plans.texts[0]
    plans.must_not_read_all()


def test_what_is_asked_often_can_do_without_the_finished_jobs(store, plans, vendor):
    if vendor == "postgresql":
        run("SET LOCAL enable_seqscan = off")  # as good where half of the jobs are ready, as here
    store.workers.announce(uuid4(), locked=True)

    assert store.counts() == {"ready": 2 * EACH, "running": 0}
    if vendor == "mysql":  # the same
        plans._found.clear()
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


def test_only_the_first_jobs_of_a_group_are_looked_at_for_a_paused_task(store, plans):
    tasks = {"shop.tasks.gone"}
    store.set_aside("mail", [("default", 1)], tasks)
    plans._found.clear()

    with reads() as read:
        assert store.set_aside("mail", [("default", 1)], tasks) is Front.CLEAR

    assert CLAIMABLE in plans.texts[0]
    assert read.count <= at_most(pages=2 * FRONT, rows=2 * FRONT, steps=100 * FRONT)
    plans.must_not_read_all()


# Pages of the dashboard.

PAGES = {
    "all": Criteria(),
    "ready": Criteria(states=("ready",)),
    "running": Criteria(states=("running",)),
    "failed": Criteria(states=("failed",)),
    "succeeded": Criteria(states=("succeeded",)),
    "a queue": Criteria(queue="mail"),
    "no task": Criteria(task_paths=("shop.nowhere",)),
    "text": Criteria(states=("failed",), error_contains="no such text"),
}


@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_jobs_reads_a_part_of_the_table_that_does_not_grow(store, plans, name, order):
    page = store.browse(PAGES[name], size=50, order=order)

    assert len(page.jobs) == (0 if name in {"running", "no task", "text"} else 50)
    plans.must_not_read_all()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_jobs_reads_at_most_some_windows(store, name):
    with reads() as found:
        page = store.browse(PAGES[name], size=50)

    windows = 5 if name in {"no task", "text"} else 2
    assert page.is_cut is (windows == 5)
    assert found.count <= windows * at_most(pages=15_000, rows=60_000, steps=500_000)


def test_the_end_of_a_window_and_the_last_job_are_found_by_the_primary_key(store, plans, primary):
    end = store.end_of_window(None, Criteria())
    assert store.end_of_window(end, Criteria()) > end
    assert store.last_id() > end

    plans.must_not_read_all()
    assert all(primary in text for text in plans.texts)


# The lists of the admin, which are statements of Django's.

STATES = ("ready", "due", "later", "retrying", "running", "failed", "succeeded")
NOBODY = {"later", "running", "a tag", "a search", "no id"}
LISTS = {
    "all": {},
    "by age": {"o": "4"},  # the oldest first
    "a page behind": {"p": "90"},
    **{one: {"state": one} for one in STATES},
    "a queue": {"queue": "mail"},
    "a tag": {"tag": "eu"},
    "a search": {"q": "nowhere"},
    "no id": {"q": str(uuid4())},
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_of_the_admin_reads_a_part_of_the_table(name, monkeypatch):
    monkeypatch.setattr("aftercommit.windows.admin.bounded.MOST_SEARCHED", 20_000)
    for room in ("filters", "jobs"):
        monkeypatch.setattr(f"aftercommit.windows.admin.{room}.databases", lambda: ["default"])
    request = RequestFactory().get("/", LISTS[name])
    request.user = User(pk=1, is_active=True, is_superuser=True)
    with reads() as found:
        listed = admin.site.get_model_admin(Job).get_changelist_instance(request)
        rows = list(listed.result_list)

    assert len(rows) == (0 if name in NOBODY else 100)
    assert listed.result_count <= 10_000
    # What waits is half of this table: all of that is sorted, or looked through in vain.
    times = 7 if name in {"ready", "due", "later", "retrying"} else 1
    assert found.count <= times * at_most(pages=20_000, rows=130_000, steps=1_500_000)


# The pages of the dashboard.

DASHBOARD = (
    *("overview", "tasks", "queues", "schedules", "groups", "workers", "messages", "audit"),
    *("jobs", "jobs?state=ready", "jobs?state=failed", "jobs?state=ready&order=due"),
    *("jobs?state=succeeded&queue=mail", "jobs?error=nowhere"),
)


@pytest.mark.parametrize("page", DASHBOARD)
def test_a_page_of_the_dashboard_reads_a_part_of_the_table(page, monkeypatch, plans):
    # Without apps no template is found.
    monkeypatch.setattr(Visit, "render", lambda *_given, **_context: HttpResponse("shown"))
    name, _mark, query = page.partition("?")
    address = reverse(f"aftercommit_dashboard:{name}", kwargs={"using": "default"})
    request = RequestFactory().get(f"{address}?{query}")
    request.user = User(pk=1, is_active=True, is_staff=True, is_superuser=True)
    request.resolver_match = resolve(address)

    answer = request.resolver_match.func(request, **request.resolver_match.kwargs)

    assert answer.content == b"shown"
    # What takes any 10,000 that wait, where half of the table waits, may begin at its first row.
    plans.must_not_read_all(unless=f"LIMIT {MOST_SORTED}")
