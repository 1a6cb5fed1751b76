"""Which rate keys tasks have paused, for those who want to see them, or to end that."""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from aftercommit.models import State
from aftercommit.store.clock import DatabaseNow
from aftercommit.store.rates.keys import RateKeys

ONE_READ = 500  # keys that one statement names
LIVE = (State.READY, State.RUNNING)


class PausedKey(NamedTuple):
    """A rate key of which no job starts before a moment."""

    key: str
    until: datetime
    task_path: str | None  # None: no job of the key waits or runs


class PausedRates(RateKeys):
    """Reads and ends these pauses. With none it reads the table of rates, and no jobs."""

    def paused_rates(self) -> list[PausedKey]:
        """Return the keys that are paused now. Their tasks are found by reading live jobs."""
        rows = self._rates.filter(paused_until__gt=DatabaseNow()).order_by("key")
        pairs = rows.values_list("key", "paused_until")
        until = {key: end for key, end in pairs if end is not None}
        paths = self._paths_of(list(until))
        return [PausedKey(key, end, paths.get(key)) for key, end in until.items()]

    def end_rate_pauses(self, task_paths: Collection[str]) -> int:
        """Let jobs of these tasks start again by their rates alone; return of how many keys.

        Workers look within a minute, and at once at keys of new jobs.
        """
        keys = [one.key for one in self.paused_rates() if one.task_path in task_paths]
        return sum(
            self._rates.filter(key__in=keys[start : start + ONE_READ]).update(paused_until=None)
            for start in range(0, len(keys), ONE_READ)
        )

    def _paths_of(self, keys: list[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for start in range(0, len(keys), ONE_READ):
            live = self._jobs.filter(rate_key__in=keys[start : start + ONE_READ], state__in=LIVE)
            pairs = live.values_list("rate_key", "task_path").distinct()
            found |= {str(key): path for key, path in pairs}
        return found
