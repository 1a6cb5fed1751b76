"""ThreadConnections locks: held while a worker lives, free the moment it does not."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from django.db import Error, connection, transaction

from aftercommit.values import Cancelled, Released, Retry
from tests.store.given import ALREADY_OVER, ERROR, claim_one, insert_alike, new_job, ready_job
from tests.waiting import SOON, wait_until

AT_ONCE = timedelta(0)


@pytest.fixture
def worker_id():
    return uuid4()


@pytest.fixture
def presence(store, worker_id):
    """Hold a worker's lock on a connection of its own."""
    presence = store.open_presence(worker_id, session_locks=True)
    yield presence
    with suppress(Error, OSError):
        presence.close()


def test_the_lock_of_a_living_worker_is_held(store, worker_id, presence):
    assert presence.locked
    assert store.free_locks({worker_id}) == set()
    assert store.free_locks({worker_id}) == set()


def test_the_lock_is_free_after_a_clean_end(store, worker_id, presence):
    presence.close()

    wait_until(lambda: store.free_locks({worker_id}) == {worker_id})


def test_free_and_held_locks_are_told_apart(store, worker_id, presence):
    dead = uuid4()

    assert store.free_locks({worker_id, dead}) == {dead}
    assert store.free_locks(set()) == set()


def test_one_look_shows_the_clock_the_others_and_their_locks(store, worker_id, presence):
    ours, dead, without = uuid4(), uuid4(), uuid4()
    for one in (ours, worker_id, dead):
        store.workers.announce(one, locked=True)
    store.workers.announce(without, locked=False)
    ids = {ours, worker_id, dead, without}
    try:
        look = store.look(ours)
        store.workers.forget(ids)
        alone = store.look(ours)
    finally:
        store.workers.forget(ids)

    assert (look.others, look.free) == ({worker_id, dead}, {dead})
    assert look.clock <= alone.clock
    assert (alone.others, alone.free) == (set(), set())


def test_looking_does_not_take_the_lock(store, worker_id):
    assert store.free_locks({worker_id}) == {worker_id}

    presence = store.open_presence(worker_id, session_locks=True)

    locked = presence.locked
    presence.close()
    assert locked


def test_two_who_look_do_not_mislead_each_other(store, worker_id, other):
    def look_during_a_look():
        with transaction.atomic():  # on PostgreSQL a look lasts as long as its transaction
            store.free_locks({worker_id})
            return other.do(store.free_locks, {worker_id})

    assert look_during_a_look() == {worker_id}


def test_a_worker_may_do_without_a_lock(store, worker_id):
    presence = store.open_presence(worker_id, session_locks=False)

    locked, news = presence.locked, presence.wait(AT_ONCE)

    presence.close()
    assert (locked, news) == (False, False)
    assert store.free_locks({worker_id}) == {worker_id}


def test_the_lock_outlives_the_thread_and_the_queries_of_the_worker(
    store, worker_id, presence, other
):
    ready_job(store)
    claim_one(store)
    connection.close()

    assert other.do(store.free_locks, {worker_id}) == set()
    assert presence.locked


KILL_OTHERS = {
    "postgresql": "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
    " AND pid <> pg_backend_pid()"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    "mysql": "KILL {session}",
}


def kill_the_session_of(store, worker_id, vendor):
    with connection.cursor() as cursor:
        sql = KILL_OTHERS[vendor]
        if vendor == "mysql":
            cursor.execute("SELECT IS_USED_LOCK(%s)", [f"aftercommit:{worker_id.hex}"])
            sql = sql.format(session=cursor.fetchone()[0])
        cursor.execute(sql)


@pytest.fixture
def killed(store, worker_id, presence, vendor):
    if vendor == "sqlite":
        pytest.skip("SQLite has no sessions; see the test of a killed process")
    kill_the_session_of(store, worker_id, vendor)
    return presence


def test_the_lock_is_free_when_the_session_was_ended(store, worker_id, killed):
    wait_until(lambda: store.free_locks({worker_id}) == {worker_id})


def test_a_worker_notices_that_its_session_was_ended(killed):
    def refuses():
        try:
            return killed.wait(AT_ONCE)
        except (Error, OSError):
            return True

    wait_until(refuses)


def test_a_worker_takes_its_lock_again_on_a_new_connection(store, worker_id, killed):
    def lock_again():
        presence = store.open_presence(worker_id, session_locks=True)
        if presence.locked or presence.wait(AT_ONCE) or presence.locked:
            return presence
        presence.close()
        return None

    presence = wait_until(lock_again)
    held = store.free_locks({worker_id})

    presence.close()
    assert held == set()


LIVE = """
import sys, uuid
import django

django.setup()

from aftercommit.store import store_for

presence = store_for("default").open_presence(uuid.UUID(sys.argv[1]), session_locks=True)
print("locked" if presence.locked else "not locked", flush=True)
sys.stdin.read()
"""


