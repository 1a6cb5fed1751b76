"""Jobs that kill the process that runs them, among good ones; and processes that are killed."""

import os
import signal
from collections import Counter
from datetime import timedelta

import pytest

from tests.app.chores import plain
from tests.app.poison import swallow
from tests.process.checker import key_of
from tests.process.rig import Job, Rig, Tree
from tests.process.test_ahead import show_short_jobs
from tests.process.weakened import GUARD
from tests.waiting import wait_until

GOOD = 100
LASTING = 0.05  # seconds, so that its neighbours are at work when it strikes
MAX_CRASHES = 3
BUSY = timedelta(minutes=2)
NOT_BUSY = timedelta(seconds=20)  # a second or two
KILLS = 3
A_MOMENT = timedelta(seconds=1)  # in which a job that might begin would


def test_a_job_that_kills_its_process_costs_its_neighbours_one_run_at_most(rig):
    worker = strike(rig)

    assert complaints(rig) == []
    rig.wait_quiet()
    worker.signal(signal.SIGTERM)
    status = worker.wait()

    assert status == 0
    poison = Job.objects.get(task_path=swallow.module_path)
    assert poison.state == "failed"
    assert causes(poison)["ProcessCrashed"] == MAX_CRASHES
    assert len(rig.notes("swallow")) == poison.crashes <= MAX_CRASHES + 1  # once with others
    good = Job.objects.exclude(id=poison.id)
    assert [job.state for job in good] == ["succeeded"] * GOOD
    hit = [key_of(job) for job in good if job.crashes]
    assert all(causes(job) == {"WorkerDied": 1} for job in good if job.crashes)
    print(f"{len(hit)} neighbours hit, {len(rig.children(worker))} worker processes")
    assert hit
    report = rig.check(committed=[*map(key_of, Job.objects.all())])
    assert [one for one in report.violations if swallow.module_path not in one] == []


def test_a_death_costs_those_nothing_that_were_only_claimed(rig):
    worker, waiting = die_with_jobs_ahead(rig)

    rig.wait_quiet()

    print(f"{waiting} jobs were claimed ahead")
    assert crashed() == ["blocked 0", "blocked 1"]
    report = rig.check(committed=map(key_of, Job.objects.all()))
    assert not report.violations
    assert len(rig.children(worker)) == 3  # a new one, and one for those with a crash


def test_a_parent_that_does_not_tell_them_apart_is_noticed(rig):
    rig.environment[GUARD] = "board"
    rig.settings(modules="tests.process.weakened")

    die_with_jobs_ahead(rig)

    wait_until(lambda: len(crashed()) > 2, deadline=BUSY, why="others count as crashed, too")


def die_with_jobs_ahead(rig: Rig) -> tuple[Tree, int]:
    """Kill a process whose threads are blocked, with jobs that it had claimed for later."""
    rig.settings(poll_interval=0.2)
    worker = rig.worker("--threads", "2")
    show_short_jobs(rig)
    (child,) = rig.children(worker)
    blocked = [((f"blocked {number}",), {"gate": "go"}) for number in range(2)]
    rig.enqueue_many(plain, blocked + [((f"later {n}",), {}) for n in range(GOOD)])
    rig.wait_note("begin", key="blocked 0")
    rig.wait_note("begin", key="blocked 1")
    os.kill(child, signal.SIGSTOP)
    waiting = rig.running() - 2
    assert waiting > 0
    os.kill(child, signal.SIGKILL)
    rig.open_gate("go")
    return worker, waiting


def test_a_job_that_kills_its_process_whenever_it_runs_alone_is_given_up(rig):
    rig.settings(modules="tests.app.poison", max_crashes=MAX_CRASHES)
    worker = rig.worker("--threads", "1")
    rig.enqueue(swallow, "segfault")
    rig.enqueue(plain, "good")

    rig.wait_quiet()

    poison = Job.objects.get(task_path=swallow.module_path)
    assert (poison.state, poison.crashes) == ("failed", MAX_CRASHES)
    assert causes(poison) == {"ProcessCrashed": MAX_CRASHES}
    assert "signal SIGSEGV" in poison.error_list[0]["traceback"]
    rig.wait_note("rescued", times=MAX_CRASHES, job=str(poison.id))  # noted after the commit
    assert [one["state"] for one in rig.notes("rescued", job=str(poison.id))] == [
        *["ready"] * (MAX_CRASHES - 1),
        "failed",
    ]
    good = Job.objects.exclude(id=poison.id).get()
    assert (good.state, good.crashes) == ("succeeded", 0)
    assert not worker.ended


