"""Strict mode: transactions that were not opened by ``atomic()``."""

import threading
from collections.abc import Sequence
from typing import Any

from django.db import connections

from aftercommit.guard.transactions import Opened
from aftercommit.raw_transactions import is_open_by_the_driver


def and_by_hand(opened: Sequence[Opened]) -> list[Opened]:
    """Return open transactions, with those of this thread by BEGIN or without autocommit."""
    known = {one.alias for one in opened}
    found: Sequence[Any] = connections.all(initialized_only=True)
    return [
        *opened,
        *(
            Opened(one.alias, threading.get_ident(), known=one)
            for one in found
            if one.alias not in known and _is_open_by_hand(one)
        ),
    ]


def _is_open_by_hand(connection: Any) -> bool:
    raw = connection.connection
    if raw is None or connection.in_atomic_block:
        return False
    return not connection.autocommit or is_open_by_the_driver(connection.vendor, raw)
