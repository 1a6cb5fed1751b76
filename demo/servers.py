"""Where the demo keeps its tables: a SQLite file, or a PostgreSQL server."""

import os
import socket
from argparse import ArgumentParser
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from pathlib import Path
from urllib.parse import urlsplit

from processes import DemoFailed

KINDS = ("sqlite", "postgres")
QUEUES = ("aftercommit", "celery", "rq")
REDIS = "redis://127.0.0.1:6379/0"


def add_queue(parser: ArgumentParser) -> None:
    """Add the option that says what runs the jobs."""
    parser.add_argument(
        "--queue",
        choices=QUEUES,
        default=os.environ.get("QUEUE", "aftercommit"),
        help="celery or rq: the rooms send to Redis, made right by the relay",
    )


def look_for_redis(queue: str) -> None:
    """Raise ``DemoFailed`` if the queue needs a Redis that does not answer."""
    if queue == "aftercommit":
        return
    address = urlsplit(os.environ.setdefault("DEMO_REDIS_URL", REDIS))
    try:
        with socket.create_connection((address.hostname, address.port or 6379), timeout=3):
            return
    except OSError as error:
        raise DemoFailed(
            f"No Redis answers at {address.hostname}:{address.port} ({error}).\n"
            "Fix: start one, or say where it is with DEMO_REDIS_URL."
        ) from error


def forget_in_redis(prefix: str) -> None:
    """Remove what a demo of this prefix has left in Redis."""
    redis = import_module("redis")  # only with another queue
    with redis.Redis.from_url(os.environ["DEMO_REDIS_URL"]) as client:
        for key in client.scan_iter(f"*{prefix}*", count=1000):
            client.delete(key)
        client.srem("rq:queues", f"rq:queue:{prefix}")


def variables_for(
    kind: str, *, data: Path, name: str = "aftercommit_demo", throw_away: bool = False
) -> AbstractContextManager[Mapping[str, str]]:
    """Yield the environment variables that lead the demo's settings to its database.

    On PostgreSQL the database ``name`` is made if need be; ``throw_away`` drops it
    afterwards. Raises ``DemoFailed`` where there is no PostgreSQL.
    """
    if kind == "sqlite":
        return nullcontext({})
    try:
        postgres = import_module("postgres")  # psycopg: not needed for SQLite
    except ImportError as error:
        raise DemoFailed(
            f"{error}.\nFix: pip install 'aftercommit[demo]', or take --db sqlite."
        ) from error
    found: AbstractContextManager[Mapping[str, str]]
    found = postgres.database(data=data, name=name, throw_away=throw_away)
    return found
