"""Tasks that fork: their children obey signals, and hold nothing of the worker."""

import os
import signal

import pytest

from tests.app.models import Effect
from tests.process import pooling
from tests.process.rig import QUIET, Job


@pytest.fixture
def pooled(rig):
    """Return a rig with these tasks."""
    rig.settings(modules="tests.process.pooling")
    return rig


@pytest.mark.parametrize("way", ["--fork", "--no-fork"])
@pytest.mark.parametrize("task", [pooling.pool, pooling.pool_in_a_transaction])
def test_a_pool_computes_and_ends(pooled, vendor, task, way):
    if vendor == "sqlite" and task is pooling.pool:
        pytest.skip("SQLite does not allow a child to use the file of its parent")
    jobs = [pooled.enqueue(task, [1, 2, 3]) for _ in "12"]

    assert pooled.worker("--drain", "--threads", "1", way).wait(QUIET) == 0

    assert {pooled.job(one).state for one in jobs} == {"succeeded"}
    assert pooled.job(jobs[0]).return_value == [2, 4, 6]
    keys = sorted(effect.key for effect in Effect.objects.all())
    assert [key for key in keys if "child" not in key] == ["after"] * 2 + ["before"] * 2
    assert len(keys) == (4 if task is pooling.pool_in_a_transaction else 10)


@pytest.fixture
def hangup():
    """Let processes obey SIGHUP, also where nohup has the tests ignore it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangup")
@pytest.mark.parametrize("command", ["worker", "flush_queue"])
def test_the_children_of_a_task_end_by_the_signals_that_ask_for_it(pooled, command):
    job_id = pooled.enqueue(pooling.children_obey, "key")

    tree = pooled.worker("--drain") if command == "worker" else pooled.django("flush_queue")
    assert tree.wait(QUIET) == 0

    ends = [-number for number in (signal.SIGTERM, signal.SIGHUP)]
    assert pooled.job(job_id).return_value == ends


@pytest.mark.parametrize("way", ["--fork", "--no-fork"])
def test_a_child_that_outlives_its_worker_holds_nothing_of_it(pooled, way):
    job_id = pooled.enqueue(pooling.leave_a_child, "key")
    worker = pooled.worker(way)
    stays = pooled.wait_note("stays")
    worker.kill()
    try:
        assert stays["open"] == 0
        os.kill(stays["child"], 0)  # it lives

        assert pooled.worker("--drain").wait(QUIET) == 0

        assert Job.objects.get(pk=job_id).state == "succeeded"
    finally:
        os.kill(stays["child"], signal.SIGKILL)
