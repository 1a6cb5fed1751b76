"""What probes and pages cost in a table of ten million jobs: python -m benchmarks.probes.

``--rows`` changes that; ``--database``: postgres, mariadb or sqlite. It fills a database of its
own (see ``benchmarks.filled``; ten million jobs take ten minutes and 10 GB of disk on PostgreSQL)
and drops it at the end. It prints the median of some calls of each probe and each page, how many
statements that takes, what PostgreSQL reads for them, and how far estimates are from the truth.
``--plans 20`` prints also the plans of the statements that take longer, in milliseconds.
It needs the packages of the tests, of which those of other queues are none.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from benchmarks.server import database, machine

CALLS = 7
Call = Callable[[], Any]


def main() -> None:
    """Fill, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument(
        "--database", choices=("postgres", "mariadb", "sqlite"), default="postgres"
    )
    parser.add_argument("--only", default="", help="a part of the names of what is measured")
    parser.add_argument("--plans", type=float, help="of statements that take more milliseconds")
    given = parser.parse_args()
    with database(given.database) as server:
        os.environ |= {
            "BENCH_DATABASE": server.kind,
            "BENCH_DSN": server.dsn,
            "DJANGO_SETTINGS_MODULE": "benchmarks.site_settings",
        }
        _set_up(given.rows)
        print(f"{given.rows:,} jobs, {server.version}, {machine()}, {datetime.now(UTC):%Y-%m-%d}")
        measure(only=given.only, plans=given.plans)


def _set_up(rows: int) -> None:
    import django  # noqa: PLC0415 - reads the environment
    from django.core.management import call_command  # noqa: PLC0415

    from benchmarks.filled import fill  # noqa: PLC0415

    django.setup()
    call_command("migrate", verbosity=0)
    fill(rows)


def measure(*, only: str, plans: float | None) -> None:
    """Measure what has ``only`` in its name, and print it."""
    from django.db import connection  # noqa: PLC0415 - once Django is set up

    from benchmarks.probed import pages, probes  # noqa: PLC0415
    from benchmarks.reading import Asked  # noqa: PLC0415

    print("| | ms | statements | the slowest, ms | buffers |\n|---|---:|---:|---:|---:|")
    for name, call in (*probes(), *pages()):
        if only not in name:
            continue
        call()
        took = 1000 * statistics.median(map(_timed, [call] * CALLS))
        asked = Asked(connection)
        with asked.explained():
            call()
        buffers = f"{asked.buffers:,}" if connection.vendor == "postgresql" else ""
        print(
            f"| {name} | {took:,.1f} | {asked.count} | {asked.slowest:,.1f} | {buffers} |",
            flush=True,
        )
        for plan in asked.plans(plans):
            print(plan)
    if not only:
        _compare()


def _compare() -> None:
    from aftercommit import jobs  # noqa: PLC0415 - once Django is set up
    from aftercommit.models import Job  # noqa: PLC0415

    for state, told in jobs.counts(by="state").items():
        truth = Job.objects.filter(state=state).count()
        print(f"{state}: {told.jobs:,}{' (estimate)' * told.is_estimate}, in truth {truth:,}")


def _timed(probe: Call) -> float:
    began = time.perf_counter()
    probe()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
