"""Which connections of this thread have a transaction open that the user has begun."""

from collections.abc import Sequence
from typing import Any

from django.db import connections

from aftercommit.errors import InsideTransaction

FOR_EVER = (
    "A job that was enqueued in it is seen by no worker before COMMIT, so the two would wait for "
    "each other; nothing was done."
)
IDLE = 0  # psycopg.pq.TransactionStatus
IN_TRANSACTION = 1  # a bit of the status that MySQL sends; PyMySQL keeps it


def open_aliases() -> list[str]:
    """Return the aliases of the databases on which a transaction is open, in their order.

    The transaction that ``TestCase`` opens around a test does not count: production has none.
    """
    return [one.alias for one in connections.all(initialized_only=True) if is_open(one)]


def refuse_waiting_for_itself(what: str, *, using: str) -> None:
    """Raise ``InsideTransaction`` if this thread is in a transaction on a database alias.

    For what waits for jobs there: a job that was enqueued in the transaction is seen by no
    worker before its COMMIT.
    """
    one: Any = connections[using]
    if one.in_atomic_block or is_open(one):
        in_test = any(block._from_testcase for block in one.atomic_blocks)
        raise InsideTransaction(what=what, using=[using], in_test=in_test, why=FOR_EVER)


def refuse_inside_transaction(what: str) -> None:
    """Raise ``InsideTransaction`` if a connection of this thread is in a transaction.

    For what runs jobs or closes connections in the caller's thread. Here the transaction of a
    ``TestCase`` counts, too.
    """
    found: Sequence[Any] = connections.all(initialized_only=True)
    if names := [one.alias for one in found if one.in_atomic_block or is_open(one)]:
        blocks = [block for one in found for block in one.atomic_blocks]
        in_test = any(block._from_testcase for block in blocks)
        raise InsideTransaction(what=what, using=names, in_test=in_test)


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
    if vendor == "mysql":
        return bool((getattr(raw, "server_status", None) or 0) & IN_TRANSACTION)
    return bool(getattr(raw, "in_transaction", False))
