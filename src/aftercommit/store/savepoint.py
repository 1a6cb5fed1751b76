"""A savepoint for one of several runs that share a transaction."""

from typing import Any

from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper


class Savepoint:
    """If the block raises, the transaction is rolled back to it; else it stays until COMMIT.

    Like a nested ``atomic()``, without the round trip of RELEASE SAVEPOINT for each.
    """

    def __init__(self, connection: BaseDatabaseWrapper, name: str) -> None:
        self._connection: Any = connection
        self._name = name

    def __enter__(self) -> None:
        self._set()
        self._connection.savepoint_ids.append(self._name)  # for on_commit() in the block

    def __exit__(self, kind: object, *_error: object) -> None:
        connection = self._connection
        connection.savepoint_ids.pop()
        if kind is None or connection.closed_in_transaction:
            return
        connection.needs_rollback = False
        try:
            connection.savepoint_rollback(self._name)
        except Error:  # the block's exception is raised; a COMMIT must be impossible
            connection.needs_rollback = True

    def release(self) -> None:
        """Release it; raises ``django.db.Error`` if the transaction has ended meanwhile."""
        self._connection._savepoint_commit(self._name)

    def _set(self) -> None:
        self._connection._savepoint(self._name)
