"""Rescuer: whose jobs are taken, and only after what can be told from here for sure."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from aftercommit.models import State
from aftercommit.options.conf import BackendOptions
from aftercommit.store.blame import DEATHS_FOR_EACH_BLAME
from aftercommit.store.reading import Look
from aftercommit.worker.upkeep import contact as contact_module
from aftercommit.worker.upkeep import rescuer as rescuer_module
from aftercommit.worker.upkeep.contact import SteadyContact
from aftercommit.worker.upkeep.rescuer import FREE_FOR, LOOKS, Rescuer
from tests.worker.rig import commits

LEASE = timedelta(seconds=30)
HEARTBEAT = timedelta(seconds=10)
ALREADY_OVER = timedelta(seconds=-1)
LONG = timedelta(hours=1)
LOOK = 0.25  # seconds between two looks
SHORT = 0.001  # seconds
MAX_CRASHES = 3


class Clocks:
    """Ours and the database's, which stand still until they are moved."""

    def __init__(self):
        self.here = 1000.0
        self.database = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self):
        """Return ours."""
        return self.here

    def go_on(self, seconds):
        """Move both."""
        self.here += seconds
        self.database += timedelta(seconds=seconds)


@pytest.fixture
def clocks(monkeypatch):
    """Return the clocks that the room reads."""
    clocks = Clocks()
    for module in (contact_module, rescuer_module):
        monkeypatch.setattr(module, "now", clocks.now)
    return clocks


# ---- contact ---------------------------------------------------------------------------


@pytest.fixture
def contact(clocks):
    """Return a contact that has lasted for ten seconds."""
    contact = SteadyContact()
    for _number in range(11):
        contact.seen(database=clocks.database, began=clocks.here)
        clocks.go_on(1)
    clocks.go_on(-1)
    return contact


def test_contact_lasts_from_the_first_answer(clocks, contact):
    assert SteadyContact().lasted == timedelta(0)
    assert contact.lasted == timedelta(seconds=10)


def test_trouble_breaks_it(clocks, contact):
    contact.broken()

    assert contact.lasted == timedelta(0)


def test_a_slow_answer_breaks_it(clocks, contact):
    began = clocks.here
    clocks.go_on(1.5)

    contact.seen(database=clocks.database, began=began)

    assert contact.lasted == timedelta(0)


@pytest.mark.parametrize("jump", [timedelta(hours=1), timedelta(hours=-1), timedelta(seconds=2)])
def test_a_jump_of_the_databases_clock_breaks_it(clocks, contact, jump):
    clocks.go_on(1)
    clocks.database += jump

    contact.seen(database=clocks.database, began=clocks.here)

    assert contact.lasted == timedelta(0)


def test_a_pause_of_this_process_breaks_it(clocks, contact):
    clocks.here += 20  # and the database's clock was read before

    contact.seen(database=clocks.database, began=clocks.here)

    assert contact.lasted == timedelta(0)


def test_it_begins_anew_after_a_break(clocks, contact):
    contact.broken()
    contact.seen(database=clocks.database, began=clocks.here)
    clocks.go_on(3)
    contact.seen(database=clocks.database, began=clocks.here)

    assert contact.lasted == timedelta(seconds=3)


# ---- rescues ---------------------------------------------------------------------------


class Room:
    """Rescuer with clocks that stand still, and other workers that a test invents."""

    def __init__(self, rig, monkeypatch, clocks):
        self.rescued = []
        self.forgotten = []
        self.free = set()  # locks that look free
        self.other = uuid4()
        self._clocks = clocks
        store = rig.store
        monkeypatch.setattr(
            store,
            "look",
            lambda _id: Look(clocks.database, {self.other}, self.free & {self.other}),
        )
        self.room = Rescuer(
            store,
            BackendOptions(lease=LEASE, heartbeat=HEARTBEAT, max_crashes=MAX_CRASHES),
            rig.rooms.crashed,
            worker_id=rig.worker_id,
            rescued=self.rescued.append,
            forgotten=lambda: self.forgotten.append(clocks.here),
        )

    def look_for(self, seconds, *, every=1.0):
        """Take steps for so long, until something is rescued; return the seconds."""
        begin = self._clocks.here
        while not self.rescued and self._clocks.here - begin < seconds:
            self._clocks.go_on(every)
            self.room.step()
        return self._clocks.here - begin


