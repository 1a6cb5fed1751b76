"""Inserts jobs on PostgreSQL.

pg_notify() is called only for queues with a new due job. The server sends the notification at
COMMIT, once for equal texts, and never after a rollback.
"""

import json
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from operator import attrgetter
from typing import Any
from uuid import UUID

from aftercommit.store.base import Store
from aftercommit.store.columns import columns_of, values_from
from aftercommit.store.postgresql import prepared
from aftercommit.store.postgresql.sql import array
from aftercommit.values import Edge, NewJob, NewJobs

LARGEST_KEPT = 4096  # bytes of a payload
MANY = 200  # jobs that are worth a statement of their own
# What alike jobs have in common, besides the meta data.
REST = attrgetter(*({one.name for one in fields(NewJob)} - {"id", "payload", "meta"}))

TYPES = {
    "id": "uuid",
    "priority": "smallint",
    "run_after": "timestamptz",
    "max_attempts": "int",
    "meta": "jsonb",
    "unique_until_started": "bool",
    "blocked": "smallint",
    "claimable": "bool",
    "waits_for": "int",
    "needed": "bool",
}
UNSET = {"run_after": "statement_timestamp()"}
FRESH = "'ready', 0, 0, 0, 0, false, statement_timestamp(), '[]'"
ALL_FRESH = "state, token, attempts, crashes, conflicts, cancel_requested, enqueued_at, errors"
OR_SKIP = "ON CONFLICT DO NOTHING"
INSERT_ONE = f"""
INSERT INTO aftercommit_job ({{columns}}, {ALL_FRESH}) VALUES ({{values}}, {FRESH})
{{or_skip}}
RETURNING enqueued_at, CASE WHEN run_after <= statement_timestamp()
    THEN pg_notify('aftercommit', queue) END
"""  # noqa: S608 - fixed names


@cache
def insert_one(columns: tuple[str, ...], unset: frozenset[str], *, or_skip: bool) -> str:
    """Return the statement for one job; ``unset`` columns are no parameters, which is faster."""
    values = [f"%({name})s" if name not in unset else UNSET.get(name, "NULL") for name in columns]
    return INSERT_ONE.format(
        columns=", ".join(columns), values=", ".join(values), or_skip=OR_SKIP * or_skip
    )


# One JSON document is built and parsed faster than an array for each column.
INSERT_MANY = f"""
WITH new AS (
    INSERT INTO aftercommit_job ({{columns}}, {ALL_FRESH})
    SELECT {{values}}, {FRESH}
    FROM json_to_recordset(%(jobs)s::json) AS given ({{types}})
    {{or_skip}}
    RETURNING queue, run_after
)
SELECT pg_notify('aftercommit', queue) FROM new
WHERE run_after <= statement_timestamp()
GROUP BY queue
"""  # noqa: S608 - fixed names


@cache
def insert_many(columns: tuple[str, ...], *, or_skip: bool) -> str:
    """Return the statement for jobs that are given as one JSON document."""
    values = {name: name for name in columns} | {
        "run_after": "COALESCE(run_after, statement_timestamp())"
    }
    return INSERT_MANY.format(
        columns=", ".join(columns),
        values=", ".join(values.values()),
        types=", ".join(f"{name} {TYPES.get(name, 'text')}" for name in columns),
        or_skip=OR_SKIP * or_skip,
    )


# Only values that the jobs do not share are sent as lists. The payloads are elements of one JSON
# array, and json_array_elements() returns their exact text.
SHARED = {
    "id": "given.id",
    "payload": "given.payload::text",
    "run_after": "COALESCE(%(run_after)s::timestamptz, statement_timestamp())",
}
INSERT_ALIKE = f"""
WITH new AS (
    INSERT INTO aftercommit_job ({{columns}}, {ALL_FRESH})
    SELECT {{values}}, {FRESH}
    FROM ROWS FROM (
        unnest(%(ids)s::uuid[]), json_array_elements(%(payloads)s::json)
    ) AS given (id, payload)
    {{or_skip}}
)
SELECT pg_notify('aftercommit', %(queue)s)
WHERE {SHARED["run_after"]} <= statement_timestamp()
"""  # noqa: S608 - fixed names


