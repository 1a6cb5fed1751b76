"""Free slots go to the first jobs of their keys, by few statements where the database can do it.

What is promised is in ``test_limits`` and ``test_rates``; here is what could be lost on the way.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection

from aftercommit.gcra import Rate
from aftercommit.models import Blocked, Job, State
from aftercommit.models import Rate as RateRow
from aftercommit.store.base import Store
from aftercommit.store.limits.rounds import FRONT, Front, Look, Round, Rounds
from aftercommit.values import UNLIMITED, Claim, ClaimQuery, Limit, Succeeded
from tests.store.callers import Caller, Held
from tests.store.given import claim_all, job, ready_job, ready_jobs

KEY, OTHER_KEY = "k" * 64, "o" * 64
ONE, THREE = Limit(1), Limit(3)
RATE = Rate(timedelta(minutes=1), 5)
postgresql = pytest.mark.skipif(
    connection.vendor != "postgresql", reason="only PostgreSQL gives free slots by one statement"
)
LEAVES_ROWS = """
CREATE FUNCTION pg_temp.test_leaves_rows() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN RETURN NULL; END $$
"""
LEFT_ALONE = """
CREATE TRIGGER test_left_alone BEFORE UPDATE ON aftercommit_job FOR EACH ROW
WHEN (OLD.id::text = %s) EXECUTE FUNCTION pg_temp.test_leaves_rows()
"""


def claim(store: Store, allowed: Limit = THREE, rate: Rate | None = None, **given: Any) -> Any:
    """Claim what is due, for a worker whose tasks have this limit, and this rate."""
    return claim_all(store, limit_of=lambda _path: allowed, rate_of=lambda _path: rate, **given)


def ids(claims: list[Claim]) -> list[UUID]:
    """Return the jobs of claims, in order."""
    return sorted(one.job_id for one in claims)


def slots() -> list[int]:
    """Return the slots in use."""
    return sorted(Job.objects.filter(slot__isnull=False).values_list("slot", flat=True))


@pytest.fixture
def before_slots_are_given(monkeypatch: pytest.MonkeyPatch, store: Store) -> Any:
    """Return what lets something happen between the two statements of a claim."""
    grant = getattr(type(store), "_grant", None)

    def happens(change: Callable[[], Any]) -> None:
        def then_grant(*given: Any) -> Any:
            change()
            return grant(*given)

        monkeypatch.setattr(type(store), "_grant", then_grant)

    return happens


@postgresql
def test_a_job_that_is_locked_and_not_claimed_takes_no_token(store: Store) -> None:
    """The trigger stands for a change between the statement's snapshot and its lock."""
    first, second = ready_jobs(store, 2, limit_key=KEY, rate_key=KEY)
    two = Rate(timedelta(hours=1), 2)
    with connection.cursor() as cursor:
        cursor.execute(LEAVES_ROWS)
        cursor.execute(LEFT_ALONE, [str(first)])
    assert ids(claim(store, UNLIMITED, two)) == [second]
    with connection.cursor() as cursor:
        cursor.execute("DROP TRIGGER test_left_alone ON aftercommit_job")
    assert ids(claim(store, UNLIMITED, two)) == [first]


def test_free_slots_are_filled_up_and_none_is_given_twice(store: Store) -> None:
    ready_jobs(store, 9, limit_key=KEY)
    first, second, third = claim(store, limit=3, needed=lambda: 0)
    assert slots() == [1, 2, 3]
    store.finish(second, Succeeded())
    assert len(claim(store, limit=1, needed=lambda: 0)) == 1
    assert slots() == [1, 2, 3]
    for one in (first, third):
        store.finish(one, Succeeded())
    assert len(claim(store, limit=5, needed=lambda: 0)) == 2
    assert slots() == [1, 2, 3]


def test_many_slots_of_one_key_are_given_out_between_those_in_use(store: Store) -> None:
    ready_jobs(store, 150, limit_key=KEY)
    held = claim(store, Limit(100), limit=60, needed=lambda: 0)
    for one in held[::2]:
        store.finish(one, Succeeded())
    assert len(claim(store, Limit(100), limit=90, needed=lambda: 0)) == 70
    assert slots() == list(range(1, 101))


