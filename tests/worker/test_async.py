"""Tasks that are coroutines."""

import asyncio

import pytest
from asgiref.sync import sync_to_async
from django.db import connections

from aftercommit.enqueue.outcomes import Cancel, Snooze
from aftercommit.models import State
from tests.app.models import Effect
from tests.worker.rig import AT_ONCE, commits, effects, leave

pytestmark = commits


def test_a_coroutine_is_awaited(rig):
    async def body(context):
        await Effect.objects.acreate(key="async")
        return context.attempt

    job = rig.run(body)

    assert (job.state, job.return_value) == (State.SUCCEEDED, 1)
    assert effects("async") == 1


@pytest.mark.parametrize(
    ("wanted", "state"),
    [
        (ValueError(), State.READY),
        (Snooze(AT_ONCE), State.READY),
        (Cancel(), State.CANCELLED),
        (SystemExit(), State.FAILED),
        (asyncio.CancelledError(), State.FAILED),
    ],
    ids=repr,
)
def test_what_a_coroutine_raises_counts_as_in_a_function(rig, wanted, state):
    async def body(context):
        raise wanted

    assert rig.run(body, max_attempts=2).state == state


def test_a_coroutine_may_commit_in_a_thread(rig):
    async def body(context):
        def commit():
            with context.commit() as finish:
                leave("once")
                finish.return_value = "committed"

        await sync_to_async(commit)()
        return "too late"

    job = rig.run(body)

    assert (job.state, job.return_value) == (State.SUCCEEDED, "committed")
    assert effects("once") == 1
    assert rig.lost == []


def test_a_coroutine_that_raises_after_its_commit_is_done(rig):
    async def body(context):
        def commit():
            with context.commit():
                leave("once")

        await sync_to_async(commit)()
        raise ValueError

    job = rig.run(body)

    assert job.state == State.SUCCEEDED
    assert rig.lost == []


def test_all_queries_of_a_coroutine_use_one_connection_that_is_closed_at_its_end(rig):
    seen = []

    async def body(context):
        @sync_to_async
        def look():
            connections["default"].ensure_connection()
            seen.append(connections["default"])

        await look()
        await asyncio.gather(look(), look())

    rig.run(body)

    assert len(seen) == 3
    assert len(set(map(id, seen))) == 1
    assert seen[0].connection is None


def test_an_interrupt_reaches_a_coroutine_that_waits(rig):
    async def body(context):
        run.interrupt(Cancel)
        await asyncio.wait_for(asyncio.Event().wait(), timeout=10)

    job_id = rig.enqueue(body)
    run = rig.hold(rig.claim(job_id))

    rig.finish(run.claim, rig.execute_run(run))

    assert rig.job(job_id).state == State.CANCELLED


def test_two_coroutines_run_at_once(rig):
    """Each waits for the other, so neither could end alone."""
    first, second = asyncio.Event(), asyncio.Event()

    async def one(context):
        first.set()
        await asyncio.wait_for(second.wait(), timeout=10)

    async def other(context):
        second.set()
        await asyncio.wait_for(first.wait(), timeout=10)

    runs = [rig.hold(rig.claim(rig.enqueue(body))) for body in (one, other)]

    async def both():
        return await asyncio.gather(*map(rig.executor.arun, runs))

    rans = asyncio.run(both())

    assert [ran.exception for ran in rans] == [None, None]
