"""Holds this process's session lock, and hears of new jobs."""

import logging
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from django.db import Error, OperationalError

from aftercommit.store.base import Store
from aftercommit.store.presence import Presence

logger = logging.getLogger("aftercommit")

LONGEST_WAIT = timedelta(seconds=1)


class OwnPresence:
    """Keeps the presence of this worker process on one database alias: lock, row and LISTEN."""

    def __init__(
        self,
        store: Store,
        *,
        worker_id: UUID,
        session_locks: bool,
        news: Callable[[], None],
    ) -> None:
        self._store = store
        self._worker_id = worker_id
        self._session_locks = session_locks
        self._news = news
        self._presence: Presence | None = None
        self._announced: bool | None = None

    def step(self) -> timedelta:
        """Wait for news once; raises ``django.db.Error`` when the lock is gone."""
        presence = self._presence or self._open()
        try:
            if presence.wait(LONGEST_WAIT):
                self._news()
        except (Error, OSError) as error:
            self.close()
            raise OperationalError("The connection that holds the session lock broke.") from error
        self._announce(presence)
        return timedelta(0)

    @property
    def announced(self) -> bool:
        """Whether others can see that this worker lives, and when it dies."""
        return self._announced is not None

    def announce_again(self) -> None:
        """Appear in the table of workers again, with the next step."""
        self._announced = None

    def interrupt(self) -> None:
        """End the present wait, from another thread."""
        if self._presence is not None:
            self._presence.interrupt()

    def sign_off(self) -> None:
        """Leave the table of workers, then give the lock back."""
        try:
            self._store.bury({self._worker_id})
        except Error:
            logger.info("The database is away: others will find the lock of this worker free")
        self.close()

    def close(self) -> None:
        """Give the lock back."""
        presence, self._presence = self._presence, None
        if presence is not None:
            presence.close()

    def _open(self) -> Presence:
        self._presence = presence = self._store.open_presence(
            self._worker_id, session_locks=self._session_locks
        )
        self._announced = None
        self._announce(presence)
        self._news()  # whatever was announced while nobody listened
        return presence

    def _announce(self, presence: Presence) -> None:
        if self._announced != presence.locked:
            self._store.workers.announce(self._worker_id, locked=presence.locked)
            self._announced = presence.locked
            self._store.connection.close()  # needed again only after the next cut
