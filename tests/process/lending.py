"""A mutant: all threads of a process are given the same connections."""

from types import SimpleNamespace
from typing import Any

from django.db import connections

_create = connections.create_connection


def create_connection(alias: str) -> Any:
    """Create a connection that does not mind."""
    connection = _create(alias)
    connection.inc_thread_sharing()
    return connection


connections._connections = SimpleNamespace()
connections.create_connection = create_connection
