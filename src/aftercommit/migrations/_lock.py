"""The lock of a table that is in use: asked for briefly, again and again.

Statements that come after a waiting lock wait as well. A transaction that has used the table and
stays open would stop all other programs until it ends.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import OperationalError, transaction

JOBS = "aftercommit_job"
TRIES = 200
TIMEOUT = "100ms"  # of PostgreSQL: with the change itself, others wait for about 150
SECONDS = 1  # of MySQL, which counts whole seconds
LOCK_NOT_AVAILABLE = "55P03"
LOCK_WAIT_TIMEOUT = 1205
BUSY = (
    "The table {table} could not be locked for a moment: a transaction that has used it "
    "stays open.\n"
    "Waiting for it would make all other programs wait, too.\n"
    "Run migrate again when the transaction has ended; {where} shows it. What has been done "
    "already is not done again."
)


def lock_on_postgresql(schema_editor: Any, table: str = JOBS) -> None:
    """Lock the table until the end of the migration's transaction."""
    lock = f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"
    if schema_editor.collect_sql:
        schema_editor.execute(lock, params=None)
        return

    def try_once() -> None:
        connection = schema_editor.connection
        with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{TIMEOUT}'")
            cursor.execute(f"{lock}; SET LOCAL lock_timeout = DEFAULT")

    _until_free(try_once, _is_locked_on_postgresql, table=table, where="pg_stat_activity")


def change_on_mysql(schema_editor: Any, change: Callable[[], None], table: str = JOBS) -> None:
    """Make a change of the table that waits for its metadata lock."""
    if schema_editor.collect_sql:
        change()
        return
    with schema_editor.connection.cursor() as cursor, _short_waits(cursor):
        _until_free(
            change, _is_locked_on_mysql, table=table, where="information_schema.innodb_trx"
        )


def _until_free(
    try_once: Callable[[], None],
    is_locked: Callable[[OperationalError], bool],
    *,
    table: str,
    where: str,
) -> None:
    for tries_left in reversed(range(TRIES)):
        try:
            try_once()
        except OperationalError as error:
            if not is_locked(error):
                raise
            if not tries_left:
                raise OperationalError(BUSY.format(table=table, where=where)) from error
            time.sleep(random.uniform(0.1, 0.5))  # noqa: S311
        else:
            return


@contextmanager
def _short_waits(cursor: Any) -> Iterator[None]:
    cursor.execute("SELECT @@SESSION.lock_wait_timeout")
    (before,) = cursor.fetchone()
    cursor.execute("SET SESSION lock_wait_timeout = %s", [SECONDS])
    try:
        yield
    finally:
        cursor.execute("SET SESSION lock_wait_timeout = %s", [before])


def _is_locked_on_postgresql(error: OperationalError) -> bool:
    return getattr(error.__cause__, "sqlstate", None) == LOCK_NOT_AVAILABLE


def _is_locked_on_mysql(error: OperationalError) -> bool:
    return bool(error.args) and error.args[0] == LOCK_WAIT_TIMEOUT
