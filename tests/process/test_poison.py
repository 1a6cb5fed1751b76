"""Tasks that would take a worker down with them: none does."""

import signal
from datetime import timedelta

import pytest

from aftercommit.models import Job
from aftercommit.store.blame import DEATHS_FOR_EACH_BLAME
from tests.app.chores import atomic, plain
from tests.app.models import Effect
from tests.app.poison import (
    NASTY,
    swallow,
    swallow_atomic,
    swallow_awaited,
    swallow_in_time,
)
from tests.process.checker import key_of

MAX_CRASHES = 1  # whose own fault it is; of others' deaths a job may see far more
MAX_ATTEMPTS = 2
MOST_CONFLICTS = 10  # runs that the database broke off, and which do not count
BUSY = timedelta(minutes=4)  # a minute, on a machine that has nothing else to do

# Each poison, the task that takes it, and how its job must end.
POISONS = [
    ("ignore_everything", swallow_in_time, "failed"),
    ("sleep_in_c", swallow_in_time, "failed"),
    ("cut_connection", swallow_atomic, "failed"),  # after many runs that do not count
    ("nothing", swallow, "succeeded"),
    ("nasty_result", swallow, "succeeded"),
    ("nasty_result", swallow_atomic, "succeeded"),
    ("exit_at_once", swallow, "failed"),
    ("nan_result", swallow, "failed"),
    ("nan_result", swallow_atomic, "failed"),
    ("object_result", swallow, "failed"),
    ("cyclic_result", swallow, "failed"),
    ("large_result", swallow, "failed"),
    ("nasty_error", swallow, "failed"),
    ("nasty_cancel", swallow, "cancelled"),
    ("mute_error", swallow, "failed"),
    ("misnamed_error", swallow, "failed"),
    ("large_error", swallow, "failed"),
    ("rooted_error", swallow, "failed"),
    ("rooted_error", swallow_atomic, "failed"),
    ("cyclic_error", swallow, "failed"),
    ("many_errors", swallow, "failed"),
    ("misbuilt_error", swallow, "failed"),
    ("endless_recursion", swallow, "failed"),
    ("endless_recursion", swallow_atomic, "failed"),
    ("segfault", swallow, "failed"),
    ("no_memory", swallow, "failed"),
    ("exit_quietly", swallow, "failed"),
    ("exit_quietly", swallow_atomic, "failed"),
    ("interrupt", swallow, "failed"),
    ("stop_generator", swallow, "failed"),
    ("stop_iteration", swallow, "failed"),
    ("exit_awaited", swallow_awaited, "failed"),
    ("fork", swallow, "succeeded"),
    ("fork", swallow_atomic, "succeeded"),
    ("raise_in_thread", swallow, "succeeded"),
    ("exit_in_thread", swallow, "succeeded"),
    ("loop_for_ever", swallow_in_time, "failed"),
    ("close_connection", swallow, "succeeded"),
    ("cut_connection", swallow, "succeeded"),
    ("cut_connection_and_go_on", swallow, "failed"),
    ("kill_process", swallow, "failed"),
    ("leave_atomic_open", swallow, "succeeded"),
    ("leave_atomic_closed", swallow, "succeeded"),
    ("leave_autocommit_off", swallow, "succeeded"),
    ("leave_raw_begin_open", swallow, "succeeded"),
    ("set_wait", swallow, "succeeded"),
    ("set_read_only", swallow, "succeeded"),
    ("set_isolation", swallow, "succeeded"),
    ("set_schema", swallow, "succeeded"),
    ("stop_process", swallow, "succeeded"),
    ("sleep_in_c_awaited", swallow_awaited, "failed"),
]
WITH_A_SERVER = [
    ("kill_backend", swallow, "failed"),
    ("kill_backend", swallow_atomic, "failed"),
]
# PostgreSQL forgets it with the savepoint of the body; others refuse it.
ON_POSTGRESQL = [("forbid_own_completion", swallow_atomic, "succeeded")]
ARGUMENTS = {"nothing": [NASTY, {NASTY: [NASTY]}]}
POISON = "tests.app.poison."
KILLERS = {"exit_at_once", "segfault", "kill_process"}
STUCK = {"ignore_everything", "sleep_in_c", "sleep_in_c_awaited"}


