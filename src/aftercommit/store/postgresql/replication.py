"""Positions on PostgreSQL: LSNs of a physical standby."""

from typing import Any

from aftercommit.store.base import Store

# A claim is committed after the commits that it has seen, and has waited until its own WAL was
# flushed, so all of theirs was. Without that wait, commits may be visible and not yet flushed.
POSITION = """
SELECT CASE WHEN pg_is_in_recovery() THEN NULL
    WHEN current_setting('synchronous_commit') = 'off' THEN pg_current_wal_insert_lsn()
    ELSE pg_current_wal_flush_lsn() END::text
"""
REPLAYED = "SELECT pg_is_in_recovery() AND pg_last_wal_replay_lsn() >= %s::pg_lsn"


class PostgreSQLReplication(Store):
    """Physical standbys. A logical replica is none, and never known to be current."""

    def position(self) -> str | None:
        """See ``Store.position``."""
        found: str | None = self._one_value(self.connection, POSITION)
        return found

    def _has_replayed(self, replica: Any, position: str) -> bool:
        return bool(self._one_value(replica, REPLAYED, position))
