"""Whether anybody would hear a signal, which decides if it is worth building."""

import itertools
import logging

import pytest
from django.dispatch import Signal

from aftercommit import events
from aftercommit.events import Listeners

OWN = "own"
names = (f"aftercommit.test.{number}" for number in itertools.count())


@pytest.fixture
def log():
    """Return a log of its own that hands nothing on."""
    log = logging.getLogger(next(names))
    log.propagate = False
    log.setLevel(logging.DEBUG)
    return log


@pytest.fixture
def signal():
    """Return a signal with its built-in receiver."""
    signal = Signal()
    signal.connect(built_in, dispatch_uid=OWN)
    return signal


def built_in(**_):
    """Stand for the one that writes the log."""


def somebody(**_):
    """Stand for a receiver of the project."""


def handler(level=logging.NOTSET, *, passes=True):
    one = logging.NullHandler(level)
    one.addFilter(lambda _record: passes)
    return one


def test_a_receiver_of_the_project_always_counts(signal, log):
    log.setLevel(logging.CRITICAL)
    audience = Listeners(signal, log=log, own=OWN)
    assert not audience.any(logging.INFO)

    signal.connect(somebody)

    assert audience.any(logging.INFO)
    signal.disconnect(somebody)
    assert not audience.any(logging.INFO)


def test_the_project_may_listen_to_one_sender_only(signal, log):
    log.setLevel(logging.CRITICAL)
    signal.connect(somebody, sender=Listeners)

    assert Listeners(signal, log=log, own=OWN).any(logging.INFO)


def test_without_the_built_in_receiver_nothing_is_written(log):
    log.addHandler(handler())

    assert not Listeners(Signal(), log=log, own=OWN).any(logging.INFO)


@pytest.mark.parametrize(
    ("handlers", "heard"),
    [
        ([handler()], True),
        ([handler(logging.INFO)], True),
        ([handler(logging.WARNING)], False),
        ([handler(passes=False)], False),
        ([handler(logging.WARNING), handler(passes=False), handler()], True),
    ],
)
def test_it_depends_on_what_the_handlers_would_write(signal, log, handlers, heard):
    log.handlers = handlers

    assert Listeners(signal, log=log, own=OWN).any(logging.INFO) is heard


def test_without_handlers_the_last_resort_writes_warnings(signal, log, monkeypatch):
    log.handlers = []  # pytest has put its own there
    monkeypatch.setattr(logging, "lastResort", handler(logging.WARNING))
    audience = Listeners(signal, log=log, own=OWN)

    assert not audience.any(logging.INFO)
    assert audience.any(logging.WARNING)


def test_the_handlers_of_the_parents_count_unless_they_are_cut_off(signal, log):
    child = log.getChild("child")
    log.addHandler(handler())
    assert Listeners(signal, log=child, own=OWN).any(logging.INFO)

    child.propagate = False
    child.addHandler(handler(passes=False))

    assert not Listeners(signal, log=child, own=OWN).any(logging.INFO)


def test_a_filter_of_the_log_itself_counts(signal, log):
    log.addHandler(handler())
    log.addFilter(lambda _record: False)

    assert not Listeners(signal, log=log, own=OWN).any(logging.INFO)


def test_a_handler_that_is_added_later_is_noticed(signal, log, monkeypatch):
    moment = itertools.count()
    monkeypatch.setattr(events.time, "monotonic", lambda: float(next(moment)))
    audience = Listeners(signal, log=log, own=OWN)
    log.handlers = [handler(passes=False)]
    assert not audience.any(logging.INFO)

    log.addHandler(handler())

    assert audience.any(logging.INFO)
