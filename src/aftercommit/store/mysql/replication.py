"""Positions on MySQL and MariaDB: sets of GTIDs."""

from datetime import timedelta
from typing import Any

from django.db import connections

from aftercommit.store.base import Store
from aftercommit.values import NO_TIME

POSITION = {True: "SELECT @@GLOBAL.gtid_binlog_pos", False: "SELECT @@GLOBAL.gtid_executed"}
# MariaDB waits on the server; for a look alone a millisecond, because zero means for ever.
MARIADB_WAITS = "SELECT MASTER_GTID_WAIT(%s, %s) = 0"
A_LOOK = timedelta(milliseconds=1)
# Not WAIT_FOR_EXECUTED_GTID_SET(): where its timeout is cut to whole seconds, a look of less than
# one would wait for ever.
MYSQL_HAS = "SELECT GTID_SUBSET(%s, @@GLOBAL.gtid_executed)"


class MySQLReplication(Store):
    """Replicas by GTIDs; without a binary log or without GTIDs none is known to be current."""

    def position(self) -> str | None:
        """See ``Store.position``."""
        found = self._one_value(self.connection, POSITION[self._is_mariadb(self.connection)])
        return str(found).replace("\n", "") or None

    def replica_has(self, alias: str, position: str, *, wait: timedelta = NO_TIME) -> bool:
        """See ``Store.replica_has``."""
        replica = connections[alias]
        if not self._is_mariadb(replica):
            return super().replica_has(alias, position, wait=wait)
        seconds = max(wait, A_LOOK).total_seconds()
        return bool(self._one_value(replica, MARIADB_WAITS, position, seconds))

    def _has_replayed(self, replica: Any, position: str) -> bool:
        return bool(self._one_value(replica, MYSQL_HAS, position))

    def _is_mariadb(self, connection: Any) -> bool:
        return bool(connection.mysql_is_mariadb)
