"""Notes of runs on MySQL and MariaDB: an upsert has no WHERE there, and returns no row."""

from typing import Any

from aftercommit.models import Job
from aftercommit.store.mysql.replication import MySQLReplication
from aftercommit.store.notes import FIRST_ONE, MINE, OVERWRITE, TAKE, Kept
from aftercommit.values import Claim

# VALUES(), because the two servers have no other way in common. A column that was assigned
# before has its new value in what follows: the token comes last.
LATER_PROGRESS = "ON DUPLICATE KEY UPDATE " + ", ".join(
    [
        f"{name} = IF(token <= VALUES(token), VALUES({name}), {name})"
        for name in ("done", "total", "message", "changed_at", "token")
    ]
)
JOB = "SELECT 1 FROM aftercommit_job WHERE id = %(job_id)s {mine}"
# Not an upsert of a row that is there: beside one who waits for the row it would deadlock. A
# locking read: in REPEATABLE READ another one might show the row as it was.
SAVED = """
SELECT id, token, value FROM aftercommit_saved
WHERE job_id = %(job_id)s AND kind = %(kind)s AND name = %(name)s
FOR UPDATE
"""
INSERT = """
INSERT IGNORE INTO aftercommit_saved (job_id, kind, name, token, value, saved_at)
VALUES (%(job_id)s, %(kind)s, %(name)s, %(token)s, %(value)s, UTC_TIMESTAMP(6))
"""
CHANGE = "UPDATE aftercommit_saved SET {change} WHERE id = %(id)s"
CHANGES = {
    OVERWRITE: "value = %(value)s, token = %(token)s, saved_at = UTC_TIMESTAMP(6)",
    TAKE: "token = %(token)s",
    FIRST_ONE: "value = COALESCE(value, %(value)s)",
}


class MySQLNotes(MySQLReplication):
    """Notes on MySQL and MariaDB."""

    def _later_progress(self) -> str:
        return LATER_PROGRESS

    def _save(
        self, change: str, claim: Claim, kind: str, name: str, value: str | None
    ) -> Kept | None:
        given = {
            "job_id": Job._meta.pk.get_db_prep_value(claim.job_id, self.connection),
            "kind": str(kind),
            "name": name,
            "token": claim.token,
            "value": value,
        }
        with self._write(), self.connection.cursor() as cursor:
            if not cursor.execute(JOB.format(mine="" if change is FIRST_ONE else MINE), given):
                return None
            if not cursor.execute(SAVED, given):
                cursor.execute(INSERT, given)  # nothing, if another one was faster
                cursor.execute(SAVED, given)
            row_id, token, found = cursor.fetchone()
            return self._change_saved(cursor, change, {**given, "id": row_id}, token, found)

    def _change_saved(
        self, cursor: Any, change: str, given: dict[str, Any], token: int, found: str | None
    ) -> Kept | None:
        """Change a row that is locked, unless a later run has it; return what is in it then."""
        if change is not FIRST_ONE and token > given["token"]:
            return None
        cursor.execute(CHANGE.format(change=CHANGES[change]), given)
        if change is TAKE:
            return Kept(found)
        return Kept(given["value"] if change is OVERWRITE or found is None else found)
