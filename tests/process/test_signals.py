"""Stop signals, at any moment: what is done stays done, what is not is ready at once.

The lease is half a minute in these tests, so nothing here is mended by its end.
"""

import os
import signal
from datetime import timedelta
from threading import Event

import pytest
from django.db import transaction

from tests.app.chores import KINDS, atomic, plain
from tests.app.models import Effect
from tests.process.rig import Rig, Tree, is_alive
from tests.waiting import wait_until

SIGNALS = ("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "ctrl-c")
WAYS = ("--fork", "--no-fork")
FEW_SIGNALS = ("SIGTERM", "ctrl-c")
NEVER = "never-opened"
MINUTE = timedelta(minutes=1)
A_SECOND_THOUGHT = 0.5  # seconds, between two signals


@pytest.mark.parametrize("way", WAYS)
def test_an_idle_worker_ends_in_good_order(rig, way):
    workers = one_for_each(rig, SIGNALS, way)

    for name, worker in workers.items():
        send(name, worker)

    assert {name: worker.wait() for name, worker in workers.items()} == dict.fromkeys(workers, 0)
    assert len(rig.notes("worker_stopped")) == len(workers)


@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_ends_within_the_grace_is_recorded(rig, way):
    workers = one_for_each(rig, SIGNALS, way)
    jobs = enqueue_for(rig, workers, plain, gate="go")
    rig.wait_note("begin", times=len(workers))

    for name, worker in workers.items():
        send(name, worker)
    rig.open_gate("go")

    assert {name: worker.wait() for name, worker in workers.items()} == dict.fromkeys(workers, 0)
    assert {rig.job(job_id).state for job_id in jobs} == {"succeeded"}
    assert not rig.check(committed=workers).violations


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_run_that_outlasts_the_grace_is_given_back(rig, kind):
    # On SQLite the transaction of one atomic task keeps any other from beginning.
    alone = rig.vendor == "sqlite" and kind is atomic
    workers = one_for_each(rig, FEW_SIGNALS[:1] if alone else FEW_SIGNALS, "--grace", "0.5")
    jobs = enqueue_for(rig, workers, kind, gate=NEVER)
    rig.wait_note("begin", times=len(workers))

    for name, worker in workers.items():
        send(name, worker)

    assert {name: worker.wait() for name, worker in workers.items()} == dict.fromkeys(workers, 0)
    assert_given_back_and_run_at_once(rig, jobs, keys=workers)


def test_a_suspect_that_outlasts_the_grace_is_given_back(rig):
    worker = rig.worker("--grace", "0.5")
    job_id = rig.enqueue_crashed(atomic, "one", gate=NEVER)
    begin = rig.wait_note("begin")
    assert begin["pid"] == rig.children(worker)[1]  # of a process of its own

    worker.signal_all(signal.SIGTERM)

    assert worker.wait() == 0
    assert_given_back_and_run_at_once(rig, [job_id], keys=["one"], crashes=1)


@pytest.mark.parametrize("kind", [plain, atomic], ids=lambda kind: kind.name)
def test_a_second_signal_gives_everything_back_at_once(rig, kind):
    worker = rig.worker("--threads", "2")  # with the usual grace of half a minute
    keys = [str(number) for number in range(2)]
    jobs = [rig.enqueue(kind, key, gate=NEVER) for key in keys]
    rig.wait_note("begin", times=1 if rig.vendor == "sqlite" and kind is atomic else 2)

    worker.signal(signal.SIGTERM)
    Event().wait(A_SECOND_THOUGHT)
    worker.signal(signal.SIGTERM)

    assert worker.wait() == 1
    assert_given_back_and_run_at_once(rig, jobs, keys=keys)


def test_a_job_that_was_just_claimed_is_given_back(rig):
    rig.settings(modules="tests.process.faults", standstill="claimed")
    workers = one_for_each(rig, FEW_SIGNALS)
    jobs = enqueue_for(rig, workers, plain)
    rig.wait_note("claimed", times=len(workers))

    for name, worker in workers.items():
        send(name, worker)
    rig.wait_stopping(workers.values())
    rig.open_gate("claimed")

    assert {name: worker.wait() for name, worker in workers.items()} == dict.fromkeys(workers, 0)
    assert not rig.notes("begin")
    assert_given_back_and_run_at_once(rig, jobs, keys=workers)


def test_an_outcome_on_its_way_to_the_table_arrives(rig):
    rig.settings(modules="tests.process.faults", standstill="finishing")
    workers = one_for_each(rig, FEW_SIGNALS)
    jobs = enqueue_for(rig, workers, plain)
    rig.wait_note("finishing", times=len(workers))

    for name, worker in workers.items():
        send(name, worker)
    rig.wait_stopping(workers.values())
    rig.open_gate("finishing")

    assert {name: worker.wait() for name, worker in workers.items()} == dict.fromkeys(workers, 0)
    assert {rig.job(job_id).state for job_id in jobs} == {"succeeded"}
    assert not rig.check(committed=workers).violations


def test_a_drain_that_is_stopped_leaves_the_rest_ready(rig):
    rig.settings(modules="tests.process.faults")
    keys = [str(number) for number in range(20)]
    rig.enqueue_many(plain, [((key,), {"gate": "go"}) for key in keys])
    worker = rig.worker("--drain", "--threads", "2")
    rig.wait_note("begin", times=2)

    worker.signal(signal.SIGTERM)
    rig.wait_stopping([worker])
    rig.open_gate("go")

    assert worker.wait() == 0
    assert (len(rig.notes("begin")), rig.open_jobs(), rig.running()) == (2, 18, 0)
    assert rig.worker("--drain").wait() == 0
    assert rig.check(committed=keys).states == {"succeeded": 20}


def test_a_drain_whose_outcomes_are_not_written_says_so(rig):
    worker = rig.worker("--drain", "--grace", "1")
    job_id = rig.enqueue(plain, "one", gate="go")
    rig.wait_note("begin")
    with transaction.atomic():
        # Another transaction holds the row, or on SQLite the database.
        rig.change_job(job_id, priority=1)
        worker.signal(signal.SIGTERM)
        status = worker.wait()
        said = worker.output
        transaction.set_rollback(True)

    assert status == 1
    assert "Database 'default': the outcomes of 1 job that this worker has claimed" in said


def test_a_grace_of_no_time_is_no_time(rig):
    worker = rig.worker("--grace", "0")
    job_id = rig.enqueue(plain, "one", gate=NEVER)
    rig.wait_note("begin")

    worker.signal(signal.SIGTERM)

    assert worker.wait() == 0
    assert_given_back_and_run_at_once(rig, [job_id], keys=["one"])


@pytest.mark.parametrize("way", WAYS)
def test_the_children_of_a_killed_supervisor_end_by_themselves(rig, way):
    worker = rig.worker("--grace", "1", way, processes=2)
    jobs = [rig.enqueue(plain, key, gate=gate) for key, gate in (("in", "go"), ("out", NEVER))]
    rig.wait_note("begin", times=2)

    worker.signal(signal.SIGKILL)
    rig.open_gate("go")

    wait_until(lambda: not any(map(is_alive, rig.children(worker))), deadline=MINUTE)
    assert rig.job(jobs[0]).state == "succeeded"
    assert_given_back_and_run_at_once(rig, jobs[1:], keys=["in", "out"])


@pytest.mark.parametrize("way", WAYS)
def test_a_child_that_is_told_to_stop_ends_its_runs_and_is_replaced(rig, way):
    worker = rig.worker(way)
    (child,) = rig.children(worker)
    rig.enqueue(plain, "before", gate="go")
    rig.wait_note("begin")

    os.kill(child, signal.SIGTERM)
    rig.open_gate("go")
    rig.wait_started(worker, processes=2)
    rig.enqueue(plain, "after")
    rig.wait_quiet()

    assert [one["pid"] for one in rig.notes("begin")] == rig.children(worker)
    report = rig.check(committed=["before", "after"])
    assert (report.violations, report.crashes) == ([], 0)


@pytest.mark.parametrize("signals", [1, 2])
def test_a_process_that_stands_still_is_killed(rig, signals):
    worker = rig.worker("--grace", "0")
    rig.enqueue(plain, "one", gate=NEVER)
    begin = rig.wait_note("begin")
    os.kill(begin["pid"], signal.SIGSTOP)

    for _number in range(signals):
        worker.signal(signal.SIGTERM)
        Event().wait(A_SECOND_THOUGHT)

    assert worker.wait() == 1
    assert "does not end; it is killed" in worker.output
    assert not is_alive(begin["pid"])


# ---- what these sentences are made of -------------------------------------------


def one_for_each(rig: Rig, names: tuple[str, ...], *arguments: str) -> dict[str, Tree]:
    """Start a worker for each signal, on a queue of its own."""
    workers = {name: rig.worker("--queues", name, *arguments, ready=False) for name in names}
    for worker in workers.values():
        rig.wait_started(worker)
    return workers


def enqueue_for(rig: Rig, workers: dict[str, Tree], kind, **how: str) -> list[str]:
    """Give each of these workers one job; its key is the name of the signal."""
    return [rig.enqueue(kind.using(queue_name=name), name, **how) for name in workers]


def send(name: str, worker: Tree) -> None:
    """Send a signal; Ctrl-C on a terminal reaches every process of the group."""
    if name == "ctrl-c":
        worker.signal_all(signal.SIGINT)
    else:
        worker.signal(signal.Signals[name])


def assert_given_back_and_run_at_once(rig: Rig, jobs: list[str], *, keys, crashes=0) -> None:
    """Check that no attempt was spent and nothing waits for a lease or a moment."""
    for job in map(rig.job, jobs):
        assert (job.state, job.attempts, job.crashes) == ("ready", crashes, crashes)
        assert (job.lease_until, job.worker_id) == (None, None)
    assert not Effect.objects.filter(key__in=[rig.job(job_id).args[0] for job_id in jobs])
    rig.open_gate(NEVER)
    rig.settings(standstill="")

    assert rig.worker("--drain").wait() == 0

    report = rig.check(committed=keys)
    assert (report.violations, report.crashes) == ([], crashes)
