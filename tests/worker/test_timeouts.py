"""Timeouts: runs that take longer than they may."""

import os
import threading
from datetime import timedelta

import pytest
from django.db import connections

from aftercommit.models import State
from aftercommit.values import Failed
from aftercommit.worker import runs
from aftercommit.worker.running import timeouts as timeouts_module
from aftercommit.worker.running.timeouts import IDLE, LOOK_EVERY, PATIENCE, Timeouts
from aftercommit.worker.runs import now
from aftercommit.worker.upkeep.loop import LoopThread
from tests.waiting import wait_until
from tests.worker.rig import AT_ONCE, commits

pytestmark = commits

SHORT, LONG = timedelta(milliseconds=50), timedelta(minutes=10)
DEADLINE = timedelta(seconds=20)
A_MOMENT = timedelta(milliseconds=200)


@pytest.fixture
def given_up():
    """Return the runs that were given up."""
    return []


@pytest.fixture
def timeouts(rig, given_up):
    """Return what ends overdue runs of the rig."""
    return Timeouts([rig.runs], give_up=given_up.append)


@pytest.fixture
def at_work(timeouts):
    """Let it look as often as it says, in a thread of its own."""
    loop_thread = LoopThread("timeouts", timeouts.step)
    loop_thread.start()
    yield
    loop_thread.stop()
    assert loop_thread.join(DEADLINE)


@pytest.fixture
def clock(monkeypatch):
    """Return a function that puts the clock of this process forward."""
    ahead = [0.0]
    for module in (timeouts_module, runs):
        monkeypatch.setattr(module, "now", lambda: now() + ahead[0])

    def put_forward(span):
        ahead[0] += span.total_seconds()

    return put_forward


def loop(context):
    """Stay in Python code until something is raised there."""
    wait_until(lambda: False, deadline=DEADLINE, why="the body is interrupted")


@pytest.mark.parametrize("atomic", [False, True])
def test_a_python_loop_is_interrupted(rig, at_work, given_up, atomic):
    job = rig.run(loop, timeout=SHORT, atomic=atomic, max_attempts=1)

    assert job.state == State.FAILED
    assert job.error_list[0]["exception_class_path"] == "aftercommit.errors.TimedOut"
    assert given_up == []


def test_a_timeout_is_tried_again_as_any_failure(rig, at_work):
    job = rig.run(loop, timeout=SHORT, max_attempts=2, backoff=AT_ONCE)
    assert job.state == State.READY

    job = rig.run_again(job.pk)

    assert job.state == State.FAILED
    assert len(job.error_list) == 2


@pytest.mark.parametrize("timeout", [None, LONG], ids=["no limit", "a long one"])
def test_a_run_within_its_time_is_left_alone(rig, at_work, timeout):
    def body(context):
        threading.Event().wait(A_MOMENT.total_seconds())
        return "undisturbed"

    job = rig.run(body, timeout=timeout, max_attempts=1)

    assert job.return_value == "undisturbed"


def test_without_limits_there_is_little_to_look_at(rig, timeouts):
    waits = []

    def body(context):
        waits.append(timeouts.step())

    rig.run(body)
    rig.run(body, timeout=LONG)

    assert waits == [IDLE, LOOK_EVERY]


def test_a_body_that_is_over_is_not_interrupted(rig, timeouts, clock, given_up):
    run = rig.hold(rig.claim(rig.enqueue(lambda context: "done", timeout=LONG)))
    ran = rig.execute_run(run)
    clock(LONG * 2)

    timeouts.step()
    rig.finish(run.claim, ran)

    assert run.interrupted_at is None
    assert given_up == []
    assert rig.job(run.claim.job_id).state == State.SUCCEEDED


class InC:
    """A thread that runs a body which waits in C, where no exception reaches."""

    def __init__(self, rig):
        self._read, self._write = os.pipe()
        self.began = threading.Event()
        self.rans = []
        job_id = rig.enqueue(self._body, timeout=LONG, max_attempts=1)
        self.run = rig.hold(rig.claim(job_id))
        self._thread = threading.Thread(target=self._work, args=[rig], daemon=True)
        self._thread.start()
        assert self.began.wait(DEADLINE.total_seconds())

    def _body(self, context):
        self.began.set()
        os.read(self._read, 1)
        threading.Event().wait(DEADLINE.total_seconds())  # the interrupt comes before

    def _work(self, rig):
        try:
            self.rans.append(rig.executor.run(self.run))
        finally:
            connections.close_all()

    def end(self):
        """Let the call return."""
        os.write(self._write, b"x")
        self._thread.join(DEADLINE.total_seconds())

    def close(self):
        """End it, if the test did not, and close the pipe."""
        self.end()
        os.close(self._read)
        os.close(self._write)


@pytest.fixture
def in_c(rig):
    """Return a run whose body waits in C until it is told to end."""
    in_c = InC(rig)
    yield in_c
    in_c.close()


def test_a_body_in_c_is_given_up_after_a_while_and_once(timeouts, clock, given_up, in_c):
    timeouts.step()
    assert in_c.run.interrupted_at is None

    clock(LONG)
    timeouts.step()
    assert in_c.run.interrupted_at is not None
    assert given_up == []

    clock(PATIENCE + A_MOMENT)
    timeouts.step()
    timeouts.step()
    in_c.end()

    assert given_up == [in_c.run]
    assert in_c.run.given_up


def test_a_body_in_c_that_returns_in_time_is_interrupted_then(timeouts, clock, given_up, in_c):
    clock(LONG)
    timeouts.step()
    in_c.end()
    clock(PATIENCE * 2)
    timeouts.step()

    (ran,) = in_c.rans
    assert isinstance(ran.outcome, Failed)
    assert ran.outcome.error.exception_class_path == "aftercommit.errors.TimedOut"
    assert given_up == []
