"""Times in buckets: what is counted, kept as text, added up, and read as percentiles."""

from datetime import timedelta

import pytest

from aftercommit.tallies import BOUNDS, LAST, Histogram, Tally, Times, bucket_of


def of(*seconds):
    """Return times that were counted."""
    times = Times()
    for one in seconds:
        times.add(one)
    return times


def test_the_bounds_are_powers_of_two_from_a_millisecond_to_37_hours():
    assert BOUNDS[:4] == (0.001, 0.002, 0.004, 0.008)
    assert timedelta(hours=37) < timedelta(seconds=BOUNDS[-1]) < timedelta(hours=38)
    assert LAST == len(BOUNDS) == 28


@pytest.mark.parametrize("number", range(LAST))
def test_a_bound_belongs_to_its_bucket_and_what_is_longer_to_the_next_one(number):
    assert bucket_of(BOUNDS[number]) == number
    assert bucket_of(BOUNDS[number] + 0.0001) == number + 1


@pytest.mark.parametrize("seconds", [0.0, -5.0, 0.0000001])
def test_what_takes_no_time_is_in_the_first_bucket(seconds):
    assert bucket_of(seconds) == 0


def test_what_takes_longer_than_the_last_bound_is_counted_too():
    assert bucket_of(10**9) == LAST


def test_a_time_before_its_beginning_adds_nothing_to_the_sum():
    assert of(-5.0, 2.0).seconds == 2.0


def test_the_text_has_no_empty_buckets_at_the_end_and_is_read_again():
    times = of(0.0005, 0.004, 0.004)

    assert times.text == "[1,0,2]"
    assert Times.read(times.text, timedelta(seconds=times.seconds)) == times
    assert of().text == "[]"


@pytest.mark.parametrize("text", ["", "null", "7", '["a"]', "[[1]]", "[" * 9999, None])
def test_what_somebody_else_has_written_counts_as_nothing(text):
    assert Times.read(text, timedelta(0)).buckets == [0] * (LAST + 1)


def test_buckets_of_a_later_version_are_left_out():
    assert len(Times.read(str([1] * 99), timedelta(0)).buckets) == LAST + 1


def test_tallies_are_added_up():
    both = Tally(2, of(0.001), of(0.5))
    both.merge(Tally(3, of(0.001, 7.5), of(1.5)))

    assert both.jobs == 5
    assert both.waits.buckets[0] == 2
    assert (both.waits.seconds, both.runs.seconds) == pytest.approx((7.502, 2.0))


# ---- percentiles --------------------------------------------------------------------


def test_a_percentile_lies_within_the_bucket_of_the_value():
    times = [number / 1000 for number in range(1, 1001)]  # 1 ms to 1 s
    found = Histogram.of([of(*times)])

    for percent in (1, 50, 90, 95, 99, 100):
        exact, told = times[int(percent * 10) - 1], found.percentile(percent)
        assert bucket_of(told.total_seconds()) == bucket_of(exact)
    assert found.percentile(50) < found.percentile(95) < found.percentile(99)
    assert found.mean == pytest.approx(timedelta(seconds=0.5005), abs=timedelta(microseconds=9))


def test_a_percentile_of_nothing_is_none():
    found = Histogram()

    assert found.percentile(50) is found.mean is None
    assert found.count == 0


def test_of_one_value_every_percentile_is_in_its_bucket():
    found = Histogram.of([of(3.0)])

    assert {bucket_of(found.percentile(one).total_seconds()) for one in (1, 50, 100)} == {
        bucket_of(3.0)
    }


def test_what_took_longer_than_the_last_bound_counts_as_that():
    assert Histogram.of([of(10**9)]).percentile(50) == timedelta(seconds=BOUNDS[-1])


@pytest.mark.parametrize("percent", [0, -1, 101, float("nan")])
def test_a_percentage_is_above_0_and_up_to_100(percent):
    with pytest.raises(ValueError, match="expected a percentage above 0"):
        Histogram().percentile(percent)


def test_cumulative_counts_end_with_all():
    assert Histogram.of([of(0.001, 0.002, 10**9)]).cumulative[:3] == (1, 2, 2)
    assert Histogram.of([of(0.001, 0.002, 10**9)]).cumulative[-1] == 3
