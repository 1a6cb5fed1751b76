"""How long a process is silent, and when that is too long."""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from aftercommit.options.conf import BackendOptions
from aftercommit.options.worker import WorkerConfig
from aftercommit.worker.config import Served
from aftercommit.worker.in_flight import ID, InFlight
from aftercommit.worker.processes import silence
from aftercommit.worker.processes.silence import LONGEST_STEP, Silence, longest_silence

SERVED = Served(using="default", queues=None, backends=(), options=BackendOptions(), relays=False)
SECOND = timedelta(seconds=1)


@pytest.fixture
def clock(monkeypatch):
    """Return a clock that the test moves."""
    moments = [1000.0]
    monkeypatch.setattr(silence, "now", lambda: moments[-1])
    return moments


def test_it_lasts_while_the_count_stays(clock):
    silent = Silence()
    for number, beats in enumerate([1, 1, 1, 2, 2]):
        clock.append(1000 + number / 2)
        silent.note(beats)
        if number == 2:
            assert silent.lasted == SECOND
    assert silent.lasted == SECOND / 2


def test_before_the_first_count_there_is_no_silence(clock):
    silent = Silence()
    for number in range(10):
        clock.append(1000 + number)
        silent.note(0)
    assert silent.lasted == timedelta(0)


def test_time_in_which_the_parent_stood_still_does_not_count(clock):
    silent = Silence()
    silent.note(1)
    clock.append(5000)
    silent.note(1)
    assert silent.lasted == LONGEST_STEP


@pytest.mark.parametrize(
    ("watchdog", "leases", "expected"),
    [
        (None, [30, 40], 40),
        (None, [1], 10),
        (7 * SECOND, [30], 7),
        (0 * SECOND, [30], None),
    ],
)
def test_by_default_it_is_the_longest_lease(watchdog, leases, expected):
    serving = [
        replace(SERVED, options=BackendOptions(lease=lease * SECOND, heartbeat=SECOND / 4))
        for lease in leases
    ]
    found = longest_silence(WorkerConfig(watchdog=watchdog), serving)
    assert found == (None if expected is None else expected * SECOND)


def test_the_count_is_no_job():
    memory = bytearray(InFlight.size(1))
    parent, child = InFlight.prepared(memory), InFlight(memory)
    assert parent.counted == 0
    entries = [child.enter(UUID(int=number)) for number in range(1, len(memory) // ID - 1)]
    child.count()
    child.count()
    assert parent.counted == 2
    assert len(parent.read()[1]) == len(entries)


def test_on_the_board_of_an_earlier_version_nothing_is_counted():
    memory = bytearray(InFlight.size(1) - ID)
    child = InFlight(memory)
    child.count()
    entry = child.enter(UUID(int=7))
    assert (child.counted, child.read()) == (0, (None, {UUID(int=7)}))
    child.leave(entry)
    assert not any(memory)
