"""A PostgreSQL server that is thrown away: safe settings, nothing tuned but the sizes."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg

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

    dsn: str
    version: str
    pid: int

    def cpu(self) -> float:
        """Return the CPU seconds of all its processes so far, those that ended as well."""
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
        yield Server(dsn=dsn, version=version, pid=pid)
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
