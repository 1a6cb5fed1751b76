"""T0 with a key that is held: what a rule does to the holder, whoever else wants it meanwhile."""

from datetime import timedelta

import pytest
from django.db import connection, transaction

from aftercommit.errors import JobExists
from aftercommit.models import Job
from aftercommit.values import OnConflict, Succeeded
from tests.store.callers import Held, answer, statements
from tests.store.given import claim_all, claim_one, job, new_job, state

REPLACE, REFUSE = OnConflict(replaces=True), OnConflict(refuses=True)
DEBOUNCE = OnConflict(debounce=timedelta(minutes=1), debounce_max=timedelta(hours=1))
CHANGES = pytest.mark.parametrize("rule", [REPLACE, DEBOUNCE], ids=["replace", "debounce"])
BOTH = pytest.mark.parametrize("until_started", [True, False])


def place(store, rule, text="", **given):
    """Enqueue a job with the key; return where it ended up."""
    given = {"unique_key": "key", "payload": f'{{"args":["{text}"],"kwargs":{{}}}}', **given}
    (placed,) = store.insert_unique([new_job(**given)], rule)
    return placed


def text_of(store, job_id):
    """Return what ``place`` was called with."""
    return job(store, job_id).args[0]


def make_due(job_id):
    """Let a debounced job be due."""
    Job.objects.filter(id=job_id).update(run_after=job_moment(job_id) - timedelta(days=1))


def job_moment(job_id):
    """Return when a job was enqueued."""
    return Job.objects.get(id=job_id).enqueued_at


def test_a_new_job_has_no_other_holder(store):
    placed = place(store, REPLACE)

    assert (placed.holder, state(store, placed.job_id)) == (None, "ready")


def test_where_the_insert_tells_the_moment_a_fresh_key_costs_one_statement(store):
    with transaction.atomic(), statements() as seen:
        place(store, OnConflict())

    own = [sql for sql, _ in seen if "SAVEPOINT" not in sql]
    assert len(own) == (1 if store.tells_inserted else 4)


@CHANGES
@pytest.mark.parametrize("commits", [True, False])
def test_who_waits_for_the_change_of_another_changes_what_is_there_then(
    store, new_caller, rule, commits
):
    holder = place(store, rule, "old").job_id
    first = Held(new_caller(), lambda: place(store, REPLACE, "first", priority=1))
    second = new_caller()
    begun = second.start(place, store, REPLACE, "second")
    assert second.must_wait(begun)

    first.commit() if commits else first.roll_back()

    assert answer(begun).job_id == holder
    assert text_of(store, holder) == "second"
    assert job(store, holder).priority == 0


@pytest.mark.parametrize("commits", [True, False])
def test_nobody_is_refused_because_of_a_job_that_is_rolled_back(store, new_caller, commits):
    first = Held(new_caller(), lambda: place(store, REFUSE))
    second = new_caller()
    begun = second.start(place, store, REFUSE)
    assert second.must_wait(begun)

    first.commit() if commits else first.roll_back()

    if commits:
        with pytest.raises(JobExists) as refusal:
            answer(begun)
        assert refusal.value.job_id == first.result.job_id
    else:
        assert state(store, answer(begun).job_id) == "ready"
    assert Job.objects.count() == 1


@CHANGES
@pytest.mark.parametrize("commits", [True, False])
def test_a_rolled_back_first_call_is_no_first_call(store, new_caller, rule, commits):
    first = Held(new_caller(), lambda: place(store, rule, "first"))
    second = new_caller()
    begun = second.start(place, store, rule, "second")
    assert second.must_wait(begun)

    first.commit() if commits else first.roll_back()

    placed = answer(begun)
    assert (placed.job_id == first.result.job_id) is commits
    assert Job.objects.count() == 1
    assert text_of(store, placed.job_id) == (
        "first" if commits and rule is DEBOUNCE else "second"
    )


def test_a_job_that_is_being_replaced_does_not_start_with_its_old_arguments(store, new_caller):
    holder = place(store, REPLACE, "old").job_id
    replaced = Held(new_caller(), lambda: place(store, REPLACE, "new"))
    worker = new_caller()

    begun = worker.start(claim_all, store)
    too_early = [] if worker.must_wait(begun) else answer(begun)
    replaced.commit()

    assert too_early == []
    (claim,) = answer(begun) + claim_all(store)
    assert (claim.job_id, '"new"' in claim.payload) == (holder, True)


