"""What the checks look at: the databases that hold our jobs."""

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from aftercommit.enqueue.configured import job_aliases


def job_databases() -> list[BaseDatabaseWrapper]:
    """Return the databases that hold jobs, each once; an unknown alias is left out."""
    return [connections[alias] for alias in job_aliases() if alias in connections]
