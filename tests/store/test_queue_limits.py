"""Limits of queues: so many jobs of a queue run at once, whoever claims and however runs end."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection, transaction

from aftercommit.models import Blocked, Job, Slot, State
from aftercommit.options.fair import fair_key
from aftercommit.options.queues import slots_key
from aftercommit.store.base import Store
from aftercommit.store.fair.claims import InTurn
from aftercommit.store.fair.reading import Part
from aftercommit.store.limits import queues
from aftercommit.store.limits.queues import QueueLimits, Slots
from aftercommit.values import (
    UNLIMITED,
    Cancelled,
    Claim,
    ClaimQuery,
    Failed,
    Limit,
    Position,
    Released,
    Retry,
    Succeeded,
    SucceededAndGone,
)
from tests.store.callers import Caller, Held, statements
from tests.store.given import (
    ALREADY_OVER,
    ERROR,
    LEASE,
    MOST_CRASHES,
    claim_all,
    job,
    lease_of,
    locked,
    ready_job,
    ready_jobs,
    state,
)

LATER = timedelta(hours=1)
KEY = "k" * 64
MAIL = slots_key("mail")


def claim(
    store: Store, at_once: int | None = 2, *, queue: str = "mail", **given: Any
) -> list[Claim]:
    """Claim what is due of a queue with a limit."""
    return claim_all(store, queue=queue, at_once=at_once, **given)


def mail(store: Store, number: int, **given: Any) -> list[UUID]:
    """Enqueue jobs there."""
    return ready_jobs(store, number, queue="mail", **given)


def running(queue: str = "mail") -> int:
    """Return how many run."""
    return Job.objects.filter(queue=queue, state=State.RUNNING).count()


def slots(queue: str = "mail") -> dict[int, UUID]:
    """Return who has, or had, the slots of a queue."""
    return dict(Slot.objects.filter(key=slots_key(queue)).values_list("number", "job_id"))


def test_as_many_jobs_are_claimed_as_the_limit_says_and_the_others_stay(store: Store) -> None:
    jobs = mail(store, 5)
    assert sorted(one.job_id for one in claim(store)) == jobs[:2]
    assert claim(store) == []
    assert slots().keys() == {1, 2}
    assert set(slots().values()) == set(jobs[:2])
    # Nobody is parked: the queue as a whole waits.
    assert Job.objects.filter(queue="mail", claimable=True, blocked=None).count() == 3


@pytest.mark.parametrize(
    "outcome",
    [
        Succeeded(),
        SucceededAndGone(),
        Failed(ERROR),
        Cancelled(),
        Retry(ERROR, LATER),
        Released(LATER),
    ],
    ids=lambda one: type(one).__name__,
)
def test_each_end_of_a_run_frees_its_place_by_the_same_write(store: Store, outcome: Any) -> None:
    mail(store, 3)
    first, second = claim(store)
    with statements() as written:
        assert store.finish_many([(first, outcome)])
    assert not [sql for sql, _given in written if "slot" in sql and "_slot" in sql]

    (third,) = claim(store)
    assert third.job_id not in {first.job_id, second.job_id}
    assert len(slots()) == 2


def test_a_job_that_is_rescued_has_freed_its_place(store: Store) -> None:
    mail(store, 2)
    (late,) = claim(store, 1, lease=ALREADY_OVER)
    assert claim(store, 1) == []
    store.rescue(max_crashes=MOST_CRASHES)

    (again,) = claim(store, 1)
    assert not store.finish(late, Succeeded())  # who has lost it frees nobody's place
    assert claim(store, 1) == []
    assert store.finish(again, Succeeded())
    assert len(claim(store, 1)) == 1


def test_an_old_place_of_a_job_that_runs_again_is_no_place(store: Store) -> None:
    mail(store, 3)
    held = {one.job_id: one for one in claim(store)}
    places = slots()
    store.finish(held[places[1]], Succeeded())
    store.finish(held[places[2]], Released())

    (again,) = claim(store, limit=1)
    assert again.job_id == places[2]
    assert slots() == {1: again.job_id, 2: again.job_id}  # by another token
    assert len(claim(store)) == 1


def test_a_job_whose_row_is_gone_has_no_place(store: Store) -> None:
    mail(store, 3)
    one, _two = claim(store)
    Job.objects.filter(id=one.job_id).delete()
    assert len(claim(store)) == 1


def test_the_limit_may_change_in_both_directions(store: Store) -> None:
    mail(store, 20)
    before = claim(store, 6)
    assert len(before) == 6
    assert claim(store, 3) == []
    for one in before[:3]:
        store.finish(one, Succeeded())
    assert claim(store, 3) == []
    store.finish(before[3], Succeeded())
    assert len(claim(store, 3)) == 1
    assert len(claim(store, 8)) == 5
    assert running() == 8


def test_slots_beyond_the_limit_are_forgotten(store: Store) -> None:
    mail(store, 20)
    for one in claim(store, 10):
        store.finish(one, Succeeded())
    assert len(slots()) == 10
    assert len(claim(store, 2)) == 2
    assert slots().keys() == {1, 2}


def test_each_queue_has_slots_of_its_own_and_others_pay_nothing(store: Store) -> None:
    mail(store, 3)
    ready_jobs(store, 3, queue="Mail")
    ready_jobs(store, 3)
    assert len(claim(store, 1)) == 1
    assert len(claim(store, 1, queue="Mail")) == 1
    with statements() as written:
        assert len(claim(store, None, queue="default")) == 3
    assert not [sql for sql, _given in written if "aftercommit_slot" in sql]


def test_both_queues_of_a_broker_share_their_slots(store: Store) -> None:
    ready_jobs(store, 2, queue="relay.rq")
    ready_jobs(store, 2, queue="relay.rq.in_order")
    assert len(claim(store, 3, queue="relay.rq")) == 2
    assert len(claim(store, 3, queue="relay.rq.in_order")) == 1


def test_each_way_of_claiming_keeps_the_limit(store: Store) -> None:
    first, *others = mail(store, 6)
    before = job(store, first)
    assert [one.job_id for one in claim(store, 3, only=[others[0]])] == [others[0]]
    place = Position("default", 0, before.run_after, first)
    behind = claim(store, 3, groups=[("default", 0)], after=place, limit=1)
    assert len(behind) == 1
    Job.objects.filter(id__in=others[3:]).update(crashes=1)
    assert len(claim(store, 3, crashed=True)) == 1
    for given in ({}, {"only": [first]}, {"crashed": True}, {"crashed": False}, {"after": place}):
        assert claim(store, 3, groups=[("default", 0)], **given) == []
    assert running() == 3


def test_a_queue_and_a_task_with_limits_have_both(store: Store) -> None:
    mail(store, 4, limit_key=KEY)
    mail(store, 4)
    one = claim(store, 4, limit_of=lambda _path: Limit(1))
    assert len(one) == 4
    assert sum(found.limit_key == KEY for found in one) == 1
    limited = next(found for found in one if found.limit_key == KEY)
    store.finish(limited, Succeeded())
    store.let_pass({KEY: Limit(1)})
    (next_one,) = claim(store, 4, limit_of=lambda _path: Limit(1))
    assert next_one.limit_key in {KEY, None}
    assert Job.objects.filter(blocked=Blocked.LIMIT).exists()


def test_who_meets_a_locked_key_claims_nothing_and_does_not_wait(
    store: Store, other: Caller
) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("nobody else can write meanwhile")
    mail(store, 3)
    with store._with_keys() as lock:
        lock([MAIL])
        assert other.do(claim, store) == []
    assert len(claim(store)) == 2


def test_all_keys_are_held_until_the_claims_can_be_seen(
    store: Store, other: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("nobody else can write meanwhile")
    one = {"limit_of": lambda _path: Limit(1)}
    mail(store, 6, limit_key=KEY)
    ready_jobs(store, 1, limit_key=KEY)
    write, seen = QueueLimits._write_slots, []

    def late(self: Any, *given: Any) -> None:
        write(self, *given)
        seen.append(other.do(claim, store, 2, **one))
        seen.append(other.do(claim, store, None, queue="default", **one))

    monkeypatch.setattr(QueueLimits, "_write_slots", late)
    assert len(claim(store, 2, **one)) == 1
    monkeypatch.undo()
    assert seen == [[], []]


@pytest.mark.parametrize(
    ("at_once", "startable", "limit", "claimed"),
    [
        (10, None, 100, 10),
        (10, 3, 100, 5),  # half of the free ones
        (10, 8, 100, 8),
        (10, 30, 100, 10),
        (10, 0, 100, 5),
        (1, 0, 100, 0),
        (1, 1, 100, 1),
        (40, 2, 6, 6),
    ],
)
def test_of_jobs_that_cannot_begin_now_others_get_a_part(
    store: Store, at_once: int, startable: int | None, limit: int, claimed: int
) -> None:
    mail(store, 30)
    assert len(claim(store, at_once, startable=startable, limit=limit)) == claimed


def test_a_place_that_no_thread_here_waits_for_costs_one_statement(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    mail(store, 5)
    assert len(claim(store, 2, limit=1)) == 1
    monkeypatch.setattr(queues.time, "sleep", lambda _seconds: pytest.fail("nobody has the key"))
    with statements() as read:
        assert claim(store, 2, startable=0) == []
    assert len(read) == 1
    assert len(claim(store, 2, startable=1)) == 1


def test_only_a_key_that_somebody_has_locked_is_tried_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last place is taken between the look and the lock."""
    mail(store, 5)
    (ended,) = claim(store, 2, limit=1)
    store.finish(ended, Succeeded())
    answers = [Slots(set(), {}, 2), Slots({1, 2}, {}, 2)]
    monkeypatch.setattr(store, "_slots_now", lambda *_given: answers.pop(0))
    monkeypatch.setattr(queues.time, "sleep", lambda _seconds: pytest.fail("nobody has the key"))
    assert claim(store, 2, ended=[ended.lease_id]) == []
    assert lease_of(ended) is None


