"""Messages that are kept while nobody publishes them."""

import logging
import threading
import time
from datetime import timedelta

from aftercommit.enqueue.backend import DatabaseBackend
from aftercommit.options.queues import queues_of

logger = logging.getLogger("aftercommit")

# A relay that runs claims a message sooner. While a broker is away its messages are not due.
PATIENCE = timedelta(minutes=1)
LOOK_EVERY = timedelta(minutes=1)
FIX = "Run 'manage.py aftercommit relay', or a worker with --relay, for this database."


class Reminder:
    """Says once in a process that messages are kept in vain; looks once in a while."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said: set[tuple[str, str]] = set()
        self._next_look = time.monotonic() + LOOK_EVERY.total_seconds()

    def look(self, backend: DatabaseBackend) -> None:
        """Look if it is time, in the transaction that keeps a message."""
        with self._lock:
            if time.monotonic() < self._next_look:
                return
            self._next_look = time.monotonic() + LOOK_EVERY.total_seconds()
        for library in neglected(backend):
            if (backend.using, library) not in self._said:
                self._said.add((backend.using, library))
                logger.warning("%s", sentence(library, using=backend.using))


def neglected(backend: DatabaseBackend) -> list[str]:
    """Return the libraries of a backend whose messages have been due for a while."""
    found = []
    for library in backend.config.libraries:
        if backend.store.neglected(queues_of(library), after=PATIENCE):
            found.append(library)
    return found


def sentence(library: str, *, using: str) -> str:
    """Return what to say of it."""
    return (
        f"Messages for {library} have waited in database {using!r} for more than "
        f"{PATIENCE.seconds} s, and nobody publishes them. {FIX}"
    )
