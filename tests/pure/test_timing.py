"""When schedules are due: spans from an anchor, what is made up for, jitter; no clock runs."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftercommit import timing
from aftercommit.timing import CATCH_UP_WITHIN, MOST_AT_ONCE, PUNCTUAL, Timing

SECOND, MINUTE, HOUR, DAY = (timedelta(seconds=n) for n in (1, 60, 3600, 86400))
NOON = datetime(2026, 3, 29, 12, tzinfo=UTC)
moments = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))
spans = st.timedeltas(SECOND, 400 * DAY)


@given(spans.filter(bool), moments)
def test_spans_are_counted_from_one_anchor(every: timedelta, now: datetime) -> None:
    rule = Timing(every=every)

    first = rule.next_after(now)

    assert now < first <= now + every
    assert (first - timing.ANCHOR) % every == timedelta(0)
    assert rule.next_after(first) == first + every


def test_a_worker_that_is_late_lets_no_moment_drift() -> None:
    rule = Timing(every=5 * MINUTE)

    plan = rule.plan(next_run=NOON, now=NOON + 17 * SECOND)

    assert (plan.run, plan.missed, plan.next_run) == ((NOON,), 0, NOON + 5 * MINUTE)


@pytest.mark.parametrize(
    ("catch_up", "run", "missed"),
    [("none", [], 3), ("last", [2], 2), ("all", [0, 1, 2], 0)],
)
def test_what_is_made_up_for_after_three_missed_days(
    catch_up: str, run: list[int], missed: int
) -> None:
    rule = Timing(every=DAY, catch_up=catch_up)
    first = rule.next_after(NOON)

    plan = rule.plan(next_run=first, now=first + 2 * DAY + HOUR)

    assert plan.run == tuple(first + number * DAY for number in run)
    assert plan.missed == missed
    assert plan.next_run == first + 3 * DAY


@pytest.mark.parametrize("catch_up", timing.CATCH_UP)
def test_a_moment_that_is_made_within_a_minute_was_not_missed(catch_up: str) -> None:
    rule = Timing(every=HOUR, catch_up=catch_up)

    plan = rule.plan(next_run=NOON, now=NOON + PUNCTUAL)

    assert (plan.run, plan.missed) == ((NOON,), 0)


@pytest.mark.parametrize("catch_up", ["last", "all"])
@pytest.mark.parametrize("given", [{"every": HOUR}, {"cron": "0 * * * *"}])
def test_nothing_is_made_up_for_before_the_window(catch_up: str, given: dict) -> None:
    rule = Timing(**given, catch_up=catch_up, catch_up_within=90 * MINUTE)

    plan = rule.plan(next_run=NOON, now=NOON + 10 * HOUR + 50 * MINUTE)

    assert plan.run[-1] == NOON + 10 * HOUR
    assert len(plan.run) == 1
    assert plan.missed == 10


def test_the_window_of_last_may_leave_out_everything() -> None:
    rule = Timing(every=DAY, catch_up="last", catch_up_within=HOUR)
    first = rule.next_after(NOON)

    plan = rule.plan(next_run=first, now=first + 2 * HOUR)

    assert (plan.run, plan.missed, plan.next_run) == ((), 1, first + DAY)


def test_a_moment_that_is_no_multiple_any_more_leads_to_one() -> None:
    plan = Timing(every=DAY).plan(next_run=NOON - DAY, now=NOON)

    assert (plan.run, plan.missed) == ((NOON - 12 * HOUR,), 0)


@given(
    st.one_of(
        st.builds(Timing, every=st.timedeltas(SECOND, DAY)),
        st.sampled_from([Timing(cron="*/7 * * * *"), Timing(cron="0 3 * * *")]),
    ),
    st.sampled_from(timing.CATCH_UP),
    moments,
    st.timedeltas(-HOUR, 3 * DAY),
)
def test_every_moment_is_run_or_missed_and_none_twice(
    rule: Timing, catch_up: str, begin: datetime, passed: timedelta
) -> None:
    rule = Timing(cron=rule.cron, every=rule.every, catch_up=catch_up)
    next_run = first = rule.next_after(begin)
    now = first + passed
    run: list[datetime] = []
    missed = rounds = 0
    while next_run <= now and rounds < 5:
        plan = rule.plan(next_run=next_run, now=now)
        run += plan.run
        missed += plan.missed
        next_run = plan.next_run
        rounds += 1

    assert run == sorted(set(run))
    assert all(first <= one <= now for one in run)
    if rule.every is not None:
        assert len(run) + missed == (next_run - first) / rule.every
    assert next_run > now or len(run) == 5 * MOST_AT_ONCE
    assert passed < timedelta(0) or run or missed


def test_a_rule_by_the_second_plans_a_week_of_silence_quickly() -> None:
    rule = Timing(every=SECOND, catch_up="last")

    plan = rule.plan(next_run=NOON, now=NOON + CATCH_UP_WITHIN + 100 * DAY)

    assert len(plan.run) == 1
    assert plan.missed == (plan.run[0] - NOON) / SECOND


@given(moments, moments)
def test_jitter_depends_on_the_schedule_and_its_moment_only(one: datetime, two: datetime) -> None:
    rule = Timing(every=HOUR, jitter=10 * MINUTE)

    assert rule.starts_at("a", one) == rule.starts_at("a", one)
    assert one <= rule.starts_at("a", one) < one + 10 * MINUTE
    if one != two:
        assert rule.starts_at("a", one) - one != rule.starts_at("a", two) - two


@pytest.mark.mutant
def test_to_compute_from_now_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        timing, "_multiples", lambda every, after: iter([after + every, after + 2 * every])
    )
    with pytest.raises(AssertionError):
        test_a_worker_that_is_late_lets_no_moment_drift()
