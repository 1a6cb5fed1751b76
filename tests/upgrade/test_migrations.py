"""The migrations from the version before: repeatable, without surprises, on any database."""

from io import StringIO

import pytest
from django.core.management import call_command
from django.db import IntegrityError, OperationalError
from django.db.migrations.exceptions import IrreversibleError

from aftercommit.migrations import _flags, _lock
from tests.upgrade.tables import ALIAS, BEFORE, RIGHT, STATES


def test_each_job_has_its_flags(used):
    used.migrate()

    assert used.flags() == RIGHT


def test_it_ends_although_others_enqueue_faster_than_it_looks(used, monkeypatch):
    monkeypatch.setattr(_flags, "BATCH", 2)
    used.migrate("0003_leases")
    added = []

    def enqueue(execute, sql, params, many, context):
        if sql.startswith("SELECT") and f"LIMIT {_flags.BATCH}" in sql:
            assert len(added) < 20, "it does not end"
            added.append(used.add_job("ready"))
        return execute(sql, params, many, context)

    with used.connection.execute_wrapper(enqueue):
        used.migrate()

    assert added
    assert used.flags() == RIGHT


def test_a_new_installation_has_the_same_tables_and_nothing_for_version_0_1(used, fresh):
    used.migrate()
    upgraded = used.shape()
    new = fresh()

    new.migrate()

    shape = new.shape()
    assert upgraded.pop("triggers") == [("aftercommit_job_flags",)]
    assert shape.pop("triggers") == []
    if used.vendor == "mysql":  # version 0.1 names this index in FORCE INDEX
        assert upgraded["aftercommit_job"][1].pop("aftercommit_job_due")
    assert shape == upgraded


def test_sqlmigrate_executes_nothing(used):
    before = used.shape()

    printed = StringIO()
    for name in ("0003", "0004", "0005", "0007"):
        call_command("sqlmigrate", "aftercommit", name, database=ALIAS, stdout=printed)

    assert used.shape() == before
    for words in ("aftercommit_job_consistent", "aftercommit_job_flags", "aftercommit_lease"):
        assert words in printed.getvalue()


def test_what_sqlmigrate_prints_makes_the_same_tables(used, fresh):
    used.migrate()
    tables = fresh()
    tables.migrate(BEFORE)
    tables.age()
    for state in STATES:
        tables.add_job(state)
    if tables.vendor != "postgresql":
        pytest.skip("there are no scripts of several statements")

    for name in ("0003", "0004", "0005", "0007"):
        printed = StringIO()
        call_command("sqlmigrate", "aftercommit", name, database=ALIAS, stdout=printed)
        if name in ("0003", "0007"):
            tables.run(printed.getvalue())
        else:
            for statement in printed.getvalue().split(";\n"):
                if words := "\n".join(x for x in statement.splitlines() if x[:2] != "--"):
                    tables.run(words)

    assert tables.shape() == used.shape()


def test_the_plan_can_be_shown_in_both_directions(used):
    printed = StringIO()
    call_command("migrate", "aftercommit", database=ALIAS, plan=True, stdout=printed)
    assert "Change columns and constraints of the table of jobs" in printed.getvalue()
    used.migrate()

    call_command("migrate", "aftercommit", "zero", database=ALIAS, plan=True, stdout=printed)


@pytest.mark.parametrize("target", ["zero", BEFORE])
def test_going_back_is_refused_before_anything_changes(used, target):
    used.migrate()
    before = used.shape()

    with pytest.raises(IrreversibleError, match=r"install version 0\.1, and leave the tables"):
        call_command("migrate", "aftercommit", target, database=ALIAS, stdout=StringIO())

    assert used.shape() == before


class Elsewhere:
    """Jobs are in another database."""

    def allow_migrate(self, db, app_label, model_name=None, **_hints):
        return False if model_name else None  # who asks for no model is answered by others


def test_a_database_that_the_router_keeps_free_stays_free(tables, settings):
    settings.DATABASE_ROUTERS = [Elsewhere()]

    tables.migrate()

    assert [name for name in tables.shape() if name.startswith("aftercommit")] == []


def test_rows_that_refer_to_jobs_stay_and_still_refer_to_them(used):
    kind = {"postgresql": "uuid", "sqlite": "char(32)"}.get(used.vendor)
    if used.vendor == "mysql":
        kind = "uuid" if used.connection.features.has_native_uuid_field else "char(32)"
    job_id = used.add_job("ready")
    used.run(
        f"CREATE TABLE shop_order (id integer PRIMARY KEY, job_id {kind} NOT NULL, "
        "FOREIGN KEY (job_id) REFERENCES aftercommit_job (id))"
    )
    used.run("INSERT INTO shop_order (id, job_id) VALUES (1, %s)", [job_id])

    used.migrate()

    assert [str(row[0]) for row in used.run("SELECT job_id FROM shop_order")] == [job_id]
    with pytest.raises(IntegrityError):
        used.run("DELETE FROM aftercommit_job WHERE id = %s", [job_id])


