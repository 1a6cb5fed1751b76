"""The change of the columns and constraints of the table of jobs."""

from functools import partial
from typing import Any

from django.db.migrations.operations import SeparateDatabaseAndState

from aftercommit.migrations._flags import (
    FUNCTION,
    TRIGGER_OF_POSTGRESQL,
    TRIGGER_OF_SQLITE,
    create_trigger_on_mysql,
    in_use,
)
from aftercommit.migrations._lock import change_on_mysql, lock_on_postgresql

CONSISTENT = "aftercommit_job_consistent"
OLD_CHECKS = (
    "aftercommit_job_running_has_lease",
    "aftercommit_job_finished_has_time",
    "aftercommit_job_unique_only_live",
    "aftercommit_job_slot_only_running",
    "aftercommit_job_bounds",
)
COUNTS = ("attempts", "crashes", "conflicts", "max_attempts", "slot")
# PostgreSQL fills a page of new rows to 40 percent, so that the page has room for the version
# that the claim writes, which is a fifth longer, and for the one of the end, once that of the
# insert is pruned. (With 50, one end of eleven goes to another page and writes all indexes.)
# VACUUM comes often: the index of claimable jobs needs it.
STORAGE = """
    fillfactor = 40, autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 5000, autovacuum_analyze_scale_factor = 0.02
"""
LEASE_STORAGE = """
    fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000
"""
# The first default is for the rows that exist: only the jobs that are ready are then updated.
ON_POSTGRESQL = """
ALTER TABLE aftercommit_job
    ADD COLUMN claimable boolean NOT NULL DEFAULT false,
    ADD COLUMN unsuccessful boolean NOT NULL DEFAULT false,
    ADD COLUMN waits_for integer NOT NULL DEFAULT 0,
    ADD COLUMN headers text NULL,
    ADD COLUMN tags text NULL,
    {dropped},
    ADD {consistent} NOT VALID,
    SET ({storage})
"""
# Without the CHECKs of the counters, which MariaDB keeps with the column.
ON_MYSQL = """
ALTER TABLE aftercommit_job
    ADD COLUMN claimable bool NOT NULL DEFAULT 0,
    ADD COLUMN unsuccessful bool NOT NULL DEFAULT 0,
    ADD COLUMN waits_for integer UNSIGNED NOT NULL DEFAULT 0,
    ADD COLUMN headers longtext NULL,
    ADD COLUMN tags longtext NULL,
    MODIFY COLUMN queue varchar(100) COLLATE utf8mb4_bin NOT NULL,
    MODIFY COLUMN backend varchar(100) COLLATE utf8mb4_bin NOT NULL,
    MODIFY COLUMN task_path varchar(255) COLLATE utf8mb4_bin NOT NULL,
    MODIFY COLUMN attempts integer UNSIGNED NOT NULL,
    MODIFY COLUMN crashes integer UNSIGNED NOT NULL,
    MODIFY COLUMN conflicts integer UNSIGNED NOT NULL,
    MODIFY COLUMN max_attempts integer UNSIGNED NOT NULL,
    MODIFY COLUMN slot integer UNSIGNED NULL,
    {dropped},
    ADD {consistent}
"""
NEW_DEFAULT = "ALTER TABLE aftercommit_job ALTER COLUMN claimable SET DEFAULT {true}"


class ChangeJobTable(SeparateDatabaseAndState):
    """Change the columns and constraints of the table of jobs by one statement.

    On PostgreSQL no row is written and none is read, so the lock lasts for milliseconds. MySQL
    and MariaDB copy the table, and writes wait for that; SQLite, too.
    """

    reversible = False

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Change the table."""
        before, after = (one.apps.get_model(app_label, "Job") for one in (from_state, to_state))
        if not self.allow_migrate_model(schema_editor.connection.alias, after):
            return
        vendor = schema_editor.connection.vendor
        change = {"postgresql": _postgresql, "mysql": _mysql, "sqlite": _sqlite}[vendor]
        has_old_programs = schema_editor.collect_sql or in_use(schema_editor.connection)
        change(schema_editor, before, after, has_old_programs)

    def describe(self) -> str:
        """Return what ``migrate --plan`` shows."""
        return "Change columns and constraints of the table of jobs"


def _postgresql(schema_editor: Any, _before: Any, after: Any, has_old_programs: bool) -> None:
    checks = [*OLD_CHECKS, *(f"aftercommit_job_{name}_check" for name in COUNTS)]
    change = ON_POSTGRESQL.format(
        dropped=", ".join(f"DROP CONSTRAINT IF EXISTS {name}" for name in checks),
        consistent=_consistent(schema_editor, after),
        storage=STORAGE,
    )
    statements = [change, NEW_DEFAULT.format(true="true")]
    # Before the lock: whatever can be, and that needs a round trip.
    while schema_editor.deferred_sql:
        schema_editor.execute(schema_editor.deferred_sql.pop(0), None)
    if has_old_programs:
        schema_editor.execute(FUNCTION, params=None)
        statements.append(TRIGGER_OF_POSTGRESQL)
    lock_on_postgresql(schema_editor)
    schema_editor.execute(";".join(statements), params=None)


def _mysql(schema_editor: Any, _before: Any, after: Any, has_old_programs: bool) -> None:
    change = ON_MYSQL.format(
        dropped=", ".join(f"DROP CONSTRAINT {name}" for name in OLD_CHECKS),
        consistent=_consistent(schema_editor, after),
    )
    statements = [change, NEW_DEFAULT.format(true="1")]
    if not schema_editor.collect_sql and _is_changed(schema_editor.connection, after):
        del statements[0]
    for sql in statements:
        change_on_mysql(schema_editor, partial(schema_editor.execute, sql, params=None))
    if has_old_programs:
        create_trigger_on_mysql(schema_editor)


def _is_changed(connection: Any, job: Any) -> bool:
    """Return whether a migration that was broken off has come as far as this."""
    with connection.cursor() as cursor:
        columns = connection.introspection.get_table_description(cursor, job._meta.db_table)
    return "claimable" in {column.name for column in columns}


def _sqlite(schema_editor: Any, before: Any, after: Any, has_old_programs: bool) -> None:
    sql, params = schema_editor.table_sql(after)
    copied = ", ".join(field.column for field in before._meta.local_concrete_fields)
    name, new = after._meta.db_table, f"new__{after._meta.db_table}"
    schema_editor.execute(sql.replace(f'"{name}"', f'"{new}"', 1), params)
    schema_editor.execute(
        f"INSERT INTO {new} ({copied}, claimable, unsuccessful) "  # noqa: S608 - fixed names
        f"SELECT {copied}, state = 'ready', state IN ('failed', 'cancelled') FROM {name}"
    )
    schema_editor.execute(f"DROP TABLE {name}")
    schema_editor.execute(f"ALTER TABLE {new} RENAME TO {name}")
    schema_editor.deferred_sql.extend(schema_editor._model_indexes_sql(after))
    if has_old_programs:
        schema_editor.execute(TRIGGER_OF_SQLITE, params=None)


def _consistent(schema_editor: Any, job: Any) -> str:
    (check,) = (one for one in job._meta.constraints if one.name == CONSISTENT)
    return str(check.constraint_sql(job, schema_editor))
