"""keep_result: what may be said, and what it means for each state."""

from datetime import timedelta

import pytest

from aftercommit.errors import ConfigurationError
from aftercommit.options.conf import BackendOptions
from aftercommit.options.keep import NEVER, Keep, check_keep

HOUR, WEEK, MONTH = timedelta(hours=1), timedelta(days=7), timedelta(days=30)


def spans(option):
    keep = Keep().changed_by(option)
    return keep.succeeded, keep.failed, keep.cancelled


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("default", (WEEK, MONTH, MONTH)),
        ({}, (WEEK, MONTH, MONTH)),
        # What deletes sooner concerns successes only, unless states are named.
        (HOUR, (HOUR, MONTH, MONTH)),
        (None, (None, MONTH, MONTH)),
        ("forever", (NEVER, NEVER, NEVER)),
        ({"failed": HOUR}, (WEEK, HOUR, MONTH)),
        ({"succeeded": None, "cancelled": "forever"}, (None, MONTH, NEVER)),
        ({"failed": "default"}, (WEEK, MONTH, MONTH)),
    ],
    ids=repr,
)
def test_what_an_option_means_for_each_state(option, expected):
    check_keep("keep_result", option)

    assert spans(option) == expected


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (7, "expected a timedelta above zero"),
        (timedelta(0), "expected a timedelta above zero"),
        (timedelta(days=-1), "expected a timedelta above zero"),
        (True, "expected a timedelta above zero"),
        ("for ever", "'forever' or 'default', got 'for ever'"),
        ({"done": HOUR}, "expected the states succeeded, failed, cancelled, got 'done'"),
        ({"running": HOUR}, "got 'running'"),
        ({"failed": None}, r"keep_result\['failed'\]: None is possible for 'succeeded' only"),
        ({"failed": 3}, r"keep_result\['failed'\]: expected a timedelta"),
        ([HOUR], "expected a timedelta above zero"),
    ],
    ids=repr,
)
def test_what_says_nothing_is_refused_with_its_place(option, told):
    with pytest.raises(ConfigurationError, match=told):
        BackendOptions(keep_result=option)


@pytest.mark.parametrize("archive", [3, "archive", ["a.b"]], ids=repr)
def test_an_archive_is_a_function_or_its_path(archive):
    with pytest.raises(ConfigurationError, match="archive: expected a function"):
        BackendOptions(archive=archive)


def test_the_inbox_has_a_span():
    with pytest.raises(ConfigurationError, match="keep_received"):
        BackendOptions(keep_received=None)
