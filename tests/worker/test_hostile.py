"""Whatever a run raises or returns: its outcome is recorded, and its thread goes on."""

import logging
import threading
from contextlib import nullcontext
from datetime import timedelta

import pytest
from django.db import DatabaseError

from aftercommit.models import State
from aftercommit.values import Failed, Retry, Succeeded
from aftercommit.worker.running.batches import Batches
from aftercommit.worker.running.pool import end_after
from aftercommit.worker.upkeep.loop import LoopThread
from aftercommit.worker.upkeep.trouble import TRIES
from tests.app.hostile import EXCEPTIONS, VALUES, ExitingText, RaisingTraceback
from tests.worker.batched import batch_task
from tests.worker.rig import commits
from tests.worker.test_pool import DEADLINE, crew

__all__ = ["crew"]
pytestmark = commits


def raiser(name):
    """Return a body that raises one of the exceptions."""

    def body(context):
        raise EXCEPTIONS[name]()

    return body


def returner(name):
    return lambda context: VALUES[name]()


def asynchronous(body):
    async def abody(context):
        return body(context)

    return abody


def committer(body):
    """Return a body that ends inside ``context.commit()``."""

    def commit(context):
        with context.commit() as finish:
            finish.return_value = body(context)

    return commit


BODIES = {name: raiser(name) for name in EXCEPTIONS} | {name: returner(name) for name in VALUES}
KINDS = {
    "plain": lambda body: (body, {}),
    "atomic": lambda body: (body, {"atomic": True}),
    "commit": lambda body: (committer(body), {}),
    "async": lambda body: (asynchronous(body), {}),
}


@pytest.fixture(autouse=True)
def loud():
    """Let a handler format every record, as that of a project does."""
    logger = logging.getLogger("aftercommit")
    handler = logging.StreamHandler()
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", BODIES)
def test_it_fails_and_the_thread_runs_the_next_job(rig, crew, name, kind):
    one = crew(threads=1)
    body, options = KINDS[kind](BODIES[name])
    bad = one.submit(body, max_attempts=1, **options)
    good = one.submit(lambda context: "good")

    ends = one.wait(2)

    assert isinstance(ends[bad].outcome, Failed)
    assert ends[good].outcome == Succeeded('"good"')
    for run, result in ends.items():
        rig.finish(run.claim, result)
    assert rig.job(bad.claim.job_id).state == State.FAILED
    assert rig.job(bad.claim.job_id).error_list
    assert len(rig.written) == 2


@pytest.mark.parametrize("name", BODIES)
def test_it_is_tried_as_often_as_any_other(rig, name):
    job = rig.run(BODIES[name], max_attempts=2, retry_on=(BaseException,))
    assert job.state == State.READY

    assert rig.run_again(job.id).state == State.FAILED


@pytest.mark.parametrize("name", BODIES)
def test_in_a_shared_transaction_the_others_succeed(together, name):
    together.add("before")
    together.add("bad", lambda: BODIES[name](None), max_attempts=1)
    together.add("after")

    together.run()

    assert together.states() == {"before": "succeeded", "bad": "failed", "after": "succeeded"}


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_of_a_batch_task_the_others_succeed(rig, name):
    def many(calls):
        calls[0].succeed("good")
        calls[1].fail(EXCEPTIONS[name]())
        raise EXCEPTIONS[name]()

    good, told, raised = run_batch(rig, many)

    assert good == Succeeded('"good"')
    assert isinstance(told, Failed)
    assert isinstance(raised, Failed)


@pytest.mark.parametrize("name", VALUES)
def test_of_a_batch_task_one_result_that_cannot_be_stored_is_one_failure(rig, name):
    def many(calls):
        calls[0].succeed("good")
        calls[1].succeed(VALUES[name]())
        calls[2].succeed("good")

    first, bad, last = run_batch(rig, many)

    assert first == last == Succeeded('"good"')
    assert isinstance(bad, Failed)


def run_batch(rig, many):
    task = batch_task(many, max_attempts=1)
    runs = [rig.hold(rig.claim(rig.enqueue_task(task.using(), number))) for number in range(3)]
    ends = Batches(rig.executor, rig.store).run(runs, lambda _runs: nullcontext())
    return [result.outcome for _run, result in ends]


class ExitingError(DatabaseError):
    """An error of a database router or backend of the project."""

    def __str__(self):
        raise SystemExit("its text")


@pytest.mark.parametrize("kind", [ExitingText, RaisingTraceback, ExitingError])
def test_a_log_that_cannot_be_written_does_not_end_a_service_thread(kind):
    steps = []
    gone_on = threading.Event()

    def step():
        steps.append(1)
        if len(steps) <= TRIES:
            raise kind
        gone_on.set()
        return timedelta(minutes=1)

    loop = LoopThread("hostile", step)
    loop.start()

    assert gone_on.wait(DEADLINE.total_seconds())
    loop.stop()
    assert loop.join(DEADLINE)


class Broken(logging.Handler):
    """A project's handler that raises."""

    def emit(self, record):
        raise SystemExit("the log")


def test_a_log_handler_that_raises_changes_no_outcome(rig, crew):
    logger = logging.getLogger("aftercommit")
    handler = Broken()
    logger.addHandler(handler)
    try:
        one = crew(threads=1)
        run = one.hold(raiser("SystemExit"))
        run.has_begun = True
        end_after(RuntimeError("of the worker"), [run])
        ends = one.wait(1)
        rig.finish(run.claim, ends[run])
    finally:
        logger.removeHandler(handler)

    assert isinstance(ends[run].outcome, Retry)
    assert rig.job(run.claim.job_id).state == State.READY


def test_a_log_filter_that_raises_fails_no_job(rig):
    def raising(record):
        raise ValueError("the filter")

    logger = logging.getLogger("django.tasks")
    logger.addFilter(raising)
    try:
        job = rig.run(lambda context: "good")
    finally:
        logger.removeFilter(raising)

    assert job.state == State.SUCCEEDED
