"""The database error of a body that no rollback to a savepoint has undone, if there is one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import Error

from aftercommit.enqueue.statements import savepoint_of


class UnresolvedError:
    """Follows a body's statements, and those for its savepoint, as an ``execute_wrapper``.

    After an error PostgreSQL refuses every statement until the transaction is rolled back to
    a savepoint that was set before the error. MySQL, MariaDB and SQLite do not: they would
    commit half of the effects of a task that caught the error (a lock wait timeout, for
    example). This class applies the rule of PostgreSQL to all databases.
    """

    def __init__(self) -> None:
        self.error: Error | None = None
        self.has_begun = False  # the body
        self.in_body = False
        self.around: Error | None = None  # of the statements before and after the body
        self.statements = 0  # sent by the body
        self.left_savepoint = False  # released, or rolled back to, one that is not the body's
        self._savepoints: list[str] = []  # their names, the innermost last
        self._depth = 0  # how many savepoints were set before the error

    def __call__(
        self, execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]
    ) -> Any:
        """Execute a statement; note its error, or what it does to a savepoint."""
        if not self.in_body:
            return self._around(execute, sql, params, many, context)
        self.statements += 1
        try:
            result = execute(sql, params, many, context)
        except Error as error:
            if self.error is None or len(self._savepoints) < self._depth:
                self.error, self._depth = error, len(self._savepoints)
            raise
        if found := savepoint_of(sql, context):
            self._follow(*found)
        return result

    @contextmanager
    def body(self) -> Iterator[None]:
        """Execute the block as the body."""
        self.has_begun = self.in_body = True
        try:
            yield
        finally:
            self.in_body = False

    def _around(
        self, execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]
    ) -> Any:
        try:
            return execute(sql, params, many, context)
        except Error as error:
            self.around = error
            raise

    def _follow(self, verb: str, name: str) -> None:
        if verb == "savepoint":
            self._savepoints.append(name)
            return
        if name not in self._savepoints:
            self.left_savepoint = True
            return
        before = len(self._savepoints) - 1 - self._savepoints[::-1].index(name)
        if verb == "release":
            self._depth = min(self._depth, before)
            del self._savepoints[before:]
            return
        if self._depth > before:
            self.error = None
        del self._savepoints[before + 1 :]