def test_a_lower_limit_counts_slots_above_it(store: Store) -> None:
    ready_jobs(store, 9, limit_key=KEY)
    held = claim(store, Limit(6), limit=6, needed=lambda: 0)
    for one in held:
        if job(store, one.job_id).slot in {1, 2, 3}:
            store.finish(one, Succeeded())
    assert claim(store, THREE, needed=lambda: 0) == []
    assert len(claim(store, Limit(4), needed=lambda: 0)) == 1


def test_with_busy_threads_jobs_without_a_slot_stay_where_they_are(store: Store) -> None:
    jobs = ready_jobs(store, 5, limit_key=KEY)
    told: list[bool] = []
    given = {"needed": lambda: 0, "slots_used_up": lambda: told.append(True)}
    claims = claim(store, **given)
    assert ids(claims) == jobs[:3]
    assert told
    assert not Job.objects.filter(blocked__isnull=False).exists()
    store.finish_many([(one, Succeeded()) for one in claims])
    told.clear()
    assert ids(claim(store, **given)) == jobs[3:]
    assert not told


def test_with_idle_threads_they_are_parked_and_those_behind_them_are_claimed(
    store: Store,
) -> None:
    ready_jobs(store, 5, limit_key=KEY)
    behind = ready_job(store, limit_key=OTHER_KEY)
    assert behind in ids(claim(store, needed=lambda: 5))
    assert Job.objects.filter(blocked=Blocked.LIMIT).count() == 2


def test_as_many_as_are_needed_are_enough(store: Store) -> None:
    ready_jobs(store, 5, limit_key=KEY)
    assert len(claim(store, needed=lambda: 3)) == 3
    assert not Job.objects.filter(blocked=Blocked.LIMIT).exists()


def test_ordered_jobs_are_parked_also_if_all_threads_are_busy(store: Store) -> None:
    first, *others = ready_jobs(store, 3, limit_key=KEY)
    in_order = Limit(1, ordered=True)
    assert ids(claim(store, in_order, needed=lambda: 0)) == [first]
    assert [job(store, one).blocked for one in others] == [Blocked.LIMIT] * 2


def test_jobs_that_were_let_through_are_claimed_although_others_have_free_slots(
    store: Store,
) -> None:
    first, second = ready_jobs(store, 2, limit_key=KEY)
    (held,) = claim(store, ONE)
    assert held.job_id == first
    store.finish(held, Succeeded())
    assert store.let_pass({KEY: ONE})[0] == 1
    others = ready_jobs(store, 3, limit_key=OTHER_KEY)
    assert ids(claim(store, ONE, needed=lambda: 0)) == sorted([second, others[0]])


def test_a_job_of_another_task_under_the_same_key_is_decided_about_by_itself(
    store: Store,
) -> None:
    ready_job(store, limit_key=KEY)
    ready_job(store, limit_key=KEY, task_path="tests.app.tasks.other")
    limits = {"tests.app.tasks.add": ONE, "tests.app.tasks.other": THREE}
    assert claim_all(store, limit_of=limits.get)


@postgresql
def test_slots_that_were_taken_since_the_keys_were_read_are_not_given(
    store: Store, other: Caller, before_slots_are_given: Any
) -> None:
    taken, *jobs = ready_jobs(store, 4, limit_key=KEY)

    def take() -> None:  # by a program that locks no keys
        Job.objects.filter(id=taken).update(
            state=State.RUNNING, claimable=False, slot=1, worker_id=taken
        )

    before_slots_are_given(lambda: other.do(take))
    assert ids(claim(store, needed=lambda: 0)) == jobs[:2]
    assert slots() == [1, 2, 3]


@postgresql
@pytest.mark.parametrize(
    "change",
    [{"limit_key": OTHER_KEY}, {"claimable": False, "waits_for": 1}, {"state": "cancelled"}],
)
def test_a_job_that_has_changed_since_the_keys_were_read_is_left(
    store: Store, other: Caller, before_slots_are_given: Any, change: dict[str, Any]
) -> None:
    changed, second = ready_jobs(store, 2, limit_key=KEY)
    if "state" in change:
        before_slots_are_given(lambda: other.do(lambda: store.cancel([changed])))
    else:
        rows = Job.objects.filter(id=changed)
        before_slots_are_given(lambda: other.do(lambda: rows.update(**change)))
    assert ids(claim(store, ONE, limit=1, needed=lambda: 0)) == [second]
    assert job(store, changed).slot is None


