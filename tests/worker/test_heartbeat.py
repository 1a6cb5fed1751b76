"""The heartbeat: leases are renewed, lost claims and requests to cancel end a run."""

import threading
from contextlib import suppress
from datetime import timedelta

import pytest
from django.db import OperationalError, connection, connections

from aftercommit.errors import ClaimLost
from aftercommit.models import Lease, State
from aftercommit.values import ClaimQuery, Released, Succeeded
from aftercommit.worker.runs import now
from aftercommit.worker.upkeep.heartbeat import Heartbeat
from tests.waiting import wait_until
from tests.worker.rig import AT_ONCE, QUEUE, another_connection, commits

pytestmark = commits

EVERY = timedelta(seconds=10)
SHORT, LONG = timedelta(seconds=5), timedelta(minutes=10)
INTERRUPTED = timedelta(seconds=20)  # at the latest; a busy machine


@pytest.fixture
def heartbeat(rig):
    """Return the heartbeat of the rig's runs."""
    return Heartbeat(rig.store, rig.runs, rig.leases, lease=LONG, heartbeat=EVERY)


def elsewhere(step):
    """Take a step in a thread of its own, as a worker does."""

    def take():
        try:
            step()
        finally:
            connections.close_all()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()


def until_interrupted():
    """Stay in the body until something is raised there."""
    wait_until(lambda: False, deadline=INTERRUPTED, why="the body is interrupted")


def test_leases_of_all_runs_are_extended(rig, heartbeat):
    claims = [rig.claim(rig.enqueue(lambda context: None), lease=SHORT) for _number in range(3)]
    runs = [rig.hold(claim) for claim in claims]
    before = [run.renewed_at for run in runs]

    wait = heartbeat.step()

    assert wait == EVERY
    for run, renewed_at in zip(runs, before, strict=True):
        lease = Lease.objects.get(pk=run.claim.lease_id)
        assert lease.lease_until - run.claim.claimed_at > LONG - SHORT
        assert renewed_at <= run.renewed_at <= now()
        assert not run.lost


