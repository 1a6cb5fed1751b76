"""The flags of jobs, also of those that programs of version 0.1 write."""

from datetime import timedelta
from functools import partial
from typing import Any

from django.db import DatabaseError, router, transaction
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from aftercommit.migrations._lock import change_on_mysql

BATCH = 5000  # rows that are looked at together
FEW = 500  # ids in a statement: with more than 1000, MariaDB would read, and lock, all rows
INSTALLATION = timedelta(minutes=1)  # tables that are older were made by version 0.1

WRONG = """(
    claimable <> (state = 'ready' AND waits_for = 0)
    OR unsuccessful <> (state IN ('failed', 'cancelled'))
)"""
SET_FLAGS = """
UPDATE aftercommit_job
SET claimable = (state = 'ready' AND waits_for = 0),
    unsuccessful = (state IN ('failed', 'cancelled'))
"""
IN_USE = """
SELECT EXISTS (SELECT 1 FROM aftercommit_job)
    OR EXISTS (SELECT 1 FROM aftercommit_workerpresence)
"""
# Programs of version 0.1 do not write the flags. PostgreSQL and SQLite evaluate WHEN by
# themselves: for the statements of this version it is false, and nothing is called.
NEW_IS_WRONG = """
    NEW.claimable <> (NEW.state = 'ready' AND NEW.waits_for = 0)
    OR NEW.unsuccessful <> (NEW.state IN ('failed', 'cancelled'))
"""
FUNCTION = """
CREATE FUNCTION aftercommit_job_flags() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    NEW.claimable := NEW.state = 'ready' AND NEW.waits_for = 0;
    NEW.unsuccessful := NEW.state IN ('failed', 'cancelled');
    RETURN NEW;
END $$
"""
TRIGGER_OF_POSTGRESQL = f"""
CREATE TRIGGER aftercommit_job_flags BEFORE UPDATE OF state ON aftercommit_job
FOR EACH ROW WHEN ({NEW_IS_WRONG}) EXECUTE FUNCTION aftercommit_job_flags()
"""
TRIGGER_OF_SQLITE = f"""
CREATE TRIGGER aftercommit_job_flags AFTER UPDATE OF state ON aftercommit_job
WHEN {NEW_IS_WRONG}
BEGIN {SET_FLAGS} WHERE id = NEW.id; END
"""
TRIGGER_OF_MYSQL = """
CREATE TRIGGER aftercommit_job_flags BEFORE UPDATE ON aftercommit_job FOR EACH ROW
SET NEW.claimable = (NEW.state = 'ready' AND NEW.waits_for = 0),
    NEW.unsuccessful = (NEW.state IN ('failed', 'cancelled'))
"""
DROP_TRIGGER = "DROP TRIGGER IF EXISTS aftercommit_job_flags"
# The binary log is on and does not trust this user; the user has no such privilege.
NOT_ALLOWED = {1419, 1142, 1227}
NO_TRIGGER = f"""
The database does not allow this user to create the trigger aftercommit_job_flags ({{error}}).
Workers of this version may leave out jobs that programs of version 0.1 retry or rescue.
Stop all programs of version 0.1 before you start workers of this version. If some have run
beside them, execute this when the last one has ended:
{SET_FLAGS.strip()}
WHERE {WRONG};
"""


def in_use(connection: Any) -> bool:
    """Return whether there may be programs of version 0.1 that use the table of jobs."""
    applied = MigrationRecorder(connection).applied_migrations()
    first = applied.get(("aftercommit", "0001_initial"))
    if first is not None and timezone.now() - first.applied > INSTALLATION:
        return True
    with connection.cursor() as cursor:
        cursor.execute(IN_USE)
        return bool(cursor.fetchone()[0])


def create_trigger_on_mysql(schema_editor: Any) -> None:
    """Create the trigger, also if there is one already, or say what it means to do without."""
    try:
        for sql in (DROP_TRIGGER, TRIGGER_OF_MYSQL):
            change_on_mysql(schema_editor, partial(schema_editor.execute, sql, params=None))
    except DatabaseError as error:
        if not error.args or error.args[0] not in NOT_ALLOWED:
            raise
        print(NO_TRIGGER.format(error=error))


def set_flags(apps: Any, schema_editor: Any) -> None:
    """Set the flags of the jobs that exist, some thousands in each transaction.

    Rows that are locked are left out and tried again later: other transactions never wait for a
    row that this one holds while it waits for them. When all that are left are locked, this waits
    for one of them. (On MySQL a claim of version 0.1 locks all jobs that are due later.)
    """
    connection = schema_editor.connection
    job = apps.get_model("aftercommit", "Job")
    if not router.allow_migrate_model(connection.alias, job):
        return
    locked = _walk(job, connection)
    while locked:
        left = []
        for start in range(0, len(locked), FEW):
            few = locked[start : start + FEW]
            left += _set_flags_of(connection, f"id IN ({_marks(few)})", few)
        with connection.cursor() as cursor:
            if len(left) == len(locked):
                cursor.execute(f"{SET_FLAGS} WHERE id = %s AND {WRONG}", [left.pop()])
        locked = left
    if connection.vendor == "postgresql" and in_use(connection):
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE aftercommit_job")  # it knows nothing of the new columns


def _walk(job: Any, connection: Any) -> list[Any]:
    """Set the flags of all jobs that are not locked; return the ids of the others."""
    rows = job.objects.using(connection.alias).order_by("id").values_list("id", flat=True)
    adapt = job._meta.pk.get_db_prep_value
    locked: list[Any] = []
    batch = list(rows[:BATCH])
    while batch:
        ends = [adapt(batch[at], connection) for at in (0, -1)]
        locked += _set_flags_of(connection, "id BETWEEN %s AND %s", ends)
        # Not until there are no more: other programs may enqueue faster than this looks, and
        # what they have inserted since the table was changed has its flags.
        is_last = len(batch) < BATCH
        batch = [] if is_last else list(rows.filter(id__gt=batch[-1])[:BATCH])
    return locked


def _set_flags_of(connection: Any, which: str, given: list[Any]) -> list[Any]:
    """Set the flags of some jobs; return the ids of those that were locked."""
    which = f"WHERE {which} AND {WRONG}"
    wrong = f"SELECT id FROM aftercommit_job {which} ORDER BY id"  # noqa: S608 - fixed names
    with connection.cursor() as cursor:
        if not _ids(cursor, wrong, given):
            return []
        if not connection.features.has_select_for_update_skip_locked:  # on SQLite
            cursor.execute(f"{SET_FLAGS} {which}", given)
            return []
        no_key = connection.features.has_select_for_no_key_update
        skip_locked = connection.ops.for_update_sql(skip_locked=True, no_key=no_key)
        with transaction.atomic(using=connection.alias):
            ids = _ids(cursor, f"{wrong} {skip_locked}", given)
            for start in range(0, len(ids), FEW):
                few = ids[start : start + FEW]
                cursor.execute(f"{SET_FLAGS} WHERE id IN ({_marks(few)})", few)
        return _ids(cursor, wrong, given)


def _ids(cursor: Any, sql: str, given: list[Any]) -> list[Any]:
    cursor.execute(sql, given)
    return [row[0] for row in cursor.fetchall()]


def _marks(values: list[Any]) -> str:
    return ", ".join(["%s"] * len(values))
