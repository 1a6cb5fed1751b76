"""Pauses in the table of rules: who reads them when, and what two do at once."""

from uuid import uuid4

import pytest
from django.db import Error, connection, transaction

from aftercommit.models import Rule
from aftercommit.store.rules import Rules
from aftercommit.values import QUEUE
from tests.store.given import new_job
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


def test_workers_are_notified_at_the_commit_of_a_change(store, vendor):
    if vendor != "postgresql":
        pytest.skip("only PostgreSQL notifies")
    presence = store.open_presence(uuid4(), session_locks=False)
    try:
        with transaction.atomic():
            pause(store)
        assert presence.wait(SOON)
        assert presence.rules_changed
        presence.rules_changed = False
        store.insert([new_job()])
        assert presence.wait(SOON)
        assert not presence.rules_changed
    finally:
        presence.close()
