"""What a worker process leaves behind that has died: jobs that it had claimed and not begun."""

import logging
import threading
from typing import Any

from django.db import Error, connections

from aftercommit.options.conf import WorkerConfig
from aftercommit.store import store_for
from aftercommit.worker.board import Board
from aftercommit.worker.config import served_backends

logger = logging.getLogger("aftercommit")


class Remains:
    """Gives them back at once, without a crash on their account; called by the parent.

    Those that ran are left to whoever rescues them. If the database is away meanwhile,
    or the parent dies as well, all are rescued and count as crashed.
    """

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config

    def __call__(self, memory: Any) -> None:
        """See to the jobs of the process whose board this was; returns at once."""
        threading.Thread(
            target=self._give_back, args=[memory], name="aftercommit-remains", daemon=True
        ).start()

    def _give_back(self, memory: Any) -> None:
        worker_id, running = Board(memory).read()
        if worker_id is None:
            return
        backends = served_backends(self._config.backends).values()
        for using in dict.fromkeys(backend.using for backend in backends):
            try:
                store_for(using).disown(worker_id, begun=running)
            except Error:
                logger.warning("Database %r is away: unbegun jobs count as crashed", using)
        connections.close_all()
