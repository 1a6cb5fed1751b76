"""T0: a job exists when the transaction that enqueued it commits, and never otherwise."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction

from aftercommit.ids import new_job_id
from aftercommit.models import State
from aftercommit.store.base import Store
from aftercommit.values import NewJob, NewJobs, OnConflict
from tests.store.callers import at_statement, session_number, statements
from tests.store.given import claim_all, claim_one, insert_alike, job, new_job, ready_job, state

NASTY = ["NUL \0", "lone \ud800", "😀", "a \\u0000 that is text", "'quotes', 100%, %s and ;--"]


def test_a_job_is_ready_when_its_transaction_has_committed(store, other):
    with transaction.atomic():
        job_id = ready_job(store)
        before = other.do(store.job, job_id)

    assert before is None
    assert other.do(store.job, job_id).state == State.READY


def test_a_job_whose_transaction_rolls_back_never_existed(store):
    with transaction.atomic():
        job_id = ready_job(store)
        transaction.set_rollback(True)

    assert store.job(job_id) is None
    assert claim_all(store) == []


def test_a_job_whose_savepoint_rolls_back_never_existed(store):
    with transaction.atomic():
        kept = ready_job(store)
        with transaction.atomic():
            undone = ready_job(store)
            transaction.set_rollback(True)

    assert [state(store, kept), state(store, undone)] == ["ready", "gone"]


def test_in_manual_transactions_a_job_belongs_to_them_as_well(store):
    connection.set_autocommit(False)
    try:
        job_id = ready_job(store)
        connection.rollback()
    finally:
        connection.set_autocommit(True)

    assert store.job(job_id) is None


def test_a_job_keeps_all_that_it_was_given(store):
    given = NewJob(
        task_path="shop.tasks.send",
        payload='{"args":[1],"kwargs":{"to":"\\ud83d\\ude00"}}',
        backend="mails",
        queue="pošta",
        priority=-7,
        run_after=datetime(2031, 5, 6, 7, 8, 9, 123456, tzinfo=UTC),
        max_attempts=9,
        unique_key="Key",
        unique_until_started=True,
        meta={"function": "shop.tasks.send"},
    )

    assert store.insert([given]) == [given.id]

    row = job(store, given.id)
    assert (row.task_path, row.payload, row.backend) == (given.task_path, given.payload, "mails")
    assert (row.queue, row.priority, row.max_attempts) == ("pošta", -7, 9)
    assert (row.unique_key, row.unique_until_started) == ("Key", True)
    assert (row.run_after, row.meta) == (given.run_after, given.meta)
    assert (row.token, row.attempts, row.crashes, row.conflicts) == (0, 0, 0, 0)
    assert (row.worker_id, row.lease_until, row.started_at, row.result) == (None,) * 4
    assert row.error_list == []


@pytest.mark.parametrize("run_after", [None, datetime(2031, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)])
def test_jobs_that_are_alike_are_as_if_enqueued_one_by_one(store, run_after):
    shared = {
        "task_path": "shop.tasks.send%s",
        "backend": "mails",
        "queue": "pošta's",
        "priority": -7,
        "run_after": run_after,
        "max_attempts": 9,
        "meta": {"function": "shop.tasks.send"},
    }
    payloads = [json.dumps({"args": [text], "kwargs": {}}) for text in NASTY]
    first, *alike = [new_job(payload=text, **shared) for text in [payloads[0], *payloads]]

    store.insert([first])
    insert_alike(store, alike)

    expected = columns(store, first)
    found = [columns(store, one) for one in alike]
    assert [row.pop("payload") for row in found] == payloads
    expected.pop("payload")
    moments = [name for name in ("enqueued_at", "run_after") if expected[name] != run_after]
    for row in found:
        for name in moments:  # of its statement
            assert abs(row.pop(name) - expected[name]) < timedelta(minutes=1)
    for name in moments:
        expected.pop(name)
    assert found == [expected] * len(alike)


def columns(store, given):
    """Return a job's row but for its id."""
    row = dict(vars(job(store, given.id)))
    del row["id"], row["_state"]
    return row


@pytest.mark.parametrize("insert", [Store.insert, insert_alike], ids=["each", "alike"])
def test_many_jobs_are_all_there_and_their_ids_in_order(store, insert):
    jobs = [new_job(payload=f'{{"args":[{number}],"kwargs":{{}}}}') for number in range(1200)]

    assert insert(store, jobs) == [one.id for one in jobs]

    claims = claim_all(store, limit=2000)
    assert {claim.job_id: claim.payload for claim in claims} == {
        one.id: one.payload for one in jobs
    }


@pytest.mark.parametrize("insert", [Store.insert, insert_alike], ids=["each", "alike"])
def test_many_jobs_are_all_there_or_none(store, insert):
    twice = new_job()

    with pytest.raises(IntegrityError):
        insert(store, [*(new_job() for _ in range(600)), twice, twice])

    assert claim_all(store) == []


@pytest.mark.parametrize("insert", [Store.insert, insert_alike], ids=["each", "alike"])
def test_many_large_jobs_fit_into_what_a_server_takes_at_once(store, insert):
    megabyte = '{"args":["' + "x" * 1024 * 1024 + '"],"kwargs":{}}'
    given = [new_job(payload=megabyte) for _ in range(20)]

    insert(store, given)

    assert {store.job(one.id).payload for one in given} == {megabyte}


def test_enqueuing_nothing_asks_nothing(store):
    with statements() as found:
        assert store.insert([]) == []

    assert found == []


def test_an_id_is_never_used_twice(store):
    taken = new_job_id()
    ready_job(store, id=taken)

    with pytest.raises(IntegrityError):
        ready_job(store, id=taken)


