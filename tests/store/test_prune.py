"""T10: old finished jobs are deleted in batches, and nothing else ever is."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.db import connection, transaction

from aftercommit.ids import first_id_of
from aftercommit.models import Job
from aftercommit.store.clock import in_future
from aftercommit.values import Cancelled, Failed, Succeeded
from tests.store.callers import Held, at_statement
from tests.store.given import ERROR, claim_all, claim_one, ready_job, ready_jobs, state

ANY_AGE = timedelta(minutes=-1)
DAY = timedelta(days=1)
WEEK = timedelta(days=7)
LOOKS = 2  # for unsuccessful jobs, and for those that succeeded


def finished_jobs(store, *outcomes):
    ready_jobs(store, len(outcomes))
    claims = claim_all(store)
    for claim, outcome in zip(claims, outcomes, strict=True):
        store.finish(claim, outcome)
    return [claim.job_id for claim in claims]


def finished_ago(job_ids, span):
    """Let jobs have been made and finished then; return their ids of that time, in order."""
    ids = []
    for job_id in sorted(job_ids):
        made = first_id_of(datetime.now(UTC) - span)
        ids.append(UUID(int=made.int | job_id.int & (1 << 64) - 1))
        rows = Job.objects.filter(id=job_id)
        rows.update(id=ids[-1], enqueued_at=in_future(-span), finished_at=in_future(-span))
    return ids


def test_jobs_that_finished_long_ago_are_deleted(store):
    old = finished_jobs(store, Succeeded(), Failed(ERROR), Cancelled(ERROR))
    old = finished_ago(old, WEEK)
    young = finished_jobs(store, Succeeded(), Failed(ERROR))

    assert store.prune(older_than=DAY) == 3

    assert {state(store, job_id) for job_id in old} == {"gone"}
    assert [state(store, job_id) for job_id in young] == ["succeeded", "failed"]


def test_unfinished_jobs_are_never_deleted(store):
    ready_jobs(store, 2)
    claim_one(store)

    assert store.prune(older_than=ANY_AGE) == 0
    assert store.prune(older_than=ANY_AGE, states=["ready", "running"]) == 0

    assert Job.objects.count() == 2


def test_only_the_named_states_are_deleted(store):
    succeeded, failed = finished_jobs(store, Succeeded(), Failed(ERROR))

    assert store.prune(older_than=ANY_AGE, states=["succeeded"]) == 1

    assert [state(store, succeeded), state(store, failed)] == ["gone", "failed"]
    assert store.prune(older_than=ANY_AGE, states=[]) == 0


def test_a_batch_is_no_larger_than_its_limit_and_begins_with_the_oldest(store):
    ids = finished_jobs(store, *[Succeeded()] * 5)
    finished_ago(ids[:2] + ids[4:], WEEK)
    oldest = finished_ago(ids[2:4], 2 * WEEK)

    assert store.prune(older_than=DAY, limit=2) == 2

    assert {state(store, job_id) for job_id in oldest} == {"gone"}
    assert store.prune(older_than=DAY, limit=2) == 2
    assert store.prune(older_than=DAY, limit=2) == 1
    assert store.prune(older_than=DAY, limit=2) == 0


def test_a_job_that_someone_makes_ready_meanwhile_is_kept(store, other):
    (job_id,) = finished_jobs(store, Failed(ERROR))

    with at_statement(LOOKS, lambda: other.do(store.retry, [job_id])):
        deleted = store.prune(older_than=ANY_AGE)

    assert deleted == 0
    assert state(store, job_id) == "ready"


def test_rows_that_someone_holds_are_left_for_the_next_time(store, other, vendor):
    if vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    held_id, free_id = finished_jobs(store, Failed(ERROR), Failed(ERROR))
    held = Held(other, lambda: store.retry([held_id]))

    assert store.prune(older_than=ANY_AGE) == 1

    held.roll_back()
    assert [state(store, held_id), state(store, free_id)] == ["failed", "gone"]


def test_pruning_is_undone_with_the_callers_transaction(store):
    finished_jobs(store, Succeeded())

    with transaction.atomic():
        assert store.prune(older_than=ANY_AGE) == 1
        transaction.set_rollback(True)

    assert Job.objects.count() == 1


def test_an_id_that_was_deleted_does_not_come_back(store):
    gone = finished_jobs(store, Succeeded())
    store.prune(older_than=ANY_AGE)

    assert ready_job(store) not in gone


def test_the_databases_clock_tells_what_is_old(store):
    finished_jobs(store, Succeeded())

    assert store.prune(older_than=DAY) == 0
    assert store.prune(older_than=-DAY) == 1
    assert connection.in_atomic_block is False
