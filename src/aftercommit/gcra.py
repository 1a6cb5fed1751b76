"""The generic cell rate algorithm (ITU-T I.371): how many may start now.

It keeps one moment for each key, the theoretical arrival time (``tat``): from then on nothing is
used up any more. A start moves it on by one interval, and starts are allowed while it is at most
``burst`` intervals ahead of now. So in every window of length ``w``, wherever it begins, at most
``w / interval + burst`` jobs start. A counter for each minute would allow twice as many around
the end of a minute. A moment cannot drift, and needs no timer that refills.
"""

from datetime import datetime, timedelta
from typing import NamedTuple

NO_TIME = timedelta(0)


class Rate(NamedTuple):
    """One start for each interval on average, and at most ``burst`` of them at once."""

    interval: timedelta
    burst: int = 1

    @property
    def span(self) -> timedelta:
        """How far ``tat`` is from now when nothing more may start."""
        return self.interval * self.burst

    def ahead(self, now: datetime, tat: datetime | None) -> timedelta:
        """Return how much is used up.

        Never more than all: the database's clock may have been set back, or the rate was lower.
        """
        return NO_TIME if tat is None else max(min(tat - now, self.span), NO_TIME)

    def allowed(self, now: datetime, tat: datetime | None) -> int:
        """Return how many may start now."""
        return (self.span - self.ahead(now, tat)) // self.interval

    def after(self, now: datetime, tat: datetime | None, started: int) -> datetime:
        """Return the next ``tat``, once so many have started now."""
        return now + self.ahead(now, tat) + self.interval * started

    def wait(self, now: datetime, tat: datetime | None) -> timedelta:
        """Return how long it takes until one may start."""
        return max(self.ahead(now, tat) - (self.span - self.interval), NO_TIME)


def no_rate_known(_task_path: str) -> Rate | None:
    """Return None: the claimer knows no task."""
    return None
