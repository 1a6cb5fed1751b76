"""Cancelling a running job: its worker hears of it soon, and its body ends."""

import asyncio
import threading
from contextlib import nullcontext, suppress
from datetime import timedelta

import pytest
from django.db import connection, connections

from aftercommit.enqueue.outcomes import Cancel
from aftercommit.errors import ClaimLost, TimedOut
from aftercommit.models import State
from aftercommit.values import Cancelled, Released, Retry, Succeeded
from aftercommit.worker.running.batches import Batches
from aftercommit.worker.upkeep import requests as requests_module
from aftercommit.worker.upkeep.requests import LOOK_AGAIN, LOOK_EVERY, UNTIL_RUNG, YOUNG
from tests.waiting import wait_until
from tests.worker.batched import batch_task
from tests.worker.rig import commits, effects, leave

pytestmark = commits

INTERRUPTED = timedelta(seconds=20)  # at the latest; a busy machine
LONG = timedelta(minutes=10)
A_MOMENT = timedelta(milliseconds=1)


@pytest.fixture
def requests(rig):
    """Return what looks for requests to the rig's runs."""
    return rig.rooms.requests


@pytest.fixture
def clock(monkeypatch):
    """Return a function that puts the clock of the looks forward."""
    ahead, now = [0.0], requests_module.now
    monkeypatch.setattr(requests_module, "now", lambda: now() + ahead[0])

    def put_forward(span):
        ahead[0] += span.total_seconds()

    return put_forward


def elsewhere(step, *given):
    """Do it in a thread of its own, as another process or another part of the worker does."""

    def take():
        try:
            step(*given)
        finally:
            connections.close_all()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()


def cancel(rig, *job_ids):
    """Ask for the end of running jobs, and let the worker hear of it."""
    elsewhere(rig.store.cancel, job_ids)
    rig.rooms.requests.heard()
    elsewhere(rig.rooms.requests.step)


def until_interrupted():
    """Stay in the body until something is raised there."""
    wait_until(lambda: False, deadline=INTERRUPTED, why="the body is interrupted")


# ---- what it costs to hear of it ------------------------------------------------------------


def test_a_worker_without_runs_asks_nothing(requests, clock, django_assert_num_queries):
    with django_assert_num_queries(0):
        for _step in range(5):
            wait = requests.step()
            clock(wait)


def test_a_queue_of_short_jobs_costs_nothing(rig, requests, django_assert_num_queries):
    def body(context):
        with django_assert_num_queries(0):
            requests.step()

    assert rig.run(body, max_attempts=1).state == State.SUCCEEDED


def test_runs_that_last_are_asked_about_together_where_nobody_tells(
    rig, requests, clock, vendor, django_assert_num_queries
):
    for _number in range(2):  # waiting for a thread
        rig.hold(rig.claim(rig.enqueue(lambda context: None)))
    waits = []

    def body(context):
        clock(YOUNG + A_MOMENT)
        with django_assert_num_queries(0 if vendor == "postgresql" else 1):
            waits.append(requests.step())

    assert rig.run(body, max_attempts=1).state == State.SUCCEEDED
    assert waits == [UNTIL_RUNG if vendor == "postgresql" else LOOK_EVERY]


def test_after_a_notification_all_runs_are_asked_about_twice(
    rig, requests, clock, vendor, django_assert_num_queries
):
    """A claim may be committed, and cancelled, before its worker has read the answer."""
    rig.hold(rig.claim(rig.enqueue(lambda context: None)))
    requests.heard()

    for queries in (1, 1, 0):
        with django_assert_num_queries(queries):
            wait = requests.step()
        clock(wait)

    assert wait == (UNTIL_RUNG if vendor == "postgresql" else LOOK_EVERY)
    assert LOOK_EVERY < LOOK_AGAIN < LOOK_EVERY * 2


def test_within_a_second(requests):
    """A run is asked about at the first look when it is not young any more."""
    assert timedelta(seconds=1) > YOUNG + LOOK_EVERY


def test_a_request_to_an_earlier_run_is_none_to_this_one(rig):
    claim = rig.claim(rig.enqueue(lambda context: None))
    successor = rig.lose(claim)
    rig.store.cancel([claim.job_id])

    assert rig.store.asked_to_stop([claim]) == set()
    assert rig.store.asked_to_stop([successor]) == {claim.job_id}


# ---- what it does ---------------------------------------------------------------------------


