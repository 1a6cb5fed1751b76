"""Tables of other queues, made as their own migrations make them."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.db import connection


@contextmanager
def made(tables: Mapping[str, str]) -> Iterator[None]:
    """Make tables by their names and columns, and drop them in the end."""
    types = {
        "text": connection.data_types["TextField"],
        "json": connection.data_types["JSONField"],
        "uuid": connection.data_types["UUIDField"],
        "moment": connection.data_types["DateTimeField"] % {"max_length": ""},
        "repeat": connection.ops.quote_name("repeat"),
    }
    with connection.cursor() as cursor:
        for name, columns in tables.items():
            cursor.execute(f"CREATE TABLE {name} ({columns.format(**types)})")
    yield
    with connection.cursor() as cursor:
        for name in tables:
            cursor.execute(f"DROP TABLE {name}")


def put(table: str, **values: object) -> None:
    """Insert a row; lists and mappings are written as JSON."""
    marks = ", ".join(["%s"] * len(values))
    names = ", ".join(map(connection.ops.quote_name, values))
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({names}) VALUES ({marks})", [*map(_adapted, values.values())]
        )


def _adapted(value: Any) -> Any:
    if isinstance(value, datetime):
        return connection.ops.adapt_datetimefield_value(value)
    return json.dumps(value) if isinstance(value, dict | list) else value
