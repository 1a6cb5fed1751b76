"""A job does not wait for a poll where the database can announce it: PostgreSQL."""

import pytest
from django.db import connection, transaction

from tests.app.chores import plain
from tests.process.rig import Rig
from tests.waiting import wait_until

AN_HOUR = 3600
# The one session that holds an advisory lock is the one that listens.
LISTENING = """
SELECT pid FROM pg_locks
WHERE locktype = 'advisory' AND granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

pytestmark = pytest.mark.skipif("connection.vendor != 'postgresql'")


@pytest.fixture
def idle(rig):
    """Return a rig with a worker that would not look for jobs for an hour."""
    rig.settings(poll_interval=AN_HOUR)
    rig.worker()
    listening(rig)
    return rig


def test_an_idle_worker_runs_a_new_job_at_once(idle):
    idle.enqueue(plain, "one")
    idle.wait_quiet()

    assert idle.check(committed=["one"]).states == {"succeeded": 1}


def test_a_job_is_announced_when_its_transaction_commits(idle):
    with transaction.atomic():
        idle.enqueue(plain, "one")
        assert not idle.notes("begin")
    idle.wait_quiet()

    assert idle.check(committed=["one"]).states == {"succeeded": 1}


def test_a_worker_listens_again_after_its_connection_was_cut(idle):
    before = listening(idle)

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [before])
    idle.enqueue(plain, "while nobody listens")
    idle.wait_quiet()
    wait_until(lambda: listening(idle) != before)
    idle.enqueue(plain, "when it listens again")
    idle.wait_quiet()

    report = idle.check(committed=["while nobody listens", "when it listens again"])
    assert (report.violations, report.crashes) == ([], 0)


def test_a_job_that_is_given_back_is_announced_to_the_others(rig):
    rig.settings(poll_interval=AN_HOUR)
    first = rig.worker("--grace", "0.2")
    rig.enqueue(plain, "one", gate="never-opened")
    rig.wait_note("begin", tree=first.pid)
    second = rig.worker()

    first.signal(15)
    rig.wait_note("begin", tree=second.pid)
    rig.open_gate("never-opened")
    rig.wait_quiet()

    assert not rig.check(committed=["one"]).violations


def listening(rig: Rig) -> int:
    """Return the server's process for the connection on which the worker hears of jobs."""

    def pid() -> int | None:
        with connection.cursor() as cursor:
            cursor.execute(LISTENING)
            row = cursor.fetchone()
        return row and row[0]

    return wait_until(pid, why=f"a worker of {rig.folder} listens")