# On SQLite an atomic task holds the only lock: nobody can cancel meanwhile.
ATOMIC = [False] if connection.vendor == "sqlite" else [False, True]


@pytest.mark.parametrize("atomic", ATOMIC)
def test_a_body_hears_at_its_next_step(rig, atomic):
    def body(context):
        leave("undone")
        assert not context.cancelled
        cancel(rig, claim.job_id)
        try:
            until_interrupted()
        finally:
            assert context.cancelled

    claim = rig.claim(rig.enqueue(body, atomic=atomic, max_attempts=5))

    rig.finish(claim, rig.execute(claim))

    assert rig.job(claim.job_id).state == State.CANCELLED
    assert effects("undone") == (0 if atomic else 1)


def test_a_coroutine_is_cancelled_where_it_waits(rig):
    ends = []

    async def body(context):
        # Not awaited: the cancellation comes while the coroutine waits for something else.
        loop = asyncio.get_running_loop()
        cancelling = loop.run_in_executor(None, cancel, rig, claim.job_id)
        try:
            await asyncio.sleep(INTERRUPTED.total_seconds())
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise
        finally:
            await cancelling

    claim = rig.claim(rig.enqueue(body, max_attempts=5))

    rig.finish(claim, rig.execute(claim))

    assert ends == ["cancelled"]
    assert rig.job(claim.job_id).state == State.CANCELLED


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_job_that_has_not_begun_does_not_begin(rig, kind):
    called = []

    def body(context):
        called.append(context)

    async def abody(context):
        called.append(context)

    claim = rig.claim(rig.enqueue(body if kind == "sync" else abody))
    run = rig.hold(claim)
    cancel(rig, claim.job_id)

    ran = rig.execute_run(run)
    rig.finish(claim, ran)

    assert (called, ran.outcome) == ([], Released())
    job = rig.job(claim.job_id)
    assert (job.state, job.attempts) == (State.CANCELLED, 0)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_request_just_before_the_body_is_not_missed(rig, monkeypatch, kind):
    called = []

    def body(context):
        called.append(context)

    async def abody(context):
        called.append(context)

    claim = rig.claim(rig.enqueue(body if kind == "sync" else abody))
    run = rig.hold(claim)
    prepare = rig.executor._prepare

    def prepare_then_cancel(run, **given):
        prepared = prepare(run, **given)
        elsewhere(rig.store.cancel, [claim.job_id])
        run.ask_to_stop()
        return prepared

    monkeypatch.setattr(rig.executor, "_prepare", prepare_then_cancel)
    rig.finish(claim, rig.execute_run(run))

    assert called == []
    assert rig.job(claim.job_id).state == State.CANCELLED


# ---- checkpoints, and bodies that swallow it ------------------------------------------------


def test_a_checkpoint_says_it_each_time(rig):
    heard = []

    def body(context):
        context.checkpoint()
        run.cancel_requested = True  # and no interrupt, which would come before
        for _number in range(2):
            try:
                context.checkpoint()
            except Exception as error:
                heard.append(type(error))
        run.ask_to_stop()  # as the heartbeat does later: it is heard of already
        return "went on"

    run = rig.hold(rig.claim(rig.enqueue(body)))

    ran = rig.execute_run(run)

    assert heard == [Cancel, Cancel]
    assert ran.outcome == Succeeded('"went on"')  # who ends well has succeeded


def test_a_checkpoint_in_a_coroutine_lets_it_clean_up_undisturbed(rig):
    cleaned = []

    async def body(context):
        run.ask_to_stop()  # the cancellation is on its way to the event loop
        try:
            context.checkpoint()
        finally:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            cleaned.append(1)

    run = rig.hold(rig.claim(rig.enqueue(body)))

    ran = rig.execute_run(run)

    assert isinstance(ran.outcome, Cancelled)
    assert cleaned == [1]


@pytest.mark.parametrize(
    ("change", "heard"),
    [({"lost": True, "cancel_requested": True}, ClaimLost), ({"deadline": 0.0}, TimedOut)],
    ids=["claim lost", "time over"],
)
def test_a_checkpoint_says_whatever_ends_the_run(rig, change, heard):
    raised = []

    def body(context):
        for name, value in change.items():
            setattr(run, name, value)
        try:
            context.checkpoint()
        except BaseException as error:
            raised.append(type(error))
            raise

    run = rig.hold(rig.claim(rig.enqueue(body, max_attempts=5, timeout=LONG)))

    ran = rig.execute_run(run)

    assert raised == [heard]
    assert isinstance(ran.outcome, Released if heard is ClaimLost else Retry)


