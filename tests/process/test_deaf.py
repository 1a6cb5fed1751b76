"""Processes of which no thread gets its turn: they are replaced, and no stop waits for them."""

import os
import signal
import tempfile
from datetime import timedelta

import pytest

from aftercommit.models import Job
from aftercommit.worker.processes.channel import Channel
from aftercommit.worker.processes.supervisor import BEYOND_GRACE
from tests.app.chores import plain
from tests.app.deaf import harm, harm_atomic
from tests.process.rig import is_alive
from tests.process.test_collateral import causes
from tests.waiting import wait_until

BUSY = timedelta(minutes=2)
GRACE = 2  # seconds
BEFORE_ALL_ARE_KILLED = timedelta(seconds=GRACE) + BEYOND_GRACE  # deaf or not
DEAF = ("expression", "sleep", "stopped")


@pytest.fixture
def deaf(rig):
    rig.settings(modules="tests.app.deaf", max_crashes=2, poll_interval=0.2)
    return rig


@pytest.mark.parametrize("name", DEAF)
def test_a_deaf_process_is_replaced_and_its_job_is_blamed(deaf, name):
    job_id = deaf.enqueue(harm, name)
    worker = deaf.worker("--threads", "1", "--watchdog", "2")
    first = deaf.wait_note("harm")["pid"]

    deaf.enqueue(plain, "good")
    deaf.wait_quiet(BUSY)

    assert not is_alive(first)
    assert len(deaf.notes("harm")) == 2
    assert f"Worker process {first} shows no sign of life" in worker.output
    assert job_id in worker.output
    job = deaf.job(job_id)
    assert (job.state, job.crashes) == ("failed", 2)
    assert causes(job) == {"ProcessCrashed": 2}
    assert "no sign of life" in job.error_list[0]["traceback"]
    good = Job.objects.exclude(id=job_id).get()
    assert (good.state, good.crashes, good.attempts) == ("succeeded", 0, 1)


def test_neighbours_of_a_deaf_call_run_again_and_are_not_blamed(deaf):
    worker = deaf.worker("--threads", "3", "--watchdog", "2")
    neighbours = [deaf.enqueue(plain, key, gate="go") for key in ("one", "two")]
    deaf.wait_note("begin", times=2)
    job_id = deaf.enqueue(harm, "expression")
    deaf.wait_note("harm")

    deaf.open_gate("go")
    deaf.wait_quiet(BUSY)

    assert worker.output.count("shows no sign of life") == 3  # once with the others
    assert causes(deaf.job(job_id)) == {"WorkerDied": 1, "ProcessCrashed": 2}
    for one in map(deaf.job, neighbours):
        assert one.state == "succeeded"
        assert causes(one) == {"WorkerDied": 1}


def test_without_a_watchdog_it_is_left_alone(deaf):
    worker = deaf.worker("--threads", "1", "--watchdog", "0", "--grace", str(GRACE))
    deaf.enqueue(harm, "expression")
    pid = deaf.wait_note("harm")["pid"]
    with pytest.raises(AssertionError):
        wait_until(lambda: not is_alive(pid), deadline=timedelta(seconds=4))
    worker.signal(signal.SIGTERM)

    assert worker.wait() == 1


@pytest.mark.parametrize(
    ("name", "task"), [*((name, harm) for name in DEAF), ("expression", harm_atomic)]
)
def test_a_stop_ends_with_its_grace(deaf, name, task):
    worker = deaf.worker("--threads", "1", "--grace", str(GRACE))
    job_id = deaf.enqueue(task, name)
    pid = deaf.wait_note("harm")["pid"]

    worker.signal(signal.SIGTERM)

    assert worker.wait(BEFORE_ALL_ARE_KILLED) == 1
    assert f"Worker process {pid} does not end; it is killed" in worker.output
    assert not is_alive(pid)
    job = deaf.job(job_id)  # taken back within two seconds, or rescued by the next worker
    assert job.state in {"ready", "running"}
    assert not causes(job)["ProcessCrashed"]


@pytest.mark.parametrize(
    ("task", "way"),
    [(harm, "--fork"), (harm_atomic, "--no-fork")],
    ids=lambda one: getattr(one, "name", one),
)
def test_a_process_whose_descriptors_a_task_has_closed_is_replaced(deaf, task, way):
    worker = deaf.worker("--threads", "2", way)
    neighbour = deaf.enqueue(plain, "neighbour", gate="go")
    deaf.wait_note("begin")
    job_id = deaf.enqueue(task, "descriptors")
    pid = deaf.wait_note("harm")["pid"]
    deaf.open_gate("go")
    later = [deaf.enqueue(plain, str(number)) for number in range(5)]

    deaf.wait_quiet(BUSY)

    assert f"The descriptors of worker process {pid} were closed" in worker.output
    assert not is_alive(pid)
    job = deaf.job(job_id)
    assert (job.state, causes(job)["ProcessCrashed"]) == ("failed", 2)
    good = [deaf.job(one) for one in (neighbour, *later)]
    assert {one.state for one in good} == {"succeeded"}
    assert all(one.attempts == 1 + one.crashes and one.crashes <= 1 for one in good)
    assert not any(causes(one)["ProcessCrashed"] for one in good)


def test_nothing_is_written_to_a_descriptor_that_is_somebody_elses():
    ours, theirs = Channel.pair()
    number = ours.fileno()
    assert ours.send(first=True)
    with tempfile.TemporaryFile() as file:
        os.close(number)
        os.dup2(file.fileno(), number)

        assert not ours.is_intact
        assert not ours.send(second=True)

        assert file.seek(0, os.SEEK_END) == 0
        ours.close()
        os.close(number)  # it is not closed by us
    assert list(theirs.arrived()) == [{"first": True}]
    theirs.close()
