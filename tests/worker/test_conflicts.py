"""Deadlocks, lock timeouts, lost connections: the run is given back and costs no attempt."""

import contextlib
import threading
from datetime import timedelta

import pytest
from django.db import (
    Error,
    OperationalError,
    ProgrammingError,
    connection,
    connections,
    transaction,
)
from django.db.backends.utils import CursorWrapper

from aftercommit.models import Job, State
from aftercommit.values import Released, Succeeded
from aftercommit.worker.running.outcome import MOST_CONFLICTS
from tests.app.models import Account
from tests.store.callers import INNODB_STATUS
from tests.waiting import wait_until
from tests.worker.rig import LEASE, another_connection, commits, effects, leave, sql

pytestmark = commits

A_LITTLE = timedelta(seconds=3)
RAISE = {
    "postgresql": "DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END $$",
    "mysql": "SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {code}, MESSAGE_TEXT = 'no'",
}
CODES = {
    "postgresql": [
        *("40001", "40P01", "55P03", "57P01", "57P05", "25P03", "08006"),
        *("25006", "53100", "53300", "58030"),
    ],
    "mysql": [1205, 1213, 1927, 1053, 1040, 1047, 1792, 1836, 1021, 1114],
    "sqlite": [],
}
NO_CODES = {
    "postgresql": ["23505", "22012", "57014", "42P01"],
    "mysql": [1062, 1146, 1317],
    "sqlite": [],
}
needs_a_server = pytest.mark.skipif(
    "connection.vendor == 'sqlite'", reason="SQLite has no server and no such error"
)


def refuse(code):
    """Let the server raise an error of this code."""
    sql(RAISE[connection.vendor].format(code=code))


def kill_my_connection():
    """End this thread's connection from outside, as an operator or a failover does."""
    number, kill = {
        "postgresql": ("SELECT pg_backend_pid()", "SELECT pg_terminate_backend({}, 10000)"),
        "mysql": ("SELECT CONNECTION_ID()", "KILL {}"),
    }[connection.vendor]
    ((mine,),) = sql(number)
    with another_connection() as other, other.cursor() as cursor:
        cursor.execute(kill.format(mine))


def assert_given_back(job, *, conflicts=1):
    """Ready again soon, and no attempt spent."""
    assert (job.state, job.attempts, job.conflicts) == (State.READY, 0, conflicts)
    assert job.error_list == []
    assert job.run_after - job.claimed_at < A_LITTLE


def in_atomic_task(part):
    """Return a body and its options: ``part`` in an atomic task."""
    return (lambda context: part()), {"atomic": True}


def in_commit(part):
    """Return a body and its options: ``part`` in ``context.commit()``."""

    def body(context):
        with context.commit():
            part()

    return body, {}


both_kinds = pytest.mark.parametrize("kind", [in_atomic_task, in_commit])


# ---- which errors ---------------------------------------------------------------------


@needs_a_server
@both_kinds
@pytest.mark.parametrize("code", CODES[connection.vendor])
def test_a_conflict_is_given_back(rig, kind, code):
    def part():
        leave("undone")
        refuse(code)

    body, options = kind(part)
    job = rig.run(body, max_attempts=1, **options)

    assert_given_back(job)
    assert effects("undone") == 0


@needs_a_server
@both_kinds
@pytest.mark.parametrize("code", NO_CODES[connection.vendor])
def test_any_other_error_counts(rig, kind, code):
    body, options = kind(lambda: refuse(code))
    job = rig.run(body, max_attempts=2, **options)

    assert (job.state, job.attempts, job.conflicts) == (State.READY, 1, 0)


@needs_a_server
def test_a_conflict_in_a_plain_task_counts(rig, vendor):
    """What it did before is committed, so the run was one."""
    job = rig.run(lambda context: refuse(CODES[vendor][0]), max_attempts=2)

    assert (job.state, job.attempts, job.conflicts) == (State.READY, 1, 0)


