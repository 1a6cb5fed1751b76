"""Processes that have run, or grown, enough are replaced, and no job notices."""

from collections import Counter
from datetime import timedelta

import pytest

from aftercommit.models import Job
from tests.app.chores import plain
from tests.app.greedy import gated, insatiable, leaky
from tests.process.test_collateral import causes
from tests.waiting import wait_until

BUSY = timedelta(minutes=2)
# Far above what a process of these tests needs, and far below what is kept.
LIMIT, MUCH = "350M", 450


@pytest.fixture
def greedy(rig):
    rig.settings(modules="tests.app.greedy", max_crashes=2, poll_interval=0.2)
    return rig


def test_a_process_runs_no_more_jobs_than_it_may(greedy):
    for number in range(10):
        greedy.enqueue(leaky, str(number))

    worker = greedy.worker("--drain", "--max-jobs-per-process", "3", "--threads", "2")
    assert worker.wait(BUSY) == 0  # four processes begin, one after the other

    by_process = Counter(one["pid"] for one in greedy.notes("ran"))
    assert sum(by_process.values()) == 10
    assert max(by_process.values()) <= 3
    assert len(by_process) >= 4  # more if jobs went back because the machine was busy
    jobs = Job.objects.values_list("state", "attempts", "crashes")
    assert set(jobs) == {("succeeded", 1, 0)}


def test_a_process_that_has_grown_is_replaced_when_its_jobs_have_ended(greedy):
    worker = greedy.worker("--max-memory", LIMIT, "--threads", "2")
    waiting = greedy.enqueue(gated, "waiting", gate="go")
    first = greedy.wait_note("ran")["pid"]
    greedy.enqueue(leaky, "leaky", megabytes=MUCH)
    greedy.wait_note("ran", times=2)
    wait_until(lambda: "more than max_memory" in worker.output, deadline=BUSY)
    later = greedy.enqueue(leaky, "later")

    greedy.open_gate("go")
    greedy.wait_quiet(BUSY)

    ran = {one["key"]: one["pid"] for one in greedy.notes("ran")}
    assert ran["waiting"] == ran["leaky"] == first != ran["later"]
    assert [greedy.job(one).state for one in (waiting, later)] == ["succeeded"] * 2
    assert set(Job.objects.values_list("attempts", "crashes")) == {(1, 0)}


@pytest.mark.long
def test_a_job_that_needs_too_much_and_does_not_end_is_blamed_and_its_neighbours_are_not(greedy):
    """Given back, it would begin again and again, for ever."""
    worker = greedy.worker("--max-memory", LIMIT, "--threads", "2", "--grace", "0.5")
    neighbour = greedy.enqueue(plain, "neighbour", gate="go")
    greedy.wait_note("begin")
    job_id = greedy.enqueue(insatiable, "insatiable", megabytes=MUCH)
    greedy.wait_note("grown")
    wait_until(lambda: greedy.job(neighbour).crashes, deadline=BUSY)

    greedy.open_gate("go")
    greedy.wait_quiet(BUSY)

    job = greedy.job(job_id)
    assert (job.state, causes(job)) == ("failed", {"WorkerDied": 1, "ProcessCrashed": 2})
    assert "--max-memory" in job.error_list[-1]["traceback"]
    assert greedy.job(neighbour).state == "succeeded"
    assert causes(greedy.job(neighbour)) == {"WorkerDied": 1}
    assert worker.output.count("more than max_memory") == 3


def test_a_limit_that_is_too_low_for_the_project_lets_each_process_do_one_job(greedy):
    for number in range(2):
        greedy.enqueue(leaky, str(number))

    worker = greedy.worker("--drain", "--max-memory", "1M", "--threads", "1")
    assert worker.wait(BUSY) == 0

    assert {job.state for job in Job.objects.all()} == {"succeeded"}
    assert "before its first job" in worker.output
