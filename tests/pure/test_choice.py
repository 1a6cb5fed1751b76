"""``--queues``: names, patterns, weights, order."""

import pytest

from aftercommit.errors import ConfigurationError
from aftercommit.options.choice import MOST, QueueChoice
from aftercommit.options.worker import WorkerConfig


def parsed(*texts, strict=False):
    """Read the parts of ``--queues``."""
    return QueueChoice.parsed(texts, strict=strict)


@pytest.mark.parametrize(
    ("pattern", "queue", "matches"),
    [
        ("mail", "mail", True),
        ("mail", "mails", False),
        ("mail", "Mail", False),
        ("reports*", "reports", True),
        ("reports*", "reports.daily", True),
        ("reports*", "old.reports", False),
        ("*.daily", "reports.daily", True),
        ("a*b*c", "a-b-c", True),
        ("a*b*c", "a-c-b", False),
        ("a.c", "abc", False),
        ("*", "anything at all", True),
        ("*", "relay.celery", False),
        ("*celery", "relay.celery", False),
        ("re*", "relay.celery", False),
        ("relay.*", "relay.celery.in_order", True),
        ("relay.celery", "relay.celery", True),
        ("a:b", "a:b", True),
    ],
)
def test_a_star_stands_for_anything_but_for_messages_that_are_not_meant(pattern, queue, matches):
    assert (queue in parsed(pattern)) == matches
    assert (queue in parsed(f"{pattern}:7")) == matches


def test_names_of_settings_are_no_patterns():
    choice = QueueChoice.of(["a*", "b:2"])

    assert choice.names == ("a*", "b:2")
    assert "a*" in choice
    assert "ab" not in choice
    assert "b:2" in choice
    assert not choice.is_weighted


def test_a_queue_belongs_to_the_first_part_that_matches_it():
    choice = parsed("mail:3", "m*:2", "*")

    assert [choice.weight(name) for name in ("mail", "moves", "others")] == [3, 2, 1]
    assert [choice.rank(name) for name in ("mail", "moves", "others")] == [0, 1, 2]
    assert choice.names is None
    assert choice.is_weighted
    assert parsed("mail:2:1").names == ("mail:2",)


def test_no_queue_belongs_to_no_part():
    assert "mail" not in parsed()
    assert "mail" not in QueueChoice.of([])


def test_parts_without_a_queue_are_found():
    assert parsed("mail", "re*", "gone", "n*").unused(["mail", "reports"]) == {"gone", "n*"}


@pytest.mark.parametrize(
    ("texts", "strict", "said"),
    [
        (["mail", "mail:2"], False, "'mail' is named twice"),
        (["mail:0"], False, f"a weight is a whole number from 1 to {MOST}, got 'mail:0'"),
        (["mail:101"], False, "a weight is a whole number"),
        (["x" * 101], False, "a queue's name has 1 to 100"),
        (["a\n:2"], False, "a queue's name has"),
        (["mail:2", "*"], True, "a weight has no meaning in a strict order"),
        ([], True, "there is no order without queues"),
    ],
)
def test_what_makes_no_sense_is_refused(texts, strict, said):
    with pytest.raises(ConfigurationError, match=said):
        parsed(*texts, strict=strict)
    with pytest.raises(ConfigurationError, match=said):
        WorkerConfig(queues=tuple(texts), strict=strict)


def test_a_long_list_is_possible():
    assert f"q{150}" in parsed(*(f"q{number}" for number in range(200)))
