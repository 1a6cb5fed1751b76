"""Groups in the tables: what is counted, when, and what nobody writes."""

from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from aftercommit.errors import GroupDoesNotExist, GroupHasEnded
from aftercommit.ids import new_job_id
from aftercommit.models import Group, Job, Member
from aftercommit.store import members
from aftercommit.store.criteria import STATES, Criteria
from aftercommit.store.deleted_members import DeletedMembers
from aftercommit.store.pruning import FIRST_ID
from aftercommit.values import Cancelled, Failed, Retry, Succeeded, SucceededAndGone
from tests.store.callers import Held, answer
from tests.store.given import ERROR, claim_all, claim_one, job, ready_job, ready_jobs, state
from tests.store.test_prune import ANY_AGE, DAY

LONG = timedelta(days=30)
OUTCOMES = (Succeeded("1"), Failed(ERROR), Cancelled(None))


def new_group(store, jobs=3, *, name="import", last=False, **given):
    """Return a group with so many jobs, and perhaps a last one."""
    group_id = new_job_id()
    with transaction.atomic():
        ids = ready_jobs(store, jobs, needed=True, **given)
        last_id = ready_job(store, queue="last", needed=True) if last else None
        store.insert_group(group_id, name=name, meta={}, final_id=last_id)
        store.add_members(group_id, [*ids, *([last_id] if last_id else [])])
    return group_id, sorted(ids)


def numbers(store, group_id):
    """Return the counts that are not zero."""
    counts = store.group_counts(group_id)
    return {state: getattr(counts, state) for state in STATES if getattr(counts, state)}


def end(store, *outcomes):
    """Claim jobs and end them like this."""
    claims = claim_all(store, limit=len(outcomes))
    return store.finish_many(list(zip(claims, outcomes, strict=True)))


# ---- what is counted ----------------------------------------------------------------


def test_the_jobs_of_a_group_are_counted_by_their_states(store):
    group_id, _ids = new_group(store, 6)
    ready_jobs(store, 2, queue="others")

    end(store, *OUTCOMES)
    claim_one(store)

    found = {"ready": 2, "running": 1, "succeeded": 1, "failed": 1, "cancelled": 1}
    assert numbers(store, group_id) == found
    counts = store.group_counts(group_id)
    assert (counts.left, counts.done) == (3, 3)
    assert counts.timed == 2
    assert counts.first_claimed_at <= counts.last_finished_at


def test_a_job_that_will_run_again_has_not_ended(store):
    group_id, _ids = new_group(store, 1)

    end(store, Retry(ERROR))

    assert numbers(store, group_id) == {"ready": 1}


def test_the_last_job_is_found_and_not_counted(store):
    group_id, ids = new_group(store, 2, last=True)
    last_id = store.last_of(group_id)

    assert numbers(store, group_id) == {"ready": 2}
    assert store.group_of(last_id).id == group_id
    assert [one.id for page in store.jobs_of_group(group_id) for one in page] == ids


def test_a_group_that_is_not_there_has_no_jobs(store):
    assert numbers(store, new_job_id()) == {}
    assert store.group(new_job_id()) is None
    assert store.group_of(new_job_id()) is None


def test_groups_are_found_by_name_the_newest_first(store):
    first, _ids = new_group(store)
    second, _ids = new_group(store)
    new_group(store, name="other")

    assert [one.id for one in store.named_groups("import", limit=9)] == [second, first]
    assert [one.id for one in store.named_groups("import", limit=1)] == [second]
    assert store.named_groups("Import", limit=9) == []
    assert store.latest_groups(limit=1)[0].name == "other"


# ---- what is not written ------------------------------------------------------------


def test_the_end_of_a_job_writes_nothing_to_its_group(store):
    new_group(store, 3)
    claims = claim_all(store, limit=3)

    with CaptureQueriesContext(connection) as statements:
        store.finish_many(list(zip(claims, OUTCOMES, strict=True)))

    for one in statements:
        sql = one["sql"].lower()
        assert not ("update" in sql and "aftercommit_group" in sql)
        assert not ("update" in sql and "aftercommit_member" in sql)


def test_jobs_of_a_group_end_while_somebody_has_its_row_locked(store, other, vendor):
    if vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    group_id, _ids = new_group(store, 3)
    held = Held(other, lambda: list(Group.objects.select_for_update().filter(id=group_id)))

    ended = end(store, *OUTCOMES)

    assert len(ended) == 3
    held.roll_back()


def test_a_job_without_a_group_costs_its_deletion_no_statement(store):
    ready_jobs(store, 1)
    end(store, Succeeded("1"))

    with CaptureQueriesContext(connection) as statements:
        store.delete_ended(store.page(after=FIRST_ID, older_than=ANY_AGE, limit=9).ended)

    assert not [one for one in statements if "aftercommit_member" in one["sql"]]
    assert not Job.objects.exists()


# ---- deleted jobs -------------------------------------------------------------------


def by_age(store):
    store.prune(older_than=ANY_AGE)


def by_rule(store):
    store.delete_ended(store.page(after=FIRST_ID, older_than=ANY_AGE, limit=100).ended)


