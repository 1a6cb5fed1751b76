"""Transient errors of the database: the same work may succeed when it is repeated."""

from typing import Any

from django.db import Error, InterfaceError

# PostgreSQL, by SQLSTATE: serialization failure, deadlock, lock not available, the server
# shuts down or has crashed, a session that was idle in a transaction.
SQLSTATES = {"40001", "40P01", "55P03", "57P01", "57P02", "57P03", "25P03", "25P04"}
CONNECTION_CLASS = "08"  # the first two characters of each SQLSTATE of a broken connection
# MySQL and MariaDB, by number: lock wait timeout, deadlock, server gone, connection lost,
# killed, shutdown, idle too long.
NUMBERS = {1205, 1213, 2006, 2013, 1927, 1053, 4031}
SQLITE_TEXTS = ("database is locked", "database table is locked", "database is busy")


def is_conflict(error: BaseException, *, vendor: str) -> bool:
    """Return whether ``error`` is a deadlock, a lock timeout or a lost connection.

    The errors of some drivers have no code for a lost connection: see ``is_lost``.
    """
    kind = type(error)  # isinstance() would ask its __class__, which may raise
    if not issubclass(kind, Error):
        return False
    if issubclass(kind, InterfaceError):
        return True
    cause = error.__cause__ or error
    state = getattr(cause, "sqlstate", None) or ""
    if state in SQLSTATES or state.startswith(CONNECTION_CLASS):
        return True
    first = cause.args[0] if cause.args else None
    return first in NUMBERS or (
        vendor == "sqlite" and any(text in str(error) for text in SQLITE_TEXTS)
    )


def is_lost(raw: Any) -> bool:
    """Return, without a round trip, whether a driver's connection is lost.

    Pass the connection that was used: after a failed COMMIT Django may have a new one.
    """
    try:
        getattr(raw, "in_transaction", None)  # SQLite raises here once it is closed
    except Exception:
        return True
    return raw is None or bool(getattr(raw, "closed", False)) or getattr(raw, "open", 1) == 0