def test_one_job_takes_one_statement(store):
    with transaction.atomic(), statements() as found:
        ready_job(store)

    assert len(found) == 1


@pytest.mark.parametrize("rule", [{"queue": None}, {"priority": None}], ids=str)
def test_a_job_that_breaks_a_rule_is_refused_and_not_passed_over(store, rule):
    # MySQL's drivers call a NULL that is not allowed an OperationalError, or an IntegrityError.
    with pytest.raises((IntegrityError, OperationalError)):
        ready_job(store, unique_key="key", **rule)

    assert claim_all(store) == []


class AnswerLost:
    """The connection breaks after a statement was carried out, before its answer."""

    def __init__(self, *, times=1):
        self.cuts = times

    def __call__(self, execute, sql, params, many, context):
        answer = execute(sql, params, many, context)
        if "INSERT INTO aftercommit_job" in sql and self.cuts:
            self.cuts -= 1
            raw = context["connection"].connection
            if context["connection"].vendor == "postgresql":
                raw.close()
            else:
                raw._force_close()
            raise OperationalError(2013, "server closed the connection unexpectedly")
        return answer


@pytest.fixture
def answer_lost(vendor):
    if vendor == "sqlite":
        pytest.skip("SQLite has no connection that could break")
    cut = AnswerLost()
    with connection.execute_wrapper(cut):
        yield cut
    connection.close()


@pytest.mark.parametrize("unique_key", [None, "key"])
def test_a_job_is_enqueued_once_although_the_answer_was_lost(store, answer_lost, unique_key):
    given = new_job(unique_key=unique_key)

    assert store.insert([given]) == [given.id]

    assert answer_lost.cuts == 0
    assert [claim.job_id for claim in claim_all(store)] == [given.id]


@pytest.mark.parametrize("insert", [Store.insert, insert_alike], ids=["each", "alike"])
def test_many_jobs_are_enqueued_once_although_the_answer_was_lost(store, answer_lost, insert):
    given = [new_job() for _ in range(3)]

    insert(store, given)

    assert answer_lost.cuts == 0
    assert {claim.job_id for claim in claim_all(store)} == {one.id for one in given}


@pytest.mark.parametrize(
    ("insert", "unique_key"),
    [
        ("insert", None),
        ("insert", "key"),
        ("insert_one", None),
        ("insert_alike", None),
        ("insert_unique", "key"),
    ],
)
def test_a_job_whose_row_may_be_gone_by_now_is_not_inserted_again(
    store, answer_lost, insert, unique_key
):
    one = new_job(unique_key=unique_key, goes_with_success=True)
    given = {
        "insert": [[one]],
        "insert_one": [one],
        "insert_alike": [NewJobs(ids=[str(one.id)], payloads=[one.payload], like=one)],
        "insert_unique": [[one], OnConflict()],
    }

    with pytest.raises(OperationalError, match="closed the connection"):
        getattr(store, insert)(*given[insert])

    assert answer_lost.cuts == 0


def test_inside_a_transaction_a_lost_answer_is_the_callers_to_handle(store, answer_lost):
    with pytest.raises(OperationalError), transaction.atomic():
        ready_job(store)

    assert answer_lost.cuts == 0
    assert claim_all(store) == []


def test_in_manual_transactions_a_lost_answer_is_the_callers_to_handle(store, answer_lost):
    connection.set_autocommit(False)

    with pytest.raises(OperationalError):
        ready_job(store)

    assert answer_lost.cuts == 0
    connection.close()
    assert claim_all(store) == []


def test_an_answer_lost_twice_reaches_the_caller(store, answer_lost):
    answer_lost.cuts = 2

    with pytest.raises(OperationalError):
        ready_job(store)


def test_a_session_that_was_ended_while_idle_costs_the_caller_nothing(store, other, vendor):
    if vendor == "sqlite":
        pytest.skip("SQLite has no sessions")
    kill = "SELECT pg_terminate_backend(%s)" if vendor == "postgresql" else "KILL %s"
    session = session_number()

    def end_session():
        with connection.cursor() as cursor:
            cursor.execute(kill, [session])

    other.do(end_session)

    assert state(store, ready_job(store)) == "ready"


def test_an_error_that_is_no_lost_connection_is_raised_at_once(store):
    def refuse():
        raise OperationalError("disk full")

    with pytest.raises(OperationalError, match="disk full"), at_statement(0, refuse):
        ready_job(store)


def test_a_job_without_a_time_is_due_at_once_by_the_databases_clock(store):
    claim = claim_one(store) if ready_job(store) else None

    assert claim is not None
    assert claim.run_after == claim.enqueued_at <= claim.claimed_at


def test_a_job_with_a_later_time_waits_for_it(store):
    soon = ready_job(store, run_after=datetime.now(UTC) + timedelta(hours=1))

    assert claim_all(store) == []
    assert state(store, soon) == "ready"


ISOLATIONS = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_enqueuing_works_in_the_callers_isolation(store, vendor, isolation):
    if vendor == "sqlite":
        pytest.skip("SQLite knows one isolation")
    set_isolation = f"SET TRANSACTION ISOLATION LEVEL {isolation}"
    if vendor == "mysql":
        with connection.cursor() as cursor:
            cursor.execute(set_isolation)

    with transaction.atomic():
        if vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(set_isolation)
        plain, unique = ready_job(store), ready_job(store, unique_key="key")
        again = ready_job(store, unique_key="key")

    assert again == unique
    assert {claim.job_id for claim in claim_all(store)} == {plain, unique}
