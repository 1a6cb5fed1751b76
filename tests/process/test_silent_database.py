"""A database that does not answer, or makes all wait, keeps nobody from ending the worker."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from urllib.parse import urlsplit, urlunsplit

import pytest
from django.db import connection, transaction

from aftercommit.worker.processes.supervisor import BEYOND_GRACE, TO_HURRY
from tests.app.chores import plain
from tests.databases import URL_VARIABLES, url_of
from tests.process.rig import STARTED, Rig, Tree
from tests.process.screen import Screen
from tests.process.silence import SilentProxy
from tests.settings import DATABASE_KIND
from tests.waiting import wait_until

GRACE = timedelta(seconds=1)
AT_ONCE = timedelta(seconds=5)  # on a busy machine
USUAL_PORT = {"postgresql": 5432, "mysql": 3306}
WAITING = {
    "postgresql": "SELECT COUNT(*) FROM pg_locks WHERE NOT granted",
    "mysql": "SELECT COUNT(*) FROM information_schema.processlist"
    " WHERE state LIKE 'Waiting for table%'",
}
COUNTED = b"COUNT("  # in the question of the line that counts, and in no other


@pytest.fixture
def silent(rig: Rig, vendor: str) -> Iterator[SilentProxy]:
    """Return a proxy that stands before the database of the rig's workers."""
    if vendor == "sqlite":
        pytest.skip("SQLite is not behind a network")
    url = urlsplit(url_of(DATABASE_KIND))
    if not url.hostname:
        pytest.skip("the server listens on no port")
    proxy = SilentProxy((url.hostname, url.port or USUAL_PORT[vendor]))
    user = url.netloc.rpartition("@")[0]
    behind = url._replace(netloc=f"{user}@127.0.0.1:{proxy.port}")
    rig.environment[URL_VARIABLES[DATABASE_KIND]] = urlunsplit(behind)
    yield proxy
    rig.close()
    proxy.close()


def test_a_stop_needs_no_answer_of_the_database(rig, silent, screen):
    worker = at_work(rig, screen)
    fall_silent(silent)

    worker.signal(signal.SIGTERM)

    assert_ends(worker, within=GRACE + BEYOND_GRACE)
    assert rig.running() == 1  # nobody could give it back


def test_a_second_signal_needs_none_either(rig, silent, screen):
    worker = at_work(rig, screen, grace=timedelta(minutes=10))
    fall_silent(silent)

    signal_twice(rig, worker)

    assert_ends(worker, within=TO_HURRY)
    assert rig.running() == 1


def test_a_stop_does_not_wait_for_a_locked_table(rig, screen):
    worker = at_work(rig, screen)
    with table_locked(rig):
        worker.signal(signal.SIGTERM)

        assert_ends(worker, within=GRACE + BEYOND_GRACE)
        assert rig.running() == 1  # nobody could give it back


def test_a_second_signal_does_not_wait_for_a_locked_table(rig, screen):
    worker = at_work(rig, screen, grace=timedelta(minutes=10))
    with table_locked(rig):
        signal_twice(rig, worker)

        assert_ends(worker, within=TO_HURRY)
        assert rig.running() == 1


def test_a_start_can_be_broken_off_when_no_database_answers(rig, silent):
    silent.fall_silent()
    worker = rig.worker(ready=False)
    wait_until(lambda: silent.eaten, deadline=STARTED, why="it asks the database")

    worker.signal(signal.SIGTERM)

    assert worker.wait(AT_ONCE) in {0, -signal.SIGTERM}


def test_a_worker_starts_although_no_database_answers(rig, silent):
    silent.fall_silent()

    worker = rig.worker()

    assert silent.eaten
    assert "A database does not answer (for 10 s): not all is checked." in worker.output
    worker.signal(signal.SIGTERM)
    assert_ends(worker, within=timedelta(seconds=30) + BEYOND_GRACE)


def at_work(rig: Rig, screen: Screen, *, grace: timedelta = GRACE) -> Tree:
    """Start a worker on a terminal; return it when it runs a job and counts the others."""
    rig.settings(modules="tests.process.faults")
    seconds = str(grace.total_seconds())
    command = (
        "-m",
        "django",
        "aftercommit",
        "worker",
        "--backend",
        "default",
        "--grace",
        seconds,
    )
    worker = rig.run(*command, terminal=screen.theirs, TERM="xterm", COLUMNS="120")
    rig.enqueue(plain, "one", gate="never")
    rig.wait_note("begin")
    wait_until(lambda: "1 running" in screen.text, deadline=STARTED, why="the line counts")
    return worker


def fall_silent(silent: SilentProxy) -> None:
    """Eat packets, until one is of the line that counts."""
    silent.fall_silent()
    wait_until(lambda: COUNTED in silent.eaten, why="the line that counts waits for an answer")


@contextmanager
def table_locked(rig: Rig) -> Iterator[None]:
    """Keep everybody else from the table of jobs; begin when somebody waits for it."""
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("LOCK TABLE aftercommit_job IN ACCESS EXCLUSIVE MODE")
        elif connection.vendor == "mysql":
            cursor.execute("LOCK TABLES aftercommit_job WRITE")
        try:
            wait_until(lambda: waiting(rig) >= 3, why="rooms of the worker and the line wait")
            yield
        finally:
            if connection.vendor == "mysql":
                cursor.execute("UNLOCK TABLES")


def waiting(rig: Rig) -> int:
    """Return how many wait for a lock; SQLite, where the transaction has it, tells nobody."""
    if connection.vendor == "sqlite":
        return 3
    with connection.cursor() as cursor:
        cursor.execute(WAITING[connection.vendor])
        return int(cursor.fetchone()[0])


def signal_twice(rig: Rig, worker: Tree) -> None:
    """Stop, and stop at once."""
    worker.signal(signal.SIGTERM)
    rig.wait_stopping([worker])
    worker.signal(signal.SIGTERM)


def assert_ends(worker: Tree, *, within: timedelta) -> None:
    """Assert that it ends in time, by itself or by its own force."""
    assert worker.wait(within + AT_ONCE) in {0, 1}
