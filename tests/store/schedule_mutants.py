"""The guards of schedules, each weakened in memory: see ``mutants``."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from aftercommit.models import Schedule
from aftercommit.schedules import declared
from aftercommit.store.base import Store
from aftercommit.store.clock import DatabaseNow
from aftercommit.store.schedules import Schedules
from aftercommit.timing import Timing


def ticks_are_not_unique(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Take every tick for one's own."""

    def take(_self: Any, _name: str, jobs: Mapping[datetime, UUID | None]) -> set[datetime]:
        return set(jobs)

    patch.setattr(Schedules, "take_ticks", take)


def the_next_moment_counts_from_now(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Compute from now instead of the moment that was due."""
    patch.setattr(
        Timing, "moments", lambda self, after: iter([after + (self.every or after)] * 2)
    )


def others_make_ticks_of_what_they_do_not_declare(
    patch: pytest.MonkeyPatch, store: type[Store]
) -> None:
    """Let every worker make what is due."""

    def lock(self: Any, **_given: Any) -> list[Schedule]:
        return list(self._schedules.filter(enabled=True, next_run__lte=DatabaseNow()))

    patch.setattr(Schedules, "lock_due_schedules", lock)


def whoever_starts_last_declares(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Let a worker of the old version undo what the new one declares."""
    patch.setattr(declared, "GONE_AFTER", timedelta(-1))


def edits_are_lost(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Let a declaration replace what people have changed."""
    patch.setattr(declared, "_edited", lambda _row, _one: [])
