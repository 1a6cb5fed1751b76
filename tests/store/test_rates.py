"""Rates: so many jobs of a key start in a time, and the others wait aside until they may."""

from collections.abc import Callable
from datetime import datetime, timedelta
from threading import Event
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.db.models import F
from django.utils import timezone

from aftercommit.gcra import Rate
from aftercommit.models import Blocked, Job, State
from aftercommit.models import Rate as RateRow
from aftercommit.store.base import Store
from aftercommit.store.clock import in_future
from aftercommit.store.rates import gate
from aftercommit.values import (
    UNLIMITED,
    Claim,
    Limit,
    OnConflict,
    Position,
    Released,
    Retry,
    Succeeded,
)
from tests.store.callers import Caller, Held
from tests.store.given import ERROR, claim_all, job, new_job, ready_job, ready_jobs, state
from tests.tiers import size
from tests.waiting import wait_until

KEY, OTHER_KEY = "r" + "k" * 63, "r" + "o" * 63
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
SLOW = Rate(HOUR)
THREE = Rate(HOUR, 3)
AT_ONCE = timedelta(0)
Claiming = Callable[..., list[Claim]]


def rated(rate: Rate | None, limit: Limit = UNLIMITED) -> Claiming:
    """Return what claims all that is due, for a worker whose task has this rate."""

    def claim(store: Store, **given: Any) -> list[Claim]:
        return claim_all(store, limit_of=lambda _path: limit, rate_of=lambda _path: rate, **given)

    return claim


def of_key(store: Store, count: int, key: str = KEY, **given: Any) -> list[UUID]:
    """Enqueue jobs with a rate key."""
    return ready_jobs(store, count, **{"limit_key": key, "rate_key": key, **given})


def ids(claims: list[Claim]) -> list[UUID]:
    """Return the jobs of claims, in order."""
    return sorted(one.job_id for one in claims)


def later(by: timedelta, key: str = KEY) -> None:
    """Let time pass for a key."""
    RateRow.objects.filter(key=key).update(tat=F("tat") - by)


def parked() -> list[UUID]:
    """Return the jobs in lines of rates, all of whose columns must agree."""
    found = Job.objects.filter(blocked=Blocked.RATE).order_by("id")
    for one in found:
        assert (one.claimable, one.waits_for, one.line) == (False, 1, one.rate_key)
    assert not Job.objects.filter(line__isnull=False).exclude(blocked=Blocked.RATE).exists()
    return [one.id for one in found]


def test_the_burst_starts_at_once_and_the_others_are_parked(store: Store) -> None:
    jobs = of_key(store, 5)
    claims = rated(THREE)(store)

    assert ids(claims) == jobs[:3]
    assert parked() == jobs[3:]
    assert rated(THREE)(store) == []


def test_one_more_starts_each_interval(store: Store) -> None:
    jobs = of_key(store, 4)
    assert ids(rated(SLOW)(store)) == jobs[:1]
    for one in jobs[1:]:
        store.let_start({KEY: SLOW})
        assert rated(SLOW)(store) == []
        later(HOUR)
        store.let_start({KEY: SLOW})
        assert ids(rated(SLOW)(store)) == [one]


def test_each_key_has_a_rate_of_its_own(store: Store) -> None:
    jobs = of_key(store, 2) + of_key(store, 2, OTHER_KEY)
    assert ids(rated(SLOW)(store)) == [jobs[0], jobs[2]]


def test_jobs_without_a_rate_are_claimed_beside(store: Store) -> None:
    of_key(store, 150)
    plain = ready_jobs(store, 2)
    limited = ready_job(store, limit_key="other")
    assert set(plain) <= set(ids(rated(SLOW)(store, limit=4)))
    assert limited in ids(rated(SLOW)(store)) or state(store, limited) == State.RUNNING


def test_a_job_that_was_enqueued_before_the_task_had_a_rate_runs(store: Store) -> None:
    jobs = ready_jobs(store, 3, limit_key="k")
    assert ids(rated(SLOW)(store)) == jobs


def test_a_claim_takes_as_many_tokens_as_it_gets_jobs(store: Store) -> None:
    jobs = of_key(store, 5)
    assert ids(rated(THREE)(store, limit=2)) == jobs[:2]
    assert ids(rated(THREE)(store)) == jobs[2:3]
    assert parked() == jobs[3:]


