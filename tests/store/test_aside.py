"""Jobs of paused tasks: set aside where a claim would meet them, and brought back."""

import pytest
from django.db import connection, transaction
from django.db.models import Q

from aftercommit.models import Blocked, Dependency, Job, Rule, State
from aftercommit.store import aside
from aftercommit.store.aside import Front
from aftercommit.store.rules import Rules
from aftercommit.values import TASK, Failed, Limit, OnConflict, Succeeded
from tests.store.given import ERROR, claim_all, locked, new_job, ready_job, ready_jobs

PAUSED, OTHER = "shop.tasks.charge", "shop.tasks.mail"
GROUPS = [("default", 0)]


@pytest.fixture(autouse=True)
def small_front(monkeypatch):
    """Look at few jobs at a time."""
    monkeypatch.setattr(aside, "FRONT", 4)


def pause(store, task=PAUSED):
    """Pause a task."""
    return store.pause(TASK, task, by="", why="")


def set_aside(store, groups=GROUPS, queue="default"):
    """Set aside what a claim would meet."""
    return store.set_aside(queue, groups, {PAUSED})


def bring_all_back(store):
    """Bring back until there is nothing; return how many calls it took."""
    calls = 1
    while store.bring_back(PAUSED):
        calls += 1
    return calls


def claimable():
    """Return how many jobs a claim could meet."""
    return Job.objects.filter(claimable=True).count()


def test_the_first_jobs_of_a_paused_task_are_set_aside_in_batches_and_the_others_stay(store):
    pause(store)
    ready_jobs(store, 9, task_path=PAUSED)
    others = ready_jobs(store, 2, task_path=OTHER)
    elsewhere = ready_job(store, task_path=PAUSED, queue="elsewhere")

    seen = [set_aside(store) for _number in range(4)]

    assert seen == [Front.MOVED, Front.MOVED, Front.MOVED, Front.CLEAR]
    assert set(Job.objects.filter(claimable=True).values_list("id", flat=True)) == {
        *others,
        elsewhere,
    }
    waiting = Job.objects.filter(claimable=False, state=State.READY, waits_for=1, token=0)
    assert waiting.count() == Dependency.objects.count() == store.set_aside_of(PAUSED) == 9


def test_they_come_back_to_their_places_and_the_rule_goes(store):
    pause(store)
    ids = ready_jobs(store, 9, task_path=PAUSED)
    while set_aside(store) is Front.MOVED:
        continue
    assert store.rules().resumed == []
    assert store.resume(TASK, PAUSED)
    assert store.pauses() == []
    assert store.rules().resumed == [PAUSED]

    assert bring_all_back(store) == 4  # three batches, and nothing

    assert sorted(claim.job_id for claim in claim_all(store)) == sorted(ids)
    assert not Job.objects.exclude(waits_for=0).exists()
    assert not Dependency.objects.exists()
    assert not Rule.objects.exists()


def test_after_the_pause_nothing_is_set_aside_by_one_who_does_not_know_it_yet(store):
    pause(store)
    ready_jobs(store, 5, task_path=PAUSED)
    store.resume(TASK, PAUSED)

    assert set_aside(store) is Front.CLEAR
    assert claimable() == 5


def test_who_resumes_in_an_open_transaction_stops_nobody(store, other):
    if connection.vendor == "sqlite":
        pytest.skip("a writer has the whole database")
    pause(store)
    ready_jobs(store, 5, task_path=PAUSED)
    with transaction.atomic():
        store.resume(TASK, PAUSED)
        assert other.do(set_aside, store) is Front.CLEAR

    assert not Dependency.objects.exists()


def test_who_resumes_waits_for_one_who_is_setting_aside(store, other, monkeypatch):
    if connection.vendor == "sqlite":
        pytest.skip("a writer has the whole database")
    pause(store)
    ready_jobs(store, 3, task_path=PAUSED)
    still_paused = aside.Aside._still_paused
    begun = []

    def slowly(self, tasks):
        found = still_paused(self, tasks)
        begun.append(other.start(store.resume, TASK, PAUSED))
        assert other.must_wait(begun[0])
        return found

    monkeypatch.setattr(aside.Aside, "_still_paused", slowly)
    assert set_aside(store) is Front.MOVED
    assert begun[0].result()

    bring_all_back(store)
    assert claimable() == 3
    assert not Dependency.objects.exists()


def test_a_rule_is_not_forgotten_if_a_new_pause_has_set_jobs_aside(store, monkeypatch):
    pause(store)
    store.resume(TASK, PAUSED)
    forget = aside.Aside._forget_rule

    def late(self, kind, name):
        monkeypatch.undo()
        pause(store)
        ready_jobs(store, 3, task_path=PAUSED)
        set_aside(store)
        store.resume(TASK, PAUSED)
        forget(self, kind, name)

    monkeypatch.setattr(aside.Aside, "_forget_rule", late)
    assert not store.bring_back(PAUSED)

    assert store.rules().resumed == [PAUSED]
    bring_all_back(store)
    assert claimable() == 3


