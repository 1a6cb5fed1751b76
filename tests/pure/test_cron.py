"""Cron: each local time once, and whatever the clocks of thirty zones do from 2020 to 2040.

The oracle knows no cron: it looks at the clock on the wall, minute by minute.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from itertools import takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftercommit import cron
from aftercommit.cron import check_cron, moments_after
from aftercommit.errors import ConfigurationError

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
AROUND = timedelta(hours=5)  # of a change, before and after
ZONES = (
    *("Europe/Athens", "Europe/Berlin", "Europe/Chisinau", "Europe/Dublin", "Europe/Lisbon"),
    *("Europe/London", "America/Chicago", "America/Denver", "America/Havana", "America/Nuuk"),
    *("America/Los_Angeles", "America/New_York", "America/Santiago", "America/Scoresbysund"),
    *("America/St_Johns", "America/Asuncion", "Africa/Cairo", "Africa/Casablanca"),
    *("Asia/Beirut", "Asia/Gaza", "Asia/Jerusalem", "Asia/Tehran", "Antarctica/Troll"),
    *("Australia/Lord_Howe", "Australia/Sydney", "Pacific/Apia", "Pacific/Auckland"),
    *("Pacific/Chatham", "Pacific/Norfolk", "Pacific/Easter"),
    *("Asia/Tokyo", "Asia/Kolkata", "UTC"),  # whose clocks do not change in these years
)
Matches = Callable[[datetime], bool]
RULES: dict[str, Matches] = {
    "30 2 * * *": lambda at: (at.hour, at.minute) == (2, 30),
    "0 0 * * *": lambda at: (at.hour, at.minute) == (0, 0),
    "15 1 * * *": lambda at: (at.hour, at.minute) == (1, 15),
    "0 3 * * *": lambda at: (at.hour, at.minute) == (3, 0),
    "0 * * * *": lambda at: at.minute == 0,
    "*/15 * * * *": lambda at: at.minute % 15 == 0,
    "*/20 1-3 * * *": lambda at: at.minute % 20 == 0 and at.hour in (1, 2, 3),
    "5 */2 * * *": lambda at: at.minute == 5 and at.hour % 2 == 0,
    "40 2 * * SUN": lambda at: (at.hour, at.minute, at.weekday()) == (2, 40, 6),
    "59 23 31 * *": lambda at: (at.day, at.hour, at.minute) == (31, 23, 59),
}


@cache
def changes(zone: ZoneInfo, first: int = 2020, last: int = 2040) -> tuple[datetime, ...]:
    """Return when the clocks of a zone change, to the minute, between two years."""
    found = []
    moment, end = datetime(first, 1, 1, tzinfo=UTC), datetime(last + 1, 1, 1, tzinfo=UTC)
    while moment < end:
        if offset(moment, zone) != offset(moment + DAY, zone):
            found.append(_exactly(moment, zone))
        moment += DAY
    return tuple(found)


def _exactly(before: datetime, zone: ZoneInfo) -> datetime:
    early, late = 0, DAY // MINUTE
    while late - early > 1:
        middle = (early + late) // 2
        same = offset(before + middle * MINUTE, zone) == offset(before, zone)
        early, late = (middle, late) if same else (early, middle)
    return before + late * MINUTE


def offset(moment: datetime, zone: ZoneInfo) -> timedelta | None:
    """Return how far a zone is from UTC."""
    return moment.astimezone(zone).utcoffset()


def walk(
    zone: ZoneInfo, begin: datetime, end: datetime
) -> Iterator[tuple[datetime, list[datetime]]]:
    """Yield each minute with the local times that are due then, if a rule matches them.

    Those that a clock shows for the first time, and those that it has just passed over.
    """
    shown: set[datetime] = set()
    moment = begin - DAY - HOUR  # what was shown before counts
    latest = local(moment - MINUTE, zone)
    while moment <= end:
        present = local(moment, zone)
        jumped = max((present - latest) // MINUTE - 1, 0)
        due = [latest + (number + 1) * MINUTE for number in range(jumped)]
        due += [] if present in shown else [present]
        shown.add(present)
        if moment > begin:
            yield moment, due
        latest = present
        moment += MINUTE


def local(moment: datetime, zone: ZoneInfo) -> datetime:
    """Return what the clock on the wall shows."""
    return moment.astimezone(zone).replace(tzinfo=None)


def made(text: str, zone: str, begin: datetime, end: datetime) -> list[datetime]:
    """Return the moments after ``begin`` and up to ``end``."""
    return list(takewhile(lambda one: one <= end, moments_after(text, zone, begin)))


def must_agree(name: str, first: int, last: int) -> int:
    """Compare every rule with the oracle around each change of a zone; return how many."""
    zone = ZoneInfo(name)
    for change in changes(zone, first, last):
        begin, end = change - AROUND, change + AROUND
        minutes = list(walk(zone, begin, end))
        for text, matches in RULES.items():
            wanted = [moment for moment, due in minutes if any(map(matches, due))]
            assert made(text, name, begin, end) == wanted, (name, change, text)
    return len(changes(zone, first, last))


@pytest.mark.parametrize("name", ZONES)
def test_each_local_time_is_due_once_whatever_the_clocks_do(name: str) -> None:
    compared = must_agree(name, 2020, 2040)

    assert compared or name in ("Pacific/Apia", "America/Asuncion", *ZONES[-3:])


def test_the_sweep_is_about_many_changes() -> None:
    assert len(ZONES) >= 30
    assert sum(len(changes(ZoneInfo(name))) for name in ZONES) > 900


def test_a_day_that_a_zone_has_left_out_is_made_up_for_once() -> None:
    must_agree("Pacific/Apia", 2009, 2012)

    made_then = made("0 4 * * *", "Pacific/Apia", *days(2011, 12, 29, 2))
    # The 30th of December never came: what was due then is due when the 31st begins.
    assert [at.astimezone(ZoneInfo("Pacific/Apia")).strftime("%d %H:%M") for at in made_then] == [
        "29 04:00",
        "31 00:00",
        "31 04:00",
    ]


def days(year: int, month: int, day: int, number: int) -> tuple[datetime, datetime]:
    """Return the ends of some days, by the clock of Apia before its change."""
    begin = datetime(year, month, day, tzinfo=timezone(timedelta(hours=-10)))
    return begin, begin + number * DAY


def test_half_an_hour_of_lord_howe() -> None:
    begin = datetime(2024, 10, 4, 12, tzinfo=UTC)
    found = made("15 2 * * *", "Australia/Lord_Howe", begin, begin + 3 * DAY)

    # On the 6th, 2:00 becomes 2:30: what was due at 2:15 is due then.
    assert [at.astimezone(ZoneInfo("Australia/Lord_Howe")).strftime("%H:%M") for at in found] == [
        "02:15",
        "02:30",
        "02:15",
    ]


@given(
    st.sampled_from(sorted(RULES)),
    st.sampled_from(ZONES),
    st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)),
)
def test_who_asks_later_gets_the_same_moments(text: str, zone: str, begin: datetime) -> None:
    found = moments_after(text, zone, begin)
    first, second = next(found), next(found)

    assert begin < first < second
    assert next(moments_after(text, zone, first)) == second
    assert next(moments_after(text, zone, first - MINUTE / 60)) == first
    assert first.tzinfo is UTC


# ---- mutants: what these tests are for ---------------------------------------------------


@pytest.mark.mutant
def test_naive_arithmetic_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        cron, "moment_of", lambda local, zone: local.replace(tzinfo=zone).astimezone(UTC)
    )
    with pytest.raises(AssertionError):
        must_agree("Europe/Athens", 2020, 2021)


@pytest.mark.mutant
def test_the_second_pass_of_an_hour_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    moment_of = cron.moment_of
    monkeypatch.setattr(
        cron, "moment_of", lambda local, zone: moment_of(local.replace(fold=1), zone)
    )
    with pytest.raises(AssertionError):
        must_agree("America/New_York", 2020, 2020)


@pytest.mark.mutant
def test_the_parsers_own_way_with_zones_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from cronsim import CronSim  # noqa: PLC0415

    def by_itself(text: str, zone: str, moment: datetime) -> Iterator[datetime]:
        return (one.astimezone(UTC) for one in CronSim(text, moment.astimezone(ZoneInfo(zone))))

    monkeypatch.setitem(globals(), "moments_after", by_itself)
    with pytest.raises(AssertionError):
        must_agree("Europe/Berlin", 2020, 2020)


# ---- what is refused ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        *("", "now", "* * * *", "* * * * * *", "61 * * * *", "0 24 * * *", "0 0 30 2 *"),
        *("0 0 31 4,6 *", "*/0 * * * *", "1-,2 * * * *", "\u0663 * * * *", "@never", None, 5),
    ],
)
def test_what_is_no_cron_expression_is_refused(wrong: object) -> None:
    with pytest.raises(ConfigurationError, match="cron: "):
        check_cron(wrong)


@given(st.text(alphabet="0123456789*/,-#LW SUNMON", max_size=30))
def test_any_text_is_accepted_or_refused(text: str) -> None:
    try:
        check_cron(text)
    except ConfigurationError:
        return
    assert next(moments_after(text, "UTC", datetime(2024, 1, 1, tzinfo=UTC)))


@pytest.mark.parametrize("text", ["@daily", "@hourly", "0 0 29 2 *", "0 0 L * *", "0 9 * * 1#1"])
def test_other_forms_are_accepted(text: str) -> None:
    check_cron(text)


@pytest.mark.parametrize("wrong", ["Athens", "", "../UTC", None, "Europe/Athens\0"])
def test_what_is_no_time_zone_is_refused(wrong: object) -> None:
    with pytest.raises(ConfigurationError, match="timezone: "):
        cron.check_zone(wrong)


def test_a_missing_parser_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cronsim", None)

    with pytest.raises(ConfigurationError, match=r"pip install 'aftercommit\[cron\]'"):
        check_cron("0 4 * * *")