def test_a_new_job_does_not_start_before_one_that_was_parked(store: Store) -> None:
    jobs = of_key(store, 2)
    rated(SLOW)(store)
    (new,) = of_key(store, 1)
    later(HOUR)
    claims = rated(SLOW)(store) or rated(SLOW)(store)
    assert ids(claims) == jobs[1:]
    assert parked() == [new]


def test_a_new_job_passes_no_part_of_a_line_that_was_not_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "MOST_OF_KEY", 2)
    ten = Rate(HOUR, 10)
    jobs = of_key(store, 14)
    assert ids(rated(ten)(store)) == jobs[:10]
    later(10 * HOUR)
    (new,) = of_key(store, 1)
    claims: list[Claim] = []
    for _time in range(5):
        claims += rated(ten)(store)
        store.let_start({KEY: ten})
    assert ids(claims) == [*jobs[10:], new]
    assert claims[-1].job_id == new


def test_the_most_urgent_are_let_through_first_whatever_their_number(store: Store) -> None:
    of_key(store, 3, priority=9)
    low = of_key(store, 3)
    urgent = of_key(store, 2, priority=5)
    rated(THREE)(store)
    assert parked() == sorted(low + urgent)
    later(3 * HOUR)
    assert store.let_start({KEY: THREE})[0] == 3
    assert ids(rated(THREE)(store)) == sorted([*urgent, low[0]])


def test_let_start_says_when_to_look_again(store: Store) -> None:
    of_key(store, 5)
    rated(THREE)(store)
    closed = store.let_start({KEY: THREE})[1][KEY]
    assert closed is not None
    assert AT_ONCE < closed <= HOUR
    later(closed)
    again = store.let_start({KEY: THREE})[1][KEY]
    assert again is not None
    assert again > AT_ONCE
    later(9 * HOUR)
    assert len(parked()) == 1
    store.let_start({KEY: THREE})
    assert store.let_start({KEY: THREE}) == (0, {KEY: None})


def test_a_claim_tells_which_lines_it_has_met(store: Store) -> None:
    told: list[tuple[str, str, timedelta]] = []
    (job_id, _second) = of_key(store, 2)

    def met(key: str, path: str, wait: timedelta) -> None:
        told.append((key, path, wait))

    rated(SLOW)(store, line_met=met)
    path = job(store, job_id).task_path
    assert {(key, path) for key, path, _wait in told} == {(KEY, path)}
    assert all(AT_ONCE < wait <= HOUR for _key, _path, wait in told)


def test_who_has_no_line_is_not_told(store: Store) -> None:
    told: list[str] = []
    of_key(store, 3)
    rated(THREE)(store, line_met=lambda key, _path, _wait: told.append(key))
    assert told == []


def test_a_task_that_has_lost_its_rate_runs_all(store: Store) -> None:
    jobs = of_key(store, 4)
    rated(SLOW)(store)
    store.let_start({KEY: None})
    assert ids(rated(None)(store)) == jobs[1:]
    assert parked() == []


def test_a_higher_rate_takes_effect_at_once(store: Store) -> None:
    jobs = of_key(store, 3)
    rated(Rate(timedelta(days=300)))(store)
    fast = Rate(timedelta(microseconds=1), 100)
    assert store.let_start({KEY: fast})[1][KEY] == fast.interval  # all is used up, once
    wait_until(lambda: store.let_start({KEY: fast})[1] == {KEY: None}, why="both are let through")
    assert ids(rated(fast)(store)) == jobs[1:]


def test_a_clock_that_was_set_back_costs_one_burst_at_most(store: Store) -> None:
    of_key(store, 2)
    rated(SLOW)(store)
    later(-1000 * HOUR)
    wait = store.let_start({KEY: SLOW})[1][KEY]
    assert wait is not None
    assert wait <= HOUR
    later(HOUR)
    store.let_start({KEY: SLOW})
    assert len(rated(SLOW)(store)) == 1


def test_a_retry_and_a_release_take_a_token_again(store: Store) -> None:
    (job_id,) = of_key(store, 1)
    for outcome in (Retry(ERROR), Released(), Released(conflict=True)):
        (claim,) = rated(SLOW)(store)
        store.finish(claim, outcome)
        assert rated(SLOW)(store) == []
        assert parked() == [job_id]
        later(HOUR)
        store.let_start({KEY: SLOW})


