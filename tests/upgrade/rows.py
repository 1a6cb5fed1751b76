"""Many jobs in the table of version 0.1, made by one statement, and a program that uses it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

from django.db import OperationalError, connections

from tests.upgrade.tables import Tables

DIGITS = "SELECT 0 AS n UNION ALL " + " UNION ALL ".join(f"SELECT {n}" for n in range(1, 10))
NUMBERS = f"""
SELECT a.n + 10 * b.n + 100 * c.n + 1000 * d.n + 10000 * e.n + 100000 * f.n AS n
FROM {", ".join(f"({DIGITS}) AS {letter}" for letter in "abcdef")}
"""
FIRST_ID = "019000000000700080000000"  # of version 7, all of the same moment; 8 digits follow
WORDS = {
    "postgresql": {
        "id": f"('{FIRST_ID}' || lpad(to_hex(n), 8, '0'))::uuid",
        "payload": """'{"args": ["due ' || n || '"], "kwargs": {}}'""",
        "now": "now()",
    },
    "mysql": {
        "id": f"CONCAT('{FIRST_ID}', LPAD(HEX(n), 8, '0'))",
        "payload": """CONCAT('{"args": ["due ', n, '"], "kwargs": {}}')""",
        "now": "UTC_TIMESTAMP()",
    },
    "sqlite": {
        "id": f"'{FIRST_ID}' || printf('%08x', n)",
        "payload": """'{"args": ["due ' || n || '"], "kwargs": {}}'""",
        "now": "datetime('now')",
    },
}
PAST, FUTURE = "'2026-01-01 00:00:00'", "'2099-01-01 00:00:00'"
FILL = """
INSERT INTO aftercommit_job (
    id, state, queue, priority, run_after, backend, task_path, payload, meta, token, attempts,
    crashes, conflicts, max_attempts, cancel_requested, unique_until_started, enqueued_at,
    finished_at, errors
)
SELECT {id}, state, 'default', 0, CASE WHEN kind = 'later' THEN {future} ELSE {past} END,
    'default', 'shop.tasks.plain', {payload}, '{{}}', 0, 0, 0, 0, 5, {false}, {false}, {past},
    CASE WHEN state <> 'ready' THEN {now} END, '[]'
FROM (
    SELECT n, kind, CASE WHEN kind IN ('later', 'due') THEN 'ready' ELSE kind END AS state
    FROM (
        SELECT n, CASE
            WHEN n < {due} THEN 'due'
            WHEN n % 10 = 1 THEN 'failed'
            WHEN n % 10 = 2 THEN 'cancelled'
            WHEN n % 10 = 3 THEN 'later'
            ELSE 'succeeded'
        END AS kind
        FROM ({numbers}) AS numbers WHERE n < {rows}
    ) AS kinds
) AS given
"""
CASTS = {"postgresql": "::timestamptz", "mysql": "", "sqlite": ""}


def fill(tables: Tables, *, rows: int, due: int) -> None:
    """Insert jobs in every state; those that are due are called "due 0", and so on.

    Those that have ended have done so just now: a worker would prune older ones.
    """
    cast = CASTS[tables.vendor]
    tables.run(
        FILL.format(
            **WORDS[tables.vendor],
            numbers=NUMBERS,
            rows=rows,
            due=due,
            past=PAST + cast,
            future=FUTURE + cast,
            false="false",
        )
    )


def counts(tables: Tables) -> dict[str, int]:
    """Return how many jobs there are in each state, besides those of ``Writer``."""
    found = tables.run(
        "SELECT state, count(*) FROM aftercommit_job WHERE queue = 'default' GROUP BY state"
    )
    return dict(found)


def unfinished(tables: Tables) -> int:
    """Return how many jobs are due or running."""
    ((found,),) = tables.run(
        "SELECT count(*) FROM aftercommit_job WHERE queue = 'default' "
        "AND state IN ('ready', 'running') AND run_after < '2090-01-01 00:00:00'"
    )
    return int(found)


def wrong_flags(tables: Tables) -> int:
    """Return how many jobs have flags that are not what their state says."""
    ((found,),) = tables.run(
        "SELECT count(*) FROM aftercommit_job WHERE claimable <> (state = 'ready') "
        "OR unsuccessful <> (state IN ('failed', 'cancelled'))"
    )
    return int(found)


class Writer:
    """A view that inserts a row and changes it, each committed at once, again and again."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._enough = Event()
        self.rows = 0
        self.longest = 0.0  # seconds that a statement took
        self.error: Exception | None = None

    @contextmanager
    def beside(self) -> Iterator["Writer"]:
        """Write beside the block."""
        thread = Thread(target=self._write)
        thread.start()
        try:
            yield self
        finally:
            self._enough.set()
            thread.join()
        if self.error is not None:
            raise self.error

    def _write(self) -> None:
        try:
            while not self._enough.wait(0.002):
                job_id = self._timed(self._insert)
                self._timed(lambda: self._change(job_id))  # noqa: B023
                self.rows += 1
        except Exception as error:
            self.error = error
        finally:
            connections.close_all()

    def _insert(self) -> str:
        return self._tables.add_job("ready", queue="writer")

    def _change(self, job_id: str) -> None:
        self._tables.run("UPDATE aftercommit_job SET priority = 1 WHERE id = %s", [job_id])

    def _timed(self, statement: Any) -> Any:
        begins = time.monotonic()
        while True:
            try:
                return statement()
            except OperationalError:  # SQLite: the migration has taken longer than its timeout
                if self._tables.vendor != "sqlite":
                    raise
            finally:
                self.longest = max(self.longest, time.monotonic() - begins)
