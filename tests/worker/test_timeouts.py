"""Timeouts: runs that take longer than they may."""

import os
import signal
import threading
import time
from datetime import timedelta

import pytest
from django.db import connections

from aftercommit.enqueue.outcomes import Cancel
from aftercommit.errors import ClaimLost, Stopped, TimedOut
from aftercommit.models import State
from aftercommit.values import Cancelled, Failed, Succeeded
from aftercommit.worker import interrupts, runs
from aftercommit.worker.interrupts import WAKE, interruptible, wake
from aftercommit.worker.running import timeouts as timeouts_module
from aftercommit.worker.running.timeouts import IDLE, LOOK_EVERY, PATIENCE, Timeouts
from aftercommit.worker.runs import now
from aftercommit.worker.upkeep.loop import LoopThread
from tests.waiting import wait_until
from tests.worker.rig import AT_ONCE, commits, effects, leave, sql

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
    last = job.error_list[0]["traceback"].splitlines()[-1]
    assert last.endswith(f"The task ran longer than its timeout of {SHORT}.")
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


# ---- at the edges of the body -----------------------------------------------------------------


def interrupted(monkeypatch, edge, *errors):
    """Let exceptions be pending when a run calls ``edge`` for the first time, or leaves it."""
    plain, left = getattr(runs.Run, edge), [*errors]

    def wrapped(run, *args):
        if edge == "_enter":
            plain(run, *args)
        while left:
            run.interrupt(left.pop(0))  # raised at once: this is the thread of the body
        if edge == "_leave":
            plain(run)

    monkeypatch.setattr(runs.Run, edge, wrapped)


def held(rig, body, **options):
    return rig.hold(rig.claim(rig.enqueue(body, timeout=LONG, **options)))


def disturbed(run, why):
    """Return whether an interrupt still has an effect in this thread."""
    try:
        run.interrupt(why)
        for _step in range(100):
            time.sleep(0)
    except why:
        return True
    return run.in_body


INTERRUPTS = [TimedOut, Cancel, ClaimLost, Stopped]


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("why", INTERRUPTS)
def test_an_interrupt_that_comes_when_the_body_has_returned_changes_nothing(
    rig, monkeypatch, why, atomic
):
    interrupted(monkeypatch, "_leave", why)
    run = held(rig, lambda context: "done", atomic=atomic)

    ran = rig.execute_run(run)

    assert not disturbed(run, TimedOut)
    rig.finish(run.claim, ran)
    job = rig.job(run.claim.job_id)
    assert (job.state, job.return_value) == (State.SUCCEEDED, "done")


def test_of_two_interrupts_after_the_body_none_comes_later(rig, monkeypatch):
    interrupted(monkeypatch, "_leave", Cancel, TimedOut)
    run = held(rig, lambda context: "done")

    ran = rig.execute_run(run)

    assert run._why is TimedOut
    assert not disturbed(run, ClaimLost)
    assert ran.outcome == Succeeded('"done"')


def test_the_error_of_the_body_is_the_one_that_is_told(rig, monkeypatch):
    interrupted(monkeypatch, "_leave", TimedOut)

    def body(context):
        raise ValueError("of the body")

    run = held(rig, body, max_attempts=1)
    ran = rig.execute_run(run)

    assert ran.outcome.error.exception_class_path == "builtins.ValueError"
    assert not disturbed(run, ClaimLost)


def test_what_is_no_interrupt_of_ours_is_raised(rig, monkeypatch):
    plain = runs.Run._leave

    def leave(run):
        plain(run)
        raise KeyboardInterrupt

    monkeypatch.setattr(runs.Run, "_leave", leave)
    run = held(rig, lambda context: "done")

    with pytest.raises(KeyboardInterrupt):
        run.body(lambda: None, timeout=LONG)


def test_a_lock_that_an_interrupt_has_left_taken_keeps_no_thread(rig, monkeypatch):
    plain = runs.Run._leave

    def leave(run):
        monkeypatch.setattr(runs.Run, "_leave", plain)
        run._lock.acquire()
        raise TimedOut

    monkeypatch.setattr(runs.Run, "_leave", leave)
    run = held(rig, lambda context: "done")

    ran = rig.execute_run(run)

    assert ran.outcome == Succeeded('"done"')
    assert not run.in_body


@pytest.mark.parametrize("atomic", [False, True])
def test_an_interrupt_before_the_first_step_of_the_body_ends_it(rig, monkeypatch, atomic):
    interrupted(monkeypatch, "_enter", TimedOut)
    begun = []
    run = held(rig, begun.append, max_attempts=1, atomic=atomic)

    ran = rig.execute_run(run)

    assert begun == []
    assert isinstance(ran.outcome, Failed)
    assert ran.outcome.error.exception_class_path == "aftercommit.errors.TimedOut"
    assert not disturbed(run, ClaimLost)


