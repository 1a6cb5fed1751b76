"""The connections of a task thread: no session state of one task reaches the next."""

import logging
import time
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import Any, NamedTuple, Self
from weakref import ref

from asgiref.sync import sync_to_async
from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from aftercommit.process import readable
from aftercommit.safe_log import log_error
from aftercommit.transient_errors import is_lost
from aftercommit.worker.frames import clear_frames
from aftercommit.worker.running.blocks import forget
from aftercommit.worker.running.raw_cursors import noting, replace_factory, usual_factory
from aftercommit.worker.running.statements import (
    changes_session,
    may_leave_transaction,
    server_side,
)
from aftercommit.worker.running.tenants import Tenant, return_to, tenant_of

logger = logging.getLogger("aftercommit")

LONGEST_USE = timedelta(minutes=1)
IN_TRANS = 1  # PyMySQL: SERVER_STATUS_IN_TRANS


class ThreadConnections:
    """The connections of one thread that runs tasks, watched inside the ``with`` block.

    A connection is closed if a task has changed its session, broken it or left it in a
    transaction. Other connections stay open from job to job. When no job is waiting, they
    are closed as CONN_MAX_AGE says; while jobs are waiting, at most one minute later.
    """

    def __init__(self) -> None:
        self._changed: set[str] = set()
        self._since: dict[str, float] = {}
        self._mine: list[Any] = []  # Django uses these objects until the thread ends
        # Cursors that hold something on the server or in the file until they are closed. By
        # the id of the object, which is used again: few are alive at once.
        self._cursors: dict[int, ref[Any]] = {}
        self._kinds: dict[tuple[str, type], Any] = {}  # classes of cursors, with those of ours
        self._tenants: dict[str, Tenant | None] = {}

    def __enter__(self) -> Self:
        connection_created.connect(self._forget_setup)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        connection_created.disconnect(self._forget_setup)
        for connection in self._mine:
            self._make_usual_cursors(connection)
            if self._watch in connection.execute_wrappers:
                connection.execute_wrappers.remove(self._watch)
        self._mine = []

    def _forget_setup(self, connection: Any, **_: Any) -> None:
        """Ignore the statements by which Django itself sets up a new connection."""
        if any(connection is one for one in self._mine):
            self._changed.discard(connection.alias)
            self._make_noting_cursors(connection)

    def prepare(self) -> None:
        """Watch the connections before a task runs; close those that the server has ended."""
        for connection in self._open():
            if _was_ended(connection):
                _close_for_good(connection)
        if not self._mine:
            self._mine = list(connections.all())
        for connection in self._mine:
            # Each time: whoever leaves an execute_wrapper() late takes away the last one.
            if self._watch not in connection.execute_wrappers:
                connection.execute_wrappers.append(self._watch)
            self._make_noting_cursors(connection)
            self._tenants[connection.alias] = tenant_of(connection)

    def tidy(self) -> None:
        """Close connections that the last task has changed or broken, or that are too old."""
        self._close_cursors()
        for connection in self._mine:
            return_to(connection, self._tenants.get(connection.alias))
        for connection in self._open():
            old = time.monotonic() - self._since.get(connection.alias, time.monotonic())
            if connection.alias in self._changed or _is_spoiled(connection):
                _close_for_good(connection)
            elif connection.errors_occurred or old > LONGEST_USE.total_seconds():
                connection.close_if_unusable_or_obsolete()
            if connection.connection is None:
                self._since.pop(connection.alias, None)
            else:
                self._since.setdefault(connection.alias, time.monotonic())
        self._changed.clear()

    def rest(self) -> None:
        """Close connections as CONN_MAX_AGE says, because no job is waiting."""
        for connection in self._open():
            connection.close_if_unusable_or_obsolete()

    def _make_noting_cursors(self, connection: Any) -> None:
        """Let a connection make cursors that tell us their statements, also without Django."""
        raw, vendor = connection.connection, connection.vendor
        usual = None if raw is None else usual_factory(raw, vendor)
        if usual is None:
            return
        key = (connection.alias, usual)
        if key not in self._kinds:

            def note(statement: Any, cursor: Any) -> None:
                # Else a pool has given the driver's connection to another thread.
                if getattr(cursor, "connection", None) is connection.connection:
                    self._note(connection, statement, cursor)

            self._kinds[key] = noting(usual, note)
        replace_factory(raw, vendor, self._kinds[key])

    def _make_usual_cursors(self, connection: Any) -> None:
        raw, vendor = connection.connection, connection.vendor
        if raw is not None and (usual := usual_factory(raw, vendor)) is not None:
            replace_factory(raw, vendor, usual)

    def _note(self, connection: Any, statement: Any, cursor: Any) -> None:
        """Treat a statement on a cursor of the driver as ``_watch`` does; refuse some."""
        context = {"connection": connection, "cursor": Wrapped(cursor)}
        for wrapper in tuple(connection.execute_wrappers):
            if getattr(wrapper, "refuses", False):
                wrapper(_nothing, statement, None, False, context)
        self._watch(_nothing, statement, None, False, context)

    def _close_cursors(self) -> None:
        """Close the cursors that the last task has left: later, it could harm another one.

        Whatever keeps such a cursor alive would close it in any thread, at any time.
        """
        for one in self._cursors.values():
            if (cursor := one()) is not None:
                with suppress(Exception):
                    cursor.close()
        self._cursors.clear()

    def _open(self) -> list[BaseDatabaseWrapper]:
        return [one for one in self._mine if one.connection is not None]

    def _watch(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        connection = context["connection"]
        if connection.vendor == "sqlite" or server_side(context):
            cursor = context["cursor"].cursor
            self._cursors[id(cursor)] = ref(cursor)
        silent = connection.vendor == "mysql"  # its driver does not report an open transaction
        if changes_session(sql, context) or (silent and may_leave_transaction(sql, context)):
            self._changed.add(connection.alias)
        return execute(sql, params, many, context)


class Wrapped(NamedTuple):
    """A cursor of the driver in the place of Django's."""

    cursor: Any


def _nothing(*_: Any) -> None:
    """Stand for the execution of a statement."""


def _forget_transaction(connection: Any) -> None:
    """Reset the atomic blocks that a task has entered and not left.

    Django itself resets them when it connects, but checks them before that, and would refuse
    the next atomic task.
    """
    connection.in_atomic_block = False
    forget(connection.atomic_blocks)
    connection.atomic_blocks = []


def _close_for_good(connection: Any) -> None:
    _forget_transaction(connection)  # else Django delays close() to the block's end
    if connection.vendor == "postgresql":
        connection.connection.close()  # so that a pool does not use it again
    if (result := _unread(connection.connection)) is not None:
        result.unbuffered_active = False  # else it reads on, from no socket, when it is freed
    try:
        connection.close()
    except Error:
        logger.debug("A connection could not be closed and is dropped", exc_info=True)
    finally:
        connection.connection = None


def _is_spoiled(connection: Any) -> bool:
    return is_lost(connection.connection) or _in_transaction(connection)


def _in_transaction(connection: Any) -> bool:
    if connection.in_atomic_block or connection.needs_rollback or not connection.get_autocommit():
        return True
    raw = connection.connection
    if connection.vendor == "postgresql":
        return bool(raw.info.transaction_status)  # 0 is idle
    return bool(getattr(raw, "in_transaction", False)) or _unread(raw) is not None


def _unread(raw: Any) -> Any:
    """Return the result of PyMySQL that a task has not read to its end (of an SSCursor)."""
    result = getattr(raw, "_result", None)
    return result if getattr(result, "unbuffered_active", False) else None


def replace_if_ended(connection: Any, *, ask: bool) -> None:
    """Close a connection that was ended while nobody used it; the next statement opens another.

    Not if a transaction was open there: its effects are gone, and must not be left out in
    silence. ``ask``: ask the server, since not every end is told (by a firewall, for example).
    """
    raw = connection.connection
    if raw is None or _in_transaction(connection) or getattr(raw, "server_status", 0) & IN_TRANS:
        return
    if _was_ended(connection, ask=ask):
        _close_for_good(connection)


def _was_ended(connection: Any, *, ask: bool = False) -> bool:
    return (ask or _has_something_to_say(connection.connection)) and not connection.is_usable()


def _has_something_to_say(raw: Any) -> bool:
    """Return, without a round trip, whether an idle connection has bytes to read.

    Usually the server has closed the connection: it was restarted since the last task.
    """
    socket = raw if hasattr(raw, "fileno") else getattr(raw, "_sock", None)
    try:
        return socket is not None and bool(readable(socket))
    except (OSError, ValueError):  # closed
        return True


def drop_connections() -> None:
    """Close the thread's connections: an interrupt may have left an answer half read."""
    for connection in connections.all(initialized_only=True):
        with suppress(Error):
            connection.close()


async def close_async_connections(raised: list[BaseException]) -> None:
    """Close the connections of this async task; they may be broken already."""

    def close() -> None:
        for error in raised:
            clear_frames(error)
        connections.close_all()

    try:
        await sync_to_async(close)()
    except Exception as error:
        log_error(
            "A connection of an async task could not be closed", error=error, level=logging.DEBUG
        )
