"""How many runs have ended and how, and how long they waited and ran: what is counted and kept.

Times are counted in buckets, so that what is kept does not grow with the number of runs, and
what several workers have counted can be added up.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from itertools import accumulate
from math import frexp
from operator import add
from typing import NamedTuple, Self

# Of a run: its outcome. A run that was rescued is counted as "rescued", and as "failed" too if
# that was its last one.
SUCCEEDED, FAILED, CANCELLED = ENDS = ("succeeded", "failed", "cancelled")
RETRIED, RELEASED, RESCUED = ("retried", "released", "rescued")
# Not of runs: claimed jobs of a queue, jobs deleted by age, and moments of schedules, whose
# waits are how late they were.
CLAIMED, PRUNED, TICKED = ("claimed", "pruned", "ticked")
OTHER = "(other)"  # all tasks, or queues, beyond those that are counted by name

# The upper bound of each bucket in seconds, which belongs to it: powers of two from 1 ms to 37
# hours. One more bucket has what took longer.
BOUNDS = tuple(2**number / 1000 for number in range(28))
LAST = len(BOUNDS)
SHORTEST, HALF = BOUNDS[0], 0.5


class Key(NamedTuple):
    """What runs have in common that are counted together."""

    task_path: str
    queue: str
    outcome: str


def bucket_of(seconds: float) -> int:
    """Return the number of the bucket that counts a time; less than nothing is nothing."""
    if seconds <= SHORTEST:
        return 0
    part, exponent = frexp(seconds * 1000)  # part * 2 ** exponent, and 0.5 <= part < 1
    number = exponent - 1 if part == HALF else exponent
    return number if number < LAST else LAST


@dataclass(slots=True)
class Times:
    """Times in buckets, and their sum. It is added to, by one thread at a time."""

    buckets: list[int] = field(default_factory=lambda: [0] * (LAST + 1))
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one time."""
        self.buckets[bucket_of(seconds)] += 1
        if seconds > 0.0:
            self.seconds += seconds

    def merge(self, other: "Times") -> None:
        """Add what another one has counted."""
        self.seconds += other.seconds
        self.buckets = list(map(add, self.buckets, other.buckets))

    @property
    def text(self) -> str:
        """The buckets as they are stored: JSON, without the empty ones at the end."""
        used = max((number for number, count in enumerate(self.buckets, 1) if count), default=0)
        return json.dumps(self.buckets[:used], separators=(",", ":"))

    @classmethod
    def read(cls, text: object, total: timedelta) -> Self:
        """Return what is stored; what somebody else has written there counts as nothing."""
        return cls(list(_buckets(str(text))), total.total_seconds())


@lru_cache(maxsize=4096)  # most rows are of few runs, and alike
def _buckets(text: str) -> tuple[int, ...]:
    try:
        found = [int(one) for one in json.loads(text)][: LAST + 1]
    except (TypeError, ValueError, RecursionError):
        found = []
    return (*found, *([0] * (LAST + 1 - len(found))))


@dataclass(slots=True)
class Tally:
    """The runs of one key."""

    jobs: int = 0
    waits: Times = field(default_factory=Times)
    runs: Times = field(default_factory=Times)

    def merge(self, other: "Tally") -> None:
        """Add what another one has counted."""
        self.jobs += other.jobs
        self.waits.merge(other.waits)
        self.runs.merge(other.runs)


@dataclass(frozen=True, slots=True)
class Histogram:
    """How long something took, of many runs.

    ``buckets`` has one count for each of ``BOUNDS``, which are upper bounds in seconds, and one
    for what took longer.
    """

    buckets: tuple[int, ...] = (0,) * (LAST + 1)
    total: timedelta = timedelta(0)

    @classmethod
    def of(cls, times: Iterable[Times]) -> Self:
        """Return the sum of what was counted."""
        both = Times()
        for one in times:
            both.merge(one)
        return cls(tuple(both.buckets), timedelta(seconds=both.seconds))

    @classmethod
    def merged(cls, histograms: "Iterable[Histogram]") -> Self:
        """Return the sum of several."""
        return cls.of(Times(list(one.buckets), one.total.total_seconds()) for one in histograms)

    @property
    def count(self) -> int:
        """How many times were counted."""
        return sum(self.buckets)

    @property
    def mean(self) -> timedelta | None:
        """The mean; None without any."""
        return self.total / self.count if self.count else None

    @property
    def cumulative(self) -> Sequence[int]:
        """How many were at most as long as each of ``BOUNDS``, and at the end all."""
        return tuple(accumulate(self.buckets))

    def percentile(self, percent: float) -> timedelta | None:
        """Return how long so many percent took at most; None without any.

        As exact as the buckets: within one, the times are taken to be spread evenly. What took
        longer than the last bound counts as that.
        """
        if not 0 < percent <= 100:  # noqa: PLR2004
            raise ValueError(f"expected a percentage above 0, up to 100, got {percent!r}")
        wanted, before = self.count * percent / 100, 0
        for number, count in enumerate(self.buckets[:LAST]):
            if count and before + count >= wanted:
                low = BOUNDS[number - 1] if number else 0.0
                part = (wanted - before) / count
                return timedelta(seconds=low + (BOUNDS[number] - low) * part)
            before += count
        return timedelta(seconds=BOUNDS[-1]) if self.count else None
