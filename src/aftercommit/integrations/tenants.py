"""django-tenants: a job runs in the schema in which it was enqueued.

The table of jobs is in the public schema (``SHARED_APPS``), where the worker works as well.
"""

from collections.abc import Callable
from typing import Any

from django.db import connections
from django_tenants.utils import get_public_schema_name, get_tenant_database_alias

from aftercommit.errors import AftercommitError
from aftercommit.middleware import Enqueuing, JobRun

HEADER = "tenant"


class MixedTenants(AftercommitError):
    """A batch has jobs of several tenants, and its function can be in one schema only."""

    def __init__(self, *, task_path: str, schemas: list[str]) -> None:
        super().__init__(
            f"{task_path} was about to run jobs of the tenants {', '.join(schemas)} "
            "in one call.\n"
            "None of them has run; they are retried in smaller batches.\n"
            "Fix: declare the task without batch_size, or enqueue its jobs in the public schema "
            "and pass the tenant as an argument."
        )
        self.schemas = schemas


def headers(enqueuing: Enqueuing) -> dict[str, str]:
    """Return the schema of the present tenant; none for a message of another library."""
    if enqueuing.broker is not None:
        return {}
    return {HEADER: _connection().schema_name}


# The same call is other work for another tenant: unique jobs are unique in their schema.
headers.distinguish = (HEADER,)  # type: ignore[attr-defined]


def middleware(get_result: Callable[[JobRun], Any]) -> Callable[[JobRun], Any]:
    """Run each job in its schema, and leave the connection in the one that it had before.

    Sync, also around coroutines: a connection belongs to a thread, and a coroutine queries in
    the thread of the middleware around it.
    """

    def in_schema(run: JobRun) -> Any:
        connection = _connection()
        before, public = connection.tenant, connection.include_public_schema
        connection.set_schema(_schema_of(run))
        try:
            return get_result(run)
        finally:
            connection.set_tenant(before, include_public=public)

    return in_schema


middleware.headers = headers  # type: ignore[attr-defined]


def _schema_of(run: JobRun) -> str:
    usual = get_public_schema_name()
    found = sorted({one.headers.get(HEADER, usual) for one in run.runs})
    if len(found) > 1:
        raise MixedTenants(task_path=run.name, schemas=found)
    return str(found[0])


def _connection() -> Any:
    return connections[get_tenant_database_alias()]
