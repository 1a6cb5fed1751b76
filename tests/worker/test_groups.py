"""What a task asks for inside an exception group, and interrupts of the calling thread."""

import asyncio
import os
import signal
from datetime import timedelta

import pytest

from aftercommit import Cancel, Discard, Retry, Snooze, task
from aftercommit.errors import ClaimLost, Stopped
from aftercommit.models import Job, State
from aftercommit.process import STOP_SIGNALS
from aftercommit.worker.inline import InlineWorker
from tests.worker.rig import commits

pytestmark = commits
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
IN_GROUPS = [
    ([Discard("gone")], State.FAILED, 1),
    ([Discard("gone"), ValueError("as well")], State.FAILED, 1),
    ([ValueError("as well"), Cancel("not wanted")], State.CANCELLED, 1),
    ([Cancel("not wanted"), Discard("gone"), Snooze(HOUR)], State.CANCELLED, 1),
    ([Snooze(MINUTE), Snooze(HOUR)], State.READY, 0),
    ([Snooze(HOUR), ValueError("as well")], State.READY, 1),
    ([Retry(HOUR)], State.READY, 1),
    ([Retry(HOUR), LookupError("discarded")], State.FAILED, 1),
    ([ValueError("one"), LookupError("discarded")], State.FAILED, 1),
    ([ValueError("one"), ValueError("two")], State.READY, 1),
    ([ValueError("one"), KeyboardInterrupt()], State.FAILED, 1),
    ([ClaimLost()], State.READY, 0),
    ([ValueError("one"), Stopped()], State.READY, 0),
]


def flat(errors):
    """Put them into one group."""
    return BaseExceptionGroup("flat", errors)


def nested(errors):
    """Put each into groups of its own."""
    inner = [BaseExceptionGroup("one", [BaseExceptionGroup("two", [one])]) for one in errors]
    return BaseExceptionGroup("outer", inner)


@pytest.mark.parametrize("atomic", [False, True], ids=["plain", "atomic"])
@pytest.mark.parametrize("group", [flat, nested])
@pytest.mark.parametrize(("errors", "state", "attempts"), IN_GROUPS)
def test_what_a_task_asks_for_in_a_group_counts(rig, errors, state, attempts, group, atomic):
    def body(context):
        raise group(errors)

    job = rig.run(body, atomic=atomic, max_attempts=3, discard_on=LookupError)

    assert (job.state, job.attempts) == (state, attempts)
    snoozes = [one.delay for one in errors if isinstance(one, (Snooze, Retry))]
    if state == State.READY and len(snoozes) == len(errors):
        assert job.run_after - job.enqueued_at >= max(snoozes)


def test_a_task_group_is_a_group(rig):
    async def give_up():
        raise Discard("gone")

    async def body(context):
        async with asyncio.TaskGroup() as group:
            group.create_task(give_up())
            await asyncio.sleep(60)

    job = rig.run(body, max_attempts=3)

    assert job.state == State.FAILED
    assert "gone" in job.error_list[0]["traceback"]


# ---- KeyboardInterrupt --------------------------------------------------------------------


@task
def interrupt(how: str) -> None:
    """Raise it, or send it, as Ctrl-C does."""
    if how == "raise":
        raise KeyboardInterrupt
    if how == "group":
        raise BaseExceptionGroup("all", [ValueError(), KeyboardInterrupt()])
    os.kill(os.getpid(), signal.SIGINT)


@task
def nothing() -> None:
    """Do nothing."""


@pytest.mark.parametrize("how", ["raise", "group", "send"])
def test_an_interrupt_of_the_calling_thread_is_not_swallowed(flush_queue, how):
    handlers = [signal.getsignal(number) for number in STOP_SIGNALS]
    job_id = interrupt.enqueue(how).id
    other = nothing.enqueue().id

    with pytest.raises(KeyboardInterrupt):
        flush_queue()

    job = Job.objects.get(pk=job_id)
    # Sent to the command, it ends it after the present job.
    expected = (State.SUCCEEDED, 1) if how == "send" else (State.READY, 0)
    assert (job.state, job.attempts) == expected
    assert Job.objects.get(pk=other).state == State.READY
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == handlers


def test_the_inline_worker_itself_passes_it_on(flush_queue):
    job_id = interrupt.enqueue("send").id

    with pytest.raises(KeyboardInterrupt):
        InlineWorker().run()

    assert Job.objects.get(pk=job_id).state == State.READY
