"""File descriptors: a leak of a task costs its process, and nothing else; high numbers work."""

import os
import resource
import signal
from datetime import timedelta

import pytest
from django.db import connection

from aftercommit.models import Job, Lease
from aftercommit.process import readable
from aftercommit.values import NO_TIME
from aftercommit.worker import descriptors
from aftercommit.worker.descriptors import NEAR, RESERVE, Descriptors
from aftercommit.worker.running.connections import _has_something_to_say
from tests.app.chores import KINDS
from tests.app.leaky import leak, leak_on
from tests.process.checker import key_of
from tests.waiting import wait_until

LIMIT = 72
BUSY = timedelta(minutes=3)
LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({0}, {0}))"
HIGH = 1100  # more than select() takes


def limited(rig, limit=LIMIT):
    """Let what is started from now on have so many descriptors."""
    rig.settings(modules="tests.app.leaky", poll_interval=0.2)
    rig.settings_module(LIMITED.format(limit))
    return rig


def enqueue_among_leaks(rig, leaks: int, number: int) -> None:
    """Enqueue jobs that leak, and good ones of each kind among them."""
    for one in range(leaks):
        rig.enqueue(leak, f"leak {one}", number)
        for kind in KINDS:
            rig.enqueue(kind, f"{kind.name} {one}")


@pytest.mark.parametrize("number", [4, 1000])
def test_a_leak_costs_processes_and_no_job(rig, number):
    limited(rig)
    leaks = 24 if number == 4 else 2
    enqueue_among_leaks(rig, leaks, number)
    worker = rig.worker("--threads", "2")

    rig.wait_quiet(BUSY)
    worker.signal(signal.SIGTERM)

    assert worker.wait() == 0
    if number == 4:
        assert {job.state for job in Job.objects.all()} == {"succeeded"}
    processes = rig.children(worker)
    said = [pid for pid in processes if f"process {pid} has used up its file" in worker.output]
    print(f"{len(said)} of {len(processes)} processes were replaced")
    assert len(said) >= 2
    assert all(worker.output.count(f"process {pid} has used up its file") == 1 for pid in said)
    good = Job.objects.exclude(task_path=leak.module_path)
    assert {job.state for job in good} == {"succeeded"}
    assert not Job.objects.filter(crashes__gt=0)
    if number == 4:
        again = {key_of(job): job.errors for job in good if job.attempts > 1}
        assert not again


def test_a_drain_goes_on_in_the_next_process(rig):
    limited(rig)
    enqueue_among_leaks(rig, 20, 4)

    worker = rig.worker("--drain", "--threads", "2")

    assert worker.wait(BUSY) == 0
    assert "has used up its file descriptors" in worker.output
    assert {job.state for job in Job.objects.all()} == {"succeeded"}


@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_task_that_goes_on_to_open_files_does_not_get_the_reserve(rig, threads):
    """Without it no outcome could be written, and the jobs would count a crash."""
    limited(rig)
    rig.enqueue(leak_on, "leak", "connected", "go on")
    worker = rig.worker("--threads", threads)
    rig.wait_note("leak")
    claimed_until = Lease.objects.get().lease_until
    wait_until(lambda: Lease.objects.get().lease_until > claimed_until, deadline=BUSY)
    rig.open_gate("connected")  # what renews the lease has its connection

    wait_until(lambda: "has used up its file" in worker.output, deadline=BUSY)
    rig.enqueue(KINDS[0], "after it")
    rig.open_gate("go on")
    rig.wait_quiet(BUSY)

    assert {job.state for job in Job.objects.all()} == {"succeeded"}
    assert not Job.objects.filter(crashes__gt=0)
    assert {job.attempts for job in Job.objects.all()} == {1}


def test_above_1024_descriptors_a_worker_works(rig):
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * HIGH:
        pytest.skip(f"the system allows {hard} descriptors")
    limited(rig, 2 * HIGH)
    worker = rig.worker("--threads", "1")
    rig.enqueue(leak, "leak", HIGH)
    rig.wait_note("leak")
    for kind in KINDS * 3:
        rig.enqueue(kind, kind.name)

    rig.wait_quiet(BUSY)

    assert {job.state for job in Job.objects.all()} == {"succeeded"}
    assert len(rig.children(worker)) == 1
    assert "out of range" not in worker.output
    assert "does not answer" not in worker.output


# ---- the parts ------------------------------------------------------------------


@pytest.fixture
def many_open():
    """Open files until the next number is more than select() takes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * HIGH:
        pytest.skip(f"the system allows {hard} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2 * HIGH, hard))
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(HIGH)]
    yield
    for file in files:
        os.close(file)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_high_number_is_waited_for(many_open):
    reader, writer = os.pipe()
    assert reader > 1024
    assert readable(reader) == set()
    os.write(writer, b"!")
    assert readable(reader, limit=timedelta(minutes=1)) == {reader}
    os.close(writer)
    os.close(reader)
    with pytest.raises(OSError, match="descriptor"):
        readable(reader, limit=NO_TIME)


def test_a_connection_with_a_high_number_is_silent(many_open, vendor):
    if vendor == "sqlite":
        pytest.skip("SQLite has no socket")
    connection.close()
    connection.ensure_connection()
    assert not _has_something_to_say(connection.connection)
    connection.close()
    # the next test connects again


def test_they_are_used_up_before_the_last_one_is():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    first = os.dup(2)
    os.close(first)
    resource.setrlimit(resource.RLIMIT_NOFILE, (first + 1 + RESERVE + NEAR + 5, hard))
    try:
        watched = Descriptors()
        files = []
        while not watched.are_used_up():
            watched.release_reserve(in_task=False)
            files.append(os.dup(2))
        assert len(files) == 5
        open_before = len(os.listdir("/proc/self/fd"))
        watched.release_reserve(in_task=True)
        assert len(os.listdir("/proc/self/fd")) == open_before
        watched.release_reserve(in_task=False)
        assert len(os.listdir("/proc/self/fd")) == open_before - RESERVE
        more = [os.dup(2) for _ in range(RESERVE + NEAR - 1)]  # the reserve can be used now
        for file in files + more:
            os.close(file)
        os.close(watched._source)
        assert not watched.are_used_up()  # nobody knows any more
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_tasks_that_last_do_not_keep_the_reserve_for_ever(monkeypatch):
    watched = Descriptors()
    monkeypatch.setattr(watched, "limit", 0)
    assert watched.are_used_up()
    watched.release_reserve(in_task=True)
    assert len(watched._reserve) == RESERVE

    monkeypatch.setattr(descriptors, "STILL_OPENING", NO_TIME)
    watched.release_reserve(in_task=True)

    assert watched._reserve == []
    os.close(watched._source)
