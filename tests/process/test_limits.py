"""Limits and strict order, while workers are killed, stand still and come back."""

import signal
from collections import Counter, defaultdict
from datetime import timedelta

from django.db.models import Count

from aftercommit.models import Job, State
from tests.app.limited import SEVERAL, one_by_one, some_at_once
from tests.app.models import Effect
from tests.process.rig import Rig, Tree
from tests.tiers import size
from tests.waiting import wait_until

LONG = timedelta(minutes=10)
# Each account has two keys: one with several slots, one in order.
ACCOUNTS, EACH = size(change=4, full=25), size(change=10, full=200)
HARMED = size(change=3, full=15)


class Watched:
    """Jobs of both kinds on a rig, and what must hold at any moment."""

    def __init__(self, rig: Rig, *, accounts: int, each: int, longest: float) -> None:
        self.rig = rig
        self.accounts, self.each = accounts, each
        rig.settings(modules="tests.app.limited", lease=3, heartbeat=1, max_crashes=1000)
        # An atomic task holds SQLite's only lock while it works.
        in_line = 0 if rig.vendor == "sqlite" else longest / 5
        for task, lasting in ((some_at_once, longest), (one_by_one, in_line)):
            calls = [
                ((account, number), {"lasting": rig.random.choice([0, 0, lasting])})
                for number in range(each)
                for account in range(accounts)
            ]
            rig.enqueue_many(task, calls)

    def must_hold(self) -> bool:
        """Look at the slots of all keys at one moment; return whether everything has ended."""
        running = Job.objects.filter(slot__isnull=False)
        for path, _key, slots in running.values_list("task_path", "limit_key").annotate(
            Count("id")
        ):
            assert slots <= (SEVERAL if path == some_at_once.module_path else 1), path
        without = Job.objects.filter(state=State.RUNNING, slot__isnull=True)
        assert not without.exists()
        return not self.rig.open_jobs()

    def must_be_done(self) -> None:
        """Check what is left when everything has ended."""
        assert Counter(Job.objects.values_list("state", flat=True)) == {
            State.SUCCEEDED: 2 * self.accounts * self.each
        }
        assert not Job.objects.filter(blocked=1).exists()
        lines = defaultdict(list)
        for key in Effect.objects.order_by("id").values_list("key", flat=True):
            _line, account, number = key.split(":")
            lines[int(account)].append(int(number))
        assert dict(lines) == {one: list(range(self.each)) for one in range(self.accounts)}


def harm(watched: Watched, *, times: int) -> None:
    """Kill workers that are at work, and let some stand still and come back as zombies."""
    rig = watched.rig
    trees = [rig.worker(processes=2, ready=False) for _number in range(2)]
    zombies: list[Tree] = []

    def somebody_works() -> Tree | None:
        watched.must_hold()
        return next((tree for tree in trees if rig.busy(tree)), None)

    for number in range(times):
        tree = wait_until(somebody_works, deadline=LONG, why="somebody is at work")
        trees.remove(tree)
        if number % 3 == 2:
            tree.stand_still()
            zombies.append(tree)
        else:
            tree.kill()
        trees.append(rig.worker(processes=2, ready=False))
    for zombie in zombies:
        zombie.signal_all(signal.SIGCONT)
    wait_until(watched.must_hold, deadline=LONG, why="all jobs have ended")


def test_limits_and_order_hold_while_workers_are_killed_and_come_back(rig: Rig) -> None:
    watched = Watched(rig, accounts=ACCOUNTS, each=EACH, longest=0.05)
    harm(watched, times=HARMED)
    watched.must_be_done()
