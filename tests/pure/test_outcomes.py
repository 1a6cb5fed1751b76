"""What a task may raise to end its run in its own way."""

import pickle
from datetime import timedelta

import pytest

from aftercommit import Cancel, Discard, Retry, Snooze
from aftercommit.options.backoff import LONGEST_WAIT

MINUTE = timedelta(minutes=1)


def test_a_retry_without_a_delay_leaves_it_to_the_backoff():
    assert Retry().delay is None
    assert str(Retry()) == "The task asked for a retry after its backoff."


@pytest.mark.parametrize("word", [Retry, Snooze])
def test_a_delay_is_kept_and_said(word):
    assert word(MINUTE).delay == MINUTE
    assert "0:01:00" in str(word(MINUTE))


@pytest.mark.parametrize("word", [Retry, Snooze])
@pytest.mark.parametrize(
    ("delay", "kept"), [(-MINUTE, timedelta(0)), (timedelta.max, LONGEST_WAIT)]
)
def test_a_delay_is_bounded_by_what_a_database_can_add(word, delay, kept):
    assert word(delay).delay == kept


@pytest.mark.parametrize("word", [Retry, Snooze])
@pytest.mark.parametrize("delay", [60, 1.5, "1m"])
def test_a_bare_number_is_no_delay(word, delay):
    with pytest.raises(TypeError, match=rf"{word.__name__}\(delay\): expected a timedelta, got"):
        word(delay)


@pytest.mark.parametrize("word", [Cancel, Discard])
def test_a_reason_is_the_text_of_the_exception(word):
    assert str(word("no such user")) == "no such user"
    assert str(word()) == ""


@pytest.mark.parametrize("said", [Retry(MINUTE), Snooze(MINUTE), Cancel("why"), Discard("why")])
def test_a_process_can_hand_it_to_another(said):
    copy = pickle.loads(pickle.dumps(said))  # noqa: S301

    assert str(copy) == str(said)
    assert vars(copy) == vars(said)
