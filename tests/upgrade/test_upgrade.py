"""A site goes from the version before to this one: its jobs go on, and both work side by side."""

from datetime import timedelta
from signal import SIGTERM

from tests.waiting import wait_until

SOON = timedelta(seconds=60)  # a worker starts meanwhile
KINDS = ("plain", "atomic", "function")


def test_jobs_of_the_version_before_go_on(site, before, today):
    failed, running = site.step(before, "enqueue_trouble").values()
    with site.worker(before):
        wait_until(lambda: "running begins" in site.notes, deadline=SOON)
        wait_until(lambda: "failed for good" in site.worker_said, deadline=SOON)
    ready = site.step(before, "enqueue", "ready").values()

    site.manage(today, "migrate")
    found = site.step(today, "read", failed, running, *ready)
    assert found["states"] == ["failed", "running", "ready", "ready", "ready"]
    assert found["errors"] == ["builtins.ValueError"]
    for name in ("mended", "gate"):
        site.leave(name)
    assert site.step(today, "retry", failed) == [failed]
    site.drain(today)
    with site.worker(today, end=SIGTERM):  # a drain does not wait for the dead
        wait_until(lambda: "running" in site.notes, deadline=SOON)

    ended = site.step(today, "read", failed, running, *ready)
    assert ended["states"] == ["succeeded"] * 5
    assert ended["values"] == ["failed", "running", *(f"ready {kind}" for kind in KINDS)]
    assert ended["told"] == ended["values"][:4]
    assert ended["errors"] == ["builtins.ValueError", "aftercommit.errors.WorkerDied"]
    assert ended["sent"] == 1


def test_both_versions_work_side_by_side_after_the_migration(site, before, today):
    old = site.step(before, "enqueue", "old").values()
    site.manage(today, "migrate")
    site.drain(today)
    new = site.step(today, "enqueue", "new").values()
    site.drain(before)

    for code in (before, today):
        found = site.step(code, "read", *old, *new)
        assert found["package"].startswith(f"{code}/")
        assert found["values"] == [f"{word} {kind}" for word in ("old", "new") for kind in KINDS]
        assert found["told"] == ["old plain", "old atomic", "new plain", "new atomic"]
        assert found["sent"] == 2
