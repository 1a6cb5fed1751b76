"""Jobs that a worker has claimed ahead wait for nobody for long."""

from datetime import timedelta

import pytest

from aftercommit.models import Job
from tests.app.chores import plain
from tests.app.models import Effect
from tests.app.tasks import add
from tests.process.rig import STARTED, Rig, Tree
from tests.process.weakened import GUARD
from tests.waiting import wait_until

SHORT = 200  # jobs, after which a worker claims ahead
KEYS = [f"long {number}" for number in range(20)]


def test_long_jobs_that_were_claimed_ahead_go_to_an_idle_worker(rig):
    keen, _ = one_that_claims_ahead(rig)
    idle = rig.worker("--threads", "2")

    rig.wait_note("begin", times=2, tree=idle.pid)

    rig.open_gate("go")
    rig.wait_quiet()
    assert not rig.check(committed=KEYS).violations
    assert (keen.ended, idle.ended) == (False, False)


def test_a_stop_leaves_them_ready_at_once(rig):
    keen, ahead = one_that_claims_ahead(rig, "--grace", "0.5")

    keen.signal(15)

    assert keen.wait() == 0
    assert ahead > 0
    assert (rig.running(), rig.open_jobs()) == (0, len(KEYS))
    rig.open_gate("go")
    assert rig.worker("--drain").wait() == 0
    report = rig.check(committed=KEYS)
    assert (report.violations, report.crashes) == ([], 0)
    assert Effect.objects.count() == len(KEYS)


def test_a_worker_that_keeps_them_is_noticed(rig):
    rig.environment[GUARD] = "patience"
    rig.settings(modules="tests.process.weakened")
    one_that_claims_ahead(rig)
    idle = rig.worker("--threads", "2")

    with pytest.raises(AssertionError):
        wait_until(
            lambda: rig.notes("begin", tree=idle.pid),
            deadline=timedelta(seconds=5),
            why="the idle worker has something to do",
        )

    assert not rig.notes("begin", tree=idle.pid)


def one_that_claims_ahead(rig: Rig, *options: str) -> tuple[Tree, int]:
    """Start a worker of two threads; let it claim long jobs, misled by short ones.

    Returns how many it has claimed that cannot begin.
    """
    worker = rig.worker("--threads", "2", *options)
    show_short_jobs(rig)
    rig.enqueue_many(plain, [((key,), {"gate": "go"}) for key in KEYS])
    ahead = wait_until(
        lambda: max(rig.running() - 2, 0), deadline=STARTED, why="more are claimed than can begin"
    )
    return worker, ahead


def show_short_jobs(rig: Rig) -> None:
    """Let the workers of a rig see what short jobs are, so that they claim ahead."""
    rig.enqueue_many(add, [((1, 2), {}) for _number in range(SHORT)])
    rig.wait_quiet()
    Job.objects.filter(task_path=add.module_path).delete()
