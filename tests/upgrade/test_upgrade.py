"""A site goes from the version before to this one: its jobs go on, and both work side by side."""

from datetime import timedelta

from tests.waiting import wait_until

SOON = timedelta(seconds=60)  # each look is a worker that starts and ends


def test_jobs_of_the_version_before_go_on(site, before, today):
    failed = site.step(before, "failing", "failed")
    site.drain(before)
    running = site.step(before, "endless", "running")
    with site.worker(before):
        wait_until(lambda: "running begins" in site.notes, deadline=SOON)
    ready = site.step(before, "enqueue", "ready")
    assert site.step(before, "read", running)[0]["state"] == "running"

    site.manage(today, "migrate")
    assert site.step(today, "read", failed)[0]["errors"] == ["builtins.ValueError"]
    for name in ("mended", "gate"):
        site.leave(name)
    assert site.step(today, "retry", failed) == [failed]
    wait_until(lambda: site.drain(today) or "running" in site.notes, deadline=SOON)

    values = ["failed", "running", *(f"ready {kind}" for kind in ready)]
    ended = site.step(today, "read", failed, running, *ready.values())
    assert [(one["state"], one["value"]) for one in ended] == [("succeeded", v) for v in values]
    assert ended[0]["errors"] == ["builtins.ValueError"]
    assert sorted(site.notes) == sorted(["running begins", "running begins", *values])
    assert site.step(today, "sent") == 1


def test_both_versions_work_side_by_side_after_the_migration(site, before, today):
    for code in (before, today):
        assert site.step(code, "package").startswith(f"{code}/")
    site.manage(today, "migrate")
    old = site.step(before, "enqueue", "old")
    site.drain(today)
    new = site.step(today, "enqueue", "new")
    site.drain(before)

    for code in (before, today):
        ended = site.step(code, "read", *old.values(), *new.values())
        assert [one["value"] for one in ended] == [
            f"{word} {kind}" for word in ("old", "new") for kind in old
        ]
        assert site.step(code, "told", old["atomic"]) == ["SUCCESSFUL", "old atomic"]
        assert site.step(code, "told", new["atomic"]) == ["SUCCESSFUL", "new atomic"]
        assert site.step(code, "sent") == 2
