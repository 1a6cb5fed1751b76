"""The tables of other queues in this database: read what waits, take it in a transaction.

Rows are taken in the transaction that inserts their jobs. A worker of the other queue cannot take
a row that is locked here, and a row that it has locked is left out.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from django.db import connections


class OtherTable(NamedTuple):
    """A table, and the SQL about it; all names are of the library, none comes from outside."""

    name: str
    columns: tuple[str, ...]  # the first is the key
    waiting: str  # which rows wait to be run
    order: tuple[str, ...]  # columns that together order the rows, the oldest first
    take: str  # what becomes of rows that are jobs here; {keys}: their keys
    others: str  # which rows are not over, and are left: workers hold them


DJANGO_TASKS_DB = OtherTable(
    name="django_tasks_database_dbtaskresult",
    columns=(
        *("id", "enqueued_at", "task_path", "args_kwargs", "queue_name", "priority"),
        "run_after",
    ),
    waiting="status = 'READY'",
    order=("enqueued_at", "id"),
    take="DELETE FROM django_tasks_database_dbtaskresult WHERE id IN ({keys})",
    others="status = 'RUNNING'",
)
PROCRASTINATE = OtherTable(
    name="procrastinate_jobs",
    columns=("id", "task_name", "args", "queue_name", "priority", "scheduled_at"),
    waiting="status = 'todo'",
    order=("id",),
    take="UPDATE procrastinate_jobs SET status = 'cancelled' WHERE id IN ({keys})",
    others="status = 'doing'",
)
BACKGROUND_TASKS = OtherTable(
    name="background_task",
    columns=("id", "task_name", "task_params", "queue", "priority", "run_at", "repeat"),
    waiting="locked_by IS NULL AND failed_at IS NULL",
    order=("id",),
    take="DELETE FROM background_task WHERE id IN ({keys})",
    others="locked_by IS NOT NULL AND failed_at IS NULL",
)
DJANGO_Q_SCHEDULES = OtherTable(
    name="django_q_schedule",
    columns=(
        *("id", "func", "args", "kwargs", "schedule_type", "next_run", "hook", "cron"),
        *("minutes", "intended_date_kwarg"),
    ),
    waiting="repeats <> 0",
    order=("id",),
    take="DELETE FROM django_q_schedule WHERE id IN ({keys})",
    others="1 = 0",
)
DJANGO_Q_QUEUE = OtherTable(
    name="django_q_ormq",
    columns=("id",),
    waiting="1 = 1",
    order=("id",),
    take="DELETE FROM django_q_ormq WHERE id IN ({keys})",
    others="1 = 1",
)


class WaitingRows:
    """Reads the waiting rows of such a table in their order, and takes them."""

    def __init__(self, alias: str, table: OtherTable) -> None:
        self._connection: Any = connections[alias]
        self._table = table
        self._quote = self._connection.ops.quote_name  # "repeat" is a word of MySQL
        self._after: tuple[Any, ...] | None = None  # the place of the row that was read last

    def exist(self) -> bool:
        """Return whether the table is there."""
        return self._table.name in set(self._connection.introspection.table_names())

    def read(self, limit: int) -> list[dict[str, Any]]:
        """Return the next rows, locked if a transaction is open, without those locked by others.

        Each row is returned once.
        """
        table = self._table
        places = ", ".join(table.order)
        where, given = table.waiting, list(self._after or ())
        if given:
            marks = ", ".join(["%s"] * len(given))
            where += f" AND ({places}) > ({marks})"
        columns = ", ".join(map(self._quote, table.columns))
        rows = self._run(
            f"SELECT {columns} FROM {table.name} WHERE {where} "  # noqa: S608
            f"ORDER BY {places} LIMIT {int(limit)}{self._lock()}",
            given,
        )
        found = [dict(zip(table.columns, row, strict=True)) for row in rows]
        if found:
            self._after = tuple(found[-1][name] for name in table.order)
        return found

    def take(self, keys: Sequence[Any]) -> None:
        """Let no worker of the other queue run these rows, once the transaction commits."""
        if keys:
            sql = self._table.take.format(keys=", ".join(["%s"] * len(keys)))
            with self._connection.cursor() as cursor:
                cursor.execute(sql, list(keys))

    def held(self) -> int:
        """Return how many rows workers hold."""
        table = self._table
        sql = f"SELECT COUNT(*) FROM {table.name} WHERE {table.others}"  # noqa: S608
        return int(self._run(sql)[0][0])

    def _lock(self) -> str:
        skips = self._connection.features.has_select_for_update_skip_locked
        if not self._connection.in_atomic_block or not skips:
            return ""
        return " FOR UPDATE SKIP LOCKED"

    def _run(self, sql: str, given: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, list(given))
            rows: list[tuple[Any, ...]] = cursor.fetchall()
            return rows
