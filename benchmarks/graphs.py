"""How long it takes to enqueue a graph of calls: ``python -m benchmarks.graphs [calls]``.

On the database of the settings that DJANGO_SETTINGS_MODULE names. One call needs the results of
all others; each measurement is of one ``enqueue()`` in a transaction, and is rolled back. Beside
it, the same jobs without edges by ``enqueue_many()``.
"""

import sys
import time
from collections.abc import Callable
from statistics import median

import django

ROUNDS = 5


def main(count: int = 10_000) -> None:
    """Print seconds: the median and the range of some rounds."""
    django.setup()
    from django.db import connection, transaction  # noqa: PLC0415 - once Django is set up

    from benchmarks.graph_tasks import price, total  # noqa: PLC0415

    def graph() -> None:
        total.bind([price.bind(number) for number in range(count)]).enqueue()

    def plain() -> None:
        price.enqueue_many([(number,) for number in range(count)])

    def took(enqueue: Callable[[], None]) -> float:
        with transaction.atomic():
            began = time.perf_counter()
            enqueue()
            spent = time.perf_counter() - began
            transaction.set_rollback(True)
        return spent

    print(f"{count:,} calls on {connection.vendor}, seconds")
    for name, enqueue in {"graph": graph, "enqueue_many": plain}.items():
        spans = [took(enqueue) for _round in range(ROUNDS)]
        print(f"{name:>14}: {median(spans):.3f} ({min(spans):.3f} to {max(spans):.3f})")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
