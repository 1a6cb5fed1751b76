"""The only package that speaks SQL: one store for each database alias."""

from functools import cache
from typing import TYPE_CHECKING, Any

from django.db import connections
from django.utils.module_loading import import_string

from aftercommit.errors import ConfigurationError

if TYPE_CHECKING:
    from aftercommit.store.base import Store

STORES = {
    "postgresql": "aftercommit.store.postgresql.store.PostgreSQLStore",
    "mysql": "aftercommit.store.mysql.store.MySQLStore",
    "sqlite": "aftercommit.store.sqlite.store.SQLiteStore",
}


def store_for(alias: str) -> "Store":
    """Return the store of a database alias.

    The class is imported here, on first use, because it needs the models, and tasks are
    declared before Django's app registry is ready.

    Raises ``ConfigurationError`` for a database that has no store.
    """
    vendor = connections[alias].vendor
    if vendor not in STORES:
        raise ConfigurationError(
            f"Database {alias!r} is {vendor}; aftercommit keeps its jobs in {', '.join(STORES)}."
        )
    return _class_of(vendor)(alias)


@cache
def _class_of(vendor: str) -> type["Store"]:
    found: type[Store] = import_string(STORES[vendor])
    return found


def default_alias() -> str:
    """Return the alias to which the database router sends writes of jobs."""
    from django.db import router  # noqa: PLC0415

    alias: str = router.db_for_write(_job_model())
    return alias


@cache
def _job_model() -> Any:
    return import_string("aftercommit.models.Job")
