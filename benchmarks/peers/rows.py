"""What the tasks of broker-backed queues do, in a process that knows no Django."""

import os
import time
from functools import cache

import psycopg

INSERT = "INSERT INTO bench_row (number) VALUES (%s)"


@cache
def connection() -> psycopg.Connection:
    """Return this process's connection."""
    return psycopg.connect(os.environ["BENCH_DSN"], autocommit=True)


def noop(number: int) -> None:
    """Do nothing."""


def row(number: int) -> None:
    """Write a row, at least once."""
    connection().execute(INSERT, [number])


def stamp(sent: int) -> None:
    """Note how long it took from the call to here."""
    connection().execute(INSERT, [time.time_ns() - sent])


KINDS = {"noop": noop, "row": row, "stamp": stamp}
