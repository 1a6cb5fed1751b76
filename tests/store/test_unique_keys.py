"""T0 with a key: at most one ready or running job has it, whoever else wants it meanwhile."""

from contextlib import suppress
from datetime import timedelta

import pytest
from django.db import OperationalError, connection, transaction

from aftercommit.errors import EnqueueFailed
from aftercommit.models import Job
from aftercommit.values import Ended, Failed, Released, Retry, Succeeded
from tests.store.callers import Held, answer
from tests.store.given import (
    ALREADY_OVER,
    ERROR,
    MOST_CRASHES,
    claim_all,
    claim_one,
    job,
    new_job,
    ready_job,
    state,
)

LATER = timedelta(hours=1)


def test_a_second_job_with_the_key_is_not_inserted_and_the_holder_is_named(store):
    holder = ready_job(store, unique_key="key")

    assert ready_job(store, unique_key="key") == holder

    assert Job.objects.count() == 1


def test_one_call_may_name_a_key_twice(store):
    first, free, second = new_job(unique_key="key"), new_job(), new_job(unique_key="key")

    assert store.insert([first, free, second]) == [first.id, free.id, first.id]


def test_keys_that_differ_only_in_case_are_two_keys(store):
    assert ready_job(store, unique_key="key") != ready_job(store, unique_key="KEY")


def test_a_key_may_be_long_and_in_any_language(store):
    holder = ready_job(store, unique_key="ключ" * 60)

    assert ready_job(store, unique_key="ключ" * 60) == holder


@pytest.mark.parametrize("outcome", [Retry(ERROR, LATER), Released(LATER)])
def test_a_job_that_runs_again_keeps_its_key(store, outcome):
    holder = ready_job(store, unique_key="key")

    store.finish(claim_one(store), outcome)

    assert ready_job(store, unique_key="key") == holder


def test_a_running_job_keeps_its_key(store):
    holder = claim_one(store) if ready_job(store, unique_key="key") else None

    assert ready_job(store, unique_key="key") == holder.job_id


def test_a_rescued_job_keeps_its_key(store):
    holder = ready_job(store, unique_key="key")
    claim_one(store, lease=ALREADY_OVER)

    store.rescue(max_crashes=MOST_CRASHES)

    assert ready_job(store, unique_key="key") == holder


@pytest.mark.parametrize("outcome", [Succeeded(), Failed(ERROR)])
def test_a_finished_job_gives_its_key_back(store, outcome):
    ready_job(store, unique_key="key")

    store.finish(claim_one(store), outcome)

    assert ready_job(store, unique_key="key") == claim_one(store).job_id


def test_a_cancelled_job_gives_its_key_back(store):
    holder = ready_job(store, unique_key="key")

    store.cancel([holder])

    assert ready_job(store, unique_key="key") != holder


def test_a_job_failed_by_a_rescue_gives_its_key_back(store):
    holder = ready_job(store, unique_key="key")
    claim_one(store, lease=ALREADY_OVER)

    store.rescue(max_crashes=1, blamed={holder: "exit status 1"})

    assert ready_job(store, unique_key="key") != holder


def test_a_key_until_started_is_free_once_the_job_runs(store):
    ready_job(store, unique_key="key", unique_until_started=True)
    first = claim_one(store)

    second = ready_job(store, unique_key="key", unique_until_started=True)

    assert second != first.job_id
    assert store.finish(first, Retry(ERROR))
    assert len(claim_all(store)) == 2


@pytest.mark.parametrize("commits", [True, False])
def test_whoever_waits_for_the_key_gets_a_job_that_exists(store, new_caller, commits):
    first = Held(new_caller(), lambda: ready_job(store, unique_key="key"))
    second = new_caller()
    begun = second.start(ready_job, store, unique_key="key")
    assert second.must_wait(begun)

    first.commit() if commits else first.roll_back()

    enqueued = answer(begun)
    assert (enqueued == first.result) is commits
    assert state(store, enqueued) == "ready"
    assert Job.objects.count() == 1


def test_whoever_waits_for_a_holder_that_finishes_gets_a_new_job(store, new_caller, vendor):
    holder = ready_job(store, unique_key="key")
    claim = claim_one(store)
    finishing = Held(new_caller(), lambda: store.finish(claim, Succeeded()))
    second = new_caller()
    begun = second.start(ready_job, store, unique_key="key")
    waits = second.must_wait(begun)

    finishing.commit()

    # MySQL looks first, and sees a job that still runs: as good as having come earlier.
    assert waits is (vendor != "mysql")
    assert (answer(begun) != holder) is waits


