"""What a probe costs in a table of ten million jobs: python -m benchmarks.probes.

``--rows`` changes that. Of the rows 95 % have succeeded, 1 % have failed, and 4 % wait in 40
queues. Prints the median of 20 calls of each, and how far estimates are from the truth.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks.server import database

CALLS = 20
FILL = """
INSERT INTO aftercommit_job (
    id, task_path, payload, meta, backend, queue, priority, state, claimable, unsuccessful,
    run_after, enqueued_at, finished_at, token, attempts, crashes, conflicts, max_attempts,
    cancel_requested, unique_until_started, errors
)
SELECT
    (lpad(to_hex((1000 * extract(epoch FROM at))::bigint), 12, '0') || '70008'
        || lpad(to_hex(i), 15, '0'))::uuid,
    'shop.tasks.task_' || i %% 20, '{"args":[1],"kwargs":{}}', '{}', 'default',
    'queue ' || i %% 40, 0, state, state = 'ready', state = 'failed', at, at,
    CASE WHEN state <> 'ready' THEN at END, 1, 1, 0, 0, 5, false, false, '[]'
FROM (
    SELECT i, now() - interval '30 days' * (%(rows)s - i) / %(rows)s AS at,
        CASE WHEN i > 0.96 * %(rows)s THEN 'ready' WHEN i %% 96 = 0 THEN 'failed'
            ELSE 'succeeded' END AS state
    FROM generate_series(1, %(rows)s) AS i
) AS given
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    rows = parser.parse_args().rows
    with database("postgres") as server:
        os.environ |= {
            "BENCH_DATABASE": server.kind,
            "BENCH_DSN": server.dsn,
            "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
        }
        _fill(rows)
        _measure()


def _fill(rows: int) -> None:
    import django  # noqa: PLC0415 - reads the environment
    from django.core.management import call_command  # noqa: PLC0415
    from django.db import connection  # noqa: PLC0415

    django.setup()
    call_command("migrate", "aftercommit", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")
        cursor.execute(FILL, {"rows": rows})
        cursor.execute("VACUUM ANALYZE aftercommit_job")


def _measure() -> None:
    from aftercommit import jobs  # noqa: PLC0415 - once Django is set up
    from aftercommit.models import Job  # noqa: PLC0415

    probes: dict[str, Callable[[], Any]] = {
        "counts(by='queue')": jobs.counts,
        "counts(by='queue', most=100)": lambda: jobs.counts(most=100),
        "counts(by='task')": lambda: jobs.counts(by="task"),
        "counts(by='state')": lambda: jobs.counts(by="state"),
        "oldest_due_age()": jobs.oldest_due_age,
        "latency()": jobs.latency,
        "throughput()": jobs.throughput,
    }
    for name, probe in probes.items():
        probe()
        print(f"{name}: {1000 * statistics.median(map(_timed, [probe] * CALLS)):,.1f} ms")
    for state, told in jobs.counts(by="state").items():
        truth = Job.objects.filter(state=state).count()
        print(f"{state}: {told.jobs:,}{' (estimate)' * told.is_estimate}, in truth {truth:,}")


def _timed(probe: Callable[[], Any]) -> float:
    began = time.perf_counter()
    probe()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
