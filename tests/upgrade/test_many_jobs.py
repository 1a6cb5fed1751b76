"""A table with many jobs is migrated while programs of version 0.1 use it."""

from collections import Counter
from contextlib import ExitStack
from datetime import timedelta
from signal import SIGTERM

from tests import tiers
from tests.upgrade.conftest import LONGER
from tests.upgrade.rows import Writer, counts, fill, unfinished, wrong_flags
from tests.waiting import wait_until

SOON = timedelta(seconds=240)
ROWS = tiers.size(change=20_000, full=1_000_000)
DUE = tiers.size(change=100, full=1000)


def test_programs_of_version_0_1_go_on_while_many_jobs_are_migrated(site, before, today, capsys):
    site.lease = 600  # MariaDB and SQLite copy the table, and nobody can renew meanwhile
    fill(site.tables, rows=ROWS, due=DUE)
    filled = counts(site.tables)
    trouble = site.step(before, "enqueue_trouble").values()
    writer = Writer(site.tables)

    with ExitStack() as new_worker:
        with site.worker(before, log="old.log"):
            wait_for_run(site, 1)
            with site.enqueuer(before), writer.beside():
                wait_until(lambda: "enqueued new 0" in site.notes, deadline=SOON)
                done = migrated(site, today)
                new_worker.enter_context(site.worker(today, log="new.log"))
                wait_until(lambda: workers_that_have_ended_jobs(site.tables) > 1, deadline=SOON)
            wait_until(lambda: unfinished(site.tables) == 1, deadline=SOON)
        wait_for_run(site, 2)  # the old worker was killed
    with site.worker(today, log="newer.log", end=SIGTERM):
        wait_for_run(site, 3)  # the new one as well
        site.leave("gate")
        wait_until(lambda: "running" in site.notes, deadline=SOON)

    with capsys.disabled():
        print(figures(done, writer))
    assert_both_are_rescued(site.step(today, "read", *trouble))
    once = each_ran_once(site.notes)
    assert counts(site.tables) == {
        "ready": filled["ready"] - DUE,
        "succeeded": filled["succeeded"] + once + 1,
        "failed": filled["failed"] + 1,
        "cancelled": filled["cancelled"],
    }
    assert wrong_flags(site.tables) == 0


def wait_for_run(site, number):
    """Wait until the job that does not end by itself has begun for this time."""
    wait_until(lambda: site.notes.count("running begins") == number, deadline=SOON)


def migrated(site, today):
    """Migrate; return what happened meanwhile."""
    place = file_of(site.tables)
    done = site.step(today, "migrate", longest=LONGER)
    assert file_of(site.tables) == place
    assert wrong_flags(site.tables) == 0
    if site.tables.vendor == "postgresql":
        # The time is not judged: it is long on a machine that has much else to do.
        assert set(done["read"]) == {0}, done["under_lock"]
    return done


def assert_both_are_rescued(read):
    """Assert that a worker of each version has died of the job that runs."""
    assert read["states"] == ["failed", "succeeded"]
    assert read["errors"][1:] == ["aftercommit.errors.WorkerDied"] * 2


def each_ran_once(notes):
    """Assert it of the jobs that end by themselves; return how many there were."""
    said = Counter(notes)
    enqueued = [word.removeprefix("enqueued ") for word in said if word.startswith("enqueued ")]
    words = [f"due {number}" for number in range(DUE)] + enqueued
    assert {word: said[word] for word in words} == dict.fromkeys(words, 1)
    return len(words)


def figures(done, writer):
    """Return what somebody may want to write into the documentation."""
    return (
        f"\n{ROWS} jobs: migrated in {done['seconds']:.1f} s, locked for "
        f"{done['held'] * 1000:.0f} ms; of {writer.rows} rows that were written meanwhile the "
        f"longest wait was {writer.longest * 1000:.0f} ms"
    )


def file_of(tables):
    """Return in which file the table is: a copy has another one."""
    if tables.vendor != "postgresql":
        return None
    return tables.run("SELECT pg_relation_filenode('aftercommit_job')")


def workers_that_have_ended_jobs(tables):
    """Return how many workers have ended jobs by now."""
    ((found,),) = tables.run(
        "SELECT count(DISTINCT worker_id) FROM aftercommit_job WHERE state = 'succeeded'"
    )
    return found
