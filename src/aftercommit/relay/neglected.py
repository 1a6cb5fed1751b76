"""Messages that have been due for a while: no relay runs, or one that does not keep up."""

import logging
import threading
import time
from datetime import timedelta
from functools import partial
from typing import NamedTuple

from django.db import Error, transaction

from aftercommit.enqueue.backend import DatabaseBackend
from aftercommit.enqueue.transactions import is_open
from aftercommit.options.queues import queues_of
from aftercommit.values import QUEUE

logger = logging.getLogger("aftercommit")

PRIORITY = 0  # of every message
PATIENCE = timedelta(minutes=1)  # a relay that keeps up claims a message sooner
LOOK_EVERY = timedelta(minutes=1)
SEEN_WITHIN = timedelta(minutes=2)  # workers write much more often that they are alive
FIX = "Run 'manage.py aftercommit relay', or a worker with --relay, for this database."
READ_ITS_LOG = "If one runs, its log says why it does not publish."


class Neglect(NamedTuple):
    """The messages of a library in a database."""

    library: str
    using: str
    workers: bool  # whether a process is alive that may publish them

    @property
    def what(self) -> str:
        """Return what is wrong. Which queues a worker serves is not in the database."""
        why = (
            "No relay for them runs, or it is behind, or the broker does not answer it."
            if self.workers
            else "No process of a worker or a relay has been seen here for 2 minutes."
        )
        return (
            f"Messages for {self.library} have waited in database {self.using!r} for more than "
            f"{PATIENCE.seconds} s. {why}"
        )

    @property
    def fix(self) -> str:
        """Return what to do."""
        return f"{FIX} {READ_ITS_LOG}" if self.workers else FIX

    def __str__(self) -> str:
        return f"{self.what} {self.fix}"


class Reminder:
    """Says once in a process that messages are kept in vain; looks once in a while."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said: set[tuple[str, str]] = set()
        self._next_look = time.monotonic() + LOOK_EVERY.total_seconds()

    def look(self, backend: DatabaseBackend) -> None:
        """Look if it is time, never in the user's transaction: an error would break it."""
        if time.monotonic() < self._next_look:
            return
        connection = transaction.get_connection(backend.using)
        if any(block._from_testcase for block in connection.atomic_blocks):
            return  # a test may count the callbacks, and nothing is outside of its transaction
        if is_open(connection) and not connection.in_atomic_block:
            return  # nothing tells when it commits
        with self._lock:
            if time.monotonic() < self._next_look:
                return
            self._next_look = time.monotonic() + LOOK_EVERY.total_seconds()
        call = partial(self._look, backend)
        transaction.on_commit(call, using=backend.using, robust=True)

    def _look(self, backend: DatabaseBackend) -> None:
        try:
            found = neglected(backend)
        except Error as error:
            logger.debug("Whether messages wait for a relay cannot be read: %s", error)
            return
        for one in found:
            if (one.using, one.library) not in self._said:
                self._said.add((one.using, one.library))
                logger.warning("%s", one)


def neglected(backend: DatabaseBackend) -> list[Neglect]:
    """Return the libraries of a backend whose messages have been due for a while.

    Messages of a paused broker are not: somebody wants them to wait.
    """
    store, found = backend.store, {}
    for library in backend.config.libraries:
        found[library] = store.neglected(
            queues_of(library), backend=backend.alias, priority=PRIORITY, after=PATIENCE
        )
    if not any(found.values()):
        return []
    paused = {one.name for one in store.pauses() if one.kind == QUEUE}
    workers = bool(store.workers.count_seen(within=SEEN_WITHIN))
    return [
        Neglect(library, backend.using, workers)
        for library, late in found.items()
        if not paused.issuperset(late)
    ]
