"""What operators have paused in one database alias, as this process knows it."""

import logging
import threading
from collections.abc import Sequence
from datetime import timedelta

from aftercommit.store.base import Store
from aftercommit.values import QUEUE, TASK, Pause
from aftercommit.worker.runs import now

logger = logging.getLogger("aftercommit")

KNOWN_FOR = timedelta(milliseconds=500)
IDLE = timedelta(seconds=5)  # without a job to claim
WITHOUT_TABLE = timedelta(seconds=10)  # until it is looked for again


class Pauses:
    """Reads the table of rules, before jobs are claimed and not at each claim.

    An idle worker hardly reads it: what counts is known when there is something to claim. One
    that is busy reads it twice a second, and so follows a pause within a second, also where
    nothing notifies it.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: frozenset[Pause] = frozenset()
        self._read_again_at = float("-inf")
        self._lock = threading.Lock()
        self._read_idle_at = now() + IDLE.total_seconds()
        self.queues: frozenset[str] = frozenset()
        self.tasks: frozenset[str] = frozenset()
        self.resumed: Sequence[str] = ()  # tasks whose jobs are to be brought back

    def refresh_if_idle(self) -> None:
        """Read the table now and then, because jobs of a resumed task may be the only ones."""
        if self.tasks or self.resumed or now() >= self._read_idle_at:
            self.refresh()

    def refresh(self) -> None:
        """Read the table, unless that was done a moment ago."""
        with self._lock:  # whoever comes second must not go on with what was known before
            if now() >= self._read_again_at:
                self._read()

    def expire(self) -> None:
        """Let the next call of ``refresh()`` read the table. From any thread."""
        self._read_again_at = self._read_idle_at = float("-inf")

    def _read(self) -> None:
        began = now()
        self._read_again_at = began + KNOWN_FOR.total_seconds()  # before: it may expire meanwhile
        self._read_idle_at = began + IDLE.total_seconds()
        try:
            found = self._store.rules()
        except BaseException:
            self.expire()
            raise
        if found is None:
            self._read_again_at = now() + WITHOUT_TABLE.total_seconds()
        known = frozenset(found.pauses if found else ())
        self.resumed = found.resumed if found else ()
        if known != self._known:
            self._tell(known)
            self._known = known
            self.queues = frozenset(one.name for one in known if one.kind == QUEUE)
            self.tasks = frozenset(one.name for one in known if one.kind == TASK)

    def _tell(self, known: frozenset[Pause]) -> None:
        using = self._store.alias
        for one in sorted(known - self._known):
            logger.info("Database %r: %s is paused %s", using, one.what, one.details)
        for one in sorted(self._known - known):
            logger.info("Database %r: %s is resumed", using, one.what)