@postgresql
def test_a_line_that_has_formed_since_the_keys_were_read_comes_first(
    store: Store, other: Caller, before_slots_are_given: Any
) -> None:
    first = ready_job(store, limit_key=KEY)
    ready_job(store, limit_key=KEY)
    aside = {"claimable": False, "waits_for": 1, "blocked": Blocked.LIMIT}
    rows = Job.objects.filter(id=first)
    before_slots_are_given(lambda: other.do(lambda: rows.update(**aside)))
    assert ids(claim(store, ONE, needed=lambda: 0)) == [first]


@postgresql
def test_a_row_that_somebody_has_locked_is_stepped_over(store: Store, other: Caller) -> None:
    locked, second = ready_jobs(store, 2, limit_key=KEY)
    Held(other, lambda: list(Job.objects.select_for_update().filter(id=locked)))
    assert ids(claim(store, THREE, needed=lambda: 0)) == [second]


@postgresql
def test_a_claim_that_stands_still_gives_its_keys_up_and_is_not_compiled(
    store: Store, before_slots_are_given: Any
) -> None:
    found: list[str] = []

    def look() -> None:
        with connection.cursor() as cursor:
            for name in ("idle_in_transaction_session_timeout", "jit"):
                cursor.execute(f"SHOW {name}")
                found.append(cursor.fetchone()[0])

    before_slots_are_given(look)
    ready_job(store, limit_key=KEY)
    assert claim(store)
    assert found == ["5s", "off"]


def test_tokens_are_taken_as_the_algorithm_says(store: Store) -> None:
    ready_jobs(store, 3, limit_key=KEY, rate_key=KEY)
    first = claim(store, UNLIMITED, RATE, limit=1)[0].claimed_at
    second = claim(store, UNLIMITED, RATE, limit=2)[0].claimed_at
    after_first = RATE.after(first, None, 1)
    assert RateRow.objects.get(key=KEY).tat == RATE.after(second, after_first, 2)


def test_no_more_start_than_there_are_tokens_and_the_others_are_parked(store: Store) -> None:
    ready_jobs(store, 9, limit_key=KEY, rate_key=KEY)
    waits: list[Any] = []

    def met(key: str, path: str, wait: timedelta | None) -> None:
        waits.append(wait)

    assert len(claim(store, UNLIMITED, RATE, needed=lambda: 0, line_met=met)) == 5
    assert Job.objects.filter(blocked=Blocked.RATE).count() == 4
    assert waits
    assert timedelta(0) < waits[-1] <= timedelta(minutes=1)


def test_jobs_of_a_key_without_a_limit_have_no_slot(store: Store) -> None:
    ready_jobs(store, 3, limit_key=KEY, rate_key=KEY)
    claims = claim(store, UNLIMITED, RATE)
    assert len(claims) == 3
    assert slots() == []
    store.finish_many([(one, Succeeded()) for one in claims])
    assert set(Job.objects.values_list("state", flat=True)) == {State.SUCCEEDED}


def test_a_worker_that_does_not_know_the_task_counts_slots_all_the_same(store: Store) -> None:
    ready_jobs(store, 1, limit_key=KEY)
    assert len(claim_all(store, limit_of=lambda _path: None)) == 1
    assert slots() == [1]


@postgresql
def test_jobs_that_have_come_since_the_keys_were_read_take_no_slot_of_others(
    store: Store, before_slots_are_given: Any
) -> None:
    ready_jobs(store, 3, limit_key=KEY)
    held = claim(store, Limit(10), limit=3, needed=lambda: 0)
    (first,) = (one for one in held if job(store, one.job_id).slot == 1)
    store.finish(first, Succeeded())
    ready_jobs(store, 1, limit_key=KEY)
    before_slots_are_given(lambda: ready_jobs(store, 5, limit_key=KEY))
    claim(store, Limit(10), limit=50, needed=lambda: 0)
    assert slots() == list(range(1, len(slots()) + 1))
    assert len(slots()) >= 3


