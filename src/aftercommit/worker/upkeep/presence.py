"""Keeps this process's session lock, and listens for new jobs."""

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from uuid import UUID

from django.db import Error, OperationalError

from aftercommit.store.base import Store
from aftercommit.store.presence import Presence
from aftercommit.worker.recycling import resident

logger = logging.getLogger("aftercommit")

POOLED = (
    "Database %r is behind a pooler in transaction mode (PgBouncer): session locks and wake-ups "
    "do not work there. This worker does without them: jobs of dead workers are rescued when "
    "their leases end. Connect the workers to the server itself, or set "
    "OPTIONS['session_locks'] = False."
)
LONGEST_WAIT = timedelta(seconds=1)


class OwnPresence:
    """Keeps the presence of this worker process on one database alias: lock, row and LISTEN."""

    def __init__(
        self,
        store: Store,
        *,
        worker_id: UUID,
        session_locks: bool,
        threads: int | None = None,
        news: Callable[[], None],
        asked: Callable[[], None] = lambda: None,
        rules_changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._worker_id = worker_id
        self._session_locks = session_locks
        self._threads = threads  # that run jobs
        self._news = news
        self._asked = asked  # called when running jobs of this worker are asked to stop
        self._rules_changed = rules_changed  # called before ``news`` is
        self._presence: Presence | None = None
        self._announced: bool | None = None
        self.pooled = False  # the database is behind a pooler in transaction mode

    def step(self) -> timedelta:
        """Wait once for a notification; raises ``django.db.Error`` when the lock is lost."""
        presence = self._presence or self._open()
        try:
            if presence.wait(LONGEST_WAIT):
                self._hear(presence)
            if presence.take_requests():
                self._asked()
        except (Error, OSError) as error:
            self.close()
            raise OperationalError("The connection that holds the session lock broke.") from error
        self._announce(presence)
        return timedelta(0)

    def _hear(self, presence: Presence) -> None:
        if presence.rules_changed:
            presence.rules_changed = False
            self._rules_changed()
        self._news()

    @property
    def announced(self) -> bool:
        """Whether the other workers can see that this worker is alive, and notice its death."""
        return self._announced is not None

    @property
    def tells(self) -> bool:
        """Whether the database tells this process of new jobs."""
        return self._store.wakes_workers and self._session_locks and not self.pooled

    def announce_again(self) -> None:
        """Write this worker's row again with the next step, because it was deleted."""
        self._announced = None

    def interrupt(self) -> None:
        """End the present wait, from another thread."""
        if self._presence is not None:
            self._presence.interrupt()

    def sign_off(self) -> None:
        """Delete this worker's row, then release the session lock."""
        try:
            self._store.forget({self._worker_id})
        except Error:
            logger.info(
                "The database does not answer: the other workers will find the session lock "
                "of this worker free"
            )
        self.close()

    def close(self) -> None:
        """Release the session lock."""
        presence, self._presence = self._presence, None
        if presence is not None:
            with suppress(Error, OSError):  # broken, or closed by a task
                presence.close()

    def _open(self) -> Presence:
        self._presence = presence = self._store.open_presence(
            self._worker_id, session_locks=self._session_locks and not self.pooled
        )
        self._announced = None
        self._announce(presence)
        self._rules_changed()  # perhaps before the LISTEN
        self._news()  # jobs may have been enqueued before the LISTEN
        self._asked()  # and running jobs asked to stop
        return presence

    def _announce(self, presence: Presence) -> None:
        if presence.pooled and not self.pooled:
            self.pooled = True
            logger.warning(POOLED, self._store.alias)
        if self._announced != presence.locked:
            self._store.workers.announce(
                self._worker_id,
                locked=presence.locked,
                threads=self._threads,
                memory=resident() or None,
            )
            self._announced = presence.locked
            self._store.connection.close()  # not needed again before the presence is lost
