"""Presence on PostgreSQL: an advisory lock and LISTEN on one connection."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from aftercommit.store.presence import REQUESTS, Presence

# A router may drop an idle connection silently. Without these options the worker would get
# no notification, and believe for two hours that it holds its session lock.
KEEPALIVES = {
    "keepalives_idle": 10,  # seconds
    "keepalives_interval": 5,  # seconds
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # milliseconds
}

RULES = "aftercommit_rules"  # the channel for changes of rules
SESSION = "SELECT pg_backend_pid()"
CHECK_EVERY = timedelta(seconds=10)


def lock_key(worker_id: UUID) -> int:
    """Return the advisory lock of a worker: 63 bits of its id."""
    return worker_id.int & (2**63 - 1)


def changes_session(ask: Callable[[], int], other: Any) -> bool:
    """Return whether a pooler in transaction mode gives each transaction any free session.

    ``ask`` returns the session of a connection that is in no transaction. While the ``other``
    connection is in one, the first cannot have its session.
    """
    other.ensure_connection()  # before: a new client may get a new session
    before = ask()
    with transaction.atomic(using=other.alias), other.cursor() as cursor:
        cursor.execute(SESSION)
        (busy,) = cursor.fetchone()
        return busy == before or ask() != before


class PostgreSQLPresence(Presence):
    """Is woken at once by NOTIFY, and when the server closes the connection."""

    def __init__(
        self, connection: BaseDatabaseWrapper, worker_id: UUID, *, session_locks: bool
    ) -> None:
        super().__init__(worker_id)
        self._wants_lock = session_locks
        self._locked = False
        self._session = 0  # the server process that holds the lock
        self._next_check = time.monotonic() + CHECK_EVERY.total_seconds()
        self._wrapper = connection.copy()
        # Not from a pool: the connection is used for as long as the process lives.
        options = self._wrapper.settings_dict["OPTIONS"]
        options.pop("pool", None)
        self._wrapper.settings_dict["OPTIONS"] = KEEPALIVES | options
        self._wrapper.ensure_connection()
        self._raw: Any = self._wrapper.connection
        with self._wrapper.wrap_database_errors:
            self._raw.execute("LISTEN aftercommit")
            self._raw.execute(f"LISTEN {REQUESTS}")
            self._raw.execute(f"LISTEN {RULES}")
            if session_locks:
                self._look_for_pooler(connection)
            self._take_lock()

    @property
    def locked(self) -> bool:
        """Whether the advisory lock is held."""
        return self._locked

    def wait(self, limit: timedelta) -> bool:
        """Wait for NOTIFY; see ``Presence.wait``."""
        with self._wrapper.wrap_database_errors:
            self._take_lock()
            if self._check_session():
                # psycopg may have read a notification together with the answer.
                self._requests = self.rules_changed = True
                return True
            if not self._select(limit, self._raw.fileno()):
                return False
            notified = list(self._raw.notifies(timeout=0))
            self.rules_changed |= any(one.channel == RULES for one in notified)
            if not notified:  # readable without a notification: the connection was closed
                self._raw.execute("SELECT 1")
            others = [one for one in notified if one.channel != REQUESTS]
            self._requests |= any(
                one.channel == REQUESTS and one.payload == str(self.worker_id) for one in notified
            )
            return bool(others)

    def close(self) -> None:
        """Close the connection, which releases the lock."""
        self._wrapper.close()
        super().close()

    def _look_for_pooler(self, other: Any) -> None:
        self._session = self._ask_session()
        if changes_session(self._ask_session, other):
            self._note_pooler()

    def _check_session(self) -> bool:
        """Compare the session with that of the lock now and then; True if it was asked for."""
        if not self._locked or time.monotonic() < self._next_check:
            return False
        self._next_check = time.monotonic() + CHECK_EVERY.total_seconds()
        if self._ask_session() != self._session:
            self._note_pooler()
        return True

    def _note_pooler(self) -> None:
        # The lock, if there is one, stays with a session of the pooler: nobody may look at it.
        self.pooled = True
        self._wants_lock = self._locked = False

    def _ask_session(self) -> int:
        pid: int = self._raw.execute(SESSION).fetchone()[0]
        return pid

    def _take_lock(self) -> None:
        # Called again by each wait: the server may not have ended this worker's old session.
        if self._wants_lock and not self._locked:
            answer = self._raw.execute(
                "SELECT pg_try_advisory_lock(%s)", [lock_key(self.worker_id)]
            )
            self._locked = answer.fetchone()[0]