def test_a_holder_starts_only_after_everyone_who_counts_on_it_has_committed(store, new_caller):
    holder = ready_job(store, unique_key="key")
    counts_on_it = Held(new_caller(), lambda: ready_job(store, unique_key="key"))
    worker = new_caller()

    begun = worker.start(claim_all, store)
    too_early = [] if worker.must_wait(begun) else answer(begun)
    counts_on_it.commit()

    assert counts_on_it.result == holder
    assert too_early == []
    assert [one.job_id for one in answer(begun) + claim_all(store)] == [holder]


def test_callers_who_count_on_the_same_holder_do_not_wait_for_each_other(
    store, new_caller, vendor
):
    if vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    holder = ready_job(store, unique_key="key")
    first = Held(new_caller(), lambda: ready_job(store, unique_key="key"))

    second = Held(new_caller(), lambda: ready_job(store, unique_key="key"))

    assert first.result == second.result == holder
    first.commit()
    second.commit()


def test_a_running_holder_can_be_renewed_and_finished_while_someone_counts_on_it(
    store, new_caller, vendor
):
    if vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    holder = ready_job(store, unique_key="key")
    claim = claim_one(store)
    counts_on_it = Held(new_caller(), lambda: ready_job(store, unique_key="key"))
    worker = new_caller()

    renewed = store.renew([claim], lease=LATER).held
    finishing = worker.start(store.finish, claim, Succeeded())

    assert not worker.must_wait(finishing)
    assert (renewed, answer(finishing)) == ({holder: False}, Ended(holder, "succeeded"))
    assert counts_on_it.result == holder
    counts_on_it.commit()


def test_callers_who_take_two_keys_in_different_orders_do_not_deadlock(store, new_caller):
    callers = [new_caller() for _ in range(4)]
    orders = [["a", "b"], ["b", "a"], ["a", "b"], ["b", "a"]]

    def enqueue(keys):
        return [store.insert([new_job(unique_key=key) for key in keys]) for _ in range(10)]

    begun = [caller.start(enqueue, keys) for caller, keys in zip(callers, orders, strict=True)]

    taken = {frozenset(ids) for one in begun for ids in answer(one)}
    assert len(taken) == 1
    assert Job.objects.count() == 2


def test_nobody_is_promised_a_job_that_a_rollback_takes_away(store, new_caller):
    callers = [new_caller() for _ in range(5)]

    def enqueue(number):
        enqueued = []
        for round_number in range(10):
            rolls_back = (number + round_number) % 3 == 0
            with suppress(Refused), transaction.atomic():
                ids = enqueue_or_refuse(store, f"key {round_number}")
                transaction.set_rollback(rolls_back)
                enqueued += [] if rolls_back else ids
        return enqueued

    begun = [caller.start(enqueue, number) for number, caller in enumerate(callers)]
    promised = {job_id for one in begun for job_id in answer(one)}

    assert promised == set(Job.objects.values_list("id", flat=True))
    assert len(promised) <= 10


class Refused(Exception):
    """The database broke a deadlock: the caller is told, and the caller's transaction undone."""


def enqueue_or_refuse(store, key):
    try:
        return store.insert([new_job(unique_key=key)])
    except OperationalError as error:
        if "Deadlock" in str(error) and connection.vendor == "mysql":
            raise Refused from error
        raise


def test_outside_transactions_nobody_is_refused(store, new_caller):
    callers = [new_caller() for _ in range(5)]

    def enqueue():
        return [ready_job(store, unique_key=f"key {number}") for number in range(20)]

    begun = [caller.start(enqueue) for caller in callers]

    answers = [answer(one) for one in begun]
    assert answers == [answers[0]] * 5
    assert Job.objects.count() == 20


def test_a_holder_that_comes_and_goes_three_times_is_said_aloud(store, monkeypatch):
    ready_job(store, unique_key="key")
    monkeypatch.setattr(type(store), "_holder", lambda _store, _lock, change: None)

    with pytest.raises(EnqueueFailed, match="'key'"):
        ready_job(store, unique_key="key")

    assert Job.objects.count() == 1


def test_a_retried_job_takes_its_key_again(store):
    holder = ready_job(store, unique_key="key")
    store.finish(claim_one(store), Failed(ERROR))

    store.retry([holder])

    assert ready_job(store, unique_key="key") == holder
    assert job(store, holder).unique_lock is not None


def test_in_repeatable_read_the_holder_of_now_is_named(store, other, vendor):
    if vendor != "mysql":
        pytest.skip("PostgreSQL refuses such a transaction, SQLite has no such isolation")
    old = ready_job(store, unique_key="key")
    claim = claim_one(store)

    def replace_holder():
        store.finish(claim, Succeeded())
        return ready_job(store, unique_key="key")

    connection.isolation_level = "repeatable read"
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        with transaction.atomic():
            assert state(store, old) == "running"  # the snapshot begins
            new = other.do(replace_holder)

            assert ready_job(store, unique_key="key") == new
    finally:
        connection.isolation_level = "read committed"
