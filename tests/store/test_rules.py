"""Pauses in the table of rules: who reads them when, and what two do at once."""

from uuid import uuid4

import pytest
from django.db import Error, connection, transaction

from aftercommit.models import Rule
from aftercommit.options.rate import rate_from
from aftercommit.store.rules import Rules
from aftercommit.values import QUEUE, TASK, SetLimit, SetRate
from tests.store.given import new_job, ready_jobs
from tests.waiting import SOON


def names(store):
    """Return the names of what is paused."""
    return sorted(one.name for one in store.pauses())


def pause(store, name="mail", **given):
    """Pause a queue."""
    return store.pause(QUEUE, name, **{"by": "", "why": "", **given})


def test_a_pause_is_there_until_it_is_resumed_and_says_who_and_why(store):
    assert pause(store, by="ann", why="the provider is down")
    assert not pause(store, by="bob")

    (found,) = store.pauses()
    assert (found.kind, found.name, found.by, found.why) == (
        "queue",
        "mail",
        "ann",
        "the provider is down",
    )
    assert abs(found.since - store._clock()).total_seconds() < 60

    assert store.resume(QUEUE, "mail")
    assert not store.resume(QUEUE, "mail")
    assert store.pauses() == []
    assert not Rule.objects.exists()


def test_names_that_differ_in_case_are_different(store):
    pause(store, "mail")
    pause(store, "Mail")

    store.resume(QUEUE, "MAIL")

    assert names(store) == ["Mail", "mail"]


def test_a_pause_counts_at_its_commit_and_never_after_a_rollback(store, other):
    with transaction.atomic():
        pause(store)
        assert other.do(names, store) == []
    assert other.do(names, store) == ["mail"]

    with pytest.raises(LookupError), transaction.atomic():
        store.resume(QUEUE, "mail")
        raise LookupError
    assert names(store) == ["mail"]


def test_one_who_pauses_while_another_does_so_finds_it_paused(store, other, monkeypatch):
    if connection.vendor == "sqlite":
        pytest.skip("nobody else can write meanwhile")
    create = Rules._create

    def late(self, **given):
        monkeypatch.undo()
        assert other.do(pause, store)
        return create(self, **given)

    monkeypatch.setattr(Rules, "_create", late)
    with transaction.atomic():
        assert not pause(store)
        assert names(store) == ["mail"]  # the transaction goes on


def test_without_the_table_nothing_is_paused_and_other_errors_are_raised(store, monkeypatch):
    monkeypatch.setattr(Rule._meta, "db_table", "aftercommit_not_migrated_yet")
    assert store.rules() is None
    assert store.pauses() == []
    with pytest.raises(Error, match="not_migrated"), transaction.atomic():
        store.rules()  # it would be of no use to go on

    monkeypatch.setattr(Rules, "_has_table", lambda _self: True)
    with pytest.raises(Error):
        store.rules()


@pytest.mark.parametrize("change", ["pause", "resume", "limit", "unlimit"])
def test_workers_are_notified_at_the_commit_of_a_change(store, vendor, change):
    if vendor != "postgresql":
        pytest.skip("only PostgreSQL notifies")
    if change != "pause":
        pause(store)
    if change == "unlimit":
        store.limit(QUEUE, "mail", 3)
    given = {"pause": {"by": "", "why": ""}, "limit": {"limit": 4}}.get(change, {})
    presence = store.open_presence(uuid4(), session_locks=False)
    try:
        with transaction.atomic():
            assert getattr(store, change)(QUEUE, "mail", **given)
        assert presence.wait(SOON)
        assert presence.rules_changed
        presence.rules_changed = False
        store.insert([new_job()])
        assert presence.wait(SOON)
        assert not presence.rules_changed
    finally:
        presence.close()