@both_kinds
def test_a_locked_database_is_a_conflict(rig, vendor, kind):
    if vendor != "sqlite":
        pytest.skip("only SQLite locks the whole of it")
    body, options = kind(lambda: leave("undone"))
    claim = rig.claim(rig.enqueue(body, max_attempts=1, **options))
    sql("PRAGMA busy_timeout = 20")

    with another_connection() as other, other.cursor() as cursor:
        cursor.execute("BEGIN IMMEDIATE")
        ran = rig.execute(claim)
        cursor.execute("ROLLBACK")
    rig.finish(claim, ran)

    assert_given_back(rig.job(claim.job_id))


@needs_a_server
def test_conflicts_without_end_count_in_the_end(rig, vendor):
    job_id = rig.enqueue(lambda context: refuse(CODES[vendor][0]), atomic=True, max_attempts=2)
    for _run in range(MOST_CONFLICTS):
        Job.objects.update(run_after=Job.objects.get().enqueued_at)
        job = rig.run_again(job_id)
    assert_given_back(job, conflicts=MOST_CONFLICTS)

    Job.objects.update(run_after=job.enqueued_at)
    job = rig.run_again(job_id)
    assert (job.state, job.attempts, job.conflicts) == (State.READY, 1, MOST_CONFLICTS)

    assert rig.run_again(job_id).state == State.FAILED


def make_read_only(vendor):
    """Make the transaction read-only, or raise what a server says that is."""
    if vendor == "sqlite":
        sql("PRAGMA query_only = ON")
    elif vendor == "postgresql":
        sql("SET TRANSACTION READ ONLY")
    else:
        sql(READ_ONLY_OPTION)
    leave("undone")


@both_kinds
@pytest.mark.parametrize("in_body", [True, False])
def test_a_database_that_cannot_be_written_is_a_conflict(rig, vendor, monkeypatch, kind, in_body):
    """Read-only for a moment, as in a failover: in the body, or while the outcome is written."""

    def part():
        leave("undone")
        if in_body:
            make_read_only(vendor)

    if not in_body:
        monkeypatch.setattr(rig.executor, "_record", lambda *_given: make_read_only(vendor))
    body, options = kind(part)
    job = rig.run(body, max_attempts=5, **options)

    assert_given_back(job)
    assert effects("undone") == 0


READ_ONLY_OPTION = (
    "SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1290, MESSAGE_TEXT = "
    "'The MariaDB server is running with the --read-only option so it cannot execute this'"
)


@both_kinds
def test_a_full_disk_is_a_conflict(rig, vendor, kind):
    if vendor != "sqlite":
        pytest.skip("only SQLite lets a session say how large the database may be")

    def part():
        leave("undone")
        ((pages,),) = sql("PRAGMA page_count")
        sql(f"PRAGMA max_page_count = {pages}")
        for _row in range(200):
            leave("undone " + "x" * 200)

    sql("VACUUM")  # free pages that earlier tests have left would be written to first
    body, options = kind(part)
    assert_given_back(rig.run(body, max_attempts=5, **options))
    assert effects("undone") == 0


@needs_a_server
def test_an_option_that_has_nothing_to_do_with_writing_counts(rig, vendor):
    if vendor != "mysql":
        pytest.skip("one number for many options")
    statement = READ_ONLY_OPTION.replace("--read-only", "--secure-file-priv")
    job = rig.run(lambda context: sql(statement), atomic=True, max_attempts=2)

    assert (job.state, job.attempts, job.conflicts) == (State.READY, 1, 0)


@both_kinds
def test_an_outcome_that_the_database_refuses_is_not_the_tasks_fault(rig, monkeypatch, kind):
    """No right to UPDATE, a column that is missing: whatever the worker's own statement meets."""

    def refuse(claim, outcome):
        raise ProgrammingError("permission denied for table aftercommit_job")

    monkeypatch.setattr(rig.executor, "_record", refuse)
    body, options = kind(lambda: leave("undone"))
    job = rig.run(body, max_attempts=5, **options)

    assert_given_back(job)
    assert effects("undone") == 0


