"""On PostgreSQL a savepoint travels with the first statement after it."""

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import ClientCursor
from psycopg.pq import ExecStatus, TransactionStatus

from aftercommit.store.savepoint import Savepoint


class PostgreSQLSavepoint(Savepoint):
    """Set before the first statement that passes Django's cursor, in the same message.

    What a block does past Django, and a statement that the server cannot even read, is not
    taken back: ``failed`` says so. ``early`` sets it before the block begins, for a message
    of its own.
    """

    def __init__(self, connection: BaseDatabaseWrapper, number: int, *, early: bool) -> None:
        super().__init__(connection, number)
        self._early = early

    def __call__(
        self, execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]
    ) -> Any:
        """Run a statement of the block, as an ``execute_wrapper``."""
        if self._is_set:
            return execute(sql, params, many, context)
        raw = context["cursor"].cursor
        if many or not isinstance(sql, str) or not isinstance(raw, ClientCursor):
            self._set()  # one statement for each message
            return execute(sql, params, many, context)
        self._is_set = True
        result = execute(f"SAVEPOINT {self._name};{sql}", params, many, context)
        raw.nextset()  # to the answer that the block waits for
        return result

    def _begin(self) -> None:
        if self._early:
            self._set()

    def _set(self) -> None:
        raw = self._connection.connection
        if raw.info.transaction_status != TransactionStatus.INTRANS:
            super()._set()  # which begins the transaction, or fails as it should
            return
        # Past the layers that a statement without values does not need.
        answer = raw.pgconn.exec_(f"SAVEPOINT {self._name}".encode())
        self._is_set = answer.status == ExecStatus.COMMAND_OK
