"""One worker process, run in this one: from the first claim to the last outcome."""

import os
import threading
from datetime import timedelta

import pytest

from aftercommit import enqueue_many
from aftercommit.errors import TimedOut
from aftercommit.models import Job, State
from aftercommit.options.worker import WorkerConfig
from aftercommit.worker import facts
from aftercommit.worker.quota import RunQuota
from aftercommit.worker.running import timeouts
from aftercommit.worker.worker import REPLACE_ME, Worker
from tests.waiting import wait_until
from tests.worker.rig import commits, work

pytestmark = commits

A_MOMENT = timedelta(milliseconds=50)
HOUR = timedelta(hours=1)


@pytest.fixture
def backends(transactional_db, settings):
    """Let two backends keep their jobs in one database, and no other."""
    default = settings.TASKS["default"]
    settings.TASKS = {"default": default, "second": default}


# ---- what is known of a task --------------------------------------------------------------


def say_thread():
    """Return which thread runs this."""
    return threading.get_ident()


def test_a_task_is_looked_up_once_for_each_backend(backends, declare, monkeypatch):
    asked = []
    policy_of = facts.policy_of
    monkeypatch.setattr(
        facts, "policy_of", lambda *given: asked.append(given[0].module_path) or policy_of(*given)
    )
    say = declare(say_thread)
    for backend in ("default", "second"):
        enqueue_many(say.using(backend=backend), [()] * 50)

    assert work(threads=2) == 0

    assert Job.objects.filter(state=State.SUCCEEDED).count() == 100
    assert asked == [say.module_path] * 2


def test_a_drain_runs_what_it_can_and_ends_although_the_rest_is_due(backends, declare, store):
    say = declare(say_thread)
    rest = enqueue_many(say.using(priority=50), [()] * 300)
    for number, columns in enumerate(
        [{"backend": "gone"}, {"task_path": "shop.tasks.gone"}, {"crashes": 1, "backend": "gone"}]
    ):
        Job.objects.filter(id__in=rest[number::3]).update(**columns)
    (odd,) = enqueue_many(say.using(priority=60), [()])
    Job.objects.filter(id=odd).update(payload="{")
    ours = enqueue_many(say, [()] * 5)

    assert work(threads=2) == 0

    assert Job.objects.filter(id__in=ours, state=State.SUCCEEDED).count() == 5
    assert Job.objects.get(id=odd).state == State.FAILED
    left = Job.objects.filter(id__in=rest, state=State.READY, attempts=0)
    assert left.count() == 300


def no_run():
    """Be declared with options that make no sense."""
    raise AssertionError("this run must not begin")


def test_a_task_whose_errors_have_no_such_class_fails_and_says_so(backends, declare):
    wrong = declare(no_run, retry_on="tests.no.SuchError", max_attempts=5)
    say = declare(say_thread)
    ids = [one.enqueue().id for one in (say, wrong, say)]

    assert work(threads=1) == 0

    good, bad, again = (Job.objects.get(pk=one) for one in ids)
    assert (bad.state, bad.attempts, bad.token) == (State.FAILED, 1, 1)
    (error,) = bad.error_list
    assert error["exception_class_path"] == "aftercommit.errors.ConfigurationError"
    assert "tests.no.SuchError" in error["traceback"]
    assert good.return_value == again.return_value is not None  # one thread has run both


def test_a_task_of_which_nothing_can_be_found_out_costs_no_other_job_anything(
    backends, declare, monkeypatch
):
    wrong, say = declare(no_run), declare(say_thread)
    real = facts.policy_of

    def policy_of(task, options):
        if task is wrong:
            raise RuntimeError("a module that it names does not load")
        return real(task, options)

    monkeypatch.setattr(facts, "policy_of", policy_of)
    ids = [one.enqueue().id for one in (say, wrong, say)]

    assert work(threads=1) == 0

    good, bad, again = (Job.objects.get(pk=one) for one in ids)
    assert (good.state, bad.state, again.state) == ("succeeded", "failed", "succeeded")
    assert "does not load" in bad.error_list[0]["traceback"]


# ---- a body that does not react -----------------------------------------------------------


class InC:
    """Where bodies wait in C, where no exception reaches."""

    def __init__(self):
        self._read, self._write = os.pipe()
        self.ended = threading.Event()

    def wait(self):
        try:
            os.read(self._read, 1)
        finally:  # the interrupt has waited for this moment
            self.ended.set()

    def let_go(self):
        os.write(self._write, b"x")
        assert self.ended.wait(20)

    def close(self):
        os.close(self._read)
        os.close(self._write)


@pytest.fixture
def in_c(monkeypatch):
    """Return the place where a body waits; those that do not react are given up soon."""
    monkeypatch.setattr(timeouts, "PATIENCE", A_MOMENT)
    place = InC()
    monkeypatch.setitem(globals(), "IN_C", place)
    yield place
    place.close()


IN_C = None


def wait_in_c():
    """Wait until the test lets go."""
    IN_C.wait()


@pytest.mark.parametrize(
    ("options", "state", "delay"),
    [
        ({"discard_on": TimedOut}, State.FAILED, None),
        ({"retry_on": ValueError}, State.FAILED, None),
        ({"max_attempts": 1}, State.FAILED, None),
        ({"backoff": HOUR}, State.READY, HOUR),
        ({"backoff": lambda failed_runs: failed_runs * 2 * HOUR}, State.READY, 2 * HOUR),
    ],
    ids=["discard_on", "retry_on", "no attempt left", "backoff", "backoff by a function"],
)
def test_a_body_that_cannot_be_interrupted_ends_as_its_task_says_of_timeouts(
    backends, declare, in_c, options, state, delay
):
    job_id = declare(wait_in_c, timeout=A_MOMENT, **{"max_attempts": 3, **options}).enqueue().id

    assert work(threads=1) == REPLACE_ME

    job = Job.objects.get(pk=job_id)
    assert (job.state, job.attempts) == (state, 1)
    (error,) = job.error_list
    assert error["exception_class_path"] == "aftercommit.errors.TimedOut"
    if delay is not None:
        assert delay <= job.run_after - job.claimed_at < delay + HOUR / 2
    in_c.let_go()


def test_what_such_a_body_does_in_the_end_changes_nothing(backends, declare, in_c):
    job_id = declare(wait_in_c, timeout=A_MOMENT, max_attempts=1).enqueue().id
    worker = Worker(WorkerConfig(drain=True, threads=1), quota=RunQuota(None))
    worker.run()
    before = Job.objects.get(pk=job_id)

    in_c.let_go()
    wait_until(lambda: worker._capacity.all_free, why="the run is over")

    after = Job.objects.get(pk=job_id)
    assert (after.state, after.finished_at) == (before.state, before.finished_at)
    assert worker.done == 1
    assert worker.running == 0
    assert worker._aliases[0]._rooms.finisher.empty  # else it would be told as a lost claim


def test_a_process_that_is_replaced_waits_for_its_jobs_once(backends, declare, in_c):
    job_id = declare(wait_in_c).enqueue().id
    worker = Worker(WorkerConfig(threads=1, grace=HOUR), quota=RunQuota(None))
    ended = []
    thread = threading.Thread(target=lambda: ended.append(worker.run()))
    thread.start()
    wait_until(worker._bodies, why="the body has begun")

    worker.ask_for_replacement("for this test")
    worker._replaced_by -= HOUR.total_seconds()  # the grace is over
    thread.join(20)

    assert ended == [REPLACE_ME]
    job = Job.objects.get(pk=job_id)
    assert (job.state, job.attempts) == (State.READY, 0)
    in_c.let_go()