def test_a_job_for_later_takes_no_token_and_is_not_parked(store: Store) -> None:
    of_key(store, 1, run_after=timezone.now() + HOUR)
    assert rated(SLOW)(store) == []
    assert parked() == []
    assert not RateRow.objects.exists()


@pytest.mark.parametrize("change", ["cancel", "retry"])
def test_a_parked_job_that_is_cancelled_or_retried_leaves_the_line(
    store: Store, change: str
) -> None:
    _first, waiting, behind = of_key(store, 3)
    rated(SLOW)(store)
    store.cancel([waiting])
    assert parked() == [behind]
    if change == "retry":
        store.retry([waiting])
        assert rated(SLOW)(store) == []
        assert parked() == [waiting, behind]
    later(HOUR)
    store.let_start({KEY: SLOW})
    assert ids(rated(SLOW)(store)) == [behind]  # a retried job is due since now


def test_a_parked_job_that_is_moved_keeps_its_place(store: Store) -> None:
    _first, waiting, _behind = of_key(store, 3)
    rated(SLOW)(store)
    Job.objects.filter(id=waiting).update(queue="other")
    later(HOUR)
    store.let_start({KEY: SLOW})
    assert rated(SLOW)(store) == []
    assert ids(rated(SLOW)(store, queue="other")) == [waiting]


def test_a_parked_job_that_is_replaced_leaves_the_line_of_its_old_key(store: Store) -> None:
    of_key(store, 1)
    (held,) = store.insert([new_job(limit_key=KEY, rate_key=KEY, unique_key="u")])
    rated(SLOW)(store)
    assert parked() == [held]
    other = new_job(limit_key=OTHER_KEY, rate_key=OTHER_KEY, unique_key="u")
    store.insert_unique([other], OnConflict(replaces=True))
    assert parked() == []
    assert ids(rated(SLOW)(store)) == [held]


def test_what_older_programs_leave_in_a_line_is_taken_out(store: Store) -> None:
    """They know no lines: a job is retried, cancelled or claimed, and ``line`` stays."""
    _first, retried, cancelled, last = of_key(store, 4)
    rated(SLOW)(store)
    as_new = {"blocked": None, "waits_for": 0}
    Job.objects.filter(id=retried).update(claimable=True, **as_new)
    Job.objects.filter(id=cancelled).update(
        state=State.CANCELLED, unsuccessful=True, finished_at=timezone.now(), **as_new
    )
    for _time in range(3):
        store.let_start({KEY: SLOW})
    assert parked() == [last]
    assert Job.objects.filter(line__isnull=False).count() == 1


# ---- limits beside ------------------------------------------------------------------


def test_a_closed_limit_costs_no_token(store: Store) -> None:
    jobs = of_key(store, 3, limit_key="k")
    (claim,) = rated(THREE, Limit(1))(store)
    assert claim.job_id == jobs[0]
    assert Job.objects.filter(blocked=Blocked.LIMIT).count() == 2
    for one in jobs[1:]:
        store.finish(claim, Succeeded())
        store.let_pass({"k": Limit(1)})
        (claim,) = rated(THREE, Limit(1))(store)
        assert claim.job_id == one


def test_a_job_that_waits_for_its_rate_has_no_slot(store: Store) -> None:
    _runs, waiting = of_key(store, 2, limit_key="k")
    other = of_key(store, 1, OTHER_KEY, limit_key="k")
    claims = rated(SLOW, Limit(2))(store)
    assert ids(claims) == [_runs, *other]
    assert parked() == [waiting]
    assert job(store, waiting).slot is None


def test_a_free_slot_goes_to_the_next_whose_rate_has_room(store: Store) -> None:
    """Those before it in the line of the limit have used their rate up."""
    of_key(store, 1, limit_key="k")
    claim = rated(SLOW, Limit(1))
    (running,) = claim(store)
    waiting = of_key(store, 4, limit_key="k")
    (other,) = of_key(store, 1, OTHER_KEY, limit_key="k")
    RateRow.objects.update(tat=timezone.now() - HOUR)  # all of them are parked for the limit
    assert claim(store) == []
    later(-2 * HOUR)
    store.finish(running, Succeeded())
    store.let_pass({"k": Limit(1)})
    assert ids(claim(store)) == [other]
    assert parked() == waiting


