"""The bell that ends waits, and the signals that stop."""

import os
import signal
import threading
from datetime import timedelta

import pytest

from aftercommit.process import STOP_SIGNALS, Bell, stop_on_signals

AT_ONCE = timedelta(0)
DEADLINE = timedelta(seconds=30)  # never waited for: a ring comes first


def test_a_ring_before_the_wait_is_kept():
    bell = Bell()

    bell.ring()

    assert bell.wait(AT_ONCE)


def test_many_rings_are_one_awakening():
    bell = Bell()
    for _ in range(1000):
        bell.ring()

    assert bell.wait(AT_ONCE)
    assert not bell.wait(AT_ONCE)


def test_without_a_ring_the_wait_ends_at_its_limit():
    assert not Bell().wait(timedelta(milliseconds=1))


def test_a_limit_in_the_past_is_no_wait():
    assert not Bell().wait(-DEADLINE)


def test_a_ring_from_another_thread_ends_the_wait():
    bell = Bell()
    ringer = threading.Thread(target=bell.ring)
    ringer.start()

    assert bell.wait(DEADLINE)
    ringer.join()


@pytest.fixture
def on_alarm():
    """Let a test handle SIGALRM."""
    before = signal.getsignal(signal.SIGALRM)
    yield lambda handler: signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_a_signal_handler_may_ring_while_its_own_thread_waits(on_alarm):
    bell = Bell()
    on_alarm(lambda *_: bell.ring())

    signal.setitimer(signal.ITIMER_REAL, 0.01)

    assert bell.wait(DEADLINE)


def test_a_signal_handler_may_ring_in_the_midst_of_a_ring(on_alarm):
    bell = Bell()
    on_alarm(lambda *_: bell.ring())
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)

    for _ in range(20_000):  # a lock that is not re-entrant would hang here
        bell.ring()

    assert bell.wait(DEADLINE)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_each_stop_signal_stops(number):
    calls = []

    with stop_on_signals(lambda: calls.append(number)):
        os.kill(os.getpid(), number)

    assert calls == [number]


def test_a_second_signal_stops_again():
    calls = []

    with stop_on_signals(lambda: calls.append("stop")):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)

    assert calls == ["stop", "stop"]


def test_the_handlers_of_before_are_back_afterwards():
    before = [signal.getsignal(number) for number in STOP_SIGNALS]

    with pytest.raises(RuntimeError, match="from the block"), stop_on_signals(lambda: None):
        raise RuntimeError("from the block")

    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before


def test_in_another_thread_signals_are_left_alone():
    handlers = []

    def run():
        with stop_on_signals(lambda: None):
            handlers.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()

    assert handlers == [signal.getsignal(signal.SIGTERM)]
