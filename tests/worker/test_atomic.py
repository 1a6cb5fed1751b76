"""An atomic task: its effects and its completion are one commit, or neither is there."""

import contextlib
import threading

import pytest
from django.db import IntegrityError, connection, connections, transaction

from aftercommit.enqueue.outcomes import Cancel, Discard, Retry, Snooze
from aftercommit.models import State
from tests.app.models import Account, Effect
from tests.worker.rig import AT_ONCE, another_connection, commits, effects, leave, sql

pytestmark = [commits, pytest.mark.usefixtures("alone_and_in_company")]


def test_effects_and_completion_are_one_commit(rig):
    seen = []

    def body(context):
        leave("once")
        with another_connection() as outsider, outsider.cursor() as cursor:
            cursor.execute("SELECT COUNT(*) FROM app_effect")
            seen.append(cursor.fetchone()[0])
        return "done"

    job = rig.run(body, atomic=True)

    assert seen == [0]
    assert job.state == State.SUCCEEDED
    assert job.return_value == "done"
    assert effects("once") == 1


def test_an_exception_undoes_the_effects(rig):
    def body(context):
        leave("undone")
        raise ValueError

    job = rig.run(body, atomic=True, max_attempts=2)

    assert job.state == State.READY
    assert job.attempts == 1
    assert effects("undone") == 0


@pytest.mark.parametrize(
    ("wanted", "state"),
    [
        (Retry(AT_ONCE), State.READY),
        (Snooze(AT_ONCE), State.READY),
        (Cancel(), State.CANCELLED),
        (Discard(), State.FAILED),
        (SystemExit(), State.FAILED),
    ],
    ids=repr,
)
def test_what_a_task_asks_for_undoes_its_effects_too(rig, wanted, state):
    def body(context):
        leave("undone")
        raise wanted

    job = rig.run(body, atomic=True, max_attempts=2)

    assert job.state == state
    assert effects("undone") == 0


@pytest.mark.parametrize("value", [object(), "x" * 2**21], ids=["not JSON", "too large"])
def test_a_result_that_cannot_be_stored_undoes_the_effects(rig, value):
    def body(context):
        leave("undone")
        return value

    job = rig.run(body, atomic=True, max_attempts=5)

    assert job.state == State.FAILED
    assert effects("undone") == 0


def test_a_claim_that_was_lost_undoes_the_effects(rig):
    def body(context):
        leave("zombie's")

    job_id = rig.enqueue(body, atomic=True)
    claim = rig.claim(job_id)
    successor = rig.lose(claim)

    ran = rig.execute(claim)
    rig.finish(claim, ran)

    job = rig.job(job_id)
    assert not ran.recorded
    assert (job.state, job.token) == (State.RUNNING, successor.token)
    assert effects("zombie's") == 0
    assert rig.lost == [claim]
    assert claim not in [one for one, _ran in rig.written]


def test_a_context_can_be_used_without_its_commit(rig):
    def body(context):
        leave("once", using=connection.alias)
        return context.attempt

    assert rig.run(body, atomic=True).return_value == 1


# ---- transactions that were marked for rollback ------------------------------------


def swallow_an_error(context):
    """Catch an IntegrityError outside any block that could undo it."""
    leave("lost in silence")
    row = Account.objects.create()
    try:
        Account.objects.create(pk=row.pk)
    except IntegrityError:
        return "all is well"


def mark_for_rollback(context):
    """Do as Django REST framework does after an error."""
    leave("lost in silence")
    transaction.set_rollback(True)


def swallow_what_a_block_without_savepoint_raises(context):
    """Leave atomic(savepoint=False) by an exception and catch it outside."""
    leave("lost in silence")
    try:
        with transaction.atomic(savepoint=False):
            raise ValueError
    except ValueError:
        return "all is well"


def swallow_inside_a_block_without_savepoint(context):
    """Catch a database error in a block that is none."""
    leave("lost in silence")
    row = Account.objects.create()
    with transaction.atomic(savepoint=False):
        try:
            Account.objects.create(pk=row.pk)
        except IntegrityError:
            return "all is well"


@pytest.mark.parametrize(
    "body",
    [
        swallow_an_error,
        mark_for_rollback,
        swallow_what_a_block_without_savepoint_raises,
        swallow_inside_a_block_without_savepoint,
    ],
)
def test_a_transaction_that_will_not_commit_is_never_marked_done(rig, body):
    job = rig.run(body, atomic=True, max_attempts=2)

    assert job.state == State.READY
    assert job.error_list[0]["exception_class_path"] == "aftercommit.errors.RolledBack"
    assert effects("lost in silence") == 0
    assert rig.run_again(job.pk).state == State.FAILED


