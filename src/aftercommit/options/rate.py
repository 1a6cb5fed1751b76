"""Rates: how often jobs may start, and what the generic cell rate algorithm says about it.

GCRA (ITU-T I.371) keeps one moment for each key, the theoretical arrival time (``tat``): from
then on nothing is used up any more. A start moves it on by one interval, and starts are allowed
while it is at most ``burst`` intervals ahead of now. So in every window of length ``w``, wherever
it begins, at most ``w / interval + burst`` jobs start. A counter for each minute would allow
twice as many around the end of a minute. A moment cannot drift, and needs no timer that refills.
"""

import re
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from aftercommit.errors import ConfigurationError
from aftercommit.options.checked import check_counts, shown

FORM = re.compile(r"\s*(\d{1,9})\s*/\s*(\d{0,9})\s*([a-z]+)\s*", re.IGNORECASE | re.ASCII)
# Rate keys begin with it, and no other line does: a look at all of them reads no others. Letters,
# since databases do not agree on the order of signs.
RATE_LINE = "r"
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
UNITS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), SECOND),
    **dict.fromkeys(("m", "min", "minute", "minutes"), MINUTE),
    **dict.fromkeys(("h", "hour", "hours"), HOUR),
    **dict.fromkeys(("d", "day", "days"), DAY),
}
LONGEST_PERIOD = timedelta(days=366)
LONGEST_SPAN = timedelta(days=3660)  # of a whole burst: ``tat`` must be a moment
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


def rate_from(text: object, burst: object = 1, *, name: str = "rate") -> Rate:
    """Return the rate of a text such as "60/m", "10/30s" or "1000/day".

    The interval is rounded up to a microsecond: never faster than the text says. Raises
    ``ConfigurationError`` for any other text, and for what no clock can tell.
    """
    check_counts(burst=burst)
    found = FORM.fullmatch(text) if isinstance(text, str) else None
    unit = UNITS.get(found[3].lower()) if found else None
    if found is None or unit is None:
        raise ConfigurationError(
            f"{name}: expected how many may start in a time, as '60/m', '10/30s' or '1000/day' "
            f"(s, m, h, d or the words), got {shown(text)}."
        )
    number, times = int(found[1]), int(found[2] or 1)
    if not number or not times or times > LONGEST_PERIOD // unit:
        raise ConfigurationError(
            f"{name}: expected at least one start, in a time of at most "
            f"{LONGEST_PERIOD.days} days, got {shown(text)}."
        )
    rate = Rate(-(-unit * times // number), int(str(burst)))
    if rate.burst > LONGEST_SPAN // rate.interval:
        raise ConfigurationError(
            f"burst: {rate.burst:,} starts at {text!r} are those of more than "
            f"{LONGEST_SPAN.days:,} days, which no clock can tell. Take a smaller burst."
        )
    return rate


known_rate = lru_cache(maxsize=1000)(rate_from)  # of options that were checked
