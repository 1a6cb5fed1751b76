"""procrastinate, with 30 jobs at once."""

import os
import sys
import time
from importlib import metadata
from typing import ClassVar

import procrastinate

from benchmarks.peers.base import Enqueue, Peer, queue_names

KEYS = 1_000
app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(conninfo=os.environ["BENCH_DSN"])
)


@app.task(name="noop")
async def noop(number: int) -> None:
    """Do nothing."""


@app.task(name="row")
async def row(number: int) -> None:
    """Write a row, at least once."""
    await app.connector.execute_query_async(
        "INSERT INTO bench_row (number) VALUES (%(number)s)", number=number
    )


@app.task(name="stamp")
async def stamp(sent: int) -> None:
    """Note how long it took from the call to here."""
    await app.connector.execute_query_async(
        "INSERT INTO bench_row (number) VALUES (%(number)s)", number=time.time_ns() - sent
    )


class Procrastinate(Peer):
    """Its asynchronous worker; jobs come from its synchronous connector."""

    name = "procrastinate"
    jobs: ClassVar = {"drain": 4_000, "drain2": 5_000, "row": 3_000}
    workloads = (*Peer.workloads, "limited", "queues", "retry", "prune")
    limits: ClassVar = {"keyed_one": "1 of each key, keys in turn"}
    tables = ("procrastinate_jobs", "procrastinate_events")
    owns = r"^public\.procrastinate_"
    unfinished = "SELECT COUNT(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        self._sync = app.open()

    @property
    def version(self) -> str:
        """Which release is measured."""
        return metadata.version("procrastinate")

    def set_up(self) -> None:
        """Apply its schema."""
        self._sync.schema_manager.apply_schema()

    def empty(self) -> None:
        """Remove what the last measurement has left."""
        self.connection.execute(f"TRUNCATE {', '.join(self.tables)}, bench_row CASCADE")

    def fill(self, kind: str, number: int) -> None:
        """Use ``batch_defer``, which takes one lock: with many, one by one."""
        if kind == "keyed_one":
            for one in range(number):
                lock = str(one % KEYS)
                self._sync.configure_task("noop", lock=lock).defer(number=one)
            return
        job = self._sync.configure_task(kind)
        for start in range(0, number, 1_000):
            numbers = range(start, min(start + 1_000, number))
            job.batch_defer(*({"number": one} for one in numbers))

    def command(self) -> list[str]:
        """Return the command of one worker process."""
        return [sys.executable, "-m", "benchmarks.peers.procrastinate"]

    def enqueue_one(self) -> Enqueue:
        """Defer one job."""
        job = self._sync.configure_task("noop")
        return lambda: job.defer(number=1)

    def send_stamp(self) -> Enqueue:
        """Defer the present moment."""
        job = self._sync.configure_task("stamp")
        return lambda: job.defer(sent=time.time_ns())

    def close(self) -> None:
        """End."""
        self._sync.close()
        super().close()


if __name__ == "__main__":
    app.run_worker(concurrency=30, queues=queue_names() or None)
