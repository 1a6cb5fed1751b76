"""Copies of the test databases, in which the body and its tasks really commit.

The test's own connection, its transaction and its rows are never touched: a copy has the same
tables, gets the rows that the test's connection sees, and is thrown away.
"""

import atexit
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import Error, connections
from django.test import testcases

from aftercommit.enqueue.transactions import IN_TEST
from aftercommit.errors import ConfigurationError
from aftercommit.reproduce.rows import (
    Rows,
    Schema,
    read_rows,
    read_sequences,
    schema_of,
    write_rows,
    write_sequences,
)
from aftercommit.under_test import VARIABLE

SUFFIX = "_race"
LONGEST_NAME = 58  # PostgreSQL allows 63 bytes


@dataclass(frozen=True, slots=True)
class Copy:
    """The copy of one database."""

    alias: str
    name: str
    source: str
    schema: Schema


_copies: dict[tuple[str, str], Copy] = {}  # by alias and name of the test database


def prepare_copies() -> None:
    """Make the copies that ``assert_no_race()`` needs, where it may be impossible later.

    PostgreSQL copies a database only while nobody is connected to it, and so not inside a
    ``TestCase``. Call this in ``setUpModule()``, or in a session fixture after
    ``django_db_setup``; ``pytest --aftercommit-race`` does so. Raises ``ConfigurationError`` if
    a database cannot be copied.
    """
    for alias in usable_aliases():
        copy_of(alias)


def usable_aliases() -> list[str]:
    """Return the databases that the present test may use, without those that mirror another."""
    return [alias for alias in _usable() if not mirrored(alias)]


def _usable() -> list[str]:
    failing: Any = getattr(testcases, "_DatabaseFailure", ())
    return [one.alias for one in connections.all() if not isinstance(one.connect, failing)]


def mirrored(alias: str) -> str | None:
    """Return the alias whose test database this one reads, by ``TEST["MIRROR"]``."""
    found = (connections.settings[alias].get("TEST") or {}).get("MIRROR")
    return str(found) if found else None


def mirrors() -> dict[str, str]:
    """Return the replicas that the present test may use, with their primaries."""
    found = {alias: mirrored(alias) for alias in _usable()}
    return {alias: primary for alias, primary in found.items() if primary}


def copy_of(alias: str) -> Copy:
    """Return the copy of a database, made if it is not there yet."""
    connection = connections[alias]
    source = str(connection.settings_dict["NAME"])
    if (alias, source) not in _copies:
        make = MAKERS.get(connection.vendor)
        if make is None:
            raise ConfigurationError(
                f"The reproducer cannot copy {alias!r}: it knows PostgreSQL, SQLite, MariaDB and "
                f"MySQL, and this is {connection.vendor}. Nothing was run.\n"
                "Fix: run these tests on one of them."
            )
        schema = schema_of(connection)
        name = make(connection, source, schema)
        if not _copies:
            atexit.register(drop_copies)
        _copies[alias, source] = Copy(alias, name, source, schema)
    return _copies[alias, source]


def _copy_sqlite(connection: Any, _source: str, _schema: Schema) -> str:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' "
            "ORDER BY type = 'table' DESC, rowid"
        )
        statements = [sql for (sql,) in cursor.fetchall()]
    handle, name = tempfile.mkstemp(prefix="aftercommit_race_", suffix=".sqlite3")
    os.close(handle)
    with closing(connection.Database.connect(name)) as copy:
        copy.execute("PRAGMA journal_mode=WAL")  # readers do not wait for a writer
        for sql in statements:
            copy.execute(sql)
        copy.commit()
    return name


def _copy_postgresql(connection: Any, source: str, _schema: Schema) -> str:
    name = source[:LONGEST_NAME] + SUFFIX
    if connection.in_atomic_block:
        raise ConfigurationError(
            f"PostgreSQL cannot copy the database {source!r} while a transaction of a TestCase "
            "is open in it. Nothing was run.\n"
            "Fix: call aftercommit.reproduce.prepare_copies() in setUpModule(), use pytest with "
            "--aftercommit-race, or a TransactionTestCase."
        )
    connection.close()
    quote = connection.ops.quote_name
    with _server(connection) as execute:
        execute(f"DROP DATABASE IF EXISTS {quote(name)}")
        try:
            execute(f"CREATE DATABASE {quote(name)} TEMPLATE {quote(source)}")
        except connection.Database.Error as error:
            raise ConfigurationError(
                f"PostgreSQL did not copy {source!r}: {error}".strip() + "\nNothing was run.\n"
                "Fix: close the connections of other threads and processes to it, for example by "
                "calling aftercommit.reproduce.prepare_copies() before the tests."
            ) from error
    return name


