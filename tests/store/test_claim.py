"""T1: due jobs are claimed in order, each by one worker."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from django.db import connection

from aftercommit.ids import new_job_id
from aftercommit.models import Job
from aftercommit.values import Failed, Released, Retry
from tests.store.callers import Held, answer, at_statement, session_number
from tests.store.given import (
    ALREADY_OVER,
    ERROR,
    LEASE,
    MOST_CRASHES,
    claim_all,
    claim_one,
    job,
    lease_of,
    locked,
    old_claim,
    ready_job,
    ready_jobs,
    state,
)
from tests.waiting import wait_until

EARLY = datetime(2020, 1, 1, tzinfo=UTC)


def claimed_in_turn(store, count):
    return [claim_one(store).job_id for _ in range(count)]


def test_the_highest_priority_comes_first_then_the_earliest_then_the_lowest_id(store):
    low, high = sorted([new_job_id(), new_job_id()])
    last = ready_job(store, priority=-1, run_after=EARLY)
    fourth = ready_job(store, id=high, run_after=EARLY + timedelta(days=1))
    third = ready_job(store, id=low, run_after=EARLY + timedelta(days=1))
    second = ready_job(store, run_after=EARLY)
    first = ready_job(store, priority=1, run_after=EARLY + timedelta(days=2))

    assert claimed_in_turn(store, 5) == [first, second, third, fourth, last]


def test_within_a_priority_the_backends_come_in_the_order_in_which_they_are_named(store):
    later = EARLY + timedelta(days=1)
    fifth = ready_job(store, backend="b", priority=-1, run_after=EARLY)
    fourth = ready_job(store, backend="a", run_after=later)
    third = ready_job(store, backend="a", run_after=EARLY)
    second = ready_job(store, backend="b", run_after=later)
    first = ready_job(store, backend="a", priority=1, run_after=later)
    ready_job(store, backend="c", priority=2, run_after=EARLY)

    claimed = [claim_one(store, backends=["b", "a"]).job_id for _ in range(5)]
    rest = claim_all(store, backends=["b", "a"])

    assert claimed == [first, second, third, fourth, fifth]
    assert rest == []


def test_a_batch_holds_the_most_urgent_of_several_priorities_and_backends(store):
    urgent = ready_jobs(store, 3, priority=2, backend="b")
    first = ready_jobs(store, 2, priority=1, backend="b")
    second = ready_jobs(store, 2, priority=1, backend="a")
    ready_jobs(store, 2, priority=0, backend="b")

    claims = claim_all(store, limit=6, backends=["b", "a"])

    claimed = {claim.job_id for claim in claims}
    assert len(claims) == 6
    assert set(urgent + first) < claimed
    assert len(claimed & set(second)) == 1


def test_a_row_that_version_0_1_left_with_the_flag_of_a_claimable_job_is_not_claimed(store):
    running, ready = ready_jobs(store, 2)
    old_claim(store, running, lease=LEASE, worker_id=uuid4())
    Job.objects.filter(id=running).update(claimable=True)

    claims = claim_all(store) + claim_all(store, only=[running])

    assert [claim.job_id for claim in claims] == [ready]
    assert job(store, running).token == 1


def test_a_job_without_the_flag_is_not_claimed_although_it_is_ready(store):
    waiting, free = ready_jobs(store, 2)
    Job.objects.filter(id=waiting).update(claimable=False)

    claims = claim_all(store) + claim_all(store, only=[waiting])

    assert [claim.job_id for claim in claims] == [free]
    assert state(store, waiting) == "ready"


def test_no_more_jobs_are_claimed_than_asked_for(store):
    ready_jobs(store, 5)

    claims = claim_all(store, limit=3)

    assert len(claims) == 3
    assert len(claim_all(store)) == 2


def test_a_job_is_claimed_when_it_is_due_and_not_before(store):
    ready_job(store, run_after=datetime.now(UTC) + timedelta(hours=1))
    due = ready_job(store, run_after=EARLY)

    assert [claim.job_id for claim in claim_all(store)] == [due]


def test_a_job_is_claimed_from_its_own_queue(store):
    mail = ready_job(store, queue="mail")
    ready_job(store, queue="mail2")

    assert [claim.job_id for claim in claim_all(store, queue="mail")] == [mail]


def test_a_claimed_job_is_running_and_is_claimed_by_nobody_else(store):
    job_id = ready_job(store)

    claim = claim_one(store)

    row = job(store, job_id)
    assert row.state == Job.State.RUNNING
    assert (row.worker_id, row.token, row.attempts) == (claim.worker_id, 1, 1)
    assert row.claimable is False
    lease = lease_of(claim)
    assert lease.worker_id == claim.worker_id
    assert lease.lease_until >= claim.claimed_at + LEASE
    assert claim_all(store) == []


def test_a_claim_says_all_that_a_worker_needs(store):
    worker_id = uuid4()
    job_id = ready_job(
        store, task_path="shop.tasks.send", queue="mail", priority=3, max_attempts=7, backend="b"
    )

    claim = claim_one(store, queue="mail", worker_id=worker_id)

    row = job(store, job_id)
    assert (claim.job_id, claim.token, claim.worker_id) == (job_id, 1, worker_id)
    assert (claim.task_path, claim.payload) == ("shop.tasks.send", row.payload)
    assert (claim.queue, claim.priority, claim.max_attempts) == ("mail", 3, 7)
    assert (claim.backend, claim.errors) == ("b", "[]")
    assert (claim.attempt, claim.crashes, claim.conflicts, claim.failed_runs) == (1, 0, 0, 0)
    assert (claim.run_after, claim.enqueued_at) == (row.run_after, row.enqueued_at)
    assert claim.started_at == claim.claimed_at == row.claimed_at


def test_the_token_rises_by_one_at_each_claim_whatever_happens_between(store):
    job_id = ready_job(store)
    tokens = []
    for outcome in (Retry(ERROR), Released(), Released(conflict=True), Failed(ERROR)):
        claim = claim_one(store)
        tokens.append(claim.token)
        store.finish(claim, outcome)
    store.retry([job_id])
    tokens.append(claim_one(store, lease=ALREADY_OVER).token)
    store.rescue(max_crashes=MOST_CRASHES)
    tokens.append(claim_one(store).token)

    assert tokens == [1, 2, 3, 4, 5, 6]


def test_a_second_run_remembers_when_the_first_began(store):
    ready_job(store)
    first = claim_one(store)
    store.finish(first, Retry(ERROR))

    second = claim_one(store)

    assert second.started_at == first.started_at
    assert second.claimed_at >= first.claimed_at
    assert (second.attempt, second.failed_runs) == (2, 1)


def test_jobs_of_other_backends_are_left_for_a_worker_that_serves_them(store):
    mail = ready_job(store, backend="mail")
    slow = ready_job(store, backend="slow")

    assert [claim.job_id for claim in claim_all(store, backends=["slow", "fast"])] == [slow]
    assert [claim.job_id for claim in claim_all(store)] == [mail]


def test_jobs_of_unknown_tasks_are_left_for_a_worker_that_knows_them(store):
    new = ready_job(store, task_path="app.tasks.new", priority=1)
    known = ready_job(store, task_path="app.tasks.known")

    claims = claim_all(store, unknown=["app.tasks.new", "app.tasks.newer"])

    assert [claim.job_id for claim in claims] == [known]
    assert state(store, new) == "ready"


def test_a_task_is_not_unknown_because_another_differs_in_case_only(store):
    known = ready_job(store, task_path="app.tasks.Send")

    claims = claim_all(store, unknown=["app.tasks.send", "app.tasks.SEND"])

    assert [claim.job_id for claim in claims] == [known]


def test_only_the_named_jobs_are_claimed(store):
    named, other_named, *_others = ready_jobs(store, 5)

    assert {claim.job_id for claim in claim_all(store, only=[named, other_named])} == {
        named,
        other_named,
    }
    assert claim_all(store, only=[]) == []
    assert len(claim_all(store)) == 3


def test_all_conditions_hold_together(store):
    wanted, *_rest = ready_jobs(store, 4)
    unknown = ready_job(store, task_path="app.tasks.new")
    foreign = ready_job(store, backend="other")

    claims = claim_all(
        store,
        only=[wanted, unknown, foreign],
        unknown=["app.tasks.new"],
        backends=["default"],
    )

    assert [claim.job_id for claim in claims] == [wanted]


def test_parallel_claimers_share_nothing_and_leave_nothing(store, new_caller):
    enqueued = set(ready_jobs(store, 120))
    callers = [new_caller() for _ in range(4)]

    def claim_until_empty():
        mine = []
        while claims := claim_all(store, limit=7):
            mine += [claim.job_id for claim in claims]
        return mine

    begun = [caller.start(claim_until_empty) for caller in callers]
    claimed = [job_id for one in begun for job_id in answer(one)]
    claimed += claim_until_empty()  # whoever saw only locked rows stopped early

    assert len(claimed) == 120
    assert set(claimed) == enqueued


def test_a_claimer_passes_over_a_job_that_someone_else_is_claiming(store, new_caller, vendor):
    if vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    first, second = ready_job(store, priority=1), ready_job(store)
    claiming = Held(new_caller(), lambda: locked(first))
    worker = new_caller()

    begun = worker.start(claim_one, store)

    assert not worker.must_wait(begun)
    assert answer(begun).job_id == second
    claiming.commit()
    assert claim_one(store).job_id == first


def test_two_claimers_at_once_do_not_take_the_same_job(store, other, vendor):
    ready_job(store)
    claims = []
    between_its_statements = 1 if vendor == "postgresql" else 2

    with at_statement(between_its_statements, lambda: claims.extend(other.do(claim_all, store))):
        claims += claim_all(store)

    assert [claim.token for claim in claims] == [1]


def test_an_idle_claimer_does_not_wait_for_a_writer(store, other):
    writing = Held(other, lambda: ready_job(store, queue="another"))

    claims = claim_all(store)

    writing.commit()
    assert claims == []


def test_claims_are_read_committed_where_sessions_are_repeatable_read(store, other, vendor):
    if vendor != "mysql":
        pytest.skip("on PostgreSQL a check refuses such sessions; SQLite knows one isolation")
    ready_jobs(store, 3)
    run("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    connection.isolation_level = "repeatable read"
    levels = []

    with at_statement(4, lambda: levels.append(other.do(isolation_of, session_number()))):
        claims = claim_all(store)

    connection.close()
    assert len(claims) == 3
    assert levels == ["READ COMMITTED"]


def isolation_of(session):
    def look():
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT trx_isolation_level FROM information_schema.innodb_trx"
                " WHERE trx_mysql_thread_id = %s",
                [session],
            )
            return cursor.fetchone()

    # The server looks anew only if nobody has asked for a tenth of a second.
    return wait_until(look, between=timedelta(milliseconds=150), why="the server shows it")[0]


# A trigger that lets a claim stand still between its first row and its second.
STAND_STILL = """
CREATE FUNCTION aftercommit_test_stand_still() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.priority = 1 THEN PERFORM pg_advisory_xact_lock(4711); END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER aftercommit_test_stand_still BEFORE UPDATE ON aftercommit_job
FOR EACH ROW EXECUTE FUNCTION aftercommit_test_stand_still();
"""
GO_ON = "DROP FUNCTION aftercommit_test_stand_still CASCADE"


@pytest.fixture
def standing_still(vendor, transactional_db):
    if vendor != "postgresql":
        pytest.skip("only PostgreSQL claims by one statement")
    run(STAND_STILL)
    yield
    run(GO_ON)


def test_a_claim_looks_again_at_a_job_that_changed_meanwhile(store, other, standing_still):
    first, second = ready_job(store, priority=1), ready_job(store, priority=0)
    for plan in ("hashjoin", "mergejoin"):  # they would lock the second job before the first
        other.do(run, f"SET enable_{plan} = off")
    run("SELECT pg_advisory_lock(4711)")
    begun = other.start(claim_all, store)
    assert other.must_wait(begun)

    Job.objects.filter(id=second).update(meta={"changed": True})
    run("SELECT pg_advisory_unlock(4711)")

    assert {claim.job_id for claim in answer(begun)} == {first, second}


def run(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)


@pytest.mark.parametrize(
    ("crashed", "expected"),
    [(None, {"calm", "crashed"}), (False, {"calm"}), (True, {"crashed"})],
)
def test_jobs_with_crashes_can_be_claimed_apart_from_the_others(store, crashed, expected):
    names = {ready_job(store): "crashed"}
    claim_one(store, lease=ALREADY_OVER)
    store.rescue(max_crashes=MOST_CRASHES)
    names[ready_job(store)] = "calm"

    claims = claim_all(store, crashed=crashed)

    assert {names[claim.job_id] for claim in claims} == expected
