"""A PostgreSQL server that is thrown away: safe settings, nothing tuned but the sizes.

And a place on SQLite, or on the MariaDB server that the tests use.
"""

import os
import pwd
import shutil
import socket
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import pymysql

from tests.databases import address_of, remove_sqlite_files, url_of
from tests.services import find

SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "max_connections": "200",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running server."""

    kind: str
    dsn: str  # of PostgreSQL; elsewhere the name of a database
    version: str
    pid: int | None = None  # None: it is not ours alone, so its CPU time says nothing

    def cpu(self) -> float:
        """Return the CPU seconds of all its processes so far, those that ended as well."""
        if self.pid is None:
            return 0.0
        first = psutil.Process(self.pid)
        ended = first.cpu_times()
        total = ended.user + ended.system + ended.children_user + ended.children_system
        return total + sum(_cpu_of(child) for child in first.children(recursive=True))


def cpu_of_tree(pid: int) -> float:
    """Return the CPU seconds of a process and all its children that live."""
    first = psutil.Process(pid)
    return _cpu_of(first) + sum(_cpu_of(child) for child in first.children(recursive=True))


def _cpu_of(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return times.user + times.system


@contextmanager
def database(kind: str) -> Iterator[Server]:
    """Give a database of a kind: ``postgres``, ``sqlite`` or ``mariadb``."""
    if kind == "postgres":
        with throw_away_server() as server:
            yield server
        return
    name = f"aftercommit_bench_{os.getpid()}"
    if kind == "sqlite":
        try:
            yield Server(kind=kind, dsn=name, version=f"SQLite {sqlite3.sqlite_version}")
        finally:
            remove_sqlite_files(name)
        return
    found = find(kind)
    address = address_of(url_of(kind))
    with pymysql.connect(
        host=address["HOST"],
        port=int(address["PORT"]),
        user=address["USER"],
        password=address["PASSWORD"],
        ssl_disabled=not address["PASSWORD"],
    ) as connection:
        connection.cursor().execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        try:
            yield Server(kind=kind, dsn=name, version=f"MariaDB {found.version}")
        finally:
            connection.ping(reconnect=True)
            connection.cursor().execute(f"DROP DATABASE {name}")


@contextmanager
def throw_away_server() -> Iterator[Server]:
    """Run the newest PostgreSQL of this machine in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="aftercommit_bench_"))
    tools = _tools()
    port = _free_port()
    run = _as_postgres(folder)
    try:
        run([tools / "initdb", "-A", "trust", "-U", "bench", "-D", folder / "data"])
        options = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
        options += f" -c port={port} -c listen_addresses=127.0.0.1 -k {folder}"
        log = folder / "log"
        run([tools / "pg_ctl", "-w", "-D", folder / "data", "-l", log, "-o", options, "start"])
        dsn = f"host=127.0.0.1 port={port} user=bench dbname=postgres"
        with psycopg.connect(dsn) as connection:
            version = str(connection.execute("SHOW server_version").fetchone()[0])
        pid = int((folder / "data" / "postmaster.pid").read_text().split()[0])
        yield Server(kind="postgres", dsn=dsn, version=f"PostgreSQL {version}", pid=pid)
    finally:
        run([tools / "pg_ctl", "-D", folder / "data", "-m", "immediate", "stop"], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _tools() -> Path:
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda one: int(one.parts[-3])
    )
    if found:
        return found[-1].parent
    if on_path := shutil.which("initdb"):
        return Path(on_path).resolve().parent
    raise SystemExit("No initdb was found: install a PostgreSQL server to measure on.")


def _as_postgres(folder: Path):
    """Return a way to run commands: PostgreSQL refuses to be started by root."""
    options = {}
    if os.geteuid() == 0:
        options = {"user": "postgres", "cwd": folder}
        shutil.chown(folder, "postgres", pwd.getpwnam("postgres").pw_gid)

    def run(command: list[object], *, check: bool = True) -> None:
        subprocess.run(
            [str(word) for word in command],
            check=check,
            stdout=subprocess.DEVNULL,
            **options,
        )

    return run


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def machine() -> str:
    """Return what the figures were measured on."""
    memory = psutil.virtual_memory().total / 2**30
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "unknown processor",
    )
    return f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB"
