"""T10 by rules: a page reads each row once, and only what is as it was read is deleted."""

from uuid import UUID, uuid4

import pytest
from django.db import models, transaction

from aftercommit.errors import ArchiveFailed
from aftercommit.models import Job, WorkerPresence
from aftercommit.store.clock import ago
from aftercommit.store.pruning import FIRST_ID, Deleted
from aftercommit.values import Cancelled, Failed, Succeeded
from tests.app.models import Effect
from tests.store.callers import Held, at_statement
from tests.store.given import ERROR, claim_one, job, ready_jobs, state
from tests.store.test_prune import ANY_AGE, DAY, WEEK, finished_ago, finished_jobs

TO_READ_THE_PAGE = 1


def page(store, *, after=FIRST_ID, older_than=ANY_AGE, limit=100):
    return store.page(after=after, older_than=older_than, limit=limit)


def delete_all(store, **given):
    return store.delete_ended(page(store).ended, **given)


def test_a_page_tells_what_has_ended_and_how_long_ago(store):
    ids = finished_ago(finished_jobs(store, Succeeded(), Failed(ERROR), Cancelled(None)), WEEK)
    ready_jobs(store, 1)
    claim_one(store)
    ready_jobs(store, 1)

    found = page(store)

    assert [one.job_id for one in found.ended] == sorted(ids)
    assert sorted(one.state for one in found.ended) == ["cancelled", "failed", "succeeded"]
    assert {one.backend for one in found.ended} == {"default"}
    assert {one.task_path for one in found.ended} == {"tests.app.tasks.add"}
    assert all(WEEK <= one.age < WEEK + DAY for one in found.ended)
    assert not found.is_full


def test_pages_follow_each_other_and_meet_each_row_once(store):
    ids = sorted(finished_jobs(store, *[Succeeded()] * 5))
    seen, after, full = [], FIRST_ID, True

    while full:
        ended, after, full = page(store, after=after, limit=2)
        seen.append([one.job_id for one in ended])

    assert seen == [ids[:2], ids[2:4], ids[4:]]
    assert page(store, after=after).ended == []


def test_rows_that_have_not_ended_fill_a_page_too(store):
    ready_jobs(store, 3)

    found = page(store, limit=2)

    assert (found.ended, found.is_full) == ([], True)
    assert found.last == sorted(Job.objects.values_list("id", flat=True))[1]


def test_rows_that_are_younger_than_a_span_are_not_read(store):
    old = finished_ago(finished_jobs(store, Succeeded()), WEEK)
    finished_jobs(store, Succeeded())

    assert [one.job_id for one in page(store, older_than=DAY).ended] == old


def test_what_was_read_is_deleted(store):
    finished_jobs(store, Succeeded(), Failed(ERROR))
    (ready,) = ready_jobs(store, 1)

    assert delete_all(store) == Deleted(2, 0)

    assert [one.id for one in Job.objects.all()] == [ready]
    assert store.delete_ended([]) == Deleted(0, 0)


def test_a_job_that_someone_retries_meanwhile_is_kept(store, other):
    (job_id,) = finished_jobs(store, Failed(ERROR))
    ended = page(store).ended

    other.do(store.retry, [job_id])

    assert store.delete_ended(ended) == Deleted(0, 0)
    assert state(store, job_id) == "ready"


@pytest.mark.parametrize("archive", [None, len])
def test_a_job_that_was_retried_and_has_failed_again_is_kept(archive, store):
    (job_id,) = finished_jobs(store, Failed(ERROR))
    finished_ago([job_id], WEEK)
    ended = page(store).ended
    (job_id,) = [one.job_id for one in ended]
    store.retry([job_id])
    store.finish(claim_one(store), Failed(ERROR))

    assert store.delete_ended(ended, archive=archive) == Deleted(0, 0)
    assert state(store, job_id) == "failed"


def test_rows_that_someone_holds_are_passed_over(store, other, vendor):
    if vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    held_id, free_id = finished_jobs(store, Failed(ERROR), Failed(ERROR))
    held = Held(other, lambda: store.retry([held_id]))

    assert delete_all(store) == Deleted(1, 0)

    held.roll_back()
    assert [state(store, held_id), state(store, free_id)] == ["failed", "gone"]


def test_two_may_delete_the_same_at_once(store, other, vendor):
    finished_jobs(store, *[Succeeded()] * 4)
    ended = page(store).ended
    if vendor == "sqlite":
        both = [store.delete_ended(ended), other.do(store.delete_ended, ended)]
    else:
        with transaction.atomic():
            first = store.delete_ended(ended[:2])
            both = [first, other.do(store.delete_ended, ended)]

    assert sum(one.jobs for one in both) == 4
    assert Job.objects.count() == 0


# ---- archive -----------------------------------------------------------------------


def test_the_archive_gets_the_jobs_before_they_are_deleted(store):
    ids = finished_jobs(store, Succeeded("42"), Failed(ERROR))
    kept = []

    def archive(jobs):
        kept.extend((one.id, one.state, one.args, one.return_value) for one in jobs)
        assert Job.objects.filter(id__in=[one.id for one in jobs]).count() == 2

    assert delete_all(store, archive=archive) == Deleted(2, 0)

    assert {one[0] for one in kept} == set(ids)
    assert {one[1:] for one in [(a, b, str(c), d) for a, b, c, d in kept]} == {
        ("succeeded", "[]", 42),
        ("failed", "[]", None),
    }


