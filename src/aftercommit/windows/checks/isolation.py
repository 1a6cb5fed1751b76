"""Checks the isolation level of transactions."""

from collections.abc import Iterator

from django.core.checks import CheckMessage, Error
from django.db.backends.base.base import BaseDatabaseWrapper

SERVER_DEFAULT = "of the server, which is REPEATABLE READ unless it was changed"
FINE = {"postgresql": ("READ COMMITTED", "READ UNCOMMITTED"), "mysql": ("READ COMMITTED",)}
SO_WHAT = {
    "postgresql": "a worker's claim fails with a serialization error whenever another worker "
    "was faster",
    "mysql": "a task may read a snapshot from before the commit that enqueued it, and miss its "
    "rows",
}


def isolation_error(database: BaseDatabaseWrapper, level: str) -> Iterator[CheckMessage]:
    """Yield an error if jobs cannot work with transactions at this level."""
    words = level if level == SERVER_DEFAULT else level.replace("-", " ").upper()
    if words not in FINE[database.vendor]:
        yield Error(
            f"Database {database.alias!r} holds jobs, and its transactions run at the isolation "
            f"level {words}: {SO_WHAT[database.vendor]}.",
            hint=_HINT[database.vendor].format(database.alias),
            id="aftercommit.E004",
        )


_HINT = {
    "postgresql": "Remove 'isolation_level' from DATABASES[{!r}]['OPTIONS'], and let "
    "default_transaction_isolation of server, role and database be 'read committed'. Single "
    "transactions may still SET TRANSACTION ISOLATION LEVEL.",
    "mysql": "Remove 'isolation_level' from DATABASES[{!r}]['OPTIONS'] (Django's default is "
    "'read committed'), and SET no other level in 'init_command'.",
}
