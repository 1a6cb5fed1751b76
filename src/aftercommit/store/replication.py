"""How far a replica has replayed what the primary has written."""

import time
from datetime import timedelta
from typing import Any

from django.db import connections

from aftercommit.store.table import Table
from aftercommit.values import NO_TIME

FIRST_LOOK, LONGEST_LOOK = 0.002, 0.05  # seconds between two looks


class Replication(Table):
    """Positions in the log of the primary. Without a log no replica is known to be current."""

    def position(self) -> str | None:
        """Return a position of this primary at or after every commit that this process has seen.

        None if the database tells none. Call it outside transactions.
        """
        return None

    def replica_has(self, alias: str, position: str, *, wait: timedelta = NO_TIME) -> bool:
        """Return whether a replica has replayed a position; wait for that so long.

        Of an alias that is no replica: False. Raises ``django.db.Error`` if it does not answer.
        """
        end = time.monotonic() + wait.total_seconds()
        pause = FIRST_LOOK
        while not self._has_replayed(connections[alias], position):
            left = end - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(pause, left))
            pause = min(2 * pause, LONGEST_LOOK)
        return True

    def is_same_database(self, alias: str) -> bool:
        """Return whether an alias is this database by another name, as in tests and at home."""
        names = ("HOST", "PORT", "NAME")
        one, other = self.connection.settings_dict, connections[alias].settings_dict
        return all(one.get(name) == other.get(name) for name in names)

    def _has_replayed(self, replica: Any, position: str) -> bool:
        return False

    def _one_value(self, connection: Any, sql: str, *given: Any) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(sql, given)
            return cursor.fetchone()[0]