def test_what_an_archive_has_written_here_is_committed_with_the_deletion_or_not_at_all(store):
    finished_jobs(store, Succeeded(), Succeeded())
    ended = page(store).ended

    def fail(jobs):
        Effect.objects.create(key="archived")
        raise OSError("the archive is full")

    with pytest.raises(ArchiveFailed, match=r"raised for 2 ended job") as told:
        store.delete_ended(ended, archive=fail)

    assert isinstance(told.value.__cause__, OSError)
    assert (Job.objects.count(), Effect.objects.count()) == (2, 0)

    store.delete_ended(ended, archive=lambda jobs: Effect.objects.create(key="archived"))

    assert (Job.objects.count(), Effect.objects.count()) == (0, 1)


def test_an_archive_that_breaks_a_constraint_deletes_nothing_either(store):
    finished_jobs(store, Succeeded(), Succeeded())

    def write_twice(_jobs):
        Effect.objects.create(id=1, key="archived")
        Effect.objects.create(id=1, key="archived")

    with pytest.raises(ArchiveFailed):
        delete_all(store, archive=write_twice)

    assert (Job.objects.count(), Effect.objects.count()) == (2, 0)


def test_a_job_that_was_retried_meanwhile_is_not_archived(store):
    one, two = finished_jobs(store, Failed(ERROR), Failed(ERROR))
    ended = page(store).ended
    store.retry([one])
    got = []

    store.delete_ended(ended, archive=lambda jobs: got.extend(job.id for job in jobs))

    assert got == [two]


# ---- rows of the user's that point at jobs -------------------------------------------


REFUSING = [models.PROTECT, models.RESTRICT]


@pytest.mark.parametrize("receipts", REFUSING, indirect=True, ids=["protect", "restrict"])
@pytest.mark.parametrize("archived", [False, True])
def test_a_row_that_refuses_keeps_its_job_and_no_other(receipts, archived, store):
    ids = finished_jobs(store, *[Succeeded()] * 7)
    receipts.create(job=job(store, ids[3]))
    got = []
    archive = (lambda jobs: got.extend(one.id for one in jobs)) if archived else None

    assert delete_all(store, archive=archive) == Deleted(6, 1)

    assert [one.id for one in Job.objects.all()] == [ids[3]]
    assert receipts.count() == 1
    assert sorted(got) == (sorted({*ids} - {ids[3]}) if archived else [])


@pytest.mark.parametrize("receipts", [models.CASCADE], indirect=True, ids=["cascade"])
def test_rows_that_follow_are_deleted_with_the_job(receipts, store):
    ids = finished_jobs(store, *[Succeeded()] * 3)
    for job_id in ids:
        receipts.create(job=job(store, job_id))

    assert delete_all(store) == Deleted(3, 0)

    assert (Job.objects.count(), receipts.count()) == (0, 0)


@pytest.mark.parametrize("receipts", [models.DO_NOTHING], indirect=True, ids=["do nothing"])
def test_what_the_database_refuses_is_kept(receipts, store):
    ids = finished_jobs(store, *[Succeeded()] * 3)
    receipts.create(job=job(store, ids[1]))

    assert delete_all(store) == Deleted(2, 1)

    assert [one.id for one in Job.objects.all()] == [ids[1]]


# ---- who prunes --------------------------------------------------------------------


def test_the_first_worker_is_the_one_that_began_first_and_is_seen(store):
    workers, (late, early, silent) = store.workers, [UUID(int=n) for n in (1, 2, 3)]
    assert workers.first(within=DAY) is None
    for days, one in enumerate((late, early, silent), 1):
        workers.announce(one, locked=False)
        WorkerPresence.objects.filter(id=one).update(started_at=ago(days * DAY))
    assert workers.first(within=DAY) == silent

    WorkerPresence.objects.filter(id=silent).update(seen_at=ago(WEEK))

    assert workers.first(within=DAY) == early


def test_what_workers_have_pruned_is_told(store):
    one, two = uuid4(), uuid4()
    assert store.workers.last_pruned() == (0, None)
    for worker_id in (one, two):
        store.workers.announce(worker_id, locked=False)

    store.workers.pruned(one, jobs=3)
    store.workers.pruned(one, jobs=0)
    store.workers.pruned(two, jobs=4)

    jobs, at = store.workers.last_pruned()
    assert jobs == 7
    assert at is not None


def test_nothing_is_deleted_between_the_look_and_the_lock(store, other):
    """As the walk does: what is read first is judged again under the lock."""
    (job_id,) = finished_jobs(store, Failed(ERROR))

    with at_statement(TO_READ_THE_PAGE, lambda: other.do(store.retry, [job_id])):
        assert delete_all(store) == Deleted(0, 0)

    assert state(store, job_id) == "ready"
    assert page(store, older_than=DAY).ended == []
