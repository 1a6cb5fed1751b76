"""Fair lines: keys give their shares of each claim, in turn, whatever waits in them."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from operator import itemgetter
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection

from aftercommit.models import Blocked, Job, State
from aftercommit.options.fair import belongs_to, fair_key
from aftercommit.store.base import Store
from aftercommit.store.criteria import Criteria
from aftercommit.store.fair.reading import Part
from aftercommit.values import Claim, ClaimQuery, Limit, OnConflict, Released, Retry, Succeeded
from tests import tiers
from tests.store.callers import Caller, Held
from tests.store.given import (
    ERROR,
    LEASE,
    claim_all,
    job,
    locked,
    new_job,
    ready_job,
    ready_jobs,
)

LATER, AT_ONCE = timedelta(hours=1), timedelta(0)
MANY = tiers.size(change=1_000, full=10_000)


def of(tenant: str, *, queue: str = "default", gated: bool = False) -> dict[str, Any]:
    """Return what a job of a tenant has."""
    key = fair_key("default", queue, tenant, gated=gated)
    return {"fair_key": key, "limit_key": "limit-of-" + tenant if gated else key, "queue": queue}


def in_turn(
    store: Store,
    *,
    limit: int = 10,
    after: str = "",
    queue: str = "default",
    gated: bool = False,
    **given: Any,
) -> tuple[list[Claim], str]:
    """Claim from the lines of a queue."""
    query = ClaimQuery(queue=queue, limit=limit, worker_id=uuid4(), lease=LEASE, **given)
    return store.claim_in_turn(query, Part("default", queue, gated=gated), after=after)


def claimed(store: Store, **given: Any) -> list[UUID]:
    """Return the jobs of such a claim."""
    return [one.job_id for one in in_turn(store, **given)[0]]


def tenants(claims: list[Claim]) -> Counter[str]:
    """Return how many jobs of each tenant were claimed."""
    keys = dict(Job.objects.values_list("id", "fair_key"))
    return Counter(keys[one.job_id] for one in claims)


def test_a_fair_job_waits_in_its_line_and_no_plain_claim_sees_it(store: Store) -> None:
    mine = ready_job(store, **of("a"))
    assert claim_all(store) == []
    assert store.due_groups() == []
    assert store.fair_parts() == [Part("default", "default")]
    claims, after = in_turn(store)
    assert [one.job_id for one in claims] == [mine]
    assert after == of("a")["fair_key"]
    row = job(store, mine)
    assert (row.state, row.line, row.blocked, row.waits_for, row.claimable, row.token) == (
        State.RUNNING, None, None, 0, False, 1
    )  # fmt: skip
    assert store.renew(claims, lease=LEASE).held == {mine: False}
    assert store.finish(claims[0], Succeeded()) is not None
    assert store.fair_parts() == []
    assert in_turn(store) == ([], "")


def test_each_key_gives_its_share(store: Store) -> None:
    ready_jobs(store, 100, **of("a"))
    ready_jobs(store, 3, **of("b"))
    claims, _after = in_turn(store, limit=10)
    assert sorted(tenants(claims).values()) == [3, 5]


def test_a_claim_has_the_first_of_each_key_then_the_second(store: Store) -> None:
    a, b = ready_jobs(store, 5, **of("a")), ready_jobs(store, 5, **of("b"))
    first, second = sorted([(of("a")["fair_key"], a), (of("b")["fair_key"], b)])
    wanted = [one for pair in zip(first[1], second[1], strict=True) for one in pair]
    assert claimed(store, limit=10) == wanted


def test_a_claim_of_one_goes_from_key_to_key(store: Store) -> None:
    for tenant in "abc":
        ready_jobs(store, 4, **of(tenant))
    after, found = "", []
    for _time in range(6):
        claims, after = in_turn(store, limit=1, after=after)
        found += claims
    assert sorted(tenants(found).values()) == [2, 2, 2]


@pytest.mark.parametrize(("keys", "limit"), [(2, 1), (2, 3), (2, 5), (3, 4), (3, 5), (5, 7)])
def test_in_the_long_run_each_key_gets_as_much_as_any_other(
    store: Store, keys: int, limit: int
) -> None:
    for tenant in range(keys):
        ready_jobs(store, 60, **of(str(tenant)))
    after, seen = "", Counter[str]()
    for _time in range(12):
        claims, after = in_turn(store, limit=limit, after=after)
        seen += tenants(claims)
    assert len(seen) == keys
    assert max(seen.values()) - min(seen.values()) <= 2


def test_no_key_starves_while_others_are_filled_up(store: Store) -> None:
    for tenant in range(30):
        ready_jobs(store, 3, **of(str(tenant)))
    after, seen = "", Counter[str]()
    for _time in range(6):
        claims, after = in_turn(store, limit=5, after=after)
        seen += tenants(claims)
        ready_jobs(store, 5, **of("0"))
    assert len(seen) == 30


@pytest.mark.parametrize("limit", [1, 3, 4, 5])
def test_ten_jobs_beside_very_many_wait_for_ten_at_most(store: Store, limit: int) -> None:
    """The stated share: as many of the others start as the tenant has jobs, and one claim."""
    large, small = sorted((of("one"), of("another")), key=itemgetter("fair_key"))
    for _batch in range(MANY // 500):
        ready_jobs(store, 500, **large)
    _claims, after = in_turn(store, limit=limit)
    ready_jobs(store, 10, **small)
    started = Counter[str]()
    for _time in range(10 + 10 + limit):
        if started[small["fair_key"]] < 10:
            claims, after = in_turn(store, limit=limit, after=after)
            started += tenants(claims)
    assert started[small["fair_key"]] == 10
    assert started[large["fair_key"]] <= 10 + limit


def test_the_jobs_of_a_key_come_by_priority_and_time(store: Store) -> None:
    low, usual = ready_job(store, **of("a"), priority=-5), ready_jobs(store, 2, **of("a"))
    high = ready_job(store, **of("a"), priority=7)
    found = [job_id for _time in range(4) for job_id in claimed(store, limit=1)]
    assert found == [high, *usual, low]


def test_queues_have_lines_of_their_own(store: Store) -> None:
    ready_job(store, **of("a"))
    mail = ready_job(store, **of("a", queue="mail"))
    ready_job(store, queue="plain")
    assert set(store.fair_parts()) == {
        Part("default", "default"), Part("default", "mail")
    }  # fmt: skip
    assert claimed(store, queue="mail") == [mail]


def test_jobs_of_unknown_tasks_are_left(store: Store) -> None:
    ready_jobs(store, 3, **of("a"), task_path="elsewhere.task", priority=3)
    mine = ready_job(store, **of("a"))
    assert claimed(store, unknown=["elsewhere.task"]) == [mine]


def test_locked_jobs_hold_up_no_others(store: Store, other: Caller) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time.")
    a, b = ready_jobs(store, 2, **of("a")), ready_job(store, **of("b"))
    holding = Held(other, lambda: locked(a[0]))
    assert set(claimed(store, limit=1) + claimed(store, limit=2)) == {a[1], b}
    holding.let_go()


# ---- jobs that are claimable first -----------------------------------------------------


def fair(store: Store, **given: Any) -> list[Claim]:
    """Claim as a worker that knows fair tasks."""
    return claim_all(store, fair=True, **given)


@pytest.mark.parametrize("outcome", [Retry(ERROR, AT_ONCE), Released(AT_ONCE)])
def test_a_job_that_runs_again_joins_its_line(store: Store, outcome: Any) -> None:
    mine = ready_job(store, **of("a"))
    (claim,), _after = in_turn(store)
    store.finish(claim, outcome)
    assert job(store, mine).claimable
    assert fair(store) == []
    row = job(store, mine)
    assert (row.line, row.blocked, row.claimable) == (of("a")["fair_key"], Blocked.FAIR, False)
    assert claimed(store) == [mine]


def test_jobs_for_later_join_when_they_are_due_and_the_others_are_claimed(store: Store) -> None:
    past, future = store._clock() - LATER, store._clock() + LATER
    due = ready_jobs(store, 700, **of("a"), run_after=past)
    ready_job(store, **of("a"), run_after=future)
    plain = ready_job(store)
    assert [one.job_id for one in fair(store, limit=5)] == [plain]
    assert Job.objects.filter(line=of("a")["fair_key"]).count() == len(due)
    assert len(claimed(store, limit=7)) == 7


def test_a_worker_without_fair_tasks_runs_them_at_once(store: Store) -> None:
    past = store._clock() - LATER
    due = ready_jobs(store, 2, **of("a"), run_after=past)
    assert sorted(one.job_id for one in claim_all(store)) == due


def test_a_job_with_crashes_does_not_wait_for_its_turn(store: Store) -> None:
    mine = ready_job(store, **of("a"), run_after=store._clock() - LATER)
    Job.objects.update(crashes=1)
    assert fair(store, crashed=False) == []
    assert job(store, mine).line is None
    assert [one.job_id for one in claim_all(store, only=[mine], crashed=True)] == [mine]


def test_a_job_that_was_moved_joins_a_line_of_its_new_queue(store: Store) -> None:
    mine = ready_job(store, **of("a"), run_after=store._clock() - LATER)
    Job.objects.update(queue="mail")
    assert fair(store, queue="mail") == []
    row = job(store, mine)
    assert belongs_to(row.line, "default", "mail")
    assert row.limit_key == row.fair_key == row.line
    assert claimed(store, queue="mail") == [mine]


def test_a_job_that_an_older_program_has_moved_is_found(store: Store) -> None:
    mine = ready_job(store, **of("a"))
    Job.objects.update(queue="mail")
    assert store.fair_parts() == []
    assert job(store, mine).claimable
    assert fair(store, queue="mail") == []
    assert claimed(store, queue="mail") == [mine]


def test_what_an_older_program_has_ended_leaves_the_line(store: Store) -> None:
    mine = ready_job(store, **of("a"))
    Job.objects.update(
        state=State.CANCELLED, waits_for=0, blocked=None, unsuccessful=True,
        finished_at=store._clock(),
    )  # fmt: skip
    assert claimed(store) == []
    assert job(store, mine).line is None
    assert store.fair_parts() == []


# ---- with a limit as well --------------------------------------------------------------


def under(rule: Limit, store: Store, **given: Any) -> list[Claim]:
    """Claim in turn, for a worker whose tasks have this limit."""
    return in_turn(store, gated=True, limit_of=lambda _path: rule, **given)[0]


def test_a_closed_limit_leaves_jobs_in_their_line(store: Store) -> None:
    jobs = ready_jobs(store, 5, **of("a", gated=True))
    claims = under(Limit(2), store)
    assert [one.job_id for one in claims] == jobs[:2]
    assert {one.limit_key for one in claims} == {"limit-of-a"}
    assert under(Limit(2), store) == []
    assert Job.objects.filter(blocked=Blocked.FAIR).count() == 3
    store.finish(claims[0], Succeeded())
    assert [one.job_id for one in under(Limit(2), store)] == [jobs[2]]
    assert sorted(Job.objects.filter(slot__isnull=False).values_list("slot", flat=True)) == [1, 2]


def test_a_key_whose_limit_is_closed_does_not_hold_up_the_next(store: Store) -> None:
    ready_jobs(store, 5, **of("a", gated=True))
    b = ready_jobs(store, 2, **of("b", gated=True))
    claims = under(Limit(1), store, limit=30)
    assert len(claims) == 2
    store.finish(next(one for one in claims if one.job_id == b[0]), Succeeded())
    assert [one.job_id for one in under(Limit(1), store, limit=30)] == [b[1]]


@pytest.mark.parametrize("closed", [1, 30, 450])
def test_lines_whose_limits_are_closed_hide_no_other(store: Store, closed: int) -> None:
    """A drain ends when a claim of one job brings none."""
    many = [new_job(**of(f"t{number}", gated=True)) for number in range(closed) for _two in "12"]
    store.insert(many)
    while under(Limit(1), store, limit=100):
        pass
    assert Job.objects.filter(state=State.RUNNING).count() == closed
    mine = [ready_job(store, **of(f"open-{number}", gated=True)) for number in range(3)]
    after, found = "", []
    for _time in mine:
        claims, after = in_turn(
            store, limit=1, after=after, gated=True, limit_of=lambda _path: Limit(1)
        )
        found += [one.job_id for one in claims]
    assert sorted(found) == sorted(mine)


def test_a_look_at_closed_lines_reads_each_of_them_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        ready_jobs(store, 2, **of(f"t{number}", gated=True))
    under(Limit(1), store, limit=100)
    heads, looked_at = store._heads_of_lines, Counter[str]()

    def counted(query: Any, keys: Any, *given: Any, **more: Any) -> Any:
        looked_at.update(keys)
        return heads(query, keys, *given, **more)

    monkeypatch.setattr(store, "_heads_of_lines", counted)
    assert under(Limit(1), store, limit=1) == []
    assert looked_at == Counter({of(f"t{n}", gated=True)["fair_key"]: 1 for n in range(30)})


def test_one_limit_of_all_tenants_is_shared_in_turn(store: Store) -> None:
    for tenant in "ab":
        ready_jobs(store, 6, **{**of(tenant, gated=True), "limit_key": "all"})
    after, found = "", []
    for _time in range(6):
        claims, after = in_turn(
            store, limit=4, after=after, gated=True, limit_of=lambda _path: Limit(1)
        )
        found += claims
        for one in claims:
            store.finish(one, Succeeded())
    assert sorted(tenants(found).values()) == [3, 3]


def test_nobody_decides_who_does_not_know_the_task(store: Store) -> None:
    ready_jobs(store, 2, **of("a", gated=True))
    assert in_turn(store, gated=True, limit_of=lambda _path: None)[0] == []


def test_a_line_of_a_rate_is_no_fair_line(store: Store) -> None:
    ready_jobs(store, 2, limit_key="f" * 64)
    Job.objects.update(line="f" * 64, blocked=Blocked.RATE, claimable=False, waits_for=1)
    assert store.fair_parts() == []
    assert connection.vendor
    assert replace(new_job(), **of("a")).fair_key == of("a")["fair_key"]


# ---- what else happens to a job that waits in its line -----------------------------------


def test_a_cancelled_job_leaves_its_line(store: Store) -> None:
    mine, other_one = ready_jobs(store, 2, **of("a"))
    assert store.cancel([mine]).cancelled == {mine}
    assert job(store, mine).line is None
    assert claimed(store) == [other_one]


def test_a_job_that_is_retried_by_hand_joins_its_line_again(store: Store) -> None:
    mine = ready_job(store, **of("a"))
    store.cancel([mine])
    assert store.retry([mine]).ready == {mine}
    assert job(store, mine).claimable
    assert fair(store) == []
    assert claimed(store) == [mine]


def test_a_job_that_was_rescued_has_its_place_by_time(store: Store) -> None:
    first, second = ready_jobs(store, 2, **of("a"))
    (claim,), _after = in_turn(store, limit=1)
    store.finish(claim, Released(AT_ONCE))
    assert fair(store) == []
    assert claimed(store, limit=1) == [first]
    assert claimed(store, limit=1) == [second]


def test_a_unique_job_that_is_replaced_joins_the_line_of_its_new_key(store: Store) -> None:
    rule = OnConflict(replaces=True)
    first = new_job(**of("a"), unique_key="u")
    store.insert_unique([first], rule)
    store.insert_unique([new_job(**of("b"), unique_key="u", priority=4)], rule)
    row = job(store, first.id)
    assert (row.line, row.blocked, row.claimable) == (None, None, True)
    assert fair(store) == []
    row = job(store, first.id)
    assert (row.line, row.priority) == (of("b")["fair_key"], 4)
    assert claimed(store) == [first.id]


def test_a_debounced_job_waits_for_its_time_and_then_in_line(store: Store) -> None:
    rule = OnConflict(replaces=True, debounce=LATER)
    first = new_job(**of("a"), unique_key="u")
    store.insert_unique([first], rule)
    store.insert_unique([new_job(**of("a"), unique_key="u")], rule)
    assert job(store, first.id).line is None
    assert fair(store) == []
    assert job(store, first.id).claimable


def test_a_new_priority_counts_in_the_line(store: Store) -> None:
    first, second = ready_jobs(store, 2, **of("a"))
    wanted = Criteria(ids=[second])
    assert store.reprioritise([second], wanted, priority=9) == 1
    assert claimed(store, limit=1) == [second]
    assert claimed(store, limit=1) == [first]


def test_a_job_that_is_moved_waits_in_its_new_queue(store: Store) -> None:
    mine, other_one = ready_jobs(store, 2, **of("a"))
    assert store.move([mine], Criteria(ids=[mine]), queue="mail") == 1
    assert claimed(store) == [other_one]
    assert fair(store, queue="mail") == []
    assert claimed(store, queue="mail") == [mine]


def test_jobs_in_lines_are_found_and_counted(store: Store) -> None:
    ready_jobs(store, 3, **of("a"))
    assert store.counts()[State.READY] == 3
    assert store.queues() == ["default"]
    assert store.queued_names() == {"tests.app.tasks.add"}
    assert store.due_in("default", backends=["default"]) == 3
    assert store.due_of("tests.app.tasks.add") == 3
    assert len(store.due(limit=10)) == 3
    (group,) = store.waiting(most=2)
    assert (group.group.queue, group.due, group.ready) == ("default", 2, 2)
    assert store.oldest_due_age() is not None
    (by_task,) = store.waiting_by_task(most=10)
    assert (by_task.ready, by_task.due) == (3, 3)


def test_the_age_is_that_of_the_oldest_whatever_its_tenant_and_priority(store: Store) -> None:
    for tenant in "abc":
        ready_jobs(store, 3, **of(tenant))
    oldest = ready_job(store, **of("b"), priority=-7)
    Job.objects.filter(id=oldest).update(run_after=store._clock() - LATER)
    age = store.oldest_due_age("default")
    assert age is not None
    assert age >= LATER


# ---- pauses ----------------------------------------------------------------------------


def test_jobs_of_a_paused_task_are_set_aside_and_come_back(store: Store) -> None:
    path = "tests.app.tasks.paused"
    held = ready_jobs(store, 30, **of("a"), task_path=path)
    mine = ready_jobs(store, 2, **of("a"))
    store.pause("task", path, by="", why="")
    given = {"unknown": [path], "paused": [path]}
    assert claimed(store, **given) == mine
    assert not Job.objects.filter(line__isnull=False).exists()
    assert set(Job.objects.filter(id__in=held).values_list("claimable", flat=True)) == {False}
    store.resume("task", path)
    assert store.bring_back(path)
    assert fair(store) == []
    assert claimed(store, limit=30) == held