def test_between_the_look_at_a_holder_and_its_change_no_worker_starts_it(store, other, vendor):
    if vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    holder = place(store, REPLACE, "old", unique_until_started=True).job_id
    claimed = []

    def start():
        claimed.append(other.do(claim_all, store))

    with transaction.atomic(), before_update(start):
        placed = place(store, REPLACE, "new", unique_until_started=True)

    assert (claimed, placed.job_id) == ([[]], holder)


def before_update(act):
    """Act before the calling thread's first UPDATE of a job."""
    acted = []

    def watch(execute, sql, params, many, context):
        if sql.startswith("UPDATE") and not acted:
            acted.append(sql)
            act()
        return execute(sql, params, many, context)

    return connection.execute_wrapper(watch)


@BOTH
@CHANGES
def test_a_call_that_waits_for_the_start_of_the_holder_does_not_change_what_runs(
    store, new_caller, rule, until_started
):
    holder = place(store, rule, "old", unique_until_started=until_started).job_id
    make_due(holder)
    start = Held(new_caller(), lambda: claim_one(store))
    second = new_caller()
    begun = second.start(place, store, rule, "new", unique_until_started=until_started)
    second.must_wait(begun)

    start.commit()

    placed = answer(begun)
    assert (text_of(store, holder), state(store, holder)) == ("old", "running")
    if until_started:
        assert placed.job_id != holder
        assert text_of(store, placed.job_id) == "new"
    else:
        assert (placed.job_id, placed.holder.args) == (holder, ["old"])


def test_a_holder_that_cannot_be_changed_any_more_is_met_again(store, monkeypatch):
    place(store, REPLACE, "old")
    change, seen = type(store)._change_holder, []

    def too_late(self, holder, *given):
        seen.append(holder.id)
        if len(seen) == 1:  # as if it had started and ended just now
            Job.objects.filter(id=holder.id).delete()
        return change(self, holder, *given)

    monkeypatch.setattr(type(store), "_change_holder", too_late)
    placed = place(store, REPLACE, "new")

    assert (placed.holder, text_of(store, placed.job_id)) == (None, "new")


def test_a_running_holder_is_not_locked_by_who_would_replace_it(store, new_caller, vendor):
    if vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    place(store, REPLACE)
    claim = claim_one(store)
    counts_on_it = Held(new_caller(), lambda: place(store, REPLACE))
    worker = new_caller()

    finishing = worker.start(store.finish, claim, Succeeded())

    assert not worker.must_wait(finishing)
    assert answer(finishing).state == "succeeded"
    assert counts_on_it.result.holder.state == "running"
    counts_on_it.commit()


@CHANGES
def test_callers_who_change_two_holders_in_different_orders_do_not_deadlock(
    store, new_caller, rule
):
    callers = [new_caller() for _ in range(4)]
    orders = [["a", "b"], ["b", "a"], ["a", "b"], ["b", "a"]]

    def enqueue(keys):
        jobs = [[new_job(unique_key=key) for key in keys] for _ in range(10)]
        return [[one.job_id for one in store.insert_unique(some, rule)] for some in jobs]

    begun = [caller.start(enqueue, keys) for caller, keys in zip(callers, orders, strict=True)]

    taken = {frozenset(ids) for one in begun for ids in answer(one)}
    assert len(taken) == 1
    assert Job.objects.count() == 2


def test_a_replaced_job_wakes_workers_if_it_is_due_now(store, monkeypatch):
    later = job_moment(place(store, REPLACE).job_id) + timedelta(hours=1)
    woken = []
    monkeypatch.setattr(type(store), "_wake", lambda _self, queues: woken.extend(queues))

    place(store, REPLACE, run_after=later)
    place(store, DEBOUNCE)
    assert woken == []
    place(store, REPLACE)

    assert woken == ["default"]


def test_after_a_lost_answer_the_same_job_is_no_conflict(store):
    one = new_job(unique_key="key")
    store.insert_unique([one], REFUSE)

    (placed,) = store.insert_unique([one], REFUSE)  # as the repetition does

    assert (placed.job_id, placed.holder) == (one.id, None)


def test_after_a_lost_answer_the_same_job_may_have_ended(store):
    one = new_job(unique_key="key")
    store.insert_unique([one], REFUSE)
    store.finish(claim_one(store), Succeeded())

    (placed,) = store.insert_unique([one], REFUSE)  # as the repetition does

    assert (placed.job_id, placed.holder) == (one.id, None)
    assert state(store, one.id) == "succeeded"
