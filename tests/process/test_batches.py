"""Kill -9 in the middle of a batch, and workers that stand still meanwhile."""

import signal
from datetime import timedelta

import pytest
from django.db import connection

from tests.app.batched import SIZE, many, many_atomic
from tests.process.checker import ONCE
from tests.process.rig import Job, Rig, Tree
from tests.waiting import wait_until

LEASE = 0.6  # seconds
KILLS = 6
JOBS = 150


@pytest.fixture(autouse=True)
def _batched(rig):
    rig.settings(modules="tests.app.batched")


@pytest.mark.parametrize("task", [many, many_atomic], ids=["plain", "atomic"])
def test_a_batch_that_is_killed_is_run_again_and_atomic_effects_are_there_once(rig, task):
    first = one_thread(rig)
    keys = enqueue(rig, task, SIZE, gate="killed")
    jobs = rig.wait_note("batch")["jobs"]
    first.kill()
    assert {rig.job(job_id).state for job_id in jobs} == {"running"}

    rig.open_gate("killed")
    one_thread(rig)
    rig.wait_quiet()

    assert len(jobs) > 1
    assert {len(rig.notes("begin", job=job_id)) for job_id in jobs} == {2}
    assert {rig.job(job_id).crashes for job_id in jobs} == {1}
    assert (
        [1] * len(jobs)
        == [  # after a crash each runs alone
            len(note["jobs"]) for note in rig.notes("batch")[1:] if set(note["jobs"]) & set(jobs)
        ]
    )
    report = rig.check(committed=keys)
    assert not report.violations
    assert report.plain_again == (len(jobs) if task is many else 0)


@pytest.mark.parametrize("task", [many, many_atomic], ids=["plain", "atomic"])
def test_a_batch_that_others_have_taken_over_changes_nothing_when_it_goes_on(rig, task):
    if connection.vendor == "sqlite" and task is many_atomic:
        pytest.skip("it would hold the only write lock, and nobody could take its jobs")
    rig.settings(lease=LEASE, heartbeat=0.2)
    zombie = one_thread(rig)
    keys = enqueue(rig, task, SIZE, gate=f"go-{zombie.pid}")
    jobs = rig.wait_note("batch")["jobs"]
    zombie.stand_still()
    one_thread(rig)
    wait_until(
        lambda: Job.objects.filter(id__in=jobs, crashes__gt=0).count() == len(jobs),
        deadline=timedelta(seconds=60),
    )

    rig.open_gate(f"go-{zombie.pid}")
    zombie.signal_all(signal.SIGCONT)
    rig.wait_quiet()

    assert len(jobs) > 1
    report = rig.check(committed=keys)
    assert not report.violations
    assert report.crashes >= len(jobs)


def test_batches_survive_kills(rig):
    rig.settings(max_crashes=1000)
    keys = enqueue(rig, many, JOBS) + enqueue(rig, many_atomic, JOBS, lasting=0.05)
    for _number in range(KILLS):
        seen = len(rig.notes("batch"))
        worker = one_thread(rig)
        wait_until(
            lambda seen=seen: len(rig.notes("batch")) > seen, deadline=timedelta(seconds=60)
        )
        worker.kill()

    one_thread(rig)
    rig.wait_quiet()

    report = rig.check(committed=keys)
    assert not report.violations
    assert report.crashes > 0


def test_the_checker_knows_which_of_them_are_atomic():
    assert many_atomic.module_path in ONCE
    assert many.module_path not in ONCE


def one_thread(rig: Rig, **more: str) -> Tree:
    """Start a worker that has one batch at a time."""
    return rig.worker("--threads", "1", **more)


def enqueue(rig: Rig, task, number: int, **given) -> list[str]:
    """Enqueue jobs of a kind; return their keys."""
    keys = [f"{task.func.__name__}:{one}" for one in range(number)]
    rig.enqueue_many(task, [((key,), given) for key in keys])
    return keys
