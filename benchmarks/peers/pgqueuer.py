"""pgqueuer on asyncpg and uvloop, in batches."""

import asyncio
import os
import sys
import time
from importlib import metadata
from typing import Any, ClassVar

import asyncpg
import uvloop
from pgqueuer import PgQueuer as Queuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

from benchmarks.peers.base import Enqueue, Peer, queue_names

INSERT = "INSERT INTO bench_row (number) VALUES ($1)"


class PgQueuer(Peer):
    """Batches of 500 for jobs that do nothing, 100 for those that write."""

    name = "pgqueuer"
    jobs: ClassVar = {"drain": 60_000, "drain2": 60_000, "row": 15_000, "bloat": 200_000}
    workloads = (*Peer.workloads, "limited", "queues", "retry")
    limits: ClassVar = {"limited": "1,000 at once"}
    tables = ("pgqueuer", "pgqueuer_log")
    owns = r"^public\.pgqueuer"
    unfinished = "SELECT COUNT(*) FROM pgqueuer"

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        self._loop = asyncio.new_event_loop()
        self._connection = self._loop.run_until_complete(asyncpg.connect(**_address(dsn)))
        self._queries = Queries(AsyncpgDriver(self._connection))
        self._batch = 500

    @property
    def version(self) -> str:
        """Which release is measured."""
        return metadata.version("pgqueuer")

    def set_up(self) -> None:
        """Apply its schema."""
        self._loop.run_until_complete(self._queries.install())

    def fill(self, kind: str, number: int) -> None:
        """Use ``enqueue`` with lists."""
        self._batch = 100 if kind == "row" else 500
        for start in range(0, number, 5_000):
            payloads = [str(n).encode() for n in range(start, min(start + 5_000, number))]
            names = [kind] * len(payloads)
            self._run(self._queries.enqueue(names, payloads, [0] * len(payloads)))

    def command(self) -> list[str]:
        """Return the command of one worker process."""
        return [sys.executable, "-m", "benchmarks.peers.pgqueuer", str(self._batch)]

    def enqueue_one(self) -> Enqueue:
        """Enqueue one job."""
        return lambda: self._run(self._queries.enqueue("noop", b"1"))

    def in_transaction(self, number: int) -> float:
        """Enqueue one after the other in a transaction of asyncpg."""

        async def all_of_them() -> float:
            began = time.perf_counter()
            async with self._connection.transaction():
                for _one in range(number):
                    await self._queries.enqueue("noop", b"1")
            return time.perf_counter() - began

        return float(self._run(all_of_them()))

    def send_stamp(self) -> Enqueue:
        """Enqueue the present moment."""
        self._batch = 10
        return lambda: self._run(self._queries.enqueue("stamp", str(time.time_ns()).encode()))

    def close(self) -> None:
        """End."""
        self._run(self._connection.close())
        self._loop.close()
        super().close()

    def _run(self, awaitable: Any) -> Any:
        return self._loop.run_until_complete(awaitable)


def _address(dsn: str) -> dict[str, str]:
    given = dict(word.split("=") for word in dsn.split())
    return {
        "host": given["host"],
        "port": given["port"],
        "user": given["user"],
        "database": given["dbname"],
    }


async def work(batch: int) -> None:
    """Be a worker."""
    address = _address(os.environ["BENCH_DSN"])
    queuer = Queuer(AsyncpgDriver(await asyncpg.connect(**address)))
    rows = await asyncpg.create_pool(**address, min_size=10, max_size=10)

    @queuer.entrypoint("noop")
    async def noop(job: Any) -> None:
        """Do nothing."""

    @queuer.entrypoint("limited", concurrency_limit=1_000)
    async def limited(job: Any) -> None:
        """Do nothing, 1,000 at once at most."""

    @queuer.entrypoint("row")
    async def row(job: Any) -> None:
        """Write a row, at least once."""
        await rows.execute(INSERT, int(job.payload))

    @queuer.entrypoint("stamp")
    async def stamp(job: Any) -> None:
        """Note how long it took from the call to here."""
        await rows.execute(INSERT, time.time_ns() - int(job.payload))

    async def noop_or_stamp(job: Any) -> None:
        """Do nothing, or note how long it took from the call to here."""
        if job.payload.startswith(b"at "):
            await rows.execute(INSERT, time.time_ns() - int(job.payload[3:]))

    for name in queue_names():
        queuer.entrypoint(name)(noop_or_stamp)

    await queuer.run(batch_size=batch)


if __name__ == "__main__":
    uvloop.run(work(int(sys.argv[1])))
