"""Rates as texts: how often jobs may start."""

import re
from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from aftercommit.errors import ConfigurationError
from aftercommit.gcra import Rate
from aftercommit.options.checked import check_counts, shown
from aftercommit.options.queues import both_of, check_queues

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


def stored_rate(text: str, burst: int) -> str:
    """Return a rate as one text: that of the column of a rule. Raises as ``rate_from`` does."""
    rate_from(text, burst)
    return f"{''.join(text.split()).lower()} {burst}"


def text_of(rate: Rate) -> str:
    """Return a rate in the smallest unit that says it, or else how far apart two starts are."""
    for unit, span in (("s", SECOND), ("m", MINUTE), ("h", HOUR), ("d", DAY)):
        number = round(span / rate.interval)
        if number and -(-span // number) == rate.interval:
            return f"{number}/{unit}"
    return f"1/{rate.interval.total_seconds():g}s"


def rate_of_rule(stored: str) -> tuple[str, Rate] | None:
    """Return what ``stored_rate`` has made of a rate; None: somebody else has written it."""
    text, _space, burst = stored.rpartition(" ")
    try:
        return text, known_rate(text, int(burst))
    except (ConfigurationError, ValueError):
        return None


def rates_in(name: str, value: Any) -> Mapping[str, Rate]:
    """Return the rates of queues: "60/m", or ("60/m", 10) with a burst.

    Raises ``ConfigurationError`` for what is none.
    """
    if not isinstance(value, Mapping):
        raise ConfigurationError(
            f"{name}: expected a dict of queues and rates, got {shown(value)}."
        )
    check_queues(list(value), where=name)
    return MappingProxyType(
        {
            one: _rate_in(f"{name}[{queue!r}]", given)
            for queue, given in value.items()
            for one in both_of(queue)
        }
    )


def _rate_in(name: str, given: Any) -> Rate:
    if isinstance(given, Rate):
        return given
    if isinstance(given, (tuple, list)):
        if len(given) == len(("rate", "burst")):
            return rate_from(*given, name=name)
        raise ConfigurationError(f"{name}: expected '60/m', or ('60/m', 10) with a burst.")
    return rate_from(given, name=name)


known_rate = lru_cache(maxsize=1000)(rate_from)  # of options that were checked