@cache
def insert_alike(columns: tuple[str, ...], *, or_skip: bool) -> str:
    """Return the statement for jobs that differ in their ids and payloads."""
    values = {name: f"%({name})s::{TYPES.get(name, 'text')}" for name in columns} | SHARED
    return INSERT_ALIKE.format(
        columns=", ".join(columns), values=", ".join(values.values()), or_skip=OR_SKIP * or_skip
    )


INSERT_EDGES = """
INSERT INTO aftercommit_dependency (job_id, needs_id, on_failure, place)
SELECT * FROM ROWS FROM (
    unnest(%(job_ids)s::uuid[]), unnest(%(needs_ids)s::uuid[]), unnest(%(rules)s::text[]),
    json_array_elements_text(%(places)s::json)
) AS given
"""


# Conflicts with the lock of a DELETE only: whoever writes the end of a run does not wait for it.
KEEP = """
SELECT id FROM aftercommit_job WHERE id = ANY(%(ids)s) AND state IN ('ready', 'running')
ORDER BY id
FOR KEY SHARE
"""


class PostgreSQLInserts(Store):
    """What the store of PostgreSQL does to insert jobs."""

    @abstractmethod
    def _run(self, sql: str, given: dict[str, Any] | Sequence[Any]) -> list[Any]:
        """Return the rows of a statement."""

    def _insert_rows(self, jobs: Sequence[NewJob], *, or_skip: bool) -> list[Any]:
        columns = columns_of(jobs)
        if len(jobs) == 1:
            row = values_from(jobs[0], columns)
            unset = frozenset([name for name, value in row.items() if value is None])
            sql = insert_one(columns, unset, or_skip=or_skip)
            return self._run_insert(sql, row, keep=len(jobs[0].payload) <= LARGEST_KEPT)
        rows = [_json_row(job, columns) for job in jobs]
        document = json.dumps(rows, ensure_ascii=False)
        return self._run_insert(insert_many(columns, or_skip=or_skip), {"jobs": document})

    def _insert_alike(self, jobs: NewJobs, *, repeated: bool) -> None:
        columns = columns_of([jobs.like])
        given = values_from(jobs.like, columns)
        given |= {"ids": array(jobs.ids), "payloads": f"[{','.join(jobs.payloads)}]"}
        self._run_insert(insert_alike(columns, or_skip=repeated), given)

    def _insert_free(self, jobs: Sequence[NewJob]) -> None:
        """Insert many jobs that are alike by one statement, which takes half the time."""
        by_rest: dict[Any, list[NewJob]] = {}
        for one in jobs if len(jobs) >= MANY else ():
            if not one.meta:
                by_rest.setdefault(REST(one), []).append(one)
        alike = [some for some in by_rest.values() if len(some) >= MANY]
        for some in alike:
            ids, payloads = [one.id.hex for one in some], [one.payload for one in some]
            self._insert_alike(NewJobs(ids=ids, payloads=payloads, like=some[0]), repeated=False)
        done = {one.id for some in alike for one in some}
        if rest := [one for one in jobs if one.id not in done]:
            self._insert_rows(rest, or_skip=False)

    def _insert_edges(self, edges: Sequence[Edge]) -> None:
        given = {
            "job_ids": array(one.job_id.hex for one in edges),
            "needs_ids": array(one.needs_id.hex for one in edges),
            "rules": array(one.on_failure for one in edges),
            "places": json.dumps([one.place for one in edges]),
        }
        with self.connection.cursor() as cursor:
            cursor.execute(INSERT_EDGES, given)

    def _keep(self, job_ids: Sequence[UUID]) -> set[UUID]:
        return {row[0] for row in self._run(KEEP, {"ids": list(job_ids)})}

    def _run_insert(self, sql: str, given: dict[str, Any], *, keep: bool = False) -> list[Any]:
        rows = prepared.execute(self.connection, sql, given, keep=keep)
        return self._run(sql, given) if rows is None else rows


def _json_row(job: NewJob, columns: Sequence[str]) -> dict[str, Any]:
    run_after = None if job.run_after is None else job.run_after.isoformat()
    row = values_from(job, columns)
    row |= {"id": job.id.hex, "run_after": run_after, "meta": job.meta}
    return row
