"""A trigger that writes down every change of a job's row, and the rules it must keep."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

Change = tuple[str, str, int, int]  # old and new state, old and new token
TABLE = """
CREATE TABLE job_history (
    old_state varchar(9), new_state varchar(9), old_token bigint, new_token bigint
)
"""
NOTE = (
    "INSERT INTO job_history VALUES (OLD.state, NEW.state, OLD.token, NEW.token);",
    "INSERT INTO job_history VALUES (OLD.state, 'gone', OLD.token, OLD.token);",
)
TRIGGERS = {
    "sqlite": [
        f"CREATE TRIGGER history_1 AFTER UPDATE ON aftercommit_job BEGIN {NOTE[0]} END",
        f"CREATE TRIGGER history_2 AFTER DELETE ON aftercommit_job BEGIN {NOTE[1]} END",
    ],
    "mysql": [
        f"CREATE TRIGGER history_1 AFTER UPDATE ON aftercommit_job FOR EACH ROW {NOTE[0]}",
        f"CREATE TRIGGER history_2 AFTER DELETE ON aftercommit_job FOR EACH ROW {NOTE[1]}",
    ],
    "postgresql": [
        f"CREATE FUNCTION history() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF TG_OP = 'UPDATE' THEN {NOTE[0]} ELSE {NOTE[1]} END IF; RETURN NULL; END $$",
        "CREATE TRIGGER history_1 AFTER UPDATE OR DELETE ON aftercommit_job"
        " FOR EACH ROW EXECUTE FUNCTION history()",
    ],
}
REMOVE = {
    "sqlite": ["DROP TRIGGER history_1", "DROP TRIGGER history_2"],
    "mysql": ["DROP TRIGGER history_1", "DROP TRIGGER history_2"],
    "postgresql": ["DROP FUNCTION history CASCADE"],
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
}


@contextmanager
def written_down() -> Iterator[None]:
    """Note every change of a job while the block lasts."""
    _run(TABLE, *TRIGGERS[connection.vendor])
    try:
        yield
    finally:
        _run(*REMOVE[connection.vendor], "DROP TABLE job_history")


def forget_history() -> None:
    """Begin a new page."""
    _run("DELETE FROM job_history")


def history() -> list[Change]:
    """Return the changes that were committed since."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM job_history")
        return list(cursor.fetchall())


def is_legal(old_state: str, new_state: str, old_token: int, new_token: int) -> bool:
    """Tell whether some transition makes this change."""
    # I4: a claim raises the token by exactly one, and nothing else touches it.
    rise = 1 if (old_state, new_state) == ("ready", "running") else 0
    return (old_state, new_state) in ARROWS and new_token == old_token + rise


def _run(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
