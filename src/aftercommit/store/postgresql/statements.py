"""The prepared statements of one psycopg connection.

psycopg keeps them in a private object, which is replaced by one of a subclass. It is the only
place that sees the results of all that the session executes, a DISCARD ALL among them. To look
costs every other statement of the connection 0.5 µs.
"""

import hashlib
from typing import Any

import psycopg
from psycopg._preparing import Prepare, PrepareManager
from psycopg.errors import DuplicatePreparedStatement, InvalidSqlStatementName
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

OURS: Any = object()  # the value of ``prepare`` by which ``Statements`` knows our statements
UNLISTED: Any = (b"", ())  # the key of a statement that is not counted: only look at its results
FORGETS = {b"DISCARD ALL", b"DEALLOCATE ALL"}
PREFIX = b"aftercommit_"


def statements_of(raw: psycopg.Connection[Any]) -> "Statements | None":
    """Return the prepared statements of a connection; None if somebody else has replaced them."""
    known = raw._prepared
    if type(known) is PrepareManager:
        known = raw._prepared = Statements(known)
    return known if type(known) is Statements else None


class Statements(PrepareManager):
    """The prepared statements of one connection: those of psycopg, and ours beside them.

    Ours outlast a rollback, because all their types are built in; psycopg would forget them
    and send DEALLOCATE ALL, which also drops what the user has prepared by SQL.
    """

    def __init__(self, before: PrepareManager) -> None:
        super().__init__()
        vars(self).update(vars(before))
        self._ours: dict[Any, bytes] = {}
        self._executed = 0
        self._direct: bool | None = None
        self._free: list[psycopg.Cursor[Any]] = []

    def are_due(self, threshold: int) -> bool:
        """Count an execution; return whether there were enough for preparing to be worth it."""
        self._executed += 1
        return self._executed > threshold

    def execute(
        self, raw: Any, sql: str, given: dict[str, Any], *, keep: bool
    ) -> list[Any] | None:
        """Execute an INSERT, return its rows; None if it has to be executed unprepared."""
        if raw.pgconn.pipeline_status or not self._is_direct(raw):
            return None
        try:
            cursor = self._free.pop()
        except IndexError:
            cursor = psycopg.Cursor(raw, row_factory=tuple_row)
        try:
            cursor.execute(sql, given, prepare=OURS)
        except (InvalidSqlStatementName, DuplicatePreparedStatement):
            # Somebody changes the session behind psycopg's back: a pooler that hides well.
            self._direct = False
            if raw.pgconn.transaction_status != TransactionStatus.IDLE:
                raise
            return None
        rows: list[Any] = cursor.fetchall()
        if keep:
            self._free.append(cursor)  # 15 µs cheaper than a new one: it knows the types
        return rows

    def _is_direct(self, raw: Any) -> bool:
        """Return whether the server that answers is the one that psycopg has connected to.

        A pooler invents the number of the process that it tells its clients.
        """
        if self._direct is None:
            with psycopg.Cursor(raw, row_factory=tuple_row) as cursor:
                answer = cursor.execute("SELECT pg_backend_pid()", prepare=False).fetchone()
            self._direct = answer == (raw.info.backend_pid,)
        return self._direct

    # ---- what psycopg calls --------------------------------------------------------

    def get(self, query: Any, prepare: Any = None) -> tuple[Prepare, bytes]:
        """Return whether to prepare a statement, and its name."""
        if prepare is not OURS:
            return super().get(query, prepare)
        key = self.key(query)
        known = self._ours.get(key)
        return (Prepare.YES, known) if known else (Prepare.SHOULD, _name(key))

    def maybe_add_to_cache(self, query: Any, prep: Prepare, name: bytes) -> Any:
        """Note a statement that was just prepared; return a key to see its results."""
        if name.startswith(PREFIX):
            self._ours[self.key(query)] = name
            return None
        key = super().maybe_add_to_cache(query, prep, name)
        return UNLISTED if key is None and self._ours else key

    def validate(self, key: Any, prep: Prepare, name: bytes, results: Any) -> None:
        """Notice a statement that drops all prepared statements."""
        if self._ours and any(one.command_status in FORGETS for one in results):
            self._ours.clear()
        if key is not UNLISTED:
            super().validate(key, prep, name, results)

    def clear(self) -> bool:
        """Forget psycopg's own statements; if there were any, all are dropped on the server."""
        dropped = super().clear()
        if dropped:
            self._ours.clear()
        return dropped


def _name(key: Any) -> bytes:
    """Return a name that means the same statement on every connection."""
    return PREFIX + hashlib.sha256(repr(key).encode()).hexdigest()[:16].encode()
