"""Three layouts of the jobs' table, in plain SQL: python -m benchmarks.batch_rows.

``version 0.1``: a claim and an end each write a new version of the job's row, and move it from
one index to another. ``hot``: the claim takes a flag away, leases are rows of claims, and the end
touches no index. ``batches``: a job's row is never written again; claims and ends are kept in
one row for each batch, and a job's state is derived from it.

One connection claims and ends batch after batch, without running anything; each statement is
a commit, and autovacuum is off. ``batch_rows.sql`` has the statements.
"""

import argparse
import json
import re
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from uuid import uuid4

import psycopg

from benchmarks.server import Server, machine, throw_away_server

LAYOUTS, BATCHES = ("version 0.1", "hot", "batches"), (500, 1_000)
TABLES = "job, lease, head, batch"
FIGURES = (
    "claim + end, jobs/s",
    "CPU of the client, µs/job",
    "CPU of PostgreSQL, µs/job",
    "log, bytes/job",
    "log of the INSERT, bytes/job",
    "dead rows/job",
    "of these with all bytes",
)
PARTS = {
    "columns": """
        state varchar(9) NOT NULL DEFAULT 'ready', queue varchar(100) NOT NULL DEFAULT 'default',
        priority smallint NOT NULL DEFAULT 0, run_after timestamptz NOT NULL DEFAULT now(),
        backend varchar(100) NOT NULL DEFAULT 'default',
        task_path varchar(255) NOT NULL DEFAULT 'benchmarks.tasks.noop',
        payload text NOT NULL DEFAULT '{"args":[1],"kwargs":{}}',
        meta jsonb NOT NULL DEFAULT '{}', token bigint NOT NULL DEFAULT 0,
        attempts int NOT NULL DEFAULT 0, crashes int NOT NULL DEFAULT 0,
        conflicts int NOT NULL DEFAULT 0, max_attempts int NOT NULL DEFAULT 5,
        cancel_requested bool NOT NULL DEFAULT false, unique_key varchar(255),
        unique_until_started bool NOT NULL DEFAULT false, unique_lock varchar(64),
        limit_key varchar(255), slot int, enqueued_at timestamptz NOT NULL DEFAULT now(),
        started_at timestamptz, claimed_at timestamptz, finished_at timestamptz, result text,
        errors text NOT NULL DEFAULT '[]'
    """,
    "checks": """
        CHECK ((state IN ('ready', 'running')) = (finished_at IS NULL)),
        CHECK (unique_lock IS NULL OR state IN ('ready', 'running')),
        CHECK (priority BETWEEN -100 AND 100 AND max_attempts >= 1)
    """,
    "secondary": """
        CREATE UNIQUE INDEX ON job (limit_key, slot) WHERE slot IS NOT NULL;
        CREATE UNIQUE INDEX ON job (unique_lock) WHERE unique_lock IS NOT NULL;
    """,
    "claimed": """
        job.token, attempts, crashes, conflicts, max_attempts, task_path, payload, errors,
        backend, queue, priority, run_after, enqueued_at, started_at, claimed_at
    """,
    "ended": """
        ROWS FROM (
            unnest(%(ids)s::uuid[]), unnest(%(tokens)s::bigint[]),
            json_array_elements_text(%(results)s::json)
        ) AS ended (id, token, result)
    """,
}
# Ids in the order of insertion, as those of aftercommit.
FILL = """
INSERT INTO job (id)
SELECT (lpad(to_hex(number), 12, '0') || '7' || substr(md5(number::text), 1, 19))::uuid
FROM generate_series(1, %s) AS number
"""
# A page that is pruned keeps four bytes of a dead row until VACUUM has cleaned the indexes: the
# server's statistics still count it, pgstattuple does not.
DEAD = """
SELECT SUM(n_dead_tup)::bigint, SUM((pgstattuple(relid)).dead_tuple_count)::bigint
FROM pg_stat_user_tables
"""
LOG = "SELECT pg_current_wal_lsn() - '0/0'"


def main() -> None:
    """Measure the layouts one after the other in each round, print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=100_000)
    options = parser.parse_args()
    found: defaultdict[tuple[int, str], list[tuple[float, ...]]] = defaultdict(list)
    with throw_away_server() as server:
        print(f"{server.version}, {machine()}, medians of {options.rounds} rounds")
        for _round in range(options.rounds):
            for batch in BATCHES:
                for layout in LAYOUTS:
                    one = measure(server, layout, jobs=options.jobs, batch=batch)
                    found[batch, layout].append(one)
    print(f"\n| batch | layout | {' | '.join(FIGURES)} |\n|---:|---{'|---:' * len(FIGURES)}|")
    for (batch, layout), rows in found.items():
        values = [median(column) for column in zip(*rows, strict=True)]
        cells = [f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in values]
        print(f"| {batch:,} | {layout} | {' | '.join(cells)} |")


def measure(server: Server, layout: str, *, jobs: int, batch: int) -> tuple[float, ...]:
    """Return the ``FIGURES``."""
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(f"DROP TABLE IF EXISTS {TABLES}")
        connection.execute(statement(layout))
        for table in tables(connection):
            connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
        filling = position(connection)
        connection.execute(FILL, [jobs])
        insert = position(connection) - filling
        connection.execute("VACUUM ANALYZE")
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        draining = position(connection)
        client, postgres = time.process_time(), server.cpu()
        seconds = drain(connection, layout, jobs=jobs, batch=batch)
        client, postgres = time.process_time() - client, server.cpu() - postgres
        log = position(connection) - draining
    time.sleep(1)  # a session that ends tells the server's statistics what it did
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS pgstattuple")
        dead, whole = connection.execute(DEAD).fetchone()
    spent = (client * 1e6, postgres * 1e6, log, insert, dead, whole)
    return jobs / seconds, *(float(one) / jobs for one in spent)


def drain(connection: psycopg.Connection, layout: str, *, jobs: int, batch: int) -> float:
    """Claim and end until there is nothing to do; return the seconds."""
    claim, end, done = statement(f"{layout}: claim"), statement(f"{layout}: end"), 0
    began = time.perf_counter()
    while True:
        given = {"limit": batch, "worker": uuid4(), "batch": uuid4()}
        rows = connection.execute(claim, given).fetchall()
        if not rows:
            break
        given["ids"], given["tokens"] = [row[1] for row in rows], [row[2] for row in rows]
        given["results"] = json.dumps(["null"] * len(rows))
        done += len(connection.execute(end, given).fetchall())
    seconds = time.perf_counter() - began
    if done != jobs:
        raise RuntimeError(f"{layout}: {done} of {jobs} jobs were done")
    return seconds


def position(connection: psycopg.Connection) -> int:
    """Return how far the write-ahead log has come, in bytes."""
    return int(connection.execute(LOG).fetchone()[0])


def statement(name: str) -> str:
    """Return the SQL of that name."""
    text = Path(__file__).with_suffix(".sql").read_text()
    found = re.search(rf"^-- name: {name}\n(.*?)(?=^--|\Z)", text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise KeyError(name)
    sql = found[1]
    for part, words in PARTS.items():
        sql = sql.replace(f"{{{part}}}", words)
    return sql


def tables(connection: psycopg.Connection) -> list[str]:
    """Return those of this layout."""
    return [row[0] for row in connection.execute("SELECT relname FROM pg_stat_user_tables")]


if __name__ == "__main__":
    main()
