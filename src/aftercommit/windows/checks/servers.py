"""Checks that query the database; run only when Django checks that database."""

from collections.abc import Iterator, Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Warning
from django.db.backends.base.base import BaseDatabaseWrapper

from aftercommit.enqueue.configured import our_backends
from aftercommit.store import STORES
from aftercommit.store.postgresql.presence import SESSION, changes_session
from aftercommit.windows.checks.isolation import isolation_error
from aftercommit.windows.checks.subjects import job_databases
from aftercommit.windows.checks.tables import tables_of

OLDEST = {"PostgreSQL": (15,), "MySQL": (8, 4), "MariaDB": (10, 6), "SQLite": (3, 37)}
DESCENDING_INDEXES = (10, 8)  # MariaDB


def check_servers(databases: Sequence[str] | None = None, **_kwargs: Any) -> list[CheckMessage]:
    """Check those of ``databases`` that have jobs."""
    asked = [one for one in job_databases() if one.alias in (databases or ())]
    return [message for one in asked for message in (*answers_of(one), *tables_of(one))]


def answers_of(database: BaseDatabaseWrapper) -> Iterator[CheckMessage]:
    """Check the version and the settings of one database server."""
    if database.vendor not in STORES:
        return
    yield from _version(database)
    if database.vendor == "sqlite":
        yield from _journal(database)
    if database.vendor == "postgresql" and _wants_session_locks(database):
        yield from _pooler(database)
    if database.vendor != "sqlite" and "isolation_level" not in database.settings_dict["OPTIONS"]:
        # else see settings_of()
        yield from isolation_error(database, _isolation(database))


def _version(database: BaseDatabaseWrapper) -> Iterator[CheckMessage]:
    product, version = product_of(database), database.get_database_version()
    if version < OLDEST[product]:
        yield Error(
            f"Database {database.alias!r} is {product} {_dotted(version)}; aftercommit needs "
            f"{product} {_dotted(OLDEST[product])} or newer for its jobs.",
            hint="Update the server, or set OPTIONS['using'] of the task backend to a database "
            "on a newer one.",
            id="aftercommit.E003",
        )
    elif product == "MariaDB" and version < DESCENDING_INDEXES:
        yield Warning(
            f"Database {database.alias!r} is MariaDB {_dotted(version)}, which ignores that an "
            "index is descending: each claim sorts all due jobs of its queue, so a long "
            "backlog makes workers slow.",
            hint="Update to MariaDB 10.8 or newer.",
            id="aftercommit.W002",
        )


def product_of(database: Any) -> str:
    """Return the product: for Django, MySQL and MariaDB are one vendor."""
    if database.vendor == "mysql":
        return "MariaDB" if database.mysql_is_mariadb else "MySQL"
    return str(database.display_name)


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))


def _isolation(database: BaseDatabaseWrapper) -> str:
    with database.cursor() as cursor:
        if database.vendor == "postgresql":
            cursor.execute("SHOW default_transaction_isolation")
            return str(cursor.fetchone()[0])
        # Two names of one variable: MySQL has the first, MariaDB before 11.1 the second.
        cursor.execute(
            "SHOW SESSION VARIABLES"
            " WHERE variable_name IN ('transaction_isolation', 'tx_isolation')"
        )
        return str(cursor.fetchone()[1])


def _wants_session_locks(database: BaseDatabaseWrapper) -> bool:
    options = [one.config for one in our_backends() if one.using == database.alias]
    return bool(options) and options[0].session_locks  # the first counts: W006


def _pooler(database: BaseDatabaseWrapper) -> Iterator[CheckMessage]:
    if _is_pooled(database):
        yield Warning(
            f"Database {database.alias!r} is behind a pooler in transaction mode (PgBouncer), "
            "where session locks and LISTEN do not work. Workers notice it and do without: jobs "
            "of a dead worker wait for the end of its lease, and idle workers poll more often.",
            hint="Let the workers connect to PostgreSQL itself, or set "
            "OPTIONS['session_locks'] = False.",
            id="aftercommit.W010",
        )


def _is_pooled(database: BaseDatabaseWrapper) -> bool:
    another = database.copy()

    def ask() -> int:
        with another.cursor() as cursor:
            cursor.execute(SESSION)
            return int(cursor.fetchone()[0])

    try:
        return changes_session(ask, database)
    finally:
        another.close()


def _journal(database: Any) -> Iterator[CheckMessage]:
    if database.is_in_memory_db():
        return
    with database.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode")
        (mode,) = cursor.fetchone()
    if mode != "wal":
        yield Warning(
            f"SQLite database {database.alias!r} is in journal mode {mode!r}: every reader "
            "blocks workers that write and every writer blocks readers, until a statement fails "
            "with 'database is locked'.",
            hint=f"Set DATABASES[{database.alias!r}]['OPTIONS']['init_command'] = "
            "'PRAGMA journal_mode=WAL'.",
            id="aftercommit.W004",
        )
