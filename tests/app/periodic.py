"""A periodic task, for worker processes that are killed between a tick and its job."""

import os
from collections.abc import Mapping
from datetime import datetime, timedelta
from threading import Event
from typing import Any
from uuid import UUID

from aftercommit import task
from aftercommit.models import Schedule
from aftercommit.store.clock import DatabaseNow
from aftercommit.store.schedules import Schedules
from tests.app.chores import OFTEN, SOON
from tests.app.models import Effect
from tests.app.notes import note

MUTANT = "AFTERCOMMIT_TEST_SCHEDULES"  # "unguarded": neither the lock nor the unique tick
EVERY = timedelta(seconds=1)
LONG_ENOUGH = 0.1  # seconds, for others to look and for a kill to hit


@task(
    every=EVERY,
    catch_up="all",
    takes_context=True,
    atomic=True,
    max_attempts=OFTEN,
    backoff=SOON,
)
def each_second(context: Any) -> None:
    """Leave a row that says for which moment it is."""
    Effect.objects.create(key=f"tick:{context.schedule.moment.isoformat()}")


take_ticks = Schedules.take_ticks


def slowly(self: Any, name: str, jobs: Mapping[datetime, UUID | None]) -> set[datetime]:
    """Say that the moment has come at which a kill hurts most: twice."""
    note("ticking", written=False)
    Event().wait(LONG_ENOUGH)
    mine = take_ticks(self, name, jobs)
    note("ticking", written=True)
    Event().wait(LONG_ENOUGH)
    return set(jobs) if os.environ.get(MUTANT) else mine


def slow_down() -> None:
    """Let this process, which is a worker's, tick slowly."""
    Schedules.take_ticks = slowly  # type: ignore[method-assign]
    if os.environ.get(MUTANT):
        Schedules.lock_due_schedules = unlocked  # type: ignore[method-assign]


def unlocked(self: Any, **_given: Any) -> list[Schedule]:
    """Read what is due, whoever else does."""
    return list(self._schedules.filter(enabled=True, next_run__lte=DatabaseNow()))


if os.environ.get("AFTERCOMMIT_TEST_TICKS"):
    slow_down()
