"""Turns, from the declaration of a task to the worker that runs its jobs."""

from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from aftercommit import enqueue_many, jobs, queues
from aftercommit.errors import ConfigurationError
from aftercommit.models import Blocked, Job, State
from aftercommit.options.fair import is_gated
from aftercommit.store import store_for
from aftercommit.store.estimates import ESTIMATES
from aftercommit.values import Succeeded
from aftercommit.worker.claiming import fair as fair_module
from aftercommit.worker.inline import InlineWorker
from tests.app.tasks import add
from tests.worker.rig import Rig, commits, work

pytestmark = [commits, pytest.mark.usefixtures("one_backend")]

AT_ONCE, HOUR = timedelta(0), timedelta(hours=1)
started: list[tuple[str, int]] = []
at_start: dict[tuple[str, int], Callable[[], Any]] = {}


def serve(tenant: str, number: int = 0) -> None:
    """Note the start of a job, and do what a test asks for there."""
    started.append((tenant, number))
    at_start.pop((tenant, number), lambda: None)()


def mail(tenant: str, number: int = 0) -> None:
    """Be another task of the same tenants."""
    started.append((f"mail {tenant}", number))


def plain(number: int = 0) -> None:
    """Take no turns."""
    started.append(("plain", number))


@pytest.fixture(autouse=True)
def nothing_started():
    """Forget what the tests before have started."""
    started.clear()
    at_start.clear()


@pytest.fixture
def fair(declare):
    """Return a task whose tenants take turns."""
    return declare(serve, fair_by=["tenant"], backoff=AT_ONCE)


def lines() -> list[str | None]:
    """Return the keys of all jobs in the order of their ids."""
    return list(Job.objects.order_by("id").values_list("fair_key", flat=True))


# ---- the key ------------------------------------------------------------------------


def test_a_task_without_fair_by_has_no_key(declare):
    declare(plain).enqueue()
    job = Job.objects.get()
    assert (job.fair_key, job.line, job.limit_key, job.claimable) == (None, None, None, True)


def test_equal_values_have_one_key_however_they_are_passed(fair):
    fair.enqueue("a", 5)
    fair.enqueue(tenant="a", number=6)
    enqueue_many(fair, [("a",), {"tenant": "b"}])
    one, same, many, other = lines()
    assert one == same == many
    assert other != one
    job = Job.objects.order_by("id")[0]
    assert (job.line, job.limit_key) == (one, one)
    assert (job.blocked, job.claimable, job.waits_for) == (Blocked.FAIR, False, 1)


def test_tasks_of_one_queue_share_the_turn_of_a_value(fair, declare):
    fair.enqueue("a")
    declare(mail, fair_by=("tenant",)).enqueue("a")
    one, same = lines()
    assert one == same


def test_a_task_with_a_limit_has_lines_of_its_own(fair, declare):
    fair.enqueue("a")
    declare(mail, fair_by=("tenant",), limit=2).enqueue("a")
    one, other = Job.objects.order_by("id")
    assert one.line != other.line
    assert (is_gated(one.line), is_gated(other.line)) == (False, True)
    assert other.limit_key != other.line


def test_queues_have_lines_of_their_own(fair):
    fair.enqueue("a")
    fair.using(queue_name="other").enqueue("a")
    assert len(set(lines())) == 2


