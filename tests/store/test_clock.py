"""The database's clock decides, in UTC, whatever the session or the process believe."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction

from aftercommit.models import Job
from aftercommit.store.clock import DatabaseNow, in_future
from aftercommit.values import Failed, Retry, Succeeded
from tests.store.given import (
    ALREADY_OVER,
    ERROR,
    LEASE,
    MOST_CRASHES,
    claim_all,
    claim_one,
    job,
    lease_of,
    ready_job,
    state,
)

HALF_AN_HOUR = timedelta(minutes=30)
DAY = timedelta(days=1)
ZONES = ["+00:00", "+05:30", "-08:00"]


@pytest.fixture(params=ZONES)
def session_zone(request, vendor):
    """Let the session live in another time zone than the tables."""
    yield from in_zone(vendor, request.param)


def in_zone(vendor, zone):
    if vendor == "sqlite":
        pytest.skip("SQLite's clock knows only UTC")
    # PostgreSQL's sign is that of POSIX: zones east of Greenwich are negative.
    posix = zone.translate(str.maketrans("+-", "-+"))
    with connection.cursor() as cursor:
        cursor.execute(
            f"SET TIME ZONE '{posix}'" if vendor == "postgresql" else f"SET time_zone = '{zone}'"
        )
    yield
    connection.close()


def near(moment):
    """Whether a moment is now, give or take; the zones are hours apart."""
    return abs(moment - datetime.now(UTC)) < HALF_AN_HOUR


def test_what_is_due_is_due_in_any_session_zone(store, session_zone):
    now = datetime.now(UTC)
    past, _future = (
        ready_job(store, run_after=now + span) for span in (-HALF_AN_HOUR, HALF_AN_HOUR)
    )

    assert store.due(limit=9) == [past]
    assert [claim.job_id for claim in claim_all(store)] == [past]


def test_all_moments_of_a_job_are_utc_in_any_session_zone(store, session_zone):
    job_id = ready_job(store)
    claim = claim_one(store)
    renewed = store.renew([claim], lease=LEASE)
    running, lease = job(store, job_id), lease_of(claim)
    store.finish(claim, Retry(ERROR, DAY))
    waiting = job(store, job_id)

    moments = [
        claim.run_after,
        claim.enqueued_at,
        claim.claimed_at,
        claim.started_at,
        running.enqueued_at,
        running.claimed_at,
        lease.lease_until - LEASE,
        waiting.run_after - DAY,
    ]
    assert renewed == {job_id: False}
    assert [near(moment) for moment in moments] == [True] * len(moments)


def test_leases_and_ages_are_measured_in_any_session_zone(store, session_zone):
    lost, kept = ready_job(store, priority=1), ready_job(store)
    claim_one(store, lease=ALREADY_OVER)
    healthy = claim_one(store, lease=HALF_AN_HOUR)

    rescued = store.rescue(max_crashes=MOST_CRASHES)
    store.finish(healthy, Succeeded())
    store.finish(claim_one(store), Failed(ERROR))

    assert [one.job_id for one in rescued] == [lost]
    assert store.prune(older_than=HALF_AN_HOUR) == 0
    assert store.prune(older_than=-HALF_AN_HOUR) == 2
    assert state(store, kept) == "gone"


def test_the_pulse_is_utc_in_any_session_zone(store, session_zone):
    now, _workers = store.clock_and_workers(ready_job(store))

    assert near(now)


def test_a_retried_job_is_due_in_any_session_zone(store, session_zone):
    job_id = ready_job(store)
    store.cancel([job_id])

    store.retry([job_id])

    row = job(store, job_id)
    assert near(row.run_after)
    assert claim_one(store).job_id == job_id


def test_time_does_not_stand_still_inside_a_transaction(store):
    with transaction.atomic():
        early, late = ready_job(store), ready_job(store)
        claim = claim_one(store, only=[early])
        store.finish(claim, Retry(ERROR))

        assert {one.job_id for one in claim_all(store)} == {early, late}


def test_a_job_for_now_is_due_in_the_same_transaction(store):
    with transaction.atomic():
        ready_job(store)

        assert len(claim_all(store)) == 1


def test_the_orms_now_and_the_stores_now_are_one(store):
    now, _workers = store.clock_and_workers(ready_job(store))

    before, after = (
        Job.objects.annotate(moment=in_future(span)).values_list("moment", flat=True)[0]
        for span in (-DAY, DAY)
    )

    assert before < now < after
    assert near(Job.objects.annotate(moment=DatabaseNow()).get().moment)