def test_a_limit_is_there_until_it_is_taken_away(store):
    assert store.limit(QUEUE, "mail", 10)
    assert not store.limit(QUEUE, "mail", 10)
    assert store.limit(QUEUE, "mail", 3)
    assert store.limit(TASK, "mail", 4)
    assert sorted(store.limits()) == [
        SetLimit(QUEUE, "mail", 3),
        SetLimit(TASK, "mail", 4),
    ]
    assert store.pauses() == []

    assert store.unlimit(QUEUE, "mail")
    assert not store.unlimit(QUEUE, "mail")
    assert store.unlimit(TASK, "mail")
    assert not Rule.objects.exists()


@pytest.mark.parametrize("kind", [QUEUE, TASK])
@pytest.mark.parametrize("limit_first", [True, False])
@pytest.mark.parametrize("resume_first", [True, False])
def test_a_pause_and_a_limit_do_not_overwrite_each_other(store, kind, limit_first, resume_first):
    def limit():
        assert store.limit(kind, "mail", 3)

    def stop():
        assert store.pause(kind, "mail", by="ann", why="")

    for one in [limit, stop] if limit_first else [stop, limit]:
        one()
    assert [one.by for one in store.pauses()] == ["ann"]
    assert [one.limit for one in store.limits()] == [3]

    if resume_first:
        assert store.resume(kind, "mail")
        assert [one.limit for one in store.limits()] == [3]
        assert store.pauses() == []
        assert store.unlimit(kind, "mail")
    else:
        assert store.unlimit(kind, "mail")
        assert [one.by for one in store.pauses()] == ["ann"]
        assert store.limits() == []
        assert store.resume(kind, "mail")
    for name in store.rules().resumed:
        store.bring_back(name)
    assert not Rule.objects.exists()


def test_a_rate_is_there_until_it_is_taken_away(store):
    assert store.rate(QUEUE, "mail", "60/m 10")
    assert not store.rate(QUEUE, "mail", "60/m 10")
    assert store.rate(TASK, "mail", "5/s 1")
    assert sorted(store.rates()) == [
        SetRate(QUEUE, "mail", "60/m", rate_from("60/m", 10)),
        SetRate(TASK, "mail", "5/s", rate_from("5/s")),
    ]
    assert store.pauses() == store.limits() == []

    assert store.unrate(QUEUE, "mail")
    assert not store.unrate(QUEUE, "mail")
    assert store.unrate(TASK, "mail")
    assert not Rule.objects.exists()


def test_a_rated_task_has_jobs_to_bring_back_only_if_some_are_set_aside(store):
    path = "tests.app.tasks.add"
    store.rate(TASK, path, "60/m 1")
    assert store.rules().resumed == []

    store.pause(TASK, path, by="", why="")
    ready_jobs(store, 2)
    store.set_aside("default", [("default", 0)], [path])
    store.resume(TASK, path)
    assert store.rules().resumed == [path]


def test_one_who_limits_while_another_pauses_does_both(store, other, monkeypatch):
    if connection.vendor == "sqlite":
        pytest.skip("nobody else can write meanwhile")
    create = Rules._create

    def late(self, **given):
        monkeypatch.undo()
        assert other.do(pause, store)
        return create(self, **given)

    monkeypatch.setattr(Rules, "_create", late)
    assert store.limit(QUEUE, "mail", 3)
    assert names(store) == ["mail"]
    assert [one.limit for one in store.limits()] == [3]


def test_a_limited_task_has_jobs_to_bring_back_only_if_some_are_set_aside(store):
    path = "tests.app.tasks.add"
    store.limit(TASK, path, 3)
    assert store.rules().resumed == []

    store.pause(TASK, path, by="", why="")
    ready_jobs(store, 2)
    store.set_aside("default", [("default", 0)], [path])
    store.resume(TASK, path)
    assert store.rules().resumed == [path]

    while store.bring_back(path):
        continue
    assert store.rules().resumed == []
    assert [one.limit for one in store.limits()] == [3]


def test_a_limit_counts_at_its_commit_and_never_after_a_rollback(store, other):
    with pytest.raises(LookupError), transaction.atomic():
        store.limit(QUEUE, "mail", 3)
        assert other.do(store.limits) == []
        raise LookupError
    assert store.limits() == []
