"""What it costs those who enqueue that sleeping workers are woken."""

import threading
import time
from statistics import median

import psycopg

from benchmarks.measure import Figure
from benchmarks.peers.base import Peer
from benchmarks.server import Server

WRITERS, RATE, SECONDS, TURNS = 8, 2_000, 2.0, 4  # connections, jobs/s of all, each turn, turns


def notify(peer: Peer, server: Server, workload: str) -> list[Figure]:
    """Enqueue from several connections at a steady rate, with NOTIFY and without, in turns."""
    from aftercommit.store.columns import INSERTED, row_from  # noqa: PLC0415 - once there is Django
    from aftercommit.store.postgresql.sql import insert_one  # noqa: PLC0415
    from aftercommit.values import NewJob  # noqa: PLC0415

    def row() -> dict[str, object]:
        job = NewJob(task_path="benchmarks.tasks.noop", payload='{"args":[1],"kwargs":{}}')
        return dict(zip(INSERTED, row_from(job), strict=True))

    unset = frozenset(name for name, value in row().items() if value is None)
    statement = insert_one(unset, or_skip=False)
    ways = {"with NOTIFY": statement, "without": statement.partition("RETURNING")[0]}
    peer.empty()
    spans: dict[str, list[float]] = {way: [] for way in ways}
    with psycopg.connect(peer.dsn, autocommit=True) as listener:
        listener.execute("LISTEN aftercommit")
        for _turn in range(TURNS):
            for way, sql in ways.items():
                spans[way] += _write(peer.dsn, sql, row)
    return [
        Figure(
            what=f"enqueue, {RATE:,} a second, {way}",
            value=median(found) * 1e6,
            unit="µs",
            better="less",
        )
        for way, found in spans.items()
    ]


def _write(dsn: str, sql: str, row) -> list[float]:
    """Return how long each INSERT with its commit has taken."""
    spans: list[float] = []

    def write() -> None:
        with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as connection:
            cursor = psycopg.ClientCursor(connection)
            due = time.perf_counter()
            ends = due + SECONDS
            while due < ends:
                time.sleep(max(due - time.perf_counter(), 0))
                began = time.perf_counter()
                cursor.execute(sql, row())
                spans.append(time.perf_counter() - began)
                due += WRITERS / RATE

    threads = [threading.Thread(target=write) for _number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return spans
