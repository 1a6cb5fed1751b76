"""Spans and numbers are said as people say them."""

from datetime import timedelta

import pytest

from aftercommit.wording import counted, spoken


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (0.0004, "0 s"),
        (0.0123, "0.012 s"),
        (0.412, "0.4 s"),
        (1, "1 s"),
        (9.96, "10 s"),
        (12, "12 s"),
        (59.6, "1 min"),
        (125, "2 min 5 s"),
        (3600, "1 h"),
        (3605, "1 h"),
        (3661, "1 h 1 min"),
        (86_400 + 5 * 3600 + 61, "1 d 5 h"),
        (31 * 86_400, "31 d"),
    ],
)
def test_a_span_has_at_most_two_units(seconds, said):
    assert spoken(timedelta(seconds=seconds)) == said


def test_the_plural_is_right():
    assert [counted(number, "job") for number in (0, 1, 2, 1000)] == [
        *("0 jobs", "1 job", "2 jobs", "1,000 jobs"),
    ]
    assert [counted(number, "process", "processes") for number in (1, 2)] == [
        *("1 process", "2 processes"),
    ]
