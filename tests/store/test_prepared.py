"""INSERTs of jobs as prepared statements on PostgreSQL, where nobody can tell the difference."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.core.exceptions import SynchronousOnlyOperation
from django.db import (
    DatabaseError,
    IntegrityError,
    OperationalError,
    connection,
    connections,
    transaction,
)
from django.db.backends import utils
from django.db.backends.postgresql import base
from django.db.transaction import TransactionManagementError
from django.test.testcases import DatabaseOperationForbidden, _DatabaseFailure
from django.test.utils import CaptureQueriesContext, override_settings
from django.utils.asyncio import async_unsafe

from aftercommit.models import Job
from tests.store.callers import statements
from tests.store.given import insert_alike, new_job, ready_job, ready_jobs, state
from tests.store.pooler import transaction_pooler

pytestmark = [
    pytest.mark.skipif(settings.DATABASE_KIND != "postgres", reason="of PostgreSQL"),
    pytest.mark.django_db(transaction=True),
]

ENOUGH = 6  # executions, of which the last one is prepared
CURSORS = ["cursor", "_cursor", "create_cursor", "_prepare_cursor", "make_cursor"]
DROPS = ["DISCARD ALL", "DEALLOCATE ALL", "/* all */ deallocate all", "SELECT 1; DEALLOCATE ALL"]
PREPARED = "SELECT statement FROM pg_prepared_statements WHERE name LIKE 'aftercommit%'"


@pytest.fixture(autouse=True)
def own_connection(transactional_db: None) -> Iterator[None]:
    """Let each test begin with a connection on which nothing has happened."""
    connection.close()
    yield
    connection.close()


@contextmanager
def configured(**changed: Any) -> Iterator[None]:
    """Connect with other settings while the block lasts."""
    before = dict(connection.settings_dict)
    connection.close()
    connection.settings_dict.update(changed)
    try:
        yield
    finally:
        connection.close()
        connection.close_pool()
        connection.settings_dict.clear()
        connection.settings_dict.update(before)


def run(sql: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else []


def prepared() -> int:
    """Return how many statements of ours the session has prepared."""
    return len(run(PREPARED))


def ready_and_prepared(store: Any) -> None:
    for _ in range(ENOUGH):
        ready_job(store)
    assert prepared() == 1


def is_used(store: Any) -> bool:
    """Return whether the prepared statement is executed for a job."""
    executions = "SELECT sum(generic_plans + custom_plans) FROM pg_prepared_statements"
    before = run(executions)
    ready_job(store)
    return run(executions) != before


# ---- when ---------------------------------------------------------------------------


def test_a_connection_that_enqueues_often_prepares_its_statement(store):
    ids = []
    for expected in [0] * (ENOUGH - 1) + [1, 1]:
        ids.append(ready_job(store))
        assert prepared() == expected

    assert is_used(store)
    assert {state(store, one) for one in ids} == {"ready"}


def test_each_kind_of_insert_has_a_statement_of_its_own(store):
    ready_and_prepared(store)

    holder = ready_job(store, unique_key="key")
    assert ready_job(store, unique_key="key") == holder
    ready_jobs(store, 3)
    insert_alike(store, [new_job(), new_job()])
    ready_job(store, max_attempts=40_000)  # for psycopg of another type

    assert prepared() == 5
    assert Job.objects.count() == ENOUGH + 1 + 3 + 2 + 1


def test_jobs_keep_what_they_were_given(store):
    ready_and_prepared(store)
    texts = ["NUL \\u0000", "'quotes', 100%, %s and %(id)s;--", "😀"]

    ids = [ready_job(store, queue=text, meta={"text": text}, priority=-7) for text in texts]

    rows = Job.objects.in_bulk(ids)
    assert [rows[one].queue for one in ids] == texts
    assert [rows[one].meta for one in ids] == [{"text": text} for text in texts]
    assert {rows[one].priority for one in ids} == {-7}


def test_the_users_threshold_counts(store):
    with configured(OPTIONS={"prepare_threshold": 0}):
        ready_job(store)

        assert prepared() == 1
        assert run("SELECT count(*) FROM pg_prepared_statements") == [(1,)]


@pytest.mark.parametrize(
    "changed",
    [
        {"OPTIONS": {"prepare_threshold": None}},
        {"DISABLE_SERVER_SIDE_CURSORS": True},
        {"OPTIONS": {"server_side_binding": True}},
        {"OPTIONS": {"cursor_factory": psycopg.ClientCursor}},
    ],
    ids=str,
)
def test_nothing_is_prepared_where_the_settings_speak_against_it(store, changed):
    with configured(**changed):
        ids = [ready_job(store) for _ in range(ENOUGH + 1)]

        assert prepared() == 0
        assert {state(store, one) for one in ids} == {"ready"}


def test_connections_of_a_pool_keep_their_statements(store):
    with configured(OPTIONS={"pool": {"min_size": 1, "max_size": 1}}):
        ready_and_prepared(store)
        connection.close()

        assert is_used(store)


# ---- transactions -------------------------------------------------------------------


def test_a_job_belongs_to_the_transaction(store, other):
    ready_and_prepared(store)

    with transaction.atomic():
        job_id = ready_job(store)
        before = other.do(state, store, job_id)

    assert (before, other.do(state, store, job_id)) == ("gone", "ready")


def test_a_job_is_enqueued_again_after_a_rollback_to_a_savepoint(store):
    ready_and_prepared(store)

    with transaction.atomic():
        with transaction.atomic():
            undone = ready_job(store)
            transaction.set_rollback(True)
        kept = ready_job(store)

    assert [state(store, undone), state(store, kept)] == ["gone", "ready"]
    assert is_used(store)


def test_a_statement_that_was_prepared_in_it_outlasts_a_rolled_back_transaction(store):
    with transaction.atomic():
        for _ in range(ENOUGH):
            ready_job(store)
        transaction.set_rollback(True)

    assert prepared() == 1
    assert is_used(store)


def test_a_rollback_leaves_the_users_own_statements(store):
    ready_and_prepared(store)
    run("PREPARE mine AS SELECT 1")

    with transaction.atomic():
        ready_job(store)
        transaction.set_rollback(True)

    assert run("EXECUTE mine") == [(1,)]


def test_a_job_belongs_to_a_raw_transaction(store):
    ready_and_prepared(store)
    run("BEGIN")
    undone = ready_job(store)
    run("ROLLBACK")
    run("BEGIN")
    kept = ready_job(store)
    run("COMMIT")

    assert [state(store, undone), state(store, kept)] == ["gone", "ready"]


@pytest.mark.parametrize("first", [True, False])
def test_a_job_belongs_to_a_transaction_without_autocommit(store, first):
    if not first:
        ready_and_prepared(store)
    connection.set_autocommit(False)
    try:
        undone = [ready_job(store) for _ in range(ENOUGH)]
        connection.rollback()
        kept = ready_job(store)
        connection.commit()
    finally:
        connection.set_autocommit(True)

    assert {state(store, one) for one in undone} == {"gone"}
    assert state(store, kept) == "ready"


def test_jobs_are_enqueued_between_copies(store):
    ready_and_prepared(store)
    run("CREATE TEMPORARY TABLE copied (number int)")
    with transaction.atomic(), connection.cursor() as cursor:
        for number in range(2):
            with cursor.copy("COPY copied FROM STDIN") as copy:
                copy.write_row([number])
            ready_job(store)

    assert run("SELECT count(*) FROM copied") == [(2,)]
    assert is_used(store)


def test_jobs_are_enqueued_in_a_pipeline(store):
    ready_and_prepared(store)

    job = new_job()

    with connection.connection.pipeline():
        store.insert([job])
    with connection.connection.pipeline(), pytest.raises(IntegrityError):  # at once
        store.insert([job])

    assert state(store, job.id) == "ready"


# ---- what else happens in the session -------------------------------------------------


@pytest.mark.parametrize("drops", DROPS)
def test_a_statement_that_was_dropped_is_prepared_anew(store, drops):
    for _ in range(2):
        for _ in range(ENOUGH):
            ready_job(store)
        run(drops)
        with transaction.atomic():
            job_id = ready_job(store)

        assert state(store, job_id) == "ready"
        assert prepared() == 1


def test_a_statement_that_was_dropped_in_a_transaction_is_prepared_anew(store):
    ready_and_prepared(store)

    with transaction.atomic():
        run("DEALLOCATE ALL")
        job_id = ready_job(store)

    assert state(store, job_id) == "ready"


def test_psycopg_may_drop_its_own_statements(store):
    with configured(OPTIONS={"prepare_threshold": 0}):
        ready_job(store)
        with transaction.atomic():
            psycopg.Cursor(connection.connection).execute("SELECT %s", [1])
            transaction.set_rollback(True)  # psycopg sends DEALLOCATE ALL
        with transaction.atomic():
            job_id = ready_job(store)

        assert state(store, job_id) == "ready"


@pytest.mark.parametrize("threshold", [None, 0, 2])
def test_psycopgs_own_statements_go_on(store, threshold):
    with configured(OPTIONS={"prepare_threshold": threshold} if threshold is not None else {}):
        connection.ensure_connection()
        raw = connection.connection
        for _ in range(2 * ENOUGH):
            assert raw.execute("SELECT %s::int", [1]).fetchone() == (1,)
            assert psycopg.Cursor(raw).execute("SELECT %s::int", [2]).fetchone() == (2,)
            ready_job(store)

        assert raw.prepare_threshold == threshold
        assert prepared() == 1
        theirs = "SELECT count(*) FROM pg_prepared_statements WHERE name LIKE '_pg3%'"
        assert run(theirs) == [(0 if threshold is None else 1,)]


def test_a_statement_that_is_lost_unseen_is_not_prepared_again(store):
    ready_and_prepared(store)
    connection.connection.pgconn.exec_(b"DEALLOCATE ALL")

    job_id = ready_job(store)
    ready_job(store)

    assert state(store, job_id) == "ready"
    assert prepared() == 0


def test_a_name_that_the_session_has_already_is_no_error(store):
    ready_and_prepared(store)
    connection.connection._prepared._ours.clear()  # as if a pooler had changed the session

    job_id = ready_job(store)

    assert state(store, job_id) == "ready"


def test_in_a_transaction_the_loss_of_a_statement_is_an_error_once(store):
    ready_and_prepared(store)
    connection.connection.pgconn.exec_(b"DEALLOCATE ALL")

    lost = r"prepared statement \"aftercommit_\w+\" does not exist"
    with pytest.raises(DatabaseError, match=lost), transaction.atomic():
        ready_job(store)
    with transaction.atomic():
        job_id = ready_job(store)

    assert state(store, job_id) == "ready"


@pytest.mark.parametrize(
    "change",
    [
        "ADD COLUMN more int NOT NULL DEFAULT 1",
        "ALTER COLUMN queue TYPE varchar(101)",
        "ALTER COLUMN max_attempts TYPE bigint",
    ],
)
def test_the_table_may_change_in_between(store, change):
    ready_and_prepared(store)

    with transaction.atomic():
        run(f"ALTER TABLE aftercommit_job {change}")
        job_id = ready_job(store)
        ready = run(f"SELECT count(*) FROM aftercommit_job WHERE id = '{job_id}'")
        transaction.set_rollback(True)

    assert ready == [(1,)]
    assert is_used(store)


def test_the_schema_may_change_in_between(store):
    ready_and_prepared(store)
    with transaction.atomic():
        run("CREATE SCHEMA tenant")
        run("CREATE TABLE tenant.aftercommit_job (LIKE aftercommit_job INCLUDING ALL)")
        run("SET LOCAL search_path = tenant")
        job_id = ready_job(store)
        found = run("SELECT id FROM tenant.aftercommit_job")
        transaction.set_rollback(True)

    assert found == [(job_id,)]


# ---- who watches ----------------------------------------------------------------------


def test_a_wrapper_sees_each_insert(store):
    ready_and_prepared(store)

    with statements() as seen:
        ready_job(store)

    assert ["INSERT" in sql for sql, _given in seen] == [True]


def test_the_log_of_queries_has_each_insert(store):
    ready_and_prepared(store)

    with CaptureQueriesContext(connection) as captured:
        ready_job(store)
    with override_settings(DEBUG=True):
        connection.queries_log.clear()
        ready_job(store)
        logged = [one["sql"] for one in connection.queries_log]

    assert ["INSERT" in one["sql"] for one in captured] == [True]
    assert ["INSERT" in one for one in logged] == [True]


def test_a_test_that_may_not_use_the_database_does_not(store, monkeypatch):
    ready_and_prepared(store)
    allowed = connection.cursor

    with monkeypatch.context() as patch:
        patch.setattr(connection, "cursor", _DatabaseFailure(allowed, "not here"))
        with pytest.raises(DatabaseOperationForbidden, match="not here"):
            ready_job(store)
    connection.cursor = allowed  # as Django does after such a test
    try:
        assert is_used(store)
    finally:
        del connection.cursor


def test_a_test_without_a_database_does_not_use_it(store, django_db_blocker):
    ready_and_prepared(store)

    with transaction.atomic():
        with django_db_blocker.block(), pytest.raises(RuntimeError, match="access not allowed"):
            ready_job(store)
        job_id = ready_job(store)

    assert state(store, job_id) == "ready"


@pytest.mark.parametrize("decorated", [lambda method: method, async_unsafe])
@pytest.mark.parametrize("name", CURSORS)
def test_a_connection_of_another_class_sees_each_cursor(store, monkeypatch, name, decorated):
    ready_and_prepared(store)
    seen = []
    of_django = type(connections["default"])
    plain = getattr(of_django, name)

    def watched(self: Any, *given: Any) -> Any:
        seen.append(self)
        return plain(self, *given)

    monkeypatch.setattr(of_django, name, decorated(watched))
    ready_job(store)

    assert len(seen) == 1


@pytest.mark.parametrize("name", ["execute", "_execute", "_execute_with_wrappers"])
def test_who_patches_djangos_cursor_sees_each_insert(store, monkeypatch, name):
    ready_and_prepared(store)
    seen = []
    plain = getattr(utils.CursorWrapper, name)

    def watched(self: Any, sql: str, *given: Any, **more: Any) -> Any:
        seen.append(sql)
        return plain(self, sql, *given, **more)

    watched.__module__ = plain.__module__  # as functools.wraps() does
    watched.__wrapped__ = plain
    monkeypatch.setattr(utils.CursorWrapper, name, watched)
    ready_job(store)

    assert ["INSERT" in sql for sql in seen] == [True]


def test_who_patches_with_a_proxy_sees_each_insert(store, monkeypatch):
    ready_and_prepared(store)
    seen = []
    plain = utils.CursorWrapper.execute

    class Proxy:  # as wrapt makes it: with every attribute of the function
        __globals__ = plain.__globals__

        def __get__(self, cursor: Any, _owner: type) -> Any:
            if cursor is None:
                return self
            seen.append(cursor)
            return plain.__get__(cursor)

    monkeypatch.setattr(utils.CursorWrapper, "execute", Proxy())
    ready_job(store)

    assert len(seen) == 1


@pytest.mark.parametrize(
    ("patched", "name"), [(psycopg.Connection, "cursor"), (base.Cursor, "execute")]
)
def test_who_patches_the_driver_sees_each_insert(store, monkeypatch, patched, name):
    ready_and_prepared(store)
    seen = []
    plain = getattr(patched, name)

    def watched(self: Any, *given: Any, **more: Any) -> Any:
        seen.append(self)
        return plain(self, *given, **more)

    monkeypatch.setattr(patched, name, watched)
    ready_job(store)

    assert len(seen) == 1


def test_who_wraps_the_drivers_connection_sees_each_cursor(store, monkeypatch):
    ready_and_prepared(store)
    seen = []
    raw = connection.connection
    plain = raw.cursor

    def watched(*given: Any, **more: Any) -> Any:
        seen.append(given)
        return plain(*given, **more)

    monkeypatch.setattr(raw, "cursor", watched)
    ready_job(store)

    assert len(seen) == 1


def test_nothing_is_prepared_on_a_connection_of_another_class(store, monkeypatch):
    class Traced(psycopg.Connection):
        pass

    monkeypatch.setattr(psycopg, "connect", Traced.connect)
    with configured():
        for _ in range(ENOUGH):
            ready_job(store)

        assert prepared() == 0


# ---- errors -----------------------------------------------------------------------------


def test_errors_are_djangos(store):
    ready_and_prepared(store)
    job = new_job()
    store.insert([job])

    with pytest.raises(IntegrityError) as caught:
        store.insert([job])

    assert isinstance(caught.value.__cause__, psycopg.errors.UniqueViolation)
    assert is_used(store)


def test_a_broken_transaction_takes_no_job(store):
    ready_and_prepared(store)
    job = new_job()
    store.insert([job])

    with transaction.atomic():
        with pytest.raises(IntegrityError), transaction.atomic(savepoint=False):
            store.insert([job])
        with pytest.raises(TransactionManagementError):
            ready_job(store)
        transaction.set_rollback(True)


def test_a_transaction_that_the_server_has_given_up_takes_no_job(store):
    ready_and_prepared(store)
    run("BEGIN")
    with pytest.raises(DatabaseError):
        run("SELECT 1/0")

    with pytest.raises(DatabaseError, match="current transaction is aborted"):
        ready_job(store)
    run("ROLLBACK")

    assert is_used(store)


def test_a_lost_connection_is_djangos_error_and_outside_a_transaction_repeated(store, other):
    ready_and_prepared(store)
    end = "SELECT pg_terminate_backend({})"
    with pytest.raises(OperationalError), transaction.atomic():
        other.do(run, end.format(connection.connection.info.backend_pid))
        ready_job(store)
    connection.close()
    ready_and_prepared(store)

    other.do(run, end.format(connection.connection.info.backend_pid))
    job_id = ready_job(store)

    assert state(store, job_id) == "ready"


def test_an_event_loop_is_refused(store):
    ready_and_prepared(store)

    async def enqueue() -> None:
        ready_job(store)

    with transaction.atomic(), pytest.raises(SynchronousOnlyOperation):
        asyncio.run(enqueue())


def test_another_thread_is_refused(store):
    ready_and_prepared(store)
    refused = []
    mine = type(store).connection.fget(store)

    class Shared(type(store)):
        connection = mine

    def enqueue() -> None:
        with pytest.raises(DatabaseError, match="can only be used in that same thread"):
            ready_job(Shared("default"))
        refused.append(True)

    thread = Thread(target=enqueue)
    thread.start()
    thread.join()

    assert refused


def test_the_values_of_a_large_job_are_not_kept(store):
    ready_and_prepared(store)
    statements_of = connection.connection._prepared

    ready_job(store, payload='{"args":["' + "x" * 100_000 + '"],"kwargs":{}}')

    assert statements_of._free == []


# ---- poolers ------------------------------------------------------------------------------


@pytest.mark.parametrize("own_numbers", [True, False], ids=["known", "hidden"])
def test_behind_a_pooler_nothing_is_lost(store, own_numbers):
    address = connection.settings_dict["HOST"], connection.settings_dict["PORT"]
    with (
        transaction_pooler(*address, own_numbers=own_numbers) as port,
        configured(HOST="127.0.0.1", PORT=str(port)),
    ):
        ids = [ready_job(store) for _ in range(3 * ENOUGH)]
        with transaction.atomic():
            ids += [ready_job(store) for _ in range(3 * ENOUGH)]
        found = [prepared() for _ in range(2)]

    assert {state(store, one) for one in ids} == {"ready"}
    assert found == [0, 0] or not own_numbers
