"""Which database error of a body still stands: raised, and undone by no savepoint."""

from typing import Any

from django.db import Error

from aftercommit.worker.running.statements import savepoint_of


class UnresolvedError:
    """Follows a body's statements, as an ``execute_wrapper``.

    After an error PostgreSQL refuses to go on until a savepoint that was set before it is
    rolled back to. MySQL, MariaDB and SQLite go on, and would commit half of a task that
    caught the error: after a lock wait timeout, for example. Here one rule holds for all.
    """

    def __init__(self) -> None:
        self.error: Error | None = None
        self.statements = 0  # sent by the body
        self._savepoints: list[str] = []  # names, the innermost last
        self._depth = 0  # how many of them were there before the error

    def __call__(
        self, execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]
    ) -> Any:
        """Run a statement and note what it does."""
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

    def _follow(self, verb: str, name: str) -> None:
        if verb == "savepoint":
            self._savepoints.append(name)
            return
        if name not in self._savepoints:
            return  # not the body's own
        before = len(self._savepoints) - 1 - self._savepoints[::-1].index(name)
        if verb == "release":
            self._depth = min(self._depth, before)
            del self._savepoints[before:]
            return
        if self._depth > before:
            self.error = None
        del self._savepoints[before + 1 :]
