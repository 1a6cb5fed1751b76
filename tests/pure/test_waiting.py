"""Waiting has a deadline, and gives the answer it waited for."""

from datetime import timedelta
from itertools import count

import pytest

from tests.waiting import wait_until

AT_ONCE = timedelta(0)


def test_the_first_true_answer_is_returned():
    looks = count()

    assert wait_until(lambda: next(looks) > 2 and "answer") == "answer"


def test_a_condition_that_never_comes_true_is_named():
    with pytest.raises(AssertionError, match="the moon is blue"):
        wait_until(lambda: False, deadline=AT_ONCE, why="the moon is blue")


def test_what_is_already_true_needs_no_time():
    assert wait_until(lambda: True, deadline=AT_ONCE)