def _copy_mysql(connection: Any, source: str, schema: Schema) -> str:
    name, quote = source[:LONGEST_NAME] + SUFFIX, connection.ops.quote_name
    with _server(connection) as execute:
        execute(f"DROP DATABASE IF EXISTS {quote(name)}")
        execute(f"CREATE DATABASE {quote(name)} CHARACTER SET utf8mb4")
        execute("SET foreign_key_checks = 0")
        execute(f"USE {quote(name)}")
        for table in schema:
            row = execute(f"SHOW CREATE TABLE {quote(source)}.{quote(table)}")
            execute(row[1])
    return name


MAKERS = {
    "sqlite": _copy_sqlite,
    "postgresql": _copy_postgresql,
    "mysql": _copy_mysql,
}


@contextmanager
def _server(connection: Any) -> Iterator[Any]:
    """Yield a function that sends SQL to the server, in autocommit and in no database.

    By the driver: what blocks or counts Django's connections in tests is not concerned.
    """
    settings = {**connection.settings_dict, "NAME": None}
    if connection.vendor == "mysql":
        settings["NAME"] = ""
    outside = type(connection)(settings, alias="__no_db__")
    raw = outside.get_new_connection(outside.get_connection_params())
    if connection.vendor == "postgresql":
        raw.autocommit = True

    def execute(sql: str) -> Any:
        with closing(raw.cursor()) as cursor:
            cursor.execute(sql)
            return cursor.fetchone() if cursor.description else None

    with closing(raw):
        yield execute


def drop_copies() -> None:
    """Remove all copies."""
    while _copies:
        (alias, _source), copy = _copies.popitem()
        connection: Any = connections[alias]
        if connection.vendor == "sqlite":
            for ending in ("", "-wal", "-shm"):
                Path(copy.name + ending).unlink(missing_ok=True)
            continue
        with suppress(Error, connection.Database.Error), _server(connection) as execute:
            execute(f"DROP DATABASE IF EXISTS {connection.ops.quote_name(copy.name)}")
    atexit.unregister(drop_copies)


@dataclass(frozen=True, slots=True)
class Base:
    """The state from which each run starts: what the test's connections see."""

    rows: Mapping[str, Rows]  # by alias
    sequences: Mapping[str, Any]


def base_of(copies: list[Copy]) -> Base:
    """Read the state of the test's databases."""
    return Base(
        {one.alias: read_rows(connections[one.alias], one.schema) for one in copies},
        {one.alias: read_sequences(connections[one.alias]) for one in copies},
    )


@contextmanager
def inside(copies: list[Copy], base: Base, replicas: Mapping[str, str]) -> Iterator[None]:
    """Let all connections, of all threads, go to the copies, which are as ``base`` says.

    Connections of this thread are new ones in the block, and afterwards what they were.
    """
    names = {one.alias: one.name for one in copies}
    names |= {alias: names[primary] for alias, primary in replicas.items() if primary in names}
    announced = os.environ.get(VARIABLE)
    with ExitStack() as stack:
        if announced is not None:  # processes that tests start find the databases by it
            stack.callback(os.environ.__setitem__, VARIABLE, announced)
        for alias, name in names.items():
            stack.enter_context(_renamed(alias, name))
        for copy in copies:
            write_rows(connections[copy.alias], copy.schema, base.rows[copy.alias])
            write_sequences(connections[copy.alias], base.sequences[copy.alias])
        yield


@contextmanager
def _renamed(alias: str, name: str) -> Iterator[None]:
    own, settings = connections[alias], connections.settings[alias]
    before = settings["NAME"]
    settings["NAME"] = name
    connections[alias] = connections.create_connection(alias)
    try:
        yield
    finally:
        connections[alias].close()
        settings["NAME"] = before
        connections[alias] = own


@contextmanager
def pinned(replicas: Mapping[str, str]) -> Iterator[Mapping[str, Any]]:
    """Yield connections that see the primaries as they are now, by the replica's alias."""
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        for alias, primary in replicas.items():
            settings = {**connections.settings[primary]}
            connection = type(connections[primary])(settings, alias)
            stack.callback(_end, connection)
            connection.inc_thread_sharing()
            _pin(connection)
            setattr(connection, IN_TEST, True)  # no transaction that the project has opened
            found[alias] = connection
        yield found


BEGIN_PINNED = {
    "postgresql": ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "SELECT 1"),
    "mysql": (
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
    ),
    "sqlite": ("BEGIN", "SELECT count(*) FROM sqlite_master"),
}


def _pin(connection: Any) -> None:
    with connection.cursor() as cursor:
        for sql in BEGIN_PINNED[connection.vendor]:
            cursor.execute(sql)


def _end(connection: Any) -> None:
    with suppress(Error):
        connection.rollback()
    connection.dec_thread_sharing()
    connection.close()
