"""Whether a connection is in a transaction that Django does not know, as its driver tells."""

from typing import Any

IDLE = 0  # psycopg.pq.TransactionStatus
IN_TRANSACTION = 1  # a bit of the status that MySQL sends; PyMySQL keeps it


def is_open_by_the_driver(vendor: str, raw: Any) -> bool:
    """Return whether one is open on the driver's connection; nothing is sent to the server."""
    if vendor == "postgresql":
        return bool(raw.info.transaction_status != IDLE)
    if vendor == "mysql":
        return bool((getattr(raw, "server_status", None) or 0) & IN_TRANSACTION)
    return bool(getattr(raw, "in_transaction", False))