def test_two_set_different_jobs_aside_and_locked_ones_stop_nobody(store, other):
    if connection.vendor == "sqlite":
        pytest.skip("there are no row locks")
    pause(store)
    ids = ready_jobs(store, 4, task_path=PAUSED)
    with transaction.atomic():
        locked(*ids)
        assert other.do(set_aside, store) is Front.BUSY
    with transaction.atomic():
        locked(ids[0])
        assert other.do(set_aside, store) is Front.MOVED
        assert other.do(set_aside, store) is Front.CLEAR
    assert claimable() == 1


def test_locked_jobs_come_back_later(store, other):
    if connection.vendor == "sqlite":
        pytest.skip("there are no row locks")
    pause(store)
    ids = ready_jobs(store, 3, task_path=PAUSED)
    set_aside(store)
    store.resume(TASK, PAUSED)
    with transaction.atomic():
        locked(ids[0])
        other.do(bring_all_back, store)
        assert other.do(claimable) == 2
        assert other.do(store.rules).resumed == [PAUSED]

    bring_all_back(store)
    assert claimable() == 3


@pytest.mark.parametrize("retried", ["paused", "resumed"])
def test_one_that_was_cancelled_and_retried_meanwhile_runs_after_the_pause(store, retried):
    pause(store)
    job_id = ready_job(store, task_path=PAUSED)
    set_aside(store)
    store.cancel([job_id])
    if retried == "resumed":
        store.resume(TASK, PAUSED)
        bring_all_back(store)
        assert not claimable()  # it is cancelled
    store.retry([job_id])
    if retried == "paused":
        set_aside(store)
        assert not claim_all(store, unknown=[PAUSED])
        store.resume(TASK, PAUSED)
        bring_all_back(store)

    assert [claim.job_id for claim in claim_all(store)] == [job_id]
    assert Job.objects.get(id=job_id).waits_for == 0


def test_what_is_gone_or_has_run_meanwhile_does_not_come_back(store):
    pause(store)
    gone, ran, waits = ready_jobs(store, 3, task_path=PAUSED)
    set_aside(store)
    Job.objects.filter(id=gone).delete()
    Job.objects.filter(id=ran).update(claimable=True)  # a program of version 0.1 has claimed it
    (claim,) = claim_all(store)
    assert store.finish(claim, Failed(ERROR))
    store.resume(TASK, PAUSED)

    bring_all_back(store)

    assert Job.objects.get(id=ran).state == State.FAILED
    assert [one.job_id for one in claim_all(store)] == [waits]
    assert not Job.objects.filter(~Q(waits_for=0)).exists()
    assert not Dependency.objects.exists()


def test_one_that_waits_for_a_slot_as_well_waits_for_it_after_the_pause(store):
    pause(store)
    first, second = ready_jobs(store, 2, task_path=PAUSED, limit_key="k")
    set_aside(store)
    store.cancel([first, second])
    store.retry([first, second])
    (running,) = claim_all(store, limit_of=lambda _path: Limit(1))  # knows the pause not yet
    waits = Job.objects.get(blocked=Blocked.LIMIT)
    store.resume(TASK, PAUSED)

    bring_all_back(store)

    waits.refresh_from_db()
    assert (waits.claimable, waits.waits_for, waits.blocked) == (False, 1, Blocked.LIMIT)
    assert not Dependency.objects.exists()
    store.finish(running, Succeeded())
    store.let_pass({"k": Limit(1)})
    assert [one.job_id for one in claim_all(store)] == [waits.id]


@pytest.mark.parametrize("parked", [False, True])
def test_a_unique_job_that_is_replaced_stays_set_aside(store, parked):
    pause(store)
    job_id = ready_job(store, task_path=PAUSED, limit_key="k", unique_key="u")
    set_aside(store)
    if parked:  # somebody who decided about its key was at work at the same time
        Job.objects.filter(id=job_id).update(blocked=Blocked.LIMIT)
    new = new_job(task_path=PAUSED, limit_key="other", unique_key="u")

    store.insert_unique([new], OnConflict(replaces=True))

    held = Job.objects.get(id=job_id)
    assert (held.claimable, held.waits_for, held.blocked) == (False, 1, None)
    assert held.limit_key == "other"
    store.resume(TASK, PAUSED)
    bring_all_back(store)
    assert claimable() == 1


def test_all_groups_of_a_queue_are_looked_at_and_jobs_of_later_are_not(store):
    pause(store)
    ready_jobs(store, 2, task_path=PAUSED, priority=5)
    ready_jobs(store, 2, task_path=PAUSED)
    later = ready_job(store, task_path=PAUSED, run_after=store._clock().replace(year=2999))

    while set_aside(store, [("default", 5), ("default", 0)]) is Front.MOVED:
        continue

    assert [job.id for job in Job.objects.filter(claimable=True)] == [later]


def test_a_pause_of_a_queue_and_of_a_task_of_that_name_are_two(store):
    pause(store, "mail")
    Rules.pause(store, "queue", "mail", by="", why="")

    assert store.resume(TASK, "mail")

    assert [(one.kind, one.name) for one in store.pauses()] == [("queue", "mail")]