def test_an_error_swallowed_inside_the_tasks_own_block_is_no_success_either(rig):
    """PostgreSQL refuses to go on; the others would commit what is left of the block."""

    def body(context):
        with transaction.atomic():
            leave("half")
            row = Account.objects.create()
            with contextlib.suppress(IntegrityError):
                insert_again(row)

    job = rig.run(body, atomic=True, max_attempts=1)

    assert job.state == State.FAILED
    assert effects("half") == 0


# ---- errors that the task handles well ----------------------------------------------


def handle_in_a_block(row):
    """Wrap the part that may fail, as Django's documentation says."""
    try:
        with transaction.atomic():
            Account.objects.create(pk=row.pk)
    except IntegrityError:
        leave("handled")


def handle_in_a_deeper_block(row):
    """Let the error pass through two blocks."""
    try:
        with transaction.atomic(), transaction.atomic():
            Account.objects.create(pk=row.pk)
    except IntegrityError:
        leave("handled")


def insert_again(row):
    """Break a constraint, without the ORM, which marks the block for rollback."""
    sql("INSERT INTO app_account (id, balance) VALUES (%s, 0)", row.pk)


def handle_by_hand(row):
    """Use the savepoints of the connection."""
    savepoint = connection.savepoint()
    try:
        insert_again(row)
    except IntegrityError:
        connection.savepoint_rollback(savepoint)
        leave("handled")
    else:
        connection.savepoint_commit(savepoint)


def handle_twice(row):
    """Roll back to the same savepoint again."""
    savepoint = connection.savepoint()
    for _time in range(2):
        try:
            insert_again(row)
        except IntegrityError:
            connection.savepoint_rollback(savepoint)
    leave("handled")


def handle_further_out(row):
    """Swallow in an inner savepoint what the outer one then undoes."""
    outer = connection.savepoint()
    inner = connection.savepoint()
    try:
        insert_again(row)
    except IntegrityError:
        connection.savepoint_rollback(inner)
        connection.savepoint_commit(inner)
        connection.savepoint_rollback(outer)
    leave("handled")


@pytest.mark.parametrize(
    "handle",
    [
        handle_in_a_block,
        handle_in_a_deeper_block,
        handle_by_hand,
        handle_twice,
        handle_further_out,
    ],
)
def test_an_error_that_a_savepoint_has_undone_is_no_failure(rig, handle):
    def body(context):
        handle(Account.objects.create())
        return "done"

    job = rig.run(body, atomic=True)

    assert job.state == State.SUCCEEDED
    assert effects("handled") == 1


def test_an_error_that_was_undone_does_not_excuse_the_next(rig):
    """Only the savepoint around an error can undo it, not one that is set later."""

    def body(context):
        leave("half")
        row = Account.objects.create()
        with transaction.atomic():
            inner = connection.savepoint()
            with contextlib.suppress(IntegrityError):
                insert_again(row)
            connection.savepoint_commit(inner)
            later = connection.savepoint()
            connection.savepoint_rollback(later)

    job = rig.run(body, atomic=True, max_attempts=1)

    assert job.state == State.FAILED
    assert effects("half") == 0


def test_get_or_create_is_no_failure(rig):
    def body(context):
        row = Account.objects.create(balance=1)
        Account.objects.get_or_create(pk=row.pk, balance=1)
        return Account.objects.update_or_create(pk=row.pk, defaults={"balance": 2})[1]

    assert rig.run(body, atomic=True).return_value is False


# ---- on_commit() -----------------------------------------------------------------------


def test_callbacks_run_when_the_job_is_done(rig):
    seen = []

    def body(context):
        def look():
            seen.append((rig.job(context.job_id).state, connection.in_atomic_block))

        transaction.on_commit(look)
        leave("once")

    rig.run(body, atomic=True)

    assert seen == [(State.SUCCEEDED, False)]


def test_a_callback_that_raises_does_not_undo_the_job(rig, caplog):
    def body(context):
        transaction.on_commit(lambda: 1 / 0)
        leave("once")
        return "done"

    job = rig.run(body, atomic=True)

    assert (job.state, job.return_value) == (State.SUCCEEDED, "done")
    assert effects("once") == 1
    assert rig.lost == []
    assert "raised after the commit" in caplog.text


@pytest.mark.parametrize("wanted", [Retry(), Snooze(AT_ONCE), Cancel(), SystemExit()], ids=repr)
def test_a_callback_has_no_say_in_how_the_job_ended(rig, wanted):
    def body(context):
        def ask():
            raise wanted

        transaction.on_commit(ask)

    assert rig.run(body, atomic=True).state == State.SUCCEEDED