# ---- what the task makes of them --------------------------------------------------------


@needs_a_server
@both_kinds
def test_a_conflict_that_the_task_swallowed_commits_nothing(rig, vendor, kind):
    def part():
        leave("half")
        with contextlib.suppress(Error):
            refuse(CODES[vendor][0])

    body, options = kind(part)
    job = rig.run(body, max_attempts=1, **options)

    assert_given_back(job)
    assert effects("half") == 0


@needs_a_server
@both_kinds
def test_a_conflict_that_the_task_wraps_into_an_error_of_its_own_is_one(rig, vendor, kind):
    def part():
        leave("undone")
        try:
            refuse(CODES[vendor][0])
        except Error as error:
            raise RuntimeError("cannot book") from error

    body, options = kind(part)

    assert_given_back(rig.run(body, max_attempts=1, **options))


@needs_a_server
def test_a_conflict_that_the_task_has_handled_excuses_nothing(rig, vendor):
    """A lock that is not free, in a block of its own, and then an error of the task."""

    def body(context):
        with contextlib.suppress(Error), transaction.atomic():
            refuse("55P03" if vendor == "postgresql" else 1205)
        raise RuntimeError("it is mine")

    job = rig.run(body, atomic=True, max_attempts=2)

    assert (job.state, job.attempts, job.conflicts) == (State.READY, 1, 0)


# ---- the real thing -----------------------------------------------------------------------


class Rival(threading.Thread):
    """Holds one row, waits until the task wants it, then wants the task's row."""

    UPDATE = "UPDATE app_account SET balance = balance + 1 WHERE id = %s"

    def __init__(self, *, holds, wants):
        super().__init__()
        self._holds, self._wants = holds, wants
        self.ready, self.go_on = threading.Event(), threading.Event()

    def run(self):
        try:
            self._meet()
        finally:
            connections.close_all()

    def _meet(self):
        # MariaDB ends the transaction that has changed less.
        many = Account.objects.bulk_create(Account() for _row in range(20))
        with connections["default"].cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.executemany(self.UPDATE, [(row.pk,) for row in [*many, self._holds]])
            self.ready.set()
            assert self.go_on.wait(10)
            wait_until(someone_waits_for_a_lock)
            cursor.execute(self.UPDATE, [self._wants.pk])
            cursor.execute("COMMIT")


@needs_a_server
def test_a_real_deadlock_is_given_back_and_then_runs(rig):
    ours, theirs = Account.objects.create(), Account.objects.create()
    rival = Rival(holds=theirs, wants=ours)
    deadlocks = []

    def body(context):
        ours.save()
        leave("once")
        if rival.go_on.is_set():
            return
        assert rival.ready.wait(10)
        rival.go_on.set()
        try:
            theirs.save()
        except OperationalError as error:
            deadlocks.append(error)
            raise

    rival.start()
    job = rig.run(body, atomic=True, max_attempts=1)
    rival.join(10)

    assert deadlocks
    assert_given_back(job)
    Job.objects.update(run_after=job.enqueued_at)
    assert rig.run_again(job.pk).state == State.SUCCEEDED
    assert effects("once") == 1


def someone_waits_for_a_lock():
    """Tell whether any session waits for a row."""
    with another_connection() as other, other.cursor() as cursor:
        if connection.vendor == "mysql":
            cursor.execute(INNODB_STATUS)
            return "LOCK WAIT" in cursor.fetchone()[2]
        cursor.execute(
            "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND wait_event_type = 'Lock'"
        )
        return cursor.fetchone()[0] > 0


LIMIT_THE_WAIT = {
    "postgresql": "SET lock_timeout = '50ms'",
    "mysql": "SET innodb_lock_wait_timeout = 1",  # seconds; there is no shorter one
}


