"""The rig itself: an undisturbed worker leaves nothing to complain about, a cheat does."""

from uuid import UUID

import pytest

from aftercommit.models import Job
from tests.app.chores import KINDS, plain
from tests.app.models import Effect


def test_an_undisturbed_worker_leaves_nothing_to_complain_about(rig):
    keys = [f"{task.name}-{number}" for task in KINDS for number in range(20)]
    for key in keys:
        task = next(task for task in KINDS if key.startswith(task.name))
        rig.enqueue(task, key)

    assert rig.worker("--drain").wait() == 0

    report = rig.check(committed=keys)
    assert not report.violations
    assert (report.states["succeeded"], report.claims, report.crashes) == (60, 60, 0)


@pytest.mark.parametrize(
    ("cheat", "complaint"),
    [
        ({"state": "ready", "finished_at": None}, "I5"),
        ({"token": 7}, "I4"),
    ],
)
def test_a_change_that_no_transition_makes_is_noticed(rig, cheat, complaint):
    rig.enqueue(plain, "one")
    assert rig.worker("--drain").wait() == 0

    Job.objects.update(**cheat)

    violations = rig.check(committed=["one"]).violations
    assert any(violation.startswith(complaint) for violation in violations)


def test_lost_doubled_and_invented_work_is_noticed(rig):
    job_id = rig.enqueue(plain, "one")
    assert rig.worker("--drain").wait() == 0

    Effect.objects.create(key="one", job_id=UUID(job_id))

    violations = rig.check(committed=["one", "two"], rolled_back=["one"]).violations
    assert {violation[:2] for violation in violations} == {"I1", "I3"}
    assert "I1: two was committed and is lost" in violations
    assert "I1: one was rolled back" in violations
