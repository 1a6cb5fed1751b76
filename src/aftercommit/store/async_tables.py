"""The tables of Django Async 0.6 and 0.7, which this project may have had before."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connections

from aftercommit.store.columns import moment_from

ONE_STATEMENT = 500  # ids that it names


class OldJob(NamedTuple):
    """A row of ``async_job``."""

    id: int
    name: str
    args: str
    kwargs: str
    meta: str
    priority: int
    scheduled: datetime | None
    group_id: int | None


class OldGroup(NamedTuple):
    """A row of ``async_group``."""

    id: int
    reference: str
    description: str | None
    final_id: int | None


class AsyncTables:
    """Reads these tables, and writes that jobs were taken over."""

    def __init__(self, alias: str) -> None:
        self._connection: Any = connections[alias]

    def exist(self) -> bool:
        """Return whether the tables are there."""
        names = set(self._connection.introspection.table_names())
        return {"async_job", "async_group", "async_error"} <= names

    def lock_unfinished(self) -> list[OldJob]:
        """Return the jobs that were neither executed nor cancelled, locked where possible."""
        lock = " FOR UPDATE" if self._connection.vendor != "sqlite" else ""
        rows = self._run(
            "SELECT id, name, args, kwargs, meta, priority, scheduled, group_id FROM async_job "  # noqa: S608
            f"WHERE executed IS NULL AND cancelled IS NULL ORDER BY id{lock}"
        )
        return [_job(row) for row in rows]

    def groups(self, ids: Sequence[int]) -> list[OldGroup]:
        """Return groups by their ids."""
        sql = "SELECT id, reference, description, final_id FROM async_group WHERE id IN ({})"
        return [OldGroup._make(row) for row in self._among(f"{sql} ORDER BY id", ids)]

    def failures(self, ids: Sequence[int]) -> dict[int, int]:
        """Return how often jobs have failed; those that have not are left out."""
        sql = "SELECT job_id, COUNT(*) FROM async_error WHERE job_id IN ({}) GROUP BY job_id"
        return dict(self._among(sql, ids))

    def mark_taken(self, ids: Sequence[int]) -> None:
        """Write that jobs are cancelled there, so that nobody runs or imports them again."""
        now = "STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'NOW')"
        if self._connection.vendor != "sqlite":
            now = "CURRENT_TIMESTAMP"
        for some in _slices(ids):
            marks = ", ".join(["%s"] * len(some))
            sql = f"UPDATE async_job SET cancelled = {now} WHERE id IN ({marks})"  # noqa: S608
            with self._connection.cursor() as cursor:
                cursor.execute(sql, some)

    def _among(self, sql: str, ids: Sequence[int]) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = []
        for some in _slices(ids):
            found += self._run(sql.format(", ".join(["%s"] * len(some))), some)
        return found

    def _run(self, sql: str, given: Sequence[int] = ()) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, list(given))
            rows: list[tuple[Any, ...]] = cursor.fetchall()
            return rows


def _slices(ids: Sequence[int]) -> list[list[int]]:
    return [list(ids[at : at + ONE_STATEMENT]) for at in range(0, len(ids), ONE_STATEMENT)]


def _job(row: tuple[Any, ...]) -> OldJob:
    job = OldJob._make(row)
    return job if job.scheduled is None else job._replace(scheduled=moment_from(job.scheduled))
