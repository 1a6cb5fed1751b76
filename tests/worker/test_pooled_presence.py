"""Session locks behind a pooler in transaction mode: they are noticed to be worth nothing."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from django.db import Error, connection

from aftercommit.options.conf import BackendOptions
from aftercommit.store.postgresql import presence as presence_module
from aftercommit.store.postgresql.presence import lock_key
from aftercommit.values import NO_TIME
from aftercommit.windows.checks.servers import answers_of
from aftercommit.worker.upkeep.presence import OwnPresence
from tests.store.pooler import transaction_pooler
from tests.worker.rig import Rig, another_connection, sql

pytestmark = [
    pytest.mark.skipif(settings.DATABASE_KIND != "postgres", reason="of PostgreSQL"),
    pytest.mark.django_db(transaction=True),
]


@pytest.fixture
def store(rig: Rig) -> Any:
    """Return the store of the default database."""
    return rig.store


@contextmanager
def pooled(*, shared: bool, own_numbers: bool = True) -> Iterator[None]:
    """Connect through a pooler while the block lasts."""
    before = dict(connection.settings_dict)
    address = before["HOST"], before["PORT"]
    connection.close()
    with transaction_pooler(*address, own_numbers=own_numbers, shared=shared) as port:
        connection.settings_dict.update(
            HOST="127.0.0.1", PORT=str(port), DISABLE_SERVER_SIDE_CURSORS=True
        )
        try:
            yield
        finally:
            connection.close()
            connection.settings_dict.clear()
            connection.settings_dict.update(before)


@pytest.fixture
def opened(store: Any) -> Iterator[Any]:
    """Return a function that opens the presence of a worker."""
    held = []

    def open_one(**options: Any) -> Any:
        held.append(store.open_presence(uuid4(), **{"session_locks": True, **options}))
        return held[-1]

    yield open_one
    for one in held:
        with suppress(Error, OSError):
            one.close()


@pytest.mark.parametrize("own_numbers", [True, False], ids=["known", "hidden"])
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "each its own"])
def test_a_pooler_is_noticed_at_the_start(opened, shared, own_numbers):
    with pooled(shared=shared, own_numbers=own_numbers):
        presence = opened()
        assert (presence.pooled, presence.locked) == (True, False)
        presence.wait(NO_TIME)
        assert (presence.pooled, presence.locked) == (True, False)
        presence.close()


def test_a_direct_connection_is_none(opened):
    presence = opened()
    assert (presence.pooled, presence.locked) == (False, True)


def test_without_session_locks_nobody_asks(opened):
    with pooled(shared=True):
        presence = opened(session_locks=False)
        assert (presence.pooled, presence.locked) == (False, False)
        presence.close()


def test_a_pooler_that_was_not_seen_at_the_start_is_noticed_later(opened, monkeypatch):
    monkeypatch.setattr(presence_module, "changes_session", lambda ask, other: False)
    monkeypatch.setattr(presence_module, "CHECK_EVERY", NO_TIME)
    with pooled(shared=True):
        presence = opened()
        assert presence.wait(NO_TIME) is True  # there may have been news
        assert (presence.pooled, presence.locked) == (False, True)
        with another_connection() as other, other.cursor() as cursor:
            cursor.execute("SELECT 1")  # its session is now the one that was used last
            presence.wait(NO_TIME)
        assert (presence.pooled, presence.locked) == (True, False)
        presence.close()


def test_a_lock_that_the_looking_session_holds_is_not_free(store):
    """Behind a pooler it may be the session that holds the lock of a living worker."""
    worker_id = uuid4()
    store.workers.announce(worker_id, locked=True)
    try:
        sql("SELECT pg_advisory_lock(%s)", lock_key(worker_id))
        assert store.free_locks({worker_id}) == set()
        assert worker_id not in store.look(uuid4()).free
        sql("SELECT pg_advisory_unlock(%s)", lock_key(worker_id))
        assert store.free_locks({worker_id}) == {worker_id}
        assert worker_id in store.look(uuid4()).free
    finally:
        store.workers.forget({worker_id})


def test_a_worker_says_it_once_and_shows_no_lock(store, caplog):
    caplog.set_level(logging.WARNING, logger="aftercommit")
    worker_id = uuid4()
    with pooled(shared=True):
        own = OwnPresence(store, worker_id=worker_id, session_locks=True, news=lambda: None)
        own.interrupt()
        for _number in range(2):
            own._open()
            own.close()
        assert own.pooled
        row = store.workers._rows.get(id=worker_id)
        own.sign_off()
    assert not row.locked
    said = [one for one in caplog.messages if "pooler in transaction mode" in one]
    assert len(said) == 1
    assert "OPTIONS['session_locks'] = False" in said[0]


def test_a_rescuer_behind_a_pooler_believes_no_session_lock(rig, store):
    gone = uuid4()
    store.workers.announce(gone, locked=True)  # by a worker of an earlier version
    rescuer = rig.rooms.rescuer
    rig.rooms.presence.pooled = True
    try:
        for _number in range(20):
            rescuer.step()
        assert not rescuer._free_since
        assert rescuer.settled
        assert gone in store.look(rig.worker_id).free
    finally:
        store.workers.forget({gone, rig.worker_id})


def test_the_check_tells_of_it(settings):
    with pooled(shared=True):
        found = list(answers_of(connection))
        settings.TASKS = {
            "default": {
                "BACKEND": "aftercommit.DatabaseBackend",
                "OPTIONS": {"session_locks": False},
            }
        }
        without = list(answers_of(connection))
    assert [one.id for one in found] == ["aftercommit.W010"]
    assert without == []
    assert BackendOptions().session_locks


def test_the_check_is_silent_about_a_direct_connection():
    assert list(answers_of(connection)) == []
