"""Changes of the table of jobs while other programs, also of version 0.1, use it."""

import random
import time
from typing import Any

from django.db import DatabaseError, OperationalError, transaction
from django.db.migrations.operations import SeparateDatabaseAndState
from django.db.migrations.operations.base import Operation

LOCK_TRIES = 200
LOCK_TIMEOUT = "150ms"  # longer, and all other statements would wait behind this one
BATCH = 5000  # rows of one UPDATE

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
    SET ({storage});
ALTER TABLE aftercommit_job ALTER COLUMN claimable SET DEFAULT true;
"""
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
    {dropped},
    ADD {consistent}
"""
FLAGS = """
UPDATE aftercommit_job
SET claimable = (state = 'ready' AND waits_for = 0),
    unsuccessful = (state IN ('failed', 'cancelled'))
WHERE {which} AND (
    claimable <> (state = 'ready' AND waits_for = 0)
    OR unsuccessful <> (state IN ('failed', 'cancelled'))
)
"""
IN_USE = """
SELECT EXISTS (SELECT 1 FROM aftercommit_job)
    OR EXISTS (SELECT 1 FROM aftercommit_workerpresence)
"""
# The claims of version 0.1 on MySQL and MariaDB force this index, and fail without it. No claim of
# this version needs it: drop it when no worker of version 0.1 is left.
NAMED_BEFORE = "aftercommit_job_due"
# Programs of version 0.1 do not write the flags. PostgreSQL and SQLite evaluate WHEN by
# themselves: for the statements of this version it is false, and nothing is called.
WRONG_FLAGS = """
    NEW.claimable <> (NEW.state = 'ready' AND NEW.waits_for = 0)
    OR NEW.unsuccessful <> (NEW.state IN ('failed', 'cancelled'))
"""
TRIGGERS = {
    "postgresql": f"""
        CREATE FUNCTION aftercommit_job_flags() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            NEW.claimable := NEW.state = 'ready' AND NEW.waits_for = 0;
            NEW.unsuccessful := NEW.state IN ('failed', 'cancelled');
            RETURN NEW;
        END $$;
        CREATE TRIGGER aftercommit_job_flags BEFORE UPDATE OF state ON aftercommit_job
        FOR EACH ROW WHEN ({WRONG_FLAGS}) EXECUTE FUNCTION aftercommit_job_flags();
    """,
    "mysql": """
        CREATE TRIGGER aftercommit_job_flags BEFORE UPDATE ON aftercommit_job FOR EACH ROW
        SET NEW.claimable = (NEW.state = 'ready' AND NEW.waits_for = 0),
            NEW.unsuccessful = (NEW.state IN ('failed', 'cancelled'))
    """,
    "sqlite": f"""
        CREATE TRIGGER aftercommit_job_flags AFTER UPDATE OF state ON aftercommit_job
        WHEN {WRONG_FLAGS}
        BEGIN {FLAGS.format(which="id = NEW.id")}; END
    """,
}
NO_TRIGGER = """
The database does not allow this user to create the trigger aftercommit_job_flags ({error}).
Until all programs run this version of aftercommit, jobs that version 0.1 retries or rescues
may not be run. Stop the workers of version 0.1 before you start those of this version.
"""


class ChangeJobTable(SeparateDatabaseAndState):
    """Change the columns and constraints of the table of jobs by one statement.

    On PostgreSQL no row is written and none is read, so the lock lasts for milliseconds. It is
    tried again and again, each time briefly, because statements that come after a waiting lock
    wait as well. MySQL and MariaDB copy the table, and writes wait for that; SQLite, too.

    To go back to version 0.1, install it and leave the tables as they are: it works on them.
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
        change(schema_editor, before, after)
        if _is_in_use(schema_editor.connection):
            with schema_editor.connection.cursor() as cursor:
                _create_trigger(cursor, vendor)

    def describe(self) -> str:
        """Return what ``migrate --plan`` shows."""
        return "Change columns and constraints of the table of jobs"


class OnPostgreSQL(Operation):
    """Run a statement on PostgreSQL only; it must do no harm if it is repeated."""

    reversible = False

    def __init__(self, sql: str) -> None:
        self.sql = sql

    def state_forwards(self, app_label: str, state: Any) -> None:
        """Change nothing."""

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Run the statement."""
        connection = schema_editor.connection
        model = to_state.apps.get_model(app_label, "Job")
        if connection.vendor == "postgresql" and self.allow_migrate_model(
            connection.alias, model
        ):
            with connection.cursor() as cursor:
                cursor.execute(self.sql)

    def describe(self) -> str:
        """Return what ``migrate --plan`` shows."""
        return f"On PostgreSQL: {self.sql}"


