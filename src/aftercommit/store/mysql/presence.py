"""Presence on MySQL and MariaDB: a named lock, and polling."""

from datetime import timedelta
from uuid import UUID

from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from aftercommit.store.presence import Presence


def lock_name(worker_id: UUID) -> str:
    """Return the name of a worker's lock: unique on the whole server, at most 64 letters."""
    return f"aftercommit:{worker_id.hex}"


class MySQLPresence(Presence):
    """Is not notified of new jobs; each ``wait`` asks whether the lock is still held."""

    def __init__(
        self, connection: BaseDatabaseWrapper, worker_id: UUID, *, session_locks: bool
    ) -> None:
        super().__init__(worker_id)
        self._wants_lock = session_locks
        self._wrapper = connection.copy()
        self._wrapper.ensure_connection()
        self._locked = self._take_lock()

    @property
    def locked(self) -> bool:
        """Whether the named lock is held."""
        return self._locked

    def wait(self, limit: timedelta) -> bool:
        """Wait, then check the lock; see ``Presence.wait``."""
        self._select(limit)
        if self._locked and not self._answer("SELECT IS_USED_LOCK(%s) = CONNECTION_ID()"):
            raise OperationalError("The session lock of this worker is lost.")
        self._locked = self._locked or self._take_lock()
        return False

    def close(self) -> None:
        """Close the connection, which releases the lock."""
        self._wrapper.close()
        super().close()

    def _take_lock(self) -> bool:
        return self._wants_lock and self._answer("SELECT GET_LOCK(%s, 0)")

    def _answer(self, sql: str) -> bool:
        with self._wrapper.cursor() as cursor:
            cursor.execute(sql, [lock_name(self.worker_id)])
            return bool(cursor.fetchone()[0])
