"""The databases that are checked: those with jobs."""

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from aftercommit.enqueue.configured import job_aliases


def job_databases() -> list[BaseDatabaseWrapper]:
    """Return the databases with jobs, each once; unknown aliases are left out."""
    return [connections[alias] for alias in job_aliases() if alias in connections]
