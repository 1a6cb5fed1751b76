"""Triggers that write down every change of a job and a lease, and the rules they must keep."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

Change = tuple[str, str, int, int]  # old and new state, old and new token; 0, 0 for leases
COLUMNS = "old_state, new_state, old_token, new_token"
TABLE = """
CREATE TABLE job_history (
    number {number},
    old_state varchar(9), new_state varchar(9), old_token bigint, new_token bigint
)
"""
NUMBERS = {
    "sqlite": "integer PRIMARY KEY",
    "mysql": "bigint AUTO_INCREMENT PRIMARY KEY",
    "postgresql": "bigserial",
}
NOTE = (
    f"INSERT INTO job_history ({COLUMNS}) VALUES (OLD.state, NEW.state, OLD.token, NEW.token);",
    f"INSERT INTO job_history ({COLUMNS}) VALUES (OLD.state, 'gone', OLD.token, OLD.token);",
)
OF_LEASE = (
    f"INSERT INTO job_history ({COLUMNS}) VALUES ('lease', 'renewed', 0, 0);",
    f"INSERT INTO job_history ({COLUMNS}) VALUES ('lease', 'gone', 0, 0);",
)
TRIGGERS = {
    "sqlite": [
        f"CREATE TRIGGER history_1 AFTER UPDATE ON aftercommit_job BEGIN {NOTE[0]} END",
        f"CREATE TRIGGER history_2 AFTER DELETE ON aftercommit_job BEGIN {NOTE[1]} END",
        f"CREATE TRIGGER history_3 AFTER UPDATE ON aftercommit_lease BEGIN {OF_LEASE[0]} END",
        f"CREATE TRIGGER history_4 AFTER DELETE ON aftercommit_lease BEGIN {OF_LEASE[1]} END",
    ],
    "mysql": [
        f"CREATE TRIGGER history_1 AFTER UPDATE ON aftercommit_job FOR EACH ROW {NOTE[0]}",
        f"CREATE TRIGGER history_2 AFTER DELETE ON aftercommit_job FOR EACH ROW {NOTE[1]}",
        f"CREATE TRIGGER history_3 AFTER UPDATE ON aftercommit_lease FOR EACH ROW {OF_LEASE[0]}",
        f"CREATE TRIGGER history_4 AFTER DELETE ON aftercommit_lease FOR EACH ROW {OF_LEASE[1]}",
    ],
    "postgresql": [
        f"CREATE FUNCTION history() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF TG_OP = 'UPDATE' THEN {NOTE[0]} ELSE {NOTE[1]} END IF; RETURN NULL; END $$",
        "CREATE TRIGGER history_1 AFTER UPDATE OR DELETE ON aftercommit_job"
        " FOR EACH ROW EXECUTE FUNCTION history()",
        f"CREATE FUNCTION lease_history() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF TG_OP = 'UPDATE' THEN {OF_LEASE[0]} ELSE {OF_LEASE[1]} END IF; RETURN NULL; END $$",
        "CREATE TRIGGER history_2 AFTER UPDATE OR DELETE ON aftercommit_lease"
        " FOR EACH ROW EXECUTE FUNCTION lease_history()",
    ],
}
REMOVE = {
    "sqlite": [f"DROP TRIGGER history_{number}" for number in range(1, 5)],
    "mysql": [f"DROP TRIGGER history_{number}" for number in range(1, 5)],
    "postgresql": ["DROP FUNCTION history CASCADE", "DROP FUNCTION lease_history CASCADE"],
}
# I5: what is finished stays as it is, but for a second life and the end of all.
ARROWS = {
    ("ready", "running"),
    ("ready", "cancelled"),
    ("running", "running"),
    ("running", "ready"),
    ("running", "succeeded"),
    ("running", "failed"),
    ("running", "cancelled"),
    ("failed", "ready"),
    ("cancelled", "ready"),
    ("succeeded", "gone"),
    ("failed", "gone"),
    ("cancelled", "gone"),
    ("lease", "renewed"),
    ("lease", "gone"),
}


@contextmanager
def written_down() -> Iterator[None]:
    """Note every change of a job while the block lasts."""
    _run(TABLE.format(number=NUMBERS[connection.vendor]), *TRIGGERS[connection.vendor])
    try:
        yield
    finally:
        _run(*REMOVE[connection.vendor], "DROP TABLE job_history")


def forget_history() -> None:
    """Begin a new page."""
    _run("DELETE FROM job_history")


def history() -> list[Change]:
    """Return the changes that were committed since, those of leases last.

    A lease may change while another transaction ends its job: neither waits for the other.
    """
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {COLUMNS} FROM job_history ORDER BY number")
        return sorted(cursor.fetchall(), key=lambda change: change[0] == "lease")


def is_legal(old_state: str, new_state: str, old_token: int, new_token: int) -> bool:
    """Tell whether some transition makes this change."""
    # I4: a claim raises the token by exactly one, and nothing else touches it.
    rise = 1 if (old_state, new_state) == ("ready", "running") else 0
    return (old_state, new_state) in ARROWS and new_token == old_token + rise


def _run(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
