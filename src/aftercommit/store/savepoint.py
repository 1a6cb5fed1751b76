"""A savepoint for one of several runs that share a transaction."""

from typing import Any

from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper


class Savepoint:
    """Takes back what its block has done if the block raises; otherwise it is left to COMMIT.

    As a nested ``atomic()``, with fewer round trips.
    """

    def __init__(self, connection: BaseDatabaseWrapper, number: int) -> None:
        self.failed = False  # the block has raised, and nobody knows what it has left
        self._connection: Any = connection
        self._name = f"aftercommit_{number}"
        self._is_set = False

    def __enter__(self) -> None:
        self._connection.savepoint_ids.append(self._name)  # whose on_commit() callbacks come
        self._begin()

    def __exit__(self, kind: object, *_error: object) -> None:
        connection = self._connection
        connection.savepoint_ids.pop()
        if kind is None or connection.closed_in_transaction:
            return
        connection.needs_rollback = False
        try:
            if self._is_set:
                connection.savepoint_rollback(self._name)
        except Error:  # what the block has raised is the reason, and is raised anyway
            self._is_set = False
        self.failed = not self._is_set

    def __call__(
        self, execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]
    ) -> Any:
        """Run a statement of the block, as an ``execute_wrapper``."""
        return execute(sql, params, many, context)

    def _begin(self) -> None:
        self._set()

    def _set(self) -> None:
        self._is_set = True  # before it passes here again, as a statement
        self._connection._savepoint(self._name)