def test_a_claim_in_turn_that_a_deadlock_undoes_names_no_job(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = fair_key("default", "mail", "a", gated=False)
    ready_job(store, queue="mail", fair_key=key, limit_key=key)

    def in_a_deadlock(write: Any) -> None:
        """Undo the first try; others have all places when it is repeated."""
        with transaction.atomic():
            assert len(write()) == 1
            transaction.set_rollback(True)

    monkeypatch.setattr(store, "_after_deadlock", in_a_deadlock)
    monkeypatch.setattr(queues, "BETWEEN_TRIES", 0)
    monkeypatch.setattr(queues, "TRIES", 1)
    query = ClaimQuery(queue="mail", limit=2, worker_id=uuid4(), lease=LEASE, at_once=1)
    assert store.claim_in_turn(query, Part("default", "mail"), after="") == InTurn([], "")
    assert running() == 0
    monkeypatch.undo()
    assert len(store.claim_in_turn(query, Part("default", "mail"), after="").claims) == 1


def test_a_row_that_is_locked_is_passed_over(store: Store, other: Caller) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("nobody else can lock a row")
    first, second, third = mail(store, 3)
    held = Held(other, lambda: locked(first))
    assert sorted(one.job_id for one in claim(store)) == [second, third]
    held.roll_back()
    assert state(store, first) == State.READY


def test_a_claim_that_fails_takes_no_place(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    mail(store, 3)

    def broken(self: Any, *given: Any) -> None:
        raise LookupError

    monkeypatch.setattr(QueueLimits, "_write_slots", broken)
    with pytest.raises(LookupError):
        claim(store)
    monkeypatch.undo()
    assert running() == 0
    assert slots() == {}
    assert len(claim(store)) == 2


def test_leases_that_have_ended_are_deleted_also_when_the_queue_is_full(store: Store) -> None:
    mail(store, 4)
    (ended,) = claim(store, 1)
    store.finish(ended, Succeeded())
    assert len(claim(store)) == 2
    assert claim(store, ended=[ended.lease_id]) == []
    assert lease_of(ended) is None


def test_a_job_that_is_met_with_a_key_counts_too(store: Store) -> None:
    ready_job(store, queue="mail", priority=5, limit_key=KEY)
    mail(store, 2)
    assert len(claim(store, 1, limit_of=lambda _path: Limit(1))) == 1
    assert len(claim(store, 2, limit_of=lambda _path: Limit(1))) == 1
    assert running() == 2


# ---- tasks that are limited at run time ---------------------------------------------

PATH = "tests.app.tasks.add"  # of the jobs; its code names no limit
OTHER = "tests.app.tasks.other"


def claim_limited(store: Store, slots: int = 2, **given: Any) -> list[Claim]:
    """Claim what is due, for a worker whose operators have limited a task."""
    limits = {PATH: Limit(slots)}
    return claim_all(
        store, limited={PATH: KEY}, limit_of=lambda path: limits.get(path, UNLIMITED), **given
    )


def test_jobs_of_a_task_that_is_limited_at_run_time_get_its_key(store: Store) -> None:
    ready_jobs(store, 5)
    others = ready_jobs(store, 3, task_path=OTHER)
    claims = claim_limited(store)
    assert sorted(one.limit_key or "" for one in claims) == ["", "", "", KEY, KEY]
    assert {one.job_id for one in claims if one.limit_key is None} == set(others)
    parked = Job.objects.filter(blocked=Blocked.LIMIT, limit_key=KEY)
    assert parked.count() == 3
    assert claim_limited(store) == []


@pytest.mark.parametrize("limited_first", [True, False])
@pytest.mark.parametrize("limit", [1, 2, 100])
def test_they_are_met_wherever_they_are(store: Store, limit: int, limited_first: bool) -> None:
    for _number in range(4):
        ready_jobs(store, 2)
        ready_jobs(store, 1, task_path=OTHER)
    claimed: list[Claim] = []
    while more := claim_limited(store, limit=limit, limited_first=limited_first):
        claimed += more
    assert sum(one.task_path == PATH for one in claimed) == 2
    assert sum(one.task_path == OTHER for one in claimed) == 4


def test_many_of_them_do_not_hide_others(store: Store) -> None:
    ready_jobs(store, 700)
    other = ready_job(store, task_path=OTHER)
    claimed: list[UUID] = []
    for _time in range(4):
        claimed += [one.job_id for one in claim_limited(store, slots=1, limit=2)]
    assert other in claimed
    assert len(claimed) == 2


def test_each_way_of_claiming_meets_them(store: Store) -> None:
    first, *others = ready_jobs(store, 6)
    place = Position("default", 0, job(store, first).run_after, first)
    assert len(claim_limited(store, only=others[:1])) == 1
    assert len(claim_limited(store, groups=[("default", 0)], after=place, limit=3)) == 1
    for given in ({}, {"only": [first]}, {"after": place}, {"crashed": False}):
        assert claim_limited(store, groups=[("default", 0)], **given) == []


def test_one_with_a_key_of_another_kind_gets_that_of_its_task(store: Store) -> None:
    ready_jobs(store, 3, limit_key="a" * 64)
    ready_jobs(store, 3, limit_key="b" * 64)
    assert len(claim_limited(store)) == 2
    assert claim_limited(store) == []


def test_when_the_limit_goes_they_all_pass(store: Store) -> None:
    ready_jobs(store, 6)
    claim_limited(store)
    assert store.let_pass({KEY: UNLIMITED})[0] == 4
    assert len(claim_all(store, limit_of=lambda _path: UNLIMITED)) == 4


def test_who_meets_a_locked_key_leaves_them_and_claims_others(
    store: Store, other: Caller
) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("nobody else can write meanwhile")
    ready_jobs(store, 3)
    beside = ready_job(store, task_path=OTHER)
    with store._with_keys() as lock:
        lock([KEY])
        assert [one.job_id for one in other.do(claim_limited, store)] == [beside]
    assert len(claim_limited(store)) == 2


def test_one_whose_row_is_locked_is_left(store: Store, other: Caller) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("nobody else can lock a row")
    first, second, _third = ready_jobs(store, 3)
    held = Held(other, lambda: locked(first))
    claims = claim_limited(store, slots=1)
    assert [one.job_id for one in claims] == [second]
    held.roll_back()
    assert claim_limited(store, slots=1) == []
    assert running("default") == 1


def test_those_that_run_already_are_left_alone(store: Store) -> None:
    ready_jobs(store, 3)
    (before,) = claim_all(store, limit=1)
    assert len(claim_limited(store, slots=1)) == 1
    assert job(store, before.job_id).limit_key is None
    assert store.finish(before, Retry(ERROR, timedelta(0)))
    assert claim_limited(store, slots=1) == []
    assert job(store, before.job_id).limit_key == KEY
