"""What a worker asks its database while there is nothing to do."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from aftercommit.worker import crashed as crashed_module
from aftercommit.worker.runs import now
from aftercommit.worker.upkeep import contact as contact_module
from aftercommit.worker.upkeep import rescuer as rescuer_module
from tests.worker.rig import Rig, commits

MINUTE = timedelta(minutes=1)
POLLS = {"postgresql": 1, "mysql": 5, "sqlite": 5}  # a second; PostgreSQL tells of new jobs


@pytest.fixture
def clock(monkeypatch):
    """Return a clock of the rooms that a test moves."""
    clock = [now()]
    for module in (contact_module, rescuer_module, crashed_module):
        monkeypatch.setattr(module, "now", lambda: clock[0])
    return clock


def asked_in_a_minute(rig: Rig, clock: list[float]) -> tuple[int, int]:
    """Return how often the rescuer asks in a minute, and how often for jobs."""
    rescuer, fetcher = rig.rooms.rescuer, rig.rooms.fetcher
    end = clock[0] + MINUTE.total_seconds()
    with CaptureQueriesContext(connection) as looks:
        while clock[0] < end:
            clock[0] += rescuer.step().total_seconds()
    fetcher.fetch(limit=4)  # the first one also looks for lines
    with CaptureQueriesContext(connection) as fetch:
        fetcher.fetch(limit=4)
        rig.rooms.heartbeat.step()
    every = rig.options.polls_every(woken=rig.store.wakes_workers)
    return len(looks), len(fetch) * (MINUTE // every)


@commits
def test_a_worker_that_is_alone_asks_twice_a_second(rig, clock, vendor):
    rig.store.workers.announce(rig.worker_id, locked=True)

    looks, fetches = asked_in_a_minute(rig, clock)

    print(f"a second: {looks / 60:.1f} looks around, {fetches / 60:.1f} for jobs")
    assert fetches <= 60 * POLLS[vendor]
    assert looks <= 60
    assert looks + fetches <= 120 or vendor != "postgresql"


@commits
def test_a_worker_among_others_sees_a_death_as_soon(rig, clock, vendor):
    rig.store.workers.announce(rig.worker_id, locked=True)
    other = uuid4()
    presence = rig.store.open_presence(other, session_locks=True)
    rig.store.workers.announce(other, locked=True)
    try:
        looks, _fetches = asked_in_a_minute(rig, clock)
    finally:
        presence.close()
        rig.store.workers.forget({other})

    print(f"a second: {looks / 60:.1f} looks around")
    assert looks <= 60 * (3 if vendor == "postgresql" else 5)
    assert timedelta(seconds=1.2) >= rescuer_module.LOOK_EVERY + rescuer_module.FREE_FOR
