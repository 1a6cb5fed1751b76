"""Imported by the server that suspects' processes are forked from: loads the project once."""

import logging

import django

from aftercommit.conf import WorkerConfig
from aftercommit.process import leave_signals_to_parent


def load_project() -> None:
    """Load Django and every module with tasks, and keep no connection open."""
    django.setup()
    from django.db import connections  # noqa: PLC0415

    from aftercommit.worker.setup import served  # noqa: PLC0415 - needs the models

    served(WorkerConfig())
    # Whatever an app opened must not be shared by the children: connections and pools.
    connections.close_all()
    for connection in connections.all(initialized_only=True):
        getattr(connection, "close_pool", bool)()  # only some databases have one


leave_signals_to_parent()
try:
    load_project()
except Exception:  # each child tries again, and says why it cannot
    logging.getLogger("aftercommit").debug("The project could not be preloaded", exc_info=True)
