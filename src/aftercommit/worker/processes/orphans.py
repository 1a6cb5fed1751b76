"""What a dead worker process leaves behind: jobs that it had claimed and not begun."""

import logging
import threading
from uuid import UUID

from django.db import Error, connections

from aftercommit.enqueue.finished import send_finished
from aftercommit.options.conf import WorkerConfig
from aftercommit.store import store_for
from aftercommit.worker.config import served_backends
from aftercommit.worker.in_flight import InFlight

logger = logging.getLogger("aftercommit")


class Orphans:
    """Gives them back at once, without a crash on their account; called by the parent.

    Those that ran are left to whoever rescues them. If the database is away meanwhile,
    or the parent dies as well, all are rescued and count as crashed.
    """

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config

    def __call__(self, board: InFlight) -> None:
        """See to the jobs of the process whose board this was; returns at once."""
        worker_id, begun = board.read()
        if worker_id is not None:
            threading.Thread(
                target=self._release,
                args=[worker_id, begun],
                name="aftercommit-orphans",
                daemon=True,
            ).start()

    def _release(self, worker_id: UUID, begun: set[UUID]) -> None:
        backends = served_backends(self._config.backends).values()
        for using in dict.fromkeys(backend.using for backend in backends):
            try:
                store = store_for(using)
                send_finished(store, store.release_unstarted(worker_id, begun=begun))
            except Error:
                logger.warning("Database %r is away: unbegun jobs count as crashed", using)
        connections.close_all()