def test_a_job_for_later_waits_in_no_line(fair):
    fair.using(run_after=timezone.now() + HOUR).enqueue("a")
    job = Job.objects.get()
    assert (job.line, job.blocked, job.claimable) == (None, None, True)
    assert job.fair_key == job.limit_key


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"fair_by": ["tennant"]},
            "fair_by: the function has no argument 'tennant'; did you mean",
        ),
        ({"fair_by": "tenant"}, "fair_by: expected a list or a tuple, got 'tenant'"),
        ({"fair_by": ()}, "fair_by: name at least one argument"),
        (
            {"fair_by": ["tenant"], "limit": 1, "ordered": True},
            "fair_by cannot be combined with ordered=True",
        ),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(declare, options, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        declare(serve, **options)


def test_it_belongs_to_the_declaration(fair):
    with pytest.raises(TypeError, match="fair_by"):
        fair.using(fair_by=["number"])


# ---- workers --------------------------------------------------------------------------


def test_a_worker_runs_all_and_ends_when_the_lines_are_empty(fair, declare):
    enqueue_many(fair, [(tenant, number) for tenant in "abc" for number in range(20)])
    enqueue_many(declare(plain), [(number,) for number in range(20)])
    assert work(threads=2) == 0
    assert len(started) == 80
    assert set(Job.objects.values_list("state", flat=True)) == {State.SUCCEEDED}
    assert not Job.objects.filter(line__isnull=False).exists()


def test_ten_jobs_wait_for_as_many_others_and_for_those_that_were_claimed(fair):
    """The stated share, whatever the tenant beside has."""
    enqueue_many(fair, [("large", number) for number in range(600)])
    moments = []

    def enqueue_ten():
        enqueue_many(fair, [("small", number) for number in range(10)])
        moments.append(store_for("default").now())

    at_start["large", 100] = enqueue_ten
    assert work(threads=1) == 0
    assert len(started) == 610
    small = Job.objects.filter(payload__contains="small")
    first = small.earliest("claimed_at")
    larges = Job.objects.filter(payload__contains="large")
    # One claim may be under way at their commit. The next one brings the first of the ten.
    between = larges.filter(claimed_at__gt=moments[0], claimed_at__lt=first.claimed_at)
    assert between.values("claimed_at").distinct().count() <= 1
    later = {one.args[1] for one in larges.filter(claimed_at__gte=first.claimed_at)}
    end = max(number for number, one in enumerate(started) if one[0] == "small")
    others = [one for one in started[:end] if one[0] == "large" and one[1] in later]
    assert len(others) <= 10


def test_both_halves_of_a_queue_go_on_side_by_side(fair, declare):
    free = declare(plain)
    enqueue_many(fair, [("a", number) for number in range(40)])
    enqueue_many(free, [(number,) for number in range(40)])
    Job.objects.filter(fair_key__isnull=True).update(priority=50)
    rig = Rig()
    kinds = []
    for _time in range(20):
        kinds += [one.task_path for one, _facts in rig.rooms.fetcher.fetch(limit=3)]
    first = kinds[1:31]  # the first claim is made before the first look
    assert abs(first.count(fair.module_path) - first.count(free.module_path)) <= 3
    assert len(kinds) >= 57


def test_one_thread_serves_both(fair, declare):
    enqueue_many(fair, [("a", number) for number in range(4)])
    enqueue_many(declare(plain), [(number,) for number in range(4)])
    fetcher = Rig().rooms.fetcher
    kinds = [one.task_path for _t in range(8) for one, _facts in fetcher.fetch(limit=1)]
    assert kinds[:6].count(fair.module_path) == 3
    assert len(kinds) == 8


def test_a_job_that_fails_joins_its_line_again(fair):
    fair.enqueue("a")

    def fail() -> None:
        raise ValueError("no")

    at_start["a", 0] = fail
    assert work(threads=1) == 0
    assert started == [("a", 0)] * 2
    assert Job.objects.get().state == State.SUCCEEDED


def test_jobs_that_were_for_later_take_turns(fair):
    enqueue_many(fair.using(run_after=timezone.now() - HOUR), [("a", n) for n in range(30)])
    enqueue_many(fair.using(run_after=timezone.now() - HOUR), [("b", n) for n in range(3)])
    fetcher = Rig().rooms.fetcher
    tenants = [one.payload for one, _facts in fetcher.fetch(limit=8)]
    assert sum('"b"' in one for one in tenants) == 3


def test_a_limit_holds_and_its_end_goes_on_at_once(declare):
    limited = declare(serve, fair_by=["tenant"], limit=1)
    enqueue_many(limited, [(tenant, number) for tenant in "ab" for number in range(4)])
    running: list[int] = []

    def note() -> None:
        running.append(Job.objects.filter(state=State.RUNNING).count())

    for tenant in "ab":
        for number in range(4):
            at_start[tenant, number] = note
    assert work(threads=4) == 0
    assert running == [1] * 8
    order = [tenant for tenant, _number in started]
    assert sorted(order[:4]) == ["a", "a", "b", "b"]


def test_what_a_rate_does_not_let_start_stays_in_its_line(declare):
    rated = declare(serve, fair_by=["tenant"], rate="4/h", burst=4)
    enqueue_many(rated, [(tenant, number) for tenant in "ab" for number in range(5)])
    assert work(threads=2) == 0
    assert sorted(tenant for tenant, _number in started) == ["a", "a", "b", "b"]
    assert set(Job.objects.filter(state=State.READY).values_list("blocked")) == {(Blocked.FAIR,)}


def test_with_a_rate_and_a_limit_both_count(declare):
    both = declare(serve, fair_by=["tenant"], rate="3/h", burst=3, limit=1, limit_by=["tenant"])
    enqueue_many(both, [(tenant, number) for tenant in "ab" for number in range(3)])
    assert work(threads=4) == 0
    assert len(started) == 3
    assert {tenant for tenant, _number in started} == {"a", "b"}


def asked(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Return a list to which each claim from lines adds whether these are gated."""
    claim_in_turn, found = rig.store.claim_in_turn, []

    def noted(query: Any, part: Any, **given: Any) -> Any:
        found.append(part.gated)
        return claim_in_turn(query, part, **given)

    monkeypatch.setattr(rig.store, "claim_in_turn", noted)
    return found


def test_a_drain_finds_open_lines_behind_many_that_are_closed(declare):
    rated = declare(serve, fair_by=["tenant"], rate="1/h", rate_by=["tenant"])
    for number in range(2):
        enqueue_many(rated, [(f"closed-{tenant}", number) for tenant in range(100)])
        if not number:
            work(threads=1)
    enqueue_many(rated, [(f"open-{tenant}", 0) for tenant in range(10)])
    started.clear()
    assert work(threads=1) == 0
    assert sorted(tenant for tenant, _number in started) == [f"open-{n}" for n in range(10)]


def test_closed_lines_are_asked_rarely_while_other_jobs_are_claimed(fair, declare, monkeypatch):
    monkeypatch.setattr(fair_module, "SHARE", 1e-9)
    monkeypatch.setattr(fair_module, "LONGEST_PAUSE", HOUR)
    limited = declare(mail, fair_by=["tenant"], limit=1)
    enqueue_many(limited, [("a", number) for number in range(5)])
    rig = Rig()
    (one,) = rig.rooms.fetcher.fetch(limit=1)
    claims = asked(rig, monkeypatch)
    assert not rig.rooms.fetcher.fetch(limit=1)
    enqueue_many(declare(plain), [(number,) for number in range(20)])
    enqueue_many(fair, [("b", number) for number in range(20)])
    claims.clear()
    kinds = [
        claim.task_path for _t in range(10) for claim, _f in rig.rooms.fetcher.fetch(limit=2)
    ]
    assert len(kinds) == 20
    assert claims.count(True) <= 1
    # When there is nothing else, they are asked at once: a slot may be free.
    while rig.rooms.fetcher.fetch(limit=50):
        pass
    rig.store.finish(one[0], Succeeded())
    assert len(rig.rooms.fetcher.fetch(limit=2)) == 1


def test_a_limit_that_operators_set_counts_in_lines(fair, declare):
    enqueue_many(fair, [(tenant, number) for tenant in "ab" for number in range(3)])
    enqueue_many(declare(mail, fair_by=["tenant"]), [("a", number) for number in range(3)])
    queues.limit(task=fair, limit=1)
    running = []

    def note() -> None:
        alike = Job.objects.filter(state=State.RUNNING, task_path=fair.module_path)
        running.append(alike.count())

    for tenant in "ab":
        for number in range(3):
            at_start[tenant, number] = note
    assert work(threads=4) == 0
    assert running == [1] * 6
    assert len(started) == 9


def test_a_limit_of_the_queue_counts_jobs_from_lines(fair, declare):
    enqueue_many(fair, [(tenant, number) for tenant in "ab" for number in range(4)])
    enqueue_many(declare(plain), [(number,) for number in range(4)])
    queues.limit("default", 2)
    counted = []
    for tenant in "ab":
        for number in range(4):
            at_start[tenant, number] = lambda: counted.append(
                Job.objects.filter(state=State.RUNNING).count()
            )
    assert work(threads=4) == 0
    assert len(started) == 12
    assert max(counted) <= 2


def test_a_task_that_was_fair_leaves_nothing_behind(fair, declare):
    enqueue_many(fair, [("a", number) for number in range(5)])
    declare(serve)
    assert work(threads=1) == 0
    assert len(started) == 5


@pytest.fixture
def clock(monkeypatch):
    """Return a clock that stands still: a list with the seconds it shows."""
    seconds = [1_000.0]
    still = SimpleNamespace(monotonic=lambda: seconds[0])
    monkeypatch.setattr(fair_module, "time", still)
    return seconds


def test_a_worker_that_has_loaded_no_fair_task_finds_its_jobs_within_a_second(
    fair, clock, monkeypatch
):
    """The module of the task is imported when the first of its jobs is claimed."""
    monkeypatch.setattr(fair_module, "kinds_of_fair_tasks", frozenset)
    rooms = Rig().rooms
    rooms.fetcher.lines.is_told = lambda: rooms.presence.tells
    rooms.presence._open()
    assert rooms.fetcher.fetch(limit=4) == []
    fair.enqueue("a")
    if rooms.store.wakes_workers:
        rooms.presence.step()
    else:
        clock[0] += 1
    assert len(rooms.fetcher.fetch(limit=4)) == 1
    rooms.presence.close()


def test_an_idle_worker_asks_once_more_where_tasks_are_fair(declare, clock):
    declare(plain)
    rig = Rig()
    rig.rooms.fetcher.lines.is_told = lambda: rig.rooms.presence.tells
    rig.rooms.fetcher.fetch(limit=4)
    with CaptureQueriesContext(connection) as without:
        rig.rooms.fetcher.fetch(limit=4)
    clock[0] += 1
    with CaptureQueriesContext(connection) as each_second:
        rig.rooms.fetcher.fetch(limit=4)
    declare(serve, fair_by=["tenant"])
    rig.rooms.fetcher.fetch(limit=4)
    with CaptureQueriesContext(connection) as with_fair:
        rig.rooms.fetcher.fetch(limit=4)
    once = 1 if rig.store.wakes_workers else 2  # then by the end of the minute, or when told
    assert (len(without), len(each_second), len(with_fair)) == (1, once, 2)


def test_flush_queue_runs_what_waits_in_lines(fair, declare):
    enqueue_many(fair, [(tenant, number) for tenant in "ab" for number in range(3)])
    enqueue_many(declare(mail, fair_by=["tenant"], limit=1), [("a", n) for n in range(3)])
    assert InlineWorker().run() == 9
    assert set(Job.objects.values_list("state", flat=True)) == {State.SUCCEEDED}


def test_a_paused_queue_is_left_and_a_paused_task_set_aside(fair, declare):
    enqueue_many(fair, [("a", number) for number in range(3)])
    queues.pause("default")
    assert work(threads=1) == 0
    assert started == []
    queues.resume("default")
    queues.pause(task=fair)
    enqueue_many(declare(mail, fair_by=["tenant"]), [("a", number) for number in range(2)])
    assert work(threads=1) == 0
    assert [tenant for tenant, _number in started] == ["mail a"] * 2
    queues.resume(task=fair)
    assert work(threads=1) == 0
    assert [tenant for tenant, _number in started[2:]] == ["a"] * 3


def test_status_counts_them(fair):
    enqueue_many(fair, [("a", number) for number in range(3)])
    (depth,) = jobs.counts(by="queue").values()
    assert (depth.due, depth.ready) == (3, 3)
    (depth,) = jobs.counts(by="task").values()
    assert depth.due == 3
    assert jobs.counts(by="state")["ready"].jobs == 3
    assert jobs.oldest_due_age(queue="default") is not None
    assert [one.name for one in queues.list()] == ["default"]
    assert jobs.find(queue="default", state="ready").count() == 3


def test_states_of_a_large_table_count_them(fair, monkeypatch):
    for estimate in ESTIMATES.values():
        monkeypatch.setattr(estimate, "size", lambda _self: 10_000_000)
    enqueue_many(fair, [("a", number) for number in range(3)])
    enqueue_many(fair, [("b", number) for number in range(2)])
    add.enqueue(1, 2)
    ready = jobs.counts(by="state")["ready"]
    assert (ready.jobs, ready.is_estimate) == (6, False)
    assert jobs.counts(by="state", most=5)["ready"].is_estimate


def test_the_result_is_as_of_any_other_job(fair):
    job_id = UUID(fair.enqueue("a").id)
    assert store_for("default").job(job_id).state == State.READY