def test_without_runs_nothing_is_asked(heartbeat, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert heartbeat.step() == EVERY


# On SQLite an atomic task holds the only lock: nobody can take its job from it meanwhile.
@pytest.mark.parametrize("atomic", [False] if connection.vendor == "sqlite" else [False, True])
def test_a_lost_claim_interrupts_the_body(rig, heartbeat, atomic):
    reached = []

    def body(context):
        elsewhere(heartbeat.step)
        until_interrupted()
        reached.append("the end")

    job_id = rig.enqueue(body, atomic=atomic, max_attempts=1)
    claim = rig.claim(job_id)
    run = rig.hold(claim)
    successor = rig.lose(claim)

    ran = rig.execute_run(run)

    assert isinstance(ran.outcome, Released)
    assert run.lost
    assert reached == []
    job = rig.job(job_id)
    assert (job.state, job.token) == (State.RUNNING, successor.token)


def test_a_lost_claim_is_not_asked_for_again(rig, heartbeat, django_assert_num_queries):
    claim = rig.claim(rig.enqueue(lambda context: None))
    run = rig.hold(claim)
    rig.lose(claim)
    heartbeat.step()

    with django_assert_num_queries(0):
        heartbeat.step()

    assert run.lost
    assert run.interrupted_at is None  # no body was running


def test_a_request_to_cancel_interrupts_the_body(rig, heartbeat):
    heard = []

    def body(context):
        heard.append(context.cancel_requested)
        elsewhere(lambda: rig.store.cancel([claim.job_id]))
        try:
            elsewhere(heartbeat.step)
            until_interrupted()
        finally:
            heard.append(context.cancel_requested)

    job_id = rig.enqueue(body, max_attempts=5)
    claim = rig.claim(job_id)

    rig.finish(claim, rig.execute(claim))

    assert heard == [False, True]
    assert rig.job(job_id).state == State.CANCELLED


def test_a_request_to_cancel_that_comes_too_late_changes_nothing(rig, heartbeat):
    job_id = rig.enqueue(lambda context: "done")
    claim = rig.claim(job_id)
    ran = rig.execute(claim)  # the body is over; its end is not written yet
    rig.store.cancel([job_id])

    heartbeat.step()
    rig.finish(claim, ran)

    assert ran.outcome == Succeeded('"done"')
    assert rig.job(job_id).state == State.SUCCEEDED


def test_a_run_that_would_be_tried_again_is_cancelled_on_request(rig, heartbeat):
    def body(context):
        elsewhere(lambda: rig.store.cancel([claim.job_id]))
        raise ValueError("on its own")

    job_id = rig.enqueue(body, max_attempts=5, backoff=AT_ONCE)
    claim = rig.claim(job_id)

    rig.finish(claim, rig.execute(claim))
    heartbeat.step()

    assert rig.job(job_id).state == State.CANCELLED


# ---- what this process has claimed, but forgotten -------------------------------------------


def test_a_forgotten_job_is_released_although_its_lease_is_renewed_for_another(rig, heartbeat):
    tasks = [rig.enqueue(lambda context: None) for _number in range(2)]
    claims = rig.store.claim(
        ClaimQuery(queue=QUEUE, limit=2, worker_id=rig.worker_id, lease=LONG)
    )
    rig.leases.opened(claims)
    kept, forgotten = claims
    assert kept.lease_id == forgotten.lease_id
    assert {one.job_id for one in claims} == set(tasks)
    rig.runs.add(kept, rig.facts_of(kept), rig)

    heartbeat.step()  # the claim is young: its run may not have been made yet
    assert rig.job(forgotten.job_id).state == State.RUNNING
    rig.leases._open[kept.lease_id].since -= LONG.total_seconds() + 1
    heartbeat.step()

    job = rig.job(forgotten.job_id)
    assert (job.state, job.attempts, job.claimable) == (State.READY, 0, True)
    assert rig.job(kept.job_id).state == State.RUNNING
    assert Lease.objects.filter(pk=kept.lease_id).exists()
    rig.store.finish(kept, Succeeded())
    rig.runs.remove(kept)
    heartbeat.step()
    assert not Lease.objects.exists()


def test_a_forgotten_job_whose_row_is_locked_is_released_later(rig, heartbeat):
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    claim = rig.claim(rig.enqueue(lambda context: None), lease=LONG)
    rig.leases.opened([claim])
    rig.leases._open[claim.lease_id].since -= LONG.total_seconds() + 1
    with another_connection() as other, other.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT 1 FROM aftercommit_job FOR UPDATE")
        heartbeat.step()
        assert rig.leases.ended == []
        cursor.execute("ROLLBACK")

    assert rig.job(claim.job_id).state == State.RUNNING
    heartbeat.step()
    assert rig.job(claim.job_id).state == State.READY
    assert not Lease.objects.exists()


def test_a_lease_that_another_holds_is_not_taken_for_renewed(rig, heartbeat):
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    run = rig.hold(rig.claim(rig.enqueue(lambda context: None), lease=SHORT))
    before = run.renewed_at
    with another_connection() as other, other.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT 1 FROM aftercommit_lease FOR UPDATE")
        heartbeat.step()
        cursor.execute("ROLLBACK")

    assert (run.lost, run.renewed_at) == (False, before)
    heartbeat.step()
    assert run.renewed_at > before


def test_a_forgotten_job_that_cannot_be_released_costs_no_lease(rig, heartbeat, monkeypatch):
    forgotten = rig.claim(rig.enqueue(lambda context: None), lease=LONG)
    rig.leases.opened([forgotten])
    rig.leases._open[forgotten.lease_id].since -= LONG.total_seconds() + 1
    run = rig.hold(rig.claim(rig.enqueue(lambda context: None), lease=SHORT))
    before = run.renewed_at

    def refuse(*_given):
        raise OperationalError("this row cannot be written")

    monkeypatch.setattr(rig.store, "release_forgotten", refuse)
    with pytest.raises(OperationalError):
        heartbeat.step()

    assert run.renewed_at > before


def test_a_lost_run_is_not_forgotten_before_its_body_is_over(rig, heartbeat):
    """Its timeout is seen to as long as it is one of the runs."""
    held = []

    def body(context):
        rig.leases._open[claim.lease_id].since -= LONG.total_seconds() + 1
        for _number in range(2):
            with suppress(ClaimLost):
                elsewhere(heartbeat.step)
        held.append(run in rig.runs.all())

    claim = rig.claim(rig.enqueue(body, max_attempts=1))
    run = rig.hold(claim)
    rig.lose(claim)

    rig.finish(claim, rig.execute_run(run))

    assert (run.lost, held) == (True, [True])
    assert rig.runs.all() == []


def test_a_run_that_is_lost_before_it_begins_does_not_begin(rig, heartbeat):
    called = []
    claim = rig.claim(rig.enqueue(called.append))
    run = rig.hold(claim)
    rig.lose(claim)
    heartbeat.step()

    ran = rig.execute_run(run)

    assert called == []
    assert isinstance(ran.outcome, Released)
