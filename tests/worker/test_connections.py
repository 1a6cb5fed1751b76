"""What tasks do to their sessions and connections, one by one; see also test_session."""

from datetime import timedelta

import pytest
from django.db import Error, connection, connections, transaction

from aftercommit.models import State
from aftercommit.worker.running import connections as session
from tests.databases import ALIASES
from tests.worker.rig import another_connection, commits, effects, leave, sql
from tests.worker.test_conflicts import kill_my_connection

pytestmark = commits

CHANGES = {
    "postgresql": [
        ("SET statement_timeout = '1234ms'", "SHOW statement_timeout"),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SHOW transaction_read_only"),
        ("SET default_transaction_read_only = on", "SHOW default_transaction_read_only"),
        ("SELECT set_config('app.tenant', 'acme', false)", "SHOW app.tenant"),
        ("SET ROLE pg_monitor", "SELECT current_user"),
        ("CREATE TEMP TABLE tests_temp (id int)", "SELECT to_regclass('tests_temp')::text"),
        ("CREATE TEMPORARY TABLE tests_temp (id int)", "SELECT to_regclass('tests_temp')::text"),
        ("SELECT pg_advisory_lock(77)", "SELECT count(*) FROM pg_locks WHERE objid = 77"),
        ("LISTEN tests", "SELECT count(*) FROM pg_listening_channels()"),
        ("PREPARE tests AS SELECT 1", "SELECT count(*) FROM pg_prepared_statements"),
    ],
    "mysql": [
        ("SET SESSION max_sort_length = 1024 + 8", "SELECT @@max_sort_length"),
        ("SET SESSION sql_mode = ''", "SELECT @@sql_mode"),
        ("SET @tenant = 'acme'", "SELECT @tenant"),
        ("SELECT GET_LOCK('tests', 0)", "SELECT IS_USED_LOCK('tests') IS NULL"),
    ],
    "sqlite": [
        ("PRAGMA foreign_keys = OFF", "PRAGMA foreign_keys"),
        ("PRAGMA recursive_triggers = ON", "PRAGMA recursive_triggers"),
        ("CREATE TEMPORARY TABLE tests_temp (id int)", "SELECT name FROM temp.sqlite_master"),
        ("ATTACH DATABASE ':memory:' AS tests", "SELECT COUNT(*) FROM pragma_database_list"),
    ],
}
# Without effect, or without the right to record the completion.
NOT_IN_A_TRANSACTION = ("PRAGMA foreign_keys", "ATTACH", "LISTEN", "SET SESSION CHAR", "SET ROLE")


def ask(question):
    """Return the answer of this thread's session, or that it knows none."""
    try:
        return sql(question)
    except Error as error:
        assert "unrecognized configuration parameter" in str(error)
        connection.rollback()
        return None


@pytest.mark.parametrize(("change", "question"), CHANGES[connection.vendor])
@pytest.mark.parametrize("atomic", [False, True], ids=["plain", "atomic"])
def test_what_a_task_changes_about_its_session_is_gone_afterwards(rig, change, question, atomic):
    if atomic and change.startswith(NOT_IN_A_TRANSACTION):
        pytest.skip("not in a transaction")
    before = ask(question)

    def body(context):
        sql(change)
        assert ask(question) != before

    job = rig.run(body, atomic=atomic, max_attempts=1)

    assert job.state == State.SUCCEEDED
    assert ask(question) == before


def begin():
    """Open a transaction past Django."""
    leave("before")
    sql("BEGIN")
    leave("inside")


def set_autocommit():
    """Open one as Django allows it."""
    leave("before")
    transaction.set_autocommit(False)
    leave("inside")


def enter_and_stay():
    """Enter a block that is never left."""
    leave("before")
    transaction.atomic().__enter__()
    leave("inside")


@pytest.mark.parametrize("open_one", [begin, set_autocommit, enter_and_stay])
def test_a_transaction_that_a_plain_task_left_open_is_undone(rig, open_one):
    rig.run(lambda context: open_one(), max_attempts=1)

    assert not connection.in_atomic_block
    assert (effects("before"), effects("inside")) == (1, 0)
    assert rig.run(lambda context: leave("next"), atomic=True).state == State.SUCCEEDED
    with another_connection() as other, other.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM app_effect WHERE app_effect.key = 'next'")
        assert cursor.fetchone() == (1,)


def test_a_connection_that_a_task_has_closed_is_no_harm_to_the_next(rig):
    rig.run(lambda context: connection.close())

    assert rig.run(lambda context: leave("next")).state == State.SUCCEEDED


def test_a_drivers_connection_that_a_task_has_closed_is_no_harm_to_the_next(rig):
    def body(context):
        sql("SELECT 1")
        connection.connection.close()

    rig.run(body, max_attempts=1)

    assert rig.run(lambda context: leave("next"), max_attempts=1).state == State.SUCCEEDED


@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite has no server")
def test_a_connection_that_the_server_has_ended_is_no_harm_to_the_next(rig):
    """After a restart of the server every thread has one of those."""
    claims = [
        rig.claim(rig.enqueue(body, max_attempts=1))
        for body in (lambda context: kill_my_connection(), lambda context: leave("next"))
    ]

    for claim in claims:
        rig.put(claim, rig.execute(claim))
    rig.finish_whatever_happens()

    assert rig.job(claims[1].job_id).state == State.SUCCEEDED


def test_a_connection_is_closed_after_an_interrupt(rig):
    """It may have struck while an answer was half read, and the next would read the rest."""
    raw = []

    def body(context):
        sql("SELECT 1")
        raw.append(connection.connection)
        rig.runs.all()[0].interrupt(KeyboardInterrupt)
        while True:
            sql("SELECT 1")

    job = rig.run(body, max_attempts=1)

    assert "KeyboardInterrupt" in job.error_list[0]["exception_class_path"]
    assert connection.connection is not raw[0]


def test_a_sound_connection_is_kept_from_job_to_job(rig):
    connection.close()
    sql("SELECT 1")
    raw = connection.connection

    rig.run(lambda context: leave("one"))
    rig.run(lambda context: leave("two"), atomic=True)
    rig.run(lambda context: 1 / 0)

    assert connection.connection is raw


@pytest.mark.parametrize(("age", "kept"), [(0, False), (None, True), (3600, True)])
def test_at_rest_a_connection_is_kept_as_conn_max_age_says(rig, monkeypatch, age, kept):
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", age)
    connection.close()

    rig.run(lambda context: leave("one"))
    sql("SELECT 1")
    rig.connections.rest()

    assert (connection.connection is not None) is kept


def test_under_load_no_connection_is_used_for_ever(rig, monkeypatch):
    monkeypatch.setattr(session, "LONGEST_USE", timedelta(0))
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0)
    connection.close()
    raws = []

    for _run in range(3):
        rig.run(lambda context: raws.append((sql("SELECT 1"), connection.connection)[1]))

    assert len(set(map(id, raws))) > 1


@pytest.mark.django_db(transaction=True, databases=ALIASES)
def test_every_database_that_a_task_has_used_is_tidied(rig):
    def body(context):
        leave("outside", using="other")
        sql("BEGIN", using="other")
        leave("inside", using="other")

    rig.run(body)

    assert connections["other"].connection is None
    assert effects("outside", using="other") == 1
    assert effects("inside", using="other") == 0
