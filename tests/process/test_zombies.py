"""Workers that stand still for so long that others take their jobs, and then go on.

Nothing else goes wrong here, so that zombies live to do their last act. SQLite is spared
tasks that hold its only write lock meanwhile: nobody could take anything from them.
"""

import signal
import sqlite3
import time
from contextlib import closing
from datetime import timedelta
from threading import Event

from django.db import connection

from aftercommit.models import Job
from tests.app.chores import (
    KINDS,
    LAST_ACTS,
    act_and_commit,
    act_atomically,
    act_plainly,
    atomic,
)
from tests.process.rig import STARTED, Rig, Tree
from tests.waiting import wait_until

LEASE = 0.6  # seconds
STOPS = 30
FENCED = 5
BACKLOG = 40
BUSY_MACHINE = timedelta(seconds=100)


def test_a_zombie_changes_nothing_whatever_its_last_act_is(rig):
    zombie, heir = haunt(rig)
    before = rows()

    rig.open_gate(f"zombie-{zombie.pid}")
    rig.open_gate(f"go-{zombie.pid}")
    zombie.signal_all(signal.SIGCONT)
    acts = Job.objects.count()
    rig.wait_note("last_act", times=acts)
    rig.wait_note("fenced", times=acts)
    rig.open_gate("renewing")
    renewed = rig.wait_note("renewed")

    assert rows() == before
    assert renewed["held"] == 0
    assert {one["tree"] for one in rig.notes("last_act")} == {zombie.pid}
    rig.open_gate(f"go-{heir.pid}")
    rig.wait_quiet()
    report = rig.check(committed=[*LAST_ACTS, "returns", "commits", "returns, atomic"][:acts])
    assert not report.violations
    assert (report.claims, report.fenced) == (2 * acts, acts)  # each was rescued: see haunt()


def test_stopped_workers_double_no_atomic_effect(rig):
    rig.settings(lease=LEASE, heartbeat=0.2, max_crashes=1000)
    frost = Frost(rig, trees=4)

    frost.bite(stops=STOPS, fenced=FENCED)
    frost.thaw()
    rig.wait_quiet()

    report = rig.check(committed=frost.keys)
    assert not report.violations
    assert frost.stops >= STOPS
    assert report.fenced >= FENCED
    assert report.crashes >= FENCED


def haunt(rig: Rig) -> tuple[Tree, Tree]:
    """Let one worker stand still with jobs of all kinds until another one runs them.

    The renewals of the first stand still for longer, so nothing tells it before its last
    act that it has lost them.
    """
    rig.settings(modules="tests.process.faults", lease=1, heartbeat=0.3, max_crashes=1000)
    zombie = rig.worker("--threads", "8", AFTERCOMMIT_TEST_STANDSTILL="renewing")
    for key in (*LAST_ACTS, "returns"):
        rig.enqueue(act_plainly, key)
    rig.enqueue(act_and_commit, "commits")
    if rig.vendor != "sqlite":
        rig.enqueue(act_atomically, "returns, atomic")
    jobs = Job.objects.count()
    rig.wait_note("begin", times=jobs, tree=zombie.pid)
    stop_between_writes(zombie)
    heir = rig.worker("--threads", "8")
    rig.wait_rescued(jobs)
    rig.forget_crashes()  # else they would run one after the other, each alone
    rig.wait_note("begin", times=jobs, tree=heir.pid)
    return zombie, heir


def stop_between_writes(worker: Tree) -> None:
    """Let a worker stand still at a moment when it does not hold SQLite's only write lock."""
    wait_until(lambda: stopped_without_lock(worker), deadline=STARTED, why="the lock is free")


def stopped_without_lock(worker: Tree) -> bool:
    """Stop a worker; let it go on if it holds the lock."""
    worker.stand_still()
    if connection.vendor != "sqlite":
        return True
    with closing(sqlite3.connect(connection.settings_dict["NAME"], timeout=0.5)) as other:
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            worker.signal_all(signal.SIGCONT)
            return False
    return True


def rows() -> list[dict[str, object]]:
    """Return all there is to know about the jobs, but how long their leases are good."""
    columns = [field.name for field in Job._meta.fields if field.name != "lease_until"]
    return list(Job.objects.order_by("id").values(*columns))


class Frost:
    """Stops random trees in the middle of their work, each for about a lease."""

    def __init__(self, rig: Rig, *, trees: int) -> None:
        self.rig = rig
        self.stops = 0
        self.keys: list[str] = []
        self._kinds = [kind for kind in KINDS if rig.vendor != "sqlite" or kind is not atomic]
        self._trees = [rig.worker(ready=False) for _number in range(trees)]
        self._frozen: dict[Tree, float] = {}  # until when
        for tree in self._trees:
            rig.wait_started(tree)

    def bite(self, *, stops: int, fenced: int) -> None:
        """Go on until there were so many stops and so many late outcomes."""
        ends = time.monotonic() + BUSY_MACHINE.total_seconds()
        while self.stops < stops or len(self.rig.notes("fenced")) < fenced:
            assert time.monotonic() < ends, f"{self.stops} stops, {self.rig.notes('fenced')}"
            self._keep_busy()
            self._thaw_those_due()
            if len(self._frozen) < len(self._trees) - 1 and (at_work := self._at_work()):
                self._freeze(self.rig.random.choice(at_work))
            Event().wait(0.02)

    def thaw(self) -> None:
        """Let everybody go on."""
        for tree in self._frozen:
            tree.signal_all(signal.SIGCONT)
        self._frozen.clear()

    def _keep_busy(self) -> None:
        for _number in range(self.rig.open_jobs(), BACKLOG):
            self.keys.append(str(len(self.keys)))
            lasting = self.rig.random.choice([0.05, LEASE / 3, LEASE * 2 / 3])
            self.rig.enqueue(self.rig.random.choice(self._kinds), self.keys[-1], lasting=lasting)

    def _at_work(self) -> list[Tree]:
        awake = [tree for tree in self._trees if tree not in self._frozen]
        return [tree for tree in awake if self.rig.busy(tree)]

    def _freeze(self, tree: Tree) -> None:
        stop_between_writes(tree)
        self._frozen[tree] = time.monotonic() + self.rig.random.uniform(0.8, 2.5) * LEASE
        self.stops += 1

    def _thaw_those_due(self) -> None:
        for tree in [tree for tree, until in self._frozen.items() if time.monotonic() > until]:
            tree.signal_all(signal.SIGCONT)
            del self._frozen[tree]
