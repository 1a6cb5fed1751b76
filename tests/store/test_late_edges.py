"""A job that was enqueued before waits for others as well, and never runs before them."""

from uuid import uuid4

import pytest
from django.db import transaction

from aftercommit.errors import GraphError
from aftercommit.models import Dependency, Job
from aftercommit.store.graphs.late import LateEdges
from aftercommit.values import CANCEL, FAIL, RUN, Edge, Failed, Retry, Succeeded
from tests.store.callers import Held, answer
from tests.store.given import ERROR, claim_all, claim_one, job, new_job, ready_job, state


def waiting(store, *needs, on_failure=CANCEL):
    """Return a job that waits for these."""
    one = new_job(queue="last", waits=True)
    with transaction.atomic():
        store.insert_graph([one], [Edge(one.id, needed, on_failure) for needed in needs])
    return one.id


def is_free(store, job_id):
    return store.job(job_id).claimable


def end(store, outcome=None, **given):
    store.finish(claim_one(store, **given), outcome or Succeeded("1"))


def test_a_job_that_waits_waits_for_another_one_too(store):
    first = ready_job(store, needed=True)
    last = waiting(store, first)
    second = ready_job(store, queue="second", needed=True)

    assert store.let_wait(last, [second])
    end(store)
    assert not is_free(store, last)

    end(store, queue="second")
    assert is_free(store, last)
    assert not Dependency.objects.exists()


def test_a_job_that_could_be_claimed_waits_from_now_on(store):
    last, needed = ready_job(store, queue="last"), ready_job(store, needed=True)

    assert store.let_wait(last, [needed])

    assert claim_all(store, queue="last") == []
    assert job(store, last).waits_because == "jobs"
    end(store, Failed(ERROR))
    assert is_free(store, last)  # run: it had no other edges


@pytest.mark.parametrize("how", [CANCEL, FAIL, RUN])
def test_a_later_edge_is_like_the_others(store, how):
    last = waiting(store, ready_job(store, needed=True), on_failure=how)
    other_id = ready_job(store, queue="second", needed=True)

    store.let_wait(last, [other_id])

    assert {one.on_failure for one in Dependency.objects.all()} == {how}
    end(store, Failed(ERROR), queue="second")
    assert state(store, last) == {CANCEL: "cancelled", FAIL: "failed", RUN: "ready"}[how]


@pytest.mark.parametrize("between", [0, 2])
def test_jobs_do_not_wait_for_each_other_in_a_circle(store, between):
    last = ready_job(store, queue="last")
    added = waiting(store, last)
    for _number in range(between):
        added = waiting(store, added)

    with pytest.raises(GraphError, match="wait for jobs that wait for it"), transaction.atomic():
        store.let_wait(last, [ready_job(store), added])

    assert is_free(store, last)
    assert Dependency.objects.count() == between + 1


def test_what_has_ended_already_is_not_waited_for(store):
    needed = ready_job(store, needed=True)
    end(store)
    last = ready_job(store, queue="last")

    assert store.let_wait(last, [needed])

    assert is_free(store, last)


@pytest.mark.parametrize("begun", ["running", "retry", "succeeded", "failed", "gone"])
def test_a_job_that_has_begun_waits_for_nothing_more(store, begun):
    last = ready_job(store, queue="last")
    claim = claim_one(store, queue="last")
    ends = {"retry": Retry(ERROR), "succeeded": Succeeded("1"), "failed": Failed(ERROR)}
    if begun in ends:
        store.finish(claim, ends[begun])
    needed = ready_job(store)

    assert not store.let_wait(uuid4() if begun == "gone" else last, [needed])

    assert not Dependency.objects.exists()


def test_a_job_that_another_one_has_ended_takes_edges_for_a_retry(store):
    last = waiting(store, ready_job(store, needed=True))
    end(store, Failed(ERROR))
    assert state(store, last) == "cancelled"

    assert store.let_wait(last, [ready_job(store, needed=True)])

    assert Dependency.objects.filter(job_id=last).count() == 2


def test_an_edge_of_a_transaction_that_is_rolled_back_was_never_there(store):
    last = ready_job(store, queue="last")

    with transaction.atomic():
        store.let_wait(last, [ready_job(store)])
        transaction.set_rollback(True)

    assert is_free(store, last)


# ---- at the same time ---------------------------------------------------------------


def end_while_an_edge_is_added(store, other, monkeypatch):
    """End the only job that another one waits for; meanwhile that one gets an edge."""
    last = waiting(store, ready_job(store, needed=True))
    late = ready_job(store, queue="second", needed=True)
    plain, added = LateEdges._lock_waiting, []

    def lock_waiting(self, job_ids, *names):
        if not added:  # the open edges were looked at, and nothing is locked yet
            added.append(other.do(store.let_wait, last, [late]))
        return plain(self, job_ids, *names)

    monkeypatch.setattr(LateEdges, "_lock_waiting", lock_waiting)
    end(store)
    assert added == [True]
    return last


def test_an_edge_that_is_added_while_the_last_end_is_written_counts(
    store, other, vendor, monkeypatch
):
    if vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    last = end_while_an_edge_is_added(store, other, monkeypatch)

    assert not is_free(store, last)

    end(store, queue="second")
    assert is_free(store, last)


def test_no_worker_claims_it_while_an_edge_is_not_committed(store, other, vendor):
    if vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    last, needed = ready_job(store, queue="last"), ready_job(store)
    held = Held(other, lambda: store.let_wait(last, [needed]))

    assert claim_all(store, queue="last") == []

    held.commit()
    assert claim_all(store, queue="last") == []


def test_several_add_edges_to_a_waiting_job_at_once(store, new_caller, vendor):
    if vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    last = waiting(store, ready_job(store, needed=True))
    one, two = ready_job(store), ready_job(store)
    first, second = new_caller(), new_caller()
    held = Held(first, lambda: store.let_wait(last, [one]))

    begun = second.start(store.let_wait, last, [two])
    waits = second.must_wait(begun)
    held.commit()

    assert (waits, answer(begun)) == (False, True)
    assert Dependency.objects.filter(job_id=last).count() == 3
    assert Job.objects.get(id=last).waits_because == "jobs"


def test_two_that_let_the_same_free_job_wait_do_not_deadlock(store, other, vendor, monkeypatch):
    if vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    last, one, two = ready_job(store, queue="last"), ready_job(store), ready_job(store)
    keep_back, begun = LateEdges._keep_back, []

    def meanwhile(self, job_id):
        if not begun:
            begun.append(None)
            begun[:] = [other.start(store.let_wait, last, [two])]
            assert other.must_wait(begun[0])
        return keep_back(self, job_id)

    monkeypatch.setattr(LateEdges, "_keep_back", meanwhile)

    assert store.let_wait(last, [one])
    assert answer(begun[0])
    assert Dependency.objects.filter(job_id=last).count() == 2
