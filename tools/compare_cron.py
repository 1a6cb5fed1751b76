"""How often libraries for cron make other moments than the oracle of tests/pure/test_cron.py.

    pip install cronsim croniter cron-converter
    PYTHONPATH=.:src python tools/compare_cron.py

Prints a row for each expression, over all changes of the clocks in the zones of the test.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cron_converter import Cron
from croniter import croniter
from cronsim import CronSim

from tests.pure.test_cron import AROUND, RULES, ZONES, changes, made, walk

Moments = Callable[[str, datetime], Iterator[datetime]]


def of_cronsim(text: str, begin: datetime) -> Iterator[datetime]:
    """Yield what cronsim makes after a moment."""
    yield from CronSim(text, begin)


def of_croniter(text: str, begin: datetime) -> Iterator[datetime]:
    """Yield what croniter makes."""
    found = croniter(text, begin)
    while True:
        yield found.get_next(datetime)


def of_cron_converter(text: str, begin: datetime) -> Iterator[datetime]:
    """Yield what cron-converter makes."""
    found = Cron(text).schedule(begin)
    while True:
        yield found.next()


LIBRARIES: tuple[Moments, ...] = (of_cronsim, of_croniter, of_cron_converter)


def up_to(moments: Iterator[datetime], end: datetime) -> list[datetime]:
    """Return moments in UTC."""
    found = []
    for one in moments:
        if one.astimezone(UTC) > end:
            return found
        found.append(one.astimezone(UTC))
    return found


def main() -> None:
    """Compare, and print."""
    differ = {text: [0] * (len(LIBRARIES) + 1) for text in RULES}
    compared = 0
    for name in ZONES:
        zone = ZoneInfo(name)
        for change in changes(zone):
            begin, end = change - AROUND, change + AROUND
            minutes = list(walk(zone, begin, end))
            for text, matches in RULES.items():
                wanted = [moment for moment, due in minutes if any(map(matches, due))]
                found = [up_to(one(text, begin.astimezone(zone)), end) for one in LIBRARIES]
                found.append(made(text, name, begin, end))
                compared += 1
                for number, moments in enumerate(found):
                    differ[text][number] += moments != wanted
    print(f"{compared:,} comparisons; cronsim, croniter, cron-converter, aftercommit:")
    for text, numbers in differ.items():
        print(f"{text:20}", *(f"{number:5}" for number in numbers))


if __name__ == "__main__":
    main()
