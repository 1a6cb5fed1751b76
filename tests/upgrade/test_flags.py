"""Programs of version 0.1 know no flags: a trigger sets them, and is quiet for this version."""

import pytest


@pytest.fixture
def migrated(site, before, today):
    """Return a site that was in use when it was migrated."""
    site.step(before, "enqueue", "old")
    site.manage(today, "migrate")
    return site


def test_whatever_version_0_1_does_the_flags_are_right(migrated, before, today):
    jobs = migrated.step(before, "live")
    assert migrated.step(today, "wrong") == []

    left = migrated.step(today, "leave")
    failed, cancelled = left.pop("retry")
    words = [left.pop(name) for name in ("dead", "rescue")]
    taken = migrated.step(before, "take_over", *words, failed, cancelled, *left.values())

    assert migrated.step(today, "wrong") == []
    for found in (jobs, taken):
        for state, ids in found.items():
            read = migrated.step(today, "read", *ids)
            assert read["states"] == [state] * len(ids)
    claimed = migrated.step(today, "claim_all")
    assert {*jobs["ready"], *taken["ready"]} <= set(claimed)


def test_this_version_does_not_call_the_trigger(migrated, before, today):
    if migrated.tables.vendor != "postgresql":
        pytest.skip("only PostgreSQL counts calls; MySQL's trigger has no condition")
    name = migrated.tables.connection.settings_dict["NAME"]
    migrated.tables.run(f"ALTER DATABASE \"{name}\" SET track_functions = 'pl'")

    migrated.step(today, "live")
    migrated.step(today, "claim_all")

    assert calls(migrated.tables) == 0
    migrated.step(before, "live")
    assert calls(migrated.tables) > 0


def calls(tables):
    """Return how often the function of the trigger was called."""
    ((found,),) = tables.run(
        "SELECT coalesce(sum(calls), 0) FROM pg_stat_user_functions "
        "WHERE funcname = 'aftercommit_job_flags'"
    )
    return found