@needs_a_server
@pytest.mark.parametrize("swallowed", [False, True], ids=["raised", "swallowed"])
@both_kinds
def test_a_real_lock_timeout_commits_nothing(rig, vendor, kind, swallowed):
    """On MariaDB and MySQL it undoes one statement, and the rest could be committed."""
    row = Account.objects.create()

    def part():
        leave("half")
        sql(LIMIT_THE_WAIT[vendor])
        with contextlib.suppress(Error) if swallowed else contextlib.nullcontext():
            sql("UPDATE app_account SET balance = 1 WHERE id = %s", row.pk)

    body, options = kind(part)
    with another_connection() as other, other.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("UPDATE app_account SET balance = 2 WHERE id = %s", [row.pk])
        job = rig.run(body, max_attempts=1, **options)

    assert_given_back(job)
    assert effects("half") == 0


@both_kinds
def test_a_session_that_stood_still_for_too_long_is_given_back(rig, vendor, kind):
    if vendor != "postgresql":
        pytest.skip("only PostgreSQL ends a session for idling in a transaction")

    def part():
        leave("undone")
        sql("SET LOCAL idle_in_transaction_session_timeout = '20ms'")
        ((mine,),) = sql("SELECT pg_backend_pid()")
        wait_until(lambda: not lives(mine), why="the server has ended the session")
        leave("undone")

    body, options = kind(part)
    job = rig.run(body, max_attempts=1, **options)

    assert_given_back(job)
    assert effects("undone") == 0


def lives(backend):
    """Tell whether the server still runs a session."""
    with another_connection() as other, other.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM pg_stat_activity WHERE pid = %s", [backend])
        return cursor.fetchone()[0] > 0


@pytest.mark.parametrize("level", ["repeatable_read", "serializable"])
def test_a_real_serialization_failure_is_given_back(rig, vendor, level):
    if vendor != "postgresql":
        pytest.skip("only PostgreSQL refuses")
    isolate(level)
    row = Account.objects.create()
    runs = []

    def body(context):
        balance = Account.objects.get(pk=row.pk).balance
        if not runs:
            with another_connection() as other, other.cursor() as cursor:
                cursor.execute("UPDATE app_account SET balance = 10 WHERE id = %s", [row.pk])
        runs.append(context.attempt)
        Account.objects.filter(pk=row.pk).update(balance=balance + 1)

    job = rig.run(body, atomic=True, max_attempts=1)

    assert_given_back(job)
    Job.objects.update(run_after=job.enqueued_at)
    assert rig.run_again(job.pk).state == State.SUCCEEDED
    assert Account.objects.get(pk=row.pk).balance == 11


@needs_a_server
def test_a_lease_renewed_meanwhile_is_no_conflict(rig):
    """The heartbeat writes to the row that the completion writes to, later."""

    def body(context):
        leave("once")
        (claim,) = rig.claims
        in_a_thread(lambda: rig.store.renew([claim], lease=LEASE))

    job = rig.run(body, atomic=True, max_attempts=1)

    assert job.state == State.SUCCEEDED
    assert effects("once") == 1


def in_a_thread(call):
    """Call it where this thread's connection is not used."""

    def run():
        call()
        connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


def isolate(level):
    """Do as ``OPTIONS["isolation_level"]`` of the database does."""
    from psycopg import IsolationLevel  # noqa: PLC0415 - only where PostgreSQL is

    connection.ensure_connection()
    connection.connection.isolation_level = IsolationLevel[level.upper()]


# ---- connections that are gone --------------------------------------------------------------


@needs_a_server
@both_kinds
@pytest.mark.parametrize("goes_on", [True, False], ids=["used again", "not used again"])
def test_a_killed_connection_is_given_back(rig, kind, goes_on):
    def part():
        leave("undone")
        kill_my_connection()
        if goes_on:
            leave("undone")

    body, options = kind(part)
    job = rig.run(body, max_attempts=1, **options)

    assert_given_back(job)
    assert effects("undone") == 0


@needs_a_server
def test_a_killed_connection_in_a_plain_task_counts(rig):
    def body(context):
        leave("before")
        kill_my_connection()
        leave("after")

    job = rig.run(body, max_attempts=2)

    assert (job.state, job.attempts) == (State.READY, 1)
    assert (effects("before"), effects("after")) == (1, 0)