def test_a_job_with_crashes_begins_when_the_one_before_is_recorded(rig):
    rig.settings(modules="tests.process.faults", standstill="finishing")
    rig.worker()
    for key in ("one", "two"):
        rig.enqueue_crashed(plain, key)
    rig.wait_note("finishing")

    with pytest.raises(AssertionError):
        wait_until(lambda: rig.notes("begin")[1:], deadline=A_MOMENT)

    rig.open_gate("finishing")
    rig.wait_quiet()
    assert len(rig.notes("begin")) == 2


def test_a_job_is_not_blamed_for_a_death_that_came_from_outside(rig):
    kill_alone(rig)

    rig.open_gate("go")
    rig.wait_quiet()

    job = Job.objects.get()
    assert (job.state, job.crashes) == ("succeeded", KILLS)
    assert causes(job) == {"WorkerDied": KILLS}


def test_a_worker_that_stops_meanwhile_takes_back_what_its_process_has_left(rig):
    worker = rig.worker("--threads", "1")
    rig.enqueue(plain, "one", gate="go")
    begin = rig.wait_note("begin")

    worker.signal(signal.SIGTERM)
    os.kill(begin["pid"], signal.SIGKILL)

    assert worker.wait() == 0
    job = Job.objects.get()
    assert (job.state, job.crashes) == ("ready", 1)


def test_a_parent_that_blames_it_all_the_same_is_noticed(rig):
    rig.environment[GUARD] = "judgement"
    rig.settings(modules="tests.process.weakened")

    with pytest.raises(AssertionError):
        kill_alone(rig)

    assert Job.objects.get().state == "failed"


def test_flush_queue_survives_such_a_job_and_gives_it_up(rig):
    rig.settings(modules="tests.app.poison", max_crashes=MAX_CRASHES)
    rig.enqueue(swallow, "segfault")
    rig.suspect(Job.objects.get().id)
    rig.enqueue(plain, "good")

    assert rig.django("flush_queue").wait() == 0

    poison = Job.objects.get(task_path=swallow.module_path)
    assert (poison.state, causes(poison)) == ("failed", {"ProcessCrashed": MAX_CRASHES})
    assert not rig.open_jobs()


def kill_alone(rig: Rig) -> None:
    """Kill whatever process runs the only job there is, several times."""
    rig.settings(max_crashes=1, poll_interval=0.2)
    rig.worker("--threads", "1")
    rig.enqueue(plain, "one", gate="go")
    for number in range(KILLS):
        begin = wait_until(
            lambda times=number: rig.notes("begin")[times:],
            deadline=NOT_BUSY,
            why="it runs again",
        )
        os.kill(begin[0]["pid"], signal.SIGKILL)
    wait_until(lambda: rig.notes("begin")[KILLS:], deadline=NOT_BUSY, why="it runs again")


def causes(job: Job) -> Counter[str]:
    """Return how often a job has met each error."""
    paths = [entry["exception_class_path"] for entry in job.error_list]
    return Counter(path.rpartition(".")[2] for path in paths)


def crashed() -> list[str]:
    """Return the keys of the jobs that have a crash on their account."""
    return sorted(key_of(job) for job in Job.objects.filter(crashes__gt=0))


@pytest.mark.parametrize("guard", ["solitude", "counting"])
def test_a_worker_without_this_guard_is_noticed(rig, guard):
    rig.environment[GUARD] = guard
    rig.settings(modules="tests.process.weakened")

    strike(rig)

    assert complaints(rig) != []


def strike(rig: Rig) -> Tree:
    """Run all of them until they have ended, or until there is something to complain about."""
    rig.settings(modules="tests.app.poison", max_crashes=MAX_CRASHES, poll_interval=0.2)
    calls = [((f"good {number}",), {"lasting": LASTING}) for number in range(GOOD)]
    rig.enqueue_many(plain, calls[: GOOD // 2])
    rig.enqueue(swallow, "segfault")
    rig.enqueue_many(plain, calls[GOOD // 2 :])
    worker = rig.worker("--threads", "4")
    wait_until(lambda: complaints(rig) or not rig.open_jobs(), deadline=BUSY)
    return worker


def complaints(rig: Rig) -> list[str]:
    """Return who has run too often. Runs are counted, not claims."""
    good = Counter(one["key"] for one in rig.notes("begin"))
    found = [f"{key} was begun {runs} times" for key, runs in good.items() if runs > 2]
    swallowed = len(rig.notes("swallow"))
    return found + [f"the killer was begun {swallowed} times"] * (swallowed > MAX_CRASHES + 1)
