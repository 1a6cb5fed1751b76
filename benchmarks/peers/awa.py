"""awa-pg: workers in Python on a core in Rust, jobs in segments that are emptied as a whole."""

import asyncio
import os
import signal
import sys
import time
from dataclasses import dataclass
from importlib import metadata
from typing import ClassVar

import asyncpg
import awa
from psycopg.conninfo import conninfo_to_dict

from benchmarks.peers.base import Enqueue, Peer, timed

QUEUE = "bench"
WORKERS = 1_024  # what its documentation proposes for short jobs
CONNECTIONS = 20
INSERT = "INSERT INTO bench_row (number) VALUES ($1)"
# Successes are kept as one row for each batch, and summed up when their segment is emptied.
DONE = """
SELECT (SELECT COALESCE(SUM(completed_count), 0) FROM awa.receipt_completion_batches)
    + (SELECT COUNT(*) FROM awa.done_entries)
    + (SELECT COALESCE(SUM(pruned_completed_count), 0) FROM awa.queue_terminal_rollups)
"""


@dataclass
class Noop:
    """The arguments of a job that does nothing."""

    number: int


@dataclass
class Row:
    """The arguments of a job that writes a row."""

    number: int


@dataclass
class Stamp:
    """The arguments of a job that notes its latency."""

    sent: int


class Awa(Peer):
    """Its defaults but for the number of workers; jobs come through COPY."""

    name = "awa"
    jobs: ClassVar = {"drain": 40_000, "drain2": 40_000, "row": 15_000, "bloat": 100_000}
    tables = ("awa.ready_entries",)  # with its partitions: the jobs
    owns = r"^awa\."
    workloads = (*Peer.workloads, "rated")
    rates: ClassVar = {"rated": "of the task, binds nobody"}

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        self._filled = 0
        self._rated = False
        self._client = self._connected()

    def _connected(self) -> awa.Client:
        return awa.Client(_url(self.dsn), max_connections=CONNECTIONS)

    @property
    def version(self) -> str:
        """Which release is measured."""
        return metadata.version("awa-pg")

    def set_up(self) -> None:
        """Apply its schema; the first worker that starts chooses the storage of new databases."""
        self._client.migrate()
        from benchmarks.measure import working  # noqa: PLC0415 - a worker needs none of it

        with working(self, 1):
            ends = time.monotonic() + 60
            while '"active_engine": "queue_storage"' not in self._client.storage_status():
                if time.monotonic() > ends:
                    raise TimeoutError("its worker did not choose a storage")
                time.sleep(0.1)

    def empty(self) -> None:
        """Make all its tables anew: this takes some seconds."""
        self._filled = 0
        self._client.install_queue_storage(schema="awa", reset=True)
        self._client.close()  # its connections know the old tables
        self._client = self._connected()
        self.connection.execute("TRUNCATE bench_row")

    def fill(self, kind: str, number: int) -> None:
        """Use ``enqueue_many_copy``, 5,000 at a time."""
        self._rated = kind == "rated"
        make = {"noop": Noop, "rated": Noop, "row": Row}[kind]
        for start in range(0, number, 5_000):
            jobs = [make(one) for one in range(start, min(start + 5_000, number))]
            self._client.enqueue_many_copy(jobs, queue=QUEUE)
        self._filled += number

    def left(self) -> int:
        """Count those that are done."""
        return self._filled - int(self.connection.execute(DONE).fetchone()[0])

    def command(self) -> list[str]:
        """Return the command of one worker process."""
        return [sys.executable, "-m", "benchmarks.peers.awa", *["rated"] * self._rated]

    def enqueue_one(self) -> Enqueue:
        """Call ``insert``."""
        return lambda: self._client.insert(Noop(1), queue=QUEUE)

    def in_transaction(self, number: int) -> float:
        """Call it again and again in one transaction."""

        def all_of_them() -> None:
            with self._client.transaction() as transaction:
                for _one in range(number):
                    transaction.insert(Noop(1), queue=QUEUE)

        return timed(all_of_them)

    def send_stamp(self) -> Enqueue:
        """Insert the present moment."""
        return lambda: self._client.insert(Stamp(time.time_ns()), queue=QUEUE)

    def close(self) -> None:
        """End."""
        self._client.close()
        super().close()


def _url(dsn: str) -> str:
    given = conninfo_to_dict(dsn)
    return f"postgres://{given['user']}@{given['host']}:{given['port']}/{given['dbname']}"


async def work() -> None:
    """Be a worker."""
    url = _url(os.environ["BENCH_DSN"])
    client = awa.AsyncClient(url, max_connections=CONNECTIONS)
    rows = await asyncpg.create_pool(url, min_size=10, max_size=10)

    @client.task(Noop, queue=QUEUE)
    async def noop(job: awa.Job) -> None:
        """Do nothing."""

    @client.task(Row, queue=QUEUE)
    async def row(job: awa.Job) -> None:
        """Write a row, at least once."""
        await rows.execute(INSERT, job.args.number)

    @client.task(Stamp, queue=QUEUE)
    async def stamp(job: awa.Job) -> None:
        """Note how long it took from the call to here."""
        await rows.execute(INSERT, time.time_ns() - job.args.sent)

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    if "rated" in sys.argv:  # it is the queue that has a rate
        rated = {"name": QUEUE, "max_workers": WORKERS, "rate_limit": (1e6, 1_000_000)}
        await client.start([rated])
    else:
        await client.start([(QUEUE, WORKERS)])
    await stop.wait()
    await client.shutdown()


if __name__ == "__main__":
    asyncio.run(work())