def test_callbacks_of_a_run_that_was_undone_do_not_run(rig):
    called = []

    def body(context):
        transaction.on_commit(lambda: called.append(context.attempt))
        if context.attempt == 1:
            raise ValueError

    job = rig.run(body, atomic=True)
    rig.run_again(job.pk)

    assert called == [2]


def test_a_job_enqueued_in_the_body_exists_with_the_commit(rig):
    child = []

    def body(context):
        child.append(rig.enqueue(lambda inner: "child"))
        if context.attempt == 1:
            raise ValueError

    job = rig.run(body, atomic=True)
    with pytest.raises(Exception, match="does not exist"):
        rig.job(child[0])
    rig.run_again(job.pk)

    assert rig.run_again(child[1]).return_value == "child"


# ---- transactions that were ended from inside -----------------------------------------------


def commit_by_hand(context):
    """End the transaction behind Django's back."""
    leave("before")
    sql("COMMIT")
    leave("after")


def roll_back_by_hand(context):
    """End it the other way."""
    leave("before")
    sql("ROLLBACK")
    leave("after")


def commit_and_begin_by_hand(context):
    """Leave the connection in a transaction that looks like ours."""
    leave("before")
    sql("COMMIT")
    sql("BEGIN")
    leave("after")


def close_the_connection(context):
    """Close what the worker works with."""
    leave("before")
    connection.close()


def close_every_connection(context):
    """Do as many snippets for long tasks recommend."""
    leave("before")
    connections.close_all()


@pytest.mark.parametrize(
    "body",
    [
        commit_by_hand,
        roll_back_by_hand,
        commit_and_begin_by_hand,
        close_the_connection,
        close_every_connection,
    ],
)
def test_a_transaction_that_the_task_ended_is_said_aloud(rig, body):
    job = rig.run(body, atomic=True, max_attempts=5)

    assert job.state == State.FAILED
    assert job.attempts == 1
    assert job.error_list[0]["exception_class_path"] == "aftercommit.errors.TransactionBroken"
    assert "ended from inside the task" in job.error_list[0]["traceback"]
    assert Effect.objects.filter(key="after").count() <= 1
    assert rig.run(lambda context: "the next job is not harmed", atomic=True).return_value


def test_a_statement_that_commits_by_itself_is_said_aloud(rig, vendor):
    if vendor != "mysql":
        pytest.skip("only on MySQL and MariaDB does DDL commit")

    def body(context):
        leave("before")
        sql("CREATE TABLE tests_ddl (id INTEGER)")
        leave("after")

    try:
        job = rig.run(body, atomic=True, max_attempts=5)
    finally:
        sql("DROP TABLE IF EXISTS tests_ddl")

    assert job.state == State.FAILED
    assert job.error_list[0]["exception_class_path"] == "aftercommit.errors.TransactionBroken"


def test_ddl_is_fine_where_it_is_part_of_the_transaction(rig, vendor):
    if vendor == "mysql":
        pytest.skip("on MySQL and MariaDB DDL commits")

    def body(context):
        sql("CREATE TABLE tests_ddl (id INTEGER)")
        sql("DROP TABLE tests_ddl")

    assert rig.run(body, atomic=True).state == State.SUCCEEDED


@pytest.mark.parametrize("by_hand", ["COMMIT", "ROLLBACK"])
def test_a_task_that_committed_by_hand_and_then_raised_is_not_run_again(rig, by_hand):
    """What came before the COMMIT is there; a second run would double it."""

    def body(context):
        leave("before")
        sql(by_hand)
        raise ValueError("and now?")

    job = rig.run(body, atomic=True, max_attempts=5)

    assert job.state == State.FAILED
    assert job.error_list[0]["exception_class_path"] == "aftercommit.errors.TransactionBroken"
    assert "and now?" in job.error_list[0]["traceback"]


def test_a_transaction_cannot_be_ended_by_djangos_own_methods(rig):
    def body(context):
        leave("undone")
        connection.commit()

    job = rig.run(body, atomic=True, max_attempts=1)

    assert job.state == State.FAILED
    assert effects("undone") == 0


def test_a_durable_block_inside_is_refused_by_django(rig):
    def body(context):
        with transaction.atomic(durable=True):
            leave("undone")

    job = rig.run(body, atomic=True, max_attempts=1)

    assert job.state == State.FAILED
    assert "durable" in job.error_list[0]["traceback"]


def test_another_threads_connection_is_not_part_of_it(rig):
    """Documented rather than wished for: threads of a task write on their own."""

    def body(context):
        if connection.vendor == "sqlite":
            return  # this transaction holds the one write lock

        def write():
            leave("outside")
            connection.close()

        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
        raise ValueError

    rig.run(body, atomic=True, max_attempts=1)

    assert effects("outside") == (0 if connection.vendor == "sqlite" else 1)
