"""SQLite: many processes and one writer at a time, a reader that stays, kill -9 in a write."""

import contextlib
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection

from tests.app.chores import plain
from tests.app.models import Effect
from tests.process import half_a_write
from tests.process.rig import STARTED, Job
from tests.process.storm import Storm
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif("connection.vendor != 'sqlite'")

KILLED_IN_A_WRITE = 3


@pytest.fixture
def watched(rig):
    """Return a rig whose workers note each lock that they hear of."""
    rig.settings(modules="tests.process.locks", lease=3, heartbeat=0.1, max_crashes=1000)
    return rig


def test_nobody_hears_of_a_lock_and_nothing_is_lost(watched):
    storm = Storm(watched, sizes=(1, 1, 1), longest=0.01)

    with reader_that_stays() as reader:
        storm.rage(kills=8, hits=3, deadline=timedelta(minutes=2))
        left = [kill_in_a_write(watched) for _number in range(KILLED_IN_A_WRITE)]
        pages, checkpointed = checkpoint()
        seen = reader()
    storm.calm(jobs=400)

    report = watched.check(**storm.expected())
    print(f"{storm}; {left} bytes of -wal at a kill, {checkpointed} of {pages} pages copied")
    assert not report.violations
    assert report.states["succeeded"] >= 400
    assert report.workers_hit >= 3
    assert storm.kills >= 8
    assert min(left) > 0
    assert checkpointed < pages
    assert seen < Job.objects.count()
    assert not Effect.objects.filter(key=half_a_write.KEY).exists()
    assert integrity() == "ok"
    assert heard_of_locks(watched) == []
    assert not Job.objects.filter(conflicts__gt=0).exists()


def test_a_worker_whose_writes_do_not_say_so_is_noticed(watched):
    watched.environment["AFTERCOMMIT_TEST_MUTANT"] = "plain begin"
    watched.enqueue_many(plain, [((str(number),), {"lasting": 0.1}) for number in range(600)])

    for _number in range(3):
        watched.worker("--threads", "8", ready=False)

    wait_until(lambda: watched.notes("locked"), deadline=STARTED, why="a lock was heard of")


def kill_in_a_write(rig) -> int:
    """Kill a process in a large transaction; return how much the ``-wal`` holds then."""
    times = len(rig.notes("writing"))
    writer = rig.run("-m", "tests.process.half_a_write")
    rig.wait_note("writing", times=times + 1)
    writer.kill()
    size = wal().stat().st_size
    assert integrity() == "ok"
    return size


@contextlib.contextmanager
def reader_that_stays() -> Iterator:
    """Hold a transaction that reads, so that no checkpoint gets to the end of the ``-wal``."""
    with contextlib.closing(sqlite3.connect(database(), isolation_level=None)) as reader:

        def jobs() -> int:
            return reader.execute("SELECT COUNT(*) FROM aftercommit_job").fetchone()[0]

        reader.execute("BEGIN")
        jobs()
        yield jobs
        reader.execute("COMMIT")


def checkpoint() -> tuple[int, int]:
    """Copy what can be copied; return the pages of the ``-wal`` and how many were."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(PASSIVE)")
        _busy, pages, copied = cursor.fetchone()
    return pages, copied


def integrity() -> str:
    """Return what SQLite says of its file."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA integrity_check")
        return cursor.fetchone()[0]


def heard_of_locks(rig) -> list[str]:
    """Return everything that was said of locks: by drivers, commands and jobs."""
    drivers = [one["error"] for one in rig.notes("locked")]
    commands = [tree.log.name for tree in rig.trees if "locked" in tree.output]
    jobs = [str(job) for job in Job.objects.filter(errors__contains="locked")]
    return drivers + commands + jobs


def database() -> str:
    """Return the file."""
    return str(connection.settings_dict["NAME"])


def wal() -> Path:
    """Return the file that holds what was written last."""
    return Path(f"{database()}-wal")
