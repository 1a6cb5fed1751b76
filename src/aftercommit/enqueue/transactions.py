"""Which connections of this thread have a transaction open that the user has begun."""

from typing import Any

from django.db import connections

IDLE = 0  # psycopg.pq.TransactionStatus


def open_aliases() -> list[str]:
    """Return the aliases of the databases on which a transaction is open, in their order.

    The transaction that ``TestCase`` opens around a test does not count: production has none.
    """
    return [one.alias for one in connections.all(initialized_only=True) if is_open(one)]


def is_open(connection: Any) -> bool:
    """Return whether a transaction is open: by ``atomic()``, without autocommit, or by BEGIN."""
    if connection.in_atomic_block:
        return any(not block._from_testcase for block in connection.atomic_blocks)
    raw = connection.connection
    if raw is None:
        return False
    return not connection.autocommit or _by_the_driver(connection.vendor, raw)


def _by_the_driver(vendor: str, raw: Any) -> bool:
    if vendor == "postgresql":
        return bool(raw.info.transaction_status != IDLE)
    return bool(getattr(raw, "in_transaction", False))
