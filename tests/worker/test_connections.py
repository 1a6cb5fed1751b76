"""What tasks do to their sessions and connections, one by one; see also test_session."""

from datetime import timedelta
from functools import partial

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
        ("/* why */ -- and\n SET statement_timeout = '1234ms'", "SHOW statement_timeout"),
        ("SELECT 1; SET statement_timeout = '1234ms'", "SHOW statement_timeout"),
        (
            "WITH t AS (SELECT set_config('app.tenant', 'acme', false)) SELECT * FROM t",
            "SHOW app.tenant",
        ),
        (
            "DO $$ BEGIN PERFORM set_config('app.tenant', 'acme', false); END $$",
            "SHOW app.tenant",
        ),
        (
            "DO $$ BEGIN EXECUTE 'SET statement_timeout = 1234'; END $$",
            "SHOW statement_timeout",
        ),
        ("SELECT 1 AS id INTO TEMP tests_temp", "SELECT to_regclass('tests_temp')::text"),
    ],
    "mysql": [
        ("SET SESSION max_sort_length = 1024 + 8", "SELECT @@max_sort_length"),
        ("SET SESSION sql_mode = ''", "SELECT @@sql_mode"),
        ("SET @tenant = 'acme'", "SELECT @tenant"),
        ("SELECT @tenant := 'acme'", "SELECT @tenant"),
        ("SELECT 'acme' INTO @tenant", "SELECT @tenant"),
        ("/* why */ SET @tenant = 'acme'", "SELECT @tenant"),
        ("# why\nSET @tenant = 'acme'", "SELECT @tenant"),
        ("/*!50003 SET @tenant = 'acme' */", "SELECT @tenant"),
        ("SELECT GET_LOCK('tests', 0)", "SELECT IS_USED_LOCK('tests') IS NULL"),
    ],
    "sqlite": [
        ("PRAGMA foreign_keys = OFF", "PRAGMA foreign_keys"),
        ("PRAGMA recursive_triggers = ON", "PRAGMA recursive_triggers"),
        ("/* why */ PRAGMA recursive_triggers = ON", "PRAGMA recursive_triggers"),
        ("-- why\nPRAGMA recursive_triggers = ON", "PRAGMA recursive_triggers"),
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


@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="not seen there")
@pytest.mark.parametrize(("change", "question"), CHANGES[connection.vendor])
@pytest.mark.parametrize("way", ["cursor", "execute", "bytes"])
def test_so_it_is_when_the_change_is_made_past_django(rig, change, question, way):
    before = ask(question)

    def body(context):
        connection.ensure_connection()
        raw = connection.connection
        if way == "execute" and connection.vendor == "postgresql":
            raw.execute(change)
        else:
            with raw.cursor() as cursor:
                cursor.execute(change.encode() if way == "bytes" else change)
        assert ask(question) != before

    job = rig.run(body, max_attempts=1)

    assert job.error_list == []
    assert ask(question) == before


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="search paths are PostgreSQL's")
@pytest.mark.parametrize("raw", [False, True])
def test_a_search_path_reaches_no_other_job_of_a_shared_transaction(rig, together, raw):
    """The statement is refused there, also past Django; its run is repeated alone."""
    question = "SHOW search_path"
    (before,) = ask(question)
    seen = []

    def body(context):
        cursor = connection.connection.cursor() if raw else connection.cursor()
        with cursor:
            cursor.execute("SET search_path = pg_catalog, public")

    def look(context):
        seen.extend(ask(question))

    rig.in_company = True
    assert rig.run(body, atomic=True, max_attempts=1).error_list == []
    assert rig.run(look, atomic=True, max_attempts=1).error_list == []

    assert seen == [before]
    rig.check_company()


class Tenants:
    """What django-tenants adds to a connection: the schema, as attributes of it."""

    def __init__(self, connection, monkeypatch):
        self.sets = 0
        set_attribute = partial(monkeypatch.setattr, connection, raising=False)
        set_attribute("tenant", "public")
        set_attribute("schema_name", "public")
        set_attribute("include_public_schema", True)
        set_attribute("set_tenant", self.set_tenant)
        set_attribute("set_schema_to_public", lambda: self.set_tenant("public"))
        self.connection = connection

    def set_tenant(self, tenant, include_public=True):
        """Change attributes only, as it does."""
        self.sets += 1
        self.connection.tenant = self.connection.schema_name = tenant
        self.connection.include_public_schema = include_public


@pytest.mark.parametrize("way", ["plain", "atomic", "in company"])
@pytest.mark.parametrize("fails", [False, True])
def test_a_tenant_that_a_task_has_set_does_not_reach_the_next(
    rig, together, monkeypatch, way, fails
):
    tenants = Tenants(connections["default"], monkeypatch)
    seen = []

    def body(context):
        assert connection.schema_name == "public"
        tenants.set_tenant("acme")
        leave("acme")
        if fails:
            raise ValueError("as well")

    def look(context):
        seen.append(connection.schema_name)

    rig.in_company = way == "in company"
    rig.run(body, atomic=way != "plain", max_attempts=1)
    rig.run(look, atomic=way != "plain", max_attempts=1)

    assert tenants.sets >= 2
    assert seen == ["public"]
    assert connection.schema_name == "public"
    assert effects("acme") == (not fails or way == "plain")
    rig.check_company()


def test_a_command_that_was_started_for_a_tenant_stays_with_it(rig, monkeypatch):
    tenants = Tenants(connections["default"], monkeypatch)
    tenants.set_tenant("acme", include_public=False)

    rig.run(lambda context: tenants.set_tenant("other"))

    assert (connection.schema_name, connection.include_public_schema) == ("acme", False)


def test_the_cursors_are_the_usual_ones_when_the_worker_is_gone(rig, vendor):
    connection.ensure_connection()
    usual = type(connection.connection.cursor())
    rig.run(lambda context: leave("one"))
    assert (type(connection.connection.cursor()) is usual) == (vendor == "sqlite")

    rig.close()

    assert type(connection.connection.cursor()) is usual


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
