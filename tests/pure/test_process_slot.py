"""Failed starts follow each other more and more slowly."""

from datetime import timedelta

import pytest

from aftercommit.options.worker import WorkerConfig
from aftercommit.worker.processes import slot as slots
from aftercommit.worker.processes.slot import IN_VAIN, LONGEST_PAUSE, ProcessSlot

AT = 1000.0


@pytest.mark.parametrize(
    ("failed_starts", "seconds"), [(0, 0.1), (1, 0.1), (2, 0.2), (3, 0.4), (7, 6.4), (8, 10)]
)
def test_pauses_grow_with_each_failed_start(monkeypatch, failed_starts, seconds):
    monkeypatch.setattr(slots, "now", lambda: AT)
    slot = ProcessSlot(WorkerConfig(), failed_starts=failed_starts)

    assert slot.pause() == timedelta(seconds=seconds)
    assert slot.start_at == AT + seconds


def test_no_pause_is_longer_than_the_longest():
    assert ProcessSlot(WorkerConfig(), failed_starts=1000).pause() == LONGEST_PAUSE


def test_after_a_process_that_had_nothing_to_do_the_next_one_waits(monkeypatch):
    monkeypatch.setattr(slots, "now", lambda: AT)
    slot = ProcessSlot(WorkerConfig(crashed=True), through=True)

    slot.open()
    assert slot.start_at == AT

    slot.not_before = AT + IN_VAIN.total_seconds()
    slot.open()
    assert slot.start_at == AT + IN_VAIN.total_seconds()
