"""Backoff policies: how long a failed job waits."""

import pickle
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftercommit import Delays, Exponential
from aftercommit.errors import ConfigurationError
from aftercommit.options.backoff import LONGEST_WAIT, backoff_from

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
FAILED_RUNS = st.integers(min_value=1, max_value=10**9)
SPANS = st.timedeltas(min_value=timedelta(microseconds=1), max_value=LONGEST_WAIT)


@given(first=SPANS, second=SPANS, failed_runs=FAILED_RUNS)
def test_jitter_stays_between_zero_and_the_doubled_base_or_the_maximum(
    first, second, failed_runs
):
    base, maximum = sorted((first, second))
    whole = Exponential(base=base, maximum=maximum, jitter=False)(failed_runs)

    wait = Exponential(base=base, maximum=maximum)(failed_runs)

    assert timedelta(0) <= wait <= whole <= maximum


def test_without_jitter_each_failure_doubles_the_wait_up_to_the_maximum():
    backoff = Exponential(base=SECOND, maximum=5 * SECOND, jitter=False)

    waits = [backoff(failed_runs) for failed_runs in (1, 2, 3, 4, 5)]

    assert waits == [SECOND, 2 * SECOND, 4 * SECOND, 5 * SECOND, 5 * SECOND]


def test_jitter_spreads_the_waits_over_the_whole_range():
    backoff = Exponential(base=MINUTE)

    waits = [backoff(1) for _ in range(200)]

    assert min(waits) < MINUTE * 0.2
    assert max(waits) > MINUTE * 0.8


def test_any_number_of_failures_is_within_the_range_of_a_timedelta():
    backoff = Exponential(base=LONGEST_WAIT, maximum=LONGEST_WAIT, jitter=False)

    assert backoff(10**100) == LONGEST_WAIT


@pytest.mark.parametrize(
    "spans",
    [
        {"base": timedelta(0)},
        {"base": -SECOND},
        {"base": 2 * MINUTE, "maximum": MINUTE},
        {"maximum": LONGEST_WAIT + SECOND},
        {"base": 5},
        {"maximum": None},
    ],
)
def test_an_exponential_needs_spans_in_order(spans):
    with pytest.raises(ConfigurationError, match="0 < base <= maximum <= 100 years, got base"):
        Exponential(**spans)


def test_a_list_is_waited_in_order_and_its_last_entry_repeats():
    backoff = backoff_from([SECOND, MINUTE])

    assert [backoff(failed_runs) for failed_runs in (0, 1, 2, 3, 99)] == [
        SECOND,
        SECOND,
        MINUTE,
        MINUTE,
        MINUTE,
    ]


def test_a_span_alone_is_waited_every_time():
    backoff = backoff_from(MINUTE)

    assert backoff(1) == backoff(7) == MINUTE


def test_a_policy_is_taken_as_it_is():
    exponential, delays = Exponential(), Delays((SECOND,))

    assert backoff_from(exponential) is exponential
    assert backoff_from(delays) is delays


def test_a_function_is_asked_with_the_number_of_failed_runs():
    backoff = backoff_from(lambda failed_runs: failed_runs * SECOND)

    assert backoff(3) == 3 * SECOND


@pytest.mark.parametrize(
    ("answer", "wait"),
    [(-SECOND, timedelta(0)), (timedelta.max, LONGEST_WAIT), (timedelta.min, timedelta(0))],
)
def test_what_a_function_answers_is_bounded_by_what_a_database_can_add(answer, wait):
    assert backoff_from(lambda _failed_runs: answer)(1) == wait


@pytest.mark.parametrize("answer", [5, None, "soon", 2.5])
def test_a_function_that_answers_no_span_is_named(answer):
    def soon(_failed_runs):
        return answer

    with pytest.raises(
        TypeError, match=r"backoff <function .*soon.* returned: expected a timedel"
    ):
        backoff_from(soon)(1)


async def later(_failed_runs):
    return SECOND


@pytest.mark.parametrize(
    "option",
    [
        5,
        "5s",
        None,
        [],
        (),
        [SECOND, 5],
        [-SECOND],
        -SECOND,
        timedelta.max,
        {SECOND},
        Exponential,
        later,
    ],
)
def test_what_is_no_backoff_is_refused_and_shown(option):
    with pytest.raises(ConfigurationError) as refused:
        backoff_from(option)

    assert "backoff: expected a timedelta, a list of timedeltas" in str(refused.value)
    assert str(refused.value).endswith(".")


def test_a_public_policy_checks_itself():
    with pytest.raises(ConfigurationError, match="none negative"):
        Delays([-SECOND])


def test_policies_are_values():
    assert Delays([SECOND]) == Delays((SECOND,))
    assert pickle.loads(pickle.dumps(Exponential(base=SECOND))) == Exponential(base=SECOND)  # noqa: S301
    assert hash(Exponential()) == hash(Exponential())