def test_an_index_whose_creation_was_broken_off_is_made_again(used):
    if used.vendor != "postgresql":
        pytest.skip("only PostgreSQL leaves a broken index")
    used.migrate("0003_leases")
    other = used.beside()
    other.run("BEGIN")  # CREATE INDEX CONCURRENTLY waits for it
    other.run("UPDATE aftercommit_job SET priority = 1 WHERE state = 'running'")
    used.run("SET statement_timeout = '500ms'")
    with pytest.raises(OperationalError, match="statement timeout"):
        used.migrate()
    other.run("ROLLBACK")
    used.close()
    assert used.shape()["indexes"] == [("aftercommit_job_claimable",)]

    used.migrate()

    assert used.shape()["indexes"] == []
    assert used.flags() == RIGHT


def test_in_a_schema_of_postgresql_the_neighbour_is_left_alone(used):
    if used.vendor != "postgresql":
        pytest.skip("only PostgreSQL has schemas within a database")
    used.migrate()
    public = used.shape()
    used.run("CREATE SCHEMA tenant")
    used.run("CREATE TABLE tenant.django_migrations (LIKE django_migrations INCLUDING ALL)")
    tenant = used.beside(options="-c search_path=tenant,public")
    tenant.migrate(BEFORE)
    tenant.age()
    for state in STATES:
        tenant.add_job(state)

    tenant.migrate()

    assert tenant.flags() == RIGHT
    used.run("DROP SCHEMA tenant CASCADE")
    assert used.shape() == public


class TestBesideALongTransaction:
    """Another program has used the table and does not commit."""

    @pytest.fixture
    def other(self, used):
        if used.vendor == "sqlite":
            pytest.skip("a writer has the whole database; others wait for its timeout")
        other = used.beside()
        other.run("BEGIN")
        other.run("UPDATE aftercommit_job SET priority = 1 WHERE state = 'ready'")
        yield other
        other.close()

    def test_migrate_says_what_stands_in_the_way(self, used, other, monkeypatch):
        monkeypatch.setattr(_lock, "TRIES", 3)

        with pytest.raises(OperationalError, match="stays open"):
            used.migrate()

        other.run("ROLLBACK")
        used.migrate()
        assert used.flags() == RIGHT

    def test_others_go_on_between_the_tries_and_it_succeeds_in_the_end(
        self, used, other, monkeypatch
    ):
        tries = []

        def pause(_seconds):
            other.add_job("ready")
            tries.append(None)
            if len(tries) == 3:
                other.run("COMMIT")

        monkeypatch.setattr(_lock.time, "sleep", pause)

        used.migrate()

        assert len(tries) == 3
        assert used.flags() == RIGHT
        assert used.run("SELECT count(*) FROM aftercommit_job WHERE claimable") == [(4,)]

    @pytest.mark.parametrize(
        ("before", "target"),
        [
            ("0008_pruned", "0009_awaited"),
            ("0009_awaited", "0010_limits"),
            ("0010_limits", "0011_flow"),
            ("0012_flow_tables", "0013_needed"),
        ],
    )
    def test_a_new_column_does_not_wait_in_front_of_others(
        self, used, other, before, target, monkeypatch
    ):
        other.run("ROLLBACK")
        used.migrate(before)
        other.run("BEGIN")
        other.run("UPDATE aftercommit_job SET priority = 1 WHERE state = 'ready'")
        monkeypatch.setattr(_lock, "TRIES", 2)
        if used.vendor == "mysql":  # else it would wait for a day
            used.run("SET SESSION lock_wait_timeout = 5")
        else:
            used.run("SET lock_timeout = '5s'")

        with pytest.raises(OperationalError, match="stays open"):
            used.migrate(target)

        other.run("ROLLBACK")
        used.migrate(target)

    def test_nor_does_one_of_the_table_of_dependencies(self, used, other, monkeypatch):
        other.run("ROLLBACK")
        used.migrate("0012_flow_tables")
        other.run("BEGIN")
        other.run("DELETE FROM aftercommit_dependency")
        monkeypatch.setattr(_lock, "TRIES", 2)
        if used.vendor == "mysql":  # else it would wait for a day
            used.run("SET SESSION lock_wait_timeout = 5")
        else:
            used.run("SET lock_timeout = '5s'")

        with pytest.raises(OperationalError, match="aftercommit_dependency could not be locked"):
            used.migrate()

        other.run("ROLLBACK")
        used.migrate()

    def test_a_row_that_is_locked_is_waited_for_alone(self, used, other):
        other.run("ROLLBACK")
        used.migrate("0003_leases")
        ready = [used.add_job("ready") for _ in range(3)]
        if used.vendor == "mysql":  # where it would set them right
            used.run("DROP TRIGGER aftercommit_job_flags")
        used.run("UPDATE aftercommit_job SET claimable = false")
        other.run("BEGIN")
        other.run("UPDATE aftercommit_job SET priority = 1 WHERE id = %s", [ready[0]])
        third = used.beside(alias="third")
        seen = []

        def finish(execute, sql, params, many, context):
            if "SET claimable" in sql and list(map(str, params)) == [ready[0]]:
                others = "SELECT count(*) FROM aftercommit_job WHERE claimable"
                seen.extend(third.run(others))
                other.run("COMMIT")
            return execute(sql, params, many, context)

        with used.connection.execute_wrapper(finish):
            used.migrate()

        assert seen == [(3,)]
        assert used.run("SELECT count(*) FROM aftercommit_job WHERE claimable") == [(4,)]
