"""A job is part of the transaction that enqueues it, and of no other."""

from datetime import timedelta
from functools import partial
from uuid import uuid4

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import DatabaseError, IntegrityError, transaction

from aftercommit.models import Job
from aftercommit.store import store_for
from aftercommit.values import ClaimQuery
from tests.app.models import Account
from tests.databases import ALIASES
from tests.django import tasks
from tests.django.conftest import in_another_thread, only_job

pytestmark = pytest.mark.django_db(transaction=True, databases=ALIASES)


class Rollback(Exception):
    """FinishedCounter a block that shall not be committed."""


def claim():
    """Claim what is due, as a worker does."""
    return store_for("default").claim(
        ClaimQuery(queue="default", limit=9, worker_id=uuid4(), lease=timedelta(minutes=1))
    )


def test_outside_a_transaction_the_job_is_there_at_once():
    tasks.note.enqueue()

    assert len(in_another_thread(claim)) == 1


def test_no_worker_sees_the_job_before_the_commit():
    with transaction.atomic():
        tasks.note.enqueue()
        before = in_another_thread(claim)
    after = in_another_thread(claim)

    assert (len(before), len(after)) == (0, 1)


def test_a_worker_that_claims_the_job_finds_the_rows_of_its_transaction():
    with transaction.atomic():
        account = Account.objects.create(balance=1)
        tasks.note.enqueue(account.pk)

    def look():
        return [
            Account.objects.filter(pk=one).exists()
            for claimed in claim()
            for one in [pk_of(claimed)]
        ]

    assert in_another_thread(look) == [True]


def pk_of(claimed):
    """Return the argument of a claimed job."""
    return Job.objects.get(pk=claimed.job_id).args[0]


def test_after_a_rollback_the_job_never_existed():
    with pytest.raises(Rollback), transaction.atomic():
        Account.objects.create(balance=1)
        tasks.note.enqueue()
        raise Rollback

    assert not Job.objects.exists()
    assert not Account.objects.exists()


def test_a_rolled_back_savepoint_takes_its_jobs_with_it():
    with transaction.atomic():
        kept = tasks.note.enqueue("before")
        with pytest.raises(Rollback), transaction.atomic():
            tasks.note.enqueue("inside")
            raise Rollback
        also_kept = tasks.note.enqueue("after")

    assert {str(job.id) for job in Job.objects.all()} == {kept.id, also_kept.id}


def test_a_released_savepoint_goes_with_the_outer_transaction():
    with pytest.raises(Rollback), transaction.atomic():
        with transaction.atomic():
            tasks.note.enqueue()
        raise Rollback

    assert not Job.objects.exists()


def test_a_broken_transaction_says_so():
    with transaction.atomic():
        with pytest.raises(IntegrityError), transaction.atomic():
            Account.objects.create(pk=1)
            Account.objects.create(pk=1)
        transaction.set_rollback(True)
        with pytest.raises(DatabaseError):
            tasks.note.enqueue()

    assert not Job.objects.exists()


def test_on_commit_still_works_though_nobody_needs_it():
    with transaction.atomic():
        transaction.on_commit(partial(tasks.note.enqueue, "late"))
        assert not Job.objects.exists()

    assert only_job().args == ["late"]


def test_many_jobs_go_with_their_transaction():
    with pytest.raises(Rollback), transaction.atomic():
        tasks.note.enqueue_many([(number,) for number in range(3)])
        raise Rollback
    with transaction.atomic():
        ids = tasks.note.enqueue_many([(number,) for number in range(3)])

    assert {str(job.id) for job in Job.objects.all()} == set(ids)


def test_a_job_of_another_database_goes_with_the_transaction_there():
    with pytest.raises(Rollback), transaction.atomic(using="other"):
        tasks.elsewhere.enqueue("undone")
        tasks.note.enqueue("kept")
        raise Rollback

    assert not Job.objects.using("other").exists()
    assert only_job().args == ["kept"]


def test_a_transaction_on_one_database_holds_nothing_of_another():
    with pytest.raises(Rollback), transaction.atomic(using="default"):
        tasks.note.enqueue("undone")
        tasks.elsewhere.enqueue("kept")
        raise Rollback

    assert not Job.objects.exists()
    assert only_job("other").args == ["kept"]


# Async code: the row joins the transaction of the thread that Django's queries run in.


def test_aenqueue_joins_the_transaction_around_async_code():
    with pytest.raises(Rollback), transaction.atomic():
        async_to_sync(tasks.note.aenqueue)("undone")
        assert only_job().args == ["undone"]
        raise Rollback

    assert not Job.objects.exists()


def test_enqueue_joins_the_transaction_of_a_sync_part_of_async_code():
    @sync_to_async
    def order():
        with transaction.atomic():
            Account.objects.create(balance=1)
            tasks.note.enqueue("undone")
            raise Rollback

    async def view():
        with pytest.raises(Rollback):
            await order()
        await tasks.note.aenqueue("kept")
        return await sync_to_async(only_job)()

    assert async_to_sync(view)().args == ["kept"]
    assert not Account.objects.exists()


def test_aenqueue_many_joins_the_transaction_too():
    with pytest.raises(Rollback), transaction.atomic():
        ids = async_to_sync(tasks.note.aenqueue_many)([(1,), (2,)])
        assert len(ids) == Job.objects.count() == 2
        raise Rollback

    assert not Job.objects.exists()