class Commit:
    """Does something about one COMMIT of this thread's connection: the one with effects."""

    def __init__(self, monkeypatch, *, carried_out, then):
        self.faults = 0
        self._carried_out = carried_out
        self._then = then
        self._commit = connection._commit
        monkeypatch.setattr(connection, "_commit", self)

    def __call__(self):
        if self.faults:
            return self._commit()
        self.faults += 1
        if self._carried_out:
            self._commit()
        return self._then()


def cut():
    """Lose the connection as the network does: nobody is told anything."""
    connection.connection.close()
    raise OperationalError("server closed the connection unexpectedly")


@both_kinds
def test_a_commit_whose_answer_is_lost_is_settled_as_success(rig, monkeypatch, kind):
    """Django opens a new connection after the failure; that must not look like good health."""
    body, options = kind(lambda: leave("once"))
    claim = rig.claim(rig.enqueue(body, max_attempts=1, **options))

    commit = Commit(monkeypatch, carried_out=True, then=cut)
    ran = rig.execute(claim)
    rig.finish(claim, ran)

    assert commit.faults == 1
    assert ran.in_doubt == Succeeded()
    assert rig.job(claim.job_id).state == State.SUCCEEDED
    assert effects("once") == 1
    assert rig.lost == []
    assert [told.outcome for _claim, told in rig.written] == [Succeeded()]


@both_kinds
def test_a_commit_that_was_not_carried_out_is_given_back(rig, vendor, monkeypatch, kind):
    if vendor == "sqlite":
        pytest.skip("SQLite has no connection to lose")
    body, options = kind(lambda: leave("once"))
    claim = rig.claim(rig.enqueue(body, max_attempts=1, **options))

    commit = Commit(monkeypatch, carried_out=False, then=cut)
    ran = rig.execute(claim)
    rig.finish(claim, ran)

    assert commit.faults == 1
    assert isinstance(ran.outcome, Released)
    assert_given_back(rig.job(claim.job_id))
    assert effects("once") == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_exception_between_commit_and_its_answer_leaves_it_in_doubt(rig, monkeypatch, error):
    """A timeout may strike between two lines of Django's own code."""

    def strike():
        raise error

    body, options = in_commit(lambda: leave("once"))
    claim = rig.claim(rig.enqueue(body, max_attempts=1, **options))

    commit = Commit(monkeypatch, carried_out=True, then=strike)
    ran = rig.execute(claim)
    rig.finish(claim, ran)

    assert commit.faults == 1
    assert rig.job(claim.job_id).state == State.SUCCEEDED
    assert rig.lost == []
    assert [told.outcome for _claim, told in rig.written] == [Succeeded()]


def test_a_lost_commit_that_the_task_swallows_is_not_its_success(rig, vendor, monkeypatch):
    """It means well: ``except OperationalError: logger.warning(...)``."""
    if vendor == "sqlite":
        pytest.skip("SQLite has no connection to lose")

    def body(context):
        with contextlib.suppress(OperationalError), context.commit():
            leave("lost in silence")

    claim = rig.claim(rig.enqueue(body, max_attempts=1))
    commit = Commit(monkeypatch, carried_out=False, then=cut)
    ran = rig.execute(claim)
    rig.finish(claim, ran)

    assert commit.faults == 1
    assert effects("lost in silence") == 0
    assert_given_back(rig.job(claim.job_id))


def test_a_database_that_is_away_when_the_task_begins_is_a_conflict(rig, monkeypatch):
    def refuse_to_connect():
        raise OperationalError("connection refused")

    claim = rig.claim(rig.enqueue(lambda context: leave("once"), atomic=True, max_attempts=1))
    connection.close()
    with monkeypatch.context() as patch:
        patch.setattr(connection, "connect", refuse_to_connect)
        ran = rig.execute(claim)
    rig.finish(claim, ran)

    assert_given_back(rig.job(claim.job_id))


# ---- statements around the body ---------------------------------------------------------------

