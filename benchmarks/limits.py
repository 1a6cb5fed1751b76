"""What the database alone does, without any queue: what nobody can be faster than."""

import time

import psycopg

from benchmarks.measure import Figure

COMMITS, ROWS, BATCH, TRIPS = 2_000, 100_000, 1_000, 2_000
TOGETHER, TURNS = 50, 400  # rows a commit, commits
TABLE = """
CREATE TABLE IF NOT EXISTS bench_queue (
    id bigint PRIMARY KEY, payload text NOT NULL, done bool NOT NULL DEFAULT false
)
"""
CLAIM_AND_END = """
UPDATE bench_queue SET done = true WHERE id IN (
    SELECT id FROM bench_queue WHERE NOT done ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED
)
"""


def limits(dsn: str) -> list[Figure]:
    """Measure them."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(TABLE)
        connection.execute(
            "CREATE INDEX IF NOT EXISTS bench_due ON bench_queue (id) WHERE NOT done"
        )
        connection.execute("TRUNCATE bench_queue, bench_row")
        return [
            _trips(connection),
            _commits(connection),
            _inserts(connection),
            _batches(connection),
            _together(connection),
            _through_django(),
        ]


def _through_django() -> Figure:
    """Insert rows as a task does: what an atomic task with one INSERT cannot be faster than."""
    import django  # noqa: PLC0415 - reads the environment
    from django.db import connection, transaction  # noqa: PLC0415

    django.setup()
    from benchmarks.tasks import write_row  # noqa: PLC0415 - once Django is set up

    connection.ensure_connection()
    began = time.perf_counter()
    for _commit in range(TURNS):
        with transaction.atomic():
            for number in range(TOGETHER):
                write_row(number)
    rate = TURNS * TOGETHER / (time.perf_counter() - began)
    return Figure(what=f"INSERT through Django, {TOGETHER} a commit", value=rate, unit="rows/s")


def _together(connection: psycopg.Connection) -> Figure:
    began = time.perf_counter()
    for _commit in range(TURNS):
        with connection.transaction():
            for number in range(TOGETHER):
                connection.execute("INSERT INTO bench_row (number) VALUES (%s)", [number])
    rate = TURNS * TOGETHER / (time.perf_counter() - began)
    return Figure(what=f"INSERT, {TOGETHER} a commit", value=rate, unit="rows/s")


def _trips(connection: psycopg.Connection) -> Figure:
    began = time.perf_counter()
    for _one in range(TRIPS):
        connection.execute("SELECT 1")
    span = (time.perf_counter() - began) / TRIPS * 1e6
    return Figure(what="a round trip", value=span, unit="µs", better="less")


def _commits(connection: psycopg.Connection) -> Figure:
    began = time.perf_counter()
    for number in range(COMMITS):
        connection.execute("INSERT INTO bench_row (number) VALUES (%s)", [number])
    rate = COMMITS / (time.perf_counter() - began)
    return Figure(what="INSERT and commit, one row", value=rate, unit="rows/s")


def _inserts(connection: psycopg.Connection) -> Figure:
    numbers, texts = list(range(ROWS)), ['{"args":[1],"kwargs":{}}'] * ROWS
    began = time.perf_counter()
    connection.execute(
        "INSERT INTO bench_queue SELECT * FROM unnest(%s::bigint[], %s::text[])", [numbers, texts]
    )
    rate = ROWS / (time.perf_counter() - began)
    return Figure(what="INSERT … SELECT unnest", value=rate, unit="rows/s")


def _batches(connection: psycopg.Connection) -> Figure:
    connection.execute("VACUUM ANALYZE bench_queue")
    began, rows = time.perf_counter(), 0
    while done := connection.execute(CLAIM_AND_END, [BATCH]).rowcount:
        rows += done
    rate = rows / (time.perf_counter() - began)
    return Figure(what=f"claim and end, {BATCH:,} at a time", value=rate, unit="rows/s")
