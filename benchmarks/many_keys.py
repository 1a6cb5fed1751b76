"""Drain 50,000 keys with ten jobs each, three of a key at once: python -m benchmarks.many_keys.

``--database``, ``--keys`` and ``--jobs`` (of each key) change that. Prints what the same number
of jobs without a limit takes, in the same run.
"""

import argparse
import os
import time
from typing import Any

from benchmarks.server import Server, database


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = ("postgres", "sqlite", "mariadb")
    parser.add_argument("--database", choices=kinds, default="postgres")
    parser.add_argument("--keys", type=int, default=50_000)
    parser.add_argument("--jobs", type=int, default=10, help="of each key")
    options = parser.parse_args()
    with database(options.database) as server:
        os.environ |= {
            "BENCH_DATABASE": server.kind,
            "BENCH_DSN": server.dsn,
            "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
        }
        _measure(server, options.keys, options.jobs)


def _measure(server: Server, keys: int, jobs: int) -> None:
    from benchmarks.peers.django_queues import Aftercommit  # noqa: PLC0415 - reads the environment

    peer = Aftercommit(server.dsn)
    peer.set_up()
    peer.tables = tuple(one for one in peer.tables if one != "bench_row")
    rates = {}
    for kind in ("noop", "keyed"):
        _fill(peer, kind, keys, jobs)
        rates[kind] = _drain(peer, keys * jobs)
        print(f"{kind}: {keys * jobs:,} jobs, {rates[kind]:,.0f} a second", flush=True)
    print(f"rate kept: {100 * rates['keyed'] / rates['noop']:.0f} %")
    peer.close()


def _fill(peer: Any, kind: str, keys: int, jobs: int) -> None:
    from aftercommit.models import Job, Lease  # noqa: PLC0415 - once Django is set up

    for model in (Job, Lease):
        model.objects.all().delete()
    for _turn in range(jobs):
        for start in range(0, keys, 5_000):
            peer.task(kind).enqueue_many([(key,) for key in range(start, start + 5_000)])
    peer.analyze()


def _drain(peer: Any, number: int) -> float:
    from benchmarks.measure import working  # noqa: PLC0415 - beside the others

    with working(peer, 1):
        while peer.left() == number:
            time.sleep(0.05)
        began = time.perf_counter()
        while not peer.finished():
            time.sleep(1)
        return number / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