@postgresql
def test_the_end_of_a_run_is_looked_at_again_while_somebody_is_about_to_park(
    store: Store, other: Caller
) -> None:
    ready_jobs(store, 2, limit_key=KEY)
    (running,) = claim(store, ONE, limit=1, needed=lambda: 0)
    parks = Held(other, lambda: claim(store, ONE))
    store.finish(running, Succeeded())
    assert store.let_pass({KEY: ONE}) == (0, {KEY})
    parks.commit()
    assert Job.objects.filter(blocked=Blocked.LIMIT).count() == 1
    assert store.let_pass({KEY: ONE}) == (1, set())


@postgresql
def test_who_only_gives_slots_away_is_nobody_to_look_again_for(
    store: Store, other: Caller
) -> None:
    ready_jobs(store, 2, limit_key=KEY)
    (running,) = claim(store, ONE, limit=1, needed=lambda: 0)
    Held(other, lambda: claim(store, THREE))
    store.finish(running, Succeeded())
    assert store.let_pass({KEY: ONE}) == (0, set())


def decided(rounds: Rounds, claims: int, looked_at: int, reached: int, left: int = 0) -> Front:
    """Return what follows from a round that has given so many slots away."""
    look = Look(due=[], held=(), busy=(), full=True, capped=False)
    some: list[Any] = [None] * claims
    more = {"looked_at": looked_at, "reached": reached, "left": left}
    rounds.decided(Round(look, some, has_lines=False, **more))
    return rounds.front


def wanting(number: int, front: Front = FRONT, needed: int = 0) -> Rounds:
    """Return the rounds of a claim that has room for so many jobs."""
    query = ClaimQuery(queue="default", limit=number, worker_id=uuid4(), lease=timedelta(1))
    return Rounds(replace(query, needed=lambda: needed), [], front)


@pytest.mark.parametrize(
    ("reached", "reach"),
    [
        (100, 125),  # and some more, as others may be free the next time
        (10, 50),
        (399, 800),  # nobody knows what is behind
        (0, 2_000),
    ],
)
def test_a_claim_looks_little_further_than_the_last_slot_was_given(
    reached: int, reach: int
) -> None:
    claims = min(reached, 100)
    left = 400 - claims
    found = decided(wanting(2_000, Front(1.0, 400)), claims, 400, reached, left)
    assert found.reach == reach
    assert found.most(2_000) == reach


def test_a_claim_looks_at_all_before_it_parks_for_an_idle_thread() -> None:
    rounds = wanting(2_000, Front(1.0, 400), needed=5)
    assert rounds.begin()
    decided(rounds, 1, 400, 10, left=399)
    assert (rounds.begin(), rounds.at_once, rounds.most_at_once) == (True, True, 2_000)
    decided(rounds, 1, 2_000, 10, left=1_999)
    assert (rounds.begin(), rounds.at_once) == (True, False)


@pytest.mark.parametrize(
    ("needed", "passed", "goes_on"), [(0, 0, False), (0, 1, True), (9, 0, True)]
)
def test_where_each_job_is_decided_about_a_claim_looks_no_further_while_all_threads_are_busy(
    needed: int, passed: int, goes_on: bool
) -> None:
    rounds = wanting(2_000, Front(reach=400), needed=needed)
    assert rounds.begin()
    assert rounds.most == (1_000 if needed else 400)
    look = Look(due=[], held=(), busy=(), full=True, capped=False)
    some: list[Any] = [None] * 8
    rounds.decided(Round(look, some, passed=passed, left=300, looked_at=400, reached=80))
    assert rounds.begin() == goes_on
    assert rounds.front.reach == (400 if needed or passed else 100)


def test_a_claim_looks_at_as_many_more_as_the_one_before_has_met_without_a_slot() -> None:
    assert wanting(400).most_at_once == 400
    assert decided(wanting(400), 160, 400, 400).spare == 2.5
    assert wanting(400, Front(2.5)).most_at_once == 1_000
    assert decided(wanting(400, Front(2.5)), 0, 1_000, 0).spare == 4
    assert wanting(400, Front(40)).most_at_once == 2_000
    assert decided(wanting(400, Front(2.0)), 400, 800, 800).spare == 1.8
    assert decided(wanting(400, Front(1.0)), 400, 400, 400).spare == 1
