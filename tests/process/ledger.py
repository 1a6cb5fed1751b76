"""An append-only table that a trigger fills: every change of a job, and who made it.

It belongs to the transaction that changes the job, so it holds what was committed, in the
order in which the job's row was locked.
"""

from dataclasses import dataclass
from uuid import UUID

from django.db import connections

from tests.process.badge import HEAR

# What no single change may do, whoever makes it: I4 (tokens) and I5 (final states).
WRONG = """
CASE
    WHEN OLD.state <> 'running' AND NEW.state = 'running' AND NEW.token <> OLD.token + 1
        THEN 'I4: claimed without the next token'
    WHEN NOT (OLD.state <> 'running' AND NEW.state = 'running') AND NEW.token <> OLD.token
        THEN 'I4: the token changed without a claim'
    WHEN OLD.state = 'running' AND NEW.state = 'running' AND NEW.worker_id <> OLD.worker_id
        THEN 'I4: another worker without a claim'
    WHEN OLD.state = 'succeeded' AND NEW.state <> 'succeeded'
        THEN 'I5: a job that had succeeded changed'
    WHEN OLD.state IN ('failed', 'cancelled') AND NEW.state NOT IN (OLD.state, 'ready')
        THEN 'I5: a job that had ended ran or ended again'
    WHEN OLD.state IN ('failed', 'cancelled') AND NEW.state = 'ready' AND NEW.attempts <> 0
        THEN 'I5: a job that had ended is ready without a retry by hand'
    ELSE ''
END
"""
CHANGED = (
    "OLD.state <> NEW.state OR OLD.token <> NEW.token OR OLD.crashes <> NEW.crashes"
    " OR OLD.attempts <> NEW.attempts OR OLD.lease_until <> NEW.lease_until"
)
COLUMNS = (
    "job_id, tree, worker, old_state, new_state, old_token, new_token, old_crashes, new_crashes,"
    " wrong"
)
INSERTED = "NEW.id, {tree}, NULL, '', NEW.state, 0, NEW.token, 0, NEW.crashes, ''"
UPDATED = (
    "NEW.id, {tree}, OLD.worker_id, OLD.state, NEW.state, OLD.token, NEW.token,"
    " OLD.crashes, NEW.crashes, " + WRONG
)
DELETED = "OLD.id, {tree}, OLD.worker_id, OLD.state, '', OLD.token, 0, OLD.crashes, 0, ''"
ON = {"INSERT": INSERTED, "UPDATE": UPDATED, "DELETE": DELETED}
TABLE = """
CREATE TABLE rig_event (
    seq {serial}, job_id {uuid} NOT NULL, tree VARCHAR(20), worker VARCHAR(36),
    old_state VARCHAR(9), new_state VARCHAR(9), old_token BIGINT, new_token BIGINT,
    old_crashes BIGINT, new_crashes BIGINT, wrong VARCHAR(100)
)
"""
TYPES = {
    "postgresql": {"serial": "BIGSERIAL PRIMARY KEY", "uuid": "UUID"},
    "mysql": {"serial": "BIGINT AUTO_INCREMENT PRIMARY KEY", "uuid": "CHAR(36)"},
    "sqlite": {"serial": "INTEGER PRIMARY KEY AUTOINCREMENT", "uuid": "CHAR(32)"},
}
POSTGRESQL = """
CREATE FUNCTION rig_{on}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO rig_event ({columns}) VALUES ({values});
    RETURN NULL;
END $$;
CREATE TRIGGER rig_{on} AFTER {on} ON aftercommit_job FOR EACH ROW {when}
EXECUTE FUNCTION rig_{on}();
"""
MYSQL = """
CREATE TRIGGER rig_{on} AFTER {on} ON aftercommit_job FOR EACH ROW
IF {condition} THEN INSERT INTO rig_event ({columns}) VALUES ({values}); END IF
"""
SQLITE = """
CREATE TRIGGER rig_{on} AFTER {on} ON aftercommit_job FOR EACH ROW {when}
BEGIN INSERT INTO rig_event ({columns}) VALUES ({values}); END
"""
TRIGGERS = {"postgresql": POSTGRESQL, "mysql": MYSQL, "sqlite": SQLITE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One change of one job."""

    job_id: UUID
    tree: str | None
    worker: str | None  # that held the job before
    old_state: str  # "" before it was enqueued
    new_state: str  # "" after it was deleted
    old_token: int
    new_token: int
    old_crashes: int
    new_crashes: int
    wrong: str

    @property
    def claimed(self) -> bool:
        """A run begins."""
        return self.old_state != "running" and self.new_state == "running"

    @property
    def renewed(self) -> bool:
        """A run goes on."""
        return self.old_state == self.new_state == "running"

    @property
    def crashed(self) -> bool:
        """A run was taken from its worker."""
        return self.old_state == "running" and self.new_crashes == self.old_crashes + 1


class Ledger:
    """The table and its triggers, on one database alias."""

    def __init__(self, using: str) -> None:
        self._using = using

    def install(self) -> None:
        """Begin to record."""
        self.remove()  # of a run that was killed
        vendor = connections[self._using].vendor
        self._run(TABLE.format(**TYPES[vendor]))
        for on, values in ON.items():
            condition = CHANGED if on == "UPDATE" else "TRUE"
            trigger = TRIGGERS[vendor].format(
                on=on,
                columns=COLUMNS,
                values=values.format(tree=HEAR[vendor]),
                condition=condition,
                when=f"WHEN ({condition})",
            )
            self._run(trigger)

    def remove(self) -> None:
        """End to record, and leave nothing behind."""
        postgresql = connections[self._using].vendor == "postgresql"
        for on in ON:
            if postgresql:
                self._run(f"DROP FUNCTION IF EXISTS rig_{on}() CASCADE")
            else:
                self._run(f"DROP TRIGGER IF EXISTS rig_{on}")
        self._run("DROP TABLE IF EXISTS rig_event")

    def events(self) -> list[Event]:
        """Return everything so far, in order."""
        names = COLUMNS.split(", ")
        with connections[self._using].cursor() as cursor:
            cursor.execute(f"SELECT {COLUMNS} FROM rig_event ORDER BY seq")
            rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        return [Event(**{**row, "job_id": UUID(str(row["job_id"]))}) for row in rows]

    def workers_hit(self) -> int:
        """Return how many workers have lost a run by their death or silence."""
        with connections[self._using].cursor() as cursor:
            cursor.execute(
                "SELECT COUNT(DISTINCT worker) FROM rig_event"
                " WHERE old_state = 'running' AND new_crashes > old_crashes"
            )
            return int(cursor.fetchone()[0])

    def _run(self, sql: str) -> None:
        with connections[self._using].cursor() as cursor:
            cursor.execute(sql)
