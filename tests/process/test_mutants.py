"""Each guard is taken away once, and the fault test that stands for it must fail.

The test itself runs, on workers without the guard: it passes with it, in its own file.
"""

from collections import Counter
from datetime import timedelta

import pytest
from django.db import connection

from tests.app.chores import plain
from tests.app.models import Effect
from tests.process import rig as rigs
from tests.process import test_descriptors as descriptors
from tests.process import test_kill as kill
from tests.process import test_poison as poison
from tests.process import test_pruning as pruning
from tests.process import test_queue_limits as queue_limits
from tests.process import test_schedules as scheduled
from tests.process import test_server_faults as server_faults
from tests.process import test_signals as signals
from tests.process import test_zombies as zombies
from tests.process.rig import Job
from tests.process.storm import Storm
from tests.process.test_server_faults import cluster, torn  # noqa: F401 - fixtures
from tests.process.weakened import GUARD

SHORT = timedelta(seconds=10)  # to wait for what will never be


def weaken(rig, guard):
    """Let all workers of a rig do without this guard."""
    rig.environment[GUARD] = guard
    rig.settings(modules="tests.process.weakened")


@pytest.fixture
def impatient(monkeypatch):
    """Wait for a short time only."""
    for name in ("STARTED", "QUIET"):
        monkeypatch.setattr(rigs, name, SHORT)


@pytest.mark.parametrize(
    ("guard", "test"),
    [
        ("rescue", kill.test_a_job_whose_worker_was_killed_runs_again_within_two_seconds),
        ("token", zombies.test_a_zombie_changes_nothing_whatever_its_last_act_is),
        ("release", signals.test_a_grace_of_no_time_is_no_time),
        ("refund", signals.test_a_grace_of_no_time_is_no_time),
    ],
    ids=lambda one: one if isinstance(one, str) else one.__name__,
)
def test_a_worker_without_this_guard_is_noticed(rig, impatient, guard, test):
    weaken(rig, guard)

    with pytest.raises(AssertionError):
        test(rig)


@pytest.mark.parametrize("guard", ["places", "queue_key"])
def test_a_queue_whose_limit_is_not_kept_is_noticed(rig, guard):
    if guard == "queue_key" and connection.vendor == "sqlite":
        pytest.skip("there is one writer at a time")
    weaken(rig, guard)

    with pytest.raises(AssertionError):
        queue_limits.test_the_limit_of_a_queue_holds_while_workers_are_killed_and_come_back(rig)


def test_a_storm_whose_victims_nobody_rescues_is_noticed(rig, monkeypatch):
    weaken(rig, "rescue")
    # What the dead had claimed is no load: the storm would wait for a worker at work.
    monkeypatch.setattr(rig, "open_jobs", Job.objects.filter(state="ready").count)
    rig.settings(lease=1, heartbeat=0.3)
    storm = Storm(rig, sizes=(1,), longest=0.02)

    with pytest.raises(AssertionError, match="0 hit"):
        storm.rage(kills=1, hits=1, deadline=SHORT)

    assert storm.kills >= 1
    assert rig.ledger.workers_hit() == 0


def test_a_worker_that_hands_on_spoiled_connections_is_noticed(rig, monkeypatch):
    weaken(rig, "tidying")
    monkeypatch.setattr(poison, "BUSY", SHORT)
    few = [one for one in poison.POISONS if one[0].startswith(("leave", "set"))]

    with pytest.raises(AssertionError):
        poison.test_no_poison_takes_the_worker_or_its_neighbours_down(rig, few)


def test_jobs_that_are_deleted_before_they_are_archived_are_noticed(rig, monkeypatch):
    weaken(rig, "archiving")

    with pytest.raises(AssertionError):
        pruning.test_who_prunes_is_killed_in_the_middle_and_the_next_one_archives_it_all(rig)

    assert rig.notes("archiving")


def test_a_reserve_of_descriptors_that_tasks_may_take_is_noticed(rig, monkeypatch):
    weaken(rig, "reserve")
    monkeypatch.setattr(descriptors, "BUSY", SHORT)

    with pytest.raises(AssertionError):
        descriptors.test_a_task_that_goes_on_to_open_files_does_not_get_the_reserve(rig, "1")


@pytest.mark.skipif(connection.vendor != "postgresql", reason="needs a server that may crash")
def test_a_worker_that_judges_leases_right_after_an_outage_is_noticed(torn, cluster):  # noqa: F811
    weaken(torn, "contact")

    with pytest.raises(AssertionError):
        server_faults.test_after_an_outage_no_healthy_job_is_rescued(torn, cluster)

    assert torn.notes("rescued")


def test_the_guards_are_there_without_being_named(rig):
    rig.settings(modules="tests.process.weakened")
    rig.enqueue(plain, "one")

    rig.worker("--drain").wait()

    assert not rig.check(committed=["one"]).violations


def test_without_lock_and_unique_tick_a_moment_is_made_twice(rig):
    if rig.vendor == "sqlite":
        pytest.skip("one transaction writes at a time")
    rig.environment["AFTERCOMMIT_TEST_SCHEDULES"] = "unguarded"

    scheduled.storm(rig, times=0)

    done = Counter(Effect.objects.filter(key__startswith="tick:").values_list("key", flat=True))
    assert max(done.values()) > 1