def test_a_body_that_swallows_it_goes_on_until_its_time_is_over(rig):
    swallowed = []

    def body(context):
        try:
            cancel(rig, claim.job_id)
            until_interrupted()
        except Exception as error:
            swallowed.append(type(error))
        elsewhere(run.interrupt, TimedOut)
        until_interrupted()

    claim = rig.claim(rig.enqueue(body, max_attempts=5, timeout=LONG))
    run = rig.hold(claim)

    rig.finish(claim, rig.execute_run(run))

    assert swallowed == [Cancel]
    job = rig.job(claim.job_id)
    assert job.state == State.CANCELLED  # it is not tried again
    assert job.error_list[-1]["exception_class_path"] == "aftercommit.errors.TimedOut"


def test_a_body_that_swallows_it_and_ends_well_has_succeeded(rig):
    def body(context):
        with suppress(Cancel):
            cancel(rig, claim.job_id)
            until_interrupted()
        return "done"

    claim = rig.claim(rig.enqueue(body))

    rig.finish(claim, rig.execute(claim))

    assert rig.job(claim.job_id).state == State.SUCCEEDED


# ---- beside others, and during COMMIT -------------------------------------------------------


@pytest.mark.parametrize("which", [0, 1])
def test_of_messages_that_are_published_together_the_others_are_untouched(rig, which):
    def many(calls):
        cancel(rig, ids[which])
        with suppress(Cancel):  # none comes; if one came it would end the call for all
            threading.Event().wait(0.02)
            calls[2].succeed()
        calls[1 - which].succeed()
        calls[which].fail(ValueError("the broker refused it"))

    task = batch_task(many, max_attempts=5)
    ids = [rig.enqueue_task(task.using(), number) for number in range(3)]
    runs = [rig.hold(rig.claim(job_id)) for job_id in ids]

    for run, ran in Batches(rig.executor, rig.store).run(runs, lambda _runs: nullcontext()):
        rig.finish(run.claim, ran)

    states = [rig.job(job_id).state for job_id in ids]
    assert states[which] == State.CANCELLED
    assert states[1 - which] == states[2] == State.SUCCEEDED


def test_of_messages_that_wait_together_the_cancelled_is_not_published(rig):
    published = []

    def many(calls):
        published.append(len(calls))

    task = batch_task(many)
    ids = [rig.enqueue_task(task.using(), number) for number in range(3)]
    runs = [rig.hold(rig.claim(job_id)) for job_id in ids]
    cancel(rig, ids[0])

    for run, ran in Batches(rig.executor, rig.store).run(runs, lambda _runs: nullcontext()):
        rig.finish(run.claim, ran)

    assert published == [2]
    states = [rig.job(job_id).state for job_id in ids]
    assert states == [State.CANCELLED, State.SUCCEEDED, State.SUCCEEDED]


@pytest.mark.parametrize("when", ["before", "between"])
def test_of_jobs_that_share_a_transaction_only_the_cancelled_rolls_back(rig, together, when):
    def body():
        leave("undone")
        together.runs["b"].ask_to_stop()
        until_interrupted()

    together.add("a")
    together.add("b", body)
    together.add("c")
    if when == "before":
        together.runs["b"].ask_to_stop()
    together.run()

    states = together.states()
    assert (states["a"], states["c"]) == ("succeeded", "succeeded")
    assert states["b"] == ("cancelled" if when == "between" else "ready")  # nobody asked the row
    assert [effects(name) for name in "ac"] == [1, 1]
    assert effects("undone") == 0


def test_a_request_during_commit_changes_nothing(rig, monkeypatch):
    commit = connection._commit

    def commit_then_hear():
        commit()
        if connection.savepoint_ids == [] and armed:
            armed.clear()
            run.ask_to_stop()  # the body is not over
            until_interrupted()  # before Django knows that it was committed

    def body(context):
        with context.commit():
            leave("committed")
            armed.append(1)

    armed = []
    monkeypatch.setattr(connection, "_commit", commit_then_hear)
    run = rig.hold(rig.claim(rig.enqueue(body, max_attempts=5)))

    rig.finish(run.claim, rig.execute_run(run))

    assert armed == []
    assert [type(ran.outcome) for _claim, ran in rig.written] == [Succeeded]  # as it is told
    assert rig.job(run.claim.job_id).state == State.SUCCEEDED
    assert effects("committed") == 1