LOST = {
    "postgresql": ["57P01", "08006", "25P03"],
    "mysql": [2006, 2013, 2055, 1927, 1053, 1158, 1047],
    "sqlite": [],
}


class Strike:
    """Loses the connection at the first statement of a kind; the driver does not notice.

    mysqlclient says of such a connection that it is open, and so does PyMySQL when the server
    has told the reason before it hung up.
    """

    def __init__(self, monkeypatch, verb, code):
        self.strikes = 0
        self._patch = monkeypatch
        self._verb = verb
        self._code = code

    def __enter__(self):
        real = CursorWrapper._execute
        mine = connection.connection

        def execute(cursor, sql, *given):
            if cursor.db.connection is not mine:
                return real(cursor, sql, *given)
            if not self.strikes:
                if not sql.startswith(self._verb):
                    return real(cursor, sql, *given)
                self.strikes += 1
                self._patch.undo()
                kill_my_connection()
                self._patch.setattr(CursorWrapper, "_execute", execute)
            raise OperationalError(self._code, "Lost connection") from Told(self._code)

        self._patch.setattr(CursorWrapper, "_execute", execute)
        return self

    def __exit__(self, *_):
        self._patch.undo()


class Told(Exception):
    """What a driver raises, with the code in its place."""

    def __init__(self, code):
        super().__init__(code, "Lost connection")
        self.sqlstate = str(code)


@needs_a_server
@both_kinds
@pytest.mark.parametrize("code", LOST[connection.vendor])
@pytest.mark.parametrize("verb", ["SAVEPOINT", "RELEASE SAVEPOINT"])
def test_a_connection_lost_around_the_body_is_given_back(rig, monkeypatch, kind, code, verb):
    body, options = kind(lambda: leave("undone"))
    claim = rig.claim(rig.enqueue(body, max_attempts=5, **options))
    with Strike(monkeypatch, verb, code) as strike:
        ran = rig.executor.run(rig.hold(claim))
    rig.connections.tidy()
    rig.put(claim, ran)
    rig.finish_whatever_happens()

    assert strike.strikes == 1
    assert_given_back(rig.job(claim.job_id))
    assert effects("undone") == 0


@needs_a_server
@both_kinds
@pytest.mark.parametrize("code", LOST[connection.vendor])
def test_a_connection_lost_while_an_error_is_undone_does_not_hide_it(
    rig, monkeypatch, kind, code
):
    def fail():
        leave("undone")
        raise ZeroDivisionError

    body, options = kind(fail)
    claim = rig.claim(rig.enqueue(body, max_attempts=5, **options))
    with Strike(monkeypatch, "ROLLBACK TO", code) as strike:
        ran = rig.executor.run(rig.hold(claim))
    rig.connections.tidy()
    rig.put(claim, ran)
    rig.finish_whatever_happens()

    job = rig.job(claim.job_id)
    assert strike.strikes == 1
    assert (job.state, job.attempts, job.conflicts) == (State.READY, 1, 0)
    assert job.error_list[0]["exception_class_path"] == "builtins.ZeroDivisionError"
    assert effects("undone") == 0


@needs_a_server
@pytest.mark.parametrize("method", ["_savepoint_commit", "_commit"])
@both_kinds
def test_a_connection_that_the_server_has_ended_by_then_is_given_back(
    rig, monkeypatch, kind, method
):
    """By an operator or a shutdown, between the body's last statement and our next one."""
    real, kills = getattr(connection, method), []

    def strike(*args):
        if not kills:
            kills.append(kill_my_connection())
        return real(*args)

    body, options = kind(lambda: leave("undone"))
    claim = rig.claim(rig.enqueue(body, max_attempts=5, **options))
    monkeypatch.setattr(connection, method, strike)
    ran = rig.execute(claim)
    monkeypatch.undo()
    rig.put(claim, ran)
    rig.finish_whatever_happens()

    assert kills
    assert_given_back(rig.job(claim.job_id))
    assert effects("undone") == 0