@pytest.fixture
def poisons(vendor):
    """Return what there is to survive on the database under test."""
    more = [] if vendor == "sqlite" else WITH_A_SERVER
    return more + POISONS + (ON_POSTGRESQL if vendor == "postgresql" else [])


def test_no_poison_takes_the_worker_or_its_neighbours_down(rig, poisons):
    rig.settings(modules="tests.app.poison", max_crashes=MAX_CRASHES, poll_interval=0.2)
    good = enqueue_all(rig, poisons)

    worker = rig.worker("--threads", "2")
    rig.wait_quiet(BUSY)
    worker.signal(signal.SIGTERM)
    status = worker.wait()

    replaced = len(rig.children(worker)) - 1
    print(f"{len(poisons)} poisons, {len(good)} good jobs, {replaced} processes replaced")
    assert status == 0
    assert ends_of(poisons) == {key_for(name, task): end for name, task, end in poisons}
    assert_all_within_their_limits()
    assert_good_jobs_are_done(rig, good)
    crashes = {name_of(job): job.crashes for job in poison_jobs() if name_of(job) in KILLERS}
    # Once alone, and perhaps once among others; who sends SIGKILL, the parent cannot know.
    assert crashes.pop("kill_process") == MAX_CRASHES * DEATHS_FOR_EACH_BLAME
    assert set(crashes.values()) <= {MAX_CRASHES, MAX_CRASHES + 1}
    assert replaced >= len(KILLERS) + 1  # one for each killer, and one for those stuck
    # A killer beside one of them may have ended its process before.
    assert "process is replaced when its other jobs have ended" in worker.output


def enqueue_all(rig, poisons) -> list[str]:
    """Enqueue each poison with two good jobs behind it; return the keys of those."""
    keys = []
    for number, (name, task, _end) in enumerate(poisons):
        rig.enqueue(task, key_for(name, task), *ARGUMENTS.get(name, []))
        for good in (plain, atomic):
            keys.append(f"{good.name} {number} after {name}")
            rig.enqueue(good, keys[-1])
    return keys


def key_for(name, task) -> str:
    """Return the key of a poison's job."""
    return f"{name} @ {task.name}"


def name_of(job) -> str:
    """Return the poison that a job is."""
    return key_of(job).partition(" @ ")[0]


def poison_jobs() -> list[Job]:
    """Return the jobs that are poison."""
    return list(Job.objects.filter(task_path__startswith=POISON))


def ends_of(poisons) -> dict[str, str]:
    """Return how each job that is poison has ended."""
    return {key_of(job): job.state for job in poison_jobs()}


def assert_all_within_their_limits():
    """Assert that no poison was swallowed more often than its task allows."""
    for job in poison_jobs():
        assert job.attempts - job.crashes <= MAX_ATTEMPTS, key_of(job)
        assert job.conflicts <= MOST_CONFLICTS, key_of(job)
        assert job.crashes <= MAX_CRASHES * DEATHS_FOR_EACH_BLAME, key_of(job)


def assert_good_jobs_are_done(rig, good):
    """Assert what the checker asserts, and of good jobs one extra run for a killer at most."""
    report = rig.check(committed=[*good, *map(key_of, poison_jobs())])
    # That a poison fails, and leaves no effect, is as it must be.
    expected = tuple(f"{invariant}: {POISON}" for invariant in ("I3", "I6"))
    violations = [one for one in report.violations if not one.startswith(expected)]
    assert violations == []
    jobs = {key_of(job): job for job in Job.objects.exclude(task_path__startswith=POISON)}
    assert set(jobs) == set(good)
    assert {job.state for job in jobs.values()} == {"succeeded"}
    assert max(job.crashes for job in jobs.values()) <= len(KILLERS)
    again = {key: job.errors for key, job in jobs.items() if job.attempts != 1 + job.crashes}
    assert again == {}
    assert not Effect.objects.filter(key="left open").exists()