def test_a_token_that_a_full_limit_left_goes_to_the_next(store: Store) -> None:
    waits: list[timedelta] = []
    of_key(store, 2, limit_key="full")
    of_key(store, 1, limit_key="free")
    two = Rate(HOUR, 2)
    rated(two, Limit(1))(store, line_met=lambda _key, _path, wait: waits.append(wait))
    assert len(parked()) == 1
    assert waits[0] == AT_ONCE
    store.let_start({KEY: two})
    assert len(rated(two, Limit(1))(store)) == 1


def test_a_line_is_left_alone_while_its_first_job_has_a_token_and_no_slot(store: Store) -> None:
    """All jobs of the key would wait for the same slot, one after the other."""
    one = Limit(1, shared_by_rate=True)
    waits: list[timedelta | None] = []

    def claim() -> list[Claim]:
        return rated(SLOW, one)(store, line_met=lambda _key, _path, wait: waits.append(wait))

    of_key(store, 1, limit_key="k")
    (running,) = claim()
    later(HOUR)
    first, *others = of_key(store, 3, limit_key="k")
    assert claim() == []
    assert job(store, first).blocked == Blocked.LIMIT
    assert parked() == others
    assert waits.pop() == MINUTE
    store.finish(running, Succeeded())
    store.let_pass({"k": one})
    assert ids(claim()) == [first]
    of_key(store, 1, limit_key="k")
    claim()
    wait = waits.pop()
    assert wait is not None
    assert MINUTE < wait <= HOUR


# ---- pauses -------------------------------------------------------------------------


@pytest.mark.parametrize("until", [HOUR, "moment"])
def test_a_paused_key_starts_nothing_until_then(store: Store, until: Any) -> None:
    jobs = of_key(store, 3)
    moment = timezone.now() + HOUR if until == "moment" else until
    assert store.pause_rate(jobs[0], moment)
    assert rated(THREE)(store) == []
    assert parked() == jobs
    wait = store.let_start({KEY: THREE})[1][KEY]
    assert wait is not None
    assert MINUTE < wait <= HOUR
    RateRow.objects.update(paused_until=in_future(-MINUTE))
    store.let_start({KEY: THREE})
    assert ids(rated(THREE)(store)) == jobs


def test_of_two_pauses_the_longer_one_counts(store: Store) -> None:
    (job_id,) = of_key(store, 1)
    for span in (MINUTE, HOUR, MINUTE):
        store.pause_rate(job_id, span)
    assert pause_of(KEY) > timezone.now() + MINUTE * 30


def test_a_start_keeps_the_pause_and_a_pause_keeps_what_is_used_up(store: Store) -> None:
    jobs = of_key(store, 2)
    rated(SLOW)(store)
    store.pause_rate(jobs[0], -MINUTE)
    assert rated(SLOW)(store) == []
    later(HOUR)
    store.let_start({KEY: SLOW})
    assert ids(rated(SLOW)(store)) == jobs[1:]
    assert pause_of(KEY) < timezone.now()


def pause_of(key: str) -> datetime:
    """Return when the pause of a key ends."""
    until: datetime = RateRow.objects.get(key=key).paused_until
    return until


def test_a_job_without_a_rate_key_pauses_nothing(store: Store) -> None:
    assert not store.pause_rate(ready_job(store), HOUR)
    assert not RateRow.objects.exists()


# ---- several at once ----------------------------------------------------------------


def test_a_key_that_somebody_has_locked_is_left_alone(store: Store, other: Caller) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    jobs = of_key(store, 3)
    more = of_key(store, 2, OTHER_KEY, limit_key="k")

    def lock() -> None:
        keys = store._with_keys()
        locks.append(keys)
        assert keys.__enter__()([KEY, OTHER_KEY]) == {KEY, OTHER_KEY}

    locks: list[Any] = []
    other.do(lock)
    told: list[tuple[str, timedelta | None]] = []
    claims = rated(THREE)(store, line_met=lambda key, _path, wait: told.append((key, wait)))
    assert claims == []
    assert set(told) == {(KEY, None), (OTHER_KEY, None)}  # they are claimed in a moment
    assert store.let_start({KEY: THREE}) == (0, {})
    assert parked() == []
    other.do(lambda: locks[0].__exit__(None, None, None))
    assert ids(rated(THREE)(store)) == jobs + more