def test_the_lock_is_free_when_the_process_was_killed(store, worker_id):
    with subprocess.Popen(
        [sys.executable, "-c", LIVE, str(worker_id)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as worker:
        said = worker.stdout.readline()
        while_alive = store.free_locks({worker_id})
        os.kill(worker.pid, signal.SIGKILL)

    wait_until(lambda: store.free_locks({worker_id}) == {worker_id})
    store.forget({worker_id})
    assert said == "locked\n"
    assert while_alive == set()


def test_an_interrupt_ends_a_wait(presence):
    presence.interrupt()
    presence.interrupt()

    assert presence.wait(SOON) is False
    assert presence.wait(AT_ONCE) is False


def test_an_interrupt_after_the_end_is_nothing(presence):
    presence.close()

    presence.interrupt()


def test_the_dead_are_buried_with_all_they_left_behind(store, worker_id, vendor):
    living = uuid4()
    living_presence = store.open_presence(living, session_locks=True)
    store.workers.announce(worker_id, locked=True)
    store.workers.announce(living, locked=True)
    folder = Path(f"{connection.settings_dict['NAME']}-workers")
    if vendor == "sqlite":
        (folder / f"{worker_id.hex}.lock").touch()

    store.forget({worker_id})

    assert store.clock_and_workers(worker_id)[1] == {living}
    assert store.free_locks({living}) == set()
    living_presence.close()
    assert not folder.exists()


# ---- NOTIFY -----------------------------------------------------------------------


@pytest.fixture
def listening(vendor, presence):
    if vendor != "postgresql":
        pytest.skip("only PostgreSQL announces new jobs")
    return presence


def hears(presence):
    """Whether anything was announced before a word of our own, which comes last."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify('aftercommit', 'the end')")
    heard = []
    while "the end" not in heard:
        assert presence._select(SOON, presence._raw.fileno())
        heard += [one.payload for one in presence._raw.notifies(timeout=0)]
    return sorted(heard[:-1])


def test_a_due_job_is_announced_once_for_each_queue_at_commit(store, listening):
    with transaction.atomic():
        store.insert([new_job(queue="a"), new_job(queue="b"), new_job(queue="a")])
        store.insert([new_job(queue="a")])
        store.insert([new_job(queue="c", unique_key="key")])

    assert hears(listening) == ["a", "b", "c"]


def test_jobs_that_are_alike_are_announced_once(store, listening):
    later = datetime.now(UTC) + timedelta(hours=1)
    with transaction.atomic():
        insert_alike(store, [new_job(queue="a") for _ in range(3)])
        insert_alike(store, [new_job(queue="b", run_after=later) for _ in range(3)])

    assert hears(listening) == ["a"]


def test_a_rollback_and_a_later_job_are_not_announced(store, listening):
    ready_job(store, run_after=datetime.now(UTC) + timedelta(hours=1))
    with transaction.atomic():
        ready_job(store)
        transaction.set_rollback(True)

    assert hears(listening) == []


def test_whatever_makes_a_job_ready_again_is_announced(store, listening):
    job_id = ready_job(store)
    assert hears(listening) == ["default"]

    store.finish(claim_one(store), Released())
    assert hears(listening) == ["default"]

    store.finish(claim_one(store), Retry(ERROR, timedelta(seconds=-1)))
    assert hears(listening) == []

    claim_one(store, lease=ALREADY_OVER)
    store.rescue(max_crashes=9)
    assert hears(listening) == ["default"]

    store.release_unstarted(claim_one(store).worker_id, begun=())
    assert hears(listening) == ["default"]

    store.finish(claim_one(store), Cancelled(ERROR))
    assert hears(listening) == []

    store.retry([job_id])
    assert hears(listening) == ["default"]


def is_asked(presence):
    """Whether a request has come for this worker before a word of our own, which comes last."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify('aftercommit', 'the end')")
    wait_until(lambda: presence.wait(SOON))
    return presence.take_requests()


def test_a_request_to_stop_reaches_the_worker_that_runs_the_job(store, listening):
    ready_job(store), ready_job(store)
    mine, theirs = claim_one(store, worker_id=listening.worker_id), claim_one(store)
    assert not is_asked(listening)

    store.cancel([theirs.job_id])
    assert not is_asked(listening)

    with transaction.atomic():
        store.cancel([mine.job_id])
        transaction.set_rollback(True)
    assert not is_asked(listening)

    store.cancel([mine.job_id])
    assert is_asked(listening)
    assert not is_asked(listening)


def test_news_end_a_wait(store, listening):
    ready_job(store)

    assert listening.wait(SOON) is True
    assert listening.wait(AT_ONCE) is False
