"""What a queue's tables carry: readers beside the work, and what the work leaves behind."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from benchmarks.measure import Figure, dead_rows, drained, filled
from benchmarks.peers.base import Peer
from benchmarks.server import Server

READERS = 4  # sessions
HELD = 0.1  # seconds, that a reader's transaction stays open after its scan
TABLES = """
SELECT SUM(pg_table_size(relid))::bigint, SUM(pg_indexes_size(relid))::bigint,
    SUM(n_tup_upd - n_tup_hot_upd + n_tup_del)::bigint, SUM(autovacuum_count)::bigint
FROM pg_stat_user_tables WHERE schemaname || '.' || relname ~ %s
"""


def readers(peer: Peer, server: Server, workload: str) -> list[Figure]:
    """Drain alone, then beside sessions that scan the queue's own table again and again."""
    alone = drained(peer, server, workload, number=filled(peer, workload))[0].value
    number = filled(peer, workload)
    with _reading(peer.dsn, peer.tables[0]):
        beside = drained(peer, server, workload, number=number)[0].value
    return [
        Figure(what="readers: jobs a second beside them", value=beside, unit="jobs/s"),
        Figure(what="readers: jobs a second without them", value=alone, unit="jobs/s"),
        Figure(what="readers: rate kept", value=100 * beside / alone, unit="%"),
    ]


@contextmanager
def _reading(dsn: str, table: str) -> Iterator[None]:
    stop, broken = threading.Event(), []

    def read() -> None:
        try:
            _scan(dsn, f"SELECT COUNT(*) FROM {table}", stop)
        except psycopg.Error as error:  # in a thread; told below
            broken.append(error)

    threads = [threading.Thread(target=read) for _number in range(READERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if broken:
        raise broken[0]


def _scan(dsn: str, sql: str, stop: threading.Event) -> None:
    with psycopg.connect(dsn) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        while not stop.is_set():
            connection.execute(sql)
            stop.wait(HELD)
            connection.commit()


def bloat(peer: Peer, server: Server, workload: str) -> list[Figure]:
    """Drain many jobs; what is left in the tables, and what went through the log."""
    number = filled(peer, workload)
    *_sizes, died_before, vacuums_before = _tables(peer)
    costs = drained(peer, server, workload, number=number)
    left = dead_rows(peer, workload, number)
    tables, indexes, died, vacuums = _tables(peer)
    return [
        left,
        Figure(
            what="bloat: rows that VACUUM must take out of indexes",
            value=100 * (died - died_before) / number,
            unit="% of the jobs",
            better="less",
        ),
        Figure(
            what="bloat: runs of autovacuum",
            value=vacuums - vacuums_before,
            unit="runs",
            better="less",
        ),
        *(figure for figure in costs if figure.what.endswith("log written")),
        _size("tables", tables / number),
        _size("indexes", indexes / number),
    ]


def _tables(peer: Peer) -> tuple[int, int, int, int]:
    found: tuple[int, int, int, int] = peer.connection.execute(TABLES, [peer.owns]).fetchone()
    return found


def _size(what: str, value: float) -> Figure:
    return Figure(what=f"bloat: {what} at the end", value=value, unit="bytes/job", better="less")
