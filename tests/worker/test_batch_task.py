"""Several jobs in one call: each has an end of its own."""

from contextlib import nullcontext
from datetime import timedelta

import pytest

from aftercommit.enqueue.task import BatchTask
from aftercommit.errors import ClaimLost, TimedOut
from aftercommit.values import Failed, Released, Retry, Succeeded
from aftercommit.worker.running.batch_task import BatchTasks


def one(number):
    """Stand for the function of a single job."""


def batch_task(many, **options):
    return BatchTask(
        path=f"{one.__module__}.{one.__qualname__}",
        func=one,
        many=many,
        backend="default",
        queue_name="default",
        priority=0,
        run_after=None,
        takes_context=False,
        **options,
    )


@pytest.fixture
def run_all(rig):
    """Return a function that runs three jobs in one call, and returns how each has ended."""

    def run(many, *, given_up=(), **options):
        task = batch_task(many, **options)
        ids = [rig.enqueue_task(task.using(), number) for number in range(3)]
        runs = [rig.hold(rig.claim(job_id)) for job_id in ids]
        batching = BatchTasks(rig.executor)
        assert all(batching.accepts(run) for run in runs)
        ends = batching.run(runs, lambda _runs: nullcontext())
        assert [run for run, _ran in ends] == runs
        return [ran.outcome for _run, ran in ends]

    return run


def test_each_job_ends_as_it_is_told(run_all):
    asked = []

    def many(calls, told):
        asked.extend(calls)
        told(2, None)
        told(0, ValueError("of the first"))
        told(1, None)

    first, *others = run_all(many)

    assert len(asked) == 3
    assert isinstance(first, Retry)
    assert "of the first" in first.error.traceback
    assert others == [Succeeded()] * 2


def test_what_the_call_raises_is_the_end_of_those_it_has_not_spoken_of(run_all):
    def many(_calls, told):
        told(1, None)
        raise ValueError("of the others")

    first, second, third = run_all(many, max_attempts=1)

    assert second == Succeeded()
    assert isinstance(first, Failed)
    assert isinstance(third, Failed)


def test_one_that_nothing_is_said_of_has_not_succeeded(run_all):
    first, *others = run_all(lambda _calls, told: told(1, None))

    assert isinstance(first, Retry)
    assert "did not report" in first.error.traceback
    assert others[0] == Succeeded()


@pytest.mark.parametrize(("interrupt", "end"), [(TimedOut, Retry), (ClaimLost, Released)])
def test_an_interrupt_ends_those_that_are_not_done(run_all, interrupt, end):
    def many(_calls, told):
        told(0, None)
        raise interrupt

    first, *others = run_all(many, timeout=timedelta(seconds=1))

    assert first == Succeeded()
    assert [type(one) for one in others] == [end, end]


def test_a_task_of_the_usual_kind_does_not_join(rig):
    job_id = rig.enqueue(lambda _context: None)
    run = rig.hold(rig.claim(job_id))

    assert not BatchTasks(rig.executor).accepts(run)
