"""LoopThread: a step is repeated, whatever it raises, until it is told to stop."""

import logging
import queue
import threading
from datetime import timedelta

import pytest
from django.db import InterfaceError, OperationalError, ProgrammingError, connections

from aftercommit.worker.upkeep.loop import LoopThread

AT_ONCE = timedelta(0)
LATER = timedelta(hours=1)
DEADLINE = timedelta(seconds=20)


class Steps:
    """Steps that do what they are told, one after the other, and tell when they did."""

    def __init__(self, *orders):
        self._orders = list(orders)
        self.taken = queue.SimpleQueue()

    def __call__(self):
        order = self._orders.pop(0) if self._orders else LATER
        self.taken.put(order)
        if isinstance(order, timedelta):
            return order
        raise order

    def wait(self, number):
        """Wait until so many have been taken."""
        return [self.taken.get(timeout=DEADLINE.total_seconds()) for _number in range(number)]


@pytest.fixture
def loop_thread():
    """Return a function that starts one; it has ended when the test does."""
    started = []

    def start(steps, **more):
        started.append(LoopThread("test", steps, **more))
        started[-1].start()
        return started[-1]

    yield start
    for one in started:
        one.stop()
        assert one.join(DEADLINE)


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_a_database_error_is_told_and_waited_out(loop_thread, error):
    steps = Steps(error("first"), error("second"), LATER)
    troubles, successes = [], threading.Semaphore(0)

    loop_thread(steps, on_trouble=troubles.append, on_success=successes.release)

    assert len(steps.wait(3)) == 3
    assert successes.acquire(timeout=DEADLINE.total_seconds())
    assert [str(one) for one in troubles] == ["first", "second"]
    assert not successes.acquire(blocking=False)


def test_any_other_exception_is_logged_and_the_loop_goes_on(loop_thread, caplog):
    steps = Steps(ZeroDivisionError("a bug"), ZeroDivisionError("again"), AT_ONCE, LATER)
    troubles = []

    loop_thread(steps, on_trouble=troubles.append)

    assert len(steps.wait(4)) == 4
    assert caplog.text.count("a step failed and is repeated") == 2
    assert "ZeroDivisionError: a bug" in caplog.text
    assert troubles == []


@pytest.mark.parametrize("trouble", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_nothing_that_a_step_raises_ends_the_loop(loop_thread, caplog, trouble):
    """A receiver of a signal may call ``sys.exit()``; a thread would end without a word."""
    steps = Steps(trouble(), AT_ONCE, LATER)

    loop_thread(steps)

    assert len(steps.wait(3)) == 3
    assert "a step failed and is repeated" in caplog.text


def test_errors_in_long_rows_are_waited_out_no_longer_than_allowed(loop_thread):
    steps = Steps(*[OperationalError() for _number in range(30)])

    loop_thread(steps, longest_wait=timedelta(milliseconds=1))

    assert len(steps.wait(31)) == 31  # by doubling, this would be years


def test_a_ring_ends_the_wait(loop_thread):
    steps = Steps(LATER, LATER, LATER)
    room = loop_thread(steps)
    steps.wait(1)

    room.ring()

    assert steps.wait(1) == [LATER]


def test_a_stop_ends_the_wait_and_no_step_follows(loop_thread):
    steps = Steps(LATER, LATER)
    ended = []
    room = loop_thread(steps, at_end=lambda: ended.append(threading.current_thread().name))
    steps.wait(1)

    room.stop()

    assert room.join(DEADLINE)
    assert steps.taken.empty()
    assert ended == ["aftercommit-test"]


def test_an_end_that_fails_is_logged(loop_thread, caplog):
    def end():
        raise ZeroDivisionError

    room = loop_thread(Steps(LATER), at_end=end)

    room.stop()

    assert room.join(DEADLINE)
    assert "the last step failed" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_has_failed_is_not_used_again(loop_thread):
    seen = queue.SimpleQueue()
    errors = [OperationalError()]

    def step():
        connection = connections["default"]
        before = connection.connection
        connection.ensure_connection()
        seen.put((before, connection.connection))
        if errors:
            raise errors.pop()
        return LATER

    loop_thread(step)

    limit = DEADLINE.total_seconds()
    (_nothing, first), (before, second) = seen.get(timeout=limit), seen.get(timeout=limit)
    assert before is None
    assert second is not first


# ---- errors that last -----------------------------------------------------------------------


def refused(text="permission denied"):
    """Return what the database says to a statement that it refuses."""
    return ProgrammingError(text)


def lines(caplog):
    """Return what was logged about the loop, without its lines for debugging."""
    return [one.getMessage() for one in caplog.records if one.levelno > logging.DEBUG]


def test_an_error_that_lasts_is_said_once_and_so_is_its_end(loop_thread, caplog):
    caplog.set_level(logging.INFO, "aftercommit")
    steps = Steps(*[refused("no UPDATE\nDETAIL: of a table") for _number in range(8)], AT_ONCE)

    loop_thread(steps, longest_wait=AT_ONCE)
    steps.wait(10)

    said = lines(caplog)
    assert len(said) == 2
    assert said[0].startswith("test cannot do its work: ProgrammingError: no UPDATE. ")
    assert said[1] == "test works again, after 8 failures"
    assert [one.levelname for one in caplog.records if one.getMessage() in said] == [
        "ERROR",
        "WARNING",
    ]


def test_another_reason_is_said_again(loop_thread, caplog):
    first, second = [refused("one")] * 4, [refused("two")] * 4
    steps = Steps(*first, *second, AT_ONCE)

    loop_thread(steps, longest_wait=AT_ONCE)
    steps.wait(10)

    said = lines(caplog)
    assert len(said) == 3
    assert "ProgrammingError: one" in said[0]
    assert "ProgrammingError: two" in said[1]


def test_an_error_that_is_over_at_once_is_not_worth_a_line(loop_thread, caplog):
    steps = Steps(*[refused(), refused(), AT_ONCE] * 5)

    loop_thread(steps, longest_wait=AT_ONCE)
    steps.wait(16)

    assert lines(caplog) == []


def test_a_bug_is_said_at_once_and_once(loop_thread, caplog):
    steps = Steps(*[ZeroDivisionError("a bug") for _number in range(5)], AT_ONCE)

    loop_thread(steps, longest_wait=AT_ONCE)
    steps.wait(7)

    assert caplog.text.count("a step failed and is repeated") == 1
    assert "works again, after 5 failures" in caplog.text


@pytest.mark.parametrize(
    ("told", "is_secret"),
    [((2003, "cannot connect to db.intern as admin"), True), ((1142, "UPDATE denied"), False)],
)
def test_an_address_is_not_written_to_the_log(loop_thread, caplog, told, is_secret):
    class FromDriver(Exception):
        """What a driver raises."""

    error = OperationalError(*told)
    error.__cause__ = FromDriver(*told)
    steps = Steps(*[error] * 12, AT_ONCE)

    loop_thread(steps, longest_wait=AT_ONCE)
    steps.wait(14)

    said = lines(caplog)
    assert len(said) == 2
    assert (told[1] in said[0]) == (not is_secret)
    assert "OperationalError" in said[0]
