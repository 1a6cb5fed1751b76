"""Which jobs are for this worker, by their backend and their queue."""

import logging

from aftercommit._compat import task_backends
from aftercommit.worker.config import Served

logger = logging.getLogger("aftercommit")


class OwnQueues:
    """Tells what a worker serves, and names each backend once that it does not have."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._unknown_backends: set[str] = set()

    def serves(self, backend: str, queue: str) -> bool:
        """Return whether due jobs of a backend in a queue are to be claimed here."""
        if not self._served.serves(queue):
            return False
        if self._served.backends:
            return backend in self._served.backends
        if backend not in task_backends.settings:
            self._warn_of_backend(backend)
            return False
        return True

    def _warn_of_backend(self, backend: str) -> None:
        if backend not in self._unknown_backends:
            self._unknown_backends.add(backend)
            logger.warning(
                "TASKS of this worker does not have the backend %r; its jobs stay ready for a "
                "worker that has it.",
                backend,
            )
