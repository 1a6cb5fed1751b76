"""Which messages RabbitMQ has confirmed."""

from functools import partial

import pytest

from aftercommit.relay.brokers.rabbitmq.confirms import Confirms


@pytest.fixture
def heard():
    """Return what was answered, by the number of the message."""
    return {}


@pytest.fixture
def confirms(heard):
    """Return the confirms of five messages that were published."""
    confirms = Confirms()
    for number in range(1, 6):
        confirms.expect(partial(heard.__setitem__, number))
    return confirms


def test_each_answer_is_of_one_message_in_any_order(confirms, heard):
    confirms.acked(3, False)
    confirms.nacked(1, False)

    assert heard == {3: True, 1: False}
    assert len(confirms) == 3


def test_an_answer_may_be_of_all_up_to_a_message(confirms, heard):
    confirms.nacked(2, False)
    confirms.acked(4, True)

    assert heard == {2: False, 1: True, 3: True, 4: True}
    assert len(confirms) == 1


def test_what_was_answered_is_answered_once(confirms, heard):
    confirms.acked(5, True)
    heard.clear()
    confirms.nacked(5, True)
    confirms.acked(6, False)

    assert heard == {}
    assert not confirms


def test_counting_goes_on_after_an_answer(confirms, heard):
    confirms.acked(5, True)
    confirms.expect(partial(heard.__setitem__, "next"))
    confirms.acked(6, False)

    assert heard["next"] is True