def test_a_job_that_somebody_has_locked_takes_no_token(store: Store, other: Caller) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite locks the database, not rows")
    first, second = of_key(store, 2)
    held = Held(other, lambda: list(Job.objects.select_for_update().filter(id=first)))
    assert ids(rated(SLOW)(store)) == [second]
    held.roll_back()
    assert rated(SLOW)(store) == []
    assert parked() == [first]


def test_a_parked_job_that_somebody_has_locked_is_not_said_to_have_passed(
    store: Store, other: Caller
) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite locks the database, not rows")
    _runs, first, second = of_key(store, 3)
    rated(SLOW)(store)
    later(HOUR)
    held = Held(other, lambda: list(Job.objects.select_for_update().filter(id=first)))
    assert store.let_start({KEY: SLOW}) == (0, {})
    held.roll_back()
    passed, waits = store.let_start({KEY: SLOW})
    assert (passed, list(waits)) == (1, [KEY])
    assert parked() == [second]


def test_who_lets_too_many_through_does_no_harm(store: Store) -> None:
    jobs = of_key(store, 4)
    rated(SLOW)(store)
    later(HOUR)
    for _worker in range(2):
        assert store.let_start({KEY: SLOW})[0] == 1
    assert ids(rated(SLOW)(store)) == jobs[1:2]
    assert parked() == jobs[2:]


WORKERS, KEYS = 4, ["r" + str(number) * 63 for number in range(3)]
EACH = size(change=12, full=60)
LONG = timedelta(minutes=5)
QUICK = Rate(timedelta(milliseconds=100), 3)  # slower than claims on a busy machine


def test_many_workers_keep_the_rate_of_each_key_in_every_window(
    store: Store, new_caller: Callable[[], Caller]
) -> None:
    """By the database's clock at each claim, whatever span one looks at."""
    for key in KEYS:
        of_key(store, EACH, key)
    claimed: list[Claim] = []
    over = Event()

    def drain() -> None:
        try:
            go_on()
        finally:
            over.set()

    def go_on() -> None:
        while len(claimed) < EACH * len(KEYS) and not over.is_set():
            claims = rated(QUICK)(store, limit=5)
            claimed.extend(claims)
            store.finish_many([(one, Succeeded()) for one in claims])
            store.let_start(dict.fromkeys(KEYS, QUICK))

    for one in [new_caller().start(drain) for _worker in range(WORKERS)]:
        one.result(LONG.total_seconds())

    assert len(claimed) == len({one.job_id for one in claimed}) == EACH * len(KEYS)
    for key in KEYS:
        must_keep(QUICK, sorted(one.claimed_at for one in claimed if one.limit_key == key))


def must_keep(rate: Rate, starts: list[datetime]) -> None:
    """Check each window between two starts; a longer one has no more."""
    for first, begin in enumerate(starts):
        for last, end in enumerate(starts[first:], first):
            assert last - first + 1 <= (end - begin) / rate.interval + rate.burst


# ---- queues -------------------------------------------------------------------------


def in_time(store: Store, rate: Rate, *, limit: int = 100, **given: Any) -> list[Claim]:
    """Claim what a queue with a rate allows."""
    return claim_all(store, limit=limit, queue_rate=rate, **given)


def an_hour_later(key: str = "queue:default") -> None:
    """Let an hour pass for a queue."""
    later(HOUR, key)


def test_a_claim_takes_as_many_of_a_queue_as_may_start(store: Store) -> None:
    jobs = ready_jobs(store, 6)
    closed: list[tuple[str, timedelta]] = []

    def note(queue: str, wait: timedelta) -> None:
        closed.append((queue, wait))

    assert ids(in_time(store, THREE, limit=2, queue_closed=note)) == jobs[:2]
    assert closed == []
    assert ids(in_time(store, THREE, queue_closed=note)) == jobs[2:3]
    assert in_time(store, THREE, queue_closed=note) == []
    assert [queue for queue, _wait in closed] == ["default"] * 2
    assert all(AT_ONCE < wait <= HOUR for _queue, wait in closed)
    an_hour_later()
    assert ids(in_time(store, THREE)) == jobs[3:4]
    assert not Job.objects.filter(blocked__isnull=False).exists()


def test_what_was_not_claimed_uses_up_nothing(store: Store) -> None:
    assert in_time(store, THREE) == []
    assert not RateRow.objects.exists()
    jobs = ready_jobs(store, 3)
    assert ids(in_time(store, THREE)) == jobs


