"""A MariaDB primary and a replica of a test's own, which replays when the test says so."""

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymysql

from tests.process.standby import PRIMARY, STANDBY
from tests.services import NoServer
from tests.waiting import wait_until

PROGRAMS = ("mariadbd", "mariadb-install-db")


class Server:
    """One of the two."""

    def __init__(self, folder: Path, number: int) -> None:
        self._data, self._socket = folder / f"data{number}", folder / f"{number}.sock"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        _run("mariadb-install-db", *self._options(), "--auth-root-authentication-method=normal")
        self._log = folder / f"{number}.log"
        log = self._log.open("w")
        self._process = subprocess.Popen(
            [
                *("mariadbd", *self._options(), f"--socket={self._socket}"),
                *(f"--port={self.port}", "--bind-address=127.0.0.1", f"--server-id={number}"),
                *("--log-bin", "--binlog-format=ROW", "--skip-slave-start"),
                *("--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M"),
                f"--pid-file={folder}/{number}.pid",
            ],
            stdout=log,
            stderr=log,
        )
        log.close()
        wait_until(self._answers, why="the server answers")

    @property
    def address(self) -> dict[str, str]:
        """Return how Django reaches it."""
        return {"HOST": "127.0.0.1", "PORT": str(self.port), "USER": "root", "PASSWORD": ""}

    def run(self, sql: str) -> Any:
        """Run a statement."""
        with (
            pymysql.connect(unix_socket=str(self._socket), user="root", autocommit=True) as one,
            one.cursor() as cursor,
        ):
            cursor.execute(sql)
            return cursor.fetchone()

    def stop(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()

    def _options(self) -> tuple[str, ...]:
        return "--no-defaults", f"--datadir={self._data}", "--user=root"

    def _answers(self) -> bool:
        # Not by trying: PyMySQL leaves the socket of a connection that was refused to the
        # garbage collector.
        assert self._process.poll() is None, "mariadbd has ended"
        return "ready for connections" in self._log.read_text()


class Replica(Server):
    """The one that follows."""

    def follow(self, primary: Server) -> None:
        """Begin to replicate."""
        primary.run("CREATE USER follower@'127.0.0.1' IDENTIFIED BY ''")
        primary.run("GRANT REPLICATION SLAVE ON *.* TO follower@'127.0.0.1'")
        self.run(
            f"CHANGE MASTER TO master_host='127.0.0.1', master_port={primary.port}, "
            "master_user='follower', master_password='', master_use_gtid=slave_pos"
        )
        self.run("START SLAVE")

    def pause(self) -> None:
        """Replay nothing from now on, and receive what the primary sends."""
        self.run("STOP SLAVE SQL_THREAD")

    def resume(self) -> None:
        """Replay what has been received, and what is to come."""
        self.run("START SLAVE SQL_THREAD")


class Pair:
    """Both, as the tests of replicas use them."""

    def __init__(self, primary: Server, replica: Replica) -> None:
        self._primary, self._replica = primary, replica
        self.pause, self.resume = replica.pause, replica.resume
        self.addresses = {PRIMARY: primary.address, STANDBY: replica.address}

    def create(self, name: str) -> None:
        """Create a database."""
        self._primary.run(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        self.catch_up()

    def catch_up(self) -> None:
        """Wait until the replica has what the primary has."""
        (position,) = self._primary.run("SELECT @@GLOBAL.gtid_binlog_pos")
        assert self._replica.run(f"SELECT MASTER_GTID_WAIT('{position}', 30)") == (0,)


@contextmanager
def primary_and_replica() -> Iterator[Pair]:
    """Run both while the block lasts; raises ``NoServer``."""
    if missing := [one for one in PROGRAMS if shutil.which(one) is None]:
        raise NoServer(f"no server of our own could start: no {missing[0]} is installed")
    servers: list[Server] = []
    with tempfile.TemporaryDirectory(
        prefix="aftercommit_my_", ignore_cleanup_errors=True
    ) as folder:
        try:
            primary = Server(Path(folder), 1)
            servers.append(primary)
            replica = Replica(Path(folder), 2)
            servers.append(replica)
            replica.follow(primary)
            yield Pair(primary, replica)
        finally:
            for one in servers:
                one.stop()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoServer(f"no server of our own could start: {done.stderr or done.stdout}")
