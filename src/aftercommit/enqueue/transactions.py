"""Which connections of this thread have a transaction open that the user has begun."""

import asyncio
from collections.abc import Sequence
from typing import Any

from django.db import connections

from aftercommit.errors import InsideTransaction
from aftercommit.raw_transactions import is_open_by_the_driver

FOR_EVER = (
    "A job that was enqueued in it is seen by no worker before COMMIT, so the two would wait for "
    "each other; nothing was done."
)
UNKNOWN = object()  # a transaction whose end Django does not decide
# Attribute of a connection that stands in the transaction of a test, and works as in autocommit
# mode: see ``testing.transactions``.
IN_TEST = "_aftercommit_in_test"


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
    if not connection.autocommit:
        return True
    return not hasattr(connection, IN_TEST) and is_open_by_the_driver(connection.vendor, raw)


def transaction_on(connection: Any) -> Any:
    """Return what stands for the transaction that is open: the same object until its end.

    None if there is none, ``UNKNOWN`` without autocommit or after a BEGIN that Django does not
    know. As in ``open_aliases``, that of a ``TestCase`` does not count.
    """
    if connection.in_atomic_block:
        real = (block for block in connection.atomic_blocks if not block._from_testcase)
        return next(real, None)
    return UNKNOWN if is_open(connection) else None


def in_event_loop() -> bool:
    """Return whether an event loop runs in this thread, where Django refuses to write."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