def test_other_queues_have_rates_of_their_own(store: Store) -> None:
    jobs = ready_jobs(store, 2) + ready_jobs(store, 2, queue="mail")
    claims = in_time(store, SLOW) + in_time(store, SLOW, queue="mail")
    assert ids(claims) == [jobs[0], jobs[2]]


def test_both_queues_of_a_broker_share_a_rate(store: Store) -> None:
    (kept,) = ready_jobs(store, 1, queue="relay.celery")
    ready_jobs(store, 1, queue="relay.celery.in_order")
    assert ids(in_time(store, SLOW, queue="relay.celery")) == [kept]
    assert in_time(store, SLOW, queue="relay.celery.in_order") == []


@pytest.mark.parametrize("way", ["front", "named", "after"])
def test_each_way_of_claiming_keeps_the_rate_of_a_queue(store: Store, way: str) -> None:
    jobs = ready_jobs(store, 3)
    first = job(store, jobs[0])
    given = {
        "front": {},
        "named": {"only": jobs},
        "after": {"after": Position("default", 0, first.run_after, UUID(int=0))},
    }[way]
    assert len(in_time(store, SLOW, **given)) == 1
    assert in_time(store, SLOW, **given) == []


def test_a_queue_may_have_a_limit_as_well_and_its_jobs_rates_and_limits(store: Store) -> None:
    plain = ready_jobs(store, 2)
    of_key(store, 4, limit_key="k")
    fast = Rate(timedelta(microseconds=1), 100)
    claim = rated(THREE, Limit(2))
    claims = claim(store, queue_rate=fast, at_once=3)
    assert len(claims) == 3
    assert set(plain) <= set(ids(claims))
    assert claim(store, queue_rate=fast, at_once=3) == []
    store.finish_many([(one, Succeeded()) for one in claims])
    assert len(claim(store, queue_rate=fast, at_once=1)) == 1


def test_a_queue_that_somebody_claims_from_is_asked_again_soon(
    store: Store, other: Caller
) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    ready_jobs(store, 1)
    waits: list[timedelta] = []
    locks: list[Any] = []

    def lock() -> None:
        keys = store._with_keys()
        locks.append(keys)
        keys.__enter__()(["queue:default"])

    other.do(lock)
    assert in_time(store, THREE, queue_closed=lambda _queue, wait: waits.append(wait)) == []
    assert AT_ONCE < waits[0] < timedelta(seconds=1)
    other.do(lambda: locks[0].__exit__(None, None, None))
    assert len(in_time(store, THREE)) == 1


def test_many_workers_keep_the_rate_of_a_queue_in_every_window(
    store: Store, new_caller: Callable[[], Caller]
) -> None:
    ready_jobs(store, EACH)
    claimed: list[Claim] = []
    over = Event()

    def drain() -> None:
        try:
            while len(claimed) < EACH and not over.is_set():
                claimed.extend(in_time(store, QUICK, limit=5))
        finally:
            over.set()

    for one in [new_caller().start(drain) for _worker in range(WORKERS)]:
        one.result(LONG.total_seconds())

    assert len(claimed) == EACH
    must_keep(QUICK, sorted(one.claimed_at for one in claimed))


# ---- what is remembered -------------------------------------------------------------


def test_rows_that_say_nothing_any_more_are_deleted(store: Store) -> None:
    (job_id,) = of_key(store, 1)
    (other,) = of_key(store, 1, OTHER_KEY)
    rated(SLOW)(store)
    assert store.forget_rates(limit=10) == 0
    later(2 * HOUR)
    later(2 * HOUR, OTHER_KEY)
    store.pause_rate(other, HOUR)
    assert store.forget_rates(limit=10) == 1
    assert RateRow.objects.get().key == OTHER_KEY
    assert store.pause_rate(job_id, AT_ONCE)


def test_all_lines_are_found_and_no_other_ones(store: Store) -> None:
    keys = [f"r{number:063d}" for number in range(7)]
    for key in keys:
        of_key(store, 3, key)
    rated(SLOW)(store)
    ready_job(store, fair_key="f" * 64, limit_key="f" * 64)
    assert [key for key, _path in store.rate_lines(most=100)] == keys
    first = store.rate_lines(most=3)
    assert [key for key, _path in first] == keys[:3]
    assert [key for key, _path in store.rate_lines(after=keys[2], most=100)] == keys[3:]
