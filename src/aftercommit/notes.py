"""What a run notes while it goes on, as frozen values: its progress and the lines of its log."""

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

MOST = 2**63 - 1  # what the columns hold
LONGEST_MESSAGE = 255  # characters of a progress
ALL = 100  # percent


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProgress:
    """How far a job is, as its task has said."""

    done: int
    total: int | None  # None: not known
    message: str
    changed_at: datetime

    @property
    def fraction(self) -> float | None:
        """The part that is done, from 0 to 1; None if no total is known."""
        if self.total is None:
            return None
        return 1.0 if self.done >= self.total else self.done / self.total

    @property
    def percent(self) -> int | None:
        """The part that is done, from 0 to 100; 100 only if all is done."""
        fraction = self.fraction
        return None if fraction is None else int(fraction * ALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """A line that a run of a job has logged."""

    attempt: int  # the first run is 1; a retry by hand begins anew
    run: int  # counts all runs of the job, also released ones
    level: int  # as in ``logging``
    logger: str  # empty: context.log
    message: str
    logged_at: datetime

    @property
    def level_name(self) -> str:
        """INFO, WARNING and so on."""
        return logging.getLevelName(self.level)


class NewProgress(NamedTuple):
    """How far a run is, to be written."""

    job_id: UUID
    token: int
    done: int
    total: int | None
    message: str
    age: float  # seconds since it was said


class NewLine(NamedTuple):
    """A line of a run's log, to be written."""

    job_id: UUID
    token: int
    attempt: int
    level: int
    logger: str
    message: str
    age: float  # seconds since it was logged