def by_rule_with_archive(store):
    ended = store.page(after=FIRST_ID, older_than=ANY_AGE, limit=100).ended
    store.delete_ended(ended, archive=len)


def by_operator(store):
    every = Criteria(ids=None, states=STATES)
    store.delete(list(Job.objects.values_list("id", flat=True)), every)


@pytest.mark.parametrize("delete", [by_age, by_rule, by_rule_with_archive, by_operator])
def test_deleted_jobs_are_counted_still(store, delete):
    group_id, _ids = new_group(store, 4, last=True)
    other_id, _ids = new_group(store, 1, queue="others")
    end(store, *OUTCOMES)
    store.finish(claim_one(store, queue="last"), Succeeded("1"))

    delete(store)

    found = {"ready": 1, "succeeded": 1, "failed": 1, "cancelled": 1}
    assert numbers(store, group_id) == found
    assert numbers(store, other_id) == {"ready": 1}
    assert Member.objects.filter(group_id=group_id).count() == 1


def test_the_row_of_a_job_that_a_group_counts_does_not_go_with_its_success(store):
    group_id, _ids = new_group(store, 2)

    (ended,) = end(store, SucceededAndGone("1"))

    assert state(store, ended.job_id) == "succeeded"
    assert numbers(store, group_id) == {"ready": 1, "succeeded": 1}


def test_a_job_whose_row_is_gone_has_succeeded(store):
    group_id, _ids = new_group(store, 2)
    (ended,) = end(store, Succeeded("1"))

    Job.objects.filter(id=ended.job_id).delete()  # as a program of before does

    assert numbers(store, group_id) == {"ready": 1, "succeeded": 1}


def test_a_deletion_that_is_rolled_back_counts_nothing(store):
    group_id, _ids = new_group(store, 1)
    end(store, Succeeded("1"))

    with transaction.atomic():
        by_age(store)
        transaction.set_rollback(True)

    assert numbers(store, group_id) == {"succeeded": 1}
    assert Group.objects.get().pruned_succeeded == 0


def test_mutant_deletions_that_are_not_counted(store, monkeypatch):
    monkeypatch.setattr(DeletedMembers, "_deleting", lambda _store, _states: None)

    with pytest.raises(AssertionError):
        test_deleted_jobs_are_counted_still(store, by_age)


# ---- groups are deleted -------------------------------------------------------------


def prune(store, older_than=LONG, after=FIRST_ID):
    return store.prune_groups(after=after, older_than=older_than, limit=10)


def test_a_group_stays_for_a_while_after_its_last_job_is_gone(store):
    group_id, _ids = new_group(store, 2)
    end(store, Succeeded("1"), Succeeded("1"))
    Job.objects.filter(id=Job.objects.latest("id").id).delete()
    by_age(store)

    prune(store)

    assert numbers(store, group_id) == {"succeeded": 2}
    assert not Member.objects.exists()
    Group.objects.update(emptied_at=Group.objects.get().emptied_at - LONG - DAY)
    prune(store)
    assert store.group(group_id) is None


def test_a_group_with_a_row_of_a_job_stays(store):
    group_id, _ids = new_group(store, 1, last=True)
    end(store, Succeeded("1"))
    by_age(store)

    prune(store, older_than=ANY_AGE)
    prune(store, older_than=ANY_AGE)

    assert store.group(group_id).emptied_at is None


def test_the_last_job_is_not_counted_when_its_row_is_gone(store):
    group_id, _ids = new_group(store, 1, last=True)
    end(store, Succeeded("1"))
    Job.objects.filter(id=store.last_of(group_id)).delete()
    by_age(store)

    prune(store)

    assert store.group(group_id).emptied_at is not None
    assert numbers(store, group_id) == {"succeeded": 1}


def test_groups_are_looked_at_page_by_page(store):
    made = [new_group(store, 1)[0] for _ in range(3)]

    assert store.prune_groups(after=FIRST_ID, older_than=LONG, limit=2) == made[1]
    assert store.prune_groups(after=made[1], older_than=LONG, limit=2) is None


def empty_group(store, *, emptied):
    """Return a group that never had a job, and was found empty so long ago."""
    group_id = new_job_id()
    store.insert_group(group_id, name="import", meta={})
    prune(store)
    made = Group.objects.get(id=group_id)
    Group.objects.filter(id=group_id).update(
        created_at=made.created_at - emptied, emptied_at=made.emptied_at - emptied
    )
    return group_id


def test_a_group_that_gets_jobs_after_it_was_found_empty_stays(store):
    group_id = empty_group(store, emptied=LONG + DAY)

    job_id = add(store, group_id)
    prune(store)

    assert store.group_of(job_id).id == group_id
    assert store.group(group_id).emptied_at is None


def test_a_group_that_gets_a_last_job_after_it_was_found_empty_stays(store):
    group_id = empty_group(store, emptied=LONG + DAY)

    assert store.set_last(group_id, ready_job(store, needed=True))
    prune(store)

    assert store.group(group_id).emptied_at is None


