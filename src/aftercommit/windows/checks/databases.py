"""Checks of DATABASES for the aliases with jobs; they do not connect."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.db.backends.base.base import BaseDatabaseWrapper

from aftercommit.options.worker import WorkerConfig
from aftercommit.store import STORES
from aftercommit.windows.checks.isolation import SERVER_DEFAULT, isolation_error
from aftercommit.windows.checks.subjects import job_databases

TAKE_THE_WRITE_LOCK = ("IMMEDIATE", "EXCLUSIVE")
DJANGOS_TEST_DATABASE = "file:memorydb_"  # Django's test runner uses it during its checks
BESIDE_THE_THREADS = 5  # connections of a worker process beside its threads' own
POOL_SIZE = 4  # default of psycopg_pool
UTC_NAMES = (None, "UTC", "Etc/UTC")
PSYCOPG_LEVELS = {
    1: "READ UNCOMMITTED",
    2: "READ COMMITTED",
    3: "REPEATABLE READ",
    4: "SERIALIZABLE",
}


def check_databases(**_kwargs: Any) -> list[CheckMessage]:
    """Check the settings of the databases with jobs."""
    return [message for database in job_databases() for message in settings_of(database)]


def settings_of(database: BaseDatabaseWrapper) -> Iterator[CheckMessage]:
    """Check the settings of one database."""
    if database.vendor not in STORES:
        yield Error(
            f"Database {database.alias!r} ({database.settings_dict['ENGINE']}) holds jobs, but "
            "aftercommit has no store for it.",
            hint="Set OPTIONS['using'] of the task backend to an alias on PostgreSQL, MySQL, "
            "MariaDB or SQLite.",
            id="aftercommit.E002",
        )
        return
    yield from _time_zone(database)
    yield from _autocommit(database)
    yield from {"postgresql": _postgresql, "mysql": _mysql, "sqlite": _sqlite}[database.vendor](
        database
    )


def _time_zone(database: BaseDatabaseWrapper) -> Iterator[CheckMessage]:
    # PostgreSQL stores moments; the other databases store text or wall-clock time.
    name = database.settings_dict["TIME_ZONE"]
    if settings.USE_TZ and database.vendor != "postgresql" and name not in UTC_NAMES:
        yield Error(
            f"Database {database.alias!r} stores moments in the time zone {name!r}, but holds "
            "jobs, which are due by the database's clock in UTC: they would run hours early "
            "or late.",
            hint=f"Remove TIME_ZONE from DATABASES[{database.alias!r}].",
            id="aftercommit.E007",
        )


def _autocommit(database: BaseDatabaseWrapper) -> Iterator[CheckMessage]:
    if not database.settings_dict["AUTOCOMMIT"]:
        yield Error(
            f"Database {database.alias!r} has AUTOCOMMIT = False, and holds jobs. Nothing would "
            "commit what a worker claims and finishes: its first transaction would stay open, "
            "and no other program would see a change.",
            hint=f"Remove AUTOCOMMIT from DATABASES[{database.alias!r}], or set OPTIONS['using'] "
            "of the task backend to an alias of the same database without it.",
            id="aftercommit.E013",
        )


def _postgresql(database: Any) -> Iterator[CheckMessage]:
    if database.Database.__name__ == "psycopg2":
        yield Error(
            f"Database {database.alias!r} is reached through psycopg2; aftercommit needs "
            "psycopg 3.",
            hint="pip install 'psycopg[binary]'; Django prefers it as soon as it is there.",
            id="aftercommit.E008",
        )
    options = database.settings_dict["OPTIONS"]
    if "isolation_level" in options:
        yield from isolation_error(database, PSYCOPG_LEVELS[options["isolation_level"]])
    yield from _pool(database, options.get("pool"))


def _pool(database: BaseDatabaseWrapper, pool: Any) -> Iterator[CheckMessage]:
    if not pool:
        return
    given = pool if isinstance(pool, dict) else {}
    size = given.get("max_size") or given.get("min_size", POOL_SIZE)
    threads = WorkerConfig().threads
    if size < threads + BESIDE_THE_THREADS:
        yield Warning(
            f"The connection pool of database {database.alias!r} holds {size} connections. A "
            f"worker process needs {threads + BESIDE_THE_THREADS} with its usual {threads} "
            "threads; with fewer its threads wait for each other and leases may end.",
            hint=f"Set DATABASES[{database.alias!r}]['OPTIONS']['pool']['max_size'] to the "
            f"worker's threads + {BESIDE_THE_THREADS} or more.",
            id="aftercommit.W005",
        )


def _mysql(database: BaseDatabaseWrapper) -> Iterator[CheckMessage]:
    level = database.settings_dict["OPTIONS"].get("isolation_level", "read committed")
    yield from isolation_error(database, level or SERVER_DEFAULT)


def _sqlite(database: Any) -> Iterator[CheckMessage]:
    mode = database.settings_dict["OPTIONS"].get("transaction_mode") or "DEFERRED"
    if mode.upper() not in TAKE_THE_WRITE_LOCK:
        yield Error(
            f"Transactions on SQLite database {database.alias!r} begin as {mode.upper()}. One "
            "that reads before it enqueues fails with 'database is locked' as soon as a worker "
            "has written in between, whatever the timeout.",
            hint=f"Set DATABASES[{database.alias!r}]['OPTIONS']['transaction_mode'] = "
            "'IMMEDIATE'.",
            id="aftercommit.E005",
        )
    name = str(database.settings_dict["NAME"])
    if database.is_in_memory_db() and not name.startswith(DJANGOS_TEST_DATABASE):
        yield Warning(
            f"SQLite database {database.alias!r} is in memory: it ends with this process, and "
            "no worker process sees its jobs.",
            hint=f"Give DATABASES[{database.alias!r}]['NAME'] the path of a file.",
            id="aftercommit.W003",
        )
    elif not name.startswith("file:") and not Path(name).is_absolute():
        yield Warning(
            f"SQLite database {database.alias!r} has the relative path {name!r}: a worker that "
            "is started in another folder opens, or makes, another file, and sees no jobs.",
            hint=f"Give DATABASES[{database.alias!r}]['NAME'] an absolute path, such as "
            f"BASE_DIR / {name!r}.",
            id="aftercommit.W012",
        )
