"""A savepoint for one of several runs that share a transaction."""

from typing import Any

from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper


class Savepoint:
    """Takes back what its block has done if the block raises; otherwise it is left to COMMIT.

    As a nested ``atomic()``, without the round trip of RELEASE SAVEPOINT. No other in the
    transaction may have the same ``number``; small ones are good, because drivers keep what
    they have prepared for a statement.
    """

    def __init__(self, connection: BaseDatabaseWrapper, number: int) -> None:
        self._connection: Any = connection
        self._name = f"aftercommit_{number}"

    def __enter__(self) -> None:
        self._connection.savepoint_ids.append(self._name)  # for on_commit() inside the block
        self._connection._savepoint(self._name)

    def __exit__(self, kind: object, *_error: object) -> None:
        connection = self._connection
        connection.savepoint_ids.pop()
        if kind is None or connection.closed_in_transaction:
            return
        connection.needs_rollback = False
        try:
            connection.savepoint_rollback(self._name)
        except Error:  # the block's own exception is raised anyway; nobody may commit now
            connection.needs_rollback = True
