"""Kill -9 while several atomic jobs share a transaction: all of them or none, and who pays."""

import os
import signal

import pytest

from tests.app.chores import atomic
from tests.process.checker import key_of
from tests.process.rig import Job, Rig, Tree

JOBS = 60
COMPANY = "tests.process.company"


@pytest.mark.parametrize("place", ["before the outcomes", "before COMMIT", "after COMMIT"])
def test_a_shared_commit_is_carried_out_for_all_or_none(rig, place):
    rig.settings(modules=COMPANY)
    first = one_thread(rig, AFTERCOMMIT_TEST_SHARED=place)
    keys = enqueue(rig, JOBS)
    shared = rig.wait_note("shared")["jobs"]
    first.kill()
    states = {rig.job(job_id).state for job_id in shared}
    committed = place == "after COMMIT"
    assert states == {"succeeded" if committed else "running"}

    one_thread(rig)
    rig.wait_quiet()

    assert len(shared) > 1
    runs = {len(rig.notes("begin", job=job_id)) for job_id in shared}
    assert runs == {1 if committed else 2}
    report = rig.check(committed=keys)
    assert not report.violations


def test_the_death_of_one_costs_its_company_nothing(rig):
    rig.settings(modules=COMPANY)
    worker = one_thread(rig)
    before = enqueue(rig, JOBS)
    rig.wait_quiet()  # the task is known to be short by now
    (child,) = rig.children(worker)
    with_gate = enqueue(rig, JOBS, gate_at=JOBS // 2)
    blocked = rig.wait_note("begin", key=with_gate[JOBS // 2])["job"]
    joined = rig.wait_note("joins", job=blocked)
    assert joined["company"] > 0
    os.kill(child, signal.SIGKILL)
    rig.open_gate("go")
    rig.wait_quiet()

    assert [key_of(job) for job in Job.objects.filter(crashes__gt=0)] == [with_gate[JOBS // 2]]
    report = rig.check(committed=before + with_gate)
    assert not report.violations
    assert len(rig.children(worker)) == 3  # a new one, and one for what has crashed


def one_thread(rig: Rig, **more: str) -> Tree:
    """Start a worker whose jobs are in one queue, so that many can share a transaction."""
    return rig.worker("--threads", "1", **more)


def enqueue(rig: Rig, number: int, *, gate_at: int = -1) -> list[str]:
    """Enqueue atomic jobs, one of them with a gate; return their keys."""
    first = Job.objects.count()
    keys = [str(first + count) for count in range(number)]
    gates = [{"gate": "go"} if count == gate_at else {} for count in range(number)]
    rig.enqueue_many(atomic, [((key,), gate) for key, gate in zip(keys, gates, strict=True)])
    return keys
