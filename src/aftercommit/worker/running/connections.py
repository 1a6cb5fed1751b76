"""Connections as a task leaves them: nothing of one task reaches the next."""

import logging
import select
import time
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from aftercommit.transient_errors import is_lost
from aftercommit.worker.running.statements import changes_session, may_leave_transaction

logger = logging.getLogger("aftercommit")

LONGEST_USE = timedelta(minutes=1)


class ThreadConnections:
    """The connections of one thread that runs tasks, watched while the block lasts.

    A connection that a task has changed, broken or left in a transaction is closed. Sound
    ones are kept from job to job while there is work, and closed as CONN_MAX_AGE says
    when there is none, but never used for longer than a minute beyond it.
    """

    def __init__(self) -> None:
        self._changed: set[str] = set()
        self._since: dict[str, float] = {}
        self._mine: list[Any] = []  # this thread's; Django makes no others while it lives

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
            if self._watch in connection.execute_wrappers:
                connection.execute_wrappers.remove(self._watch)
        self._mine = []

    def _forget_setup(self, connection: Any, **_: Any) -> None:
        """Ignore what Django sets on a new connection."""
        if any(connection is one for one in self._mine):
            self._changed.discard(connection.alias)

    def prepare(self) -> None:
        """Watch the thread's connections before a task runs; drop what the server has ended."""
        for connection in self._open():
            if _has_something_to_say(connection.connection) and not connection.is_usable():
                self._close_for_good(connection)
        if not self._mine:
            self._mine = list(connections.all())
            for connection in self._mine:
                connection.execute_wrappers.append(self._watch)

    def tidy(self) -> None:
        """Close what the last task has spoiled, and what has been open for too long."""
        for connection in self._open():
            old = time.monotonic() - self._since.get(connection.alias, time.monotonic())
            if connection.alias in self._changed or _is_spoiled(connection):
                self._close_for_good(connection)
            elif connection.errors_occurred or old > LONGEST_USE.total_seconds():
                connection.close_if_unusable_or_obsolete()
            if connection.connection is None:
                self._since.pop(connection.alias, None)
            else:
                self._since.setdefault(connection.alias, time.monotonic())
        self._changed.clear()

    def rest(self) -> None:
        """Close what CONN_MAX_AGE does not keep, as nothing is to be done."""
        for connection in self._open():
            connection.close_if_unusable_or_obsolete()

    def _open(self) -> list[BaseDatabaseWrapper]:
        return [one for one in self._mine if one.connection is not None]

    def _close_for_good(self, connection: Any) -> None:
        _forget_transaction(connection)  # else close() waits for the block to end
        if connection.vendor == "postgresql":
            connection.connection.close()  # so that a pool does not hand it to someone else
        try:
            connection.close()
        except Error:
            logger.debug("A connection could not be closed and is dropped", exc_info=True)
        finally:
            connection.connection = None

    def _watch(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        connection = context["connection"]
        silent = connection.vendor == "mysql"  # its driver does not tell of a transaction
        if changes_session(sql, context) or (silent and may_leave_transaction(sql, context)):
            self._changed.add(connection.alias)
        return execute(sql, params, many, context)


def _forget_transaction(connection: Any) -> None:
    """Forget blocks that a task has entered and not left, as a new connection does.

    Django looks at them before it connects, and would refuse the next atomic task.
    """
    connection.in_atomic_block = False
    connection.atomic_blocks = []


def _is_spoiled(connection: Any) -> bool:
    return is_lost(connection.connection) or _in_transaction(connection)


def _in_transaction(connection: Any) -> bool:
    if connection.in_atomic_block or connection.needs_rollback or not connection.get_autocommit():
        return True
    raw = connection.connection
    if connection.vendor == "postgresql":
        return bool(raw.info.transaction_status)  # 0 is idle
    return bool(getattr(raw, "in_transaction", False))


def _has_something_to_say(raw: Any) -> bool:
    """Tell, without a round trip, whether an idle connection has anything to read.

    As a rule that is its end: the server was restarted since the last task.
    """
    socket = raw if hasattr(raw, "fileno") else getattr(raw, "_sock", None)
    try:
        return socket is not None and bool(select.select([socket], [], [], 0)[0])
    except (OSError, ValueError):  # closed already, or a number beyond what select() takes
        return True
