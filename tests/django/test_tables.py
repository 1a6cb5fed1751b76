"""Checks of the tables themselves: what a dump, an update of the server or a hand has done."""

import logging
from uuid import uuid4

import pytest
from django.apps import apps
from django.core.checks import run_checks
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from aftercommit.models import Job
from aftercommit.store import store_for
from aftercommit.windows.checks import tables
from aftercommit.windows.checks.tables import tables_of
from tests.django import tasks
from tests.tables import leave_no_dead_jobs

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])
NAMES = [index.name for index in Job._meta.indexes]
UNIQUE = ["aftercommit_job_unique", "aftercommit_job_slot"]


@pytest.fixture(autouse=True)
def no_dead_jobs(transactional_db):
    """Let the indexes that are built here serve the plans of later tests at once."""
    leave_no_dead_jobs()


def found():
    """Return the messages about the tables of the default database."""
    return list(tables_of(connection))


def only_hint(id_):
    """Return the hint of the one message there is."""
    (message,) = found()
    assert message.id == id_
    return message.hint


def execute(*statements):
    """Execute statements on the default database."""
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def test_our_own_tables_are_as_they_should_be():
    assert found() == []


@pytest.mark.parametrize("name", [*NAMES, *UNIQUE])
def test_w013_a_missing_index_is_named_with_the_statement_that_makes_it(name):
    on = " ON aftercommit_job" if connection.vendor == "mysql" else ""
    execute(f"DROP INDEX {name}{on}")
    try:
        hint = only_hint("aftercommit.W013")
        assert name in hint
    finally:
        execute(hint.partition("execute: ")[2].replace("%", "%%"))

    assert found() == []


def test_w013_is_about_all_our_tables():
    on = " ON aftercommit_dependency" if connection.vendor == "mysql" else ""
    execute(f"DROP INDEX aftercommit_dependency_needs{on}")
    try:
        hint = only_hint("aftercommit.W013")
    finally:
        execute(hint.partition("execute: ")[2])

    assert "aftercommit_dependency_needs" in hint
    assert found() == []


def test_it_is_a_part_of_check_for_this_database():
    on = " ON aftercommit_job" if connection.vendor == "mysql" else ""
    execute(f"DROP INDEX {NAMES[1]}{on}")
    try:
        (message,) = [
            one for one in run_checks(databases=["default"]) if one.id == "aftercommit.W013"
        ]
        assert [one for one in run_checks() if one.id == "aftercommit.W013"] == []
    finally:
        execute(message.hint.partition("execute: ")[2])


def test_an_index_that_was_not_built_to_its_end_is_missing():
    if connection.vendor != "postgresql":
        pytest.skip("PostgreSQL builds one in several transactions")
    by_hand = "UPDATE pg_index SET indisvalid = {} WHERE indexrelid = 'aftercommit_job_crashed'"
    execute(by_hand.format("false") + "::regclass")
    try:
        assert "aftercommit_job_crashed" in only_hint("aftercommit.W013")
    finally:
        execute(by_hand.format("true") + "::regclass")


def test_nothing_is_said_before_the_migrations_are_applied(monkeypatch):
    monkeypatch.setattr(MigrationRecorder, "applied_migrations", lambda self: {})
    monkeypatch.setattr(tables, "_usable_indexes", lambda *_: set())

    assert found() == []


def test_w014_ids_of_an_older_mariadb_are_named_with_what_changes_them():
    if connection.vendor != "mysql" or not connection.features.has_native_uuid_field:
        pytest.skip("MariaDB has the type UUID since 10.7")
    job_id = tasks.note.enqueue("kept").id
    ids = [
        (model._meta.db_table, field.column, "" if field.null else " NOT NULL")
        for model in apps.get_app_config("aftercommit").get_models()
        for field in model._meta.local_fields
        if field.get_internal_type() == "UUIDField"
    ]
    assert len(ids) > 3
    as_text = [f"ALTER TABLE {t} MODIFY {c} CHAR(36){null}" for t, c, null in ids]
    shorter = [f"UPDATE {t} SET {c} = REPLACE({c}, '-', '')" for t, c, _null in ids]
    older = [f"ALTER TABLE {t} MODIFY {c} CHAR(32){null}" for t, c, null in ids]
    execute(*as_text, *shorter, *older)
    try:
        hint = only_hint("aftercommit.W014")
        with pytest.raises(Exception, match="Data too long"):
            tasks.note.enqueue()
    finally:
        for statement in hint.partition("execute: ")[2].strip("; ").split("; "):
            execute(statement)

    assert found() == []
    assert store_for("default").job(job_id).args == ["kept"]


# ---- the lock file of a worker on SQLite -------------------------------------------------


@pytest.fixture
def sqlite_file(tmp_path):
    """Return the path of a database file, beside which no folder can be made."""
    file = tmp_path / "db.sqlite3"
    file.touch()
    (tmp_path / "db.sqlite3-workers").touch()  # a file stands where the folder would be
    return file


def test_a_worker_that_cannot_make_its_lock_file_goes_on_by_its_leases(sqlite_file, caplog):
    from aftercommit.store.sqlite import presence  # noqa: PLC0415

    with caplog.at_level(logging.WARNING, logger="aftercommit"):
        opened = presence.SQLitePresence(str(sqlite_file), uuid4(), session_locks=True)

    assert not opened.locked
    opened.close()
    (line,) = caplog.messages
    assert line.startswith("The lock file of this worker cannot be made (")
    assert "OPTIONS['session_locks']" in line


def test_a_lock_that_cannot_be_looked_at_is_not_free(sqlite_file, monkeypatch):
    from aftercommit.store.sqlite import presence  # noqa: PLC0415

    assert presence.lock_is_free(str(sqlite_file), uuid4()) is False
    presence.remove_lock(str(sqlite_file), uuid4())  # nothing is raised

    def refuse(*_):
        raise OSError(95, "Operation not supported")

    (sqlite_file.parent / "db.sqlite3-workers").unlink()
    monkeypatch.setattr(presence.fcntl, "flock", refuse)
    opened = presence.SQLitePresence(str(sqlite_file), uuid4(), session_locks=True)
    assert not opened.locked
    opened.close()
