"""Two tasks, and middleware that does nothing, for ``benchmarks.counting``."""

from collections.abc import Callable
from typing import Any

from django.db import connection

from aftercommit import task


@task
def noop(number: int) -> None:
    """Do nothing."""


@task(atomic=True)
def atomic_row(number: int) -> None:
    """Write a row, exactly once."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO bench_row (number) VALUES (%s)", [number])


def nothing(call: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Be middleware that only passes on."""

    def run(job: Any) -> Any:
        return call(job)

    return run
