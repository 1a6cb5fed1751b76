"""Which database a test run uses, what it is called there, and how it is reached.

Every worker process that a test starts loads this file with the settings, so
it imports no driver.
"""

import os
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

KINDS = ("sqlite", "postgres", "mariadb", "mysql")
ALIASES = ("default", "other")

URL_VARIABLES = {
    "postgres": "AFTERCOMMIT_POSTGRES_URL",
    "mariadb": "AFTERCOMMIT_MARIADB_URL",
    "mysql": "AFTERCOMMIT_MYSQL_URL",
}
USUAL_URLS = {
    "postgres": "postgresql://postgres@localhost:5432/postgres",
    # One port, two products: what answers says which of them it is.
    "mariadb": "mysql://root@127.0.0.1:3306",
    "mysql": "mysql://root@127.0.0.1:3306",
}


def name_of_this_run() -> str:
    """Return the name of this run's databases, the same in every child process.

    No two runs on one server share it, so each may drop what it created.
    """
    fresh = f"aftercommit_test_{os.getpid()}_{secrets.token_hex(3)}"
    return os.environ.setdefault("AFTERCOMMIT_DB_NAME", fresh)


def url_of(kind: str) -> str:
    """Return where a server of this kind is expected."""
    return os.environ.get(URL_VARIABLES[kind]) or USUAL_URLS[kind]


def address_of(url: str) -> dict[str, str]:
    """Split a URL into what Django's ``DATABASES`` calls its parts."""
    parts = urlsplit(url)
    # A server that listens on no port is named by the folder of its socket.
    (socket,) = parse_qs(parts.query).get("host", [""])
    return {
        "HOST": parts.hostname or socket,
        "PORT": str(parts.port or ""),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
    }


def django_databases(kind: str, name: str) -> dict[str, dict[str, Any]]:
    """Build Django's ``DATABASES``: two databases on one server of this kind."""
    if kind not in KINDS:
        raise ValueError(f"AFTERCOMMIT_DB: expected one of {KINDS}, got {kind!r}")
    if kind == "sqlite":
        names = {alias: str(sqlite_file(name, alias)) for alias in ALIASES}
        server = SQLITE
    else:
        names = {"default": name, "other": f"{name}_other"}
        server = POSTGRES if kind == "postgres" else MYSQL
        server = {**server, **address_of(url_of(kind))}
        if server["PASSWORD"] and kind != "postgres":
            server |= {"OPTIONS": {}}  # the server may want it encrypted
    return {alias: _database(server, name=names[alias]) for alias in ALIASES}


SQLITE = {
    "ENGINE": "django.db.backends.sqlite3",
    "OPTIONS": {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
    },
    "TEST": {},
}
POSTGRES = {"ENGINE": "django.db.backends.postgresql", "TEST": {}}
MYSQL = {
    "ENGINE": "django.db.backends.mysql",
    # Without a password there is nothing to hide, and PyMySQL would read all certificates
    # of the machine for each connection: 40 ms of its processor.
    "OPTIONS": {"ssl_disabled": True},
    "TEST": {"CHARSET": "utf8mb4"},
}


def _database(server: dict[str, Any], *, name: str) -> dict[str, Any]:
    # The test database bears the plain name, so that a worker process, which
    # knows nothing of tests, reaches it too.
    return {**server, "NAME": name, "TEST": {**server["TEST"], "NAME": name}}


def sqlite_file(name: str, alias: str) -> Path:
    """Return where a run keeps the SQLite file of this alias."""
    return Path(tempfile.gettempdir(), f"{name}_{alias}.sqlite3")


def remove_sqlite_files(name: str) -> None:
    """Remove a run's files, with the ``-wal`` and the lock folders of killed workers."""
    for alias in ALIASES:
        file = sqlite_file(name, alias)
        for leftover in file.parent.glob(f"{file.name}*"):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)
