"""Sizes of memory, and when a process has run or grown enough."""

import sys

import pytest

from aftercommit.options import sizes
from aftercommit.worker import recycling
from aftercommit.worker.recycling import JobsPerProcess, MemoryLimit, resident


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("512M", 512 * 1024**2),
        ("1.5g", 3 * 1024**3 // 2),
        ("300 MiB", 300 * 1024**2),
        ("64kb", 64 * 1024),
        ("1000000", 1_000_000),
        (" 2T ", 2 * 1024**4),
    ],
)
def test_a_size_is_read_as_people_write_it(text, number):
    assert sizes.bytes_of(text) == number


@pytest.mark.parametrize("text", ["", "M", "-1M", "1X", "1.2.3M", "1 M M", "nan", "1e9"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="no size of memory"):
        sizes.bytes_of(text)


def test_without_a_limit_there_is_always_one_job_more():
    jobs = JobsPerProcess(None)
    jobs.claimed(10**9)

    assert (jobs.left, jobs.used_up) == (sys.maxsize, False)


def test_jobs_that_go_back_unstarted_do_not_count():
    told = []
    jobs = JobsPerProcess(3, used_up=lambda: told.append(1))
    jobs.claimed(2)
    jobs.claimed(-1)
    assert (jobs.left, jobs.used_up, told) == (2, False, [])

    jobs.claimed(2)

    assert (jobs.left, jobs.used_up, told) == (0, True, [1])


@pytest.fixture
def occupied(monkeypatch):
    """Return a list: how much this process occupies."""
    occupied = [100]
    monkeypatch.setattr(recycling, "resident", lambda: occupied[0])
    return occupied


def test_a_process_is_replaced_when_it_has_grown(occupied):
    limit = MemoryLimit(200)
    assert limit.warning is None
    assert limit.exceeded(done=5, running=1) is None

    occupied[0] = 201

    assert "claims no more jobs" in limit.exceeded(done=0, running=1)
    assert limit.exceeded(done=0, running=0) is None  # it would be replaced without end


def test_a_limit_below_what_the_project_needs_lets_one_job_end(occupied):
    limit = MemoryLimit(99)

    assert "before its first job" in limit.warning
    assert limit.exceeded(done=0, running=1) is None
    assert limit.exceeded(done=1, running=0) is not None


def test_a_size_without_a_unit_is_said_as_it_was_read():
    assert sizes.size(sizes.bytes_of("12")) == "12 bytes"
    assert sizes.size(sizes.bytes_of("1M")) == "1 MiB"


def test_without_a_memory_limit_nothing_is_measured(monkeypatch):
    monkeypatch.setattr(recycling, "resident", None)

    assert MemoryLimit(None).exceeded(done=1, running=1) is None


def test_the_memory_of_this_process_is_measured_on_each_system(monkeypatch, tmp_path):
    assert resident() > 10 * 1024**2
    monkeypatch.setattr(recycling, "STATM", tmp_path / "none")
    assert resident() > 10 * 1024**2
    monkeypatch.setattr(recycling, "resource", None)
    assert resident() == 0