def online(operation: type[Any]) -> type[Any]:
    """Return AddIndex or RemoveIndex, without a lock on PostgreSQL that blocks writes."""

    class Online(operation):  # type: ignore[misc]
        reversible = False

        def database_forwards(
            self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
        ) -> None:
            connection = schema_editor.connection
            model = to_state.apps.get_model(app_label, self.model_name)
            if not self.allow_migrate_model(connection.alias, model):
                return
            name = self.name if hasattr(self, "name") else self.index.name
            if connection.vendor == "mysql" and name == NAMED_BEFORE and _is_in_use(connection):
                return
            if connection.vendor != "postgresql":
                super().database_forwards(app_label, schema_editor, from_state, to_state)
                return
            # Also before it is created: a broken-off CREATE leaves an index that is not valid.
            schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            if hasattr(self, "index"):
                schema_editor.add_index(model, self.index, concurrently=True)

    Online.__name__ = Online.__qualname__ = f"{operation.__name__}Online"
    return Online


def set_flags(apps: Any, schema_editor: Any) -> None:
    """Set the flags of the jobs that exist, some thousands in each transaction."""
    connection = schema_editor.connection
    rows = apps.get_model("aftercommit", "Job").objects.using(connection.alias)
    last = None
    while True:
        rest = rows if last is None else rows.filter(id__gt=last)
        ids = list(rest.order_by("id").values_list("id", flat=True)[:BATCH])
        if not ids:
            return
        first, last = ids[0], ids[-1]
        adapt = rows.model._meta.pk.get_db_prep_value
        with connection.cursor() as cursor:
            cursor.execute(
                FLAGS.format(which="id BETWEEN %s AND %s"),
                [adapt(one, connection) for one in (first, last)],
            )


def _postgresql(schema_editor: Any, before: Any, after: Any) -> None:
    checks = [*OLD_CHECKS, *(f"aftercommit_job_{name}_check" for name in COUNTS)]
    sql = ON_POSTGRESQL.format(
        dropped=", ".join(f"DROP CONSTRAINT IF EXISTS {name}" for name in checks),
        consistent=_consistent(schema_editor, after),
        storage=STORAGE,
    )
    with schema_editor.connection.cursor() as cursor:
        _lock(cursor, schema_editor.connection.alias)
        cursor.execute(sql.replace("%", "%%") if "%" in sql else sql)


def _lock(cursor: Any, alias: str) -> None:
    for tries_left in reversed(range(LOCK_TRIES)):
        try:
            with transaction.atomic(using=alias):
                cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
                cursor.execute("LOCK TABLE aftercommit_job IN ACCESS EXCLUSIVE MODE")
                cursor.execute("SET LOCAL lock_timeout = DEFAULT")
        except OperationalError as error:
            if not tries_left:
                raise OperationalError(
                    "The table of jobs could not be locked for a moment: a transaction that has "
                    "used it stays open (see pg_stat_activity). Nothing was changed; run migrate "
                    "again when it has ended."
                ) from error
            time.sleep(random.uniform(0.1, 0.5))  # noqa: S311
        else:
            return


def _mysql(schema_editor: Any, before: Any, after: Any) -> None:
    sql = ON_MYSQL.format(
        dropped=", ".join(f"DROP CONSTRAINT {name}" for name in OLD_CHECKS),
        consistent=_consistent(schema_editor, after),
    )
    schema_editor.execute(sql)
    schema_editor.execute("ALTER TABLE aftercommit_job ALTER COLUMN claimable SET DEFAULT 1")


def _sqlite(schema_editor: Any, before: Any, after: Any) -> None:
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


def _consistent(schema_editor: Any, job: Any) -> str:
    (check,) = (one for one in job._meta.constraints if one.name == CONSISTENT)
    return str(check.constraint_sql(job, schema_editor))


def _is_in_use(connection: Any) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(IN_USE)
        return bool(cursor.fetchone()[0])


def _create_trigger(cursor: Any, vendor: str) -> None:
    try:
        cursor.execute(TRIGGERS[vendor])
    except DatabaseError as error:
        if vendor != "mysql":  # where the binary log asks for a privilege that few users have
            raise
        print(NO_TRIGGER.format(error=error))
