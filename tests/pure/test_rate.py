"""Rates: their texts, and GCRA against what it promises about every window."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftercommit.errors import ConfigurationError
from aftercommit.gcra import Rate
from aftercommit.options.rate import (
    LONGEST_PERIOD,
    rate_from,
    rate_of_rule,
    rates_in,
    stored_rate,
    text_of,
)

BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
MICROSECOND = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("60/m", SECOND),
        ("60/minute", SECOND),
        (" 60 / Minutes ", SECOND),
        ("1/s", SECOND),
        ("10/30s", 3 * SECOND),
        ("2/2h", 60 * MINUTE),
        ("24/day", 60 * MINUTE),
        ("1/366d", LONGEST_PERIOD),
        ("7/min", timedelta(microseconds=8_571_429)),  # rounded up
        ("3000000/s", MICROSECOND),
    ],
)
def test_a_text_is_an_interval(text, interval):
    assert rate_from(text, 4) == Rate(interval, 4)


@pytest.mark.parametrize(
    "text",
    [
        *("", "60", "60/", "/m", "0/m", "60/0s", "60/y", "60/month", "-1/m", "1.5/s", "60 m"),
        *("1/367d", "60/m extra", "\N{ARABIC-INDIC DIGIT SIX}/m", "9999999999/s", "1/999999999d"),
        *(60, None, ("60/m",), ["60/m"], {}, True),
    ],
)
def test_what_is_no_rate_is_refused_and_said(text):
    with pytest.raises(ConfigurationError, match=r"^queue: expected .*got"):
        rate_from(text, name="queue")


@pytest.mark.parametrize("burst", [0, -1, 1.5, "2", None, True, 2**31])
def test_what_is_no_burst_is_refused(burst):
    with pytest.raises(ConfigurationError, match="burst"):
        rate_from("60/m", burst)


def test_a_burst_of_centuries_is_refused():
    with pytest.raises(ConfigurationError, match="smaller burst"):
        rate_from("1/d", 10_000)


def test_a_queue_has_a_rate_or_a_rate_and_a_burst():
    given = {"mail": "60/m", "slow": ("1/h", 5), "relay.celery": ["10/s", 2]}
    assert rates_in("queue_rates", given) == {
        "mail": Rate(SECOND),
        "slow": Rate(60 * MINUTE, 5),
        "relay.celery": Rate(SECOND / 10, 2),
        "relay.celery.in_order": Rate(SECOND / 10, 2),
    }


@pytest.mark.parametrize(
    "given",
    [
        *(["mail"], "60/m", None, {"mail": 60}, {"mail": "often"}, {"mail": None}),
        *({"mail": ("60/m",)}, {"mail": ("60/m", 0)}, {"mail": ("60/m", 1, 2)}, {"": "60/m"}),
    ],
)
def test_what_are_no_rates_of_queues_is_refused(given):
    with pytest.raises(ConfigurationError, match=r"queue_rates|burst"):
        rates_in("queue_rates", given)


# ---- GCRA ---------------------------------------------------------------------------

rates = st.builds(
    Rate, st.integers(1, 20).map(lambda n: timedelta(microseconds=n)), st.integers(1, 6)
)
looks = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 8)), max_size=40)


def may_start(rate: Rate, before: list[datetime], now: datetime) -> bool:
    """Say by brute force whether one more start keeps every window that ends now."""
    return all(
        len(before) - first + 1 <= (now - start) // rate.interval + rate.burst
        for first, start in enumerate(before)
    )


@given(rates, looks)
def test_as_many_are_allowed_as_every_window_allows(rate, looks):
    starts: list[datetime] = []
    now, tat = BEGIN, None
    for later, wanted in looks:
        now += later * MICROSECOND
        allowed = rate.allowed(now, tat)
        number = 0
        while may_start(rate, starts + [now] * number, now):
            number += 1
        assert allowed == number
        taken = min(allowed, wanted)
        tat = rate.after(now, tat, taken)
        starts += [now] * taken


@given(rates, looks)
def test_no_window_wherever_it_begins_has_more_than_the_rate_and_the_burst(rate, looks):
    starts: list[datetime] = []
    now, tat = BEGIN, None
    for later, _wanted in looks:
        now += later * MICROSECOND
        allowed = rate.allowed(now, tat)
        tat = rate.after(now, tat, allowed)
        starts += [now] * allowed
    for first, begin in enumerate(starts):
        for last, end in enumerate(starts[first:], first):
            assert last - first + 1 <= (end - begin) / rate.interval + rate.burst


@given(rates, looks)
def test_after_the_wait_one_may_start_and_not_before(rate, looks):
    now, tat = BEGIN, None
    for later, wanted in looks:
        now += later * MICROSECOND
        tat = rate.after(now, tat, min(rate.allowed(now, tat), wanted))
        wait = rate.wait(now, tat)
        assert rate.allowed(now + wait, tat) >= 1
        if wait:
            assert rate.allowed(now + wait - MICROSECOND, tat) == 0


@given(rates, rates, st.integers(-1000, 1000))
def test_a_moment_far_ahead_counts_as_one_burst(rate, other, ahead):
    """As after a change of the rate, or of the clock."""
    tat = BEGIN + ahead * other.span
    wait = rate.wait(BEGIN, tat)
    assert wait <= rate.interval
    assert 0 <= rate.allowed(BEGIN, tat) <= rate.burst


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("60/m", "1/s"),
        ("1/m", "1/m"),
        ("100/h", "100/h"),
        ("1000/d", "1000/d"),
        ("1000000/s", "1000000/s"),
        ("1/30s", "2/m"),
        ("1/7s", "1/7s"),
        ("7/30s", "14/m"),
    ],
)
def test_a_rate_is_shown_as_a_text_that_means_the_same(given, text):
    assert text_of(rate_from(given)) == text
    assert rate_from(text) == rate_from(given)


@pytest.mark.parametrize("text", ["60/m", " 10 / 30 Seconds ", "999999999/366d"])
def test_a_rate_is_stored_and_read_again(text):
    stored = stored_rate(text, 7)
    found = rate_of_rule(stored)
    assert found is not None
    assert found[1] == rate_from(text, 7)
    assert rate_from(found[0], 7) == found[1]
    assert len(stored) <= 50


@pytest.mark.parametrize("text", ["", "60/m", "60/m x", "often 1", "60/m 0", "60/m -1", "0/s 1"])
def test_what_somebody_else_has_stored_is_no_rate(text):
    assert rate_of_rule(text) is None
