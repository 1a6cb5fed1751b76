"""Middleware around batches, inline workers and flush_queue: one call for each call of a task."""

import asyncio
from collections import Counter
from contextvars import ContextVar
from datetime import timedelta

import pytest
from django.utils.decorators import sync_and_async_middleware

from aftercommit import Snooze, enqueue_many, task
from aftercommit._compat import TaskResultStatus, task_finished
from aftercommit.models import Job, State
from aftercommit.worker.inline import InlineWorker
from tests.app.models import Effect
from tests.worker.rig import commits, work

pytestmark = [commits, pytest.mark.usefixtures("one_backend")]

SET = ContextVar("SET", default="unset")
calls = []  # of middleware: the arguments of its runs, and how each has ended
received = []  # of the function


@sync_and_async_middleware
def noting(get_result):
    """Note the runs of each call, for both kinds of tasks."""

    def note(run):
        ends = [(one.args[0] if one.args else None, one.outcome) for one in run.runs]
        calls.append(sorted(ends, key=str))

    async def amiddleware(run):
        try:
            return await get_result(run)
        finally:
            note(run)

    def middleware(run):
        try:
            return get_result(run)
        finally:
            note(run)

    return amiddleware if asyncio.iscoroutinefunction(get_result) else middleware


def refusing(get_result):
    """Refuse the calls of some numbers, after the run of others raise."""

    def middleware(run):
        if any(one.args == ("refused",) for one in run.runs):
            raise LookupError("refused")
        get_result(run)
        if any(one.args == ("late",) for one in run.runs):
            raise LookupError("late")

    return middleware


@pytest.fixture(autouse=True)
def _nothing_called():
    calls.clear()
    received.clear()


@pytest.fixture
def around(settings):
    """Return a function that gives the only backend middleware."""

    def around(*factories):
        before = settings.TASKS["default"]
        options = {**before["OPTIONS"], "middleware": list(factories)}
        settings.TASKS = {"default": {**before, "OPTIONS": options}}

    return around


def collect(batch):
    received.append([call.args[0] for call in batch])
    for call in batch:
        if call.args[0] == "bad":
            call.fail(ValueError("bad"))
    if ["worst"] in [list(call.args) for call in batch]:
        raise ValueError("worst")


async def acollect(batch):
    await asyncio.sleep(0)
    collect(batch)


def write(batch):
    received.append([call.args[0] for call in batch])
    Effect.objects.bulk_create([Effect(key=str(call.args[0])) for call in batch])
    if ["worst"] in [list(call.args) for call in batch]:
        raise ValueError("worst")


@task
def single(number):
    received.append(number)


def states():
    return Counter(Job.objects.values_list("state", flat=True))


@pytest.mark.parametrize("function", [collect, acollect, write], ids=lambda one: one.__name__)
def test_middleware_is_called_once_for_a_batch_with_its_runs(around, declare, function):
    around(noting)
    atomic = {"atomic": True} if function is write else {}
    batched = declare(function, batch_size=64, **atomic)
    enqueue_many(batched, [(number,) for number in range(20)])

    work(threads=1)

    assert states() == {State.SUCCEEDED: 20}
    assert len(calls) == len(received)
    assert sorted(one for call in calls for one in call) == [(n, "succeeded") for n in range(20)]


def test_each_run_of_a_batch_has_its_own_outcome(around, declare):
    around(noting)
    enqueue_many(declare(collect, batch_size=8, max_attempts=1), [("good",), ("bad",)])

    work(threads=1)

    ends = sorted(one for call in calls for one in call)
    assert ends == [("bad", "failed"), ("good", "succeeded")]


def test_an_atomic_batch_that_is_called_in_halves_passes_through_each_time(around, declare):
    around(noting)
    batched = declare(write, batch_size=8, atomic=True, max_attempts=1)
    enqueue_many(batched, [(one,) for one in ("a", "worst", "b", "c")])

    work(threads=1)

    assert states() == {State.SUCCEEDED: 3, State.FAILED: 1}
    assert sorted(Effect.objects.values_list("key", flat=True)) == ["a", "b", "c"]
    assert len(calls) == len(received)
    ends = {name: end for call in calls for name, end in call if end is not None}
    assert ends == dict.fromkeys("abc", "succeeded") | {"worst": "failed"}


def setting(get_result):
    """Set a variable of the context for what follows."""

    def middleware(run):
        SET.set("by the call")
        return get_result(run)

    return middleware


@pytest.mark.parametrize("function", [collect, write], ids=lambda one: one.__name__)
@pytest.mark.parametrize("arguments", [["good"], ["worst"], ["worst", "good"]], ids="-".join)
def test_receivers_of_the_end_see_what_the_call_has_set(around, declare, function, arguments):
    around(setting)
    seen = []

    def receiver(**_given):
        seen.append(SET.get())

    atomic = {"atomic": True} if function is write else {}
    batched = declare(function, batch_size=8, max_attempts=1, **atomic)
    enqueue_many(batched, [(one,) for one in arguments])
    task_finished.connect(receiver)
    try:
        work(threads=1)
    finally:
        task_finished.disconnect(receiver)

    assert "by the call" in seen
    assert len(seen) == len(arguments)


@pytest.mark.parametrize("function", [collect, write], ids=lambda one: one.__name__)
def test_middleware_that_raises_before_a_batch_fails_its_jobs(around, declare, function):
    around(refusing)
    atomic = {"atomic": True} if function is write else {}
    batched = declare(function, batch_size=8, max_attempts=1, **atomic)
    enqueue_many(batched, [("refused",)])

    work(threads=1)

    assert (states(), received) == ({State.FAILED: 1}, [])
    assert Job.objects.get().error_list[0]["exception_class_path"] == "builtins.LookupError"


@pytest.mark.parametrize(
    ("function", "state"), [(collect, State.FAILED), (write, State.SUCCEEDED)]
)
def test_middleware_that_raises_after_a_batch(around, declare, function, state):
    around(refusing)
    atomic = {"atomic": True} if function is write else {}
    enqueue_many(declare(function, batch_size=8, max_attempts=1, **atomic), [("late",)])

    work(threads=1)

    assert (states(), len(received)) == ({state: 1}, 1)


def test_middleware_may_put_off_a_batch(around, declare):
    def putting_off(get_result):
        def middleware(run):
            raise Snooze(timedelta(minutes=1))

        return middleware

    around(putting_off)
    enqueue_many(declare(collect, batch_size=8), [(1,), (2,)])

    work(threads=1)

    assert (states(), received) == ({State.READY: 2}, [])
    assert set(Job.objects.values_list("attempts", flat=True)) == {0}


def test_flush_queue_goes_through_middleware(around, flush_queue):
    around(noting)
    single.enqueue(1)

    assert flush_queue() == 1
    assert calls == [[(1, "succeeded")]]


def test_an_inline_worker_goes_through_middleware(around):
    around(noting)
    result = single.enqueue(1)

    assert InlineWorker().run() == 1

    result.refresh()
    assert result.status == TaskResultStatus.SUCCESSFUL
    assert calls == [[(1, "succeeded")]]
