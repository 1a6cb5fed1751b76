"""The same three tasks, for each Django queue."""

import time

from django.db import connection
from django.tasks import task as djangos_task

from aftercommit import BatchCall, task
from benchmarks.models import Row

INSERT = "INSERT INTO bench_row (number) VALUES (%s)"


def write_row(number: int) -> None:
    """Insert one row."""
    with connection.cursor() as cursor:
        cursor.execute(INSERT, [number])


@task
def noop(number: int) -> None:
    """Do nothing."""


@task
def row(number: int) -> None:
    """Write a row, at least once."""
    write_row(number)


@task(atomic=True)
def atomic_row(number: int) -> None:
    """Write a row, exactly once."""
    write_row(number)


@task(atomic=True, backend="alone")
def alone_row(number: int) -> None:
    """Write a row, exactly once, in a transaction that it shares with no other."""
    write_row(number)


@task(batch_size=500)
def batch_row(calls: list[BatchCall]) -> None:
    """Write a row for each of many jobs, at least once."""
    Row.objects.bulk_create([Row(number=call.args[0]) for call in calls])


@task(batch_size=500, atomic=True)
def batch_atomic(calls: list[BatchCall]) -> None:
    """Write a row for each of many jobs, exactly once."""
    Row.objects.bulk_create([Row(number=call.args[0]) for call in calls])


@task
def stamp(sent: int) -> None:
    """Note how long it took from the call to here."""
    write_row(time.time_ns() - sent)


@task(limit=1_000)
def limited(number: int) -> None:
    """Do nothing, 1,000 at once at most: more than a worker asks for."""


@task(limit=3, limit_by=("account",))
def keyed(account: int) -> None:
    """Do nothing, three of an account at once at most."""


@task(limit=1, limit_by=("account",))
def keyed_one(account: int) -> None:
    """Do nothing, one of an account at once at most."""


@task(rate="1000000/s", burst=1_000_000)
def rated(number: int) -> None:
    """Do nothing, a million times a second at most."""


@task(rate="1000000/s", burst=1_000_000, rate_by=("account",))
def rated_keyed(account: int) -> None:
    """Do nothing, a million times a second for each account at most."""


@task(fair_by=("tenant",))
def fair(tenant: int) -> None:
    """Do nothing, when it is the tenant's turn."""


@task(limit=1_000)
def row_limited(number: int) -> None:
    """Write a row, 1,000 at once at most."""
    write_row(number)


@task(limit=3, limit_by=("account",))
def row_keyed(account: int) -> None:
    """Write a row, three of an account at once at most."""
    write_row(account)


@djangos_task(backend="tasks_db")
def noop_db(number: int) -> None:
    """Do nothing."""


@djangos_task(backend="tasks_db")
def row_db(number: int) -> None:
    """Write a row, at least once."""
    write_row(number)


@djangos_task(backend="tasks_db")
def stamp_db(sent: int) -> None:
    """Note how long it took from the call to here."""
    write_row(time.time_ns() - sent)
