"""The schedules: when the worker runs a task, as seen from the code that dispatches it."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from aftercommit.errors import ConfigurationError


class Schedule(StrEnum):
    """A moment at which things may happen; ``LATE`` is the expected one."""

    LATE = "late"
    EARLY = "early"
    ROLLBACK = "rollback"
    CRASH = "crash"
    TWICE = "twice"
    STALE = "stale"

    @property
    def meaning(self) -> str:
        """Say what happens under this schedule."""
        return MEANINGS[self]


MEANINGS = {
    Schedule.LATE: "the task runs right after the commit",
    Schedule.EARLY: "the worker is quick: the task runs at its dispatch, before the commit",
    Schedule.ROLLBACK: "the commit fails, and the transaction is rolled back",
    Schedule.CRASH: "the process dies right after the commit, before on_commit() callbacks",
    Schedule.TWICE: "the broker delivers the message twice",
    Schedule.STALE: "the task runs after the commit, and its replica lags behind",
}
RACE = (Schedule.EARLY, Schedule.ROLLBACK)  # what on_commit() mends
ALL = tuple(one for one in Schedule if one is not Schedule.LATE)


@dataclass(frozen=True, slots=True)
class Plan:
    """One run of the body: its schedule, and the transaction to which something happens.

    ``at`` is the number of the transaction, from 1, that is rolled back, or after whose commit
    the process dies. ``stop_before``: the body ends where this transaction would begin.
    """

    schedule: Schedule
    at: int | None = None
    stop_before: int | None = None


def schedules_named(names: Collection[str]) -> tuple[Schedule, ...]:
    """Return schedules by their names; ``all`` stands for each of them.

    Raises ``ConfigurationError`` for another name.
    """
    if "all" in names:
        return ALL
    known = {one.value: one for one in ALL}
    if unknown := [name for name in names if name not in known]:
        raise ConfigurationError(
            f"There is no schedule {unknown[0]!r}. Nothing was run.\n"
            f"Fix: choose from {', '.join(known)}, or all."
        )
    return tuple(known[name] for name in names)
