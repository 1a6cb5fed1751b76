"""Connections as a task leaves them: nothing of one task reaches the next."""

from datetime import timedelta

import pytest
from django.db import connection, transaction

from aftercommit.models import State
from aftercommit.worker.running import connections as session
from tests.waiting import wait_until
from tests.worker.rig import another_connection, commits, effects, leave, sql

pytestmark = commits

SETTINGS = {  # what a task may change, and how the next one sees it
    "postgresql": ("SET statement_timeout = '7s'", "SHOW statement_timeout"),
    "mysql": ("SET SESSION lock_wait_timeout = 7", "SELECT @@lock_wait_timeout"),
    "sqlite": ("PRAGMA cache_size = 7", "PRAGMA cache_size"),
}
BACKEND = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT CONNECTION_ID()"}
KILL = {"postgresql": "SELECT pg_terminate_backend(%s)", "mysql": "KILL %s"}
LONG_AGO = float("-inf")


def write(context):
    """Write as an innocent task does."""
    leave("next")
    return context.attempt


def leave_atomic_open(context):
    """Enter a block and forget it."""
    transaction.atomic().__enter__()
    leave("left open")


def leave_atomic_closed(context):
    """Close the connection inside a block and forget the block."""
    leave_atomic_open(context)
    connection.close()


def leave_rollback_wanted(context):
    """Enter a block that cannot be committed."""
    leave_atomic_open(context)
    transaction.set_rollback(True)


def leave_autocommit_off(context):
    """Begin what nobody commits."""
    connection.set_autocommit(False)
    leave("left open")


def leave_raw_begin(context):
    """Begin a transaction that Django does not know of."""
    sql("BEGIN")
    leave("left open")


def cut(context):
    """Close the driver's connection behind Django's back."""
    connection.ensure_connection()
    connection.connection.close()


def close(context):
    """Close it in good order."""
    connection.close()


LEFT = [
    leave_atomic_open,
    leave_atomic_closed,
    leave_rollback_wanted,
    leave_autocommit_off,
    leave_raw_begin,
    cut,
    close,
]


@pytest.mark.parametrize("atomic", [False, True], ids=["plain", "atomic"])
@pytest.mark.parametrize("spoil", LEFT, ids=lambda function: function.__name__)
def test_the_next_task_finds_a_sound_connection(rig, spoil, atomic):
    jobs = [rig.enqueue(spoil), rig.enqueue(write, atomic=atomic, max_attempts=1)]
    first, second = map(rig.claim, jobs)

    # One after the other, as in a thread of the pool: nothing else uses the connection.
    rans = [(claim, rig.execute(claim)) for claim in (first, second)]
    for claim, ran in rans:
        rig.finish(claim, ran)

    assert [ran.exception for _claim, ran in rans] == [None, None]
    assert {rig.job(job_id).state for job_id in jobs} == {State.SUCCEEDED}
    assert effects("next") == 1
    assert effects("left open") == 0


def test_what_a_task_sets_does_not_reach_the_next(rig, vendor):
    change, show = SETTINGS[vendor]

    def body(context):
        before = sql(show)
        sql(change)
        return [str(before), str(sql(show))]

    before, changed = rig.run(body).return_value
    after = rig.run(lambda context: str(sql(show))).return_value

    assert changed != before
    assert after == before


def test_what_an_atomic_task_sets_does_not_reach_the_next(rig, vendor):
    change, show = SETTINGS[vendor]

    before = rig.run(lambda context: str(sql(show))).return_value
    changed = rig.run(lambda context: sql(change), atomic=True)
    after = rig.run(lambda context: str(sql(show))).return_value

    assert changed.state == State.SUCCEEDED
    assert after == before


def raw_connections(rig, number=2):
    """Run innocent tasks; return the driver's connection that each has used."""
    used = []

    def body(context):
        leave("used")
        used.append(connection.connection)

    for _number in range(number):
        claim = rig.claim(rig.enqueue(body))
        rig.finish(claim, rig.execute(claim))
    return used


def test_a_sound_connection_is_kept(rig):
    first, second = raw_connections(rig)

    assert first is second


def test_a_connection_is_kept_while_there_is_work_whatever_conn_max_age_says(rig):
    connection.ensure_connection()
    connection.close_at = LONG_AGO

    first, second = raw_connections(rig)

    assert first is second


def test_a_connection_does_not_outlive_conn_max_age_by_much(rig, monkeypatch):
    monkeypatch.setattr(session, "LONGEST_USE", timedelta(seconds=-1))
    connection.ensure_connection()
    connection.close_at = LONG_AGO

    first, second = raw_connections(rig)

    assert first is not second


@pytest.mark.parametrize(("close_at", "kept"), [(None, True), (LONG_AGO, False)])
def test_without_work_a_connection_is_kept_as_conn_max_age_says(rig, close_at, kept):
    raw_connections(rig, 1)
    connection.close_at = close_at

    rig.connections.rest()

    assert (connection.connection is not None) == kept


@pytest.mark.skipif(connection.vendor == "sqlite", reason="it has no server")
@pytest.mark.parametrize("atomic", [False, True], ids=["plain", "atomic"])
def test_a_connection_that_the_server_has_ended_meanwhile_costs_no_attempt(rig, vendor, atomic):
    rig.run(write)
    ((backend,),) = sql(BACKEND[vendor])
    job_id = rig.enqueue(write, atomic=atomic, max_attempts=1)
    claim = rig.claim(job_id)
    with another_connection() as other, other.cursor() as cursor:
        cursor.execute(KILL[vendor], [backend])
    wait_until(lambda: session._has_something_to_say(connection.connection))

    ran = rig.execute(claim)
    rig.finish(claim, ran)

    assert ran.exception is None
    assert rig.job(job_id).state == State.SUCCEEDED
