"""Which jobs an operation is about: a frozen value, checked when it is built."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Self
from uuid import UUID

STATES = ("ready", "running", "succeeded", "failed", "cancelled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """What must be true of a job; what is None does not matter."""

    states: tuple[str, ...] = STATES
    ids: tuple[UUID, ...] | None = None
    task_paths: tuple[str, ...] | None = None  # one of these: a task has several names
    queue: str | None = None
    enqueued_before: datetime | timedelta | None = None  # a span: longer ago than this
    enqueued_after: datetime | timedelta | None = None  # a span: at most so long ago
    finished_before: datetime | timedelta | None = None
    error_contains: str | None = None
    arguments_contain: str | None = None
    tag: str | None = None
    group: UUID | None = None  # its last job as well
    until: UUID | None = None  # no id behind this one

    def within(self, states: tuple[str, ...]) -> Self:
        """Return the same, of those states only."""
        return replace(self, states=tuple(one for one in self.states if one in states))

    def of_any_id(self) -> Self:
        """Return the rest of it, for a statement that names the ids of its batch itself.

        The group as well: a job never leaves the one it is in.
        """
        return replace(self, ids=None, group=None)