@pytest.fixture
def room(rig, monkeypatch, clocks):
    """Return the room, whose contact begins now."""
    room = Room(rig, monkeypatch, clocks)
    rig.store.workers.announce(rig.worker_id, locked=True)
    yield room
    rig.store.workers.forget({rig.worker_id})


def claim_of_another(rig, room, *, lease):
    """Return the job of another worker."""
    rig.worker_id = room.other
    job_id = rig.enqueue(lambda context: None)
    rig.claim(job_id, lease=lease)
    return job_id


@commits
def test_nothing_is_rescued_before_a_full_lease_of_contact(rig, room):
    job_id = claim_of_another(rig, room, lease=ALREADY_OVER)

    waited = timedelta(seconds=room.look_for(60))

    assert LEASE <= waited <= LEASE + HEARTBEAT
    assert [one.job_id for one in room.rescued] == [job_id]
    job = rig.job(job_id)
    assert (job.state, job.crashes) == (State.READY, 1)


@commits
def test_trouble_gives_everybody_another_lease(rig, room):
    claim_of_another(rig, room, lease=ALREADY_OVER)
    room.look_for(25)
    room.room.trouble()

    waited = timedelta(seconds=room.look_for(60))

    assert len(room.rescued) == 1
    assert waited >= LEASE


@commits
def test_a_lease_that_is_good_is_left_alone(rig, room):
    job_id = claim_of_another(rig, room, lease=LONG)

    room.look_for(120)

    assert room.rescued == []
    assert rig.job(job_id).state == State.RUNNING


@commits
def test_a_worker_whose_lock_is_free_is_dead_after_several_looks(rig, room):
    job_id = claim_of_another(rig, room, lease=LONG)
    room.free = {room.other}

    waited = room.look_for(20, every=LOOK)

    assert [one.job_id for one in room.rescued] == [job_id]
    assert waited >= max(FREE_FOR.total_seconds(), (LOOKS - 1) * LOOK)
    assert waited < 3
    assert room.room.settled


@commits
def test_a_few_quick_looks_are_not_enough(rig, room):
    claim_of_another(rig, room, lease=LONG)
    room.free = {room.other}

    room.look_for(LOOKS * SHORT * 5, every=SHORT)

    assert room.rescued == []
    assert not room.room.settled


@commits
def test_a_lock_that_is_taken_again_was_only_a_lost_connection(rig, room):
    claim_of_another(rig, room, lease=LONG)
    for _number in range(5):
        room.free = {room.other}
        room.look_for(2 * LOOK, every=LOOK)
        room.free = set()
        room.look_for(LOOK, every=LOOK)

    assert room.rescued == []
    assert room.room.settled


@commits
def test_a_free_lock_means_nothing_just_after_trouble(rig, room):
    claim_of_another(rig, room, lease=LONG)
    room.free = {room.other}
    room.room.trouble()

    waited = timedelta(seconds=room.look_for(60, every=LOOK))

    assert len(room.rescued) == 1
    assert waited >= rescuer_module.AFTER_TROUBLE


@commits
def test_a_job_that_was_on_far_too_many_dead_workers_fails(rig, room):
    job_id = claim_of_another(rig, room, lease=LONG)
    room.free = {room.other}
    most = MAX_CRASHES * DEATHS_FOR_EACH_BLAME
    rig.store._jobs.filter(id=job_id).update(crashes=most - 1, attempts=most)

    room.look_for(20, every=LOOK)

    job = rig.job(job_id)
    assert (job.state, job.crashes) == (State.FAILED, most)
    assert [one.state for one in room.rescued] == [State.FAILED]


@commits
def test_a_worker_that_was_taken_for_dead_hears_of_it(rig, room):
    room.look_for(HEARTBEAT.total_seconds())
    assert room.forgotten == []

    rig.store.workers.forget({rig.worker_id})
    room.look_for(HEARTBEAT.total_seconds())

    assert room.forgotten
