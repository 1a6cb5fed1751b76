"""Presence on PostgreSQL: an advisory lock and LISTEN on one connection."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.backends.base.base import BaseDatabaseWrapper

from aftercommit.store.presence import Presence

# A router may drop an idle connection silently. Without these options the worker would get
# no notification, and believe for two hours that it holds its session lock.
KEEPALIVES = {
    "keepalives_idle": 10,  # seconds
    "keepalives_interval": 5,  # seconds
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # milliseconds
}

# One round trip for all three: an idle worker asks this more often than anything else. The locks
# are taken in shared mode, until the end of the statement: two rescuers do not block each other.
LOOK = """
SELECT clock_timestamp(), worker.id, pg_try_advisory_xact_lock_shared(
    ('x' || right(replace(worker.id::text, '-', ''), 16))::bit(64)::bigint & 9223372036854775807
)
FROM (SELECT) AS here LEFT JOIN aftercommit_workerpresence AS worker
    ON worker.locked AND worker.id <> %(worker_id)s
"""


def lock_key(worker_id: UUID) -> int:
    """Return the advisory lock of a worker: 63 bits of its id."""
    return worker_id.int & (2**63 - 1)


class PostgreSQLPresence(Presence):
    """Is woken at once by NOTIFY, and when the server closes the connection."""

    def __init__(
        self, connection: BaseDatabaseWrapper, worker_id: UUID, *, session_locks: bool
    ) -> None:
        super().__init__(worker_id)
        self._wants_lock = session_locks
        self._locked = False
        self._wrapper = connection.copy()
        # Not from a pool: the connection is used for as long as the process lives.
        options = self._wrapper.settings_dict["OPTIONS"]
        options.pop("pool", None)
        self._wrapper.settings_dict["OPTIONS"] = KEEPALIVES | options
        self._wrapper.ensure_connection()
        self._raw: Any = self._wrapper.connection
        with self._wrapper.wrap_database_errors:
            self._raw.execute("LISTEN aftercommit")
            self._take_lock()

    @property
    def locked(self) -> bool:
        """Whether the advisory lock is held."""
        return self._locked

    def wait(self, limit: timedelta) -> bool:
        """Wait for NOTIFY; see ``Presence.wait``."""
        with self._wrapper.wrap_database_errors:
            self._take_lock()
            if not self._select(limit, self._raw.fileno()):
                return False
            notified = list(self._raw.notifies(timeout=0))
            if not notified:  # readable without a notification: the connection was closed
                self._raw.execute("SELECT 1")
            return bool(notified)

    def close(self) -> None:
        """Close the connection, which releases the lock."""
        self._wrapper.close()
        super().close()

    def _take_lock(self) -> None:
        # Called again by each wait: the server may not have ended this worker's old session.
        if self._wants_lock and not self._locked:
            answer = self._raw.execute(
                "SELECT pg_try_advisory_lock(%s)", [lock_key(self.worker_id)]
            )
            self._locked = answer.fetchone()[0]
