"""The server ends a connection while a task works without it: ``context.commit()`` goes on."""

from datetime import timedelta

import pytest
from django.db import connection

from aftercommit.models import State
from aftercommit.worker.running import connections as connections_module
from aftercommit.worker.running.atomic import transaction
from aftercommit.worker.running.connections import _has_something_to_say as has_arrived
from tests.app.models import Effect
from tests.waiting import wait_until
from tests.worker.rig import another_connection, commits, effects, leave, sql
from tests.worker.test_conflicts import assert_given_back, kill_my_connection

pytestmark = [
    commits,
    pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite has no connection"),
]
MINE = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT CONNECTION_ID()"}
IS_THERE = {
    "postgresql": "SELECT COUNT(*) FROM pg_stat_activity WHERE pid = %s",
    "mysql": "SELECT COUNT(*) FROM information_schema.processlist WHERE id = %s",
}
LONG = timedelta(seconds=60)
IDLE_FOR = {
    "postgresql": "SET idle_session_timeout = '20ms'",
    "mysql": "SET SESSION wait_timeout = 1",  # seconds; there is no shorter one
}


def killed():
    """End the session from outside, and wait until it is over."""
    ((mine,),) = sql(MINE[connection.vendor])
    kill_my_connection()
    wait_until(lambda: ended(mine), deadline=LONG, why="the session was killed")


def idle():
    """Work for longer than the server lets a session stand still."""
    ((mine,),) = sql(MINE[connection.vendor])
    sql(IDLE_FOR[connection.vendor])
    wait_until(lambda: ended(mine), deadline=LONG, why="the server has ended the session")


def ended(session):
    """Tell whether the server has ended this thread's session, and its end has arrived here."""
    with another_connection() as other, other.cursor() as cursor:
        cursor.execute(IS_THERE[connection.vendor], [session])
        return cursor.fetchone()[0] == 0 and has_arrived(connection.connection)


def body_of(end, runs):
    """Return a task that reads, works, and commits."""

    def body(context):
        runs.append(context.attempt)
        assert not Effect.objects.exists()
        end()
        with context.commit() as finish:
            leave("once")
            finish.return_value = "done"

    return body


@pytest.mark.parametrize("end", [killed, idle])
def test_the_commit_goes_on_with_a_new_connection(rig, end):
    runs = []
    job = rig.run(body_of(end, runs), max_attempts=5)

    assert (job.state, job.attempts, job.conflicts) == (State.SUCCEEDED, 1, 0)
    assert (runs, effects("once"), job.return_value) == ([1], 1, "done")


def test_an_end_that_was_not_told_is_asked_for_after_a_while(rig, monkeypatch):
    """A firewall forgets a connection without a word."""
    monkeypatch.setattr(connections_module, "_has_something_to_say", lambda raw: False)
    monkeypatch.setattr(transaction, "IDLE", timedelta(0))
    runs = []
    job = rig.run(body_of(killed, runs), max_attempts=5)

    assert (job.state, runs, effects("once")) == (State.SUCCEEDED, [1], 1)


def test_a_transaction_that_was_lost_is_not_passed_over(rig):
    """What the task has written in a transaction of its own is gone: it has to run again."""

    def body(context):
        sql("BEGIN")
        leave("first half")
        killed()
        with context.commit():
            leave("second half")

    job = rig.run(body, max_attempts=5)

    assert_given_back(job)
    assert effects("first half") == effects("second half") == 0


def test_a_connection_that_is_alive_is_not_asked_for(rig, monkeypatch):
    def ask():
        raise AssertionError("a round trip for nothing")

    def body(context):
        leave("before")
        with monkeypatch.context() as patch:
            patch.setattr(connection, "is_usable", ask)
            with context.commit():
                leave("once")

    assert rig.run(body).state == State.SUCCEEDED


def test_an_atomic_task_begins_with_a_connection_that_lives(rig):
    """The connection was ended between two jobs; no round trip is spent to learn it."""
    claim = rig.claim(rig.enqueue(lambda context: leave("once"), atomic=True))
    killed()
    ran = rig.execute(claim)
    rig.finish(claim, ran)

    assert (rig.job(claim.job_id).state, effects("once")) == (State.SUCCEEDED, 1)
