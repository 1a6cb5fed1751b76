"""What the checks look at: our backends, and the databases that hold their jobs."""

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from aftercommit._compat import task_backends
from aftercommit.backend import DatabaseBackend


def our_backends() -> list[DatabaseBackend]:
    """Return the backends of TASKS that are ours, in their order.

    Raises ``ConfigurationError`` if the options of one make no sense.
    """
    configured = (task_backends[alias] for alias in task_backends)
    return [backend for backend in configured if isinstance(backend, DatabaseBackend)]


def job_databases() -> list[BaseDatabaseWrapper]:
    """Return the databases that hold jobs, each once; an unknown alias is left out."""
    aliases = dict.fromkeys(backend.using for backend in our_backends())
    return [connections[alias] for alias in aliases if alias in connections]
