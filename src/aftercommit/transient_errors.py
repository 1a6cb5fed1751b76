"""Transient errors of the database: the same work may succeed when it is repeated."""

from typing import Any

from django.db import Error, InterfaceError, OperationalError

# PostgreSQL, by SQLSTATE: serialization failure, deadlock, lock not available; too many
# connections; the server shuts down or has crashed, or ends a session that was idle (in a
# transaction, or at all); read-only, as a standby is; disk full, or it cannot be written.
SQLSTATES = {
    *("40001", "40P01", "55P03"),
    *("53300", "57P01", "57P02", "57P03", "57P05", "25P03", "25P04"),
    *("25006", "53100", "58030"),
}
CONNECTION_CLASS = "08"  # the first two characters of each SQLSTATE of a broken connection
# MySQL and MariaDB, by number: lock wait timeout, deadlock, lock not available; server gone,
# lost, killed, shutdown, idle too long, no connection, too many, broken network, a node without
# its cluster; read-only; disk full.
NUMBERS = {
    *(1205, 1213, 3572),
    *(2006, 2013, 2055, 1927, 1053, 4031, 2002, 2003, 1040, 1152, 1158, 1159, 1160, 1161, 1047),
    *(1792, 1836),
    *(1021, 1114),
}
DEADLOCKS = {"40001", "40P01", 1213}
LOCK_TIMEOUTS = {"55P03", 1205}
NOT_LET_IN = {1040, 1044, 1045, 1049, 1053, 1129, 1130, 1152, 1203, 1226, 1698, 1927}
FIRST_OF_CLIENT = 2000  # from here on errors are the client library's
READ_ONLY = 1290  # of many an option; the text names it
SQLITE_TEXTS = (
    "database is locked",
    "database table is locked",
    "database is busy",
    "attempt to write a readonly database",
    "database or disk is full",
    "disk I/O error",
    "unable to open database file",
)
SQLITE_FOR_NOW = SQLITE_TEXTS[:3]
TOO_MANY = {1203, 1226}  # connections of one user
FATAL = "FATAL:"  # before what a PostgreSQL server, or PgBouncer, says when it lets nobody in
FATAL_FOR_NOW = (
    *("starting up", "shutting down", "not yet accepting", "recovery", "too many"),
    *("connection slots", "cannot connect", "has been failing", "timeout"),
)


def is_conflict(error: BaseException, *, vendor: str) -> bool:
    """Return whether ``error`` is a deadlock, a lock timeout, a lost connection or the like.

    A database that cannot be written at the moment is: one that is read-only, a full disk. The
    errors of some drivers have no code for a lost connection: see ``is_lost``.
    """
    kind = type(error)  # isinstance() would ask its __class__, which may raise
    if not issubclass(kind, Error):
        return False
    if issubclass(kind, InterfaceError):
        return True
    if vendor == "sqlite":
        return any(text in str(error) for text in SQLITE_TEXTS)
    cause = error.__cause__ or error
    state = getattr(cause, "sqlstate", None) or ""
    if state in SQLSTATES or state.startswith(CONNECTION_CLASS):
        return True
    first = cause.args[0] if cause.args else None
    return first in NUMBERS or (first == READ_ONLY and "read-only" in str(cause))


def is_for_now(error: BaseException, *, vendor: str) -> bool:
    """Return whether a database that lets nobody in, or does not answer, may do so by itself.

    A wrong password or a missing right stays as it is until somebody changes it.
    """
    if issubclass(type(error), InterfaceError):
        return True
    if vendor == "sqlite":
        return any(text in str(error) for text in SQLITE_FOR_NOW)
    cause = error.__cause__ or error
    first = cause.args[0] if cause.args else None
    if isinstance(first, int):  # MySQL, MariaDB
        return first >= FIRST_OF_CLIENT or first in NUMBERS | TOO_MANY
    if state := getattr(cause, "sqlstate", None):
        return state in SQLSTATES or state.startswith(CONNECTION_CLASS)
    # psycopg tells no SQLSTATE of a connection that was not made.
    _address, refused, why = str(cause).partition(FATAL)
    return not refused or any(text in why for text in FATAL_FOR_NOW)


def is_deadlock(error: BaseException) -> bool:
    """Return whether the server has rolled back a transaction so that others can go on."""
    cause = error.__cause__ or error
    first = cause.args[0] if cause.args else None
    return getattr(cause, "sqlstate", None) in DEADLOCKS or first in DEADLOCKS


def is_lock_timeout(error: BaseException) -> bool:
    """Return whether a statement has waited for a lock for as long as it may."""
    cause = error.__cause__ or error
    first = cause.args[0] if cause.args else None
    return getattr(cause, "sqlstate", None) in LOCK_TIMEOUTS or first in LOCK_TIMEOUTS


def is_away(error: BaseException) -> bool:
    """Return whether ``error`` may mean that the server is not there, or lets nobody in.

    Such an error may name its address and the user.
    """
    if not issubclass(type(error), OperationalError | InterfaceError):
        return False
    cause = error.__cause__ or error
    first = cause.args[0] if cause.args else None
    if isinstance(first, int):  # MySQL, MariaDB
        return first in NOT_LET_IN or first >= FIRST_OF_CLIENT
    if hasattr(cause, "sqlstate"):  # psycopg; None: the server has not answered
        state = cause.sqlstate or CONNECTION_CLASS
        return bool(state.startswith((CONNECTION_CLASS, "28", "57P", "3D")))
    return False


def is_lost(raw: Any) -> bool:
    """Return, without a round trip, whether a driver's connection is lost.

    Pass the connection that was used: after a failed COMMIT Django may have a new one.
    """
    try:
        getattr(raw, "in_transaction", None)  # SQLite raises here once it is closed
    except Exception:
        return True
    return raw is None or bool(getattr(raw, "closed", False)) or getattr(raw, "open", 1) == 0