def test_a_group_with_a_member_is_not_deleted_whatever_was_noticed(store):
    group_id, _ids = new_group(store, 1)
    Group.objects.update(emptied_at=Group.objects.get().created_at - LONG - DAY)

    prune(store)

    assert store.group(group_id) is not None


def test_a_group_without_jobs_stays_for_a_while_after_it_was_made(store):
    group_id = empty_group(store, emptied=timedelta(0))

    store.prune_groups(after=FIRST_ID, older_than=-DAY, made_before=LONG, limit=10)
    assert store.group(group_id) is not None

    store.prune_groups(after=FIRST_ID, older_than=-DAY, made_before=-DAY, limit=10)
    assert store.group(group_id) is None


def test_a_job_that_is_added_while_a_group_is_found_empty_is_no_deleted_one(store, monkeypatch):
    group_id = new_job_id()
    store.insert_group(group_id, name="import", meta={})
    marked = DeletedMembers._mark_empty

    def mark_late(self, found):
        add(store, group_id)
        marked(self, found)

    monkeypatch.setattr(DeletedMembers, "_mark_empty", mark_late)
    prune(store)

    assert numbers(store, group_id) == {"ready": 1}
    assert store.group(group_id).emptied_at is None


# ---- adding -------------------------------------------------------------------------


def add(store, group_id, **given):
    with transaction.atomic():
        store.hold_open(group_id, **given)
        job_id = ready_job(store, needed=True)
        store.add_members(group_id, [job_id])
    return job_id


def test_a_job_is_added_while_one_has_not_ended(store):
    group_id, _ids = new_group(store, 2)
    end(store, Succeeded("1"))

    job_id = add(store, group_id)

    assert numbers(store, group_id) == {"ready": 2, "succeeded": 1}
    assert store.group_of(job_id).id == group_id


def test_a_job_is_added_to_a_group_that_had_none(store):
    group_id, _ids = new_group(store, 0)

    add(store, group_id)

    assert numbers(store, group_id) == {"ready": 1}


@pytest.mark.parametrize("gone", [False, True])
def test_no_job_is_added_when_all_have_ended(store, gone):
    group_id, _ids = new_group(store, 1)
    end(store, Succeeded("1"))
    if gone:
        by_age(store)
        prune(store)

    with pytest.raises(GroupHasEnded, match="all of its jobs have ended"):
        add(store, group_id)
    assert not Job.objects.filter(state="ready").exists()


def test_no_job_is_added_to_a_group_that_has_begun_where_that_is_asked_for(store):
    group_id, _ids = new_group(store, 2)
    add(store, group_id, untouched=True)
    end(store, Succeeded("1"))

    with pytest.raises(GroupHasEnded, match="one of its jobs has ended"):
        add(store, group_id, untouched=True)


def test_no_job_is_added_to_a_group_that_is_not_there(store):
    with pytest.raises(GroupDoesNotExist):
        add(store, new_job_id())


def test_several_add_at_once(store, other, vendor):
    if vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    group_id, _ids = new_group(store, 1)
    held = Held(other, lambda: store.hold_open(group_id))

    add(store, group_id)  # waits for nobody

    held.roll_back()
    assert numbers(store, group_id) == {"ready": 2}


# ---- cancelling ---------------------------------------------------------------------


def test_all_jobs_that_have_not_ended_are_cancelled(store):
    group_id, _ids = new_group(store, 4)
    end(store, Succeeded("1"))
    running = claim_one(store)

    store.mark_cancelled(group_id)
    answer = store.cancel_members(group_id)

    assert (len(answer.ended), answer.requested) == (2, {running.job_id})
    assert job(store, running.job_id).cancel_requested
    assert numbers(store, group_id) == {"running": 1, "succeeded": 1, "cancelled": 2}
    with pytest.raises(GroupHasEnded, match="was cancelled"):
        add(store, group_id)


def test_the_last_job_is_cancelled_if_nothing_else_is_left(store):
    group_id, _ids = new_group(store, 1, last=True)

    store.cancel_members(group_id)
    assert state(store, store.last_of(group_id)) == "ready"

    store.cancel_members(group_id)
    assert state(store, store.last_of(group_id)) == "cancelled"


def test_cancelling_waits_for_whoever_is_adding(store, new_caller, vendor):
    if vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    group_id, _ids = new_group(store, 1)
    adder, canceller = new_caller(), new_caller()

    def add_one():
        store.hold_open(group_id)
        store.add_members(group_id, ready_jobs(store, 1, needed=True))

    held = Held(adder, add_one)
    begun = canceller.start(store.mark_cancelled, group_id)
    waits = canceller.must_wait(begun)
    held.commit()
    answer(begun)

    assert waits
    assert len(store.cancel_members(group_id).ended) == 2


def test_mutant_adders_hold_nothing(store, new_caller, vendor, monkeypatch):
    if vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    monkeypatch.setitem(members.SHARED, vendor, "")

    with pytest.raises(AssertionError):
        test_cancelling_waits_for_whoever_is_adding(store, new_caller, vendor)
