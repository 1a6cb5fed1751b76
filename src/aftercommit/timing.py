"""When a schedule is due: its moments, which of them are made up for, and its jitter.

No clock is read here and no database: who calls says what time it is.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from aftercommit.cron import moments_after

NONE, LAST, ALL = CATCH_UP = ("none", "last", "all")
SKIP, QUEUE = OVERLAP = ("skip", "queue")
# Each moment of ``every`` is a multiple of it since then.
ANCHOR = datetime(1970, 1, 1, tzinfo=UTC)
CATCH_UP_WITHIN = timedelta(days=7)
# A moment that is made by then was not missed: a deploy takes a while.
PUNCTUAL = timedelta(minutes=1)
MOST_AT_ONCE = 100  # jobs of one schedule that one transaction makes
AN_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What becomes of the moments that are due."""

    run: tuple[datetime, ...]  # in their order
    missed: int  # moments that are left out
    next_run: datetime | None  # None: never again


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """When a task is due: by ``cron`` in a time zone, or ``every`` span."""

    cron: str = ""
    timezone: str = "UTC"
    every: timedelta | None = None
    catch_up: str = LAST
    catch_up_within: timedelta | None = None  # None: CATCH_UP_WITHIN
    jitter: timedelta | None = None

    def moments(self, after: datetime) -> Iterator[datetime]:
        """Yield the moments after another one, in UTC and in their order."""
        if self.every is not None:
            return _multiples(self.every, after)
        return moments_after(self.cron, self.timezone, after)

    def next_after(self, moment: datetime) -> datetime | None:
        """Return the next moment after another one; None: never again."""
        return next(self.moments(moment), None)

    def plan(self, *, next_run: datetime, now: datetime) -> Plan:
        """Say what to do at ``now``; ``next_run``: the first moment that is not decided.

        Of very many moments at once, the first ones are in this plan, and the rest in the plans
        of the calls that follow.
        """
        oldest = now - (PUNCTUAL if self.catch_up == NONE else self._window)
        start, missed = self._passed_over(next_run, now=now, oldest=oldest)
        run: list[datetime] = []
        for moment in self.moments(start - AN_INSTANT):
            if moment > now or len(run) == MOST_AT_ONCE:
                return Plan(run=tuple(run), missed=missed, next_run=moment)
            if moment < oldest:
                missed += 1
            elif self.catch_up == ALL:
                run.append(moment)
            else:
                missed += len(run)
                run = [moment]
        return Plan(run=tuple(run), missed=missed, next_run=None)

    @property
    def _window(self) -> timedelta:
        return CATCH_UP_WITHIN if self.catch_up_within is None else self.catch_up_within

    def _passed_over(
        self, next_run: datetime, *, now: datetime, oldest: datetime
    ) -> tuple[datetime, int]:
        """Return where to begin, and how many moments before that are missed without a look."""
        if self.every is None:
            return next_run, 0
        first = next(self.moments(next_run - AN_INSTANT))
        wanted = oldest if self.catch_up == ALL else now
        number = max((wanted - first) // self.every, 0)
        return first + number * self.every, number

    def starts_at(self, name: str, moment: datetime) -> datetime:
        """Return when the job of a moment starts: later by the jitter, alike for all workers."""
        if self.jitter is None:
            return moment
        text = f"{name}|{moment.astimezone(UTC).isoformat()}"
        share = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64
        return moment + self.jitter * share


def _multiples(every: timedelta, after: datetime) -> Iterator[datetime]:
    moment = ANCHOR + ((after - ANCHOR) // every + 1) * every
    while True:
        yield moment
        try:
            moment += every
        except OverflowError:
            return
