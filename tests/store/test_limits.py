"""Limits: so many jobs of a key hold a slot, whatever happens, and the others wait aside."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from django.db import Error, connection, connections
from django.db.models import Q

from aftercommit.models import Blocked, Job, State
from aftercommit.store.base import Store
from aftercommit.store.limits import claims as claiming
from aftercommit.store.limits.claims import Limits
from aftercommit.values import (
    LAST_MOMENT,
    UNLIMITED,
    Claim,
    Limit,
    OnConflict,
    Released,
    Retry,
    Succeeded,
)
from tests.store.callers import Caller, Held
from tests.store.given import (
    ALREADY_OVER,
    ERROR,
    MOST_CRASHES,
    claim_all,
    job,
    new_job,
    ready_job,
    ready_jobs,
    state,
)
from tests.waiting import wait_until

KEY = "k" * 64
OTHER_KEY = "o" * 64
ONE, TWO, IN_ORDER = Limit(1), Limit(2), Limit(1, ordered=True)
LATER = timedelta(hours=1)
AT_ONCE = timedelta(0)
Claiming = Callable[..., list[Claim]]


def under(limit: Limit) -> Claiming:
    """Return what claims all that is due, for a worker whose task has this limit."""

    def claim(store: Store, **given: Any) -> list[Claim]:
        return claim_all(store, limit_of=lambda _path: limit, **given)

    return claim


def one_by_one(patch: pytest.MonkeyPatch, store: Store) -> None:
    """Let a claim decide about each job, also where the database can give free slots itself."""
    patch.setattr(type(store), "_claim_at_once", lambda _self, _query, _most: None)


def ids(claims: list[Claim]) -> list[UUID]:
    """Return the jobs of claims."""
    return [one.job_id for one in claims]


def blocked() -> list[int | None]:
    """Return the places of all jobs in the order of their ids."""
    return list(Job.objects.order_by("id").values_list("blocked", flat=True))


def run(store: Store, claim: Claim, limit: Limit) -> None:
    """End a run, and do what its worker does then."""
    store.finish(claim, Succeeded())
    store.let_pass({KEY: limit})


def test_as_many_as_the_limit_says_get_slots_and_the_others_are_parked(store: Store) -> None:
    jobs = ready_jobs(store, 5, limit_key=KEY)
    claims = under(TWO)(store)
    assert sorted(ids(claims)) == jobs[:2]
    assert sorted(job(store, one).slot for one in jobs[:2]) == [1, 2]
    assert blocked() == [None, None, *[Blocked.LIMIT] * 3]
    assert not Job.objects.filter(claimable=True).exists()
    assert {one.limit_key for one in claims} == {KEY}


def test_each_key_has_slots_of_its_own(store: Store) -> None:
    jobs = ready_jobs(store, 2, limit_key=KEY) + ready_jobs(store, 2, limit_key=OTHER_KEY)
    assert sorted(ids(under(ONE)(store))) == [jobs[0], jobs[2]]


def test_jobs_without_a_limit_are_claimed_beside(store: Store) -> None:
    ready_jobs(store, 3, limit_key=KEY)
    plain = ready_jobs(store, 2)
    assert set(plain) < set(ids(under(ONE)(store)))


def test_jobs_that_are_parked_do_not_hide_others(store: Store) -> None:
    ready_jobs(store, 250, limit_key=KEY)
    plain = ready_job(store)
    claims = under(ONE)(store, limit=1)
    assert len(claims) == 1
    assert ids(under(ONE)(store, limit=1)) == [plain]


@pytest.mark.parametrize("limit", [ONE, IN_ORDER])
def test_the_end_of_a_run_lets_the_next_pass(store: Store, limit: Limit) -> None:
    jobs = ready_jobs(store, 3, limit_key=KEY)
    for one in jobs:
        (claim,) = under(limit)(store)
        assert claim.job_id == one
        assert under(limit)(store) == []
        run(store, claim, limit)
    assert {state(store, one) for one in jobs} == {State.SUCCEEDED}


def test_no_more_pass_than_there_are_slots_for(store: Store) -> None:
    ready_jobs(store, 9, limit_key=KEY)
    first, _second = under(TWO)(store)
    store.finish(first, Succeeded())
    passed = [store.let_pass({KEY: TWO})[0] for _time in range(3)]
    assert passed == [1, 0, 0]
    assert len(under(TWO)(store)) == 1


def test_a_parked_job_passes_before_one_that_is_new(store: Store) -> None:
    _first, parked = ready_jobs(store, 2, limit_key=KEY)
    (claim,) = under(ONE)(store)
    new = ready_job(store, limit_key=KEY)
    store.finish(claim, Succeeded())
    assert ids(under(ONE)(store)) in ([], [parked])
    assert state(store, new) == State.READY
    assert job(store, new).blocked == Blocked.LIMIT


def test_the_most_urgent_parked_job_passes_first(store: Store) -> None:
    ready_job(store, limit_key=KEY, priority=9)
    ready_job(store, limit_key=KEY)
    urgent = ready_job(store, limit_key=KEY, priority=5)
    (claim,) = under(ONE)(store)
    run(store, claim, ONE)
    assert ids(under(ONE)(store)) == [urgent]


# ---- other ends, and what takes their place -----------------------------------------


@pytest.mark.parametrize("outcome", [Retry(ERROR, LATER), Released(LATER)])
def test_a_job_that_runs_later_has_no_slot_meanwhile(store: Store, outcome: Any) -> None:
    _first, second = ready_jobs(store, 2, limit_key=KEY)
    (claim,) = under(ONE)(store)
    store.finish(claim, outcome)
    store.let_pass({KEY: ONE})
    assert ids(under(ONE)(store)) == [second]


def test_the_slot_of_a_dead_worker_is_free_when_its_job_is_rescued(store: Store) -> None:
    first, _second = ready_jobs(store, 2, limit_key=KEY)
    (claim,) = under(ONE)(store, lease=ALREADY_OVER)
    store.rescue(max_crashes=MOST_CRASHES)
    store.let_pass({KEY: ONE})
    (again,) = under(ONE)(store)
    assert store.finish(claim, Succeeded()) is None  # a zombie frees nothing
    assert under(ONE)(store) == []
    assert again.job_id == first or job(store, first).blocked == Blocked.LIMIT


def test_a_parked_job_can_be_cancelled_and_retried(store: Store) -> None:
    _first, second, third = ready_jobs(store, 3, limit_key=KEY)
    (claim,) = under(ONE)(store)
    assert store.cancel([second]).cancelled == {second}
    run(store, claim, ONE)
    (claim,) = under(ONE)(store)
    assert claim.job_id == third
    assert store.retry([second]).ready == {second}
    assert under(ONE)(store) == []
    run(store, claim, ONE)
    assert ids(under(ONE)(store)) == [second]


def test_a_parked_job_is_counted_as_ready(store: Store) -> None:
    ready_jobs(store, 3, limit_key=KEY)
    under(ONE)(store)
    assert store.counts() == {State.READY: 2, State.RUNNING: 1}


def test_a_parked_job_that_an_older_program_has_cancelled_stops_nobody(store: Store) -> None:
    _first, second, third = ready_jobs(store, 3, limit_key=KEY)
    (claim,) = under(ONE)(store)
    store.cancel([second])
    Job.objects.filter(id=second).update(blocked=Blocked.LIMIT)
    store.finish(claim, Succeeded())
    for _look in range(2):
        store.let_pass({KEY: ONE})
    assert ids(under(ONE)(store)) == [third]


def test_a_parked_job_that_an_older_program_has_claimed_is_not_parked_by_its_retry(
    store: Store,
) -> None:
    _first, second = ready_jobs(store, 2, limit_key=KEY)
    (claim,) = under(ONE)(store)
    older = Job.objects.filter(id=second)
    older.update(state=State.RUNNING, worker_id=claim.worker_id)
    store.finish(claim, Succeeded())
    store.let_pass({KEY: ONE})
    assert job(store, second).blocked is None
    # Its retry does not know "claimable", which then follows from the others.
    older.update(state=State.READY, worker_id=None, claimable=Q(waits_for=0))
    assert ids(under(ONE)(store)) == [second]


@pytest.mark.parametrize("place", [Blocked.LIMIT, Blocked.PASSED])
def test_a_look_at_a_key_does_not_wait_for_the_row_of_a_job_that_has_left_its_line(
    store: Store, new_caller: Callable[[], Caller], place: Blocked
) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite locks the database, not rows")
    _first, second, third = ready_jobs(store, 3, limit_key=KEY)
    (claim,) = under(ONE)(store)
    store.cancel([second])
    Job.objects.filter(id=second).update(blocked=place)
    store.finish(claim, Succeeded())
    row = Job.objects.select_for_update().filter(id=second)
    held = Held(new_caller(), lambda: list(row.all()))
    looks = new_caller()
    assert not looks.must_wait(looks.start(store.let_pass, {KEY: ONE}))
    held.roll_back()
    for _look in range(2):
        store.let_pass({KEY: ONE})
    assert ids(under(ONE)(store)) == [third]


# ---- limits that change -------------------------------------------------------------


def test_a_higher_limit_lets_more_pass(store: Store) -> None:
    ready_jobs(store, 5, limit_key=KEY)
    under(ONE)(store)
    assert store.let_pass({KEY: Limit(3)})[0] == 2
    assert len(under(Limit(3))(store)) == 2


def test_a_lower_limit_lets_nobody_pass_until_enough_have_ended(store: Store) -> None:
    ready_jobs(store, 6, limit_key=KEY)
    claims = under(Limit(3))(store)
    for claim in claims[:2]:
        run(store, claim, ONE)
        assert under(ONE)(store) == []
    run(store, claims[2], ONE)
    assert len(under(ONE)(store)) == 1


def test_jobs_let_through_are_parked_again_if_the_limit_is_lower_now(store: Store) -> None:
    ready_jobs(store, 4, limit_key=KEY)
    (claim,) = under(ONE)(store)
    store.let_pass({KEY: Limit(3)})
    assert under(ONE)(store) == []
    run(store, claim, ONE)
    assert len(under(ONE)(store)) == 1


def test_a_task_that_the_claimer_does_not_know_is_claimed_without_a_slot(store: Store) -> None:
    ready_jobs(store, 2, limit_key=KEY)
    assert len(claim_all(store)) == 2


def test_a_claimer_that_does_not_know_the_task_parks_nobody_and_lets_nobody_through(
    store: Store,
) -> None:
    ready_jobs(store, 4, limit_key=KEY)
    first, _second = under(TWO)(store)
    store.finish(first, Succeeded())
    store.let_pass({KEY: TWO})
    assert blocked() == [None, None, Blocked.PASSED, Blocked.LIMIT]
    ready_job(store, limit_key=KEY)
    assert len(claim_all(store)) == 2
    assert blocked() == [None, None, None, Blocked.LIMIT, None]


@pytest.mark.parametrize("knows", [False, True])
def test_a_claimer_that_does_not_know_an_ordered_task_leaves_the_key_to_its_holder(
    store: Store, knows: bool
) -> None:
    first, second = ready_jobs(store, 2, limit_key=KEY)
    (claim,) = under(IN_ORDER)(store)
    store.finish(claim, Retry(ERROR, AT_ONCE))
    # One without a limit is no stranger to the task: it lets everybody run.
    claims = under(UNLIMITED)(store) if knows else claim_all(store)
    assert first in ids(claims)
    store.finish(claims[0], Released(LATER))
    assert job(store, first).blocked == (None if knows else Blocked.HOLDS)
    assert store.let_pass({KEY: IN_ORDER})[0] == 0
    assert bool(job(store, second).blocked) == (not knows)


# ---- ordered ------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [Retry(ERROR, LATER), Released(LATER)])
def test_an_ordered_key_waits_for_the_next_attempt(store: Store, outcome: Any) -> None:
    first, second = ready_jobs(store, 2, limit_key=KEY)
    (claim,) = under(IN_ORDER)(store)
    store.finish(claim, outcome)
    assert store.let_pass({KEY: IN_ORDER})[0] == 0
    assert under(IN_ORDER)(store) == []
    Job.objects.filter(id=first).update(run_after=job(store, first).enqueued_at)
    (claim,) = under(IN_ORDER)(store)
    assert claim.job_id == first
    run(store, claim, IN_ORDER)
    assert ids(under(IN_ORDER)(store)) == [second]


def test_an_ordered_key_waits_for_a_job_whose_worker_died(store: Store) -> None:
    first, second = ready_jobs(store, 2, limit_key=KEY)
    under(IN_ORDER)(store, lease=ALREADY_OVER)
    store.rescue(max_crashes=MOST_CRASHES)
    assert store.let_pass({KEY: IN_ORDER})[0] == 0
    (claim,) = under(IN_ORDER)(store)
    assert claim.job_id == first
    run(store, claim, IN_ORDER)
    assert ids(under(IN_ORDER)(store)) == [second]


def test_an_ordered_key_goes_on_when_its_job_has_failed_or_was_cancelled(store: Store) -> None:
    first, second = ready_jobs(store, 2, limit_key=KEY)
    (claim,) = under(IN_ORDER)(store)
    store.finish(claim, Retry(ERROR, LATER))
    store.cancel([first])
    store.let_pass({KEY: IN_ORDER})
    assert ids(under(IN_ORDER)(store)) == [second]


def test_a_job_of_an_ordered_key_that_is_retried_by_hand_goes_behind(store: Store) -> None:
    first, second, third = ready_jobs(store, 3, limit_key=KEY)
    (claim,) = under(IN_ORDER)(store)
    store.finish(claim, Retry(ERROR, LATER))
    store.cancel([first])
    store.retry([first])
    ended = []
    for _run in range(3):
        store.let_pass({KEY: IN_ORDER})
        (claim,) = under(IN_ORDER)(store)
        ended.append(claim.job_id)
        store.finish(claim, Succeeded())
    assert ended == [second, third, first]


def test_nobody_overtakes_a_job_of_an_ordered_key_whose_row_is_locked(
    store: Store, other: Caller
) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite locks the database, not rows")
    first, _second = ready_jobs(store, 2, limit_key=KEY)
    held = Held(other, lambda: list(Job.objects.select_for_update().filter(id=first)))
    assert under(IN_ORDER)(store) == []
    assert store.let_pass({KEY: IN_ORDER})[0] == 0
    held.roll_back()
    assert ids(under(IN_ORDER)(store)) == [first]


def test_nobody_overtakes_a_job_of_an_ordered_key_that_there_was_no_thread_for(
    store: Store,
) -> None:
    ready_jobs(store, 2, limit_key=OTHER_KEY)
    first, _second = ready_jobs(store, 2, limit_key=KEY)
    assert len(under(IN_ORDER)(store, limit=1)) == 1
    assert store.let_pass({KEY: IN_ORDER})[0] == 0
    assert ids(under(IN_ORDER)(store)) == [first]


# ---- several at once ----------------------------------------------------------------


def test_a_key_that_somebody_has_locked_is_left_alone(store: Store, other: Caller) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    ready_jobs(store, 2, limit_key=KEY)
    plain = ready_job(store)

    def lock() -> set[str]:
        keys = store._with_keys()
        held: set[str] = keys.__enter__()([KEY])
        locks.append(keys)
        return held

    locks: list[Any] = []
    assert other.do(lock) == {KEY}
    assert ids(under(TWO)(store)) == [plain]
    assert store.let_pass({KEY: TWO}) == (0, {KEY})
    other.do(lambda: locks[0].__exit__(None, None, None))
    assert len(under(TWO)(store)) == 2


@pytest.mark.parametrize("limited_first", [False, True])
def test_jobs_behind_those_of_keys_that_others_have_locked_are_claimed(
    store: Store, other: Caller, limited_first: bool
) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    ready_jobs(store, 120, limit_key=KEY)  # more than a claim of one job looks at
    behind = ready_job(store, limit_key=OTHER_KEY)
    plain = ready_job(store)
    locks: list[Any] = []

    def lock() -> None:
        locks.append(store._with_keys())
        locks[0].__enter__()([KEY])

    other.do(lock)
    claim = partial(under(ONE), store, limit=1, limited_first=limited_first)
    assert ids(claim()) == [behind]
    assert ids(claim()) == [plain]
    assert claim() == []
    other.do(lambda: locks[0].__exit__(None, None, None))
    assert len(claim()) == 1


@pytest.mark.parametrize("limited_first", [False, True])
def test_jobs_without_a_limit_have_their_turn_also_if_those_with_one_come_first(
    store: Store, limited_first: bool
) -> None:
    first = ready_jobs(store, 2, limit_key=KEY)
    plain = ready_jobs(store, 2)
    last = ready_jobs(store, 2, limit_key=OTHER_KEY)
    claim = partial(under(TWO), store, limit=2, limited_first=limited_first)
    assert [sorted(ids(claim())) for _time in range(3)] == [first, plain, last]


def test_a_job_that_gets_another_key_between_the_look_and_the_lock_is_left(
    store: Store, other: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    changed, second = ready_jobs(store, 2, limit_key=KEY)
    one_by_one(monkeypatch, store)
    lines = Limits._lines

    def then_read(*given: Any) -> Any:
        other.do(lambda: Job.objects.filter(id=changed).update(limit_key=OTHER_KEY))
        return lines(*given)

    monkeypatch.setattr(Limits, "_lines", then_read)
    assert ids(under(ONE)(store, limit=1)) == [second]
    assert job(store, changed).blocked is None


def test_a_locked_job_without_a_limit_is_no_obstacle_to_those_behind(
    store: Store, other: Caller
) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite locks the database, not rows")
    plain = ready_job(store)
    job_id = ready_job(store, limit_key=KEY)
    Held(other, lambda: list(Job.objects.select_for_update().filter(id=plain)))
    assert ids(under(ONE)(store)) == [job_id]


@pytest.mark.parametrize("most", [1, 2])
def test_jobs_under_limits_do_not_pass_one_without_that_was_before_them(
    store: Store, most: int
) -> None:
    ready_job(store, limit_key=KEY)
    under(ONE)(store)
    ready_jobs(store, most, limit_key=KEY)  # there is no slot for them
    plain = ready_jobs(store, most)
    ready_jobs(store, most, limit_key=OTHER_KEY)
    assert sorted(ids(under(ONE)(store, limit=most))) == plain


SET_ASIDE = {"claimable": False, "waits_for": 1}
IS_NEW = {"claimable": True, "waits_for": 0, "blocked": None}


def meanwhile(patch: pytest.MonkeyPatch, other: Caller, job_id: UUID, change: Any) -> None:
    """Change a job after a decision about its key, before its row is locked."""
    decide = Limits._decide

    def then_change(*given: Any) -> Any:
        verdicts = decide(*given)
        other.do(lambda: Job.objects.filter(id=job_id).update(**change))
        return verdicts

    patch.setattr(Limits, "_decide", then_change)


@pytest.mark.parametrize(
    "change", [{"run_after": LAST_MOMENT}, SET_ASIDE, {"limit_key": OTHER_KEY}]
)
@pytest.mark.parametrize("number", [0, 1])
def test_a_job_that_was_changed_after_the_decision_is_neither_claimed_nor_parked(
    store: Store, other: Caller, monkeypatch: pytest.MonkeyPatch, change: Any, number: int
) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    jobs = ready_jobs(store, 2, limit_key=KEY)
    one_by_one(monkeypatch, store)
    meanwhile(monkeypatch, other, jobs[number], change)
    claims = under(ONE)(store, limit=1)
    of_key = [one.job_id for one in claims if one.limit_key == KEY]
    assert of_key == [one for one in jobs[:1] if number]
    assert job(store, jobs[number]).blocked is None


def test_a_parked_job_that_was_replaced_after_the_decision_is_not_let_through(
    store: Store, other: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    _first, second = ready_jobs(store, 2, limit_key=KEY)
    (claim,) = under(ONE)(store)
    store.finish(claim, Succeeded())
    meanwhile(monkeypatch, other, second, IS_NEW | {"run_after": LAST_MOMENT})
    store.let_pass({KEY: ONE})
    assert job(store, second).blocked is None


def test_who_stands_still_while_it_holds_a_key_loses_it(
    store: Store, other: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    monkeypatch.setattr(claiming, "STANDING_STILL", 1)
    job_id = ready_job(store, limit_key=KEY)
    entered: list[Any] = []

    def stand_still() -> None:
        keys = store._with_keys()
        entered.append(keys)
        assert keys.__enter__()([KEY]) == {KEY}

    other.do(stand_still)
    claims: list[Claim] = []
    wait_until(lambda: claims or claims.extend(under(ONE)(store)), why="the key is free")
    assert ids(claims) == [job_id]
    with pytest.raises(Error):  # it has held nothing since
        other.do(lambda: entered[0].__exit__(None, None, None))
    other.do(connections.close_all)


def test_keys_with_parked_jobs_are_found_one_after_the_other(store: Store) -> None:
    keys = [f"key-{number}" for number in range(5)]
    for key in keys:
        ready_jobs(store, 3, limit_key=key)
    under(ONE)(store)
    found = store.parked_keys(most=3)
    assert [key for key, _path in found] == keys[:3]
    assert {path for _key, path in found} == {"tests.app.tasks.add"}
    assert [key for key, _path in store.parked_keys(after=keys[2], most=3)] == keys[3:]


def test_a_unique_job_that_is_replaced_while_it_is_parked_is_new_to_its_line(
    store: Store,
) -> None:
    ready_job(store, limit_key=KEY)
    parked = ready_job(store, limit_key=KEY, unique_key="u")
    under(ONE)(store)
    (placed,) = store.insert_unique(
        [new_job(limit_key=OTHER_KEY, unique_key="u")], OnConflict(replaces=True)
    )
    assert placed.job_id == parked
    assert ids(under(ONE)(store)) == [parked]
    assert job(store, parked).limit_key == OTHER_KEY


def test_a_job_of_an_ordered_key_that_is_claimed_by_its_id_waits_for_its_turn(
    store: Store,
) -> None:
    first, second = ready_jobs(store, 2, limit_key=KEY)
    assert under(IN_ORDER)(store, only=[second]) == []
    (claim,) = under(IN_ORDER)(store, only=[first])
    assert claim.job_id == first
