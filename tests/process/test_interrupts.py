"""Runs that end before their body would: by a timeout, or because someone asks for it."""

import pytest

from aftercommit.store import store_for
from tests.app.chores import overdue, overdue_coroutine, slow_coroutine, until_cancelled
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