# ---- in the main thread, which a signal reaches ---------------------------------------------


def sleep(context):
    """Wait in C, for longer than a test does."""
    time.sleep(DEADLINE.total_seconds())


def test_in_the_main_thread_a_wait_in_c_is_interrupted(rig, at_work, given_up):
    with interruptible():
        job = rig.run(sleep, timeout=SHORT, max_attempts=1)

    assert job.state == State.FAILED
    assert job.error_list[0]["exception_class_path"] == "aftercommit.errors.TimedOut"
    assert given_up == []


def test_a_job_without_a_limit_that_is_cancelled_leaves_its_wait_at_once(rig):
    """Nothing looks at such a run now and then."""
    left, in_time = threading.Event(), []

    def body(context):
        try:
            sleep(context)
        finally:
            left.set()

    def cancel():
        run.ask_to_stop()
        in_time.append(left.wait(DEADLINE.total_seconds() / 2))

    run = rig.hold(rig.claim(rig.enqueue(body)))
    cancelling = threading.Timer(A_MOMENT.total_seconds(), cancel)
    cancelling.start()

    with interruptible():
        ran = rig.execute_run(run)

    cancelling.join()
    assert isinstance(ran.outcome, Cancelled)
    assert in_time == [True]


def test_a_signal_that_comes_just_before_the_wait_is_followed_by_another(
    rig, at_work, monkeypatch
):
    sent, kill = [], signal.pthread_kill

    def lose_the_first(*given):
        sent.append(given)
        if len(sent) > 1:
            kill(*given)

    monkeypatch.setattr(interrupts.signal, "pthread_kill", lose_the_first)
    with interruptible():
        job = rig.run(sleep, timeout=SHORT, max_attempts=1)

    assert job.state == State.FAILED
    assert len(sent) >= 2


def test_a_body_that_cleans_up_for_long_is_not_woken_again_and_again(rig, monkeypatch, clock):
    woken = []
    monkeypatch.setattr(runs, "wake", woken.append)

    def body(context):
        run._why, run.interrupted_at = TimedOut, now()  # and it has been raised
        for _look in range(3):
            run.nudge()
            clock(timedelta(seconds=0.6))

    run = rig.hold(rig.claim(rig.enqueue(body, timeout=LONG)))
    rig.execute_run(run)

    assert len(woken) == 2


@pytest.mark.parametrize("atomic", [False, True])
def test_in_the_main_thread_a_statement_that_takes_long_is_interrupted(
    rig, at_work, given_up, vendor, atomic
):
    if vendor == "sqlite":
        pytest.skip("SQLite computes in this process, and waits for nothing")
    seconds = DEADLINE.total_seconds()
    slow = f"SELECT pg_sleep({seconds})" if vendor == "postgresql" else f"SELECT SLEEP({seconds})"

    def body(context):
        leave("undone")
        sql(slow)

    with interruptible():
        job = rig.run(body, timeout=SHORT, max_attempts=2, atomic=atomic)

    assert job.state == State.READY  # it is tried again, as after any timeout
    assert job.error_list[0]["exception_class_path"] == "aftercommit.errors.TimedOut"
    assert given_up == []
    assert effects("undone") == (0 if atomic else 1)
    if vendor == "postgresql":  # the server goes on until it notices that nobody listens
        ours = "datname = current_database() AND query LIKE 'SELECT pg_sleep%'"
        sql(f"SELECT pg_terminate_backend(pid, 9000) FROM pg_stat_activity WHERE {ours}")


def test_the_signal_alone_ends_nothing(monkeypatch):
    sent, kill = [], signal.pthread_kill
    monkeypatch.setattr(interrupts.signal, "pthread_kill", lambda *given: sent.append(given))
    before = signal.getsignal(WAKE)
    wake(threading.get_ident())
    with interruptible():
        kill(threading.get_ident(), WAKE)
        time.sleep(0)
        wake(threading.get_ident())
        wake(threading.get_ident() + 1)
    wake(threading.get_ident())

    assert len(sent) == 1
    assert signal.getsignal(WAKE) == before


def test_a_handler_of_the_project_stays(monkeypatch):
    heard = []
    before = signal.signal(WAKE, lambda *_given: heard.append(1))
    try:
        with interruptible():
            wake(threading.get_ident())
            signal.raise_signal(WAKE)
    finally:
        signal.signal(WAKE, before)

    assert heard == [1]
