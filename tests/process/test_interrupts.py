"""Runs that end before their body would: by a timeout, or because someone asks for it."""

from uuid import UUID

import pytest

from aftercommit.store import store_for
from tests.app.chores import (
    WAITS,
    overdue,
    overdue_coroutine,
    overdue_in_c,
    plain,
    slow_coroutine,
    until_cancelled,
    waiting_in_c,
)
from tests.process.checker import key_of
from tests.process.rig import Job


@pytest.mark.parametrize("kind", [overdue, overdue_coroutine], ids=lambda kind: kind.name)
def test_a_run_that_takes_too_long_is_ended_and_tried_again(rig, kind):
    job_id = rig.enqueue(kind, "one")

    rig.worker()
    rig.wait_quiet()

    job = rig.job(job_id)
    paths = [error["exception_class_path"] for error in job.error_list]
    assert (job.state, job.attempts, job.crashes) == ("failed", 2, 0)
    assert paths == ["aftercommit.errors.TimedOut"] * 2
    assert len(rig.notes("begin")) == 2
    assert len(rig.notes("worker_started")) == 1  # nothing was killed for it


def test_a_suspect_that_takes_too_long_is_ended_as_well(rig):
    job_id = rig.enqueue(overdue, "one")
    rig.suspect(job_id)

    rig.worker()
    rig.wait_quiet()

    job = rig.job(job_id)
    assert (job.state, job.crashes) == ("failed", 1)
    assert {error["exception_class_path"] for error in job.error_list} == {
        "aftercommit.errors.TimedOut"
    }


def test_in_a_process_of_one_thread_a_wait_in_c_is_interrupted_as_well(rig):
    jobs = [rig.enqueue(overdue_in_c, key) for key in WAITS]

    worker = rig.worker("--threads", "1")
    rig.wait_note("begin", times=len(WAITS))
    cancelled = rig.enqueue(waiting_in_c, "sleep")
    rig.wait_note("begin", times=len(WAITS) + 1)
    store_for("default").cancel([UUID(cancelled)])
    rig.wait_quiet()

    for job in map(rig.job, jobs):
        assert job.state == "failed"
        assert job.error_list[-1]["exception_class_path"] == "aftercommit.errors.TimedOut"
    assert rig.job(cancelled).state == "cancelled"
    assert len(rig.notes("worker_started")) == 1  # nothing was killed for it
    assert "does not react" not in worker.output


@pytest.mark.long
def test_a_thread_that_is_lost_costs_its_process_and_no_other_job_an_attempt(rig):
    """In a process of several threads nothing reaches a call into C."""
    overdue_id = rig.enqueue(overdue_in_c, "sleep")
    neighbour = rig.enqueue(plain, "neighbour", gate="go")

    worker = rig.worker("--threads", "2", "--grace", "1")
    rig.wait_note("begin", times=3)  # the neighbour was given back, and runs again
    rig.open_gate("go")
    rig.wait_quiet()

    assert rig.job(overdue_id).state == "failed"
    other = rig.job(neighbour)
    assert (other.state, other.attempts, other.crashes) == ("succeeded", 1, 0)
    assert worker.output.count("does not react") == 1
    assert len(rig.notes("worker_started")) == 2


def test_a_run_ends_when_its_cancellation_is_requested(rig):
    rig.settings(lease=3600, heartbeat=1000)  # which must not be how the worker hears of it
    jobs = [
        rig.enqueue(until_cancelled, "in a thread"),
        rig.enqueue(slow_coroutine, "on the event loop", lasting=60),
        rig.enqueue(until_cancelled, "alone"),
    ]
    rig.suspect(jobs[2])
    worker = rig.worker()
    rig.wait_note("begin", times=3)

    answer = store_for("default").cancel(Job.objects.values_list("id", flat=True))
    rig.wait_quiet()

    assert len(answer.requested) == 3
    ended = {key_of(job): job.state for job in Job.objects.all()}
    assert ended == dict.fromkeys(["in a thread", "on the event loop", "alone"], "cancelled")
    assert not worker.ended


def test_coroutines_need_no_thread_each(rig):
    for number in range(4):
        rig.enqueue(slow_coroutine, str(number), lasting=0.2)

    assert rig.worker("--drain", "--threads", "4").wait() == 0

    begun = [one["at"] for one in rig.notes("begin")]
    ended = [one["at"] for one in rig.notes("end")]
    assert max(begun) < min(ended)
    assert {job.state for job in Job.objects.all()} == {"succeeded"}
